//! The writes of the request path as values, and the bounded queue in front of each backend.
//!
//! Group commit: a backend's worker takes the jobs that are waiting, carries them out as one batch and answers each caller
//! once the batch is durable. Backpressure: a caller waits for its own job. Load shedding: as the queue fills, jobs of
//! low `Priority` are refused at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use guestpass_core::event::{ErasureReason, Event, EventStamp};
use guestpass_core::grant::{Grant, GrantId, Revocation};
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::{Delivery, EventKey, Proof, Redemption, Unavailable};
use crate::timing::STALE;

/// One write. All but one more grant, an erasure, a mark and those for cleaning are one statement on one row, a new
/// guest with its first grant counting as one.
#[derive(Clone, Debug)]
pub enum Write {
    /// A new guest and its first grant. [`Outcome::Conflict`] if the profile id is taken: draw again.
    InsertGuest(Profile, Grant),
    /// Changes the link or the attributes of a guest, and then what its grants repeat of them. [`Outcome::Conflict`] if the guest is gone, or its
    /// version isn't the one before.
    ///
    /// Records the event of that change beside it, if there is one.
    ChangeProfile(Profile, Option<Box<Event>>),
    /// Repeats what the shop has said of a guest in those of its grants that have an earlier version. Idempotent, and so late
    /// that another has changed the guest again, it does nothing.
    CopyProfile(Profile),
    /// One more grant of a guest who had tokens already, which `seen_at` keeps in mind; what it repeats of the guest is read from
    /// the guest's row. [`Outcome::Conflict`] if the guest is gone or the grant's id is taken.
    InsertGrant(Grant),
    /// Ends a grant, and records the event with that stamp. One way, and the first revocation stands: [`Outcome::Conflict`] if
    /// there is one already.
    RevokeGrant(GrantId, Revocation, Option<EventStamp>),
    /// Ends one access token, and nothing else of its grant. Idempotent.
    RevokeAccessToken(RevokedAccessToken),
    /// Says that a guest was erased, or a link undone. Idempotent; a later time replaces an earlier one.
    InsertTombstone(Tombstone),
    /// Removes a guest, all its grants and all its events, and then says that it was erased; by an event too, if the guest was
    /// there. Idempotent: [`Outcome::Conflict`] if the guest wasn't there.
    EraseGuest(ProfileId, Tombstone, Option<(EventStamp, ErasureReason)>),
    /// Says what has become of the delivery of an event, with the number of attempts that failed. [`Outcome::Conflict`] if the
    /// event is gone or was delivered before.
    NoteDelivery(EventKey, u32, Delivery),
    /// Removes events.
    RemoveEvents(Vec<EventKey>),
    /// Acquires or renews a lease for a node, now (the first time) and until the second. Ends in [`Outcome::Conflict`] while
    /// another node holds it.
    HoldLease(Lease, String, Timestamp, Timestamp),
    /// Keeps a mark of a node's journal: all that the journal says before it is in the store. Of each node the last
    /// `KEEP_MARKS` stay.
    InsertMark(String, [u8; 16], Timestamp),
    /// Removes grants if they had ended before those times or their client or guest is gone, and with its only one a guest
    /// who never redeemed a code. Others keep in mind when they were last here.
    RemoveEnded(Vec<GrantId>, EndedBefore),
    /// Removes guests without a grant who were last here before those times, with their events, and records by an event that
    /// they are gone.
    ForgetGuests(Vec<(ProfileId, Option<EventStamp>)>, IdleBefore),
    /// Forgets some revoked access tokens that expired before the first time, and some tombstones from before the
    /// second. Ends in [`Outcome::More`] if there may be others.
    RemoveForgotten(Timestamp, Timestamp),
    /// Says that the installation is being served at that time, unless a later one stands there.
    NoteTime(Timestamp),
    /// Sets that time, even to an earlier one, for a clock that is believed now. Every node hears of it.
    ResetTime(Timestamp),
    /// Says whether events are recorded from now on.
    RecordEvents(bool),
    /// Changes the one row that is there for it, to see whether a write becomes durable.
    Probe,
}

/// Names the work that one node does for all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lease {
    /// Removes what has ended.
    Cleaner,
    /// Delivers events.
    Deliverer,
}

impl Lease {
    /// Returns the stable name, in the store.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cleaner => "cleaner",
            Self::Deliverer => "deliverer",
        }
    }
}

/// The times before which a grant must have ended to be removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndedBefore {
    /// For grants in general.
    pub grants: Timestamp,
    /// For a grant whose code has expired and was never redeemed: nobody has a token of it. One that was revoked is a grant
    /// like any other, because its row says so to whoever holds what a restore has lost.
    pub orphans: Timestamp,
}

