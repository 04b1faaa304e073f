//! The connections that are open: so many in all, so many of each address. At either bound the one that has been idle
//! longest makes room, so that whoever asks for something is served.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::source::Source;

/// The open connections of a listener.
pub(super) struct Connections {
    max: usize,
    per_source: Option<usize>,
    open: Mutex<Open>,
    freed: Notify,
}

#[derive(Default)]
struct Open {
    all: Slab<Arc<Activity>>,
    /// The slot at which the next search for an idle connection begins.
    hand: usize,
    /// The slots of each source that haven't been asked to make room.
    of: HashMap<Source, Vec<usize>>,
}

impl Connections {
    pub(super) fn new(max: usize, per_source: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_source,
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits until there are fewer connections than there may be. Where few places are free, an idle one is asked to make room,
    /// so that newcomers rarely wait for the end of another: they would come in one at a time, while the operating system's
    /// queue of those that wait to be accepted overflows.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let freed = self.freed.notified();
            {
                let mut open = self.open();
                let has_room = open.all.len() < self.max;
                if open.all.len() >= self.max - self.max / KEPT_FREE {
                    open.evict_one_of_all();
                }
                if has_room {
                    return;
                }
            }
            freed.await;
        }
    }

    /// Counts a connection until the returned value is dropped. `None` if its source has as many as it may and uses them all.
    /// Without a source there may be any number.
    pub(super) fn admit(self: &Arc<Self>, source: Option<Source>) -> Option<Admitted> {
        let mut open = self.open();
        if let Some(per_source) = self.per_source
            && let Some(source) = source
            && open.of.get(&source).map_or(0, Vec::len) >= per_source
        {
            open.evict_one_of(source)?;
        }
        let activity = Arc::new(Activity::new());
        let slot = open.all.insert(Arc::clone(&activity));
        if let Some(source) = source {
            open.of.entry(source).or_default().push(slot);
        }
        Some(Admitted {
            connections: Arc::clone(self),
            source,
            slot,
            activity,
        })
    }

    /// Has every connection look at its deadline anew.
    pub(super) fn wake_all(&self) {
        for (_, activity) in &self.open().all {
            activity.waker.wake();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Asks an idle connection to end: of the next few the idlest, because this is done for each connection of a flood.
    fn evict_one_of_all(&mut self) {
        let slots = self.all.capacity();
        let next = (0..slots).map(|step| (self.hand + step) % slots);
        let idle = next.filter_map(|slot| Some((self.all.get(slot)?.idleness()?, slot)));
        let looked_at: Vec<_> = idle.take(LOOKED_AT).collect();
        if let Some(&(_, slot)) = looked_at.iter().max() {
            self.all[slot].evict();
            self.hand = slot + 1;
        }
    }

    /// Asks the idlest connection of a source to end. `None` if all are in use.
    fn evict_one_of(&mut self, source: Source) -> Option<()> {
        let slots = self.of.get_mut(&source)?;
        let idle = slots.iter().enumerate();
        let idle = idle.filter_map(|(at, slot)| Some((self.all[*slot].idleness()?, at)));
        let (_, at) = idle.max()?;
        self.all[slots.swap_remove(at)].evict();
        Some(())
    }

    fn remove(&mut self, source: Option<Source>, slot: usize) {
        self.all.remove(slot);
        if let Some(source) = source
            && let Some(slots) = self.of.get_mut(&source)
        {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.of.remove(&source);
            }
        }
    }
}

/// The part of all connections that is kept free for newcomers, one in so many.
const KEPT_FREE: usize = 32;

/// The connections among which the idlest is looked for.
const LOOKED_AT: usize = 32;

/// A connection that is counted until this is dropped.
pub(super) struct Admitted {
    connections: Arc<Connections>,
    source: Option<Source>,
    slot: usize,
    activity: Arc<Activity>,
}

impl Admitted {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.remove(self.source, self.slot);
        drop(open);
        self.connections.freed.notify_one();
    }
}

