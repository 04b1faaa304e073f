//! A connection pool to the primary, and what an error says about the outcome of the statement that it ended.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use deadpool_postgres::{
    GenericClient, Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod,
    Runtime, Transaction,
};
use futures_util::TryStreamExt;
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, IsolationLevel, Row};

use super::connection::Connection;
use crate::store::Unavailable;
use crate::timing::{STATEMENT_DEADLINE, STATEMENT_TIMEOUT};

/// A connection pool to the host that takes writes now, never to a replica, whose answers may be out of date.
///
/// After a failover all connections lead to the wrong host. The first that shows it has the whole pool replaced.
pub(super) struct Pool {
    connection: Connection,
    current: RwLock<Connections>,
}

/// The connections that were opened since the pool was last replaced.
#[derive(Clone)]
struct Connections {
    /// Counts the replacements.
    epoch: u64,
    pool: deadpool_postgres::Pool,
}

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// The result of a statement.
pub(super) struct Done {
    pub(super) rows: Vec<Row>,
    /// The number of rows that it inserted, updated or deleted.
    pub(super) written: u64,
}

/// A statement or transaction that failed, classified by what is known about its effect.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database rolled it back, or the host takes no writes: a retry may succeed.
    Undone(Unavailable),
    /// A row with that key exists already. Nothing was written.
    Duplicate(Unavailable),
    /// Nothing was written, for any other reason.
    Nothing(Unavailable),
    /// No connection could be opened: nothing was written, and a retry would fail as well.
    Unreachable(Unavailable),
    /// The connection was lost or nobody answered in time: the outcome is unknown. The database may still commit it.
    Unknown(Unavailable),
}

impl From<Failed> for Unavailable {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Undone(error)
            | Failed::Duplicate(error)
            | Failed::Nothing(error)
            | Failed::Unreachable(error)
            | Failed::Unknown(error) => error,
        }
    }
}

/// The time that a transaction may take, from `begin` to `commit`.
#[derive(Clone, Copy)]
pub(super) enum Deadline {
    /// [`TRANSACTION_DEADLINE`], for a few statements on small tables.
    Transaction,
    /// None, for work that grows with the installation and that an operator waits for and can interrupt.
    None,
}

/// A transaction that ended before its commit.
pub(super) enum TransactionError<E> {
    /// The database or the connection failed.
    Database(Error),
    /// The work in the transaction gave up.
    Aborted(E),
    /// The [`Deadline`] has passed.
    TimedOut,
}

impl<E> From<Error> for TransactionError<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<Unavailable> for TransactionError<Unavailable> {
    fn from(error: Unavailable) -> Self {
        Self::Aborted(error)
    }
}

impl Pool {
    /// Prepares a pool without connecting: a connection is opened when it is first needed.
    pub(super) fn new(connection: Connection) -> Result<Self, Unavailable> {
        // What it reads may be wrong, which is said now.
        connection.opener()?;
        let pool = pool(&connection);
        Ok(Self {
            connection,
            current: RwLock::new(Connections { epoch: 0, pool }),
        })
    }

    /// Returns the URL of the database, without secrets.
    pub(super) fn name(&self) -> String {
        self.connection.to_string()
    }

