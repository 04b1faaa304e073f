//! The cleaner, a background task: a slow scan over all grants that removes those that ended long ago. Of many nodes,
//! the one with the lease does it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use guestpass_core::event::{EventCursor, EventType};
use guestpass_core::grant::{GrantId, KEEP_ENDED};
use guestpass_core::profile::ProfileId;
use guestpass_core::time::Timestamp;

use crate::app::App;
use crate::config::{Keep, Retention};
use crate::lease::Leaseholder;
use crate::store::{EndedBefore, Lease, Outcome, REMOVED_AT_ONCE, Unavailable, WhichEvents, Write};

mod retention;

/// Scans the grants in the order of their keys, in small parts, and starts over at the end. Keys begin with the time at
/// which a guest was made, so what a flood has left behind lies together: there the cleaner goes on without a pause
/// ([`Cleaner::pause_after`]). What was made too lately to be removed it leaves out.
///
/// A node cleans only while it holds the lease, a row in the store that expires. [`Cleaner::step`] renews it in time;
/// when its holder dies, another node takes it over after `LEASE`. While the clock is in doubt the cleaner waits, because
/// what it removes can't be brought back.
pub struct Cleaner {
    app: Arc<App>,
    keep: Keep,
    has_receiver: bool,
    lease: Leaseholder,
    position: Position,
    /// The guest behind whom the next look at guests begins; a look may take many scans of the grants.
    guests_after: Option<ProfileId>,
    /// The last step forgot as much as one write may.
    forgets_more: bool,
}

/// The place at which the next step goes on: behind a grant, or among the guests, so many of whose parts it may look at before
/// it is time for the grants again.
#[derive(Clone, Copy, Debug)]
enum Position {
    Grants(Option<GrantId>),
    Guests(u32),
}

impl Position {
    const START: Self = Self::Grants(None);
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
    /// All grants were looked at, and a part of the guests.
    Forgot {
        /// The number of guests that were forgotten.
        guests: usize,
    },
    /// So many events wait for the receiver that no guest is forgotten now.
    ReceiverBehind,
    /// The clock is in doubt, so it can't be told what has ended. Nothing was removed.
    ClockDoubted,
    /// Another node has the lease.
    Elsewhere,
}

impl Cleaner {
    /// Makes a cleaner of the store behind `app`. `has_receiver` says that events are delivered.
    #[must_use]
    pub fn new(app: &Arc<App>, keep: Keep, has_receiver: bool) -> Self {
        let keep = match app.marks.store_went_back() {
            // Of a guest in a store that went back the code may have been redeemed all the same, and nobody knows who has been
            // here since. Whoever has is seen again before the next start.
            true => Keep {
                orphans: keep.orphans.max(KEEP_ENDED),
                guests: Retention::default(),
                ..keep
            },
            false => keep,
        };
        Self {
            app: Arc::clone(app),
            keep,
            has_receiver,
            lease: Leaseholder::new(Lease::Cleaner, app.node.clone(), LEASE, LEASE / 2),
            position: Position::START,
            guests_after: None,
            forgets_more: false,
        }
    }

    /// Cleans one part: removes the grants in it that ended [`KEEP_ENDED`] ago, or longer if an access token may still
    /// be valid by its claims, and orphans, which are kept for a time of their own; some expired entries of the revocation
    /// lists, and old events; and keys that nothing needs. Has grants repeat what the shop has said of their guest, if a crash has
    /// kept them from it. After the last grant it looks at guests, if they are forgotten at all.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer, or sheds this work under load: cleaning has the lowest priority.
    pub async fn step(&mut self) -> Result<Step, Unavailable> {
        if self.app.clock.is_doubted() {
            return Ok(Step::ClockDoubted);
        }
        let now = self.app.clock.now();
        if !self.lease.hold(&*self.app.grants, now).await? {
            self.position = Position::START;
            return Ok(Step::Elsewhere);
        }
        match self.position {
            Position::Grants(after) => self.clean_grants(after, now).await,
            Position::Guests(parts) => self.forget_guests(parts, now).await,
        }
    }

