//! Connections to the primary, and what an error says about the statement that it ended.

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
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::Connection;
use crate::store::Unavailable;
use crate::timing::{STATEMENT_DEADLINE, STATEMENT_TIMEOUT};

/// Connections to whichever host takes writes now. Never to a replica: what that says may be out of date.
pub(super) struct Pool {
    connection: Connection,
    tls: MakeRustlsConnect,
    current: RwLock<Connections>,
}

/// The connections that were made since all were last thrown away.
#[derive(Clone)]
struct Connections {
    generation: u64,
    pool: deadpool_postgres::Pool,
}

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// What came of a statement.
pub(super) struct Done {
    pub(super) rows: Vec<Row>,
    /// How many rows it wrote.
    pub(super) written: u64,
}

/// Why a statement, or a transaction, didn't come to its end.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database undid it, or is the wrong one for it: it may work the next time.
    Undone(Unavailable),
    /// There is such a row already. Nothing has happened.
    Duplicate(Unavailable),
    /// Nothing has happened.
    Nothing(Unavailable),
    /// There is no connection to be had, so nothing has happened, and nothing will soon.
    Unreachable(Unavailable),
    /// Nobody answered. It may have happened, or may still happen.
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

/// A connection for a transaction of several statements.
pub(super) struct Session<'a> {
    pool: &'a Pool,
    lent: Connections,
    client: Object,
}

/// Why a transaction ended early.
pub(super) enum Interrupted<E> {
    /// By the database.
    Database(Error),
    /// By what it found.
    Found(E),
    /// By nothing: nobody answered.
    Late,
}

impl<E> From<Error> for Interrupted<E> {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl Pool {
    /// Prepares connections; each is made when it is first needed.
    pub(super) fn new(connection: Connection) -> Result<Self, Unavailable> {
        let tls = connection.tls()?;
        let pool = pool(&connection, &tls);
        Ok(Self {
            connection,
            tls,
            current: RwLock::new(Connections {
                generation: 0,
                pool,
            }),
        })
    }

    /// What the database is called, without secrets.
    pub(super) fn name(&self) -> String {
        self.connection.to_string()
    }

    /// Reads rows; once more, on another connection, if nobody answers.
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

    /// Runs one statement, in a transaction of its own.
    pub(super) async fn run(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Done, Failed> {
        let mut attempt = 1;
        loop {
            let (lent, client) = self.lend().await?;
            let mut is_sent = false;
            let running = run(&client, sql, parameters, &mut is_sent);
            let ran = tokio::time::timeout(STATEMENT_DEADLINE, running).await.ok();
            let is_late = ran.is_none();
            let failed = match self.judge(&lent, client, ran) {
                // It was only described to the database.
                Err(Failed::Unknown(error)) if !is_sent && is_late => Failed::Nothing(error),
                Err(Failed::Unknown(error)) if !is_sent => Failed::Undone(error),
                Err(failed) => failed,
                done => return done,
            };
            match failed {
                Failed::Undone(error) if attempt < ATTEMPTS => {
                    tracing::debug!(attempt, %error, "a statement is tried again");
                    tokio::time::sleep(BETWEEN_ATTEMPTS * attempt).await;
                    attempt += 1;
                }
                failed => return Err(failed),
            }
        }
    }

    /// Lends a connection for a transaction of several statements: for what operators do now and then.
    pub(super) async fn session(&self) -> Result<Session<'_>, Unavailable> {
        let (lent, client) = self.lend().await?;
        Ok(Session {
            pool: self,
            lent,
            client,
        })
    }

