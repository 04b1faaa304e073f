//! A redemption: a credential is presented, its grant is read, the core decides, and the decision is written.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, GrantId};
use guestpass_core::pkce::Verifier;
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;

use super::Unavailable;
use crate::clock::{Clock, Reading};

/// A credential that an authenticated client presents, and the inputs to the decision that aren't in its row.
pub struct Redemption {
    /// The grant that the credential is of.
    pub grant: GrantId,
    /// Proves that the credential may be used.
    pub proof: Proof,
    /// The client that presents it.
    pub client: ClientNumber,
    /// The policy of that client.
    pub policy: Arc<Policy>,
    /// Asked for the time after the row was read: what the row says of time is then past.
    pub clock: Arc<dyn Clock>,
}

/// The proof that a credential may be used.
#[derive(Clone, Copy)]
pub enum Proof {
    /// Of a code, the verifier.
    Code(Verifier),
    /// Of a refresh token, its own generation.
    RefreshToken(Generation),
}

/// The result of a redemption.
#[derive(Debug)]
pub struct Redeemed {
    /// The row that was decided on.
    pub read: Grant,
    /// The decision. An advance, a reissue or a strike has been written and is durable; all else is left to the caller.
    pub decision: Decision,
    /// The time of the decision.
    pub at: Timestamp,
}

impl Redemption {
    /// Decides on the row. A panic is an error of this redemption alone, because the worker that calls this serves others too.
    pub(super) fn decide(&self, read: Grant) -> Result<Redeemed, Unavailable> {
        catch_unwind(AssertUnwindSafe(|| self.decided(read)))
            .unwrap_or_else(|_| Err(Unavailable("the decision on a grant panicked".to_owned())))
    }

    fn decided(&self, read: Grant) -> Result<Redeemed, Unavailable> {
        let reading = self.clock.reading();
        let at = |now| match &self.proof {
            Proof::Code(verifier) => read.exchange(self.client, verifier, &self.policy, now),
            Proof::RefreshToken(presented) => {
                read.refresh(*presented, self.client, &self.policy, now)
            }
        };
        let mut decision = at(reading.now);
        if reading.is_doubted() {
            decision = decision
                .unless_only_time_tells(&at(reading.earliest), &read)
                .ok_or_else(Reading::doubt)?;
        }
        Ok(Redeemed {
            read,
            decision,
            at: reading.now,
        })
    }

    /// Returns whether two requests that reach the same decision may both be answered: not for a code, and not where the
    /// policy allows no retry.
    pub(super) fn may_be_shared(&self) -> bool {
        matches!(self.proof, Proof::RefreshToken(_)) && !self.policy.grace.is_zero()
    }
}

impl Redeemed {
    /// Returns whether the decision is one that the store writes.
    pub(super) fn is_written(&self) -> bool {
        matches!(self.decision, Decision::Strike(_)) || self.next().is_some()
    }

    /// Returns the row to write, if the decision has one.
    pub(super) fn next(&self) -> Option<&Grant> {
        match &self.decision {
            Decision::Advance(next) | Decision::Reissue(next) => Some(next),
            Decision::Repeat | Decision::Strike(_) | Decision::Revoke(..) | Decision::Refuse(_) => {
                None
            }
        }
    }
}
