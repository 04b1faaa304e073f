//! The writer's work on refreshes without queue, thread and answers: the least that they can cost. The benchmark compares
//! the server with it, so it has the statements, settings and checkpoints of the store itself.

use std::path::Path;
use std::sync::Arc;

use guestpass_core::grant::{Generation, Grant};
use guestpass_core::time::Timestamp;
use rusqlite::Connection;

use super::checkpoint::Checkpointer;
use super::files::Files;
use super::grants::{self, GRANT_COLUMNS, GrantNumber};
use super::{Synchronous, open, writer};
use crate::store::Outcome;

/// A connection that advances grants, with the thread that checkpoints behind it.
pub struct BareWriter {
    // Dropped before the checkpointer, which closes the file: that takes the locks of all connections.
    connection: Connection,
    checkpointer: Checkpointer,
    /// Any grant: the columns that a refresh leaves alone don't matter.
    template: Grant,
}

/// A grant as far as its advance needs it.
pub struct BareGrant {
    number: GrantNumber,
    generation: Generation,
}

impl BareWriter {
    /// Opens the database `file`, which has a grant.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn open(file: &Path) -> rusqlite::Result<Self> {
        let path = file.to_owned();
        let mut connection = open(&path, Synchronous::Full)?;
        writer::set_cache(&connection)?;
        let files = Files::open(file).map_err(|_| rusqlite::Error::InvalidPath(file.to_owned()))?;
        let open_second = move || open(&path, Synchronous::Full);
        let checkpointer = Checkpointer::start(open_second, Arc::new(files));
        checkpointer.watch(&mut connection)?;
        let template = connection.query_row(
            &format!("select {GRANT_COLUMNS} from grants limit 1"),
            [],
            grants::grant,
        )?;
        Ok(Self {
            connection,
            checkpointer,
            template,
        })
    }

    /// Reads all grants.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn grants(&self) -> rusqlite::Result<Vec<BareGrant>> {
        const SQL: &str = "select grant_number, generation from grants";
        let mut statement = self.connection.prepare(SQL)?;
        statement
            .query_map([], |row| {
                Ok(BareGrant {
                    number: GrantNumber(row.get(0)?),
                    generation: Generation::from_u64(row.get(1)?),
                })
            })?
            .collect()
    }

    /// Begins a transaction, as the writer does for a batch.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn begin(&self) -> rusqlite::Result<()> {
        writer::run_alone(&self.connection, "begin immediate")
    }

    /// Writes what a refresh writes.
    ///
    /// # Errors
    /// An error of SQLite, or [`rusqlite::Error::StatementChangedRows`] if the grant isn't as it was.
    pub fn advance(
        &mut self,
        grant: &mut BareGrant,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> rusqlite::Result<()> {
        let from = grant.generation;
        let next = &mut self.template;
        (next.generation, next.proven) = (from.next(), from);
        (next.advanced_at, next.expires_at) = (now, expires_at);
        match grants::advance_grant(&self.connection, grant.number, next, from)? {
            Outcome::Done | Outcome::More => grant.generation = from.next(),
            Outcome::Conflict => return Err(rusqlite::Error::StatementChangedRows(0)),
        }
        Ok(())
    }

    /// Commits, then wakes the checkpointer when the log is long.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn commit(&self) -> rusqlite::Result<()> {
        writer::run_alone(&self.connection, "commit")?;
        self.checkpointer.after_batch(&self.connection);
        Ok(())
    }

    /// Moves all of the log into the database file.
    ///
    /// # Errors
    /// An error of SQLite.
    pub fn empty_log(&self) -> rusqlite::Result<()> {
        self.checkpointer.empty_now(&self.connection)
    }
}
