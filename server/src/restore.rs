//! Carrying out again what the journal says and the database has lost: after a crash a little, after a restore perhaps
//! much.
//!
//! Marks say where the two agree: all that the journal says before a mark is in a database that has the mark. So only
//! what follows the last of them is looked at ([`agreement`], [`catch_up`]), and marks are made while the server runs
//! (`marks.rs`).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use guestpass_core::event::{ErasureReason, UnlinkedBy};
use guestpass_core::grant::{GrantId, Revocation};
use guestpass_core::time::Timestamp;

use crate::cli::rfc3339;
use crate::config::Config;
use crate::events::EventRecorder;
use crate::journal::{Entry, Journal, JournalError, Mark};
use crate::keys::Keys;
use crate::links;
use crate::progress::Progress;
use crate::store::{
    Outcome, RevokedAccessToken, RevokedId, RevokedList, Store, Tombstone, Unavailable, Write,
};

/// The place up to which a database has what a journal says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Agreement {
    /// The position in the journal behind the last mark that the database has; its beginning if it has none of them.
    pub position: u64,
    /// The mark itself.
    pub mark: Option<Mark>,
    /// The journal has a mark that some database has had.
    pub is_marked: bool,
    /// A later mark was in the database once, and is not there any more: it went back in time.
    pub went_back: bool,
}

/// Finds the last mark of a journal that the database has.
///
/// # Errors
/// [`RestoreError`] if either can't be read.
pub async fn agreement(store: &dyn Store, journal: &Path) -> Result<Agreement, RestoreError> {
    let mut agreement = Agreement::default();
    let mut stored = HashSet::new();
    for entry in Journal::entries_from_end(journal)? {
        match entry? {
            (_, Entry::MarkStored(id)) => {
                agreement.is_marked = true;
                stored.insert(id);
            }
            (position, Entry::Mark(mark)) => {
                if store.has_mark(mark.id).await? {
                    (agreement.position, agreement.mark) = (position, Some(mark));
                    break;
                }
                agreement.went_back |= stored.remove(&mark.id);
            }
            _ => {}
        }
    }
    Ok(agreement)
}

/// Returns whether the database lacks something that the journal says.
///
/// # Errors
/// [`RestoreError`] if either can't be read.
pub async fn has_lost(store: &dyn Store, journal: &Path) -> Result<bool, RestoreError> {
    let agreement = agreement(store, journal).await?;
    if agreement.went_back || (agreement.is_marked && agreement.mark.is_none()) {
        return Ok(true);
    }
    let mut entries = Journal::entries(journal, agreement.position)?;
    loop {
        let part = Part::read(&mut entries)?;
        if part.entries == 0 {
            return Ok(false);
        }
        let lacks = |list, ids: Vec<RevokedId>| async move {
            Ok::<_, Unavailable>(!store.not_revoked(list, ids).await?.is_empty())
        };
        if lacks(RevokedList::Grants, part.grants.into_keys().collect()).await?
            || lacks(RevokedList::AccessTokens, part.tokens.into_keys().collect()).await?
            || lacks(RevokedList::Guests, part.tombstones.into_keys().collect()).await?
            || !not_undone(store, &part.undone).await?.is_empty()
        {
            return Ok(true);
        }
    }
}

