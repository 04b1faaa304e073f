//! Syncs the log, and then answers what it holds, while the writer is at its next batch.
//!
//! The writer commits with `synchronous = NORMAL`: SQLite then syncs where the file would else be damaged, and leaves it
//! open whether a commit survives a power cut. That is settled here, once for all batches that have gathered during the last
//! sync, and nobody is answered before.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use super::unavailable;
use super::writer::Done;
use crate::store::{Batches, Unavailable};

/// The way to the thread. When this is dropped, the thread finishes what it was given and ends.
pub(super) struct Syncer {
    batches: Option<SyncSender<Batch>>,
    unsynced: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A batch whose transaction has ended.
pub(super) struct Batch {
    pub(super) done: Vec<Done>,
    pub(super) committed: Result<(), Unavailable>,
    pub(super) started: Instant,
}

/// The log couldn't be synced, so what was written may be lost with the machine.
pub(super) struct SyncFailed;

impl Syncer {
    /// `log` is what to sync; nothing, if a power cut may lose guests.
    pub(super) fn start(log: Option<File>, measured: Batches) -> Self {
        let (batches, committed) = sync_channel(AHEAD);
        let unsynced = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&unsynced);
        let thread = thread::Builder::new()
            .name("sqlite-sync".into())
            .spawn(move || run(log.as_ref(), &committed, &counted, &measured))
            .expect("a thread can be started");
        Self {
            batches: Some(batches),
            unsynced,
            thread: Some(thread),
        }
    }

    /// Has the batch answered when it is durable.
    pub(super) fn settle(&self, batch: Batch) -> Result<(), SyncFailed> {
        // It may have read what others are still waiting for.
        if batch.writes() == 0 && self.unsynced.load(Ordering::Acquire) == 0 {
            batch.answer(&Ok(()));
            return Ok(());
        }
        self.unsynced.fetch_add(1, Ordering::AcqRel);
        let batches = self.batches.as_ref();
        let sent = batches.map(|batches| batches.send(batch));
        sent.map_or(Ok(()), |sent| {
            sent.map_err(|unsent| {
                unsent.0.answer(&Err(ended()));
                SyncFailed
            })
        })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many batches the writer may be ahead.
const AHEAD: usize = 16;

fn run(
    log: Option<&File>,
    committed: &Receiver<Batch>,
    unsynced: &AtomicUsize,
    measured: &Batches,
) {
    while let Ok(first) = committed.recv() {
        let started = first.started;
        let group: Vec<Batch> = [first].into_iter().chain(committed.try_iter()).collect();
        let writes = group.iter().map(Batch::writes).sum();
        let synced = match log {
            Some(log) if writes > 0 => log.sync_data(),
            _ => Ok(()),
        };
        let failed = synced.as_ref().err().map(|error| {
            tracing::error!(
                error = %error,
                "the log can't be synced, so nothing is written any more. Look after the disk, then restart the server"
            );
        });
        if writes > 0 && failed.is_none() {
            measured.observe(writes, started.elapsed());
        }
        let synced = synced.map_err(unavailable);
        // Before the answers: whoever gets one may come again at once.
        unsynced.fetch_sub(group.len(), Ordering::AcqRel);
        for batch in group {
            batch.answer(&synced);
        }
        if failed.is_some() {
            // A second sync might succeed without what the first has lost.
            return;
        }
    }
}

fn ended() -> Unavailable {
    Unavailable("the log can't be synced: restart the server".to_owned())
}

impl Batch {
    fn writes(&self) -> usize {
        self.done.iter().filter(|done| done.has_written()).count()
    }

    fn answer(self, synced: &Result<(), Unavailable>) {
        let settled = self.committed.and_then(|()| synced.clone());
        for done in self.done {
            done.answer(&settled);
        }
    }
}
