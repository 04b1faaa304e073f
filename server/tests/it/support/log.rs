//! The log of all servers of this process, at the finest level, in memory.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use guestpass::telemetry::{LogFormat, LogLevel, subscriber};
use serde_json::Value;
use tracing::subscriber::DefaultGuard;

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Starts keeping the log, once for all tests.
pub(super) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(subscriber(
            LogLevel::TRACE,
            LogFormat::Json,
            || Keep(&WRITTEN),
        ))
        .unwrap();
    });
}

/// Returns the present length of the log, to read on from there.
pub(super) fn length() -> usize {
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Returns what has been written since the log had that length.
pub(super) fn since(start: usize) -> String {
    let written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&written[start..]).into_owned()
}

/// Checks that none of these secrets has been written since the log had that length.
pub(super) fn assert_free_of<'a>(start: usize, secrets: impl Iterator<Item = &'a String>) {
    let written = since(start);
    for secret in secrets {
        assert!(
            !written.contains(secret.as_str()),
            "the log holds a secret: {secret}\n{written}"
        );
    }
}

/// Returns the lines that contain this text, such as the id of a request.
pub(crate) fn lines_of(text: &str) -> Vec<Value> {
    let written = since(0);
    let lines = written.lines().filter(|line| line.contains(text));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Captures the log of this thread while it lives, in the format for people; the common log doesn't get it.
pub(crate) struct TextLog {
    written: &'static Mutex<Vec<u8>>,
    _guard: DefaultGuard,
}

impl TextLog {
    pub(crate) fn start() -> Self {
        let written: &'static Mutex<Vec<u8>> = Box::leak(Box::default());
        let subscriber = subscriber(LogLevel::TRACE, LogFormat::Text, move || Keep(written));
        Self {
            written,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    pub(crate) fn read(&self) -> String {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
    }
}

struct Keep(&'static Mutex<Vec<u8>>);

impl io::Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
