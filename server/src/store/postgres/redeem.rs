//! Redemptions with optimistic concurrency: read the grant, decide in memory, write on condition that its generation is
//! still the one that was read (a compare-and-set).
//!
//! A batch of redemptions goes in rounds, so that many share a statement:
//!
//! 1. One statement reads the grants of all.
//! 2. Each redemption is decided on its grant. If there is nothing to write, it is answered. Once one would write a
//!    grant, all later ones of that grant wait for the next round, to read what it has written.
//! 3. One statement writes the grants that advance, each on its own condition; a wrong verifier is counted by a statement
//!    of its own, on condition that the code isn't dead. Where the condition held, the redemption is answered.
//!
//! Two outcomes of a write lead to a retry, which reads and decides again. A *conflict*: another node, or another batch
//! of this one, has changed the grant since it was read. *Outcome unknown*: the connection was lost, so the write may
//! be committed or not. The retry may find the grant unchanged, and advances it; or exactly as the lost write would
//! have made it, and is answered with that; or otherwise changed. Since that may be the lost write too, a decision that
//! takes it for someone else's is not acted on, and the answer is an error ([`Decision::when_unsure`]).
//!
//! *Termination*: each round answers a redemption of every grant in it, or uses up one of that redemption's attempts.
//! There are three at most: the second conflict is the last, and of unknown outcomes all but the first count as
//! conflicts.
//!
//! If a shared statement fails without effect, one redemption may be to blame; so each is then carried out by itself.
//!
//! [`Decision::when_unsure`]: guestpass_core::grant::Decision::when_unsure

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use guestpass_core::grant::{Generation, Grant, GrantId};

use super::pool::{Failed, Pool};
use super::writer::SINGLES_CONCURRENCY;
use super::{batch, grants};
use crate::store::writes::{Reply, too_late};
use crate::store::{Outcome, Redeemed, Redemption, Unavailable};

/// A redemption that isn't answered yet.
pub(super) struct PendingRedemption {
    redemption: Redemption,
    reply: Reply<Option<Redeemed>>,
    /// The number of writes that conflicted. Of unknown outcomes, all but the first count too.
    conflicts: usize,
    /// The outcome of an earlier write is unknown.
    outcome_unknown: bool,
    /// The last write whose outcome is unknown, if two requests may be answered with the same credential
    /// ([`Redemption::may_be_shared`]): when the grant then reads exactly so, this answers the redemption.
    unconfirmed: Option<Redeemed>,
}

/// A redemption that was decided and has something to write: its grant advances, or a wrong verifier is to be counted.
struct Decided {
    pending: PendingRedemption,
    redeemed: Redeemed,
}

/// Carries out a batch of redemptions, answers each, and returns the number of writes that it took.
pub(super) async fn redeem(pool: &Pool, mut waiting: Vec<PendingRedemption>) -> usize {
    let mut writes = 0;
    while waiting.len() > 1 {
        writes += run_round(pool, &mut waiting).await;
    }
    writes + run_singly(pool, waiting).await
}

/// Runs one round, leaves in `waiting` what needs another, and returns the number of writes.
async fn run_round(pool: &Pool, waiting: &mut Vec<PendingRedemption>) -> usize {
    let batch: Vec<_> = waiting
        .drain(..)
        .filter_map(PendingRedemption::unless_stale)
        .collect();
    let ids = batch
        .iter()
        .map(|pending| pending.redemption.grant)
        .collect();
    let rows = match batch::load_grants(pool, &ids).await {
        Ok(rows) => rows,
        Err(failed) => return recover(pool, batch, failed).await,
    };
    let mut decided = BTreeMap::new();
    for pending in batch {
        match decided.entry(pending.redemption.grant) {
            // The grant will have changed by then.
            Entry::Occupied(_) => waiting.push(pending),
            Entry::Vacant(entry) => {
                let row = rows.get(entry.key()).cloned();
                if let Some(write) = pending.decide(row) {
                    entry.insert(write);
                }
            }
        }
    }
    let (advances, strikes): (BTreeMap<_, _>, _) = decided
        .into_iter()
        .partition(|(_, decided)| decided.compare_and_set().is_some());
    let writes = strikes.len();
    let (unstruck, (unadvanced, advanced)) =
        tokio::join!(strike(pool, strikes), advance(pool, advances));
    waiting.extend(unstruck);
    waiting.extend(unadvanced);
    writes + advanced
}

/// Writes grants that advance. Returns the redemptions that need another round, and the number of writes.
async fn advance(
    pool: &Pool,
    advances: BTreeMap<GrantId, Decided>,
) -> (Vec<PendingRedemption>, usize) {
    if advances.is_empty() {
        return (Vec::new(), 0);
    }
    let conditional = advances
        .iter()
        .filter_map(|(id, decided)| Some((*id, decided.compare_and_set()?)))
        .collect();
    let writes = advances.len();
    let again = match batch::advance_grants(pool, &conditional).await {
        Ok(advanced) => advances
            .into_iter()
            .filter_map(|(id, decided)| {
                decided.finish(Ok(if advanced.contains(&id) {
                    Outcome::Done
                } else {
                    Outcome::Conflict
                }))
            })
            .collect(),
        Err(Failed::Unknown(error)) => advances
            .into_values()
            .filter_map(|decided| decided.finish(Err(Failed::Unknown(error.clone()))))
            .collect(),
        Err(failed) => {
            let batch = advances
                .into_values()
                .map(|decided| decided.pending)
                .collect();
            return (Vec::new(), recover(pool, batch, failed).await);
        }
    };
    (again, writes)
}