/// Carries out what the journal says and the database has lost, then compacts and opens it. Returns it with the time at
/// which the database had last gone back, if access tokens of before that may still be valid.
///
/// # Errors
/// [`RestoreError`] if either can't be read or written. A retry starts over and repeats no harm.
pub async fn open_journal(
    config: &Config,
    store: &dyn Store,
    keys: &Keys,
    recorder: &EventRecorder,
    now: Timestamp,
) -> Result<(Journal, Option<Timestamp>), RestoreError> {
    let agreement = agreement(store, &config.journal).await?;
    let path = config.journal.display();
    let is_foreign = agreement.is_marked && agreement.mark.is_none();
    let went_back = agreement.went_back || is_foreign;
    if let (true, Some(mark)) = (went_back, agreement.mark) {
        tracing::error!(
            journal = %path,
            "the database lacks what it once had, as after a restore: it is as it was at {}. Guests who came since are \
             missing. Erasures and revocations are repeated from the journal",
            rfc3339(mark.at)
        );
    }
    let last = store.last_mark(&config.node).await?;
    let is_last = |last| agreement.mark.is_some_and(|mark| mark.id == last);
    if is_foreign || last.is_some_and(|last| !is_last(last)) {
        tracing::error!(
            journal = %path,
            "this is not the journal that the database was last served with, or not all of it. After a restore, what it \
             lacks would not be repeated. If there is another, stop, put it in this place and start again"
        );
    }
    let done = catch_up(store, &config.journal, agreement.position, keys, recorder).await?;
    let has_lost = done.lost_grants > 0 || done.lost_guests > 0;
    if let (true, false, Some(mark)) = (has_lost, went_back, agreement.mark) {
        tracing::error!(
            journal = %path,
            grants = done.lost_grants,
            erased_guests = done.lost_guests,
            "the database lacks what the journal says there was, as after a restore. Guests who came since {} may be missing",
            rfc3339(mark.at)
        );
    }
    if went_back {
        tracing::warn!(
            journal = %path,
            entries = done.entries,
            grants = done.grants,
            access_tokens = done.access_tokens,
            guests = done.guests,
            links = done.links,
            "erasures and revocations were repeated, and links undone again"
        );
    } else if done.entries > 0 {
        tracing::info!(
            journal = %path,
            entries = done.entries,
            grants = done.grants,
            access_tokens = done.access_tokens,
            guests = done.guests,
            links = done.links,
            "looked at the end of the journal, and carried out what the database lacked of it"
        );
    }
    // What a clock that was set ahead takes for old may be needed, so it is the earlier of two clocks that counts.
    let then = agreement.mark.map_or(now, |mark| mark.at.min(now));
    if let Some(problem) = Journal::compact(&config.journal, config.keep.tombstones, then)? {
        tracing::warn!(
            journal = %path,
            problem,
            "the journal is longer than it need be, and can't be replaced by a shorter one, so it stays as it is"
        );
    }
    let went_back_at = match went_back || has_lost {
        true => Some(now),
        false => agreement.mark.and_then(|mark| mark.went_back_at),
    };
    let lifetime = keys.longest_access_ttl();
    let went_back_at = went_back_at.filter(|at| *at + lifetime > now);
    Ok((Journal::open(&config.journal)?, went_back_at))
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

/// Counts what was looked at, and what of it was carried out again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CaughtUp {
    /// Entries of the journal that were looked at.
    pub entries: u64,
    /// Grants that were alive again.
    pub grants: u64,
    /// Access tokens whose revocation was missing.
    pub access_tokens: u64,
    /// Guests who were there again.
    pub guests: u64,
    /// Links that had been undone and were there again.
    pub links: u64,
    /// Revoked grants that have no row, and whose guests weren't erased: the database has lost them.
    pub lost_grants: u64,
    /// Erased guests who aren't there, nor what is left of one: the database has lost them before they were erased.
    pub lost_guests: u64,
}

/// Carries out what the journal says from `position` on and the store lacks.
///
/// One that is cut off leaves the store visibly behind, since a tombstone is written only when its guest is gone.
///
/// # Errors
/// [`RestoreError`] if either can't be read or written. A retry starts over: every step is idempotent.
pub async fn catch_up(
    store: &dyn Store,
    journal: &Path,
    position: u64,
    keys: &Keys,
    recorder: &EventRecorder,
) -> Result<CaughtUp, RestoreError> {
    let mut work = CatchingUp {
        store,
        keys,
        recorder,
        progress: Progress::new("the journal is being compared with the database"),
        done: CaughtUp::default(),
        erased: HashMap::new(),
        undone: HashMap::new(),
    };
    let mut entries = Journal::entries(journal, position)?;
    loop {
        let part = Part::read(&mut entries)?;
        if part.entries == 0 {
            break;
        }
        work.carry_out(part).await?;
    }
    work.look_at_guests().await?;
    Ok(work.done)
}

