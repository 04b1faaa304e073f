//! The worker behind the queue. It takes batches and carries out a fixed number of them at once (group commit): a batch
//! is what arrived while all those were under way, so no timer is needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use guestpass_core::profile::ProfileId;
use tokio::sync::{Semaphore, mpsc};

use super::pool::{Failed, Pool};
use super::redeem::{PendingRedemption, redeem};
use super::{batch, events, grants, revoked, upkeep};
use crate::store::writes::{PROBE, Priority, Queue, Reply, too_late};
use crate::store::{BatchMetrics, Outcome, Redeemed, Redemption, Unavailable, Write};

/// The queue to the database, with its worker. What was queued is carried out even after this is dropped.
pub(super) struct Writer {
    pub(super) batches: BatchMetrics,
    queue: Queue<Job>,
}

/// An entry of the queue.
enum Job {
    Write(PendingWrite),
    Redeem(PendingRedemption),
}

/// A write that isn't answered yet.
struct PendingWrite {
    write: Write,
    reply: Reply<Outcome>,
}

impl Writer {
    /// Starts the worker: at most `batch_size` jobs in a batch, and `concurrency` batches at once.
    pub(super) fn start(pool: Arc<Pool>, batch_size: usize, concurrency: usize) -> Self {
        let (queue, jobs) = Queue::new();
        let batches = BatchMetrics::default();
        tokio::spawn(work(pool, jobs, batch_size, concurrency, batches.clone()));
        Self { batches, queue }
    }

    /// Queues a write and waits until it is durable. Refused at once if the queue is too full for its kind.
    pub(super) async fn write(&self, write: Write) -> Result<Outcome, Unavailable> {
        let priority = Priority::of_write(&write);
        self.queue
            .put(priority, |reply| Job::Write(PendingWrite { write, reply }))
            .await
    }

    /// Queues a redemption and waits until what it has written is durable. Refused at once if the queue is too full.
    pub(super) async fn redeem(
        &self,
        redemption: Redemption,
    ) -> Result<Option<Redeemed>, Unavailable> {
        let priority = Priority::of_redemption(&redemption);
        self.queue
            .put(priority, |reply| {
                Job::Redeem(PendingRedemption::new(redemption, reply))
            })
            .await
    }

    /// Fails if the queue is so full that not even a refresh would be taken.
    pub(super) fn check_room(&self) -> Result<(), Unavailable> {
        self.queue.check_room(Priority::Known)
    }
}

/// Takes batches from the queue and carries them out, until the queue is dropped.
async fn work(
    pool: Arc<Pool>,
    mut jobs: mpsc::Receiver<Job>,
    batch_size: usize,
    concurrency: usize,
    batches: BatchMetrics,
) {
    let permits = Arc::new(Semaphore::new(concurrency));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let mut batch = Vec::new();
        if jobs.recv_many(&mut batch, batch_size).await == 0 {
            break;
        }
        let (pool, batches) = (Arc::clone(&pool), batches.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            let writes = carry_out(&pool, batch, started).await;
            if writes > 0 {
                batches.observe(writes, started.elapsed());
            }
            drop(permit);
        });
    }
}

/// Carries out a batch, and returns the number of writes that it took. Redemptions share statements, and so do new
/// guests. Every other write has a statement of its own; so has a new guest whose id another one of the batch has drawn
/// as well.
async fn carry_out(pool: &Pool, batch: Vec<Job>, started: Instant) -> usize {
    let mut redemptions = Vec::new();
    let mut guests: BTreeMap<ProfileId, PendingWrite> = BTreeMap::new();
    let mut others = Vec::new();
    for job in batch {
        match job {
            Job::Redeem(pending) => redemptions.push(pending),
            Job::Write(pending) => match &pending.write {
                Write::InsertGuest(profile, _)
                    if !pending.reply.is_stale(started) && !guests.contains_key(&profile.id) =>
                {
                    guests.insert(profile.id, pending);
                }
                _ => others.push(pending),
            },
        }
    }
    let writes = guests.len() + others.len();
    let (redeemed, (), ()) = tokio::join!(
        redeem(pool, redemptions),
        insert_guests(pool, guests),
        write_singly(pool, others)
    );
    redeemed + writes
}

/// Inserts new guests with one statement. If that fails without effect, one of them may be to blame, so each is then
/// inserted by itself.
async fn insert_guests(pool: &Pool, guests: BTreeMap<ProfileId, PendingWrite>) {
    if guests.len() < 2 {
        return write_singly(pool, guests.into_values()).await;
    }
    let writes = guests.iter().filter_map(|(id, guest)| match &guest.write {
        Write::InsertGuest(profile, grant) => Some((*id, (profile, grant))),
        _ => None,
    });
    match batch::insert_guests(pool, &writes.collect()).await {
        Ok(inserted) => {
            for (id, guest) in guests {
                guest.reply.send(Ok(if inserted.contains(&id) {
                    Outcome::Done
                } else {
                    Outcome::Conflict
                }));
            }
        }
        Err(Failed::Unknown(error) | Failed::Unreachable(error)) => {
            for guest in guests.into_values() {
                guest.reply.send(Err(error.clone()));
            }
        }
        Err(Failed::Undone(_) | Failed::Duplicate(_) | Failed::Nothing(_)) => {
            write_singly(pool, guests.into_values()).await;
        }
    }
}

