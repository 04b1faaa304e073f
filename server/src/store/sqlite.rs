//! The embedded store: one SQLite file, written by one thread, read by a few connections.
//!
//! The log is synced to the disk before a write is answered (`synchronous = FULL`). Other processes may open the same
//! file beside a running server, as the command line does; SQLite's own locks keep them apart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use guestpass_core::customer::CustomerId;
use guestpass_core::event::EventCursor;
use guestpass_core::grant::{Grant, GrantId};
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::trouble::unavailable_at;
use super::schema::{Migration, SchemaError};
use super::transfer::{InstallationRow, Key, Part, Row, Snapshot, Table};
use super::{
    BatchMetrics, BoxFuture, CheckReport, EndedBefore, EventCounts, Events, Grants, Guest,
    IdleBefore, Outcome, Redeemed, Redemption, Registry, Revoked, RevokedId, RevokedList,
    ScannedGrants, ScannedGuests, Seen, Store, StoredEvent, Tombstone, Transfer, Unavailable,
    Upkeep, WhichEvents, Write,
};
use crate::random::Random;
use crate::timing::BUSY_TIMEOUT;

pub mod bare;
mod checkpoint;
mod events;
mod files;
mod frames;
mod grants;
mod leftover_log;
mod reached;
mod registry;
mod revoked;
mod schema;
mod transfer;
mod trouble;
mod upkeep;
mod writer;

use files::Files;
pub use leftover_log::{Checked, begin_log, check_log};
pub use reached::check_name;
pub use trouble::inaccessible;

/// A store in one SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Arc<Readers>,
    writer: writer::Writer,
    files: Arc<Files>,
}

/// Chooses when SQLite syncs the log to the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Synchronous {
    /// Before each batch of writes is answered.
    Full,
    /// Never: for measuring what syncing costs. A power cut loses guests.
    Off,
}

impl SqliteStore {
    /// Opens the store at `path`, which must have the current schema, and starts its threads.
    ///
    /// # Errors
    /// [`SchemaError`] if the file isn't there, can't be opened or has another schema.
    pub fn open(path: &Path, synchronous: Synchronous) -> Result<Self, SchemaError> {
        let first = schema::open_current(path, synchronous)?;
        Self::start(path, first, synchronous).map_err(|error| cannot_open(path, &error))
    }

    fn start(path: &Path, first: Connection, synchronous: Synchronous) -> rusqlite::Result<Self> {
        // As it was made, but a copy may have forgotten.
        first.pragma_update(None, "journal_mode", "wal")?;
        let files = Files::open(path).map_err(|_| rusqlite::Error::InvalidPath(path.to_owned()))?;
        let files = Arc::new(files);
        let path = path.to_owned();
        let second = path.clone();
        let open_second = move || open(&second, synchronous);
        let checkpointer = checkpoint::Checkpointer::start(open_second, Arc::clone(&files));
        Ok(Self {
            writer: writer::Writer::start(first, checkpointer, Arc::clone(&files))?,
            readers: Arc::new(Readers {
                path: path.clone(),
                idle: Mutex::default(),
                permits: Arc::new(Semaphore::new(READERS)),
                files: Arc::clone(&files),
            }),
            files,
            path,
        })
    }

    /// Brings the schema of `file` up to date, creating the file if need be, and says what that took.
    ///
    /// # Errors
    /// [`SchemaError`] if the file can't be opened, or is newer than this program.
    pub fn migrate(file: &Path, random: &dyn Random) -> Result<Migration, SchemaError> {
        schema::migrate(file, random)
    }

    /// Returns the steps that [`SqliteStore::migrate`] would take.
    ///
    /// # Errors
    /// As there.
    pub fn pending(file: &Path) -> Result<Migration, SchemaError> {
        schema::pending(file)
    }

