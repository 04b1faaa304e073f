//! An installation on its way to another store: its tables as rows that every store reads and writes alike.

use guestpass_core::profile::{Profile, ProfileId};

use super::{BoxFuture, Unavailable};

/// Taking in what was kept elsewhere.
///
/// A whole installation comes as a copy. A store that has begun one holds nothing else and nobody may be served from it, so
/// what it holds can be put right at any time until the copy is finished, and never after that.
pub trait Transfer: Send + Sync {
    /// The row of the installation as a whole.
    fn installation_row(&self) -> BoxFuture<'_, Result<InstallationRow, Unavailable>>;

    /// Keeps the issuer of all tokens. `false`, and nothing changed, unless the one before was `from`.
    fn keep_issuer(
        &self,
        from: Option<String>,
        issuer: String,
    ) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Counts the rows of a table.
    fn count(&self, table: Table) -> BoxFuture<'_, Result<u64, Unavailable>>;

    /// Up to `limit` rows of a table behind the key `after`, in the order of their keys.
    fn rows(
        &self,
        table: Table,
        after: Option<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, Unavailable>>;

    /// Begins the copy of that installation, or goes on with it. `false`, and nothing changed, unless the store is new or
    /// holds the beginning of a copy of the same one.
    fn begin_copy(&self, row: InstallationRow) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Puts rows in the place of a part of a table, all or nothing. `false`, and nothing changed, unless a copy is
    /// unfinished.
    fn replace(&self, part: Part) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Finishes the copy: from now on guests may be served. `false` if there is none that is unfinished.
    fn finish_copy(&self) -> BoxFuture<'_, Result<bool, Unavailable>>;

    /// Those of these guests that the store knows.
    fn known_profiles(
        &self,
        ids: Vec<ProfileId>,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>>;

    /// Adds guests that have no grant, linked or not, but for those whose id is taken.
    fn insert_profiles(&self, profiles: Vec<Profile>) -> BoxFuture<'_, Result<(), Unavailable>>;
}

/// The row that belongs to an installation as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstallationRow {
    /// As [`Installation::id`](super::Installation::id).
    pub id: [u8; 16],
    /// As [`Installation::master_key_check`](super::Installation::master_key_check).
    pub master_key_check: Option<[u8; 32]>,
    /// As [`Registry::revision`](super::Registry::revision).
    pub revision: i64,
    /// The number of the client that is added next.
    pub next_client_number: i64,
    /// The issuer of all tokens, once it was set.
    pub issuer: Option<String>,
    /// The store holds only the beginning of a copy.
    pub unfinished_copy: bool,
}

/// The row of an installation, and the rows of the tables that were asked for, in their order: all as of one moment.
pub type Snapshot = (InstallationRow, Vec<Vec<Row>>);

/// The tables of an installation, but for its own row. Those whose rows are few come first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// The clients.
    Clients,
    /// Their choices.
    ClientChoices,
    /// Their keys.
    ApiKeys,
    /// The keys of the installation.
    Keys,
    /// Access tokens that ended before their time.
    RevokedAccessTokens,
    /// The tombstones of erased guests, and of links that were undone.
    Tombstones,
    /// The marks of journals.
    JournalMarks,
    /// The guests.
    Profiles,
    /// Their grants.
    Grants,
    /// Lists what the shop is told of them.
    Events,
}

/// A column: its name and its type.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// The type of a column's values, beside null.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// 64 bits.
    Integer,
    /// 16 bits.
    Small,
    Flag,
    Text,
    Bytes,
}

