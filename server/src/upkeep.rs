//! Cleaning in the background: a slow walk over all grants that removes what ended long ago. Of many nodes, one does it.

use std::sync::Arc;
use std::time::Duration;

use guestpass_core::grant::{GrantId, KEEP_ENDED};
use guestpass_core::time::Timestamp;

use crate::app::App;
use crate::clock::Clock;
use crate::keys::KeyRing;
use crate::store::{Grants, Outcome, Unavailable, Upkeep, Write};

/// Walks over the grants in the order of their keys, one small part after the other, without ever being done.
pub struct Cleaner {
    upkeep: Arc<dyn Upkeep>,
    grants: Arc<dyn Grants>,
    keys: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    keep_tombstones: Duration,
    node: String,
    held_until: Timestamp,
    position: Option<GrantId>,
    started: (Timestamp, Duration),
}

/// What one step did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// There is more to walk.
    Walked {
        /// How many grants were removed.
        removed: usize,
    },
    /// The walk has come to the end; the next one starts from the beginning.
    Finished {
        /// How many grants were removed.
        removed: usize,
    },
    /// The clock has jumped since the start, so nobody knows what has ended. Nothing was removed.
    ClockJumped,
    /// Another node cleans.
    Elsewhere,
}

impl Cleaner {
    /// A cleaner of the store behind `app`, that trusts the clock as it is now.
    #[must_use]
    pub fn new(app: &App, keep_tombstones: Duration) -> Self {
        let clock = Arc::clone(&app.clock);
        let started = (clock.now(), clock.monotonic());
        Self {
            upkeep: Arc::clone(&app.upkeep),
            grants: Arc::clone(&app.grants),
            keys: Arc::clone(&app.keys),
            clock,
            keep_tombstones,
            node: app.node.clone(),
            held_until: Timestamp::from_millis(0),
            position: None,
            started,
        }
    }

    /// Looks at the next part of the grants and removes what had ended [`KEEP_ENDED`] ago, or longer if an access token
    /// could still say that it hasn't; some of what nobody can ask about any more; and keys that nothing needs.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer, or has more important things to do.
    pub async fn step(&mut self) -> Result<Step, Unavailable> {
        let now = self.clock.now();
        if self.jumped(now) {
            return Ok(Step::ClockJumped);
        }
        if !self.hold(now).await? {
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
            Step::Walked { removed }
        } else {
            Step::Finished { removed }
        })
    }

    /// Takes the right to clean, or keeps it, in time before it ends.
    async fn hold(&mut self, now: Timestamp) -> Result<bool, Unavailable> {
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

    /// Steps for ever, slowly. It begins late, after `delay`: a machine that starts with a wrong clock has set it right by
    /// then, which shows as a jump.
    pub async fn run(mut self, delay: Duration) {
        tokio::time::sleep(delay).await;
        loop {
            let pause = match self.step().await {
                Ok(Step::Walked { .. }) => BETWEEN_PARTS,
                Ok(Step::Finished { .. }) => BETWEEN_WALKS,
                Ok(Step::Elsewhere) => BEFORE_RETRY,
                Ok(Step::ClockJumped) => {
                    tracing::warn!(
                        "the clock has jumped since the start, so ended grants are not cleaned up. Set the clock right, \
                         or restart if it is right now"
                    );
                    BEFORE_RETRY
                }
                Err(error) => {
                    tracing::warn!(error = %error, "cleaning waits");
                    BEFORE_RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn jumped(&self, now: Timestamp) -> bool {
        let elapsed = self.clock.monotonic().saturating_sub(self.started.1);
        let expected = self.started.0 + elapsed;
        now.since(expected).max(expected.since(now)) > TOLERATED_JUMP
    }
}

/// How many grants are looked at in one step: a read of some 30 pages.
pub const PART: usize = 500;
/// How many go in one write, so that other writes get their turn.
pub const REMOVED_AT_ONCE: usize = 100;
const BETWEEN_PARTS: Duration = Duration::from_millis(50);
const BETWEEN_WALKS: Duration = Duration::from_secs(3600);
/// After what may be better soon.
const BEFORE_RETRY: Duration = Duration::from_secs(60);
/// How long a node may clean alone after its last step: until it begins the next walk, and a little longer.
const LEASE: Duration = Duration::from_secs(2 * 3600);
/// More than any honest correction, far less than would make a living grant look ended.
const TOLERATED_JUMP: Duration = Duration::from_secs(3600);