/// The least idle first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Idleness {
    HasJustCome,
    WasAnswered,
    NeverAsked,
}

/// The time that a newcomer has for its handshake and its first request, before others are kept instead of it.
const TO_ASK: Duration = Duration::from_secs(2);

/// Says whether a connection is in use, and whether it was asked to end.
pub(super) struct Activity {
    opened: Instant,
    under_way: AtomicU32,
    /// There is an answer that hasn't been handed to the operating system whole.
    is_writing: AtomicBool,
    begun: AtomicU64,
    /// The time at which the last request ended, in microseconds since `opened`.
    idle_since: AtomicU64,
    evicted: AtomicBool,
    /// Says whether it can be parked: one of the constants below.
    parking: AtomicU8,
    waker: AtomicWaker,
}

/// Something was read or written, or was to be.
const IN_USE: u8 = 0;
/// The peer is silent between two requests, and nothing was done since that was found.
const SILENT: u8 = 1;
/// The same, and the connection is to be parked.
const PARKED: u8 = 2;

impl Activity {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            under_way: AtomicU32::new(0),
            is_writing: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            evicted: AtomicBool::new(false),
            parking: AtomicU8::new(IN_USE),
            waker: AtomicWaker::new(),
        }
    }

    /// Notes that a request has begun.
    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that there is an answer to a request, or no client any more.
    pub(super) fn end(&self) {
        self.is_writing.store(true, Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::Release);
    }

    /// Notes that all that was to be written has been.
    pub(super) fn flushed(&self) {
        if self.is_writing.swap(false, Ordering::AcqRel) {
            let since = u64::try_from(self.age().as_micros()).unwrap_or(u64::MAX);
            self.idle_since.store(since, Ordering::Release);
        }
    }

    /// Notes that the stream is asked to read or to write.
    pub(super) fn note_use(&self) {
        self.parking.store(IN_USE, Ordering::Relaxed);
    }

    /// Notes that the peer is silent between two requests.
    pub(super) fn note_silence(&self) {
        self.parking.store(SILENT, Ordering::Relaxed);
    }

    /// Parks the connection, if all that was done last was to find that the peer is silent.
    pub(super) fn park(&self) -> bool {
        let (from, to) = (SILENT, PARKED);
        self.parking
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Tells whether the stream was left alone since [`Activity::park`].
    pub(super) fn is_parked(&self) -> bool {
        self.parking.load(Ordering::Relaxed) == PARKED
    }

    /// Returns the number of requests that have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns the time since which no request is under way: since the start, if there was none. `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle =
            self.under_way.load(Ordering::Acquire) == 0 && !self.is_writing.load(Ordering::Acquire);
        let since = Duration::from_micros(self.idle_since.load(Ordering::Acquire));
        is_idle.then(|| self.opened + since)
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Returns how much sooner than others this connection should end: first one that has had the time to ask for something
    /// and hasn't, then the one that has been idle for longest, and last one that has only just come. `None` if it is in
    /// use or was asked already.
    fn idleness(&self) -> Option<(Idleness, Reverse<Instant>)> {
        let is_asked = self.evicted.load(Ordering::Relaxed);
        let since = self.idle_since().filter(|_| !is_asked)?;
        let idleness = match self.begun() {
            0 if self.age() < TO_ASK => Idleness::HasJustCome,
            0 => Idleness::NeverAsked,
            _ => Idleness::WasAnswered,
        };
        Some((idleness, Reverse(since)))
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Ready when the connection was asked to end. Otherwise the task is woken then, and when the server leaves.
    pub(super) fn poll_evicted(&self, context: &Context<'_>) -> Poll<()> {
        self.waker.register(context.waker());
        match self.evicted.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Waits until the connection was asked to end.
    pub(super) async fn evicted(&self) {
        poll_fn(|context| self.poll_evicted(context)).await;
    }
}
