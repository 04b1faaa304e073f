//! The time in the store: at which the installation was last served, so that a start at a wrong clock is noticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::SteadyClock;
use crate::store::{Store, Unavailable, Write};

/// Looks at the clock, and keeps the time in the store while it can be trusted. While it can't, an operator, or another
/// node that trusts its clock again, may set the time in the store, and this node believes its reference then.
pub struct Timekeeper {
    store: Arc<dyn Store>,
    clock: Arc<SteadyClock>,
    kept: Mutex<Kept>,
}

/// The part of the time in the store that this node knows.
struct Kept {
    /// The number of resets at the beginning of this doubt.
    resets: Option<i64>,
    /// The time of the last note, by the monotonic clock.
    noted_at: Option<Duration>,
}

impl Timekeeper {
    /// Has the clock begin to serve a store.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn begin(store: &dyn Store, clock: &SteadyClock) -> Result<(), Unavailable> {
        clock.begin(store.seen().await?);
        Ok(())
    }

    /// Keeps the time of a store that the clock has begun to serve.
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<SteadyClock>) -> Self {
        let kept = Kept {
            resets: Some(clock.resets_at_begin()),
            noted_at: None,
        };
        Self {
            store,
            clock,
            kept: Mutex::new(kept),
        }
    }

    /// Looks at the clock, and does what follows from that. Call it every half second.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub(crate) async fn follow(&self) -> Result<(), Unavailable> {
        self.clock.look();
        if self.clock.is_doubted() {
            return self.follow_resets().await;
        }
        if self.clock.take_moved() {
            // Even if that is to say that a later time, which was kept once, was wrong.
            let reset = Write::ResetTime(self.clock.now());
            self.store
                .write(reset)
                .await
                .inspect_err(|_| self.clock.put_moved_back())?;
        }
        let now = self.clock.monotonic();
        {
            let mut kept = self.kept();
            kept.resets = None;
            let is_due = |noted_at| now.saturating_sub(noted_at) >= NOTE_EVERY;
            if !kept.noted_at.is_none_or(is_due) {
                return Ok(());
            }
            // Even if it fails: then the next try is the next note.
            kept.noted_at = Some(now);
        }
        self.note().await
    }

    /// Keeps the time in the store now, if it can be trusted.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub(crate) async fn note(&self) -> Result<(), Unavailable> {
        if self.clock.is_doubted() {
            return Ok(());
        }
        let note = Write::NoteTime(self.clock.now());
        self.store.write(note).await.map(drop)
    }

    /// Believes the reference if the time in the store was set since this doubt began.
    async fn follow_resets(&self) -> Result<(), Unavailable> {
        let resets = self.store.seen().await?.resets;
        let known = *self.kept().resets.get_or_insert(resets);
        if known != resets {
            self.clock.accept();
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The interval at which the time is kept. A start at a clock that was set back goes on at the last time that was kept, so
/// this is how far time may run backwards then.
const NOTE_EVERY: Duration = Duration::from_secs(10);
