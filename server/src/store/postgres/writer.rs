//! Carries out what waits in the queue. A batch is what arrived while all hands were busy, so there is no timer.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use guestpass_core::grant::GrantId;
use guestpass_core::profile::ProfileId;
use tokio::sync::{Semaphore, mpsc};

use super::pool::{Failed, Pool};
use super::{batch, grants, revoked, upkeep};
use crate::store::writes::{Queue, Reply};
use crate::store::{Batches, Outcome, Unavailable, Write};

/// The way to the database. What was queued is carried out even after this is dropped.
pub(super) struct Writer {
    pub(super) batches: Batches,
    queue: Queue<Job>,
}

/// A write that waits.
struct Job {
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
            .put(must_be_free, |reply| Job { write, reply })
            .await
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
            let writes = batch.len();
            carry_out(&pool, batch).await;
            batches.observe(writes, started.elapsed());
            drop(hand);
        });
    }
}

/// Carries out a batch: advances together, new guests together, and alone everything else, with what stands in the batch
/// twice.
async fn carry_out(pool: &Pool, batch: Vec<Job>) {
    let mut advances: BTreeMap<GrantId, Job> = BTreeMap::new();
    let mut guests: BTreeMap<ProfileId, Job> = BTreeMap::new();
    let mut others = Vec::new();
    for job in batch {
        if job.reply.is_stale() {
            others.push(job);
            continue;
        }
        let again = match &job.write {
            Write::AdvanceGrant { grant, .. } => keep(advances.entry(grant.id), job),
            Write::InsertGuest(profile, _) => keep(guests.entry(profile.id), job),
            _ => Some(job),
        };
        others.extend(again);
    }
    tokio::join!(
        advance_together(pool, advances),
        insert_together(pool, guests),
        each_alone(pool, others)
    );
}

/// Carries out writes that have no statement in common, a few at a time.
async fn each_alone(pool: &Pool, jobs: impl IntoIterator<Item = Job>) {
    let mut jobs = jobs.into_iter();
    loop {
        let some: Vec<Job> = jobs.by_ref().take(ALONE_AT_ONCE).collect();
        if some.is_empty() {
            return;
        }
        join_all(some.into_iter().map(|job| alone(pool, job))).await;
    }
}

/// Few enough to leave connections for reads.
const ALONE_AT_ONCE: usize = 4;

fn keep<K: Ord>(entry: Entry<'_, K, Job>, job: Job) -> Option<Job> {
    match entry {
        Entry::Vacant(entry) => {
            entry.insert(job);
            None
        }
        Entry::Occupied(_) => Some(job),
    }
}

async fn advance_together(pool: &Pool, jobs: BTreeMap<GrantId, Job>) {
    let writes = jobs.iter().filter_map(|(id, job)| match &job.write {
        Write::AdvanceGrant { grant, from } => Some((*id, (grant, *from))),
        _ => None,
    });
    let done = match jobs.len() {
        0 => return,
        1 => None,
        _ => Some(batch::advance_grants(pool, &writes.collect()).await),
    };
    answer_all(pool, jobs, done).await;
}

async fn insert_together(pool: &Pool, jobs: BTreeMap<ProfileId, Job>) {
    let writes = jobs.iter().filter_map(|(id, job)| match &job.write {
        Write::InsertGuest(profile, grant) => Some((*id, (profile, grant))),
        _ => None,
    });
    let done = match jobs.len() {
        0 => return,
        1 => None,
        _ => Some(batch::insert_guests(pool, &writes.collect()).await),
    };
    answer_all(pool, jobs, done).await;
}

/// Answers the jobs of one statement. If the database has said that nothing happened, each is carried out alone: one that
/// fails leaves the others as they are.
async fn answer_all<K: Copy + Eq + Hash>(
    pool: &Pool,
    jobs: BTreeMap<K, Job>,
    done: Option<Result<HashSet<K>, Failed>>,
) {
    match done {
        Some(Ok(done)) => {
            for (id, job) in jobs {
                job.reply.send(Ok(if done.contains(&id) {
                    Outcome::Done
                } else {
                    Outcome::Conflict
                }));
            }
        }
        Some(Err(Failed::Unknown(error))) => {
            for job in jobs.into_values() {
                let outcome = unknown(&job.write, error.clone());
                job.reply.send(outcome);
            }
        }
        Some(Err(Failed::Unreachable(error))) => {
            for job in jobs.into_values() {
                job.reply.send(Err(error.clone()));
            }
        }
        Some(Err(Failed::Undone(_) | Failed::Duplicate(_) | Failed::Nothing(_))) | None => {
            each_alone(pool, jobs.into_values()).await;
        }
    }
}

/// Carries out one write, and once more if nobody answered and that does no harm.
async fn alone(pool: &Pool, job: Job) {
    if job.reply.is_stale() {
        job.reply
            .send(Err(Unavailable("the write has waited too long".to_owned())));
        return;
    }
    let mut result = apply(pool, &job.write).await;
    if matches!(result, Err(Failed::Unknown(_))) && is_idempotent(&job.write) {
        result = match (apply(pool, &job.write).await, &job.write) {
            // Revoked by the first attempt, as far as anyone knows.
            (Ok(Outcome::Conflict), Write::RevokeGrant(..)) => Ok(Outcome::Done),
            (other, _) => other,
        };
    }
    let outcome = match result {
        Ok(outcome) => Ok(outcome),
        Err(Failed::Unknown(error)) => unknown(&job.write, error),
        Err(failed) => Err(failed.into()),
    };
    job.reply.send(outcome);
}

/// What is said of a write that nobody answered.
fn unknown(write: &Write, error: Unavailable) -> Result<Outcome, Unavailable> {
    match write {
        Write::AdvanceGrant { .. } => Ok(Outcome::Unknown),
        _ => Err(error),
    }
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
