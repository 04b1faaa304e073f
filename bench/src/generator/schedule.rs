//! When operations begin.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// How operations follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each connection begins the next when the last is done.
    Closed,
    /// So many begin in a second, evenly.
    Open(f64),
}

/// When operations are due, from the start on. Nothing of it depends on how fast they are.
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

    /// When the next one is due.
    fn peek(&self) -> Option<Duration> {
        let due = self.interval? * self.begun;
        (due < self.end).then_some(due)
    }

    /// All that are due by then.
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

/// Ends a poll whenever an operation is due, which a poll by itself is punctual for to a millisecond only.
pub(super) struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not running. Its events have that token.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Has it run as operations of that schedule are due, if they are due at times.
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

    /// Has it run on after an event.
    pub(super) fn go_on(&self) {
        // If it hasn't run out again meanwhile, it runs anyway.
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
        // A stall of half a second: all that should have begun in it are due, each at its own time.
        let late: Vec<_> = schedule.due_by(second / 2).collect();
        assert_eq!(late.len(), 500);
        assert_eq!(late[0], Duration::from_millis(1));
        assert_eq!(schedule.due_by(second * 9).count(), 499);
        assert_eq!(schedule.peek(), None);
    }
}