/// The number of jobs with statements of their own that a batch carries out at once: few enough to leave connections
/// for reads.
pub(super) const SINGLES_CONCURRENCY: usize = 4;

async fn write_singly(pool: &Pool, writes: impl IntoIterator<Item = PendingWrite>) {
    stream::iter(writes)
        .for_each_concurrent(SINGLES_CONCURRENCY, |pending| write_one(pool, pending))
        .await;
}

/// Carries out one write. Retries once if its outcome is unknown and it is idempotent.
async fn write_one(pool: &Pool, PendingWrite { write, reply }: PendingWrite) {
    if reply.is_stale(Instant::now()) {
        reply.send(Err(too_late()));
        return;
    }
    let mut result = apply(pool, &write).await;
    if matches!(result, Err(Failed::Unknown(_))) && is_idempotent(&write) {
        result = match (apply(pool, &write).await, &write) {
            // Most likely revoked, or erased, by the first attempt.
            (Ok(Outcome::Conflict), Write::RevokeGrant(..) | Write::EraseGuest(..)) => {
                Ok(Outcome::Done)
            }
            (other, _) => other,
        };
    }
    reply.send(result.map_err(Unavailable::from));
}

fn is_idempotent(write: &Write) -> bool {
    match write {
        Write::InsertGuest(..) | Write::InsertGrant(_) => false,
        // A conflict makes the caller look again.
        Write::ChangeProfile(..)
        | Write::CopyProfile(_)
        | Write::RevokeGrant(..)
        | Write::RevokeAccessToken(_)
        | Write::InsertTombstone(_)
        | Write::EraseGuest(..)
        | Write::NoteDelivery(..)
        | Write::RemoveEvents(_)
        | Write::HoldLease(..)
        | Write::InsertMark(..)
        | Write::ForgetGuests(..)
        | Write::RemoveEnded(..)
        | Write::RemoveForgotten(..)
        | Write::NoteTime(_)
        | Write::ResetTime(_)
        | Write::RecordEvents(_)
        | Write::Probe => true,
    }
}

async fn apply(pool: &Pool, write: &Write) -> Result<Outcome, Failed> {
    match write {
        Write::InsertGuest(profile, grant) => grants::insert_guest(pool, profile, grant).await,
        // Whoever looks again, or the cleaner, copies what a lost connection has kept from being copied.
        Write::ChangeProfile(profile, event) => {
            match grants::change_profile(pool, profile, event.as_deref()).await? {
                Outcome::Done => grants::copy_profile(pool, profile).await,
                conflict => Ok(conflict),
            }
        }
        Write::CopyProfile(profile) => grants::copy_profile(pool, profile).await,
        // It stays true if there is then no grant.
        Write::InsertGrant(grant) => {
            grants::mark_seen(pool, grant.id.profile, grant.issued_at).await?;
            grants::insert_grant(pool, grant).await
        }
        Write::RevokeGrant(id, revocation, None) => {
            grants::revoke_grant(pool, *id, *revocation).await
        }
        Write::RevokeGrant(id, revocation, Some(stamp)) => {
            events::revoke_grant(pool, *id, *revocation, *stamp).await
        }
        Write::RevokeAccessToken(token) => revoked::insert_access_token(pool, token).await,
        Write::InsertTombstone(tombstone) => revoked::insert_tombstone(pool, tombstone).await,
        // The rows first: a tombstone implies that the guest is gone.
        Write::EraseGuest(id, tombstone, event) => {
            let outcome = grants::remove_guest(pool, *id, *event).await?;
            revoked::insert_tombstone(pool, tombstone).await?;
            // Whoever found neither guest nor tombstone in between may have made the same guest again.
            grants::remove_guest(pool, *id, None).await?;
            Ok(outcome)
        }
        Write::NoteDelivery(key, attempts, delivery) => {
            events::note_delivery(pool, key, *attempts, *delivery).await
        }
        Write::RemoveEvents(keys) => events::remove(pool, keys).await,
        Write::HoldLease(lease, node, now, until) => {
            upkeep::hold_lease(pool, *lease, node, *now, *until).await
        }
        Write::InsertMark(node, mark, now) => upkeep::insert_mark(pool, node, *mark, *now).await,
        Write::RemoveEnded(ids, before) => upkeep::remove_ended(pool, ids, *before).await,
        Write::ForgetGuests(guests, before) => upkeep::forget_guests(pool, guests, *before).await,
        Write::RemoveForgotten(expired_before, erased_before) => {
            revoked::remove_forgotten(pool, *expired_before, *erased_before).await
        }
        Write::NoteTime(now) => upkeep::note_time(pool, *now).await,
        Write::RecordEvents(recorded) => events::record(pool, *recorded).await,
        Write::ResetTime(now) => upkeep::reset_time(pool, *now).await,
        Write::Probe => {
            pool.run(PROBE, &[]).await?;
            Ok(Outcome::Done)
        }
    }
}
