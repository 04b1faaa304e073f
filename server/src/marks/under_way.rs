//! The erasures, revocations and ends of links that are under way: perhaps in the journal, and not in the store yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts what is under way.
#[derive(Default)]
pub(super) struct AllUnderWay {
    state: Mutex<State>,
    /// Wakes whoever waits for the end of some.
    ended: Notify,
    /// Wakes whoever carries out what was given up.
    given_up: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    numbers: BTreeSet<u64>,
    is_one_given_up: bool,
}

/// One that is under way. Say [`UnderWay::stored`] when the store has it. If this is dropped without that, as when the
/// store couldn't answer or the request's client went away, somebody else has to carry out what the journal may say.
#[must_use = "a mark must wait for it"]
pub(crate) struct UnderWay {
    all: Arc<AllUnderWay>,
    number: u64,
    is_stored: bool,
}

impl AllUnderWay {
    /// Counts one more.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.numbers.insert(number);
        UnderWay {
            all: Arc::clone(self),
            number,
            is_stored: false,
        }
    }

    /// Waits until all that have begun by now are in the store or given up.
    pub(super) async fn settle(&self) {
        let end = self.lock().next;
        loop {
            let ended = self.ended.notified();
            let first = self.lock().numbers.first().copied();
            if first.is_none_or(|first| first >= end) {
                return;
            }
            ended.await;
        }
    }

    /// Returns whether one was given up since this was last asked.
    pub(super) fn take_given_up(&self) -> bool {
        std::mem::take(&mut self.lock().is_one_given_up)
    }

    /// Says that one is still to be carried out.
    pub(super) fn give_up(&self) {
        self.lock().is_one_given_up = true;
        self.given_up.notify_one();
    }

    /// Waits until one is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    /// Says that it is durable in the store.
    pub(crate) fn stored(mut self) {
        self.is_stored = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().numbers.remove(&self.number);
        if !self.is_stored {
            self.all.give_up();
        }
        self.all.ended.notify_waiters();
    }
}
