//! Ends guests and links beside a server that may run: in the journal first, then in the store, as the server does it.

use std::sync::Arc;

use guestpass_core::customer::Link;
use guestpass_core::event::{ErasureReason, UnlinkedBy};
use guestpass_core::profile::ProfileId;

use super::Failure;
use super::database::Opened;
use super::master_key::open_keys;
use crate::config::Config;
use crate::events::EventRecorder;
use crate::journal::{Entry, Journal};
use crate::keys::Keys;
use crate::links;
use crate::restore::agreement;
use crate::store::{Outcome, Store, Tombstone, Unavailable, Write};

/// The store with its journal, and the keys of tombstones.
pub(super) struct JournaledStore<'a> {
    config: &'a Config,
    opened: &'a Opened,
    keys: Arc<Keys>,
    recorder: EventRecorder,
    journal: Journal,
}

impl<'a> JournaledStore<'a> {
    pub(super) async fn open(config: &'a Config, opened: &'a Opened) -> Result<Self, Failure> {
        // The server may have a configuration that this command wasn't given.
        let records = config.events.recorded || opened.store.records_events().await?;
        Ok(Self {
            config,
            opened,
            keys: Arc::clone(&open_keys(config, opened).await?.now()),
            recorder: opened.recorder(records),
            journal: journal_of(config, &*opened.store).await?,
        })
    }

    /// Erases a guest as `App::erase` does. A request that is under way may leave a grant without its guest behind, which the
    /// cleaner removes.
    pub(super) async fn erase(
        &self,
        guest: ProfileId,
        reason: ErasureReason,
    ) -> Result<(), Failure> {
        let tombstone = self.tombstone(self.keys.tombstone(guest));
        self.note(Entry::GuestErased(tombstone)).await?;
        let event = self.recorder.stamp().map(|stamp| (stamp, reason));
        let erase = Write::EraseGuest(guest, tombstone, event);
        let erased = self.opened.store.write(erase).await;
        erased
            .map(drop)
            .map_err(|error| self.unfinished(&format!("the erasure of {guest}"), &error))
    }

    /// Undoes the link of a guest to a customer, and returns whether there was one.
    pub(super) async fn unlink(&self, guest: ProfileId, link: &Link) -> Result<bool, Failure> {
        let mut tombstone = self.tombstone(self.keys.tombstone_of_link(guest, &link.customer));
        // A node whose clock was ahead may have made it.
        tombstone.at = tombstone.at.max(link.at);
        self.note(Entry::LinkUndone(tombstone)).await?;
        let (store, by) = (&*self.opened.store, UnlinkedBy::Operator);
        let undone = links::undo(store, &self.keys, &self.recorder, guest, tombstone, by).await;
        undone
            .map(|outcome| outcome == Outcome::Done)
            .map_err(|error| self.unfinished(&format!("the end of the link of {guest}"), &error))
    }

    fn tombstone(&self, hash: [u8; 16]) -> Tombstone {
        let at = self.opened.clock.now();
        Tombstone { hash, at }
    }

    async fn note(&self, entry: Entry) -> Result<(), Failure> {
        // A start carries out what the journal says, so nothing gets into it that the store can't be told now.
        self.opened.store.write(Write::Probe).await?;
        self.journal.append(entry).await?;
        Ok(())
    }

    fn unfinished(&self, what: &str, Unavailable(problem): &Unavailable) -> Failure {
        Failure(format!(
            "{what} stands in the journal, but {} couldn't be written: {problem}. Run the same command again once it can; if you \
             don't, the next start of the server carries it out",
            self.config.database
        ))
    }
}

/// Opens the journal that this database is served with. In any other, what ends would not be repeated after a restore.
async fn journal_of(config: &Config, store: &dyn Store) -> Result<Journal, Failure> {
    if agreement(store, &config.journal).await?.mark.is_some() {
        return Ok(Journal::open(&config.journal)?);
    }
    Err(Failure(format!(
        "{} is not the journal that this database was last served with, so a restored backup could bring back what ends now. \
         Give the server's configuration with --config; or if the database or the journal was restored or moved, start \
         `guestpass serve` first",
        config.journal.display()
    )))
}
