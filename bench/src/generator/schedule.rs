//! When operations begin.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

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

/// Wakes the generator whenever an operation is due: a sleeping thread is punctual to some 60 µs, a poll to a millisecond.
pub(super) fn keep(mut schedule: Schedule, start: Instant, waker: &Waker, done: &AtomicBool) {
    while let Some(due) = schedule.next()
        && !done.load(Ordering::Relaxed)
    {
        let wait = due.saturating_sub(start.elapsed());
        if !wait.is_zero() {
            thread::sleep(wait);
            let _ = waker.wake();
        }
    }
    let _ = waker.wake();
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