/// Some entries, by what they are about.
#[derive(Default)]
struct Part {
    entries: u64,
    grants: HashMap<RevokedId, (GrantId, Revocation)>,
    tokens: HashMap<RevokedId, RevokedAccessToken>,
    tombstones: HashMap<RevokedId, Tombstone>,
    undone: HashMap<RevokedId, Tombstone>,
}

impl Part {
    /// Reads the next entries; none at the end.
    fn read(
        entries: &mut impl Iterator<Item = Result<Entry, JournalError>>,
    ) -> Result<Self, JournalError> {
        let mut part = Self::default();
        for entry in entries.take(LOOKED_UP_AT_ONCE) {
            part.entries += 1;
            match entry? {
                Entry::GrantRevoked(id, revocation) => {
                    // The first one stands.
                    part.grants.entry(id.to_bytes()).or_insert((id, revocation));
                }
                Entry::AccessTokenRevoked(token) => {
                    part.tokens.insert(token.id, token);
                }
                Entry::GuestErased(tombstone) => {
                    part.tombstones.insert(tombstone.hash, tombstone);
                }
                Entry::LinkUndone(tombstone) => {
                    keep_latest(&mut part.undone, tombstone);
                }
                Entry::Mark(_) | Entry::MarkStored(_) => {}
            }
        }
        Ok(part)
    }
}

/// Keeps the latest end of a link, which may have been made anew after an earlier one. It needn't come last: the clocks of
/// nodes differ.
fn keep_latest(undone: &mut HashMap<RevokedId, Tombstone>, tombstone: Tombstone) {
    let kept = undone.entry(tombstone.hash).or_insert(tombstone);
    kept.at = kept.at.max(tombstone.at);
}

/// Returns those of these links of which the store doesn't know, or not as late, that they were undone.
async fn not_undone(
    store: &dyn Store,
    undone: &HashMap<RevokedId, Tombstone>,
) -> Result<Vec<Tombstone>, Unavailable> {
    if undone.is_empty() {
        return Ok(Vec::new());
    }
    let known = store.tombstones(undone.keys().copied().collect()).await?;
    let known: HashMap<_, _> = known.iter().map(|known| (known.hash, known.at)).collect();
    let is_missing = |tombstone: &&Tombstone| known.get(&tombstone.hash) < Some(&tombstone.at);
    Ok(undone.values().filter(is_missing).copied().collect())
}

/// The entries that are looked up at once, and the guests.
const LOOKED_UP_AT_ONCE: usize = 1000;

/// The erased guests and undone links that are looked for at once among all guests: some 16 MiB.
const LOOKED_FOR_AT_ONCE: usize = 200_000;

/// The writes that are under way at once, so that they form batches: far fewer than the queue of the store holds.
const AT_ONCE: usize = 128;

struct CatchingUp<'a> {
    store: &'a dyn Store,
    keys: &'a Keys,
    recorder: &'a EventRecorder,
    progress: Progress,
    done: CaughtUp,
    /// Erased guests whose tombstone is missing.
    erased: HashMap<RevokedId, Tombstone>,
    /// Undone links whose tombstone is missing.
    undone: HashMap<RevokedId, Tombstone>,
}

