//! The contract with the database: everything that Guestpass asks of one, as six traits.
//!
//! [`Grants`] is the hot path: a request calls [`Grants::redeem`] or [`Grants::write`] and waits until its write is durable;
//! a worker behind a bounded queue carries many out in one transaction (group commit). [`Revoked`] and [`Registry`] are polled
//! by every node, [`Upkeep`] serves the cleaner and the command line, [`Events`] the webhooks,
//! and [`Transfer`] moves whole installations.
//!
//! No transaction shows here. Each call is atomic and, when it has answered, durable; a caller has nothing to hold or to
//! roll back. Two errors matter: [`Unavailable`] says that the database can't answer now, and after a write also that its
//! outcome is unknown. To add a call, add it to a trait, to `store/sqlite.rs` and `store/postgres.rs`, and a case to
//! `tests/it/store_contract.rs`, which runs the same cases against every implementation.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use guestpass_core::client::{Change, ChangeError, Client};
use guestpass_core::customer::CustomerId;
use guestpass_core::grant::{Grant, GrantId};
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

use crate::keys::KeyChange;

mod events;
pub mod postgres;
mod redemption;
mod registry;
mod schema;
pub mod sqlite;
pub mod transfer;
pub mod writes;

pub use events::{Delivery, EventCounts, EventKey, Events, StoredEvent, WhichEvents};
pub use redemption::{Proof, Redeemed, Redemption};
pub use schema::{Migration, SchemaError};
pub use transfer::Transfer;
use transfer::{InstallationRow, Row, Snapshot, Table};
pub use writes::{
    BatchMetrics, EndedBefore, IdleBefore, Lease, Outcome, REMOVED_AT_ONCE, RevokedAccessToken,
    Tombstone, Write,
};

/// The future that an asynchronous call of an object-safe trait returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store, by all its contracts.
pub trait Store: Grants + Revoked + Registry + Upkeep + Events + Transfer {
    /// Returns the metrics of the batches of writes.
    fn batches(&self) -> &BatchMetrics;
}

/// Reads and writes grants: the hot path.
pub trait Grants: Send + Sync {
    /// Reads one grant, as of some moment after the call.
    fn load(&self, id: GrantId) -> BoxFuture<'_, Result<Option<Grant>, Unavailable>>;

    /// Reads one guest, as of some moment after the call.
    fn load_profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Profile>, Unavailable>>;

    /// Carries out one write. After an error its outcome is unknown: it may or may not have happened.
    fn write(&self, write: Write) -> BoxFuture<'_, Result<Outcome, Unavailable>>;

    /// Reads a grant, decides on it and, if it is to advance or a wrong verifier is to be counted, writes that, with nobody
    /// else's write between the two. `None` if the grant is gone.
    fn redeem(
        &self,
        redemption: Redemption,
    ) -> BoxFuture<'_, Result<Option<Redeemed>, Unavailable>>;

    /// Fails if the queue is so full that no redemption would be taken now (load shedding). Asked before a credential is
    /// opened, so that a refusal under overload costs little.
    fn check_room(&self) -> Result<(), Unavailable>;
}

/// Lists what ended before its time, for every node to poll.
pub trait Revoked: Send + Sync {
    /// Returns up to `limit` entries of a list behind `after`, in the order of their times and ids.
    fn revoked_after(
        &self,
        list: RevokedList,
        after: (Timestamp, RevokedId),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RevokedId)>, Unavailable>>;

    /// Tells whether the list holds that id. A grant whose row is gone counts as well.
    fn is_revoked(
        &self,
        list: RevokedList,
        id: RevokedId,
    ) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Returns the place of the first of two entries that its list holds, as [`Revoked::is_revoked`] tells it.
    fn first_revoked(
        &self,
        entries: [(RevokedList, RevokedId); 2],
    ) -> BoxFuture<'_, Result<Option<usize>, Unavailable>>;

    /// Returns those of these ids whose grant has no row.
    fn missing_grants(
        &self,
        ids: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<RevokedId>, Unavailable>>;

    /// Returns those of these tombstones that the store has.
    fn tombstones(
        &self,
        hashes: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<Tombstone>, Unavailable>>;

    /// Returns those of these ids that the list doesn't hold, each counted as in [`Revoked::is_revoked`].
    fn not_revoked(
        &self,
        list: RevokedList,
        ids: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<RevokedId>, Unavailable>>;
}

/// A grant's id, the `jti` of an access token, or the hash of a tombstone.
pub type RevokedId = [u8; 16];

/// The marks that a store keeps of each node, a week of them: a journal that was brought back from a copy is recognised if
/// the copy isn't older.
pub(crate) const KEEP_MARKS: i64 = 10_000;

/// The lists of what ended before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevokedList {
    /// Revoked grants, by id.
    Grants,
    /// Revoked access tokens, by `jti`.
    AccessTokens,
    /// Erased guests, by the hash of their tombstone. Those of links that were undone stand among them, and are no guest's.
    Guests,
}

impl RevokedList {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Grants, Self::AccessTokens, Self::Guests];
}

/// Holds what operators change and every node caches: clients, and the keys of the installation. They are small tables,
/// changed by optimistic concurrency: read with a revision, decided on in pure code, and replaced on condition that the
/// revision is still that one. A backend only reads and replaces; the rest is the same for all, in `store/registry.rs`.
pub trait Registry: Send + Sync {
    /// Returns a number that moves with every change to clients or keys.
    fn revision(&self) -> BoxFuture<'_, Result<i64, Unavailable>>;

