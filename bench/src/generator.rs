//! The load: requests over a number of connections, by one thread that does little else, because it shares the machine with
//! what it measures.
//!
//! Closed loop: every connection is busy all the time. Open loop: operations begin at a given rate, whether or not the
//! server keeps up, and their latency counts from the moment at which they should have begun.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token, Waker};

use crate::connection::Connection;

/// What is asked, and what the answers are.
pub(crate) trait Workload {
    /// Appends the next request of that connection. `false` if there is nothing to ask at the moment.
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool;

    /// Whether there will be nothing to ask any more.
    fn is_exhausted(&self) -> bool {
        false
    }

    /// Takes the answer to it.
    fn answer(&mut self, slot: usize, status: u16, body: &[u8]) -> Step;

    /// The answer will not come.
    fn lost(&mut self, slot: usize);
}

/// What an answer means for an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// It is done.
    Done,
    /// It goes on with another request.
    Next,
    /// It has failed.
    Failed,
}

/// How operations follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Each connection begins the next when the last is done.
    Closed,
    /// So many begin in a second, evenly.
    Open(f64),
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
}

/// What came of a load.
pub(crate) struct Outcome {
    /// How many operations were done within the time, per second.
    pub(crate) rate: f64,
    /// How many were done in all; some end after the time.
    pub(crate) done: u64,
    /// Bytes of all answers.
    pub(crate) received: u64,
    /// Microseconds, of those that were done.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds, of those that failed with an answer.
    pub(crate) latency_of_failed: Histogram<u64>,
    /// How many failed, by the status that did it; 0 if there was no answer.
    pub(crate) failed: BTreeMap<u16, u64>,
    /// What the first failure said.
    pub(crate) first_failure: Option<String>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            rate: 0.0,
            done: 0,
            received: 0,
            latency: histogram(),
            latency_of_failed: histogram(),
            failed: BTreeMap::new(),
            first_failure: None,
        }
    }
}

