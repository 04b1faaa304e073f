//! The schedule of an open loop.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Selects a closed or an open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each connection begins the next operation when the last has ended.
    Closed,
    /// So many operations begin in a second, at even intervals.
    Open(f64),
}

/// Yields when operations are due, counted from the start, whatever becomes of earlier ones.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    interval: Option<Duration>,
    end: Duration,
    begun: u32,
}

impl Schedule {
    pub(super) fn new(pace: Pace, end: Duration) -> Self {
        Self {
            interval: match pace {
                Pace::Closed => None,
                Pace::Open(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
            },
            end,
            begun: 0,
        }
    }

    /// Returns when the next operation is due.
    fn peek(&self) -> Option<Duration> {
        let due = self.interval? * self.begun;
        (due < self.end).then_some(due)
    }

    /// Yields all that are due by then.
    pub(super) fn due_by(&mut self, now: Duration) -> impl Iterator<Item = Duration> {
        std::iter::from_fn(move || {
            self.peek()
                .filter(|due| *due <= now)
                .and_then(|_| self.next())
        })
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = self.peek()?;
        self.begun += 1;
        Some(due)
    }
}

/// Wakes a poll when an operation is due; the timeout of a poll has a resolution of a millisecond only.
pub(super) struct Timer(OwnedFd);

impl Timer {
    /// Makes a timer that doesn't run yet.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Starts the timer at the rate of an open loop; a closed loop needs none.
    pub(super) fn start(&self, schedule: &Schedule) -> io::Result<()> {
        let Some(interval) = schedule.interval else {
            return Ok(());
        };
        let interval = Timespec::try_from(interval).map_err(io::Error::other)?;
        let times = Itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &times)?;
        Ok(())
    }

    /// Acknowledges an event.
    pub(super) fn acknowledge(&self) {
        // An error means that nothing has expired.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_at_the_rate_whatever_becomes_of_the_last() {
        let second = Duration::from_secs(1);
        let mut schedule = Schedule::new(Pace::Open(1000.0), second);
        assert_eq!(schedule.due_by(Duration::ZERO).count(), 1);
        assert_eq!(schedule.due_by(Duration::from_micros(999)).count(), 0);
        // After a stall of half a second all that were due in it follow, each with its own time.
        let late: Vec<_> = schedule.due_by(second / 2).collect();
        assert_eq!(late.len(), 500);
        assert_eq!(late[0], Duration::from_millis(1));
        assert_eq!(schedule.due_by(second * 9).count(), 499);
        assert_eq!(schedule.peek(), None);
    }
}