    /// Reads whole tables and the row of the installation, all as of one moment.
    fn read_tables(&self, tables: &'static [Table])
    -> BoxFuture<'_, Result<Snapshot, Unavailable>>;

    /// Replaces whole tables, and in the row of the installation the check of the master key and the next client number;
    /// the revision moves. Returns `false`, with nothing changed, if the revision isn't that of `row` any more, or the store
    /// holds the beginning of a copy.
    fn replace_tables(
        &self,
        row: InstallationRow,
        tables: Vec<(Table, Vec<Row>)>,
    ) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Returns every client, by id, and the revision that this list is of.
    fn clients(&self) -> BoxFuture<'_, Result<(i64, Vec<Client>), Unavailable>> {
        Box::pin(registry::clients(self))
    }

    /// Changes a client, whole or not at all.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ChangeFailed>> {
        Box::pin(async move { registry::change(self, &change).await })
    }

    /// Returns the installation and its keys.
    fn installation(&self) -> BoxFuture<'_, Result<Installation, Unavailable>> {
        Box::pin(registry::installation(self))
    }

    /// Gives an installation without keys its first ones. `false`, and nothing changed, if it has some.
    fn insert_first_keys(
        &self,
        master_key_check: [u8; 32],
        keys: Vec<WrappedKey>,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(async move { registry::insert_first_keys(self, master_key_check, &keys).await })
    }

    /// Changes the keys, all or nothing. `false`, and nothing changed, if one of the changes doesn't fit any more.
    fn change_keys(&self, changes: Vec<KeyChange>) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(async move { registry::change_keys(self, &changes).await })
    }
}

/// Serves the cleaner, a start after a restore, and operators.
pub trait Upkeep: Send + Sync {
    /// Looks at up to `limit` grants behind `after`, in the order of their keys, and says which had ended
    /// `before` (removing them is [`Write::RemoveEnded`]), and which lack a copy ([`Write::CopyProfile`]).
    fn scan_grants(
        &self,
        after: Option<GrantId>,
        before: EndedBefore,
        limit: usize,
    ) -> BoxFuture<'_, Result<ScannedGrants, Unavailable>>;

    /// A guest and all grants of it.
    fn profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Guest>, Unavailable>>;

    /// Looks at up to `limit` guests behind `after`, in the order of their ids, and returns those without a grant who were last
    /// here `before` (removing them is [`Write::ForgetGuests`]).
    fn scan_guests(
        &self,
        after: Option<ProfileId>,
        before: IdleBefore,
        limit: usize,
    ) -> BoxFuture<'_, Result<ScannedGuests, Unavailable>>;

