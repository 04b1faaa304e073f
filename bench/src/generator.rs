//! The load: requests over a number of connections, by one thread that does little else, because it shares the machine with
//! what it measures.
//!
//! Closed loop: every connection is busy all the time. Open loop: operations begin at a given rate, whether or not the
//! server keeps up, and their latency counts from the moment at which they should have begun. That of a failure counts from
//! when its request was sent: it says how fast the server refuses.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use rustls::ClientConfig;

use crate::connection::Connection;

mod schedule;

pub(crate) use schedule::Pace;
use schedule::{Schedule, Timer};

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

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
    /// With what each operation shakes hands, on a TLS connection of its own; else they follow each other on plain ones.
    pub(crate) fresh: Option<&'a Arc<ClientConfig>>,
}

/// What came of a load.
pub(crate) struct Outcome {
    /// How many operations were done within the time, per second.
    pub(crate) rate: f64,
    /// How many were begun within the time, per second.
    pub(crate) offered: f64,
    /// How many were done in all; some end after the time.
    pub(crate) done: u64,
    /// Bytes of all answers.
    pub(crate) received: u64,
    /// Microseconds, of those that were done.
    pub(crate) latency: Histogram<u64>,
    /// Microseconds from the last request to its answer, of those that failed with one.
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
            offered: 0.0,
            done: 0,
            received: 0,
            latency: histogram(),
            latency_of_failed: histogram(),
            failed: BTreeMap::new(),
            first_failure: None,
        }
    }
}

impl Load<'_> {
    /// Runs the load, and waits for what is under way at its end. `watch` hears now and then how long it has run and what is
    /// done. It ends early if there is nothing to ask any more.
    pub(crate) fn run(
        self,
        workload: &mut dyn Workload,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> io::Result<Outcome> {
        let mut run = Run::new(self)?;
        run.timer.start(&run.schedule)?;
        run.drive(Instant::now(), workload, watch)?;
        let time = run.exhausted.unwrap_or(self.time).min(self.time);
        run.outcome.rate = run.in_time as f64 / time.as_secs_f64();
        run.outcome.offered = run.begun_in_time as f64 / time.as_secs_f64();
        watch(self.time, run.outcome.done);
        Ok(run.outcome)
    }
}

struct Run<'a> {
    load: Load<'a>,
    poll: Poll,
    timer: Timer,
    slots: Vec<Slot>,
    idle: Vec<usize>,
    /// Operations that are due and find no connection free, by when they should have begun.
    waiting: VecDeque<Duration>,
    schedule: Schedule,
    busy: usize,
    /// When the last answer was there, if the workload had nothing more to ask.
    exhausted: Option<Duration>,
    begun_in_time: u64,
    in_time: u64,
    outcome: Outcome,
    request: Vec<u8>,
}

struct Slot {
    /// None between two operations, if each has its own.
    connection: Option<Connection>,
    /// When the operation under way should have begun.
    since: Option<Duration>,
    /// When its last request was sent.
    sent: Instant,
}

impl<'a> Run<'a> {
    fn new(load: Load<'a>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let slots = (0..load.connections).map(|slot| {
            Ok(Slot {
                connection: match load.fresh {
                    None => Some(open(&load, &poll, slot)?),
                    Some(_) => None,
                },
                since: None,
                sent: Instant::now(),
            })
        });
        Ok(Self {
            load,
            slots: slots.collect::<io::Result<_>>()?,
            poll,
            timer,
            idle: (0..load.connections).rev().collect(),
            waiting: VecDeque::new(),
            schedule: Schedule::new(load.pace, load.time),
            busy: 0,
            exhausted: None,
            begun_in_time: 0,
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
                match event.token() {
                    TIMER => self.timer.go_on(),
                    Token(slot) => self.look_at(slot, start, workload),
                }
            }
        }
    }

    /// Begins what is due.
    fn begin(&mut self, now: Duration, workload: &mut dyn Workload) {
        match self.load.pace {
            Pace::Closed if now < self.load.time => {
                while let Some(slot) = self.idle.pop() {
                    if !self.start(slot, (now, now), workload) {
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
                    if !self.start(slot, (due, now), workload) {
                        break;
                    }
                    self.waiting.pop_front();
                }
            }
        }
    }

    fn start(
        &mut self,
        slot: usize,
        (since, now): (Duration, Duration),
        workload: &mut dyn Workload,
    ) -> bool {
        self.request.clear();
        if !workload.request(slot, &mut self.request) {
            self.idle.push(slot);
            return false;
        }
        self.slots[slot].since = Some(since);
        self.busy += 1;
        self.begun_in_time += u64::from(now < self.load.time);
        self.send(slot, workload);
        true
    }

    /// Sends the request that stands ready.
    fn send(&mut self, slot: usize, workload: &mut dyn Workload) {
        let Slot {
            connection, sent, ..
        } = &mut self.slots[slot];
        *sent = Instant::now();
        let sent = match connection {
            Some(connection) => connection.send(&self.request),
            none => open(&self.load, &self.poll, slot)
                .and_then(|opened| none.insert(opened).send(&self.request)),
        };
        if let Err(error) = sent {
            self.lose(slot, &error, workload);
        }
    }

    fn look_at(&mut self, slot: usize, start: Instant, workload: &mut dyn Workload) {
        let Slot {
            connection: Some(connection),
            since: Some(since),
            sent,
        } = &mut self.slots[slot]
        else {
            // Closed by the server while nothing was asked, perhaps: a new one will do.
            return;
        };
        let (since, sent) = (*since, *sent);
        let step = match connection.receive() {
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
        connection.answered();
        if step == Step::Next {
            self.request.clear();
            workload.request(slot, &mut self.request);
            return self.send(slot, workload);
        }
        let now = start.elapsed();
        if step == Step::Done {
            let latency = micros(now.saturating_sub(since));
            self.outcome.done += 1;
            self.in_time += u64::from(now <= self.load.time);
            self.outcome.latency.saturating_record(latency);
        } else {
            let latency = micros(sent.elapsed());
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
        match open(&self.load, &self.poll, slot) {
            Ok(connection) => {
                self.slots[slot].connection = Some(connection);
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
        if self.load.fresh.is_some()
            && let Some(connection) = self.slots[slot].connection.take()
        {
            connection.close();
        }
        self.busy -= 1;
        self.idle.push(slot);
    }
}

fn open(load: &Load<'_>, poll: &Poll, slot: usize) -> io::Result<Connection> {
    Connection::open(load.address, load.fresh, (poll.registry(), Token(slot)))
}

/// No connection has that number.
const TIMER: Token = Token(usize::MAX);

const WATCHED: Duration = Duration::from_millis(500);

/// How long answers may take after the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of microseconds, up to a minute, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are sound")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
