//! The source of time: injected, so that tests can set it. [`SystemClock`] tells what the machine says; [`SteadyClock`]
//! is what everything is decided by.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guestpass_core::time::Timestamp;

use crate::store::Unavailable;

mod steady;
mod trust;

pub use steady::{SteadyClock, TimeQuery};
pub use trust::{AGREEMENT, STANDSTILL};

/// Tells the time.
///
/// A date is taken from [`Clock::now`] and an interval from [`Clock::monotonic`]: only the latter is right across a
/// change of the time of day.
pub trait Clock: Send + Sync {
    /// Returns the time of day, which may be set back or forward at any time.
    fn now(&self) -> Timestamp;

    /// Returns the time since some fixed moment, which only grows.
    fn monotonic(&self) -> Duration;

    /// Returns the time of day with the doubt about it, if there is one.
    fn reading(&self) -> Reading {
        let now = self.now();
        Reading { now, earliest: now }
    }
}

/// The time of day, and while it can't be trusted the earliest that it may be instead.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The time that is served.
    pub now: Timestamp,
    /// The same, or earlier.
    pub earliest: Timestamp,
}

impl Reading {
    /// Answers a question that depends on the time.
    ///
    /// # Errors
    /// [`Unavailable`] if the answer doesn't agree with the one at the earliest time that it may be: whoever asked may ask
    /// again when the clock is trusted.
    pub fn decide<T>(
        self,
        question: impl Fn(Timestamp) -> T,
        agree: impl Fn(&T, &T) -> bool,
    ) -> Result<T, Unavailable> {
        let answer = question(self.now);
        if self.is_doubted() && !agree(&answer, &question(self.earliest)) {
            return Err(Self::doubt());
        }
        Ok(answer)
    }

    /// Returns whether there is a second time to ask about.
    #[must_use]
    pub fn is_doubted(self) -> bool {
        self.earliest < self.now
    }

    /// The error of whoever can't be answered for doubt.
    #[must_use]
    pub fn doubt() -> Unavailable {
        Unavailable("the clock can't be trusted, and the answer depends on it".to_owned())
    }
}

/// Both readings of a clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day.
    pub wall: Timestamp,
    /// The time since some fixed moment.
    pub monotonic: Duration,
}

impl Now {
    /// Reads the clock.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        }
    }
}

/// The largest difference between two clocks that the server works with.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(5);

/// Tells the time of this machine.
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts counting monotonic time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Returns the machine's time of day, at least 1970. Only the log calls it directly, because it starts before there is
/// a clock to inject.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else is given"
)]
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now().max(UNIX_EPOCH)
}