impl CatchingUp<'_> {
    async fn carry_out(&mut self, part: Part) -> Result<(), Unavailable> {
        self.done.entries += part.entries;
        self.done.lost_grants += self.lost(&part).await?;
        let missing = self.missing(RevokedList::Grants, &part.grants).await?;
        let writes = missing
            .into_iter()
            .map(|(id, revocation)| Write::RevokeGrant(id, revocation, self.recorder.stamp()));
        self.done.grants += self.write_all(writes).await?;
        let missing = self
            .missing(RevokedList::AccessTokens, &part.tokens)
            .await?;
        let writes = missing.into_iter().map(Write::RevokeAccessToken);
        self.done.access_tokens += self.write_all(writes).await?;
        let missing = self.missing(RevokedList::Guests, &part.tombstones).await?;
        let missing = missing.into_iter();
        self.erased
            .extend(missing.map(|tombstone| (tombstone.hash, tombstone)));
        let missing = not_undone(self.store, &part.undone).await?.into_iter();
        missing.for_each(|tombstone| keep_latest(&mut self.undone, tombstone));
        if self.erased.len() + self.undone.len() >= LOOKED_FOR_AT_ONCE {
            self.look_at_guests().await?;
        }
        self.progress.at(self.done.entries, "entries");
        Ok(())
    }

    /// Counts the grants that the store has lost.
    async fn lost(&self, part: &Part) -> Result<u64, Unavailable> {
        if part.grants.is_empty() {
            return Ok(0);
        }
        let ids = part.grants.keys().copied().collect();
        let gone = self.store.missing_grants(ids).await?;
        let gone = gone.iter().filter_map(|id| part.grants.get(id));
        let guests = gone.map(|(grant, _)| self.keys.tombstone(grant.profile));
        // One who erases itself takes its grants along.
        let lost = guests.filter(|hash| !part.tombstones.contains_key(hash));
        let lost = lost.collect::<Vec<_>>();
        let list = RevokedList::Guests;
        Ok(self.store.not_revoked(list, lost).await?.len() as u64)
    }

    /// Returns what the store lacks of these.
    async fn missing<T: Copy>(
        &self,
        list: RevokedList,
        wanted: &HashMap<RevokedId, T>,
    ) -> Result<Vec<T>, Unavailable> {
        let ids = match wanted.is_empty() {
            true => Vec::new(),
            false => {
                let ids = wanted.keys().copied().collect();
                self.store.not_revoked(list, ids).await?
            }
        };
        Ok(ids
            .iter()
            .filter_map(|id| wanted.get(id).copied())
            .collect())
    }

    /// Returns the number of writes that have changed something.
    async fn write_all(&self, writes: impl Iterator<Item = Write>) -> Result<u64, Unavailable> {
        stream::iter(writes)
            .map(|write| self.store.write(write))
            .buffer_unordered(AT_ONCE)
            .try_fold(0, async |done, outcome| {
                Ok(done + u64::from(outcome == Outcome::Done))
            })
            .await
    }

    /// Looks for the erased guests among all guests, and erases those who are there; and for those who are linked again, and
    /// unlinks them.
    async fn look_at_guests(&mut self) -> Result<(), Unavailable> {
        let (mut after, mut seen) = (None, 0);
        while !self.erased.is_empty() || !self.undone.is_empty() {
            let part = self.store.profiles(after, LOOKED_UP_AT_ONCE).await?;
            for profile in &part {
                let hash = self.keys.tombstone(profile.id);
                if let Some(tombstone) = self.erased.get(&hash) {
                    let stamp = self.recorder.stamp();
                    let event = stamp.map(|stamp| (stamp, ErasureReason::Restore));
                    let write = Write::EraseGuest(profile.id, *tombstone, event);
                    self.store.write(write).await?;
                    self.erased.remove(&hash);
                    self.done.guests += 1;
                } else if let Some(link) = &profile.link {
                    let hash = self.keys.tombstone_of_link(profile.id, &link.customer);
                    if let Some(tombstone) = self.undone.remove(&hash) {
                        let (recorder, by) = (self.recorder, UnlinkedBy::Restore);
                        let outcome =
                            links::undo(self.store, self.keys, recorder, profile.id, tombstone, by);
                        self.done.links += u64::from(outcome.await? == Outcome::Done);
                    }
                } else if profile.version > 0 && !self.undone.is_empty() {
                    // Perhaps unlinked already, and its grants not told.
                    if let Some(guest) = self.store.profile(profile.id).await? {
                        links::mend_copies(self.store, &guest).await?;
                    }
                }
            }
            seen += part.len() as u64;
            self.progress
                .at(seen, "guests, for those that were erased or unlinked");
            match part.last() {
                Some(last) if part.len() == LOOKED_UP_AT_ONCE => after = Some(last.id),
                _ => break,
            }
        }
        let gone = std::mem::take(&mut self.erased);
        self.done.lost_guests += gone.len() as u64;
        let unlinked = std::mem::take(&mut self.undone);
        let tombstones = gone.into_values().chain(unlinked.into_values());
        self.write_all(tombstones.map(Write::InsertTombstone))
            .await
            .map(drop)
    }
}