    async fn lend(&self) -> Result<(Connections, Object), Failed> {
        loop {
            let lent = {
                let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
                current.clone()
            };
            let waiting = tokio::time::timeout(CONNECT_DEADLINE, lent.pool.get());
            return match waiting.await {
                Ok(Ok(client)) => Ok((lent, client)),
                // They were thrown away meanwhile, and there are others.
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

    /// Says what a result means; `None` is none in time. A connection that was lost, or leads to where no writes are
    /// taken, takes all others with it: they lead to the same host.
    fn judge<T>(
        &self,
        lent: &Connections,
        client: Object,
        result: Option<Result<T, Error>>,
    ) -> Result<T, Failed> {
        let (failed, is_lost) = match result {
            Some(Ok(done)) => return Ok(done),
            Some(Err(error)) => verdict(&error),
            None => {
                let error = Unavailable("the database doesn't answer".to_owned());
                (Failed::Unknown(error), true)
            }
        };
        if is_lost {
            drop(Object::take(client));
            self.rebuild(lent, &failed);
        }
        Err(failed)
    }

    /// Throws away all connections that are as old as that one.
    fn rebuild(&self, lent: &Connections, failed: &Failed) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation == lent.generation {
            tracing::warn!(?failed, "the database is looked for anew");
            current.pool.close();
            *current = Connections {
                generation: lent.generation + 1,
                pool: pool(&self.connection, &self.tls),
            };
        }
    }
}

impl Session<'_> {
    /// Begins a transaction that changes something.
    pub(super) async fn change(&mut self) -> Result<Transaction<'_>, Error> {
        self.client.transaction().await
    }

    /// Begins a transaction that sees one moment, however long that takes.
    pub(super) async fn look(&mut self) -> Result<Transaction<'_>, Error> {
        let builder = self.client.build_transaction().read_only(true);
        let builder = builder.isolation_level(IsolationLevel::RepeatableRead);
        let transaction = builder.start().await?;
        transaction.batch_execute(NO_TIMEOUT).await?;
        Ok(transaction)
    }

    /// Says what came of the transaction, which has been committed if all went well.
    pub(super) fn end<T, E>(self, ended: Result<T, Interrupted<E>>) -> Result<T, E>
    where
        E: From<Unavailable>,
    {
        let ended = match ended {
            Ok(result) => return Ok(result),
            Err(Interrupted::Found(error)) => return Err(error),
            Err(Interrupted::Database(error)) => Some(Err(error)),
            Err(Interrupted::Late) => None,
        };
        let judged = self.pool.judge(&self.lent, self.client, ended);
        judged.map_err(|failed| Unavailable::from(failed).into())
    }
}

/// Waits for a transaction, but not for ever.
pub(super) async fn in_time<T, E>(
    transaction: impl Future<Output = Result<T, Interrupted<E>>>,
) -> Result<T, Interrupted<E>> {
    let ended = tokio::time::timeout(CHANGE_DEADLINE, transaction).await;
    ended.unwrap_or(Err(Interrupted::Late))
}

/// How often what the database undoes is tried.
const ATTEMPTS: u32 = 5;
/// How long it is left alone after the first attempt.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(5);
/// The longest that a transaction of an operator may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(20);
const NO_TIMEOUT: &str = "set local statement_timeout = 0";
/// How long it may take to get hold of a host that takes writes.
const CONNECT_DEADLINE: Duration = Duration::from_secs(4);

/// Returns the settings of every connection: limits on a statement and on a transaction that does nothing.
fn session_settings() -> String {
    format!(
        "set statement_timeout = {};
         set idle_in_transaction_session_timeout = {}",
        STATEMENT_TIMEOUT.as_millis(),
        CHANGE_DEADLINE.as_millis()
    )
}

fn pool(connection: &Connection, tls: &MakeRustlsConnect) -> deadpool_postgres::Pool {
    let manager = Manager::from_config(
        connection.settings.clone(),
        tls.clone(),
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

async fn run(
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

/// What an error means for the statement, and whether the connection's host should be asked no more.
fn verdict(error: &Error) -> (Failed, bool) {
    let unavailable = Unavailable(causes(error));
    let Some(told) = error.as_db_error() else {
        return (Failed::Unknown(unavailable), true);
    };
    let code = told.code();
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
        // It was the primary when the connection was made.
        (Failed::Undone(unavailable), true)
    } else if *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        || code.code().starts_with("08")
        || !is_only_an_error(told)
    {
        // Of a session that was ended, not even the database says what became of its last statement: it may be durable
        // here and wait for a replica.
        (Failed::Unknown(unavailable), true)
    } else {
        (Failed::Nothing(unavailable), false)
    }
}

/// Whether the session goes on after it. Not every engine says so in a language of its own choice.
fn is_only_an_error(told: &DbError) -> bool {
    match told.parsed_severity() {
        Some(severity) => severity == Severity::Error,
        None => told.severity() == "ERROR",
    }
}

/// An error with what caused it: the outer ones say only that there was one.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
