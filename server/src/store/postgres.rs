//! The store in PostgreSQL, or in an engine that is compatible with it, for any number of nodes.
//!
//! A request reads and writes the rows of one guest, whose `profile_id` is the shard key, and each write is one
//! statement in a transaction of its own: so the engine may shard guests over many machines. Nothing here uses foreign
//! keys, sequences, triggers, advisory locks, savepoints or LISTEN. What looks beyond one guest does so in bounded
//! parts: cleaning, copying (`transfer`: ranges of a table's key), import, the guests of a customer, events that are due or
//! listed, the tombstones that a start asks for, batches of more than one redemption or write, and the polls of the revision and of the revocation lists.

use std::sync::Arc;

use guestpass_core::customer::CustomerId;
use guestpass_core::event::EventCursor;
use guestpass_core::grant::{Grant, GrantId};
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

use super::schema::{Migration, SchemaError};
use super::transfer::{InstallationRow, Key, Part, Row, Snapshot, Table};
use super::{
    BatchMetrics, BoxFuture, CheckReport, EndedBefore, EventCounts, Events, Grants, Guest,
    IdleBefore, Outcome, Redeemed, Redemption, Registry, Revoked, RevokedId, RevokedList,
    ScannedGrants, ScannedGuests, Seen, Store, StoredEvent, Tombstone, Transfer, Unavailable,
    Upkeep, WhichEvents, Write,
};
use crate::clock::SteadyClock;
use crate::random::Random;

mod batch;
mod connection;
mod events;
mod grants;
mod pool;
mod redeem;
mod registry;
mod revoked;
mod row;
mod schema;
mod transfer;
mod upkeep;
mod url;
mod writer;

pub use connection::{Connection, Opener};
use grants::PROFILE_COLUMNS;
use pool::Pool;
pub(crate) use url::may_hold_password;

/// Stores an installation in a PostgreSQL database.
pub struct PostgresStore {
    pool: Arc<Pool>,
    writer: writer::Writer,
    clock: Arc<SteadyClock>,
}

impl PostgresStore {
    /// Opens the store, checks that its schema is one that this program can use, and sets the clock by the database's.
    ///
    /// # Errors
    /// [`SchemaError`] if the database can't be reached, or has another schema.
    pub async fn open(
        connection: &Connection,
        clock: Arc<SteadyClock>,
    ) -> Result<Self, SchemaError> {
        let pool = Arc::new(pool(connection)?);
        schema::require_usable(&pool).await?;
        // Two batches at once are enough for group commit: one gathers while the other commits. Without batches,
        // throughput takes many writes at once, and half of the connections are left to reads.
        let concurrency = match connection.batch {
            1 => connection.connections / 2,
            _ => 2,
        };
        let store = Self {
            writer: writer::Writer::start(Arc::clone(&pool), connection.batch, concurrency),
            pool,
            clock,
        };
        store
            .revision()
            .await
            .map_err(|error| SchemaError::cannot_open(connection, &error))?;
        warn_if_not_durable(&store.pool)
            .await
            .map_err(|error| SchemaError::cannot_open(connection, &error))?;
        Ok(store)
    }

    /// Brings the schema up to date, or creates it, and returns the steps that this took.
    ///
    /// # Errors
    /// [`SchemaError`] if the database can't be reached, or is newer than this program.
    pub async fn migrate(
        connection: &Connection,
        random: &dyn Random,
    ) -> Result<Migration, SchemaError> {
        schema::migrate(&pool(connection)?, random).await
    }

    /// Returns the steps that [`PostgresStore::migrate`] would take.
    ///
    /// # Errors
    /// As there.
    pub async fn pending(connection: &Connection) -> Result<Migration, SchemaError> {
        schema::pending(&pool(connection)?).await
    }
}

impl Store for PostgresStore {
    fn batches(&self) -> &BatchMetrics {
        &self.writer.batches
    }
}

