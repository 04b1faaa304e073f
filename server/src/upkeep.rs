//! The cleaner, a background task: a slow scan over all grants that removes those that ended long ago. Of many nodes,
//! the one with the lease does it.

use std::sync::Arc;
use std::time::Duration;

use guestpass_core::grant::{GrantId, KEEP_ENDED};
use guestpass_core::time::Timestamp;

use crate::app::App;
use crate::clock::SteadyClock;
use crate::keys::KeyRing;
use crate::store::{Grants, Outcome, Unavailable, Upkeep, Write};

/// Scans the grants in the order of their keys, in small parts, and starts over at the end.
///
/// A node cleans only while it holds the lease, a row in the store that expires. [`Cleaner::step`] renews it in time;
/// when its holder dies, another node takes it over after `LEASE`. While the clock is in doubt the cleaner waits, because
/// what it removes can't be brought back.
pub struct Cleaner {
    upkeep: Arc<dyn Upkeep>,
    grants: Arc<dyn Grants>,
    keys: Arc<KeyRing>,
    clock: Arc<SteadyClock>,
    keep_tombstones: Duration,
    node: String,
    held_until: Timestamp,
    position: Option<GrantId>,
}

/// The result of one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There is more to scan.
    Scanned {
        /// The number of grants that were removed.
        removed: usize,
    },
    /// The scan has come to the end; the next one starts from the beginning.
    Finished {
        /// The number of grants that were removed.
        removed: usize,
    },
    /// The clock is in doubt, so it can't be told what has ended. Nothing was removed.
    ClockDoubted,
    /// Another node has the lease.
    Elsewhere,
}

impl Cleaner {
    /// Makes a cleaner of the store behind `app`.
    #[must_use]
    pub fn new(app: &App, keep_tombstones: Duration) -> Self {
        let clock = Arc::clone(&app.clock);
        Self {
            upkeep: Arc::clone(&app.upkeep),
            grants: Arc::clone(&app.grants),
            keys: Arc::clone(&app.keys),
            clock,
            keep_tombstones,
            node: app.node.clone(),
            held_until: Timestamp::from_millis(0),
            position: None,
        }
    }

    /// Cleans one part: removes the grants in it that ended [`KEEP_ENDED`] ago, or longer if an access token may still
    /// be valid by its claims; some expired entries of the revocation lists; and keys that nothing needs.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer, or sheds this work under load: cleaning has the lowest priority.
    pub async fn step(&mut self) -> Result<Step, Unavailable> {
        if self.clock.is_doubted() {
            return Ok(Step::ClockDoubted);
        }
        let now = self.clock.now();
        if !self.hold_lease(now).await? {
            self.position = None;
            return Ok(Step::Elsewhere);
        }
        self.keys
            .remove_needless(now)
            .await
            .map_err(|error| Unavailable(error.to_string()))?;
        let keep_ended = KEEP_ENDED.max(self.keys.now().longest_access_ttl());
        let ended_before = now.before(keep_ended);
        let erased_before = now.before(self.keep_tombstones);
        let forgotten = Write::RemoveForgotten(ended_before, erased_before);
        self.grants.write(forgotten).await?;
        let part = self
            .upkeep
            .ended_grants(self.position, ended_before, PART)
            .await?;
        let removed = part.ended.len();
        for some in part.ended.chunks(REMOVED_AT_ONCE) {
            self.grants
                .write(Write::RemoveEnded(some.to_vec(), ended_before))
                .await?;
        }
        self.position = part.next;
        Ok(if part.next.is_some() {
            Step::Scanned { removed }
        } else {
            Step::Finished { removed }
        })
    }

    /// Acquires the lease, or renews it when half of it has passed. Returns whether this node has it.
    async fn hold_lease(&mut self, now: Timestamp) -> Result<bool, Unavailable> {
        if now + LEASE / 2 < self.held_until {
            return Ok(true);
        }
        let until = now + LEASE;
        let hold = Write::HoldCleaning(self.node.clone(), now, until);
        let is_held = self.grants.write(hold).await? == Outcome::Done;
        if is_held {
            self.held_until = until;
        }
        Ok(is_held)
    }

    /// Steps for ever, with pauses. It starts after `delay`, by when a machine that boots with a wrong clock has set it
    /// right, so that the clock is in doubt.
    pub async fn run(mut self, delay: Duration) {
        tokio::time::sleep(delay).await;
        loop {
            let pause = match self.step().await {
                Ok(Step::Scanned { .. }) => BETWEEN_PARTS,
                Ok(Step::Finished { .. }) => BETWEEN_SCANS,
                Ok(Step::Elsewhere | Step::ClockDoubted) => BEFORE_RETRY,
                Err(error) => {
                    tracing::warn!(error = %error, "cleaning waits");
                    BEFORE_RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// The grants that are looked at in one step: a read of some 30 pages.
pub const PART: usize = 500;
/// The grants that one write removes; few, so that other writes get their turn.
pub const REMOVED_AT_ONCE: usize = 100;
const BETWEEN_PARTS: Duration = Duration::from_millis(50);
const BETWEEN_SCANS: Duration = Duration::from_secs(3600);
/// The pause after a step that couldn't clean, before the next try.
const BEFORE_RETRY: Duration = Duration::from_secs(60);
/// The duration of a lease. Half of it is left after each step, which lasts until the next scan begins, so that the
/// node that cleans goes on cleaning.
const LEASE: Duration = Duration::from_secs(2 * 3600);
const _: () = assert!(LEASE.as_secs() >= 2 * BETWEEN_SCANS.as_secs());
