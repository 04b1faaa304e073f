//! The load generator: one thread with an event loop over many connections. It does as little as it can, since it shares the
//! processor with the server.
//!
//! In a closed loop every connection is always busy. In an open loop operations begin at a fixed rate whether or not the
//! server keeps up, and latency counts from when an operation was due, so a stall delays all that were due in it
//! (no coordinated omission). The latency of a failure counts from when its request was sent, as it shows how fast load is
//! shed.

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

/// Makes requests and judges the answers. A slot is the number of a connection.
pub(crate) trait Workload {
    /// Appends the next request of a slot; returns `false` if there is none at the moment.
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool;

    /// Returns whether there will be no more requests.
    fn is_exhausted(&self) -> bool {
        false
    }

    /// Takes the header of the answer to the last request of a slot, before the rest.
    fn header(&mut self, _slot: usize, _head: &[u8]) {}

    /// Takes the answer to the last request of a slot.
    fn answer(&mut self, slot: usize, status: u16, body: &[u8]) -> Step;

    /// Hears that the answer will not come, and the outcome is unknown.
    fn lost(&mut self, slot: usize);
}

/// Says whether an operation goes on after an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// It has succeeded.
    Done,
    /// It goes on with another request.
    Next,
    /// It has failed.
    Failed,
}

/// Describes a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) pace: Pace,
    pub(crate) time: Duration,
    /// Opens a TLS connection with these settings for each operation; without them plain connections are kept alive.
    pub(crate) fresh_tls: Option<&'a Arc<ClientConfig>>,
}

/// Holds the results of a load.
pub(crate) struct Outcome {
    /// Operations per second that ended within the time; if none did, of all that ended later.
    pub(crate) rate: f64,
    /// Operations per second that began within the time.
    pub(crate) offered: f64,
    /// Operations that succeeded, those after the time included.
    pub(crate) done: u64,
    /// Bytes of all answers.
    pub(crate) received: u64,
    /// Of those that succeeded, in microseconds.
    pub(crate) latency: Histogram<u64>,
    /// Of those that failed with an answer, in microseconds since the last request.
    pub(crate) latency_of_failed: Histogram<u64>,
    /// Failures by status; 0 without an answer.
    pub(crate) failed: BTreeMap<u16, u64>,
    /// Text of the first failure.
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
    /// Runs the load, and waits for the answers that are outstanding at its end. Ends early if the workload is exhausted.
    /// `watch` hears about twice a second of the time that has passed and the operations that succeeded.
    pub(crate) fn run(
        self,
        workload: &mut dyn Workload,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> io::Result<Outcome> {
        let mut run = Run::new(self)?;
        run.timer.start(&run.schedule)?;
        let start = Instant::now();
        run.drive(start, workload, watch)?;
        let time = run.exhausted.unwrap_or(self.time).min(self.time);
        run.outcome.rate = match run.in_time {
            // The machine was too busy: a rate of zero could neither be compared with nor halved.
            0 => run.outcome.done as f64 / start.elapsed().as_secs_f64(),
            in_time => in_time as f64 / time.as_secs_f64(),
        };
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
    /// Backlog of the open loop: when each operation without a free connection was due.
    waiting: VecDeque<Duration>,
    schedule: Schedule,
    busy: usize,
    /// Time at which the workload was exhausted.
    exhausted: Option<Duration>,
    begun_in_time: u64,
    in_time: u64,
    outcome: Outcome,
    request: Vec<u8>,
}

struct Slot {
    /// `None` between two operations, if each has a connection of its own.
    connection: Option<Connection>,
    /// Time at which the operation under way was due.
    since: Option<Duration>,
    /// Time at which its last request was sent.
    sent: Instant,
}

impl<'a> Run<'a> {
    fn new(load: Load<'a>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let slots = (0..load.connections).map(|slot| {
            Ok(Slot {
                connection: match load.fresh_tls {
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
                    TIMER => self.timer.acknowledge(),
                    Token(slot) => self.handle(slot, start, workload),
                }
            }
        }
    }

    /// Begins the operations that are due.
    fn begin(&mut self, now: Duration, workload: &mut dyn Workload) {
        match self.load.pace {
            Pace::Closed if now < self.load.time => {
                while let Some(slot) = self.idle.pop() {
                    if !self.start(slot, now, now, workload) {
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
                    if !self.start(slot, due, now, workload) {
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
        due: Duration,
        now: Duration,
        workload: &mut dyn Workload,
    ) -> bool {
        self.request.clear();
        if !workload.request(slot, &mut self.request) {
            self.idle.push(slot);
            return false;
        }
        self.slots[slot].since = Some(due);
        self.busy += 1;
        self.begun_in_time += u64::from(now < self.load.time);
        self.send(slot, workload);
        true
    }

    /// Sends what is in `request`.
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

    fn handle(&mut self, slot: usize, start: Instant, workload: &mut dyn Workload) {
        let Slot {
            connection: Some(connection),
            since: Some(since),
            sent,
        } = &mut self.slots[slot]
        else {
            // The server may close an idle connection; the next send finds out.
            return;
        };
        let (since, sent) = (*since, *sent);
        let step = match connection.receive() {
            Ok(Some(answer)) => {
                self.outcome.received += answer.bytes as u64;
                workload.header(slot, answer.head);
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
                // The load goes on with one connection less.
                self.slots[slot].since = None;
                self.busy -= 1;
            }
        }
    }

    fn end(&mut self, slot: usize) {
        self.slots[slot].since = None;
        if self.load.fresh_tls.is_some()
            && let Some(connection) = self.slots[slot].connection.take()
        {
            connection.close();
        }
        self.busy -= 1;
        self.idle.push(slot);
    }
}

fn open(load: &Load<'_>, poll: &Poll, slot: usize) -> io::Result<Connection> {
    Connection::open(load.address, load.fresh_tls, poll.registry(), Token(slot))
}

/// Token of the timer; no slot has that number.
const TIMER: Token = Token(usize::MAX);

/// Interval of `watch`.
const WATCHED: Duration = Duration::from_millis(500);

/// Time to wait for outstanding answers after the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a histogram of microseconds up to a minute, to three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("these bounds are sound")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
