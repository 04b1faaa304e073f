//! What becomes of a grant whose credential is presented: read, decided by the core, written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, GrantId};
use guestpass_core::pkce::Verifier;
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;

use super::Unavailable;
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
    /// Decides on the row. A panic in that is an error of this redemption alone: a thread that serves others does this.
    pub(super) fn decide(&self, read: Grant) -> Result<Redeemed, Unavailable> {
        catch_unwind(AssertUnwindSafe(|| self.decided(read)))
            .map_err(|_| Unavailable("the decision on a grant panicked".to_owned()))
    }

    fn decided(&self, read: Grant) -> Redeemed {
        let at = self.clock.now();
        let decision = match &self.proof {
            Proof::Code(verifier) => read.exchange(self.client, verifier, &self.policy, at),
            Proof::RefreshToken(presented) => {
                read.refresh(*presented, self.client, &self.policy, at)
            }
        };
        Redeemed { read, decision, at }
    }

    /// Whether two requests that have decided the same may both be answered. Of a code, and where no retry is good, only one
    /// may.
    pub(super) fn may_be_shared(&self) -> bool {
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
