//! Carries out what waits in the queue. A batch is what arrived while all hands were busy, so there is no timer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use guestpass_core::profile::ProfileId;
use tokio::sync::{Semaphore, mpsc};

use super::pool::{Failed, Pool};
use super::redeem::{Open, redeem};
use super::{batch, grants, revoked, upkeep};
use crate::store::writes::{Queue, Reply};
use crate::store::{Batches, Outcome, Redeemed, Redemption, Unavailable, Write};

/// The way to the database. What was queued is carried out even after this is dropped.
pub(super) struct Writer {
    pub(super) batches: Batches,
    queue: Queue<Job>,
}

/// What waits.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are redemptions, and a box for each would cost more than it saves"
)]
enum Job {
    Write(Waiting),
    Redeem(Open),
}

/// A write that waits.
struct Waiting {
    write: Write,
    reply: Reply<Outcome>,
}

impl Writer {
    pub(super) fn start(pool: Arc<Pool>, size: usize, hands: usize) -> Self {
        let (queue, jobs) = Queue::new();
        let batches = Batches::default();
        tokio::spawn(run(pool, jobs, (size, hands), batches.clone()));
        Self { batches, queue }
    }

    /// Queues a write and waits until it is durable. Refused at once if the queue is too full for its kind.
    pub(super) async fn write(&self, write: Write) -> Result<Outcome, Unavailable> {
        let must_be_free = write.must_be_free();
        self.queue
            .put(must_be_free, |reply| Job::Write(Waiting { write, reply }))
            .await
    }

    /// Queues a redemption and waits until what it has written is durable. Refused at once if the queue is too full.
    pub(super) async fn redeem(
        &self,
        redemption: Redemption,
    ) -> Result<Option<Redeemed>, Unavailable> {
        let must_be_free = redemption.must_be_free();
        self.queue
            .put(must_be_free, |reply| {
                Job::Redeem(Open::new(redemption, reply))
            })
            .await
    }

    /// An error if not even a refresh would be taken now.
    pub(super) fn check_room(&self) -> Result<(), Unavailable> {
        self.queue.check_room(0)
    }
}

async fn run(
    pool: Arc<Pool>,
    mut jobs: mpsc::Receiver<Job>,
    (size, hands): (usize, usize),
    batches: Batches,
) {
    let hands = Arc::new(Semaphore::new(hands));
    while let Ok(hand) = Arc::clone(&hands).acquire_owned().await {
        let mut batch = Vec::new();
        if jobs.recv_many(&mut batch, size).await == 0 {
            break;
        }
        let (pool, batches) = (Arc::clone(&pool), batches.clone());
        tokio::spawn(async move {
            let started = Instant::now();
            let writes = carry_out(&pool, batch).await;
            if writes > 0 {
                batches.observe(writes, started.elapsed());
            }
            drop(hand);
        });
    }
}

/// Carries out a batch: redemptions together, new guests together, and alone everything else, with what stands in the batch
/// twice. Says how many writes that took.
async fn carry_out(pool: &Pool, batch: Vec<Job>) -> usize {
    let mut redemptions = Vec::new();
    let mut guests: BTreeMap<ProfileId, Waiting> = BTreeMap::new();
    let mut others = Vec::new();
    for job in batch {
        match job {
            Job::Redeem(open) => redemptions.push(open),
            Job::Write(waiting) => match &waiting.write {
                Write::InsertGuest(profile, _)
                    if !waiting.reply.is_stale() && !guests.contains_key(&profile.id) =>
                {
                    guests.insert(profile.id, waiting);
                }
                _ => others.push(waiting),
            },
        }
    }
    let writes = guests.len() + others.len();
    let (redeemed, (), ()) = tokio::join!(
        redeem(pool, redemptions),
        insert_together(pool, guests),
        each_alone(pool, others)
    );
    redeemed + writes
}

