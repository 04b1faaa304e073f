//! The one worker thread that writes, with group commit: it takes the jobs that are waiting, runs them in one transaction,
//! commits, then answers each caller. A batch is what arrived while the last one was synced, so there is no timer and no
//! choice between throughput and latency. [`BatchSizer`] limits a batch when very many jobs wait; when few do, the worker
//! yields its core once before it starts.
//!
//! A redemption is read, decided and written in that transaction, so no other write comes between, and a second redemption
//! in the same batch reads what the first has written.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::mpsc;

use super::checkpoint::Checkpointer;
use super::files::{self, Files};
use super::{grants, unavailable};
use crate::store::writes::{Priority, QUEUE, Queue, Reply, too_late};
use crate::store::{BatchMetrics, Outcome, Redeemed, Redemption, Unavailable, Write};

/// The handle of the worker thread. When it is dropped, the thread finishes the queue and ends.
pub(super) struct Writer {
    pub(super) batches: BatchMetrics,
    queue: Option<Queue<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        checkpointer: Checkpointer,
        files: Arc<Files>,
    ) -> rusqlite::Result<Self> {
        set_cache(&connection)?;
        checkpointer.watch(&mut connection)?;
        let (queue, jobs) = Queue::new();
        let batches = BatchMetrics::default();
        let measured = batches.clone();
        let thread = thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                run(&connection, &checkpointer, &files, &measured, jobs);
                files.close(connection);
                drop(checkpointer);
                drop(files);
            })
            .expect("a thread can be started");
        Ok(Self {
            batches,
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Queues a write and waits until it is durable. Refused at once if the queue is too full for its kind.
    pub(super) async fn write(&self, write: Write) -> Result<Outcome, Unavailable> {
        let priority = Priority::of_write(&write);
        self.queue()
            .put(priority, |reply| Job::Write(write, reply))
            .await
    }

    /// Queues a redemption and waits until what it has written is durable. Refused at once if the queue is too full.
    pub(super) async fn redeem(
        &self,
        redemption: Redemption,
    ) -> Result<Option<Redeemed>, Unavailable> {
        let priority = Priority::of_redemption(&redemption);
        self.queue()
            .put(priority, |reply| Job::Redeem(redemption, reply))
            .await
    }

    /// An error if not even a refresh would be taken now.
    pub(super) fn check_room(&self) -> Result<(), Unavailable> {
        self.queue().check_room(Priority::Known)
    }

    fn queue(&self) -> &Queue<Job> {
        let queue = self.queue.as_ref();
        queue.expect("the queue is open until the store is dropped")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// 4 MiB, which SQLite wants as a negative number of KiB. Pages that it drops are still in the cache of the operating
/// system, and twice as many made a refresh no faster.
const CACHE: i64 = -4096;

pub(super) fn set_cache(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", CACHE)
}

/// A job in the queue.
#[expect(
    clippy::large_enum_variant,
    reason = "the largest is a new guest, and a box would be an allocation for each"
)]
enum Job {
    Write(Write, Reply<Outcome>),
    Redeem(Redemption, Reply<Option<Redeemed>>),
}

impl Job {
    /// Carries the job out, unless it has waited too long by `now`.
    fn carry_out(self, connection: &Connection, now: Instant) -> Done {
        match self {
            Self::Write(write, reply) => {
                let result = if reply.is_stale(now) {
                    Err(too_late().into())
                } else {
                    log_error(grants::apply(connection, &write).map_err(WriteFailed::from))
                };
                Done::Write(write, reply, result)
            }
            Self::Redeem(redemption, reply) => {
                let result = if reply.is_stale(now) {
                    Err(too_late().into())
                } else {
                    log_error(grants::redeem(connection, &redemption))
                };
                Done::Redeem(redemption, reply, result)
            }
        }
    }

    fn fail(self, error: WriteFailed) -> Done {
        match self {
            Self::Write(write, reply) => Done::Write(write, reply, Err(error)),
            Self::Redeem(redemption, reply) => Done::Redeem(redemption, reply, Err(error)),
        }
    }

    fn is_erasure(&self) -> bool {
        use Write::{EraseGuest, ForgetGuests, RemoveEvents};
        matches!(
            self,
            Self::Write(EraseGuest(..) | ForgetGuests(..) | RemoveEvents(_), _)
        )
    }
}

/// A job that was carried out and is answered once its batch is durable.
enum Done {
    Write(Write, Reply<Outcome>, Result<Outcome, WriteFailed>),
    Redeem(
        Redemption,
        Reply<Option<Redeemed>>,
        Result<Option<Redeemed>, WriteFailed>,
    ),
}

impl Done {
    /// Returns whether the job has written: a redemption that is refused or repeated hasn't.
    fn has_written(&self) -> bool {
        match self {
            Self::Write(..) => true,
            Self::Redeem(_, _, result) => {
                matches!(result, Ok(Some(redeemed)) if redeemed.is_written())
            }
        }
    }

    fn error(&self) -> Option<&WriteFailed> {
        match self {
            Self::Write(_, _, result) => result.as_ref().err(),
            Self::Redeem(_, _, result) => result.as_ref().err(),
        }
    }

    /// Returns the job, to be carried out once more after its batch was rolled back.
    fn again(self) -> Job {
        match self {
            Self::Write(write, reply, _) => Job::Write(write, reply),
            Self::Redeem(redemption, reply, _) => Job::Redeem(redemption, reply),
        }
    }

    /// Answers the caller with the result of the job or, if the batch was rolled back, with the error that did it.
    fn answer(self, committed: &Result<(), WriteFailed>) {
        let committed = committed.as_ref().map(drop);
        let committed = committed.map_err(|failed| failed.error.clone());
        match self {
            Self::Write(_, reply, result) => {
                reply.send(committed.and(result.map_err(|failed| failed.error)));
            }
            Self::Redeem(_, reply, result) => {
                reply.send(committed.and(result.map_err(|failed| failed.error)));
            }
        }
    }
}

/// The error of a job or of a batch.
#[derive(Clone)]
pub(super) struct WriteFailed {
    error: Unavailable,
    /// Its code, if it is SQLite's.
    code: Option<ErrorCode>,
    /// The disk has no room.
    is_full: bool,
}

impl From<rusqlite::Error> for WriteFailed {
    fn from(error: rusqlite::Error) -> Self {
        Self {
            code: error.sqlite_error_code(),
            is_full: files::is_full(&error),
            error: unavailable(error),
        }
    }
}

impl From<Unavailable> for WriteFailed {
    fn from(error: Unavailable) -> Self {
        Self {
            error,
            code: None,
            is_full: false,
        }
    }
}
fn run(
    connection: &Connection,
    checkpointer: &Checkpointer,
    files: &Files,
    batches: &BatchMetrics,
    mut jobs: mpsc::Receiver<Job>,
) {
    let mut batch = Vec::with_capacity(QUEUE);
    let mut sizer = BatchSizer { most: LEAST };
    while jobs.blocking_recv_many(&mut batch, sizer.most) > 0 {
        if batch.len() < LEAST {
            // A commit costs the same for few as for many. Who waits for this core may be about to bring more; if nobody
            // does, this is nothing.
            thread::yield_now();
            if !jobs.is_empty() {
                let room = sizer.most - batch.len();
                jobs.blocking_recv_many(&mut batch, room);
            }
        }
        let started = Instant::now();
        let has_erased = batch.iter().any(Job::is_erasure);
        let mut done = Vec::with_capacity(batch.len());
        let mut committed = commit(connection, files, batch.drain(..), &mut done, &mut sizer);
        let is_full = committed.as_ref().is_err_and(|failed| failed.is_full);
        if is_full && checkpointer.make_room(connection) {
            let again: Vec<_> = done.drain(..).map(Done::again).collect();
            committed = commit(connection, files, again.into_iter(), &mut done, &mut sizer);
        }
        let writes = done.iter().filter(|done| done.has_written()).count();
        if writes > 0 {
            batches.observe(writes, started.elapsed());
        }
        if let Err(failed) = &committed {
            files.note(failed.code, &failed.error);
            tracing::error!(error = %failed.error, writes, "the store could not commit");
        }
        for done in done {
            if let Some(failed) = done.error() {
                files.note(failed.code, &failed.error);
            }
            done.answer(&committed);
        }
        if has_erased {
            checkpointer.erased();
        }
        checkpointer.after_batch(connection);
    }
}

/// Limits a batch to as many jobs as are carried out in the time of a commit.
///
/// With more, the writer and the threads for requests would take turns to be idle instead of working at the same time. With
/// fewer, too much time goes into syncing. So the slower the disk, the larger the batches.
struct BatchSizer {
    most: usize,
}

impl BatchSizer {
    fn note(&mut self, jobs: usize, carried_out_in: Duration, committed_in: Duration) {
        let each = carried_out_in.as_nanos() / jobs.max(1) as u128;
        let fit = committed_in.as_nanos() / each.max(1);
        self.most = usize::try_from(fit).unwrap_or(QUEUE).clamp(LEAST, QUEUE);
    }
}

/// The smallest limit of a batch, however quick a commit is.
const LEAST: usize = 16;

/// Runs a batch in one transaction. A statement that fails undoes only itself, unless SQLite rolls the transaction back
/// with it, as it does when the disk is full (SQLITE_FULL) or broken (SQLite, "Response To Errors Within A Transaction"). Then, as when
/// the commit fails, nothing of the batch has happened, and the error that did it is everyone's.
///
/// A sync of the log that fails is such an error, and harms no more than its batch: what it may have lost was answered to
/// nobody, and the next batch writes over it. Should there be none, the next start moves all of the log into the file
/// before it adds to it.
fn commit(
    connection: &Connection,
    files: &Files,
    mut batch: impl Iterator<Item = Job>,
    done: &mut Vec<Done>,
    sizer: &mut BatchSizer,
) -> Result<(), WriteFailed> {
    let started = Instant::now();
    let committed = files
        .check_writable()
        .map_err(WriteFailed::from)
        .and_then(|()| Ok(run_alone(connection, "begin immediate")?))
        .and_then(|()| {
            // Another process may have kept this one waiting.
            let begun = Instant::now();
            for job in batch.by_ref() {
                done.push(job.carry_out(connection, begun));
                if connection.is_autocommit() {
                    let error = done.last().and_then(Done::error).cloned();
                    return Err(error.unwrap_or_else(rolled_back));
                }
            }
            let carried_out = Instant::now();
            run_alone(connection, "commit")?;
            sizer.note(done.len(), carried_out - started, carried_out.elapsed());
            Ok(())
        });
    if let Err(failed) = &committed {
        if !connection.is_autocommit() {
            let _ = run_alone(connection, "rollback");
        }
        done.extend(batch.map(|job| job.fail(failed.clone())));
    }
    committed
}

/// Only a defect has SQLite roll back without an error.
fn rolled_back() -> WriteFailed {
    Unavailable("the transaction was rolled back".to_owned()).into()
}

pub(super) fn run_alone(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

fn log_error<T>(result: Result<T, WriteFailed>) -> Result<T, WriteFailed> {
    result.inspect_err(|failed| tracing::error!(error = %failed.error, "the store could not write"))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use guestpass_core::time::Timestamp;
    use tempfile::TempDir;

    use super::*;
    use crate::random::SecureGenerator;
    use crate::store::RevokedAccessToken;
    use crate::store::sqlite::{SqliteStore, Synchronous, open};
    use crate::timing::STALE;

    /// A statement finds the database full in the middle of a batch, and SQLite rolls the batch back.
    #[test]
    fn f27_a_statement_that_ends_the_batch_gives_everyone_its_error() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("guestpass.db");
        SqliteStore::migrate(&file, &SecureGenerator::new()).unwrap();
        let connection = open(&file, Synchronous::Off).unwrap();
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, usize>(0));
        let pages = number("pragma page_count").unwrap();
        let full = format!("pragma max_page_count = {pages}");
        assert_eq!(number(&full), Ok(pages));
        let stored = || number("select count(*) from revoked_access_tokens");

        let files = Files::open(&file).unwrap();
        for answer in revoke_tokens(&connection, &files) {
            let problem = answer.unwrap_err().0;
            assert!(
                problem.starts_with("database or disk is full. Make room"),
                "{problem}"
            );
        }
        assert_eq!(stored(), Ok(0));

        number("pragma max_page_count = 1000000").unwrap();
        for answer in revoke_tokens(&connection, &files) {
            assert_eq!(answer.unwrap(), Outcome::Done);
        }
        assert_eq!(stored(), Ok(TOKENS));
    }

    /// Its caller was told 503 long ago.
    #[test]
    fn f09_a_job_that_has_waited_too_long_is_refused_and_not_carried_out() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("guestpass.db");
        SqliteStore::migrate(&file, &SecureGenerator::new()).unwrap();
        let connection = open(&file, Synchronous::Off).unwrap();
        let (queue, mut jobs) = Queue::new();
        for (waited, expected) in [(STALE / 2, true), (STALE * 2, false)] {
            let put = queue.put(Priority::Known, |reply| Job::Write(Write::Probe, reply));
            let mut caller = Box::pin(put);
            assert!(caller.as_mut().now_or_never().is_none());
            let job = jobs.try_recv().unwrap();
            job.carry_out(&connection, Instant::now() + waited)
                .answer(&Ok(()));
            let answer = caller.now_or_never().unwrap();
            assert_eq!(answer.is_ok(), expected, "{answer:?}");
        }
        let probes = "select writes from probe";
        assert_eq!(connection.query_row(probes, [], |row| row.get(0)), Ok(1));
    }

    /// More than fit on the pages of an empty database, and fewer than the queue holds.
    const TOKENS: usize = 1000;

    /// Revokes access tokens in one batch, and returns the answer that each caller gets.
    fn revoke_tokens(connection: &Connection, files: &Files) -> Vec<Result<Outcome, Unavailable>> {
        let (queue, mut jobs) = Queue::new();
        let put = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let token = RevokedAccessToken {
                id,
                at: Timestamp::from_millis(0),
                expires_at: Timestamp::from_millis(0),
            };
            let write = Write::RevokeAccessToken(token);
            Box::pin(queue.put(Priority::Known, |reply| Job::Write(write, reply)))
        };
        let mut callers: Vec<_> = (0..TOKENS).map(put).collect();
        for caller in &mut callers {
            assert!(caller.now_or_never().is_none());
        }
        let mut done = Vec::new();
        let batch = std::iter::from_fn(|| jobs.try_recv().ok());
        let mut sizer = BatchSizer { most: LEAST };
        let committed = commit(connection, files, batch, &mut done, &mut sizer);
        for done in done {
            done.answer(&committed);
        }
        callers
            .into_iter()
            .map(|caller| caller.now_or_never().unwrap())
            .collect()
    }
}
