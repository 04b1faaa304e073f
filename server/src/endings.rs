//! The one path on which something ends: the journal, the store, the revocation filter. What was answered with 503, because
//! one of the first two couldn't be written, waits in a retry queue and is carried out as soon as they can. Otherwise the
//! journal, which may have it, would have the next start carry it out, weeks later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use guestpass_core::client::ClientNumber;
use guestpass_core::event::{ErasureReason, EventType, UnlinkedBy};
use guestpass_core::grant::{GrantId, Revocation};
use guestpass_core::profile::ProfileId;

use crate::app::App;
use crate::journal::Entry;
use crate::links;
use crate::marks::UnderWay;
use crate::store::{
    Outcome, RevokedAccessToken, RevokedId, RevokedList, Tombstone, Unavailable, Write,
};

/// Something that ends, as the journal, the store and the revocation filter are told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// A grant.
    Grant(GrantId, Revocation),
    /// An access token, and nothing else of its grant.
    AccessToken(RevokedAccessToken),
    /// A guest and all that it has.
    Guest(ProfileId, Tombstone),
    /// The link of a guest, whose grant this is, to the customer that the tombstone stands for, undone by that client.
    Link(GrantId, Tombstone, ClientNumber),
}

/// Holds what waits, the oldest first.
#[derive(Default)]
pub(crate) struct RetryQueue(Mutex<VecDeque<Waiting>>);

struct Waiting {
    ending: Ending,
    is_journaled: bool,
    /// No mark is made behind it until the store has it.
    under_way: UnderWay,
}

/// The most that wait. What comes after that is refused before it is journaled, so that it doesn't happen at all.
const MOST: usize = 10_000;

impl Ending {
    const fn entry(self) -> Entry {
        match self {
            Self::Grant(grant, revocation) => Entry::GrantRevoked(grant, revocation),
            Self::AccessToken(token) => Entry::AccessTokenRevoked(token),
            Self::Guest(_, tombstone) => Entry::GuestErased(tombstone),
            Self::Link(_, tombstone, _) => Entry::LinkUndone(tombstone),
        }
    }

    /// Returns the entry of the revocation filter. A link ends no token.
    fn revoked(self) -> Option<(RevokedList, RevokedId)> {
        match self {
            Self::Grant(grant, _) => Some((RevokedList::Grants, grant.to_bytes())),
            Self::AccessToken(token) => Some((RevokedList::AccessTokens, token.id)),
            Self::Guest(_, tombstone) => Some((RevokedList::Guests, tombstone.hash)),
            Self::Link(..) => None,
        }
    }
}

impl RetryQueue {
    fn put(&self, waiting: Waiting) {
        self.lock().push_back(waiting);
    }

    fn take(&self) -> Option<Waiting> {
        self.lock().pop_front()
    }

    fn put_back(&self, waiting: Waiting) {
        self.lock().push_front(waiting);
    }

    /// Returns whether the end of a link of that guest waits.
    pub(crate) fn holds_link_of(&self, guest: ProfileId) -> bool {
        let is_of = |waiting: &Waiting| matches!(waiting.ending, Ending::Link(grant, ..) if grant.profile == guest);
        self.lock().iter().any(is_of)
    }

    fn is_full(&self) -> bool {
        self.lock().len() >= MOST
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Ends something: appends it to the journal, writes it to the store and inserts it into the revocation filter, in
    /// this order, so that a restore can't lose what was answered.
    ///
    /// # Errors
    /// [`Unavailable`] if the journal or the store can't be written. It is then carried out as soon as they can.
    pub(crate) async fn end(&self, ending: Ending) -> Result<Outcome, Unavailable> {
        if self.retries.is_full() {
            return Err(Unavailable("too many revocations wait already".into()));
        }
        let mut waiting = Waiting {
            ending,
            is_journaled: false,
            under_way: self.marks.begin(),
        };
        let ended = self.carry_out(&mut waiting).await;
        match &ended {
            Ok(_) => waiting.under_way.stored(),
            Err(_) => self.retries.put(waiting),
        }
        ended
    }

    async fn carry_out(&self, waiting: &mut Waiting) -> Result<Outcome, Unavailable> {
        let ending = waiting.ending;
        if !waiting.is_journaled {
            self.journal_or_make_room(ending.entry()).await?;
            waiting.is_journaled = true;
        }
        let outcome = self.store_ending(ending).await?;
        if let Some((list, id)) = ending.revoked() {
            self.revocations.insert(list, id);
        }
        Ok(outcome)
    }

    async fn store_ending(&self, ending: Ending) -> Result<Outcome, Unavailable> {
        // The event's time is that of this attempt, however long the ending has waited.
        let stamp = self.recorder.stamp();
        let (outcome, event_type) = match ending {
            Ending::AccessToken(token) => {
                return self.grants.write(Write::RevokeAccessToken(token)).await;
            }
            Ending::Grant(grant, revocation) => {
                let write = Write::RevokeGrant(grant, revocation, stamp);
                (self.grants.write(write).await?, EventType::GrantEnded)
            }
            Ending::Guest(profile, tombstone) => {
                let event = stamp.map(|stamp| (stamp, ErasureReason::Guest));
                let write = Write::EraseGuest(profile, tombstone, event);
                (self.grants.write(write).await?, EventType::GuestErased)
            }
            Ending::Link(grant, tombstone, client) => {
                let keys = Arc::clone(&self.keys.now());
                let by = UnlinkedBy::Client(client);
                let undone = links::undo(
                    &*self.grants,
                    &keys,
                    &self.recorder,
                    grant.profile,
                    tombstone,
                    by,
                );
                (undone.await?, EventType::GuestUnlinked)
            }
        };
        if outcome == Outcome::Done {
            self.count_recorded(event_type);
        }
        Ok(outcome)
    }

    /// Appends to the journal, and once more after the store has given back the room on the disk that it can do
    /// without.
    async fn journal_or_make_room(&self, entry: Entry) -> Result<(), Unavailable> {
        let appended = self.journal.append(entry).await;
        if appended.is_ok() || self.upkeep.give_back_room().await.is_err() {
            return appended;
        }
        self.journal.append(entry).await
    }

    /// Looks after the files of the store, and carries out what was answered with 503, until something can't be written.
    pub async fn tend_storage(self: &Arc<Self>) {
        // A problem is logged where it is found, once.
        let _ = self.upkeep.check_files().await;
        while let Some(mut waiting) = self.retries.take() {
            if self.carry_out(&mut waiting).await.is_err() {
                return self.retries.put_back(waiting);
            }
            let ending = waiting.ending;
            waiting.under_way.stored();
            log_carried_out(ending);
            if let Ending::Guest(profile, tombstone) = ending {
                self.erase_again_later(profile, tombstone.hash);
            }
        }
    }
}

fn log_carried_out(ending: Ending) {
    let (grant, what) = match ending {
        Ending::Grant(grant, _) => (Some(grant), "a grant was revoked"),
        Ending::AccessToken(_) => (None, "an access token was revoked"),
        Ending::Guest(..) => (None, "a guest was erased"),
        Ending::Link(grant, ..) => (Some(grant), "a link to a customer was undone"),
    };
    tracing::warn!(
        target: "guestpass::security",
        { grant.id = grant.map(tracing::field::display), what },
        "a request that was answered with 503 is carried out now, as the journal and the database can be written again"
    );
}
