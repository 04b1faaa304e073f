//! The source of time: injected, so that tests can set it, and corrected to the database's where there are many nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guestpass_core::time::Timestamp;

/// Tells the time.
///
/// A date is taken from [`Clock::now`] and an interval from [`Clock::monotonic`]: only the latter is right across a
/// change of the time of day.
pub trait Clock: Send + Sync {
    /// Returns the time of day, which may be set back or forward at any time.
    fn now(&self) -> Timestamp;

    /// Returns the time since some fixed moment, which only grows.
    fn monotonic(&self) -> Duration;
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

/// A clock that follows the database's, so that all nodes tell the same time.
///
/// Call [`CorrectedClock::start_query`], ask the database for its time, and call [`CorrectedClock::correct`] with the
/// answer. The database read its clock somewhere within the round trip, so by now its time lies between the answer and
/// the answer plus the round trip (Cristian's algorithm). A clock that is inside that interval is left alone; one that
/// is outside is moved to the nearest end.
pub struct CorrectedClock {
    local: Arc<dyn Clock>,
    /// Milliseconds to be added to the local clock.
    correction: AtomicI64,
    is_unreliable: AtomicBool,
}

impl CorrectedClock {
    /// Returns the local clock, not corrected yet.
    #[must_use]
    pub fn new(local: Arc<dyn Clock>) -> Self {
        Self {
            local,
            correction: AtomicI64::new(0),
            is_unreliable: AtomicBool::new(false),
        }
    }

    /// Notes that the database is about to be asked for its time.
    #[must_use]
    pub fn start_query(&self) -> TimeQuery {
        TimeQuery {
            sent_at: self.local.monotonic(),
        }
    }

    /// Corrects the time by `answer`, the database's time. An answer whose round trip took too long corrects nothing;
    /// it can only show that the clock is unreliable.
    pub fn correct(&self, query: TimeQuery, answer: Timestamp) {
        let round_trip = query.sent_at.abs_diff(self.local.monotonic());
        let now = self.now();
        // Clamping to the nearest end never increases the error, wherever in the interval the true time is.
        let corrected = now.clamp(answer, answer + round_trip);
        let error = corrected.since(now).max(now.since(corrected));
        if error.is_zero() {
            self.is_unreliable.store(false, Ordering::Relaxed);
        } else if round_trip <= MAX_SKEW / 2 {
            let correction = corrected.as_millis() - self.local.now().as_millis();
            self.correction.store(correction, Ordering::Relaxed);
            self.is_unreliable.store(false, Ordering::Relaxed);
            if error > Duration::from_secs(1) {
                tracing::warn!(
                    milliseconds = correction,
                    "this machine's clock isn't the database's; it is corrected by that much"
                );
            }
        } else if error > MAX_SKEW {
            self.is_unreliable.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the time is off by more than five seconds while answers are too slow to correct it. A node in
    /// this state fails its health check.
    #[must_use]
    pub fn is_unreliable(&self) -> bool {
        self.is_unreliable.load(Ordering::Relaxed)
    }
}

impl Clock for CorrectedClock {
    fn now(&self) -> Timestamp {
        let correction = self.correction.load(Ordering::Relaxed);
        Timestamp::from_millis(self.local.now().as_millis() + correction)
    }

    fn monotonic(&self) -> Duration {
        self.local.monotonic()
    }
}

/// A question to the database for its time, on its way.
#[derive(Clone, Copy, Debug)]
pub struct TimeQuery {
    sent_at: Duration,
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