    /// Reads rows. Retries once, on another connection, if nobody answers: reading twice does no harm.
    pub(super) async fn read(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failed> {
        let done = match self.run(sql, parameters).await {
            Err(Failed::Unknown(_)) => self.run(sql, parameters).await?,
            other => other?,
        };
        Ok(done.rows)
    }

    /// Runs one statement as a transaction of its own, within [`STATEMENT_DEADLINE`]. Retries what the database rolled
    /// back, with a growing backoff, up to [`MAX_ATTEMPTS`] in all.
    pub(super) async fn run(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Done, Failed> {
        let mut attempt = 1;
        loop {
            let session = self.check_out().await?;
            let mut is_sent = false;
            let executed = execute(&session.client, sql, parameters, &mut is_sent);
            let result = tokio::time::timeout(STATEMENT_DEADLINE, executed)
                .await
                .ok();
            let timed_out = result.is_none();
            let failed = match session.finish(result) {
                // It was prepared but not executed, so the outcome is known after all.
                Err(Failed::Unknown(error)) if !is_sent && timed_out => Failed::Nothing(error),
                Err(Failed::Unknown(error)) if !is_sent => Failed::Undone(error),
                Err(failed) => failed,
                done => return done,
            };
            match failed {
                Failed::Undone(error) if attempt < MAX_ATTEMPTS => {
                    tracing::debug!(attempt, %error, "a statement is tried again");
                    tokio::time::sleep(BACKOFF * attempt).await;
                    attempt += 1;
                }
                failed => return Err(failed),
            }
        }
    }

    /// Runs `work` in a read-only transaction on one snapshot: all its statements see the same moment. They may take
    /// longer than [`STATEMENT_TIMEOUT`], since to count a large table does; `deadline` alone limits them.
    pub(super) async fn snapshot<T, E: From<Unavailable>>(
        &self,
        deadline: Deadline,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, TransactionError<E>>,
    ) -> Result<T, E> {
        let mut session = self.session().await?;
        let result = deadline
            .limit(async {
                let transaction = session.look().await?;
                work(&transaction).await
            })
            .await;
        session.end(result)
    }

    /// Runs `work` in a transaction, and commits it if `work` returns `Ok`; otherwise rolls it back. Without a
    /// deadline, [`STATEMENT_TIMEOUT`] doesn't hold either.
    pub(super) async fn change<T, E: From<Unavailable>>(
        &self,
        deadline: Deadline,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, TransactionError<E>>,
    ) -> Result<T, E> {
        let mut session = self.session().await?;
        let result = deadline
            .limit(async {
                let transaction = session.change().await?;
                if matches!(deadline, Deadline::None) {
                    transaction.batch_execute(NO_TIMEOUT).await?;
                }
                let value = work(&transaction).await?;
                transaction.commit().await?;
                Ok(value)
            })
            .await;
        session.end(result)
    }

    /// Checks out a connection for a transaction of several statements.
    async fn session(&self) -> Result<Session<'_>, Unavailable> {
        Ok(self.check_out().await?)
    }

    /// Checks out a connection, and opens one if all are in use and there may be more.
    async fn check_out(&self) -> Result<Session<'_>, Failed> {
        loop {
            let connections = {
                let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
                current.clone()
            };
            let got = tokio::time::timeout(CONNECT_DEADLINE, connections.pool.get()).await;
            return match got {
                Ok(Ok(client)) => Ok(Session {
                    pool: self,
                    connections,
                    client,
                }),
                // The pool was replaced meanwhile: take the new one.
                Ok(Err(PoolError::Closed)) => continue,
                Ok(Err(error)) => Err(Failed::Unreachable(Unavailable(format!(
                    "no connection: {}",
                    causes(&error)
                )))),
                Err(_) => {
                    let error = "no connection: the database doesn't answer".to_owned();
                    Err(Failed::Unreachable(Unavailable(error)))
                }
            };
        }
    }

    /// Replaces all connections that are as old as these, unless someone else has done it.
    fn replace(&self, connections: &Connections, failed: &Failed) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.epoch == connections.epoch {
            tracing::warn!(?failed, "the database is looked for anew");
            current.pool.close();
            *current = Connections {
                epoch: connections.epoch + 1,
                pool: pool(&self.connection),
            };
        }
    }
}

/// A connection that is checked out of the pool.
struct Session<'a> {
    pool: &'a Pool,
    connections: Connections,
    client: Object,
}

impl Session<'_> {
    /// Begins a transaction that changes something.
    async fn change(&mut self) -> Result<Transaction<'_>, Error> {
        self.client.transaction().await
    }

    /// Begins a read-only transaction on one snapshot, in which a statement may take any time.
    async fn look(&mut self) -> Result<Transaction<'_>, Error> {
        let transaction = self
            .client
            .build_transaction()
            .read_only(true)
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .await?;
        transaction.batch_execute(NO_TIMEOUT).await?;
        Ok(transaction)
    }

    /// Checks the connection in after a transaction, and returns its value or its error.
    fn end<T, E>(self, result: Result<T, TransactionError<E>>) -> Result<T, E>
    where
        E: From<Unavailable>,
    {
        let result = match result {
            Ok(value) => return Ok(value),
            Err(TransactionError::Aborted(error)) => return Err(error),
            Err(TransactionError::Database(error)) => Some(Err(error)),
            Err(TransactionError::TimedOut) => None,
        };
        self.finish(result)
            .map_err(|failed| Unavailable::from(failed).into())
    }

    /// Checks the connection in and classifies the result; `None` is a timeout. Has the whole pool replaced if the
    /// connection was lost or its host takes no writes, for all others lead to the same host.
    fn finish<T>(self, result: Option<Result<T, Error>>) -> Result<T, Failed> {
        let (failed, is_host_lost) = match result {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => classify(&error),
            None => {
                let error = Unavailable("the database doesn't answer".to_owned());
                (Failed::Unknown(error), true)
            }
        };
        if is_host_lost {
            drop(Object::take(self.client));
            self.pool.replace(&self.connections, &failed);
        }
        Err(failed)
    }
}

