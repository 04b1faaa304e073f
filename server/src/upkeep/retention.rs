//! Retention: forgets guests whom nobody has come back as.
//!
//! Only those go that can't come back by themselves, for they have no grant left: no request races with that, and no app in
//! use is logged out. It needs no entry in the journal, since after a restore the next walk does it again; and no tombstone, but
//! for a guest whose id follows from an earlier one's token, or it would be made again.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use guestpass_core::event::EventType;
use guestpass_core::time::Timestamp;

use super::{Cleaner, Position, Step, WRITES_AT_ONCE};
use crate::store::{IdleBefore, IdleGuest, REMOVED_AT_ONCE, Tombstone, Unavailable, Write};

impl Cleaner {
    /// Looks at one part of all guests, and forgets those of it that haven't come back. `parts` may be looked at before it is
    /// time for the grants again.
    pub(super) async fn forget_guests(
        &mut self,
        parts: u32,
        now: Timestamp,
    ) -> Result<Step, Unavailable> {
        let before = self.keep.guests.before(now);
        let after = self.guests_after;
        let part = self.app.upkeep.scan_guests(after, before, GUESTS).await?;
        let (mut idle, mut next) = (part.idle, part.next);
        let tells = self.app.recorder.records();
        if tells && self.has_receiver && !idle.is_empty() {
            let counts = self.app.events.count_events(MOST_WAITING).await?;
            if counts.waiting >= MOST_WAITING as u64 {
                self.position = Position::START;
                return Ok(Step::ReceiverBehind);
            }
        }
        if tells && idle.len() > REMOVED_AT_ONCE {
            idle.truncate(REMOVED_AT_ONCE);
            next = idle.last().map(|last| last.id);
        }
        self.forget(&idle, before, now).await?;
        self.guests_after = next;
        self.position = match parts {
            2.. if next.is_some() => Position::Guests(parts - 1),
            _ => Position::START,
        };
        let guests = idle.len();
        Ok(match next {
            Some(_) => Step::Forgot { guests },
            None => Step::Finished { removed: 0 },
        })
    }

    async fn forget(
        &self,
        idle: &[IdleGuest],
        before: IdleBefore,
        now: Timestamp,
    ) -> Result<(), Unavailable> {
        let keys = Arc::clone(&self.app.keys.now());
        for guest in idle.iter().filter(|guest| guest.id.is_of_successor()) {
            let hash = keys.tombstone(guest.id);
            let tombstone = Write::InsertTombstone(Tombstone { hash, at: now });
            self.app.grants.write(tombstone).await?;
        }
        let stamped = |guest: &IdleGuest| (guest.id, self.app.recorder.stamp());
        let writes: Vec<_> = idle
            .chunks(REMOVED_AT_ONCE)
            .map(|some| Write::ForgetGuests(some.iter().map(stamped).collect(), before))
            .map(|write| self.app.grants.write(write))
            .collect();
        stream::iter(writes)
            .buffer_unordered(WRITES_AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        for guest in idle {
            self.app.metrics.events.count_forgotten(guest.is_linked);
            self.app.count_recorded(EventType::GuestErased);
        }
        Ok(())
    }
}

/// The guests that are looked at in one step.
const GUESTS: usize = 500;

/// The events that may wait for the receiver before guests are forgotten, each of whom is one more.
const MOST_WAITING: usize = 10_000;
