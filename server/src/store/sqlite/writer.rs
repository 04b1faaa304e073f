//! The one thread that writes. It takes what is waiting, runs it in one transaction, commits, then answers each caller:
//! a batch is what arrived while the last one was synced, so there is no timer and no choice between speed and delay.

use std::thread;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::checkpoint::Checkpointer;
use super::{grants, unavailable};
use crate::store::writes::{Job, QUEUE, Queue};
use crate::store::{Batches, Outcome, Unavailable, Write};

/// The way to the thread. When this is dropped, the thread finishes what was queued and ends.
pub(super) struct Writer {
    pub(super) batches: Batches,
    queue: Option<Queue>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, checkpointer: Checkpointer) -> Self {
        let (queue, jobs) = Queue::new();
        let batches = Batches::default();
        let measured = batches.clone();
        let thread = thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || run(&connection, &checkpointer, &measured, jobs))
            .expect("a thread can be started");
        Self {
            batches,
            queue: Some(queue),
            thread: Some(thread),
        }
    }

    /// Queues a write and waits until it is durable. Refused at once if the queue is too full for its kind.
    pub(super) async fn write(&self, write: Write) -> Result<Outcome, Unavailable> {
        let queue = self.queue.as_ref();
        let queue = queue.expect("the queue is open until the store is dropped");
        queue.write(write).await
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

fn run(
    connection: &Connection,
    checkpointer: &Checkpointer,
    batches: &Batches,
    mut jobs: mpsc::Receiver<Job>,
) {
    let mut batch = Vec::with_capacity(QUEUE);
    while jobs.blocking_recv_many(&mut batch, QUEUE) > 0 {
        let started = Instant::now();
        let outcomes = commit(connection, &batch);
        batches
            .writes
            .observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        batches.seconds.observe(started.elapsed().as_secs_f64());
        checkpointer.wrote(batch.len());
        let erases = |job: &Job| matches!(job.write, Write::EraseGuest(..));
        if batch.iter().any(erases) {
            checkpointer.erased();
        }
        for (job, outcome) in batch.drain(..).zip(outcomes) {
            job.answer(outcome);
        }
    }
}

/// Runs a batch. A statement that fails undoes only itself; if SQLite gave up the whole transaction, nothing of the
/// batch has happened and every caller learns so.
fn commit(connection: &Connection, batch: &[Job]) -> Vec<Result<Outcome, Unavailable>> {
    let everyone = |error: rusqlite::Error| {
        tracing::error!(error = %error, writes = batch.len(), "the store could not commit");
        let error = unavailable(error);
        batch.iter().map(|_| Err(error.clone())).collect()
    };
    if let Err(error) = connection.execute_batch("begin immediate") {
        return everyone(error);
    }
    let mut outcomes = Vec::with_capacity(batch.len());
    for job in batch {
        let result = grants::apply(connection, &job.write);
        if connection.is_autocommit() {
            let lost = rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT),
                Some("the transaction was rolled back".into()),
            );
            return everyone(result.err().unwrap_or(lost));
        }
        outcomes.push(result.map_err(|error| {
            tracing::error!(error = %error, "the store could not write");
            unavailable(error)
        }));
    }
    if let Err(error) = connection.execute_batch("commit") {
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("rollback");
        }
        return everyone(error);
    }
    outcomes
}
