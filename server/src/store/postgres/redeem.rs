//! Redemptions that wait, in rounds: one statement reads the rows of all, each is decided, and one more statement writes
//! those that advance. Others write between the two, another node or the other hand of this one, so the write is a
//! compare-and-set; whoever was overtaken, or doesn't know what became of the write, has another round.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use guestpass_core::grant::{Generation, Grant};

use super::pool::{Failed, Pool};
use super::writer::a_few_at_once;
use super::{batch, grants};
use crate::store::writes::Reply;
use crate::store::{Outcome, Redeemed, Redemption, Unavailable};

/// A redemption that isn't answered yet.
pub(super) struct Open {
    redemption: Redemption,
    reply: Reply<Option<Redeemed>>,
    /// How often someone else advanced the grant between our read and our write; then theirs is what to decide on.
    overtaken: usize,
    /// Whether an answer to our write was lost.
    is_unsure: bool,
    /// That write, if two requests may have made it.
    lost: Option<Redeemed>,
}

/// A redemption that is to be written.
struct Advance {
    open: Open,
    redeemed: Redeemed,
    next: Grant,
}

/// Carries out redemptions, answers them all, and says how many writes that took.
///
/// Each round answers a redemption of every grant, or finds it overtaken or unsure, which ends; so there is a last round.
pub(super) async fn redeem(pool: &Pool, mut waiting: Vec<Open>) -> usize {
    let mut writes = 0;
    while waiting.len() > 1 {
        writes += round(pool, &mut waiting).await;
    }
    writes + each_alone(pool, waiting).await
}

/// Leaves those that need another round.
async fn round(pool: &Pool, waiting: &mut Vec<Open>) -> usize {
    let taken: Vec<_> = waiting.drain(..).filter_map(Open::unless_stale).collect();
    let ids = taken.iter().map(|open| open.redemption.grant).collect();
    let rows = match batch::load_grants(pool, &ids).await {
        Ok(rows) => rows,
        Err(failed) => return fail(pool, taken, failed).await,
    };
    let mut advances = BTreeMap::new();
    for open in taken {
        match advances.entry(open.redemption.grant) {
            // The row will be another by then.
            Entry::Occupied(_) => waiting.push(open),
            Entry::Vacant(entry) => {
                let row = rows.get(entry.key()).cloned();
                if let Some(advance) = open.decide(row) {
                    entry.insert(advance);
                }
            }
        }
    }
    let writes = advances.len();
    if writes == 0 {
        return 0;
    }
    let wanted = advances.iter().map(|(id, advance)| (*id, advance.write()));
    match batch::advance_grants(pool, &wanted.collect()).await {
        Ok(done) => waiting.extend(advances.into_iter().filter_map(|(id, advance)| {
            advance.tried(Ok(if done.contains(&id) {
                Outcome::Done
            } else {
                Outcome::Conflict
            }))
        })),
        Err(Failed::Unknown(error)) => {
            let lost = |advance: Advance| advance.tried(Err(Failed::Unknown(error.clone())));
            waiting.extend(advances.into_values().filter_map(lost));
        }
        Err(failed) => {
            let open = advances.into_values().map(|advance| advance.open);
            return fail(pool, open.collect(), failed).await;
        }
    }
    writes
}

/// What becomes of redemptions whose statement has failed. If the database has said that nothing happened, each is carried
/// out alone: one that fails leaves the others as they are.
async fn fail(pool: &Pool, waiting: Vec<Open>, failed: Failed) -> usize {
    match failed {
        Failed::Unreachable(error) | Failed::Unknown(error) => {
            for open in waiting {
                open.reply.send(Err(error.clone()));
            }
            0
        }
        Failed::Undone(_) | Failed::Duplicate(_) | Failed::Nothing(_) => {
            each_alone(pool, waiting).await
        }
    }
}

async fn each_alone(pool: &Pool, waiting: Vec<Open>) -> usize {
    let writes = a_few_at_once(waiting.into_iter().map(|open| alone(pool, open))).await;
    writes.into_iter().sum()
}

/// The same rounds for one.
async fn alone(pool: &Pool, open: Open) -> usize {
    let (mut waiting, mut writes) = (Some(open), 0);
    while let Some(open) = waiting.and_then(Open::unless_stale) {
        let row = match grants::load(pool, open.redemption.grant).await {
            Ok(row) => row,
            Err(error) => {
                open.reply.send(Err(error));
                break;
            }
        };
        let Some(advance) = open.decide(row) else {
            break;
        };
        let (next, from) = advance.write();
        let outcome = grants::advance_grant(pool, next, from).await;
        writes += 1;
        waiting = advance.tried(outcome);
    }
    writes
}

impl Open {
    pub(super) fn new(redemption: Redemption, reply: Reply<Option<Redeemed>>) -> Self {
        Self {
            redemption,
            reply,
            overtaken: 0,
            is_unsure: false,
            lost: None,
        }
    }

    /// Refuses it if it has waited too long. Who has written perhaps had better find out.
    fn unless_stale(self) -> Option<Self> {
        if self.reply.is_stale() && !self.is_unsure {
            let error = Unavailable("the redemption has waited too long".to_owned());
            return self.answer(Err(error));
        }
        Some(self)
    }

    /// Decides on the row. Answered, unless there is something to write.
    fn decide(mut self, row: Option<Grant>) -> Option<Advance> {
        let Some(read) = row else {
            return self.answer(Ok(None));
        };
        // Exactly what this request wrote, and nobody told it so.
        if let Some(written) = self.lost.take_if(|lost| lost.next() == Some(&read)) {
            return self.answer(Ok(Some(written)));
        }
        let mut redeemed = match self.redemption.decide(read) {
            Ok(redeemed) => redeemed,
            Err(error) => return self.answer(Err(error)),
        };
        if self.is_unsure {
            let Some(decision) = redeemed.decision.when_unsure() else {
                return self.answer(Err(unsure()));
            };
            redeemed.decision = decision;
        }
        let Some(next) = redeemed.next().cloned() else {
            return self.answer(Ok(Some(redeemed)));
        };
        Some(Advance {
            open: self,
            redeemed,
            next,
        })
    }

    fn answer<T>(self, result: Result<Option<Redeemed>, Unavailable>) -> Option<T> {
        self.reply.send(result);
        None
    }
}

impl Advance {
    /// The row as it should become, and the generation that it was decided on.
    fn write(&self) -> (&Grant, Generation) {
        (&self.next, self.redeemed.read.generation)
    }

    /// Notes what came of the write. Answered, unless the row is to be read again: twice because of others, and once more
    /// because an answer was lost.
    fn tried(self, outcome: Result<Outcome, Failed>) -> Option<Open> {
        let Self {
            mut open, redeemed, ..
        } = self;
        match outcome {
            Ok(Outcome::Done) => return open.answer(Ok(Some(redeemed))),
            Ok(Outcome::Conflict) => open.overtaken += 1,
            Err(Failed::Unknown(_)) => {
                open.overtaken += usize::from(open.is_unsure);
                open.is_unsure = true;
                open.lost = open.redemption.may_be_shared().then_some(redeemed);
            }
            Err(failed) => return open.answer(Err(failed.into())),
        }
        if open.overtaken < 2 {
            return Some(open);
        }
        let error = "the grant was advanced by others twice in a row".to_owned();
        open.answer(Err(Unavailable(error)))
    }
}

fn unsure() -> Unavailable {
    Unavailable("whether the grant was advanced by this request or by another is not known".into())
}
