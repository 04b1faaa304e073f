//! Moves the log into the database file, on a connection and a thread of its own, so that no commit waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

/// The way to the thread. When this is dropped, the thread ends.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    writes: AtomicUsize,
    erased: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(connection: Connection) -> Self {
        let (wake, woken) = sync_channel(1);
        let erased = Arc::new(AtomicBool::new(false));
        let to_do = Arc::clone(&erased);
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || run(&connection, &woken, &to_do))
            .expect("a thread can be started");
        Self {
            wake: Some(wake),
            writes: AtomicUsize::new(0),
            erased,
            thread: Some(thread),
        }
    }

    /// Counts what was written, and wakes the thread when that is worth it.
    pub(super) fn wrote(&self, count: usize) {
        if self.writes.fetch_add(count, Ordering::Relaxed) + count >= WRITES_BETWEEN {
            self.writes.store(0, Ordering::Relaxed);
            self.wake();
        }
    }

    /// Has the log emptied soon: what was erased still stands in it.
    pub(super) fn erased(&self) {
        self.erased.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn wake(&self) {
        // If the thread is at work already, it is awake.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A write fills one or two pages of the log, so this is some 8 MiB.
const WRITES_BETWEEN: usize = 1000;

/// A log of 64 MiB. Under steady load a passive checkpoint never catches up with the writer, and the log would grow for
/// ever; at this length the writer is made to wait for the little that a passive one has left over.
const RESTART_PAGES: i64 = 16_384;

/// How long the writer may be made to wait in vain, because someone still reads an old part of the log.
const RESTART_PATIENCE: Duration = Duration::from_millis(100);

fn run(connection: &Connection, woken: &Receiver<()>, erased: &AtomicBool) {
    let mut restart_at = RESTART_PAGES;
    while woken.recv().is_ok() {
        let moved = if erased.swap(false, Ordering::SeqCst) {
            empty(connection).map(|was_busy| {
                // Someone reads an old part of the log: at the next opportunity, then.
                erased.fetch_or(was_busy, Ordering::SeqCst);
            })
        } else {
            shorten(connection, &mut restart_at)
        };
        if let Err(error) = moved {
            tracing::warn!(error = %error, "the log could not be moved into the database file");
        }
    }
}

fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(RESTART_PATIENCE)?;
    let (was_busy, _) = checkpoint(connection, "truncate")?;
    Ok(was_busy)
}

fn shorten(connection: &Connection, restart_at: &mut i64) -> rusqlite::Result<()> {
    let (_, log_pages) = checkpoint(connection, "passive")?;
    if log_pages >= *restart_at {
        connection.busy_timeout(RESTART_PATIENCE)?;
        let (was_busy, _) = checkpoint(connection, "restart")?;
        // A long read, a backup perhaps: let the log grow rather than stall the writer again and again.
        *restart_at = if was_busy {
            log_pages + RESTART_PAGES
        } else {
            RESTART_PAGES
        };
    }
    Ok(())
}

/// Answers whether someone was in the way, and how many pages the log has.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(bool, i64)> {
    let sql = format!("pragma wal_checkpoint({mode})");
    connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
}