impl EndedBefore {
    /// Returns the same time for all grants.
    #[must_use]
    pub const fn all(time: Timestamp) -> Self {
        Self {
            grants: time,
            orphans: time,
        }
    }
}

/// The times before which a guest without a grant must have been here last to be forgotten; `None` keeps such guests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IdleBefore {
    /// For guests who are linked to no customer.
    pub unlinked: Option<Timestamp>,
    /// For those who are.
    pub linked: Option<Timestamp>,
}

/// An access token that ended before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RevokedAccessToken {
    /// Its `jti`.
    pub id: [u8; 16],
    /// The time of the revocation.
    pub at: Timestamp,
    /// From when on it would not have been valid anyway.
    pub expires_at: Timestamp,
}

/// The record that a guest was erased, which stays when the guest's rows are gone; or that the link of a guest to a customer was
/// undone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tombstone {
    /// A keyed hash of the guest's `sub`: `keys::Keys::tombstone`; or of `sub` and customer: `keys::Keys::tombstone_of_link`.
    pub hash: [u8; 16],
    /// The time of the erasure, or of the end of the link.
    pub at: Timestamp,
}

/// The result of a write that the database has answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is durable.
    Done,
    /// It is durable, and as much as one write may remove: there may be more.
    More,
    /// Its condition didn't hold; nothing was written.
    Conflict,
}

/// The statement of [`Write::Probe`], for every backend. It brings a row that a copy has left behind.
pub(super) const PROBE: &str = "
    insert into probe (only_row, writes) values (1, 1)
        on conflict (only_row) do update set writes = probe.writes + 1";

/// The priority of a job in the queue to the database, the lowest first.
///
/// Load shedding: as the queue fills, jobs are refused at once, those of the lowest priority first. A refusal costs little,
/// and its caller tries again later. A known guest comes before a new one: a guest whose refresh fails may be lost, one
/// who isn't there yet comes again.
#[derive(Clone, Copy)]
pub(super) enum Priority {
    /// Says what was delivered: whoever does that tries again a moment later.
    Delivery,
    /// Removes what has ended: the cleaner tries again a moment later. However full the queue is, one such job is let
    /// through for each [`OTHERS_PER_CLEANING`] others, so that what a flood leaves behind goes as fast as it comes.
    Cleaning,
    /// Adds a guest or a grant: whoever was refused authorizes later.
    NewGuest,
    /// Redeems a code: the guest can authorize again.
    Exchange,
    /// Refreshes or ends what is there, or serves the server itself: refused only when the queue is full.
    Known,
}

impl Priority {
    /// Returns the eighths of the queue that must stay free. Of 1,024 places, cleaning is refused from 256 waiting jobs on, new
    /// guests from 512, exchanges from 768, and known guests when it is full.
    const fn least_free_eighths(self) -> usize {
        match self {
            Self::Delivery | Self::Cleaning => 6,
            Self::NewGuest => 4,
            Self::Exchange => 2,
            Self::Known => 0,
        }
    }

    pub(super) const fn of_write(write: &Write) -> Self {
        match write {
            Write::NoteDelivery(..) => Self::Delivery,
            Write::HoldLease(..)
            | Write::ForgetGuests(..)
            | Write::RemoveEnded(..)
            | Write::RemoveEvents(_)
            | Write::RemoveForgotten(..) => Self::Cleaning,
            Write::InsertGuest(..) | Write::InsertGrant(_) => Self::NewGuest,
            Write::ChangeProfile(..)
            | Write::CopyProfile(_)
            | Write::RevokeGrant(..)
            | Write::RevokeAccessToken(_)
            | Write::InsertTombstone(_)
            | Write::EraseGuest(..)
            | Write::InsertMark(..)
            | Write::NoteTime(_)
            | Write::ResetTime(_)
            | Write::RecordEvents(_)
            | Write::Probe => Self::Known,
        }
    }

    pub(super) const fn of_redemption(redemption: &Redemption) -> Self {
        match redemption.proof {
            Proof::Code(_) => Self::Exchange,
            Proof::RefreshToken(_) => Self::Known,
        }
    }
}

/// The sending end of a backend's bounded queue of jobs.
pub(super) struct Queue<J> {
    jobs: mpsc::Sender<J>,
    /// The jobs that were queued since cleaning last had its share, at most [`MOST_UNSHARED`].
    unshared: AtomicUsize,
}