    async fn clean_grants(
        &mut self,
        after: Option<GrantId>,
        now: Timestamp,
    ) -> Result<Step, Unavailable> {
        let keys = &self.app.keys;
        let needless = keys.remove_needless(now).await;
        needless.map_err(|error| Unavailable(error.to_string()))?;
        let keep_ended = KEEP_ENDED.max(keys.now().longest_access_ttl());
        let before = EndedBefore {
            grants: now.before(keep_ended),
            orphans: now.before(self.keep.orphans),
        };
        let erased_before = now.before(self.keep.tombstones);
        let forgotten = Write::RemoveForgotten(before.grants, erased_before);
        self.forgets_more = self.app.grants.write(forgotten).await? == Outcome::More;
        self.forgets_more |= self.forget_events(now).await?;
        let after = after.map(|last| past_recent(last, before, now));
        let part = self.app.upkeep.scan_grants(after, before, PART).await?;
        let removed = part.ended.len();
        let removals: Vec<_> = part
            .ended
            .chunks(REMOVED_AT_ONCE)
            .map(|some| Write::RemoveEnded(some.to_vec(), before))
            .map(|removal| self.app.grants.write(removal))
            .collect();
        stream::iter(removals)
            .buffer_unordered(WRITES_AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        for guest in part.uninformed {
            if let Some(guest) = self.app.grants.load_profile(guest).await? {
                self.app.grants.write(Write::CopyProfile(guest)).await?;
            }
        }
        let forgets_guests = !self.keep.guests.is_off();
        self.position = match part.next {
            None if forgets_guests => Position::Guests(PARTS_OF_GUESTS),
            next => Position::Grants(next),
        };
        Ok(match part.next {
            None if !forgets_guests => Step::Finished { removed },
            _ => Step::Scanned { removed },
        })
    }

    /// Removes events that have been kept for long enough. Returns whether there may be more.
    async fn forget_events(&self, now: Timestamp) -> Result<bool, Unavailable> {
        let before = now.before(self.keep.events);
        let (all, start) = (WhichEvents::All, EventCursor::START);
        let old = self.app.events.events_after(all, start, before, EVENTS);
        let old = old.await?;
        if old.is_empty() {
            return Ok(false);
        }
        let keys = old
            .iter()
            .map(|stored| (stored.event.guest, stored.event.id));
        let removal = Write::RemoveEvents(keys.collect());
        self.app.grants.write(removal).await?;
        if self.has_receiver {
            for stored in &old {
                let event = &stored.event;
                // Its delivery would have removed it.
                if event.event_type == EventType::GuestErased {
                    tracing::error!(
                        event.id = %event.id,
                        "the receiver was never told that this guest was erased, and now it won't be: compare its data with \
                         guestpass profile export"
                    );
                }
            }
        }
        Ok(old.len() == EVENTS)
    }

    /// Steps for ever, with pauses. It starts after `delay`, by when a machine that boots with a wrong clock has set it
    /// right, so that the clock is in doubt.
    pub async fn run(mut self, delay: Duration) {
        tokio::time::sleep(delay).await;
        let mut after_error = BETWEEN_PARTS;
        loop {
            let pause = match self.step().await {
                Ok(step) => {
                    after_error = BETWEEN_PARTS;
                    self.pause_after(step)
                }
                Err(error) => {
                    let pause = after_error;
                    // A step that a full queue has refused has its turn a moment later.
                    if pause >= WORTH_A_WARNING {
                        tracing::warn!(error = %error, "cleaning waits");
                    }
                    after_error = BEFORE_RETRY.min(2 * pause);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the pause after a step: none while there is much to remove, so that the cleaner keeps up with as many
    /// sign-ups as the store can take.
    #[must_use]
    pub fn pause_after(&self, step: Step) -> Duration {
        match step {
            Step::Scanned { removed } if removed >= MUCH => Duration::ZERO,
            Step::Scanned { .. } | Step::Finished { .. } if self.forgets_more => Duration::ZERO,
            Step::Forgot { guests: 1.. } if self.app.recorder.records() => BETWEEN_TOLD,
            Step::Scanned { .. } | Step::Forgot { .. } => BETWEEN_PARTS,
            Step::Finished { .. } => BETWEEN_SCANS,
            Step::ReceiverBehind | Step::Elsewhere | Step::ClockDoubted => BEFORE_RETRY,
        }
    }
}

/// Returns the position from which the scan goes on, behind guests who were made so lately that no grant of them can have
/// ended `before`: after a flood they are most of what there is. What is to be removed among them for another reason, because
/// its client or guest is gone, has its turn when it is older.
fn past_recent(last: GrantId, before: EndedBefore, now: Timestamp) -> GrantId {
    let recent = ProfileId::first_at(before.grants.max(before.orphans));
    let newest = ProfileId::first_at(now);
    if recent <= last.profile && last.profile < newest {
        GrantId::new(newest, [0; 8])
    } else {
        last
    }
}

/// The grants that are looked at in one step: a read of some 60 pages.
pub const PART: usize = 1000;
/// The grants that make a step a successful one, after which the next one follows at once. In a flood there are known guests
/// among those to be removed.
const MUCH: usize = PART / 10;
/// The removals that wait in the queue at the same time, to share the sync of a batch.
const WRITES_AT_ONCE: usize = 4;
const BETWEEN_PARTS: Duration = Duration::from_millis(50);
/// The pause after guests were forgotten, if the shop is told of each: so that its receiver keeps up.
const BETWEEN_TOLD: Duration = Duration::from_secs(1);
/// The parts of all guests that are looked at between two scans of the grants: some 100 s of a hundred guests each.
const PARTS_OF_GUESTS: u32 = 100;
/// The events that are removed in one step.
const EVENTS: usize = 500;
const BETWEEN_SCANS: Duration = Duration::from_secs(3600);
/// The longest pause after a step that couldn't clean. The first is as short as [`BETWEEN_PARTS`], and each one twice as long
/// as the one before.
const BEFORE_RETRY: Duration = Duration::from_secs(60);
/// The pause after a step that failed with which it is reported.
const WORTH_A_WARNING: Duration = Duration::from_secs(1);
/// The duration of a lease. Half of it is left after each step, which lasts until the next scan begins, so that the
/// node that cleans goes on cleaning.
const LEASE: Duration = Duration::from_secs(2 * 3600);
const _: () = assert!(LEASE.as_secs() >= 2 * BETWEEN_SCANS.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f51_a_scan_leaves_out_who_was_made_too_lately() {
        let at = Timestamp::from_millis;
        let position = |millis| GrantId::new(ProfileId::new(at(millis), [9; 2]), [7; 8]);
        let before = EndedBefore {
            grants: at(3_000),
            orphans: at(6_000),
        };
        for (last, goes_on_at) in [
            (position(5_999), position(5_999)),
            (
                position(6_000),
                GrantId::new(ProfileId::first_at(at(9_000)), [0; 8]),
            ),
            (
                position(8_999),
                GrantId::new(ProfileId::first_at(at(9_000)), [0; 8]),
            ),
            (position(9_000), position(9_000)),
        ] {
            assert_eq!(past_recent(last, before, at(9_000)), goes_on_at, "{last}");
        }
    }
}
