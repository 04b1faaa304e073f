//! A clock that the test sets, and randomness that repeats itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use guestpass::clock::Clock;
use guestpass::random::Random;
use guestpass_core::time::Timestamp;

use super::sha256;

/// A clock that stands still until it is set.
pub(crate) struct FakeClock {
    millis: AtomicI64,
    monotonic_millis: AtomicU64,
    /// Set once the time of day was set, so that no running server could have told the store the time that it is now.
    jumped: AtomicBool,
}

impl FakeClock {
    pub(crate) fn new() -> Self {
        Self {
            millis: AtomicI64::new(1_800_000_000_000),
            monotonic_millis: AtomicU64::new(0),
            jumped: AtomicBool::new(false),
        }
    }

    /// Time passes.
    pub(crate) fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap();
        self.monotonic_millis.fetch_add(millis, Ordering::SeqCst);
        self.millis
            .fetch_add(i64::try_from(millis).unwrap(), Ordering::SeqCst);
    }

    /// Time passes.
    pub(crate) fn advance_secs(&self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// Sets the time of day, as an operator may.
    pub(crate) fn jump(&self, millis: i64) {
        self.jumped.store(true, Ordering::SeqCst);
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Returns whether the time of day was ever set.
    pub(crate) fn has_jumped(&self) -> bool {
        self.jumped.load(Ordering::SeqCst)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst))
    }
}

/// Randomness that is the same in every run and another in every test, so that a request's id finds its lines in the
/// log that all tests share: SHA-256 of the test's name and a counter.
pub(crate) struct SeededRandom {
    seed: String,
    counter: AtomicU64,
    ids: AtomicU64,
    panics: AtomicBool,
}

impl SeededRandom {
    pub(crate) fn new() -> Self {
        thread_local!(static MADE: Cell<u64> = const { Cell::new(0) });
        let thread = std::thread::current();
        Self {
            seed: format!(
                "{} {}",
                thread.name().unwrap(),
                MADE.replace(MADE.get() + 1)
            ),
            counter: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            panics: AtomicBool::new(false),
        }
    }

    /// Returns all that was drawn so far: each time, the beginning of such a block or the whole.
    pub(crate) fn drawn(&self) -> Vec<[u8; 32]> {
        let drawn = self.counter.load(Ordering::SeqCst);
        (0..drawn).map(|counter| self.block(counter)).collect()
    }

    /// Returns how often an id was drawn for a guest so far.
    pub(crate) fn ids_drawn(&self) -> u64 {
        self.ids.load(Ordering::SeqCst)
    }

    fn block(&self, counter: u64) -> [u8; 32] {
        sha256(format!("{} {counter}", self.seed).as_bytes())
    }

    /// Makes the next draw for a guest or a token panic, as a defect in a handler would.
    pub(crate) fn panic_next(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Twelve bytes are a request id, which is drawn outside the handlers.
        assert!(
            bytes.len() == 12 || !self.panics.swap(false, Ordering::SeqCst),
            "a test asked for this panic"
        );
        // Two are the random part of a guest's id, and of nothing else.
        self.ids
            .fetch_add(u64::from(bytes.len() == 2), Ordering::SeqCst);
        for chunk in bytes.chunks_mut(32) {
            let block = self.block(self.counter.fetch_add(1, Ordering::SeqCst));
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}
