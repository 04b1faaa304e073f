//! The life of a grant: one code, and every refresh that follows from it.
//!
//! A grant is pending while its code is outstanding (generation 0), active while refresh credential *n* is, and ended
//! once revoked; that it has expired is read from the clock and never written. One row serves it for its whole life.
//! [`Grant::exchange`] and [`Grant::refresh`] look at the row, at what was presented and at the time, and say what
//! should happen. They don't do it: the caller writes the new row on condition that the generation is still the one
//! that was read, and asks again if it isn't.

use std::fmt;
use std::time::Duration;

use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::client::ClientNumber;
use crate::pkce::{Challenge, Verifier};
use crate::policy::{LateRetry, MAX_CODE_TTL, Policy};
use crate::profile::{NetworkId, ProfileId};
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// What a guest has granted a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// The guest, and which of the guest's grants this is.
    pub id: GrantId,
    /// The client it was granted to.
    pub client: ClientNumber,
    /// `subn`, copied from the profile so that a refresh reads one row.
    pub network_id: NetworkId,
    /// Not an `Option`: no code exists without a challenge.
    pub challenge: Challenge,
    /// *n*: the generation of the outstanding credential.
    pub generation: Generation,
    /// *p*: the newest generation whose use has proved that its answer arrived.
    pub proven: Generation,
    /// Wrong verifiers shown by the right client; [`MAX_STRIKES`] of them kill the code.
    pub strikes: u8,
    /// When the code was issued.
    pub issued_at: Timestamp,
    /// When a credential was last issued.
    pub advanced_at: Timestamp,
    /// When the outstanding credential expires. Never past `ends_at`.
    pub expires_at: Timestamp,
    /// When the grant ends, however often it is refreshed. Nothing moves it.
    pub ends_at: Timestamp,
    /// Set once, never unset.
    pub revoked: Option<Revocation>,
}

/// What should happen to a grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// A newer credential is used than any before: write this row and issue its credential.
    Advance(Grant),
    /// A retry inside the grace window: issue the outstanding credential again and write nothing.
    Repeat,
    /// A retry after the window, no successor used yet: write this row and issue its credential.
    Reissue(Grant),
    /// A wrong verifier: refuse, and count it.
    Strike(Refusal),
    /// A replay with every proof right: refuse, and end the grant.
    Revoke(Refusal, RevocationReason),
    /// Refuse; nothing changes.
    Refuse(Refusal),
}

impl Decision {
    /// What is left of the decision for someone who doesn't know what became of their own last write. What looks like
    /// another's use may be that write, so it proves nothing: `None`, nothing can be said.
    #[must_use]
    pub fn when_unsure(self) -> Option<Self> {
        match self {
            Self::Revoke(..) | Self::Refuse(Refusal::CodeSpent) => None,
            Self::Advance(_)
            | Self::Repeat
            | Self::Reissue(_)
            | Self::Strike(_)
            | Self::Refuse(_) => Some(self),
        }
    }
}

impl Grant {
    /// A new grant, its code outstanding.
    #[must_use]
    pub fn issue(
        id: GrantId,
        (client, network_id): (ClientNumber, NetworkId),
        challenge: Challenge,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        let ends_at = now + policy.refresh_max;
        Self {
            id,
            client,
            network_id,
            challenge,
            generation: Generation::CODE,
            proven: Generation::CODE,
            strikes: 0,
            issued_at: now,
            advanced_at: now,
            expires_at: (now + policy.code_ttl.min(MAX_CODE_TTL)).min(ends_at),
            ends_at,
            revoked: None,
        }
    }

