//! Repairing after a restore: carrying out again what the journal says and the database has lost.

use std::collections::HashMap;
use std::fmt;

use guestpass_core::time::Timestamp;

use crate::config::Config;
use crate::journal::{Entry, Journal, JournalError};
use crate::keys::Keys;
use crate::random::Random;
use crate::store::{Grants, Outcome, RevokedList, Store, Unavailable, Write};

/// Replays the journal if the database has lost something of it, then compacts and opens it.
///
/// # Errors
/// [`RestoreError`] if either can't be read or written. A retry starts over and repeats no harm.
pub async fn open_journal(
    config: &Config,
    store: &dyn Store,
    keys: &Keys,
    now: Timestamp,
) -> Result<Journal, RestoreError> {
    let since_last_mark = Journal::since_last_mark(&config.journal)?;
    if has_lost(store, &since_last_mark, now).await? {
        tracing::warn!(
            journal = %config.journal.display(),
            "the database lacks what the journal says, as after a restore: erasures and revocations are repeated"
        );
        let entries = Journal::read(&config.journal)?;
        let guests = |guests| tracing::info!(guests, "looked for erased guests");
        let done = replay(store, &entries, keys, guests).await?;
        tracing::warn!(
            grants = done.grants,
            access_tokens = done.access_tokens,
            guests = done.guests,
            "erasures and revocations were repeated"
        );
    } else if let Some(last) = store.last_mark(&config.node).await?
        && !since_last_mark.contains(&Entry::Mark(last))
    {
        tracing::error!(
            journal = %config.journal.display(),
            "this is not the journal that the database was last served with, or not all of it. After a restore, what it \
             lacks would not be repeated. If there is another, stop, put it in this place and start again"
        );
    }
    Journal::compact(&config.journal, config.keep_tombstones, now)?;
    Ok(Journal::open(&config.journal)?)
}

/// Says which of the two, journal or database, can't be used.
#[derive(Debug)]
pub enum RestoreError {
    /// The journal.
    Journal(JournalError),
    /// The database.
    Unavailable(Unavailable),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            Self::Unavailable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<JournalError> for RestoreError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<Unavailable> for RestoreError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

/// Counts what a replay has carried out again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Replayed {
    /// Grants that were alive again.
    pub grants: u64,
    /// Access tokens whose revocation was missing.
    pub access_tokens: u64,
    /// Guests who were there again.
    pub guests: u64,
}

/// Decides whether the store has gone back in time: it lacks the last mark of the journal, or something that follows it
/// ([`Journal::since_last_mark`]).
///
/// # Errors
/// [`Unavailable`] if the store can't answer.
pub async fn has_lost(
    store: &dyn Store,
    journal: &[Entry],
    now: Timestamp,
) -> Result<bool, Unavailable> {
    for entry in journal {
        let is_known = match entry {
            Entry::Mark(mark) => store.has_mark(*mark).await?,
            // One that isn't there any more was never there in a store that went back.
            Entry::GrantRevoked(grant, _) => {
                let id = grant.to_bytes();
                store.is_revoked(RevokedList::Grants, id).await?
            }
            // Forgotten, rather than missing.
            Entry::AccessTokenRevoked(token) if token.expires_at <= now => true,
            Entry::AccessTokenRevoked(token) => {
                let list = RevokedList::AccessTokens;
                store.is_revoked(list, token.id).await?
            }
            Entry::GuestErased(tombstone) => {
                let list = RevokedList::Guests;
                store.is_revoked(list, tombstone.hash).await?
            }
        };
        if !is_known {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes one new mark to a node's journal and to the store, which agree now.
///
/// # Errors
/// [`Unavailable`] if either can't be written.
pub async fn mark(
    store: &dyn Grants,
    journal: &Journal,
    node: &str,
    random: &dyn Random,
    now: Timestamp,
) -> Result<(), Unavailable> {
    let mark = random.bytes();
    journal.append(Entry::Mark(mark)).await?;
    let write = Write::InsertMark(node.to_owned(), mark, now);
    store.write(write).await.map(drop)
}

/// Replays the journal: carries out again what the store lacks. `progress` is called with the number of guests looked
/// at.
///
/// A replay that is cut off leaves the store visibly behind, since a tombstone is written only when its guest is gone.
///
/// # Errors
/// [`Unavailable`] if the store can't answer. A retry starts over: every step is idempotent.
pub async fn replay(
    store: &dyn Store,
    journal: &[Entry],
    keys: &Keys,
    progress: impl Fn(u64),
) -> Result<Replayed, Unavailable> {
    let mut done = Replayed::default();
    let mut erased = HashMap::new();
    for entry in journal {
        match entry {
            Entry::GrantRevoked(grant, revocation) => {
                let write = Write::RevokeGrant(*grant, *revocation);
                if store.write(write).await? == Outcome::Done {
                    done.grants += 1;
                }
            }
            Entry::AccessTokenRevoked(token) => {
                if !store
                    .is_revoked(RevokedList::AccessTokens, token.id)
                    .await?
                {
                    store.write(Write::RevokeAccessToken(*token)).await?;
                    done.access_tokens += 1;
                }
            }
            Entry::Mark(_) => {}
            Entry::GuestErased(tombstone) => {
                erased.insert(tombstone.hash, *tombstone);
            }
        }
    }
    let (mut after, mut seen) = (None, 0);
    while !erased.is_empty() {
        let part = store.profiles(after, PART).await?;
        for profile in &part {
            if let Some(tombstone) = erased.get(&keys.tombstone(profile.id)) {
                let write = Write::EraseGuest(profile.id, *tombstone);
                store.write(write).await?;
                done.guests += 1;
            }
        }
        seen += part.len() as u64;
        progress(seen);
        match part.last() {
            Some(last) if part.len() == PART => after = Some(last.id),
            _ => break,
        }
    }
    for tombstone in erased.into_values() {
        store.write(Write::InsertTombstone(tombstone)).await?;
    }
    Ok(done)
}

/// The guests that are looked at between two reports of progress.
const PART: usize = 1000;
