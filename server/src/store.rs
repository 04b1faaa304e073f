//! The contract with the database: everything that Guestpass asks of one, in terms of what it keeps.
//!
//! No transaction shows here. Each call is atomic and, when it has answered, durable; whoever calls has nothing to hold
//! or to roll back. The same cases run against every implementation (`tests/it/store_contract.rs`).

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use guestpass_core::client::{ApiKey, ApiKeyId, Client, ClientId, Origin};
use guestpass_core::grant::{Grant, GrantId};
use guestpass_core::policy::{Choice, Policy, PolicyError, PolicyOverrides};
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

pub mod postgres;
mod redemption;
mod schema;
pub mod sqlite;
pub mod transfer;
pub mod writes;

pub use redemption::{Proof, Redeemed, Redemption};
pub use schema::{Migration, SchemaError};
pub use transfer::Transfer;
pub use writes::{Batches, Outcome, RevokedAccessToken, Tombstone, Write};

/// What an asynchronous call of an object-safe trait returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store, by all its contracts.
pub trait Store: Grants + Revoked + Registry + Upkeep + Transfer {
    /// What is measured of the writes.
    fn batches(&self) -> &Batches;
}

/// The hot path: what a request from a guest reads and writes.
pub trait Grants: Send + Sync {
    /// Reads one grant, as of some moment after the call.
    fn load(&self, id: GrantId) -> BoxFuture<'_, Result<Option<Grant>, Unavailable>>;

    /// Carries out one write. After an error its outcome is unknown: it may or may not have happened.
    fn write(&self, write: Write) -> BoxFuture<'_, Result<Outcome, Unavailable>>;

    /// Reads a grant, decides on it and, if it is to advance, writes that, with nobody else's write between the two. `None`
    /// if the grant is gone.
    fn redeem(
        &self,
        redemption: Redemption,
    ) -> BoxFuture<'_, Result<Option<Redeemed>, Unavailable>>;

    /// An error if so much waits that no redemption would be taken now. To be asked before a credential is looked at: when
    /// there is too much to do, what is refused shall cost little.
    fn check_room(&self) -> Result<(), Unavailable>;
}

/// What ended before its time, for every node to follow.
pub trait Revoked: Send + Sync {
    /// Up to `limit` entries of a list behind `after`, in the order of their times and ids.
    fn revoked_after(
        &self,
        list: RevokedList,
        after: (Timestamp, RevokedId),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RevokedId)>, Unavailable>>;

    /// Whether that id stands in the list; for a grant, also whether its row is gone.
    fn is_revoked(
        &self,
        list: RevokedList,
        id: RevokedId,
    ) -> BoxFuture<'_, Result<bool, Unavailable>>;
}

/// A grant's id, the `jti` of an access token, or the hash of a tombstone.
pub type RevokedId = [u8; 16];

/// The lists of what ended before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevokedList {
    /// Revoked grants, by id.
    Grants,
    /// Revoked access tokens, by `jti`.
    AccessTokens,
    /// Erased guests, by the hash of their tombstone.
    Guests,
}

impl RevokedList {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Grants, Self::AccessTokens, Self::Guests];
}

/// What operators change and every node caches: clients, and the keys of the installation.
pub trait Registry: Send + Sync {
    /// A number that moves with every change to clients or keys.
    fn revision(&self) -> BoxFuture<'_, Result<i64, Unavailable>>;

    /// Every client, and the revision that this list is of.
    fn clients(&self) -> BoxFuture<'_, Result<(i64, Vec<Client>), Unavailable>>;

    /// Changes a client, whole or not at all.
    fn change(&self, change: Change) -> BoxFuture<'_, Result<(), ChangeError>>;

    /// The installation and its keys.
    fn installation(&self) -> BoxFuture<'_, Result<Installation, Unavailable>>;

    /// Gives an installation without keys its first ones. `false`, and nothing changed, if it has some.
    fn insert_first_keys(
        &self,
        master_key_check: [u8; 32],
        keys: Vec<WrappedKey>,
    ) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Changes the keys, all or nothing. `false`, and nothing changed, if one of the changes doesn't fit any more.
    fn change_keys(&self, changes: Vec<KeyChange>) -> BoxFuture<'_, Result<bool, Unavailable>>;
}

