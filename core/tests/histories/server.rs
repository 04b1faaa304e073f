//! Models the server, as far as a single grant can tell.

use std::time::Duration;

use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{
    Decision, Generation, Grant, GrantId, MAX_STRIKES, Revocation, RevocationReason,
};
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::policy::{LateRetry, Policy};
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::time::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};

/// Holds one row, which is read and written as the real store does it.
#[derive(Clone)]
pub(crate) struct Server<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) row: Grant,
    pub(crate) now: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Exchange(ClientNumber, Proof),
    Refresh(ClientNumber, Generation),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Proof {
    Right,
    Wrong,
}

/// Holds a request, its time of arrival, and the row that it has read.
pub(crate) struct Reading {
    pub(crate) request: Request,
    pub(crate) now: Timestamp,
    pub(crate) row: Grant,
}

/// Records a decision, the row it was taken on, and the row before and after the write.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) request: Request,
    pub(crate) now: Timestamp,
    pub(crate) read: Grant,
    pub(crate) decision: Decision,
    pub(crate) before: Grant,
    pub(crate) after: Grant,
}

impl<'a> Server<'a> {
    /// Starts with a code that has just been issued.
    pub(crate) fn new(policy: &'a Policy) -> Self {
        let guest = ProfileId::from_i64(94_173).expect("it is positive");
        let row = Grant::issue(
            GrantId::new(guest, [7; 8]),
            CLIENT,
            NetworkId::new([1; 16]),
            Challenge::parse(CHALLENGE).expect("it is one"),
            policy,
            START,
        );
        Self {
            policy,
            row,
            now: START,
        }
    }

    /// Starts with a code that has just been redeemed.
    pub(crate) fn redeemed(policy: &'a Policy) -> Self {
        let mut server = Self::new(policy);
        server.serve(Request::Exchange(CLIENT, Proof::Right));
        server
    }

    /// Serves a request that nothing disturbs. `None` if it is refused.
    pub(crate) fn serve(&mut self, request: Request) -> Option<Generation> {
        self.write(&mut self.read(request))?.token()
    }

    pub(crate) fn read(&self, request: Request) -> Reading {
        Reading {
            request,
            now: self.now,
            row: self.row.clone(),
        }
    }

    /// Carries out the decision on the row that was read. `None` if that row is stale: it has been read again.
    ///
    /// The real server takes the time anew then, and gives up after the second try. The rules must hold without that.
    pub(crate) fn write(&mut self, reading: &mut Reading) -> Option<Answer> {
        let (request, before) = (reading.request, self.row.clone());
        let decision = request.decide(&reading.row, self.policy, reading.now);
        match &decision {
            Decision::Advance(new) | Decision::Reissue(new) => {
                let is_exchange = matches!(request, Request::Exchange(..));
                if before.generation != reading.row.generation
                    || before.revoked.is_some()
                    || (is_exchange && before.strikes >= MAX_STRIKES)
                {
                    reading.row = before;
                    return None;
                }
                self.row.generation = new.generation;
                self.row.proven = new.proven;
                self.row.advanced_at = new.advanced_at;
                self.row.expires_at = new.expires_at;
            }
            Decision::Strike(_) if before.generation == Generation::CODE => self.row.strikes += 1,
            Decision::Revoke(_, reason) => self.revoke(*reason),
            Decision::Strike(_) | Decision::Repeat | Decision::Refuse(_) => {}
        }
        let (read, after) = (reading.row.clone(), self.row.clone());
        Some(Answer {
            request,
            now: reading.now,
            read,
            decision,
            before,
            after,
        })
    }

    pub(crate) fn revoke(&mut self, reason: RevocationReason) {
        let revocation = Revocation {
            at: self.now,
            reason,
        };
        self.row.revoked.get_or_insert(revocation);
    }
}

impl Request {
    pub(crate) fn decide(self, row: &Grant, policy: &Policy, now: Timestamp) -> Decision {
        let (client, proof) = match self {
            Self::Refresh(client, presented) => {
                return row.refresh(presented, client, policy, now);
            }
            Self::Exchange(client, Proof::Right) => (client, VERIFIER),
            Self::Exchange(client, Proof::Wrong) => (client, CHALLENGE), // it has the form of one
        };
        row.exchange(
            client,
            &Verifier::parse(proof).expect("it is one"),
            policy,
            now,
        )
    }

    pub(crate) fn presented(self) -> Generation {
        match self {
            Self::Exchange(..) => Generation::CODE,
            Self::Refresh(_, presented) => presented,
        }
    }
}

impl Answer {
    /// Returns the refresh token that goes out with the answer.
    pub(crate) fn token(&self) -> Option<Generation> {
        match &self.decision {
            Decision::Advance(new) | Decision::Reissue(new) => Some(new.generation),
            Decision::Repeat => Some(self.read.generation),
            Decision::Strike(_) | Decision::Revoke(..) | Decision::Refuse(_) => None,
        }
    }

    pub(crate) fn redeems_the_code(&self) -> bool {
        matches!(self.request, Request::Exchange(..)) && self.token().is_some()
    }
}

/// Checks the same inputs in every run, and leaves no file behind.
pub(crate) fn for_all<S: Strategy>(inputs: S, check: impl Fn(S::Value) -> TestCaseResult) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(9_700),
        ..ProptestConfig::default()
    });
    if let Err(failure) = runner.run(&inputs, check) {
        panic!("{failure}");
    }
}

pub(crate) fn strict() -> Policy {
    Policy {
        late_retry: LateRetry::Revoke,
        ..Policy::default()
    }
}

pub(crate) fn strict_without_grace() -> Policy {
    Policy {
        grace: Duration::ZERO,
        ..strict()
    }
}

pub(crate) fn nth(generation: u64) -> Generation {
    Generation::from_u64(generation)
}

pub(crate) const REVOCATION: Revocation = Revocation {
    at: START,
    reason: RevocationReason::Contested,
};
pub(crate) const CLIENT: ClientNumber = ClientNumber(1);
pub(crate) const STRANGER: ClientNumber = ClientNumber(2);
pub(crate) const START: Timestamp = Timestamp::from_millis(1_763_750_000_000);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

// RFC 7636 appendix B.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
