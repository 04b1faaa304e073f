//! Checkpoints the write-ahead log: moves its pages into the database file and lets it start over, so that it stays bounded
//! while commits wait little.
//!
//! No checkpoint runs until the log is long. Then a worker thread with a connection of its own moves the log's pages while
//! the writer goes on. SQLite starts the log over with the first transaction that begins when no page is left to move;
//! under steady load there always is one. So the worker moves and syncs until few pages are left, and the writer moves
//! those between two batches.
//!
//! The worker has the moved pages written back to the disk in small pieces before it syncs the file. Otherwise each commit
//! meanwhile would wait behind all of them.
//!
//! When the disk is full, the log may hold most of it: then the writer has all of it moved at once and truncated. For the
//! pages that the file lacks, room is reserved while the log grows, or that could not be done. When the file can't be
//! synced, there are no more checkpoints, so that the log keeps what the file may have lost (`files.rs`).

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use guestpass_write_back::write_back;
use rusqlite::Connection;

use super::files::{Files, is_of_sync};
use super::leftover_log::numbered;
use crate::timing::BUSY_TIMEOUT;

/// The handle of the worker thread. When it is dropped, the thread ends.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    log: Arc<Log>,
    files: Arc<Files>,
    /// The time at which the log had no room to give back.
    lacked_room_at: Cell<Option<Instant>>,
    /// The length of the log, in pages, at which room is reserved next.
    reserves_at: Cell<u32>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The state of the log that the writer and the worker share.
#[derive(Default)]
struct Log {
    /// The number of pages in the log.
    pages: AtomicU32,
    /// The number of those that are in the file too.
    moved: AtomicU32,
    /// The writer is to move the rest.
    rest_is_writers: AtomicBool,
    /// Erased data still is in the log.
    has_erased: AtomicBool,
    /// The last checkpoint didn't finish, perhaps because a backup reads an old part of the log. The worker retries [`LATER`].
    is_stuck: AtomicBool,
}