impl Grants for PostgresStore {
    fn load(&self, id: GrantId) -> BoxFuture<'_, Result<Option<Grant>, Unavailable>> {
        Box::pin(grants::load(&self.pool, id))
    }

    fn load_profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Profile>, Unavailable>> {
        Box::pin(grants::load_profile(&self.pool, id))
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Outcome, Unavailable>> {
        Box::pin(self.writer.write(write))
    }

    fn redeem(
        &self,
        redemption: Redemption,
    ) -> BoxFuture<'_, Result<Option<Redeemed>, Unavailable>> {
        Box::pin(self.writer.redeem(redemption))
    }

    fn check_room(&self) -> Result<(), Unavailable> {
        self.writer.check_room()
    }
}

impl Revoked for PostgresStore {
    fn revoked_after(
        &self,
        list: RevokedList,
        after: (Timestamp, RevokedId),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RevokedId)>, Unavailable>> {
        let (at, id) = after;
        Box::pin(revoked::after(&self.pool, list, at, id, limit))
    }

    fn is_revoked(
        &self,
        list: RevokedList,
        id: RevokedId,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(revoked::holds(&self.pool, list, id))
    }

    fn first_revoked(
        &self,
        entries: [(RevokedList, RevokedId); 2],
    ) -> BoxFuture<'_, Result<Option<usize>, Unavailable>> {
        Box::pin(async move {
            for (at, (list, id)) in entries.into_iter().enumerate() {
                if revoked::holds(&self.pool, list, id).await? {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        })
    }

    fn missing_grants(
        &self,
        ids: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<RevokedId>, Unavailable>> {
        Box::pin(async move { revoked::missing_grants(&self.pool, &ids).await })
    }

    fn tombstones(
        &self,
        hashes: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<Tombstone>, Unavailable>> {
        Box::pin(async move { revoked::tombstones(&self.pool, &hashes).await })
    }

    fn not_revoked(
        &self,
        list: RevokedList,
        ids: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<RevokedId>, Unavailable>> {
        Box::pin(async move { revoked::lacks(&self.pool, list, &ids).await })
    }
}

impl Registry for PostgresStore {
    fn revision(&self) -> BoxFuture<'_, Result<i64, Unavailable>> {
        const SQL: &str = "
            select revision, (extract(epoch from clock_timestamp()) * 1000)::bigint as now from installation";
        Box::pin(async {
            let query = self.clock.start_query();
            let rows = self.pool.read(SQL, &[]).await?;
            let first = rows.first().ok_or_else(|| row::malformed("revision"))?;
            let now = Timestamp::from_millis(row::value(first, "now")?);
            self.clock.correct(query, now);
            row::value(first, "revision")
        })
    }

    fn read_tables(
        &self,
        tables: &'static [Table],
    ) -> BoxFuture<'_, Result<Snapshot, Unavailable>> {
        Box::pin(registry::read_tables(&self.pool, tables))
    }

    fn replace_tables(
        &self,
        row: InstallationRow,
        tables: Vec<(Table, Vec<Row>)>,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(async move { registry::replace_tables(&self.pool, &row, tables).await })
    }
}

impl Upkeep for PostgresStore {
    fn scan_grants(
        &self,
        after: Option<GrantId>,
        before: EndedBefore,
        limit: usize,
    ) -> BoxFuture<'_, Result<ScannedGrants, Unavailable>> {
        Box::pin(upkeep::scan_grants(&self.pool, after, before, limit))
    }

    fn profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Guest>, Unavailable>> {
        Box::pin(upkeep::profile(&self.pool, id))
    }

    fn scan_guests(
        &self,
        after: Option<ProfileId>,
        before: IdleBefore,
        limit: usize,
    ) -> BoxFuture<'_, Result<ScannedGuests, Unavailable>> {
        Box::pin(upkeep::scan_guests(&self.pool, after, before, limit))
    }

