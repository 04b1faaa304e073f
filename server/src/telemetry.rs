//! The log: its format and its buffer. Callers must not log credentials, keys, verifiers or query strings.

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use guestpass_core::rate_limit::RateLimit;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use self::lines::Lines;
use self::repeats::Repeats;
use crate::terminal;

pub(crate) use self::repeats::TO_SOMEBODY_KNOWN;

mod lines;
mod repeats;

/// The least important lines that are logged.
pub type LogLevel = LevelFilter;

/// The format of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging to standard error, for the rest of the process; of what repeats, as much as `repeats` allows. Dropping the returned value flushes the buffer.
pub fn start(level: LogLevel, format: LogFormat, repeats: RateLimit) -> Running {
    let log = Log(Arc::default());
    let lines = Lines {
        format,
        writer: log,
        repeats: Repeats::new(repeats).map(Arc::new),
    };
    // An error means that a test has started logging before.
    let (filter, level) = reload::Layer::new(ours(level));
    let subscriber = tracing_subscriber::registry().with(lines.clone().with_filter(filter));
    let _ = tracing::subscriber::set_global_default(subscriber);
    let writing = lines.clone();
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_for_ever(&writing))
        .expect("a thread can be started");
    Running {
        lines,
        level: Level(level),
    }
}

/// A log. It is flushed when this is dropped, and says what was left out.
pub struct Running {
    lines: Lines<Log>,
    level: Level,
}

/// The least important lines that a running log has, which can be changed.
#[derive(Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Running {
    /// Returns what changes its level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level.clone()
    }
}

impl Level {
    /// Logs from `level` on.
    pub fn set(&self, level: LogLevel) {
        // An error means that the log has ended.
        let _ = self.0.reload(ours(level));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.lines.write_all_left_out(Instant::now());
        let _ = self.lines.writer.write_out();
    }
}

/// Returns a subscriber that logs to `writer`: our own events from `level` on, those of libraries only from warnings
/// on, because they may quote what a request held.
pub fn subscriber<W>(level: LogLevel, format: LogFormat, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = Lines {
        format,
        writer,
        repeats: None,
    };
    tracing_subscriber::registry().with(lines.with_filter(ours(level)))
}

fn ours(level: LogLevel) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("guestpass", level)
}

/// Standard error behind a buffer, so that the line of a request costs a copy and no system call. A warning or an error
/// flushes the buffer.
#[derive(Clone)]
struct Log(Arc<Buffer>);

#[derive(Default)]
struct Buffer {
    lines: Mutex<Vec<u8>>,
    filled: Condvar,
    dropped: AtomicU64,
    /// The bytes that are being written. Locked for the whole write, so that lines stay in order.
    writing: Mutex<Vec<u8>>,
}

fn write_for_ever(lines: &Lines<Log>) {
    let log = &lines.writer;
    loop {
        log.wait();
        // One system call for all lines that come meanwhile.
        thread::sleep(GATHER);
        lines.write_left_out(Instant::now());
        let _ = log.write_out();
        let dropped = log.0.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                lines = dropped,
                "standard error is read too slowly: lines of the log were dropped"
            );
        }
    }
}

impl Log {
    /// Waits until there are lines, or it is time to say what was left out.
    fn wait(&self) {
        let is_empty = |lines: &mut Vec<u8>| lines.is_empty();
        let waited = self
            .0
            .filled
            .wait_timeout_while(self.lines(), LOOK_EVERY, is_empty);
        drop(waited);
    }

    fn write_out(&self) -> io::Result<()> {
        let mut writing = self
            .0
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut *writing, &mut *self.lines());
        let written = terminal::log(&writing);
        writing.clear();
        written
    }

    fn lines(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            log: self,
            at_once: true,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            log: self,
            at_once: *metadata.level() <= tracing::Level::WARN,
        }
    }
}

/// Writes one line to the buffer.
struct Line<'a> {
    log: &'a Log,
    at_once: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let was_empty = {
            let mut lines = self.log.lines();
            let was_empty = lines.is_empty();
            // Backpressure from a slow reader of the log would stop the server, so lines are dropped and counted
            // instead.
            if lines.len() < CAPACITY {
                lines.extend_from_slice(line);
            } else {
                self.log.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
            was_empty
        };
        if self.at_once {
            self.log.write_out()?;
        } else if was_empty {
            self.log.0.filled.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time after which the number of lines that were left out is written, if no other line comes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time for which lines are gathered into one write.
const GATHER: Duration = Duration::from_millis(5);

/// The size in bytes at which lines are dropped: some tenths of a second under full load.
const CAPACITY: usize = 4 * 1024 * 1024;
