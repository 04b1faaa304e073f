//! The clock by which everything is decided: monotonic between two looks at a reference.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use guestpass_core::time::{self, Timestamp};

use super::trust::{self, Reference, Trust, Verdict};
use super::{Clock, Reading};
use crate::store::Seen;

/// Serves a time that a step of the machine's clock doesn't change.
///
/// It runs on the monotonic clock and looks at a reference now and then: at the database's clock where that tells the time
/// ([`SteadyClock::correct`]), so that all nodes agree, and else at the machine's ([`SteadyClock::look`]). It follows
/// small corrections slowly. After a jump the clock is in doubt: it goes on as it was, until the jump is undone, the
/// reference has agreed with the monotonic clock for an hour ([`super::AGREEMENT`]), or an operator says that the
/// reference is right ([`SteadyClock::accept`]). What can't be undone waits meanwhile. Call
/// [`SteadyClock::begin`] with the time at which the store was last served before it is used for a decision.
pub struct SteadyClock {
    machine: Arc<dyn Clock>,
    /// Milliseconds to be added to the monotonic clock.
    served: AtomicI64,
    earliest: AtomicI64,
    state: Mutex<State>,
}

struct State {
    trust: Trust,
    /// The offset of the reference, as it was last seen.
    reference: i64,
    /// The machine's clock isn't looked at any more.
    is_told_by_database: bool,
    has_begun: bool,
    /// Another time was believed since the store was last told.
    has_moved: bool,
    /// The number of resets that the store had at the beginning.
    resets: i64,
}

impl SteadyClock {
    /// Returns a clock that believes the machine's, until it is told otherwise.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        let reference = trust::offset(machine.now(), machine.monotonic());
        let trust = Trust::new(machine.monotonic(), reference);
        Self {
            machine,
            served: AtomicI64::new(reference),
            earliest: AtomicI64::new(reference),
            state: Mutex::new(State {
                trust,
                reference,
                is_told_by_database: false,
                has_begun: false,
                has_moved: false,
                resets: 0,
            }),
        }
    }

    /// Begins to serve a store that was last served at the time that it has seen, if it ever was. A time that doesn't fit that
    /// is in doubt from the start.
    pub fn begin(&self, seen: Seen) {
        let mut state = self.state();
        state.has_begun = true;
        state.resets = seen.resets;
        let verdict = state.trust.begin(self.monotonic(), seen.at);
        self.serve(&mut state, verdict);
    }

    /// Looks at the machine's clock, unless a database tells the time. Call it every half second.
    pub fn look(&self) {
        let mut state = self.state();
        if !state.is_told_by_database {
            let reference = trust::offset(self.machine.now(), self.monotonic());
            self.refer(&mut state, Reference::exactly(reference));
        }
    }

    /// Notes that the database is about to be asked for its time.
    #[must_use]
    pub fn start_query(&self) -> TimeQuery {
        TimeQuery {
            sent_at: self.monotonic(),
        }
    }

    /// Looks at `answer`, the database's time. The database read its clock somewhere within the round trip, so by now its
    /// time lies between the answer and the answer plus the round trip (Cristian's algorithm).
    pub fn correct(&self, query: TimeQuery, answer: Timestamp) {
        let now = self.monotonic();
        let mut state = self.state();
        state.is_told_by_database = true;
        let reference = Reference {
            from: trust::offset(answer, now),
            to: trust::offset(answer, query.sent_at.min(now)),
        };
        self.refer(&mut state, reference);
    }

    /// Believes the reference from now on, at an operator's word.
    pub fn accept(&self) {
        let mut state = self.state();
        let reference = state.reference;
        let verdict = state.trust.accept(reference);
        self.serve(&mut state, Some(verdict));
    }

    /// Returns the number of resets that the store had when this began to serve it.
    pub(crate) fn resets_at_begin(&self) -> i64 {
        self.state().resets
    }

    /// Returns whether another time was believed since the last call.
    pub(crate) fn take_moved(&self) -> bool {
        std::mem::take(&mut self.state().has_moved)
    }

    /// Has the next [`SteadyClock::take_moved`] return `true`: the store couldn't be told.
    pub(crate) fn put_moved_back(&self) {
        self.state().has_moved = true;
    }

    /// Returns the time of day, or the best guess while there is doubt.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.reading().now
    }

    /// Returns the time since some fixed moment, which only grows.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    /// Returns the time of day with the doubt about it, if there is one.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let monotonic = trust::millis(self.monotonic());
        let now = Timestamp::from_millis(self.served.load(Ordering::Relaxed) + monotonic);
        let earliest = Timestamp::from_millis(self.earliest.load(Ordering::Relaxed) + monotonic);
        Reading { now, earliest }
    }

    /// Returns the time that the reference told when it was last looked at, whether or not that is believed.
    #[must_use]
    pub fn reference(&self) -> Timestamp {
        Timestamp::from_millis(self.state().reference + trust::millis(self.monotonic()))
    }

    /// Returns whether the time can't be trusted now.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        self.state().trust.is_doubted()
    }

    fn refer(&self, state: &mut State, reference: Reference) {
        let nearest = state.trust.served.clamp(reference.from, reference.to);
        state.reference = nearest;
        let verdict = if state.has_begun {
            state.trust.look(self.monotonic(), reference)
        } else {
            let error = nearest - state.trust.served;
            if error.abs() > 1000 {
                tracing::warn!(
                    off = text_of(error),
                    "this machine's clock isn't the database's, which is followed"
                );
            }
            state.trust = Trust::new(self.monotonic(), nearest);
            None
        };
        self.serve(state, verdict);
    }

    fn serve(&self, state: &mut State, verdict: Option<Verdict>) {
        // The earliest time first, so that it is never later than the one that is served by more than a moment.
        self.earliest.store(state.trust.earliest, Ordering::Relaxed);
        self.served.store(state.trust.served, Ordering::Relaxed);
        match verdict {
            None => {}
            Some(Verdict::Doubted(off)) => tracing::error!(
                off = text_of(off),
                "the clock has jumped, or is wrong, so it isn't trusted: nothing expires and nothing is cleaned up by it. Set it \
                 right; or, if it is right, say so: guestpass clock accept. After an hour it is taken for right"
            ),
            Some(Verdict::Trusted(moved)) => {
                state.has_moved = true;
                tracing::warn!(moved = text_of(moved), "the clock is trusted again");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        Self::now(self)
    }

    fn monotonic(&self) -> Duration {
        Self::monotonic(self)
    }

    fn reading(&self) -> Reading {
        Self::reading(self)
    }
}

/// A question to the database for its time, on its way.
#[derive(Clone, Copy, Debug)]
pub struct TimeQuery {
    sent_at: Duration,
}

/// Writes a difference in milliseconds as people would: `+3600s`.
fn text_of(millis: i64) -> String {
    let sign = if millis < 0 { '-' } else { '+' };
    let duration = Duration::from_millis(millis.unsigned_abs() / 1000 * 1000);
    format!("{sign}{}", time::text_of(duration))
}