    fn profiles(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>> {
        Box::pin(upkeep::profiles(&self.pool, PROFILE_COLUMNS, after, limit))
    }

    fn profiles_and_when_seen(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>> {
        Box::pin(upkeep::profiles_and_when_seen(&self.pool, after, limit))
    }

    fn guests_of<'a>(
        &'a self,
        customer: &'a CustomerId,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Profile>, Unavailable>> {
        Box::pin(upkeep::guests_of(&self.pool, customer, after, limit))
    }

    fn live_grants_idle_since(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, Unavailable>> {
        Box::pin(upkeep::live_grants_idle_since(&self.pool, before, now))
    }

    fn seen(&self) -> BoxFuture<'_, Result<Seen, Unavailable>> {
        Box::pin(upkeep::seen(&self.pool))
    }

    fn last_mark<'a>(
        &'a self,
        node: &'a str,
    ) -> BoxFuture<'a, Result<Option<[u8; 16]>, Unavailable>> {
        Box::pin(upkeep::last_mark(&self.pool, node))
    }

    fn has_mark(&self, mark: [u8; 16]) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(upkeep::has_mark(&self.pool, mark))
    }

    fn check(&self) -> BoxFuture<'_, Result<CheckReport, Unavailable>> {
        Box::pin(upkeep::check(&self.pool))
    }
}

impl Events for PostgresStore {
    fn due_events(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, Unavailable>> {
        Box::pin(events::due(&self.pool, now, limit))
    }

    fn events_after(
        &self,
        which: WhichEvents,
        after: EventCursor,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, Unavailable>> {
        Box::pin(events::after(&self.pool, which, after, before, limit))
    }

    fn records_events(&self) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(events::are_recorded(&self.pool))
    }

    fn count_events(&self, limit: usize) -> BoxFuture<'_, Result<EventCounts, Unavailable>> {
        Box::pin(events::count(&self.pool, limit))
    }
}

impl Transfer for PostgresStore {
    fn installation_row(&self) -> BoxFuture<'_, Result<InstallationRow, Unavailable>> {
        Box::pin(transfer::installation_row(&self.pool))
    }

    fn keep_issuer(
        &self,
        from: Option<String>,
        issuer: String,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(async move { transfer::keep_issuer(&self.pool, from.as_deref(), &issuer).await })
    }

    fn count(&self, table: Table) -> BoxFuture<'_, Result<u64, Unavailable>> {
        Box::pin(transfer::count(&self.pool, table))
    }

    fn rows(
        &self,
        table: Table,
        after: Option<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, Unavailable>> {
        Box::pin(transfer::rows(&self.pool, table, after, limit))
    }

    fn begin_copy(&self, row: InstallationRow) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(async move { transfer::begin_copy(&self.pool, &row).await })
    }

    fn replace(&self, part: Part) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(async move { transfer::replace(&self.pool, &part).await })
    }

    fn finish_copy(&self) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(transfer::finish_copy(&self.pool))
    }

    fn known_profiles(
        &self,
        ids: Vec<ProfileId>,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>> {
        Box::pin(async move { transfer::known_profiles(&self.pool, &ids).await })
    }

    fn insert_profiles(&self, profiles: Vec<Profile>) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(async move { transfer::insert_profiles(&self.pool, &profiles).await })
    }
}

/// Logs a warning if the database confirms a commit before it is durable: then an answer promises too much.
async fn warn_if_not_durable(pool: &Pool) -> Result<(), Unavailable> {
    const SQL: &str = "select current_setting('synchronous_commit', true) as synchronous_commit";
    let rows = pool.read(SQL, &[]).await?;
    for row in &rows {
        let setting = row::value::<Option<&str>>(row, "synchronous_commit")?;
        if matches!(setting, Some("off" | "local")) {
            tracing::warn!(
                synchronous_commit = setting,
                "the database answers before a write is safe, so a crash or a failover loses guests. Set \
                 synchronous_commit = on for this role or database"
            );
        }
    }
    Ok(())
}

fn pool(connection: &Connection) -> Result<Pool, SchemaError> {
    Pool::new(connection.clone()).map_err(|error| SchemaError::cannot_open(connection, &error))
}