impl Checkpointer {
    /// Starts the worker. `open` opens its connection at the first checkpoint; `files` are those of the database.
    pub(super) fn start(
        open: impl Fn() -> rusqlite::Result<Connection> + Send + 'static,
        files: Arc<Files>,
    ) -> Self {
        let (wake, woken) = sync_channel(1);
        let log = Arc::new(Log::default());
        let shared = (Arc::clone(&log), Arc::clone(&files));
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || {
                let (log, files) = shared;
                run(open, &woken, &files, &log);
                drop(files);
            })
            .expect("a thread can be started");
        Self {
            wake: Some(wake),
            log,
            files,
            lacked_room_at: Cell::new(None),
            reserves_at: Cell::new(0),
            thread: Some(thread),
        }
    }

    /// Has the writer's connection report the length of the log after each commit.
    pub(super) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(&self.log);
        connection.wal_hook(Some(move |_: &mut _, pages| {
            log.pages
                .store(u32::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))
    }

    /// Runs on the writer between two batches: moves the pages that are left to it, or wakes the worker if the log is long.
    pub(super) fn after_batch(&self, connection: &Connection) {
        if self.log.rest_is_writers.swap(false, Ordering::AcqRel) {
            let moved = numbered(connection, || {
                self.log.move_pages(connection, PASSIVE, &self.files)?;
                Ok(self.log.left() == 0)
            });
            if let Err(error) = moved {
                log_error(&error);
            }
        } else if self.log.is_long() && !self.log.is_stuck.load(Ordering::Relaxed) {
            self.wake();
        }
        let pages = self.log.pages.load(Ordering::Relaxed);
        // Has it started over? Then so does this.
        let reserves_at = self.reserves_at.get().min(next_reserve(pages));
        if pages >= reserves_at {
            self.reserves_at.set(next_reserve(pages));
            self.reserve(connection, pages);
        } else {
            self.reserves_at.set(reserves_at);
        }
    }

    /// Reserves room for the pages that the log holds and the file lacks, and for those that may come until the next time.
    /// If there is none, the log gives its own back while it can still be moved.
    fn reserve(&self, connection: &Connection, pages: u32) {
        let length = || -> rusqlite::Result<u64> {
            let number = |sql| {
                let mut statement = connection.prepare_cached(sql)?;
                statement.query_row([], |row| row.get::<_, u64>(0))
            };
            let ahead = u64::from(next_reserve(pages) - pages);
            Ok((number("pragma page_count")? + ahead) * number("pragma page_size")?)
        };
        let reserved = length().map(|length| self.files.reserve(length));
        let is_full = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        };
        match reserved {
            Ok(Err(error)) if is_full(&error) => _ = self.make_room(connection),
            // A file system without such a call, or one that says more when it is written.
            Ok(_) => {}
            Err(error) => log_error(&error),
        }
    }

    /// Wakes the worker to empty the log, which still holds erased data.
    pub(super) fn erased(&self) {
        self.log.has_erased.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Moves all of the log at once, however long that takes.
    pub(super) fn empty_now(&self, connection: &Connection) -> rusqlite::Result<()> {
        self.log
            .move_pages(connection, TRUNCATE, &self.files)
            .map(drop)
    }

    /// Runs on the writer when the disk is full: gives back what the log holds of it. Returns whether to try again is
    /// worth it. While that doesn't help, it is tried once a second, lest each batch pays for it.
    pub(super) fn make_room(&self, connection: &Connection) -> bool {
        let is_too_soon = |at: Instant| at.elapsed() < BETWEEN_TRIES_FOR_ROOM;
        if self.lacked_room_at.get().is_some_and(is_too_soon) {
            return false;
        }
        let had_pages = self.log.pages.load(Ordering::Relaxed) > 0;
        let emptied = empty_log(connection, &self.files).unwrap_or_else(|error| {
            log_error(&error);
            false
        });
        if emptied {
            self.log.pages.store(0, Ordering::Relaxed);
            self.log.moved.store(0, Ordering::Relaxed);
            tracing::warn!(
                "the disk is full; the log beside the database was moved into the file and gave its room back"
            );
        }
        let helps = emptied && had_pages;
        self.lacked_room_at.set((!helps).then(Instant::now));
        emptied
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

/// The length of the log, in pages, at which a checkpoint starts: some 256 MiB. In a longer log one moved page stands for
/// more writes of it, and more of the pages are neighbours in the file; but a crash leaves more to read again.
const LONG: u32 = 131_072;

/// The pages that may be left to the writer, which moves so many in some two milliseconds.
const LITTLE: u32 = 256;

/// Fallback for [`LITTLE`], when the writer adds pages as fast as the worker moves them.
const ENOUGH: u32 = 2048;

/// Changed pages in a piece that is written back. A commit waits a millisecond or two for so many.
const TOGETHER: u64 = 256;

/// The smallest piece in bytes: neighbouring pages are written at once.
const SMALLEST_PIECE: u64 = 256 * 1024;

/// Passes of a checkpoint before it gives up and lets the log grow, because someone reads an old part of it.
const MOVES: usize = 8;

/// The longest wait that a checkpoint imposes on the writer in vain, for the same reason.
const PATIENCE: Duration = Duration::from_millis(100);

/// The delay before the worker retries after that.
const LATER: Duration = Duration::from_secs(3);

/// The pause between two emptyings of the log after erasures, lest a flood of those has everyone else wait all the time.
const BETWEEN_EMPTYINGS: Duration = Duration::from_secs(1);

/// Returns the length of the log, in pages, at which room is reserved again.
fn next_reserve(pages: u32) -> u32 {
    pages + (pages / 8).max(32)
}

/// The pause before the writer looks for room again after it has found none, or not enough.
const BETWEEN_TRIES_FOR_ROOM: Duration = Duration::from_secs(1);

/// Moves all of the log into the file and truncates it, unless someone reads it. Returns whether it is empty now.
pub(super) fn empty_log(connection: &Connection, files: &Files) -> rusqlite::Result<bool> {
    connection.busy_timeout(PATIENCE)?;
    let was_busy = Log::default().move_pages(connection, TRUNCATE, files);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(!was_busy?)
}

fn run(
    open: impl Fn() -> rusqlite::Result<Connection>,
    woken: &Receiver<()>,
    files: &Files,
    log: &Log,
) {
    let mut connection = None;
    let mut emptied_at: Option<Instant> = None;
    while wait(woken, log) && !files.has_failed() {
        if let Some(at) = emptied_at.filter(|_| log.has_erased.load(Ordering::SeqCst)) {
            rest_until(at + BETWEEN_EMPTYINGS, woken);
        }
        let connection = match &connection {
            Some(opened) => Ok(opened),
            None => open().map(|opened| &*connection.insert(opened)),
        };
        let has_erased = log.has_erased.swap(false, Ordering::SeqCst);
        let tried = connection.and_then(|connection| {
            if has_erased {
                let emptied = empty(connection, files, log);
                emptied_at = Some(Instant::now());
                emptied
            } else if log.is_long() {
                shorten(connection, files, log)
            } else {
                // Woken once more while it was at work.
                Ok(true)
            }
        });
        let done = tried.unwrap_or_else(|error| {
            log_error(&error);
            false
        });
        log.has_erased
            .fetch_or(has_erased && !done, Ordering::SeqCst);
        log.is_stuck.store(!done, Ordering::Relaxed);
    }
    if let Some(connection) = connection {
        files.close(connection);
    }
}

/// Waits until the worker is woken or has to retry. Returns `false` when the handle is dropped.
fn wait(woken: &Receiver<()>, log: &Log) -> bool {
    if log.is_stuck.load(Ordering::Relaxed) {
        woken.recv_timeout(LATER) != Err(RecvTimeoutError::Disconnected)
    } else {
        woken.recv().is_ok()
    }
}

/// Waits, however often the worker is woken meanwhile, but not when the handle is dropped.
fn rest_until(at: Instant, woken: &Receiver<()>) {
    while woken
        .recv_timeout(at.saturating_duration_since(Instant::now()))
        .is_ok()
    {}
}

fn log_error(error: &rusqlite::Error) {
    tracing::warn!(error = %error, "the log could not be moved into the database file");
}

/// Empties the log. Returns `false` if someone reads it. The writer waits while it is truncated, so nearly all is moved
/// before.
fn empty(connection: &Connection, files: &Files, log: &Log) -> rusqlite::Result<bool> {
    if !move_and_sync(connection, files, log)? {
        return Ok(false);
    }
    connection.busy_timeout(PATIENCE)?;
    numbered(connection, || {
        Ok(!log.move_pages(connection, TRUNCATE, files)?)
    })
}

/// Moves all but a few pages, which are left to the writer. Returns `false` if someone reads an old part of the log.
fn shorten(connection: &Connection, files: &Files, log: &Log) -> rusqlite::Result<bool> {
    let mut last_left = u32::MAX;
    for _ in 0..MOVES {
        if !move_and_sync(connection, files, log)? {
            return Ok(false);
        }
        let left = log.left();
        if left <= LITTLE || (left >= last_left && left <= ENOUGH) {
            log.rest_is_writers.store(true, Ordering::Release);
            return Ok(true);
        }
        last_left = left;
    }
    Ok(false)
}

/// Moves the pages of the log and syncs the file. SQLite syncs it again before it starts the log over; after this, that is
/// short. Returns `false` if the file can't be synced.
fn move_and_sync(connection: &Connection, files: &Files, log: &Log) -> rusqlite::Result<bool> {
    let waiting = log.left();
    log.move_pages(connection, PASSIVE, files)?;
    // Moves the frames that were added meanwhile too, so that one sync does for both.
    log.move_pages(connection, PASSIVE, files)?;
    let file = files.database();
    let synced = match write_back_in_pieces(file, waiting) {
        // The error of a page that could not be written is told once, and this was it.
        Err(error) if !is_unsupported(&error) => Err(error),
        // Where that can't be done, the sync does it all.
        _ => file.sync_data(),
    };
    if let Err(error) = &synced {
        files.sync_failed(error);
    }
    Ok(synced.is_ok())
}

/// Returns whether the system or the file system has no such call.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotSeekable
            // As filters of system calls answer.
            | io::ErrorKind::PermissionDenied
    )
}

/// Writes the file back in pieces of some [`TOGETHER`] changed pages, as if `changed` pages were spread evenly over it.
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

/// A checkpoint that waits for nobody.
const PASSIVE: &str = "pragma wal_checkpoint(passive)";

/// A checkpoint that waits for readers and writers, and truncates the log.
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

    /// Runs a checkpoint. Returns whether a reader or writer blocked it, or a sync has failed before.
    fn move_pages(
        &self,
        connection: &Connection,
        how: &str,
        files: &Files,
    ) -> rusqlite::Result<bool> {
        if files.has_failed() {
            return Ok(true);
        }
        let mut statement = connection.prepare_cached(how)?;
        let (was_busy, moved): (bool, i64) = statement
            .query_row([], |row| Ok((row.get(0)?, row.get(2)?)))
            .inspect_err(|error| {
                if is_of_sync(error) {
                    files.sync_failed(error);
                }
            })?;
        // -1 if another process was at it.
        let moved = u32::try_from(moved).unwrap_or_default();
        self.moved.store(moved, Ordering::Relaxed);
        Ok(was_busy)
    }
}