/// Counts wrong verifiers, one for each grant. Returns the redemptions that need another round.
async fn strike(pool: &Pool, strikes: BTreeMap<GrantId, Decided>) -> Vec<PendingRedemption> {
    let strikes = strikes.into_iter().map(async |(id, decided)| {
        let outcome = grants::strike_grant(pool, id).await;
        decided.finish(outcome)
    });
    stream::iter(strikes)
        .buffer_unordered(SINGLES_CONCURRENCY)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Goes on after a shared statement has failed: carries each redemption out by itself if the database was reached and
/// nothing was written. If it wasn't reached, or the outcome is unknown, answers all with the error.
async fn recover(pool: &Pool, batch: Vec<PendingRedemption>, failed: Failed) -> usize {
    match failed {
        Failed::Unreachable(error) | Failed::Unknown(error) => {
            for pending in batch {
                pending.reply.send(Err(error.clone()));
            }
            0
        }
        Failed::Undone(_) | Failed::Duplicate(_) | Failed::Nothing(_) => {
            run_singly(pool, batch).await
        }
    }
}

async fn run_singly(pool: &Pool, batch: Vec<PendingRedemption>) -> usize {
    stream::iter(batch.into_iter().map(|pending| redeem_one(pool, pending)))
        .buffer_unordered(SINGLES_CONCURRENCY)
        .fold(0, async |sum, writes| sum + writes)
        .await
}

/// Carries out one redemption: the same rounds, with statements of its own.
async fn redeem_one(pool: &Pool, pending: PendingRedemption) -> usize {
    let (mut waiting, mut writes) = (Some(pending), 0);
    while let Some(pending) = waiting.and_then(PendingRedemption::unless_stale) {
        let row = match grants::load(pool, pending.redemption.grant).await {
            Ok(row) => row,
            Err(error) => {
                pending.reply.send(Err(error));
                break;
            }
        };
        let id = pending.redemption.grant;
        let Some(decided) = pending.decide(row) else {
            break;
        };
        let outcome = match decided.compare_and_set() {
            Some((next, from)) => grants::advance_grant(pool, next, from).await,
            None => grants::strike_grant(pool, id).await,
        };
        writes += 1;
        waiting = decided.finish(outcome);
    }
    writes
}

impl PendingRedemption {
    pub(super) fn new(redemption: Redemption, reply: Reply<Option<Redeemed>>) -> Self {
        Self {
            redemption,
            reply,
            conflicts: 0,
            outcome_unknown: false,
            unconfirmed: None,
        }
    }

    /// Refuses it, answered, if it has waited too long. One that may have written goes on, to find out.
    fn unless_stale(self) -> Option<Self> {
        if self.reply.is_stale(Instant::now()) && !self.outcome_unknown {
            return self.answer(Err(too_late()));
        }
        Some(self)
    }

    /// Decides on the grant as it was read. Returns the write that this takes, or `None` if it was answered without
    /// one.
    fn decide(mut self, row: Option<Grant>) -> Option<Decided> {
        let Some(read) = row else {
            return self.answer(Ok(None));
        };
        if let Some(written) = self
            .unconfirmed
            .take_if(|redeemed| redeemed.next() == Some(&read))
        {
            return self.answer(Ok(Some(written)));
        }
        let mut redeemed = match self.redemption.decide(read) {
            Ok(redeemed) => redeemed,
            Err(error) => return self.answer(Err(error)),
        };
        if self.outcome_unknown {
            let Some(decision) = redeemed.decision.when_unsure() else {
                return self.answer(Err(outcome_unknown()));
            };
            redeemed.decision = decision;
        }
        if !redeemed.is_written() {
            return self.answer(Ok(Some(redeemed)));
        }
        Some(Decided {
            pending: self,
            redeemed,
        })
    }

    /// Answers it, and returns `None` for whoever asks what is left to do.
    fn answer<T>(self, result: Result<Option<Redeemed>, Unavailable>) -> Option<T> {
        self.reply.send(result);
        None
    }
}

impl Decided {
    /// Returns the grant as it should become, and the generation that the stored one must still have. `None` if a wrong
    /// verifier is to be counted.
    fn compare_and_set(&self) -> Option<(&Grant, Generation)> {
        Some((self.redeemed.next()?, self.redeemed.read.generation))
    }

    /// Takes the outcome of the write. Returns the redemption if it is to be retried, or `None` if it was answered.
    fn finish(self, outcome: Result<Outcome, Failed>) -> Option<PendingRedemption> {
        let Self {
            mut pending,
            redeemed,
        } = self;
        match outcome {
            Ok(Outcome::Done | Outcome::More) => return pending.answer(Ok(Some(redeemed))),
            Ok(Outcome::Conflict) => pending.conflicts += 1,
            Err(Failed::Unknown(_)) => {
                pending.conflicts += usize::from(pending.outcome_unknown);
                pending.outcome_unknown = true;
                pending.unconfirmed = pending.redemption.may_be_shared().then_some(redeemed);
            }
            Err(failed) => return pending.answer(Err(failed.into())),
        }
        if pending.conflicts < MAX_CONFLICTS {
            return Some(pending);
        }
        let error = "the grant was changed by others twice in a row".to_owned();
        pending.answer(Err(Unavailable(error)))
    }
}

/// The number of conflicts after which a redemption is refused; the client comes again.
const MAX_CONFLICTS: usize = 2;

fn outcome_unknown() -> Unavailable {
    Unavailable("whether the grant was advanced by this request or by another is not known".into())
}