impl Load {
    /// Runs the load, and waits for what is under way at its end. `watch` hears now and then how long it has run and what is
    /// done. It ends early if there is nothing to ask any more.
    pub(crate) fn run(
        self,
        workload: &mut dyn Workload,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> io::Result<Outcome> {
        let mut run = Run::new(self)?;
        let (start, waker) = (Instant::now(), Arc::clone(&run.waker));
        run.schedule = Schedule::new(self.pace, self.time);
        match self.pace {
            Pace::Closed => run.drive(start, workload, watch)?,
            Pace::Open(_) => {
                let (schedule, done) = (run.schedule.clone(), AtomicBool::new(false));
                thread::scope(|scope| {
                    scope.spawn(|| pace(schedule, start, &waker, &done));
                    let result = run.drive(start, workload, watch);
                    done.store(true, Ordering::Relaxed);
                    result
                })?;
            }
        }
        let time = run.exhausted.unwrap_or(self.time).min(self.time);
        run.outcome.rate = run.in_time as f64 / time.as_secs_f64();
        watch(self.time, run.outcome.done);
        Ok(run.outcome)
    }
}

/// Wakes the generator whenever an operation is due: a sleeping thread is punctual to some 60 µs, a poll to a millisecond.
fn pace(mut schedule: Schedule, start: Instant, waker: &Waker, done: &AtomicBool) {
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

/// When operations are due, from the start on. Nothing of it depends on how fast they are.
#[derive(Clone, Debug)]
struct Schedule {
    interval: Option<Duration>,
    end: Duration,
    begun: u32,
}

impl Schedule {
    fn new(pace: Pace, end: Duration) -> Self {
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
    fn due_by(&mut self, now: Duration) -> impl Iterator<Item = Duration> {
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

struct Run {
    load: Load,
    poll: Poll,
    waker: Arc<Waker>,
    slots: Vec<Slot>,
    idle: Vec<usize>,
    /// Operations that are due and find no connection free, by when they should have begun.
    waiting: VecDeque<Duration>,
    schedule: Schedule,
    busy: usize,
    /// When the last answer was there, if the workload had nothing more to ask.
    exhausted: Option<Duration>,
    in_time: u64,
    outcome: Outcome,
    request: Vec<u8>,
}

struct Slot {
    connection: Connection,
    /// When the operation under way should have begun.
    since: Option<Duration>,
}

impl Run {
    fn new(load: Load) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(usize::MAX))?);
        let slots = (0..load.connections).map(|slot| {
            let connection = Connection::open(load.address, poll.registry(), Token(slot))?;
            Ok(Slot {
                connection,
                since: None,
            })
        });
        Ok(Self {
            load,
            slots: slots.collect::<io::Result<_>>()?,
            poll,
            waker,
            idle: (0..load.connections).rev().collect(),
            waiting: VecDeque::new(),
            schedule: Schedule::new(load.pace, load.time),
            busy: 0,
            exhausted: None,
            in_time: 0,
            outcome: Outcome::default(),
            request: Vec::with_capacity(1024),
        })
    }

    fn drive(
        &mut self,
        start: Instant,
        workload: &mut dyn Workload,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let now = start.elapsed();
            self.begin(now, workload);
            watch(now, self.outcome.done);
            let is_over = now >= self.load.time && self.waiting.is_empty();
            if self.busy == 0 && workload.is_exhausted() {
                self.exhausted = Some(now);
                return Ok(());
            }
            if is_over && self.busy == 0 {
                return Ok(());
            }
            if now > self.load.time + PATIENCE {
                *self.outcome.failed.entry(0).or_default() += self.busy as u64;
                for slot in 0..self.slots.len() {
                    if self.slots[slot].since.take().is_some() {
                        workload.lost(slot);
                    }
                }
                return Ok(());
            }
            let wait = match self.load.time.checked_sub(now) {
                Some(left) if !left.is_zero() => left.min(WATCHED) + Duration::from_millis(1),
                _ => Duration::from_millis(100),
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                let Token(slot) = event.token();
                if slot < self.slots.len() {
                    self.look_at(slot, start, workload);
                }
            }
        }
    }

    /// Begins what is due.
    fn begin(&mut self, now: Duration, workload: &mut dyn Workload) {
        match self.load.pace {
            Pace::Closed if now < self.load.time => {
                while let Some(slot) = self.idle.pop() {
                    if !self.start(slot, now, workload) {
                        break;
                    }
                }
            }
            Pace::Closed => {}
            Pace::Open(_) => {
                self.waiting.extend(self.schedule.due_by(now));
                while let (Some(slot), Some(due)) = (self.idle.last(), self.waiting.front()) {
                    let (slot, due) = (*slot, *due);
                    self.idle.pop();
                    if !self.start(slot, due, workload) {
                        break;
                    }
                    self.waiting.pop_front();
                }
            }
        }
    }

    fn start(&mut self, slot: usize, since: Duration, workload: &mut dyn Workload) -> bool {
        self.request.clear();
        if !workload.request(slot, &mut self.request) {
            self.idle.push(slot);
            return false;
        }
        self.slots[slot].since = Some(since);
        self.busy += 1;
        self.send(slot, workload);
        true
    }

    /// Sends the request that stands ready.
    fn send(&mut self, slot: usize, workload: &mut dyn Workload) {
        if let Err(error) = self.slots[slot].connection.send(&self.request) {
            self.lose(slot, &error, workload);
        }
    }

    fn look_at(&mut self, slot: usize, start: Instant, workload: &mut dyn Workload) {
        let Some(since) = self.slots[slot].since else {
            // Closed by the server while nothing was asked, perhaps: a new one will do.
            return;
        };
        let step = match self.slots[slot].connection.receive() {
            Ok(Some(answer)) => {
                self.outcome.received += answer.bytes as u64;
                let step = workload.answer(slot, answer.status, answer.body);
                if step == Step::Failed {
                    *self.outcome.failed.entry(answer.status).or_default() += 1;
                    if self.outcome.first_failure.is_none() {
                        let text = String::from_utf8_lossy(answer.body);
                        self.outcome.first_failure = Some(format!("{}: {text}", answer.status));
                    }
                }
                step
            }
            Ok(None) => return,
            Err(error) => return self.lose(slot, &error, workload),
        };
        self.slots[slot].connection.answered();
        if step == Step::Next {
            self.request.clear();
            workload.request(slot, &mut self.request);
            return self.send(slot, workload);
        }
        let now = start.elapsed();
        let latency = micros(now.saturating_sub(since));
        if step == Step::Done {
            self.outcome.done += 1;
            self.in_time += u64::from(now <= self.load.time);
            self.outcome.latency.saturating_record(latency);
        } else {
            self.outcome.latency_of_failed.saturating_record(latency);
        }
        self.end(slot);
        self.begin(now, workload);
    }

    fn lose(&mut self, slot: usize, error: &io::Error, workload: &mut dyn Workload) {
        *self.outcome.failed.entry(0).or_default() += 1;
        self.outcome
            .first_failure
            .get_or_insert_with(|| error.to_string());
        workload.lost(slot);
        let registry = self.poll.registry();
        match Connection::open(self.load.address, registry, Token(slot)) {
            Ok(connection) => {
                self.slots[slot].connection = connection;
                self.end(slot);
            }
            Err(_) => {
                // One connection less.
                self.slots[slot].since = None;
                self.busy -= 1;
            }
        }
    }

    fn end(&mut self, slot: usize) {
        self.slots[slot].since = None;
        self.busy -= 1;
        self.idle.push(slot);
    }
}

const WATCHED: Duration = Duration::from_millis(500);

/// How long answers may take after the end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Of microseconds, up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are sound")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
