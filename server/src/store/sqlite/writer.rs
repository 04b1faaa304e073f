//! The one thread that writes. It takes what is waiting, runs it in one transaction, commits, then answers each caller:
//! a batch is what arrived while the last one was synced, so there is no timer and no choice between speed and delay. When
//! very much is waiting, [`Pace`] leaves some for the next batch; when little is, others may have the core first.
//!
//! A redemption is read, decided and written here, so nobody comes between, and a second one of the same batch finds what
//! the first has written.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::checkpoint::Checkpointer;
use super::{grants, unavailable};
use crate::store::writes::{Priority, QUEUE, Queue, Reply};
use crate::store::{Batches, Outcome, Redeemed, Redemption, Unavailable, Write};

/// The way to the thread. When this is dropped, the thread finishes what was queued and ends.
pub(super) struct Writer {
    pub(super) batches: Batches,
    queue: Option<Queue<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        checkpointer: Checkpointer,
    ) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "cache_size", CACHE)?;
        checkpointer.watch(&mut connection)?;
        let (queue, jobs) = Queue::new();
        let batches = Batches::default();
        let measured = batches.clone();
        let thread = thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || {
                run(&connection, &checkpointer, &measured, jobs);
                drop(connection);
                drop(checkpointer);
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

/// 4 MiB, which SQLite wants as a negative number of KiB. Pages that it drops are still in the cache of the operating system,
/// and twice as many made a refresh no faster.
const CACHE: i64 = -4096;

/// What waits.
enum Job {
    Write(Write, Reply<Outcome>),
    Redeem(Redemption, Reply<Option<Redeemed>>),
}

impl Job {
    fn carry_out(self, connection: &Connection) -> Done {
        match self {
            Self::Write(write, reply) => Done::Write(
                reply,
                told(grants::apply(connection, &write).map_err(unavailable)),
            ),
            Self::Redeem(redemption, reply) => {
                Done::Redeem(reply, told(grants::redeem(connection, &redemption)))
            }
        }
    }

    fn leave(self, because: Unavailable) -> Done {
        match self {
            Self::Write(_, reply) => Done::Write(reply, Err(because)),
            Self::Redeem(_, reply) => Done::Redeem(reply, Err(because)),
        }
    }

    fn is_erasure(&self) -> bool {
        matches!(self, Self::Write(Write::EraseGuest(..), _))
    }
}

/// What waits to be durable, and then to be told.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are redemptions, and a box for each would cost more than it saves"
)]
enum Done {
    Write(Reply<Outcome>, Result<Outcome, Unavailable>),
    Redeem(
        Reply<Option<Redeemed>>,
        Result<Option<Redeemed>, Unavailable>,
    ),
}

impl Done {
    /// A redemption that is refused or repeated writes nothing.
    fn has_written(&self) -> bool {
        match self {
            Self::Write(..) => true,
            Self::Redeem(_, result) => {
                matches!(result, Ok(Some(redeemed)) if redeemed.next().is_some())
            }
        }
    }

    /// Says what came of it or, if the transaction came to nothing, why.
    fn answer(self, committed: &Result<(), Unavailable>) {
        match self {
            Self::Write(reply, result) => reply.send(committed.clone().and(result)),
            Self::Redeem(reply, result) => reply.send(committed.clone().and(result)),
        }
    }
}

fn run(
    connection: &Connection,
    checkpointer: &Checkpointer,
    batches: &Batches,
    mut jobs: mpsc::Receiver<Job>,
) {
    let mut batch = Vec::with_capacity(QUEUE);
    let mut pace = Pace { most: LEAST };
    while jobs.blocking_recv_many(&mut batch, pace.most) > 0 {
        if batch.len() < LEAST {
            // A commit costs the same for few as for many. Who waits for this core may be about to bring more; if nobody
            // does, this is nothing.
            thread::yield_now();
            if !jobs.is_empty() {
                let room = pace.most - batch.len();
                jobs.blocking_recv_many(&mut batch, room);
            }
        }
        let started = Instant::now();
        let has_erased = batch.iter().any(Job::is_erasure);
        let mut done = Vec::with_capacity(batch.len());
        let committed = commit(connection, batch.drain(..), &mut done, &mut pace);
        let writes = done.iter().filter(|done| done.has_written()).count();
        if writes > 0 {
            batches.observe(writes, started.elapsed());
        }
        let committed = committed.map_err(|error| {
            tracing::error!(error = %error, writes, "the store could not commit");
            unavailable(error)
        });
        for done in done {
            done.answer(&committed);
        }
        if has_erased {
            checkpointer.erased();
        }
        checkpointer.after_batch(connection);
    }
}

/// How many jobs a batch takes: as many as are carried out in the time of a commit.
///
/// With more, everyone waits for the one batch and then all go on at once, so that either this thread has nothing to do or
/// all others haven't. With fewer, too much time goes into syncing. So the slower the disk, the larger the batches.
struct Pace {
    most: usize,
}

impl Pace {
    fn note(&mut self, jobs: usize, carried_out_in: Duration, committed_in: Duration) {
        let each = carried_out_in.as_nanos() / jobs.max(1) as u128;
        let fit = committed_in.as_nanos() / each.max(1);
        self.most = usize::try_from(fit).unwrap_or(QUEUE).clamp(LEAST, QUEUE);
    }
}

/// A sync is worth so many jobs in any case.
const LEAST: usize = 16;

/// Runs a batch. A statement that fails undoes only itself. If SQLite gave up the whole transaction, which is the error
/// here, nothing of the batch has happened.
fn commit(
    connection: &Connection,
    mut batch: impl Iterator<Item = Job>,
    done: &mut Vec<Done>,
    pace: &mut Pace,
) -> rusqlite::Result<()> {
    let started = Instant::now();
    let committed = run_alone(connection, "begin immediate").and_then(|()| {
        for job in batch.by_ref() {
            done.push(job.carry_out(connection));
            if connection.is_autocommit() {
                let abort = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
                let why = Some("the transaction was rolled back".into());
                return Err(rusqlite::Error::SqliteFailure(abort, why));
            }
        }
        let carried_out = Instant::now();
        run_alone(connection, "commit")?;
        pace.note(done.len(), carried_out - started, carried_out.elapsed());
        Ok(())
    });
    if committed.is_err() && !connection.is_autocommit() {
        let _ = run_alone(connection, "rollback");
    }
    let untried = Unavailable("the write was not tried".to_owned());
    done.extend(batch.map(|job| job.leave(untried.clone())));
    committed
}

fn run_alone(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

fn told<T>(result: Result<T, Unavailable>) -> Result<T, Unavailable> {
    result.inspect_err(|error| tracing::error!(error = %error, "the store could not write"))
}
