//! Where the time comes from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use guestpass_core::time::Timestamp;

/// The time, injected so that tests can turn it.
pub trait Clock: Send + Sync {
    /// The time of day, which can jump.
    fn now(&self) -> Timestamp;

    /// The time since some fixed moment, which can't.
    fn monotonic(&self) -> Duration;
}

/// The time by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day.
    pub wall: Timestamp,
    /// The time since some fixed moment.
    pub monotonic: Duration,
}

impl Now {
    /// The time now.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        }
    }
}

/// A clock that follows another machine's time of day, so that all nodes have the same.
pub struct CorrectedClock {
    local: Arc<dyn Clock>,
    correction: AtomicI64,
    is_off: AtomicBool,
}

impl CorrectedClock {
    /// The local clock, not corrected yet.
    #[must_use]
    pub fn new(local: Arc<dyn Clock>) -> Self {
        Self {
            local,
            correction: AtomicI64::new(0),
            is_off: AtomicBool::new(false),
        }
    }

    /// Takes the other machine's time, which it told between then ([`CorrectedClock::ask`]) and now.
    pub fn correct(&self, asked: Asked, told: Timestamp) {
        let way = asked.monotonic.abs_diff(self.local.monotonic());
        // The answer was on its way for an unknown part of that time. Nothing between is known to be wrong, and to go no
        // further than that makes no clock worse.
        let now = self.now();
        let right = now.clamp(told, told + way);
        let off = right.since(now).max(now.since(right));
        if off.is_zero() {
            self.is_off.store(false, Ordering::Relaxed);
        } else if way <= TOLERATED / 2 {
            let correction = right.as_millis() - self.local.now().as_millis();
            self.correction.store(correction, Ordering::Relaxed);
            self.is_off.store(false, Ordering::Relaxed);
            if off > Duration::from_secs(1) {
                tracing::warn!(
                    milliseconds = correction,
                    "this machine's clock isn't the database's; it is corrected by that much"
                );
            }
        } else if off > TOLERATED {
            self.is_off.store(true, Ordering::Relaxed);
        }
    }

    /// Notes when the other machine is asked for its time.
    #[must_use]
    pub fn ask(&self) -> Asked {
        Asked {
            monotonic: self.local.monotonic(),
        }
    }

    /// Whether the time is wrong by more than five seconds and the answers come too late to say by how much.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
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

/// When another machine was asked for its time.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    monotonic: Duration,
}

/// The error of a clock that isn't worth a warning, and that the rest of the server allows for.
pub(crate) const TOLERATED: Duration = Duration::from_secs(5);

/// The machine's clocks.
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

/// The machine's time of day, at least 1970. The log has no other: it begins before there is a clock to give it.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else is given"
)]
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now().max(UNIX_EPOCH)
}
