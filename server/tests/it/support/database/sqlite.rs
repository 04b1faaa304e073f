//! The embedded store: a file in a directory of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use guestpass::config::Config;
use guestpass::random::Random;
use guestpass::store::Store;
use guestpass::store::sqlite::SqliteStore;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
use tempfile::TempDir;

use super::Row;

pub(super) const SIZE: &str =
    "select page_count * page_size from pragma_page_count, pragma_page_size";
pub(super) const SCHEMA: &str = "select type, name, sql from sqlite_schema order by 1, 2";
/// The log is moved into the file.
pub(super) const SETTLE: &str = "pragma wal_checkpoint(truncate)";

/// The file, its log and the log's index.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

#[derive(Clone)]
pub(crate) struct Database {
    directory: Arc<TempDir>,
    file: PathBuf,
}

impl Database {
    pub(super) fn new(random: &dyn Random) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let file = directory.path().join("guestpass.db");
        SqliteStore::migrate(&file, random).unwrap();
        Self { directory, file }
    }

    pub(super) fn beside(&self, name: &str) -> Self {
        Self {
            directory: self.directory.clone(),
            file: self.directory.path().join(name).with_extension("db"),
        }
    }

    /// A server that has the old file open goes on with what nobody else can see.
    pub(super) fn copy_to(&self, other: &Self) {
        for ending in FILES {
            let _ = fs::remove_file(format!("{}{ending}", other.file.display()));
        }
        let sql = format!("vacuum into '{}'", other.file.display());
        self.connect().execute_batch(&sql).unwrap();
        let copy = other.connect();
        copy.pragma_update(None, "journal_mode", "wal").unwrap();
    }

    pub(super) fn open(&self, config: &Config) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.file, config.synchronous).unwrap())
    }

    pub(super) fn sql(&self, sql: &str) -> Vec<Row> {
        let connection = self.connect();
        let mut statements = Batch::new(&connection, sql);
        let mut rows = Vec::new();
        while let Some(mut statement) = statements.next().unwrap() {
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                rows.push(
                    (0..columns)
                        .map(|at| text(row.get_ref(at).unwrap()))
                        .collect(),
                );
            }
        }
        rows
    }

    pub(super) fn bytes(&self) -> Vec<Vec<u8>> {
        let files = FILES.map(|ending| fs::read(format!("{}{ending}", self.file.display())));
        files.into_iter().filter_map(Result::ok).collect()
    }

    pub(super) fn url(&self) -> String {
        format!("sqlite:{}", self.file.display())
    }

    pub(super) fn hold(&self, sql: &str) -> Connection {
        let other = self.connect();
        other.execute_batch("begin immediate").unwrap();
        other.execute_batch(sql).unwrap();
        other
    }

    /// Another process that writes.
    pub(super) fn hold_writes(&self) -> Connection {
        let other = self.connect();
        other.execute_batch("begin immediate").unwrap();
        other
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.file).unwrap()
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8(text.to_owned()).unwrap()),
        ValueRef::Blob(bytes) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            Some(format!("\\x{}", digits.collect::<String>()))
        }
    }
}