    /// Up to `limit` guests behind `after`, in the order of their ids.
    fn profiles(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>>;

    /// The same, but each with the time when it was last here by its grants too, which takes a look at them.
    fn profiles_and_when_seen(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>>;

    /// Up to `limit` guests behind `after` that are linked to that customer, in the order of their ids.
    fn guests_of<'a>(
        &'a self,
        customer: &'a CustomerId,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Profile>, Unavailable>>;

    /// Counts the live grants whose outstanding credential was issued before that time. Reads every grant.
    fn live_grants_idle_since(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, Unavailable>>;

    /// The time at which the installation was last served.
    fn seen(&self) -> BoxFuture<'_, Result<Seen, Unavailable>>;

    /// The last mark of that node's journal, by their numbers.
    fn last_mark<'a>(
        &'a self,
        node: &'a str,
    ) -> BoxFuture<'a, Result<Option<[u8; 16]>, Unavailable>>;

    /// Tells whether the store has that mark.
    fn has_mark(&self, mark: [u8; 16]) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Checks the files from end to end and counts what they hold.
    fn check(&self) -> BoxFuture<'_, Result<CheckReport, Unavailable>>;

    /// Checks that this process may still trust the files that it has open; quick enough to be called twice a second. A
    /// store without files of its own has nothing to check.
    fn check_files(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Gives back the room on the disk that the store holds and could do without.
    fn give_back_room(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits until this process can't go on with the store, however long, and says why: it has to end then.
    fn failure(&self) -> BoxFuture<'_, Unavailable> {
        Box::pin(std::future::pending())
    }
}

/// The database can't answer now: full, locked, broken or shut down. Nothing is wrong with the request.
#[derive(Clone, Debug)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Says why a change to the clients was not made.
#[derive(Debug)]
pub enum ChangeFailed {
    /// It would break a rule.
    Refused(ChangeError),
    /// The store can't answer.
    Unavailable(Unavailable),
}

impl From<ChangeError> for ChangeFailed {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unavailable> for ChangeFailed {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

/// Holds the installation's own row and its keys.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The revision at that moment, as [`Registry::revision`] returns it.
    pub revision: i64,
    /// Random, made with the store.
    pub id: [u8; 16],
    /// Tells whether a master key is the right one. `None` until the first keys are made.
    pub master_key_check: Option<[u8; 32]>,
    /// All keys, the oldest first.
    pub keys: Vec<WrappedKey>,
}

/// Holds a key as it is stored: wrapped by the master key. It is next until it has become current, and then current until it
/// retires.
#[derive(Clone, Debug)]
pub struct WrappedKey {
    /// Names the key; never reused.
    pub kid: String,
    /// As `keys::KeyUse` names it.
    pub key_use: String,
    /// As `keys::KeyAlgorithm` names it.
    pub algorithm: String,
    /// The time at which it was made.
    pub created_at: Timestamp,
    /// The time from which on it may be used.
    pub usable_at: Timestamp,
    /// The time since which it signs or seals.
    pub current_at: Option<Timestamp>,
    /// The time since which it only verifies or opens.
    pub retiring_at: Option<Timestamp>,
    /// The longest life of anything that it signed or sealed.
    pub lifetime: Duration,
    /// The wrapped bytes.
    pub sealed: Vec<u8>,
}

/// A guest and all grants of it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The guest.
    pub profile: Profile,
    /// Its grants, the oldest first, ended ones included.
    pub grants: Vec<Grant>,
}

/// The time at which an installation was last served, as [`Write::NoteTime`] and [`Write::ResetTime`] keep it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// `None` if it never was.
    pub at: Option<Timestamp>,
    /// Moves whenever the time is set.
    pub resets: i64,
}

impl Seen {
    /// Reads the column that holds the time.
    pub(crate) fn known(millis: i64) -> Option<Timestamp> {
        (millis != 0).then(|| Timestamp::from_millis(millis))
    }
}

/// A part of the scan of all grants.
#[derive(Debug)]
pub struct ScannedGrants {
    /// Those that had ended.
    pub ended: Vec<GrantId>,
    /// The guests of others that lack what the shop has said of them ([`Grant::lacks_copy_of`]).
    pub uninformed: Vec<ProfileId>,
    /// The start of the next part. `None` at the end.
    pub next: Option<GrantId>,
}

/// A part of the scan of all guests.
#[derive(Debug)]
pub struct ScannedGuests {
    /// The number of guests that were looked at.
    pub scanned: usize,
    /// Those to be forgotten.
    pub idle: Vec<IdleGuest>,
    /// The start of the next part. `None` at the end.
    pub next: Option<ProfileId>,
}

/// A guest who hasn't come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdleGuest {
    /// The guest.
    pub id: ProfileId,
    /// The time when it was last here.
    pub seen_at: Timestamp,
    /// It is linked to a customer.
    pub is_linked: bool,
}

impl ScannedGuests {
    /// Puts a part of at most `limit` guests together, in the order of their ids, each with whether it is idle.
    pub(crate) fn of(scanned: &[(IdleGuest, bool)], limit: usize) -> Self {
        let idle = scanned.iter().filter(|(_, is_idle)| *is_idle);
        let last = scanned.last().map(|(guest, _)| guest.id);
        Self {
            scanned: scanned.len(),
            idle: idle.map(|(guest, _)| *guest).collect(),
            next: last.filter(|_| scanned.len() >= limit),
        }
    }
}

/// A grant as a scan sees it.
pub(crate) struct ScannedGrant {
    pub(crate) id: GrantId,
    pub(crate) has_ended: bool,
    pub(crate) is_uninformed: bool,
}

impl ScannedGrants {
    /// Sorts a part of at most `limit` grants, in the order of their keys.
    pub(crate) fn of(scanned: &[ScannedGrant], limit: usize) -> Self {
        let ended = scanned.iter().filter(|grant| grant.has_ended);
        let uninformed = scanned
            .iter()
            .filter(|grant| grant.is_uninformed && !grant.has_ended);
        let mut uninformed: Vec<_> = uninformed.map(|grant| grant.id.profile).collect();
        uninformed.dedup();
        Self {
            ended: ended.map(|grant| grant.id).collect(),
            uninformed,
            next: (scanned.len() >= limit)
                .then(|| scanned.last().map(|grant| grant.id))
                .flatten(),
        }
    }
}

/// The result of a check of the files.
#[derive(Debug)]
pub struct CheckReport {
    /// Problems in the words of the database; empty if there is none.
    pub problems: Vec<String>,
    /// The number of guests.
    pub profiles: u64,
    /// The number of grants, ended ones included.
    pub grants: u64,
}
