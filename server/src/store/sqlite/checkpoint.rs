//! Moves the log into the database file, and lets it start over, so that it stays bounded and commits wait little for that.
//!
//! Nothing is moved until the log is long. Then a thread with a connection of its own moves what stands in it while the
//! writer goes on. The log starts over with a transaction that begins when nothing is left to move; under steady load there
//! always is something. So the thread moves and syncs again and again until little is left, and leaves the rest to the
//! writer, which moves it between two batches.
//!
//! What was moved is written back to the disk in small pieces before the file is synced. Otherwise each commit meanwhile would
//! wait behind all of it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use guestpass_write_back::write_back;
use rusqlite::Connection;

/// The way to the thread. When this is dropped, the thread ends.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    log: Arc<Log>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the writer and the thread know of the log.
#[derive(Default)]
struct Log {
    /// How many pages it has.
    pages: AtomicU32,
    /// How many of them stand in the file too.
    moved: AtomicU32,
    /// The writer is to move the rest.
    rest_is_writers: AtomicBool,
    /// What was erased still stands in it.
    has_erased: AtomicBool,
    /// It could not be moved: someone reads an old part of it perhaps, a backup. The thread tries again [`LATER`].
    is_stuck: AtomicBool,
}

impl Checkpointer {
    /// `open` opens the thread's connection, when there is something to move. `file` is the database file, to be synced.
    pub(super) fn start(
        open: impl Fn() -> rusqlite::Result<Connection> + Send + 'static,
        file: Arc<File>,
    ) -> Self {
        let (wake, woken) = sync_channel(1);
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || {
                run(open, &woken, &file, &shared);
                drop(file);
            })
            .expect("a thread can be started");
        Self {
            wake: Some(wake),
            log,
            thread: Some(thread),
        }
    }

    /// Has the writer's connection say after each commit how long the log is.
    pub(super) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(&self.log);
        connection.wal_hook(Some(move |_: &mut _, pages| {
            log.pages
                .store(u32::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// The writer has answered a batch: it moves what is left to it, or wakes the thread when the log is long.
    pub(super) fn after_batch(&self, connection: &Connection) {
        if self.log.rest_is_writers.swap(false, Ordering::AcqRel) {
            if let Err(error) = self.log.move_pages(connection, PASSIVE) {
                note(&error);
            }
        } else if self.log.is_long() && !self.log.is_stuck.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Has the log emptied soon: what was erased still stands in it.
    pub(super) fn erased(&self) {
        self.log.has_erased.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Moves all of the log at once, however long that takes.
    pub(super) fn empty_now(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.log.move_pages(connection, TRUNCATE).map(drop)
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

/// So many pages, some 256 MiB, wait to be moved at most. The more there are, the more often one that is moved stands for many
/// writes of it, and the more of them lie side by side in the file; but a crash leaves so much to read again.
const LONG: u32 = 131_072;

/// What the writer moves in some two milliseconds.
const LITTLE: u32 = 256;

/// As much as may be left to the writer if less doesn't come about: it writes as fast as the thread moves.
const ENOUGH: u32 = 2048;

/// A commit waits a millisecond or two for so many pages here and there in the file.
const TOGETHER: u64 = 256;

/// In bytes. What lies side by side is written at once.
const SMALLEST_PIECE: u64 = 256 * 1024;

/// How often the thread moves before it lets the log grow, because someone reads an old part of it.
const MOVES: usize = 8;

/// How long the writer may be made to wait in vain, for the same reason.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long after that the thread tries again.
const LATER: Duration = Duration::from_secs(3);

fn run(
    open: impl Fn() -> rusqlite::Result<Connection>,
    woken: &Receiver<()>,
    file: &File,
    log: &Log,
) {
    let mut connection = None;
    while wait(woken, log) {
        let connection = match &connection {
            Some(opened) => Ok(opened),
            None => open().map(|opened| &*connection.insert(opened)),
        };
        let has_erased = log.has_erased.swap(false, Ordering::SeqCst);
        let tried = connection.and_then(|connection| {
            if has_erased {
                empty(connection, file, log)
            } else if log.is_long() {
                shorten(connection, file, log)
            } else {
                // Woken once more while it was at work.
                Ok(true)
            }
        });
        let done = tried.unwrap_or_else(|error| {
            note(&error);
            false
        });
        log.has_erased
            .fetch_or(has_erased && !done, Ordering::SeqCst);
        log.is_stuck.store(!done, Ordering::Relaxed);
    }
}

/// Waits for something to do. `false` if there will be nothing any more.
fn wait(woken: &Receiver<()>, log: &Log) -> bool {
    if log.is_stuck.load(Ordering::Relaxed) {
        woken.recv_timeout(LATER) != Err(RecvTimeoutError::Disconnected)
    } else {
        woken.recv().is_ok()
    }
}

fn note(error: &rusqlite::Error) {
    tracing::warn!(error = %error, "the log could not be moved into the database file");
}

/// Leaves no log. `false` if someone reads it. The writer waits for the end of this, so nearly all is done before.
fn empty(connection: &Connection, file: &File, log: &Log) -> rusqlite::Result<bool> {
    move_and_sync(connection, file, log)?;
    connection.busy_timeout(PATIENCE)?;
    let was_busy = log.move_pages(connection, TRUNCATE)?;
    Ok(!was_busy)
}

/// Leaves little of the log, to the writer. `false` if someone reads an old part of it.
fn shorten(connection: &Connection, file: &File, log: &Log) -> rusqlite::Result<bool> {
    let mut last_left = u32::MAX;
    for _ in 0..MOVES {
        move_and_sync(connection, file, log)?;
        let left = log.left();
        if left <= LITTLE || (left >= last_left && left <= ENOUGH) {
            log.rest_is_writers.store(true, Ordering::Release);
            return Ok(true);
        }
        last_left = left;
    }
    Ok(false)
}

/// Moves what stands in the log. SQLite syncs the file itself before it lets the log start over; that is short after this.
fn move_and_sync(connection: &Connection, file: &File, log: &Log) -> rusqlite::Result<()> {
    let waiting = log.left();
    log.move_pages(connection, PASSIVE)?;
    // What was added meanwhile, so that one sync does for both.
    log.move_pages(connection, PASSIVE)?;
    // Where that can't be done, the sync does it all. If the disk fails, SQLite hears of it in its own sync.
    let _ = write_back_in_pieces(file, waiting);
    if let Err(error) = file.sync_data() {
        tracing::warn!(error = %error, "the database file could not be synced");
    }
    Ok(())
}

/// In pieces of which [`TOGETHER`] pages were changed, if `changed` pages were and they lie all over the file.
fn write_back_in_pieces(file: &File, changed: u32) -> io::Result<()> {
    let length = file.metadata()?.len();
    let piece = (length * TOGETHER / u64::from(changed.max(1))).max(SMALLEST_PIECE);
    let mut offset = 0;
    while offset < length {
        write_back(file, offset, piece)?;
        offset += piece;
    }
    Ok(())
}

/// Waits for nobody.
const PASSIVE: &str = "pragma wal_checkpoint(passive)";

/// Waits for everyone, and leaves no log.
const TRUNCATE: &str = "pragma wal_checkpoint(truncate)";

impl Log {
    fn is_long(&self) -> bool {
        self.left() >= LONG
    }

    fn left(&self) -> u32 {
        let (pages, moved) = (
            self.pages.load(Ordering::Relaxed),
            self.moved.load(Ordering::Relaxed),
        );
        // The log has started over if it has fewer pages than were moved of it.
        pages.checked_sub(moved).unwrap_or(pages)
    }

    /// Whether someone was in the way.
    fn move_pages(&self, connection: &Connection, how: &str) -> rusqlite::Result<bool> {
        let mut statement = connection.prepare_cached(how)?;
        let (was_busy, moved): (bool, i64) =
            statement.query_row([], |row| Ok((row.get(0)?, row.get(2)?)))?;
        // -1 if another process was at it.
        let moved = u32::try_from(moved).unwrap_or_default();
        self.moved.store(moved, Ordering::Relaxed);
        Ok(was_busy)
    }
}
