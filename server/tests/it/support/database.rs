//! A database of a test's own, on the backend of this run, with access to it beside the server.
//!
//! Tests send it SQL that every backend understands: no parameters, no functions of one of them. A value comes back as
//! text, bytes as `\x` and hexadecimal digits.

use std::any::Any;
use std::sync::Arc;

use guestpass::config::Config;
use guestpass::random::Random;
use guestpass::store::Store;

use super::Overheard;

mod postgres;
mod sqlite;

pub(crate) use postgres::Alone;

/// The backends.
#[derive(Clone, Copy)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// Returns the backend of this run, which `GUESTPASS_TEST_BACKEND` names; SQLite if it isn't set.
    #[expect(
        clippy::disallowed_methods,
        reason = "it says what this run is about, which is nothing of the program's"
    )]
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("GUESTPASS_TEST_BACKEND").as_deref() {
            Err(_) | Ok("sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("GUESTPASS_TEST_BACKEND is sqlite or postgres, not {other}"),
        }
    }
}

/// A database on either backend. It is removed with the last clone.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

/// A row, as text. `None` is null.
pub(crate) type Row = Vec<Option<String>>;

impl Database {
    /// Creates a database with the newest schema and no rows.
    pub(crate) async fn new(backend: Backend, random: &dyn Random) -> Self {
        match backend {
            Backend::Sqlite => Self::Sqlite(sqlite::Database::new(random)),
            Backend::Postgres => Self::Postgres(postgres::Database::new(random).await),
        }
    }

    /// Creates a PostgreSQL database without a schema.
    pub(crate) async fn unmade() -> Self {
        Self::Postgres(postgres::Database::unmade().await)
    }

    /// Returns the same database behind a proxy that records every statement of a store that is opened on it.
    pub(crate) fn overheard(self) -> (Self, Overheard) {
        match self {
            Self::Postgres(database) => {
                let (database, overheard) = database.overheard();
                (Self::Postgres(database), overheard)
            }
            Self::Sqlite(_) => unreachable!("nothing is sent to an embedded store"),
        }
    }

    /// Creates a database beside this one that a copy can be written to.
    pub(crate) fn beside(&self, name: &str) -> Self {
        match self {
            Self::Sqlite(database) => Self::Sqlite(database.beside(name)),
            Self::Postgres(database) => Self::Postgres(database.beside(name)),
        }
    }

    /// Replaces the contents of the other database by a copy of this one's. A server on the other one must not be used
    /// any more: it may go on with what it had.
    pub(crate) async fn copy_to(&self, other: &Self) {
        match (self, other) {
            (Self::Sqlite(from), Self::Sqlite(to)) => from.copy_to(to),
            (Self::Postgres(from), Self::Postgres(to)) => from.copy_to(to).await,
            _ => unreachable!("a copy is of the same kind"),
        }
    }

    /// Opens a store on it, as a server does.
    pub(crate) async fn open(&self, config: &Config) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(database) => database.open(config),
            Self::Postgres(database) => database.open(config).await,
        }
    }

    /// Counts the columns of a table that only say where its rows are stored.
    pub(crate) fn own_columns(&self, table: &str) -> usize {
        match self {
            Self::Sqlite(_) => usize::from(table == "grants"),
            Self::Postgres(_) => 0,
        }
    }

    /// Runs statements, one after the other, and returns the rows of all of them.
    pub(crate) async fn sql(&self, sql: &str) -> Vec<Row> {
        match self {
            Self::Sqlite(database) => database.sql(sql),
            Self::Postgres(database) => database.sql(sql).await,
        }
    }

    /// Returns the values of a query that has one column and no nulls.
    pub(crate) async fn column(&self, sql: &str) -> Vec<String> {
        let rows = self.sql(sql).await;
        rows.into_iter()
            .map(|row| <[_; 1]>::try_from(row).unwrap()[0].take().unwrap())
            .collect()
    }

    /// Returns the number that is the result of a query.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        <[_; 1]>::try_from(self.column(sql).await).unwrap()[0]
            .parse()
            .unwrap()
    }

    /// Returns the size of the data in bytes.
    pub(crate) async fn size(&self) -> i64 {
        self.number(match self {
            Self::Sqlite(_) => sqlite::SIZE,
            Self::Postgres(_) => postgres::SIZE,
        })
        .await
    }

    /// Describes tables, columns and indexes.
    pub(crate) async fn schema(&self) -> Vec<Row> {
        self.sql(match self {
            Self::Sqlite(_) => sqlite::SCHEMA,
            Self::Postgres(_) => postgres::SCHEMA,
        })
        .await
    }

    /// Vacuums, which the backend would do in time.
    pub(crate) async fn settle(&self) {
        self.sql(match self {
            Self::Sqlite(_) => sqlite::SETTLE,
            Self::Postgres(_) => postgres::SETTLE,
        })
        .await;
    }

    /// Returns the bytes of its files, free space and old versions included.
    pub(crate) async fn bytes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Sqlite(database) => database.bytes(),
            Self::Postgres(database) => database.bytes().await,
        }
    }

    /// Returns the value of the setting `database` that names it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(database) => database.url(),
            Self::Postgres(database) => database.url(),
        }
    }

    /// Runs statements in a transaction of its own, which is rolled back when the result is dropped.
    pub(crate) async fn hold(&self, sql: &str) -> Box<dyn Any + Send> {
        match self {
            Self::Sqlite(database) => Box::new(database.hold(sql)),
            Self::Postgres(database) => Box::new(database.hold(sql).await),
        }
    }

    /// Makes writes wait until the result is dropped, so that they form one batch.
    pub(crate) async fn hold_writes(&self) -> Box<dyn Any> {
        match self {
            Self::Sqlite(database) => Box::new(database.hold_writes()),
            Self::Postgres(database) => Box::new(database.hold_writes().await),
        }
    }
}
