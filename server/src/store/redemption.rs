//! What becomes of a grant whose credential is presented: read, decided by the core, written.

use std::sync::Arc;

use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, GrantId};
use guestpass_core::pkce::Verifier;
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;

use super::{Grants, Outcome, Unavailable, Write};
use crate::clock::Clock;

/// A credential that an authenticated client presents, and what decides on it beside its row.
pub struct Redemption {
    /// The grant that the credential is of.
    pub grant: GrantId,
    /// What shows that it may be used.
    pub proof: Proof,
    /// Who presents it.
    pub client: ClientNumber,
    /// What holds for that client.
    pub policy: Arc<Policy>,
    /// Asked for the time after the row was read: what the row says of time is then past.
    pub clock: Arc<dyn Clock>,
}

/// What shows that a credential may be used.
#[derive(Clone, Copy)]
pub enum Proof {
    /// Of a code, the verifier.
    Code(Verifier),
    /// Of a refresh token, its own generation.
    RefreshToken(Generation),
}

/// What has become of a grant.
#[derive(Debug)]
pub struct Redeemed {
    /// The row that was decided on.
    pub read: Grant,
    /// What was decided. To advance is done, and durable; all else is left to the caller.
    pub decision: Decision,
    /// When it was decided.
    pub at: Timestamp,
}

impl Redemption {
    /// Decides on the row.
    pub(super) fn decide(&self, read: Grant) -> Redeemed {
        let at = self.clock.now();
        let decision = match &self.proof {
            Proof::Code(verifier) => read.exchange(self.client, verifier, &self.policy, at),
            Proof::RefreshToken(presented) => {
                read.refresh(*presented, self.client, &self.policy, at)
            }
        };
        Redeemed { read, decision, at }
    }

    /// As [`Write::must_be_free`]: to exchange a code may wait, for the guest can authorize again.
    pub(super) fn must_be_free(&self) -> usize {
        match self.proof {
            Proof::Code(_) => 2,
            Proof::RefreshToken(_) => 0,
        }
    }

    /// Whether two requests that have decided the same may both be answered. Of a code, and where no retry is good, only one
    /// may.
    fn may_be_shared(&self) -> bool {
        matches!(self.proof, Proof::RefreshToken(_)) && !self.policy.grace.is_zero()
    }
}

impl Redeemed {
    /// The row to write, if there is one.
    pub(super) fn next(&self) -> Option<&Grant> {
        match &self.decision {
            Decision::Advance(next) | Decision::Reissue(next) => Some(next),
            Decision::Repeat | Decision::Strike(_) | Decision::Revoke(..) | Decision::Refuse(_) => {
                None
            }
        }
    }
}

/// The loop for a store that others write to between our read and our write.
pub(super) async fn compare_and_set(
    grants: &dyn Grants,
    redemption: &Redemption,
) -> Result<Option<Redeemed>, Unavailable> {
    // Twice, because someone else may advance the grant between our read and our write; then theirs is what to decide on.
    // Once more, because an answer may be lost between the database and us.
    let (mut overtaken, mut is_unsure) = (0, false);
    let mut lost: Option<Redeemed> = None;
    while overtaken < 2 {
        let Some(read) = grants.load(redemption.grant).await? else {
            return Ok(None);
        };
        // Exactly what this request wrote, and nobody told it so.
        if let Some(written) = lost.take_if(|lost| lost.next() == Some(&read)) {
            return Ok(Some(written));
        }
        let mut redeemed = redemption.decide(read);
        if is_unsure {
            redeemed.decision = redeemed.decision.when_unsure().ok_or_else(unsure)?;
        }
        let Some(next) = redeemed.next() else {
            return Ok(Some(redeemed));
        };
        let write = Write::AdvanceGrant {
            grant: next.clone(),
            from: redeemed.read.generation,
        };
        match grants.write(write).await? {
            Outcome::Done => return Ok(Some(redeemed)),
            Outcome::Conflict => overtaken += 1,
            Outcome::Unknown => {
                overtaken += usize::from(is_unsure);
                is_unsure = true;
                lost = redemption.may_be_shared().then_some(redeemed);
            }
        }
    }
    Err(Unavailable(
        "the grant was advanced by others twice in a row".into(),
    ))
}

fn unsure() -> Unavailable {
    Unavailable("whether the grant was advanced by this request or by another is not known".into())
}