    /// The code is presented by an authenticated client with a verifier.
    ///
    /// Proof comes before replay: someone who holds a leaked code but neither the client nor the verifier must not be
    /// able to end the grant (OAuth 2.1 §7.5).
    #[must_use]
    pub fn exchange(
        &self,
        client: ClientNumber,
        verifier: &Verifier,
        policy: &Policy,
        now: Timestamp,
    ) -> Decision {
        if client != self.client {
            return Decision::Refuse(Refusal::GrantOfAnotherClient);
        }
        let proved = self.challenge.is_met_by(verifier);
        if self.generation > Generation::CODE {
            return if !proved || now.since(self.issued_at) > MAX_CODE_TTL || self.revoked.is_some()
            {
                Decision::Refuse(Refusal::CodeSpent)
            } else {
                Decision::Revoke(Refusal::CodeReplayed, RevocationReason::CodeReplayed)
            };
        }
        if self.revoked.is_some() {
            return Decision::Refuse(Refusal::GrantRevoked);
        }
        if now >= self.expires_at {
            return Decision::Refuse(Refusal::CodeExpired);
        }
        if self.strikes >= MAX_STRIKES {
            return Decision::Refuse(Refusal::CodeGuessedAt);
        }
        if !proved {
            return Decision::Strike(Refusal::VerifierWrong);
        }
        Decision::Advance(self.advanced(Generation::CODE.next(), Generation::CODE, policy, now))
    }

    /// Refresh credential `presented` of this grant is used by an authenticated client.
    ///
    /// With *g* presented, *n* outstanding and *p* proven: *n* is the guest moving on; from *p* on but below *n*, an
    /// answer was lost or overtaken, and until a successor is used that must not cost the guest the grant; below *p*,
    /// a successor has been used, so two parties hold the credential (RFC 9700 §4.14.2).
    #[must_use]
    pub fn refresh(
        &self,
        presented: Generation,
        client: ClientNumber,
        policy: &Policy,
        now: Timestamp,
    ) -> Decision {
        let (g, n, p) = (presented, self.generation, self.proven);
        if client != self.client {
            return Decision::Refuse(Refusal::GrantOfAnotherClient);
        }
        if self.revoked.is_some() {
            return Decision::Refuse(Refusal::GrantRevoked);
        }
        if now >= self.ends_at {
            return Decision::Refuse(Refusal::GrantEnded);
        }
        if g > n {
            // We issued it, so the row has gone back in time: a restore, or a failover that lost writes. What this row
            // says of expiry is then about an older credential.
            return Decision::Advance(self.advanced(g.next(), g, policy, now));
        }
        if now >= self.expires_at {
            return Decision::Refuse(Refusal::RefreshTokenExpired);
        }
        // A clock that stepped back, or another node's that runs ahead, counts as inside the window, if there is one.
        let in_window = !policy.grace.is_zero() && now < self.advanced_at + policy.grace;
        if g == n {
            Decision::Advance(self.advanced(n.next(), n, policy, now))
        } else if g >= p && in_window {
            Decision::Repeat
        } else if g >= p {
            match policy.late_retry {
                LateRetry::Reissue if n.since(p) <= policy.max_unproven => {
                    Decision::Reissue(self.advanced(n.next(), p, policy, now))
                }
                LateRetry::Reissue => {
                    Decision::Revoke(Refusal::RefreshTokenContested, RevocationReason::Contested)
                }
                LateRetry::Revoke => Decision::Revoke(
                    Refusal::RefreshTokenRetriedLate,
                    RevocationReason::RetriedLate,
                ),
            }
        } else if in_window {
            Decision::Refuse(Refusal::RefreshTokenOvertaken)
        } else {
            Decision::Revoke(
                Refusal::RefreshTokenReplayed,
                RevocationReason::RefreshTokenReplayed,
            )
        }
    }

    /// Whether its client may end the grant with this credential (RFC 7009 §2.1): one that would still get an answer. A
    /// spent one would not, and a code isn't a token.
    #[must_use]
    pub fn may_be_ended_with(&self, presented: Generation, now: Timestamp) -> bool {
        if presented > self.generation {
            // As for a refresh: what a row that went back in time says of expiry is about an older credential.
            return self.revoked.is_none() && now < self.ends_at;
        }
        self.is_live(now) && presented > Generation::CODE && presented >= self.proven
    }

