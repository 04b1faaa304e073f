//! What all servers of this process have logged, at the finest level, in memory.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use guestpass::telemetry::{LogFormat, LogLevel, subscriber};
use serde_json::Value;

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Starts keeping the log, once for all tests.
pub(super) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(subscriber(
            LogLevel::TRACE,
            LogFormat::Json,
            || Keep,
        ))
        .unwrap();
    });
}

/// How much there is now.
pub(super) fn length() -> usize {
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// What has been written since there was that much.
pub(super) fn since(start: usize) -> String {
    let written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&written[start..]).into_owned()
}

/// The lines about the request with that id.
pub(crate) fn lines_of(request_id: &str) -> Vec<Value> {
    let written = since(0);
    let lines = written.lines().filter(|line| line.contains(request_id));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

struct Keep;

impl io::Write for Keep {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
