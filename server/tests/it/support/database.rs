//! A database of a test's own, of the backend that this run is about, and a look at it beside the server.
//!
//! What tests say to it is SQL that every backend understands: no parameters, no functions of one of them. A value comes
//! back as text, bytes as `\x` and hexadecimal digits.

use std::any::Any;
use std::sync::Arc;

use guestpass::config::Config;
use guestpass::random::Random;
use guestpass::store::Store;

use super::Overheard;

mod postgres;
mod sqlite;

pub(crate) use postgres::Alone;

/// What can keep the data.
#[derive(Clone, Copy)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// What `GUESTPASS_TEST_BACKEND` names: one backend for a whole run, and SQLite if it isn't set.
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

/// One database, whatever keeps it. It is gone with the last clone.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

/// A row, as text. `None` is null.
pub(crate) type Row = Vec<Option<String>>;

impl Database {
    /// A database with the newest schema and nothing in it.
    pub(crate) async fn new(backend: Backend, random: &dyn Random) -> Self {
        match backend {
            Backend::Sqlite => Self::Sqlite(sqlite::Database::new(random)),
            Backend::Postgres => Self::Postgres(postgres::Database::new(random).await),
        }
    }

    /// An empty PostgreSQL database, without a schema.
    pub(crate) async fn unmade() -> Self {
        Self::Postgres(postgres::Database::unmade().await)
    }

    /// The same database, of whose statements none is missed when a store is opened on it.
    pub(crate) fn overheard(self) -> (Self, Overheard) {
        match self {
            Self::Postgres(database) => {
                let (database, overheard) = database.overheard();
                (Self::Postgres(database), overheard)
            }
            Self::Sqlite(_) => unreachable!("nothing is sent to an embedded store"),
        }
    }

    /// A place beside this one, where a copy of it can stand.
    pub(crate) fn beside(&self, name: &str) -> Self {
        match self {
            Self::Sqlite(database) => Self::Sqlite(database.beside(name)),
            Self::Postgres(database) => Self::Postgres(database.beside(name)),
        }
    }

    /// Puts what this one holds in the place of all that the other one holds, and leaves this one as it is. A server on
    /// the other one must not be asked any more: it may go on with what it had.
    pub(crate) async fn copy_to(&self, other: &Self) {
        match (self, other) {
            (Self::Sqlite(from), Self::Sqlite(to)) => from.copy_to(to),
            (Self::Postgres(from), Self::Postgres(to)) => from.copy_to(to).await,
            _ => unreachable!("a copy is of the same kind"),
        }
    }

    /// Opens it, as a server does.
    pub(crate) async fn open(&self, config: &Config) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(database) => database.open(config),
            Self::Postgres(database) => database.open(config).await,
        }
    }

    /// How many columns of a table say where its rows lie, and nothing of what they hold.
    pub(crate) fn own_columns(&self, table: &str) -> usize {
        match self {
            Self::Sqlite(_) => usize::from(table == "grants"),
            Self::Postgres(_) => 0,
        }
    }

    /// Runs statements, one after the other, and answers the rows of all of them.
    pub(crate) async fn sql(&self, sql: &str) -> Vec<Row> {
        match self {
            Self::Sqlite(database) => database.sql(sql),
            Self::Postgres(database) => database.sql(sql).await,
        }
    }

    /// The values of a query that has one column and no nulls.
    pub(crate) async fn column(&self, sql: &str) -> Vec<String> {
        let rows = self.sql(sql).await;
        rows.into_iter()
            .map(|row| <[_; 1]>::try_from(row).unwrap()[0].take().unwrap())
            .collect()
    }

    /// The number that is the answer to a query.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        <[_; 1]>::try_from(self.column(sql).await).unwrap()[0]
            .parse()
            .unwrap()
    }

    /// How much room the data takes, in bytes.
    pub(crate) async fn size(&self) -> i64 {
        self.number(match self {
            Self::Sqlite(_) => sqlite::SIZE,
            Self::Postgres(_) => postgres::SIZE,
        })
        .await
    }

    /// What there is of tables, columns and indexes.
    pub(crate) async fn schema(&self) -> Vec<Row> {
        self.sql(match self {
            Self::Sqlite(_) => sqlite::SCHEMA,
            Self::Postgres(_) => postgres::SCHEMA,
        })
        .await
    }

    /// Has the backend clear away what it clears away in time.
    pub(crate) async fn settle(&self) {
        self.sql(match self {
            Self::Sqlite(_) => sqlite::SETTLE,
            Self::Postgres(_) => postgres::SETTLE,
        })
        .await;
    }

    /// The bytes that it is kept in, free room and old versions included.
    pub(crate) async fn bytes(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Sqlite(database) => database.bytes(),
            Self::Postgres(database) => database.bytes().await,
        }
    }

    /// What the setting `database` says of it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(database) => database.url(),
            Self::Postgres(database) => database.url(),
        }
    }

    /// Runs statements in a transaction of its own, which is undone when what this answers is dropped.
    pub(crate) async fn hold(&self, sql: &str) -> Box<dyn Any + Send> {
        match self {
            Self::Sqlite(database) => Box::new(database.hold(sql)),
            Self::Postgres(database) => Box::new(database.hold(sql).await),
        }
    }

    /// Makes writes wait until what it answers is dropped, so that they are carried out together.
    pub(crate) async fn hold_writes(&self) -> Box<dyn Any> {
        match self {
            Self::Sqlite(database) => Box::new(database.hold_writes()),
            Self::Postgres(database) => Box::new(database.hold_writes().await),
        }
    }
}