    /// Runs `work` on a reading connection, off the threads that serve requests.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let mut reader = Reader::take(&self.readers).await?;
        blocking(move || {
            let read = reader.connection().and_then(work);
            read.map_err(|error| {
                let files = &reader.readers.files;
                files.note(error.sqlite_error_code(), &error);
                unavailable_at(files.path(), &error)
            })
        })
        .await?
    }

    /// Runs `work` on a connection of its own, in one transaction: for what operators do, now and then. If the disk is
    /// full, it runs once more after the log has given its room back.
    async fn change<T: Send + 'static>(
        &self,
        work: impl Fn(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.alone(move |connection, files| {
            files.check_writable()?;
            let changed = match in_transaction(connection, &work) {
                Err(error) if files::is_full(&error) => checkpoint::empty_log(connection, files)
                    .and_then(|_| in_transaction(connection, &work)),
                changed => changed,
            };
            changed.map_err(|error| {
                files.note(error.sqlite_error_code(), &error);
                unavailable_at(files.path(), &error)
            })
        })
        .await
    }

    /// Runs `work` on a connection of its own, off the threads that serve requests.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection, &Files) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (path, files) = (self.path.clone(), Arc::clone(&self.files));
        blocking(move || {
            let mut connection =
                open(&path, Synchronous::Full).map_err(|error| unavailable_at(&path, &error))?;
            let result = work(&mut connection, &files);
            files.close(connection);
            result
        })
        .await?
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl Fn(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let behavior = rusqlite::TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior)?;
    let result = work(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

/// Enough that a slow read doesn't hold up the others.
const READERS: usize = 4;

impl Store for SqliteStore {
    fn batches(&self) -> &BatchMetrics {
        &self.writer.batches
    }
}

impl Grants for SqliteStore {
    fn load(&self, id: GrantId) -> BoxFuture<'_, Result<Option<Grant>, Unavailable>> {
        Box::pin(self.read(move |connection| grants::load(connection, id)))
    }

    fn load_profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Profile>, Unavailable>> {
        Box::pin(self.read(move |connection| grants::load_profile(connection, id)))
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

impl Revoked for SqliteStore {
    fn revoked_after(
        &self,
        list: RevokedList,
        after: (Timestamp, RevokedId),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, RevokedId)>, Unavailable>> {
        let (at, id) = after;
        Box::pin(self.read(move |connection| revoked::after(connection, list, at, id, limit)))
    }

    fn is_revoked(
        &self,
        list: RevokedList,
        id: RevokedId,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.read(move |connection| revoked::holds(connection, list, id)))
    }

    fn first_revoked(
        &self,
        entries: [(RevokedList, RevokedId); 2],
    ) -> BoxFuture<'_, Result<Option<usize>, Unavailable>> {
        // In one visit to a reading thread, which costs more than what it reads.
        Box::pin(self.read(move |connection| {
            for (at, (list, id)) in entries.into_iter().enumerate() {
                if revoked::holds(connection, list, id)? {
                    return Ok(Some(at));
                }
            }
            Ok(None)
        }))
    }

    fn missing_grants(
        &self,
        ids: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<RevokedId>, Unavailable>> {
        Box::pin(self.read(move |connection| revoked::missing_grants(connection, ids)))
    }

    fn tombstones(
        &self,
        hashes: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<Tombstone>, Unavailable>> {
        Box::pin(self.read(move |connection| revoked::tombstones(connection, &hashes)))
    }

    fn not_revoked(
        &self,
        list: RevokedList,
        ids: Vec<RevokedId>,
    ) -> BoxFuture<'_, Result<Vec<RevokedId>, Unavailable>> {
        Box::pin(self.read(move |connection| revoked::lacks(connection, list, ids)))
    }
}

impl Registry for SqliteStore {
    fn revision(&self) -> BoxFuture<'_, Result<i64, Unavailable>> {
        Box::pin(self.read(registry::revision))
    }

    fn read_tables(
        &self,
        tables: &'static [Table],
    ) -> BoxFuture<'_, Result<Snapshot, Unavailable>> {
        Box::pin(self.read(move |connection| registry::read_tables(connection, tables)))
    }

    fn replace_tables(
        &self,
        row: InstallationRow,
        tables: Vec<(Table, Vec<Row>)>,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(
            self.change(move |transaction| registry::replace_tables(transaction, &row, &tables)),
        )
    }
}

impl Upkeep for SqliteStore {
    fn scan_grants(
        &self,
        after: Option<GrantId>,
        before: EndedBefore,
        limit: usize,
    ) -> BoxFuture<'_, Result<ScannedGrants, Unavailable>> {
        Box::pin(self.read(move |connection| upkeep::scan_grants(connection, after, before, limit)))
    }

    fn profile(&self, id: ProfileId) -> BoxFuture<'_, Result<Option<Guest>, Unavailable>> {
        Box::pin(self.read(move |connection| upkeep::profile(connection, id)))
    }

    fn scan_guests(
        &self,
        after: Option<ProfileId>,
        before: IdleBefore,
        limit: usize,
    ) -> BoxFuture<'_, Result<ScannedGuests, Unavailable>> {
        Box::pin(self.read(move |connection| upkeep::scan_guests(connection, after, before, limit)))
    }

    fn profiles(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>> {
        Box::pin(self.read(move |connection| {
            upkeep::profiles(connection, grants::PROFILE_COLUMNS, after, limit)
        }))
    }

    fn profiles_and_when_seen(
        &self,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>> {
        Box::pin(self.read(move |connection| {
            upkeep::profiles(connection, &upkeep::columns_when_seen(), after, limit)
        }))
    }

    fn guests_of<'a>(
        &'a self,
        customer: &'a CustomerId,
        after: Option<ProfileId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Profile>, Unavailable>> {
        let customer = customer.clone();
        Box::pin(
            self.read(move |connection| upkeep::guests_of(connection, &customer, after, limit)),
        )
    }

    fn live_grants_idle_since(
        &self,
        before: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<u64, Unavailable>> {
        Box::pin(
            self.read(move |connection| upkeep::live_grants_idle_since(connection, before, now)),
        )
    }

    fn seen(&self) -> BoxFuture<'_, Result<Seen, Unavailable>> {
        Box::pin(self.read(upkeep::seen))
    }

    fn last_mark<'a>(
        &'a self,
        node: &'a str,
    ) -> BoxFuture<'a, Result<Option<[u8; 16]>, Unavailable>> {
        let node = node.to_owned();
        Box::pin(self.read(move |connection| upkeep::last_mark(connection, &node)))
    }

    fn has_mark(&self, mark: [u8; 16]) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.read(move |connection| upkeep::has_mark(connection, mark)))
    }

    fn check(&self) -> BoxFuture<'_, Result<CheckReport, Unavailable>> {
        Box::pin(self.read(upkeep::check))
    }

    fn check_files(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        let files = Arc::clone(&self.files);
        Box::pin(async { blocking(move || files.check()).await? })
    }

    fn give_back_room(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(self.alone(|connection, files| {
            files.check_writable()?;
            let mut is_left = true;
            while is_left && checkpoint::empty_log(connection, files).map_err(unavailable)? {
                is_left = leftover_log::confirm_number(connection).map_err(unavailable)?;
            }
            Ok(())
        }))
    }

    fn failure(&self) -> BoxFuture<'_, Unavailable> {
        Box::pin(self.files.failure())
    }
}