/// A value in a column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number, or a time in milliseconds.
    Integer(i64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A row: a value for each of [`Table::columns`].
pub type Row = Vec<Value>;

/// The first values of a row, which no other row of its table has.
pub type Key = Vec<Value>;

/// Replaces a range of a table's keys, from behind `after` up to and with `up_to`, by rows.
#[derive(Clone, Debug)]
pub struct Part {
    /// The table.
    pub table: Table,
    /// The key behind which the part begins; `None` is the beginning of the table.
    pub after: Option<Key>,
    /// The last key of the part.
    pub up_to: Option<Key>,
    /// The rows that it is to hold.
    pub rows: Vec<Row>,
}

impl Part {
    /// Makes the part that is a whole table.
    #[must_use]
    pub const fn whole(table: Table, rows: Vec<Row>) -> Self {
        Self {
            table,
            after: None,
            up_to: None,
            rows,
        }
    }
}

impl Column {
    /// As the schema calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Clients,
        Self::ClientChoices,
        Self::ApiKeys,
        Self::Keys,
        Self::RevokedAccessTokens,
        Self::Tombstones,
        Self::JournalMarks,
        Self::Profiles,
        Self::Grants,
        Self::Events,
    ];

    /// As the schema calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::ClientChoices => "client_choices",
            Self::ApiKeys => "api_keys",
            Self::Keys => "keys",
            Self::RevokedAccessTokens => "revoked_access_tokens",
            Self::Tombstones => "tombstones",
            Self::JournalMarks => "journal_marks",
            Self::Profiles => "profiles",
            Self::Grants => "grants",
            Self::Events => "events",
        }
    }

    /// All columns, those of the key first.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Clients => CLIENTS,
            Self::ClientChoices => CLIENT_CHOICES,
            Self::ApiKeys => API_KEYS,
            Self::Keys => KEYS,
            Self::RevokedAccessTokens => REVOKED_ACCESS_TOKENS,
            Self::Tombstones => TOMBSTONES,
            Self::JournalMarks => JOURNAL_MARKS,
            Self::Profiles => PROFILES,
            Self::Grants => GRANTS,
            Self::Events => EVENTS,
        }
    }

    /// The columns of the primary key.
    #[must_use]
    pub fn key(self) -> &'static [Column] {
        let columns = match self {
            Self::ClientChoices | Self::ApiKeys | Self::Grants | Self::Events => 2,
            Self::Clients
            | Self::Keys
            | Self::RevokedAccessTokens
            | Self::Tombstones
            | Self::JournalMarks
            | Self::Profiles => 1,
        };
        &self.columns()[..columns]
    }

    /// The key of a row.
    #[must_use]
    pub fn key_of(self, row: &Row) -> Key {
        row[..self.key().len()].to_vec()
    }
}

const CLIENTS: &[Column] = &[
    integer("client_number"),
    text("client_id"),
    flag("confidential"),
    flag("disabled"),
    integer("created_at"),
];

const CLIENT_CHOICES: &[Column] = &[integer("client_number"), text("name"), text("value")];

const API_KEYS: &[Column] = &[
    integer("client_number"),
    text("key_id"),
    bytes("hash"),
    integer("created_at"),
    integer("expires_at"),
    integer("revoked_at"),
];

const KEYS: &[Column] = &[
    text("kid"),
    text("use"),
    text("algorithm"),
    integer("created_at"),
    integer("usable_at"),
    integer("current_at"),
    integer("retiring_at"),
    integer("lifetime"),
    bytes("sealed"),
];

const REVOKED_ACCESS_TOKENS: &[Column] = &[
    bytes("token_id"),
    integer("revoked_at"),
    integer("expires_at"),
];

const TOMBSTONES: &[Column] = &[bytes("hash"), integer("erased_at")];

const JOURNAL_MARKS: &[Column] = &[
    bytes("mark"),
    text("node"),
    integer("number"),
    integer("created_at"),
];

const PROFILES: &[Column] = &[
    integer("profile_id"),
    bytes("network_id"),
    integer("client_number"),
    integer("created_at"),
    text("customer"),
    integer("linked_at"),
    integer("linked_by"),
    text("attributes"),
    integer("version"),
    integer("seen_at"),
];

const GRANTS: &[Column] = &[
    integer("profile_id"),
    bytes("grant_id"),
    integer("client_number"),
    bytes("network_id"),
    bytes("challenge"),
    integer("generation"),
    integer("proven"),
    Column {
        name: "strikes",
        kind: Kind::Small,
    },
    integer("issued_at"),
    integer("advanced_at"),
    integer("expires_at"),
    integer("ends_at"),
    integer("revoked_at"),
    text("revocation_reason"),
    integer("version"),
    text("customer"),
    text("attributes"),
];

const EVENTS: &[Column] = &[
    integer("profile_id"),
    bytes("event_id"),
    text("type"),
    integer("at"),
    bytes("network_id"),
    text("customer"),
    integer("client_number"),
    bytes("grant_id"),
    text("reason"),
    integer("attempts"),
    integer("next_at"),
    integer("delivered_at"),
];

const fn integer(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Integer,
    }
}

const fn flag(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Flag,
    }
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Text,
    }
}

const fn bytes(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Bytes,
    }
}

/// The names of columns, as a statement lists them.
pub(super) fn names(columns: &[Column]) -> String {
    let names = columns.iter().map(|column| column.name);
    names.collect::<Vec<_>>().join(", ")
}