/// What keeps a store in order, and what operators ask of it.
pub trait Upkeep: Send + Sync {
    /// Looks at up to `limit` grants behind `after`, in the order of their keys, and says which had ended before
    /// `ended_before`. Removing them is [`Write::RemoveEnded`].
    fn ended_grants(
        &self,
        after: Option<GrantId>,
        ended_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<EndedGrants, Unavailable>>;

    /// A guest and all grants of it.
    fn profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Guest>, Unavailable>>;

    /// Up to `limit` guests behind `after`, in the order of their ids.
    fn profiles(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>>;

    /// How many grants are alive whose outstanding credential was issued before that time. Reads every grant.
    fn live_grants_idle_since(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, Unavailable>>;

    /// The last mark of that node's journal.
    fn last_mark<'a>(
        &'a self,
        node: &'a str,
    ) -> BoxFuture<'a, Result<Option<[u8; 16]>, Unavailable>>;

    /// Whether the store has that mark.
    fn has_mark(&self, mark: [u8; 16]) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Checks the files from end to end and counts what they hold.
    fn check(&self) -> BoxFuture<'_, Result<CheckReport, Unavailable>>;
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

/// A change to the clients.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new client. Its number is drawn by the store and never reused.
    AddClient {
        /// The public id, not yet taken.
        id: ClientId,
        /// What else it is.
        settings: ClientSettings,
        /// Its first key, if any.
        api_key: Option<ApiKey>,
        /// The time of creation.
        now: Timestamp,
    },
    /// New settings for a client.
    SetClient {
        /// The client.
        id: ClientId,
        /// Only what is to change.
        settings: ClientSettings,
    },
    /// The client goes, and its grants with it: nothing else has its number, now or ever.
    RemoveClient(ClientId),
    /// One more key for a confidential client.
    AddApiKey(ClientId, ApiKey),
    /// A key of a client ends.
    RevokeApiKey(ClientId, ApiKeyId, Timestamp),
}

/// What is to become of a client's settings; `None` leaves one as it is, or at its default in a new client.
///
/// Whatever they are, a client with `resume_with_jwt` is confidential and has no origins.
#[derive(Clone, Debug, Default)]
pub struct ClientSettings {
    /// Needs an API key.
    pub confidential: Option<bool>,
    /// Answered as if it didn't exist.
    pub disabled: Option<bool>,
    /// A guest's access token may stand for the guest at authorize.
    pub resume_with_jwt: Option<bool>,
    /// Choices to make.
    pub overrides: PolicyOverrides,
    /// Choices to take back, so that the server's default holds again.
    pub unset: Vec<Choice>,
    /// The server's defaults, if what comes of them and the client's choices must be sound.
    pub sound_over: Option<Policy>,
    /// Origins to add; one that is there already is no error.
    pub add_origins: Vec<Origin>,
    /// Origins to remove.
    pub remove_origins: Vec<Origin>,
}

/// Why a change was not made.
#[derive(Debug)]
pub enum ChangeError {
    /// A client has that id already.
    ClientExists,
    /// No client has that id.
    ClientUnknown,
    /// The client is public, so it has no keys.
    ClientPublic,
    /// The client has no such key.
    ApiKeyUnknown,
    /// The client doesn't have an origin that should be removed.
    OriginUnknown(Origin),
    /// The client would have `resume_with_jwt` without being confidential.
    ResumePublic,
    /// The client would have `resume_with_jwt` and a web origin.
    ResumeWithOrigin,
    /// What would hold for the client isn't sound.
    PolicyUnsound(PolicyError),
    /// The store can't answer.
    Unavailable(Unavailable),
}

impl From<Unavailable> for ChangeError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

/// What the store knows of the installation as a whole.
#[derive(Clone, Debug)]
pub struct Installation {
    /// What [`Registry::revision`] was at that moment.
    pub revision: i64,
    /// Random, made with the store.
    pub id: [u8; 16],
    /// Tells whether a master key is the right one. `None` until the first keys are made.
    pub master_key_check: Option<[u8; 32]>,
    /// All keys.
    pub keys: Vec<WrappedKey>,
    /// Whether there is any guest.
    pub has_guests: bool,
}

/// A key as it is stored: wrapped by the master key. It is next until it has become current, and then current until it
/// retires.
#[derive(Clone, Debug)]
pub struct WrappedKey {
    /// Names the key; never reused.
    pub kid: String,
    /// As `keys::KeyUse` names it.
    pub key_use: String,
    /// As `keys::KeyAlgorithm` names it.
    pub algorithm: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it may be used.
    pub usable_at: Timestamp,
    /// Since when it signs or seals.
    pub current_at: Option<Timestamp>,
    /// Since when it only verifies or opens.
    pub retiring_at: Option<Timestamp>,
    /// The longest life of anything that it signed or sealed.
    pub lifetime: Duration,
    /// The wrapped bytes.
    pub sealed: Vec<u8>,
}

/// A change to the keys.
#[derive(Clone, Debug)]
pub enum KeyChange {
    /// A new key, unless its use has one in that state already.
    Insert(WrappedKey),
    /// A next key becomes current, and the current one of the same use retires; the lifetime of a sealing key passes on.
    Promote(String, Timestamp),
    /// A key that isn't current goes.
    Remove(String),
    /// A key is needed for things that live so long, or longer.
    Prolong(String, Duration),
}

/// A guest and all grants of it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The guest.
    pub profile: Profile,
    /// Its grants, the oldest first, ended ones included.
    pub grants: Vec<Grant>,
}

/// A part of the walk over all grants.
#[derive(Debug)]
pub struct EndedGrants {
    /// Those that had ended.
    pub ended: Vec<GrantId>,
    /// Where the next part starts. `None` at the end.
    pub next: Option<GrantId>,
}

/// What a check of the files found.
#[derive(Debug)]
pub struct CheckReport {
    /// What is wrong, in the words of the database; empty if nothing is.
    pub problems: Vec<String>,
    /// How many guests there are.
    pub profiles: u64,
    /// How many grants there are, ended ones included.
    pub grants: u64,
}