/// If the database has said that nothing happened, each is carried out alone: one that fails leaves the others as they are.
async fn insert_together(pool: &Pool, guests: BTreeMap<ProfileId, Waiting>) {
    if guests.len() < 2 {
        return each_alone(pool, guests.into_values()).await;
    }
    let writes = guests.iter().filter_map(|(id, guest)| match &guest.write {
        Write::InsertGuest(profile, grant) => Some((*id, (profile, grant))),
        _ => None,
    });
    match batch::insert_guests(pool, &writes.collect()).await {
        Ok(done) => {
            for (id, guest) in guests {
                guest.reply.send(Ok(if done.contains(&id) {
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
            each_alone(pool, guests.into_values()).await;
        }
    }
}

/// Carries out writes that have no statement in common.
async fn each_alone(pool: &Pool, writes: impl IntoIterator<Item = Waiting>) {
    a_few_at_once(writes.into_iter().map(|waiting| alone(pool, waiting))).await;
}

/// A few at a time: few enough to leave connections for reads.
pub(super) async fn a_few_at_once<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    stream::iter(all).buffer_unordered(4).collect().await
}

/// Carries out one write, and once more if nobody answered and that does no harm.
async fn alone(pool: &Pool, Waiting { write, reply }: Waiting) {
    if reply.is_stale() {
        reply.send(Err(Unavailable("the write has waited too long".to_owned())));
        return;
    }
    let mut result = apply(pool, &write).await;
    if matches!(result, Err(Failed::Unknown(_))) && is_idempotent(&write) {
        result = match (apply(pool, &write).await, &write) {
            // Revoked by the first attempt, as far as anyone knows.
            (Ok(Outcome::Conflict), Write::RevokeGrant(..)) => Ok(Outcome::Done),
            (other, _) => other,
        };
    }
    reply.send(result.map_err(Unavailable::from));
}

fn is_idempotent(write: &Write) -> bool {
    match write {
        Write::InsertGuest(..)
        | Write::InsertGrant(_)
        | Write::AdvanceGrant { .. }
        | Write::StrikeGrant(_) => false,
        Write::RevokeGrant(..)
        | Write::RevokeAccessToken(_)
        | Write::InsertTombstone(_)
        | Write::EraseGuest(..)
        | Write::HoldCleaning(..)
        | Write::InsertMark(..)
        | Write::RemoveEnded(..)
        | Write::RemoveForgotten(..)
        | Write::Probe => true,
    }
}

async fn apply(pool: &Pool, write: &Write) -> Result<Outcome, Failed> {
    match write {
        Write::InsertGuest(profile, grant) => grants::insert_guest(pool, profile, grant).await,
        Write::InsertGrant(grant) => grants::insert_grant(pool, grant).await,
        Write::AdvanceGrant { grant, from } => grants::advance_grant(pool, grant, *from).await,
        Write::StrikeGrant(id) => grants::strike_grant(pool, *id).await,
        Write::RevokeGrant(id, revocation) => grants::revoke_grant(pool, *id, *revocation).await,
        Write::RevokeAccessToken(token) => revoked::insert_access_token(pool, token).await,
        Write::InsertTombstone(tombstone) => revoked::insert_tombstone(pool, tombstone).await,
        // The rows first: whoever finds the tombstone may rely on the guest being gone.
        Write::EraseGuest(id, tombstone) => {
            grants::remove_guest(pool, *id).await?;
            revoked::insert_tombstone(pool, tombstone).await
        }
        Write::HoldCleaning(node, now, until) => {
            upkeep::hold_cleaning(pool, node, *now, *until).await
        }
        Write::InsertMark(node, mark, now) => upkeep::insert_mark(pool, node, *mark, *now).await,
        Write::RemoveEnded(ids, ended_before) => {
            upkeep::remove_ended(pool, ids, *ended_before).await
        }
        Write::RemoveForgotten(expired_before, erased_before) => {
            revoked::remove_forgotten(pool, *expired_before, *erased_before).await
        }
        Write::Probe => {
            let nothing = pool
                .run(
                    "update installation set revision = revision where false",
                    &[],
                )
                .await;
            nothing.map(|_| Outcome::Done)
        }
    }
}