impl Events for SqliteStore {
    fn due_events(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, Unavailable>> {
        Box::pin(self.read(move |connection| events::due(connection, now, limit)))
    }

    fn events_after(
        &self,
        which: WhichEvents,
        after: EventCursor,
        before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, Unavailable>> {
        Box::pin(
            self.read(move |connection| events::after(connection, which, after, before, limit)),
        )
    }

    fn records_events(&self) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.read(events::are_recorded))
    }

    fn count_events(&self, limit: usize) -> BoxFuture<'_, Result<EventCounts, Unavailable>> {
        Box::pin(self.read(move |connection| events::count(connection, limit)))
    }
}

impl Transfer for SqliteStore {
    fn installation_row(&self) -> BoxFuture<'_, Result<InstallationRow, Unavailable>> {
        Box::pin(self.read(transfer::installation_row))
    }

    fn keep_issuer(
        &self,
        from: Option<String>,
        issuer: String,
    ) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.change(move |transaction| {
            transfer::keep_issuer(transaction, from.as_deref(), &issuer)
        }))
    }

    fn count(&self, table: Table) -> BoxFuture<'_, Result<u64, Unavailable>> {
        Box::pin(self.read(move |connection| transfer::count(connection, table)))
    }

    fn rows(
        &self,
        table: Table,
        after: Option<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Row>, Unavailable>> {
        Box::pin(
            self.read(move |connection| transfer::rows(connection, table, after.as_deref(), limit)),
        )
    }

    fn begin_copy(&self, row: InstallationRow) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.change(move |transaction| transfer::begin_copy(transaction, &row)))
    }

    fn replace(&self, part: Part) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.change(move |transaction| transfer::replace(transaction, &part)))
    }

    fn finish_copy(&self) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.change(move |transaction| transfer::finish_copy(transaction)))
    }

    fn known_profiles(
        &self,
        ids: Vec<ProfileId>,
    ) -> BoxFuture<'_, Result<Vec<Profile>, Unavailable>> {
        Box::pin(self.read(move |connection| transfer::known_profiles(connection, &ids)))
    }

    fn insert_profiles(&self, profiles: Vec<Profile>) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(self.change(move |transaction| transfer::insert_profiles(transaction, &profiles)))
    }
}

/// Connections that only read, opened when they are first needed, and permits to take one.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    files: Arc<Files>,
}

/// A connection that is lent, or the right to open one. It goes back when this is dropped, even by a panic.
struct Reader {
    connection: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn take(readers: &Arc<Readers>) -> Result<Self, Unavailable> {
        let permits = Arc::clone(&readers.permits);
        let _permit = permits.acquire_owned().await.map_err(unavailable)?;
        let connection = readers
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        Ok(Self {
            connection,
            readers: Arc::clone(readers),
            _permit,
        })
    }

    fn connection(&mut self) -> rusqlite::Result<&Connection> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => {
                let opened = open(&self.readers.path, Synchronous::Full)?;
                opened.pragma_update(None, "query_only", true)?;
                Ok(none.insert(opened))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut idle = self
            .readers
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        for connection in idle.drain(..) {
            self.files.close(connection);
        }
    }
}

fn open(file: &Path, synchronous: Synchronous) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(
        None,
        "synchronous",
        match synchronous {
            Synchronous::Full => "FULL",
            Synchronous::Off => "OFF",
        },
    )?;
    // Whoever commits doesn't pay for moving the log into the file: see `checkpoint`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Deleted rows are overwritten: nothing may be left of an erased guest.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unavailable> {
    tokio::task::spawn_blocking(work).await.map_err(unavailable)
}

/// Names the file that can't be opened, and what would help.
fn cannot_open(file: &Path, error: &rusqlite::Error) -> SchemaError {
    SchemaError::cannot_open(&file.display(), &trouble::explained(file, error))
}

fn unavailable(error: impl std::error::Error + 'static) -> Unavailable {
    Unavailable(trouble::with_advice(&error))
}
