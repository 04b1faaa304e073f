//! Says what takes long at a start, and how far it is, in the log or, for a command, on standard error: an operator who
//! waits must not wonder.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time;

use crate::terminal;

/// Has all of this said on standard error, for a process without a log.
pub fn has_no_log() {
    HAS_NO_LOG.store(true, Ordering::Relaxed);
}

static HAS_NO_LOG: AtomicBool = AtomicBool::new(false);

fn say(line: &str) {
    match HAS_NO_LOG.load(Ordering::Relaxed) {
        true => terminal::say(line),
        false => tracing::info!("{line}"),
    }
}

/// Says how far some work is, once it has taken `PATIENCE`, and from then on in larger and larger steps.
pub struct Progress {
    what: &'static str,
    next: Instant,
    pause: Duration,
}

impl Progress {
    /// Begins to measure.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            next: Instant::now() + PATIENCE,
            pause: PATIENCE,
        }
    }

    /// Notes that so many of these are done.
    pub fn at(&mut self, done: u64, of: &str) {
        let now = Instant::now();
        if now >= self.next {
            say(&format!("{}: {done} {of} so far", self.what));
            self.pause = later(self.pause);
            self.next = now + self.pause;
        }
    }
}

/// Waits for `work`, and says what is waited for when that takes long.
pub async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut pause = PATIENCE;
    loop {
        match time::timeout(pause, &mut work).await {
            Ok(done) => return done,
            Err(_) => say(what),
        }
        pause = later(pause);
    }
}

fn later(pause: Duration) -> Duration {
    (pause * 2).min(SELDOM)
}

/// The time that needs no word.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest time between two words.
const SELDOM: Duration = Duration::from_secs(30);