/// The grants that one [`Write::RemoveEnded`] should name; few, so that other writes get their turn.
pub const REMOVED_AT_ONCE: usize = 100;

/// The entries of each kind that one [`Write::RemoveForgotten`] removes at most.
pub(super) const FORGOTTEN_AT_ONCE: usize = 500;

/// The number of other jobs for each of which one of cleaning is let through when the queue is too full for it. Such a job
/// removes [`REMOVED_AT_ONCE`] grants, more than as many sign-ups make, and costs about an eighth of them.
const OTHERS_PER_CLEANING: usize = 64;
const _: () = assert!(OTHERS_PER_CLEANING < REMOVED_AT_ONCE);

/// The others after which no further share is saved up: a step of the cleaner takes a dozen jobs.
const MOST_UNSHARED: usize = 16 * OTHERS_PER_CLEANING;

impl<J> Queue<J> {
    /// Makes a queue of [`QUEUE`] jobs and returns its two ends. The receiver ends when the queue is dropped.
    pub(super) fn new() -> (Self, mpsc::Receiver<J>) {
        let (sender, jobs) = mpsc::channel(QUEUE);
        let queue = Self {
            jobs: sender,
            unshared: AtomicUsize::new(0),
        };
        (queue, jobs)
    }

    /// Queues a job and waits for its result. Fails at once if the queue is too full for that priority.
    pub(super) async fn put<T>(
        &self,
        priority: Priority,
        job: impl FnOnce(Reply<T>) -> J,
    ) -> Result<T, Unavailable> {
        self.check_room(priority)
            .or_else(|refused| match priority {
                Priority::Cleaning if self.takes_share() => Ok(()),
                _ => Err(refused),
            })?;
        if !matches!(priority, Priority::Delivery | Priority::Cleaning) {
            self.share();
        }
        let (sender, answer) = oneshot::channel();
        let since = Instant::now();
        let queued = self.jobs.try_send(job(Reply { since, sender }));
        queued.map_err(|error| match error {
            TrySendError::Full(_) => too_many(),
            TrySendError::Closed(_) => ended(),
        })?;
        answer.await.map_err(|_| ended())?
    }

    /// Returns an error if the queue is too full for a job of that priority.
    pub(super) fn check_room(&self, priority: Priority) -> Result<(), Unavailable> {
        if self.jobs.capacity() <= QUEUE / 8 * priority.least_free_eighths() {
            return Err(too_many());
        }
        Ok(())
    }

    /// Counts a job towards the share of cleaning.
    fn share(&self) {
        if self.unshared.load(Ordering::Relaxed) < MOST_UNSHARED {
            self.unshared.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the share of one job of cleaning. Returns `false` if too few others came since the last one.
    fn takes_share(&self) -> bool {
        let taken = |others: usize| others.checked_sub(OTHERS_PER_CLEANING);
        let order = Ordering::Relaxed;
        self.unshared.fetch_update(order, order, taken).is_ok()
    }
}

/// The error of a job that was too old to be carried out.
pub(super) fn too_late() -> Unavailable {
    Unavailable("the write has waited too long".to_owned())
}

fn too_many() -> Unavailable {
    Unavailable("too many writes are waiting".into())
}

/// The sending end of a job's result.
pub(super) struct Reply<T> {
    since: Instant,
    sender: oneshot::Sender<Result<T, Unavailable>>,
}

impl<T> Reply<T> {
    /// Returns whether the job has waited for longer than [`STALE`] at that time. The request may have been answered without it
    /// by now, so to carry it out would surprise.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > STALE
    }

    /// Sends the result to the caller. If the caller's task has ended, nobody receives it, and the write stands all the same.
    pub(super) fn send(self, result: Result<T, Unavailable>) {
        let _ = self.sender.send(result);
    }
}

/// The capacity of the queue. A few hundred jobs fill a batch; more only adds delay.
pub(super) const QUEUE: usize = 1024;

/// Only a defect ends a worker before its queue.
fn ended() -> Unavailable {
    Unavailable("the store's writer has ended: restart the server".into())
}

/// The figures that a backend measures of its batches.
#[derive(Clone)]
pub struct BatchMetrics {
    /// The number of writes in each.
    pub writes: Histogram,
    /// The seconds from its first statement until it was durable.
    pub seconds: Histogram,
}

impl BatchMetrics {
    /// Records one batch.
    pub(super) fn observe(&self, writes: usize, took: Duration) {
        self.writes
            .observe(f64::from(u32::try_from(writes).unwrap_or(u32::MAX)));
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Default for BatchMetrics {
    fn default() -> Self {
        Self {
            writes: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
        }
    }
}