impl Deadline {
    async fn limit<T, E>(
        self,
        transaction: impl Future<Output = Result<T, TransactionError<E>>>,
    ) -> Result<T, TransactionError<E>> {
        match self {
            Self::Transaction => tokio::time::timeout(TRANSACTION_DEADLINE, transaction)
                .await
                .unwrap_or(Err(TransactionError::TimedOut)),
            Self::None => transaction.await,
        }
    }
}

/// The most attempts at a statement that the database rolls back.
const MAX_ATTEMPTS: u32 = 5;
/// The pause after the first attempt; after the nth it is n times as long.
const BACKOFF: Duration = Duration::from_millis(5);
/// The longest that a transaction of several statements may take.
const TRANSACTION_DEADLINE: Duration = Duration::from_secs(20);
const NO_TIMEOUT: &str = "set local statement_timeout = 0";
/// The longest wait for a connection to a host that takes writes.
const CONNECT_DEADLINE: Duration = Duration::from_secs(4);

/// Returns the settings of every connection: limits on a statement and on a transaction that does nothing.
fn session_settings() -> String {
    format!(
        "set statement_timeout = {};
         set idle_in_transaction_session_timeout = {}",
        STATEMENT_TIMEOUT.as_millis(),
        TRANSACTION_DEADLINE.as_millis()
    )
}

fn pool(connection: &Connection) -> deadpool_postgres::Pool {
    let manager = Manager::from_connect(
        // The connection has settings of its own.
        tokio_postgres::Config::new(),
        connection.clone(),
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    let session = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move {
            client
                .batch_execute(&session_settings())
                .await
                .map_err(HookError::Backend)
        })
    });
    deadpool_postgres::Pool::builder(manager)
        .max_size(connection.connections)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(CONNECT_DEADLINE))
        .create_timeout(Some(CONNECT_DEADLINE))
        .recycle_timeout(Some(CONNECT_DEADLINE))
        .post_create(session)
        .build()
        .expect("a pool with timeouts has a runtime")
}

/// Prepares and executes a statement. Sets `is_sent` between the two: before that, the database can't have run it.
async fn execute(
    client: &Object,
    sql: &str,
    parameters: &[Parameter<'_>],
    is_sent: &mut bool,
) -> Result<Done, Error> {
    let statement = client.prepare_cached(sql).await?;
    *is_sent = true;
    let parameters = parameters.iter().copied();
    let mut stream = std::pin::pin!(client.query_raw(&statement, parameters).await?);
    let mut rows = Vec::new();
    while let Some(row) = stream.try_next().await? {
        rows.push(row);
    }
    Ok(Done {
        written: stream.rows_affected().unwrap_or_default(),
        rows,
    })
}

/// Classifies an error by its SQLSTATE, and says whether the host should no longer be used.
fn classify(error: &Error) -> (Failed, bool) {
    let unavailable = Unavailable(causes(error));
    let Some(reported) = error.as_db_error() else {
        return (Failed::Unknown(unavailable), true);
    };
    let code = reported.code();
    if [
        &SqlState::T_R_SERIALIZATION_FAILURE,
        &SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .contains(&code)
    {
        (Failed::Undone(unavailable), false)
    } else if *code == SqlState::UNIQUE_VIOLATION {
        (Failed::Duplicate(unavailable), false)
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        // The host was the primary when the connection was opened.
        (Failed::Undone(unavailable), true)
    } else if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        || code.code().starts_with("08")
        || !keeps_session(reported)
    {
        // A session that was terminated may have committed here and been waiting for a replica to confirm.
        (Failed::Unknown(unavailable), true)
    } else {
        (Failed::Nothing(unavailable), false)
    }
}

/// Returns whether the session goes on after an error: its severity is ERROR, not FATAL or PANIC. Not every engine
/// sends the severity untranslated, in the field that `parsed_severity` reads.
fn keeps_session(reported: &DbError) -> bool {
    match reported.parsed_severity() {
        Some(severity) => severity == Severity::Error,
        None => reported.severity() == "ERROR",
    }
}

/// Formats an error with all that caused it: the outer ones say only that there was one.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