    /// Whether its outstanding credential works.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.ended_at() && self.revoked.is_none()
    }

    /// One more grant of the same guest and client, its code outstanding. It ends when this one would.
    #[must_use]
    pub fn resume(
        &self,
        random: [u8; 8],
        challenge: Challenge,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        let id = GrantId::new(self.id.profile, random);
        let resumed = Self::issue(id, (self.client, self.network_id), challenge, policy, now);
        Self {
            expires_at: resumed.expires_at.min(self.ends_at),
            ends_at: self.ends_at,
            ..resumed
        }
    }

    /// From when on nothing can be done with the grant any more.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        let expiry = self.expires_at.min(self.ends_at);
        self.revoked
            .map_or(expiry, |revocation| revocation.at.min(expiry))
    }

    fn advanced(
        &self,
        generation: Generation,
        proven: Generation,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        Self {
            generation,
            proven,
            advanced_at: now,
            expires_at: (now + policy.refresh_idle).min(self.ends_at),
            ..self.clone()
        }
    }
}

/// The wrong verifier with which a code dies.
pub const MAX_STRIKES: u8 = 5;

/// How many grants of one guest may live at once (only `resume_with_jwt` makes a second).
pub const MAX_LIVE: usize = 8;

/// How long ended grants and orphaned guests are kept before the cleaner may remove them.
pub const KEEP_ENDED: Duration = Duration::from_secs(7 * 86_400);

/// A profile and eight random bytes. Its base64url text is the `sid` claim.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GrantId {
    /// The guest.
    pub profile: ProfileId,
    /// Tells the guest's grants apart, and makes the id impossible to guess.
    pub random: [u8; 8],
}

impl GrantId {
    /// Makes an id from a guest and random bytes.
    #[must_use]
    pub const fn new(profile: ProfileId, random: [u8; 8]) -> Self {
        Self { profile, random }
    }

    /// Reads what [`GrantId::to_bytes`] wrote. `None` for a profile id that isn't positive.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let (profile, random) = bytes.split_at(8);
        let profile = ProfileId::from_i64(i64::from_be_bytes(profile.try_into().ok()?))?;
        Some(Self {
            profile,
            random: random.try_into().ok()?,
        })
    }

    /// The profile id, most significant byte first, then the random bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.profile.as_i64().to_be_bytes());
        bytes[8..].copy_from_slice(&self.random);
        bytes
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Base64Display::new(&self.to_bytes(), &URL_SAFE_NO_PAD).fmt(f)
    }
}

/// The place of a credential in the life of its grant.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Generation(u64);

impl Generation {
    /// The code comes before every refresh token.
    pub const CODE: Self = Self(0);

    /// The generation as the store and credentials know it.
    #[must_use]
    pub const fn from_u64(generation: u64) -> Self {
        Self(generation)
    }

    /// The generation as the store and credentials know it.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// When and why a grant was ended before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a grant was ended before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevocationReason {
    /// Its code was redeemed twice with every proof right.
    CodeReplayed,
    /// More successors in a row went unproven than the policy allows: two parties take turns.
    Contested,
    /// A refresh token was used after its successor had been.
    RefreshTokenReplayed,
    /// A refresh was tried again after the grace window, under [`LateRetry::Revoke`].
    RetriedLate,
    /// The client asked for it (RFC 7009).
    RevokedByClient,
    /// The guest has more than [`MAX_LIVE`] grants, and this was used longest ago.
    Superseded,
    /// A reason of a newer version of this program.
    Unrecognized,
}

impl RevocationReason {
    /// The stable name, in the store and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CodeReplayed => "code_replayed",
            Self::Contested => "contested",
            Self::RefreshTokenReplayed => "refresh_token_replayed",
            Self::RetriedLate => "retried_late",
            Self::RevokedByClient => "revoked_by_client",
            Self::Superseded => "superseded",
            Self::Unrecognized => "unrecognized",
        }
    }

    /// The reason with that stable name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        [
            Self::CodeReplayed,
            Self::Contested,
            Self::RefreshTokenReplayed,
            Self::RetriedLate,
            Self::RevokedByClient,
            Self::Superseded,
        ]
        .into_iter()
        .find(|reason| reason.name() == name)
        .unwrap_or(Self::Unrecognized)
    }
}
