//! The state machine of a grant: one code, and every refresh that follows from it.
//!
//! A grant is pending while its code is outstanding (generation 0), active while refresh credential *n* is, and ended
//! once revoked; expiry is read from the clock and never written. One row serves a grant for its whole life.
//!
//! [`Grant::exchange`] and [`Grant::refresh`] take the row, the credential that was presented and the time, and return
//! a [`Decision`]. The caller carries it out with optimistic concurrency: it writes the new row by a compare-and-set on
//! the generation that was read; if another request has written in between, it reads the row and decides once more.

use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::attributes::Attributes;
use crate::client::{ClaimName, ClientNumber};
use crate::customer::CustomerId;
use crate::pkce::{Challenge, Verifier};
use crate::policy::{LateRetry, MAX_CODE_TTL, Policy};
use crate::profile::{NetworkId, Profile, ProfileCopy, ProfileId};
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// Holds the row of a grant: a guest's permission for one client, from its code to its last refresh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Identifies the guest, and the grant among the guest's.
    pub id: GrantId,
    /// The client that the grant was issued to, and the only one that may use it.
    pub client: ClientNumber,
    /// `subn`, copied from the profile so that a refresh reads one row.
    pub network_id: NetworkId,
    /// Binds the code to the client's verifier. Not an `Option`: no code exists without a challenge (RFC 9700 §2.1.1).
    pub challenge: Challenge,
    /// *n*: the generation of the outstanding credential.
    pub generation: Generation,
    /// *p*: the newest generation whose use has proved that its answer arrived.
    pub proven: Generation,
    /// Counts wrong verifiers shown by the right client; [`MAX_STRIKES`] of them kill the code.
    pub strikes: u8,
    /// The time when the code was issued.
    pub issued_at: Timestamp,
    /// The time when a credential was last issued. The grace window begins here.
    pub advanced_at: Timestamp,
    /// The time when the outstanding credential expires, never past `ends_at`.
    pub expires_at: Timestamp,
    /// The time when the grant ends, however often it is refreshed. Nothing moves it.
    pub ends_at: Timestamp,
    /// Records the first revocation. Set once, never unset.
    pub revoked: Option<Revocation>,
    /// Repeats what the shop has said of the guest, as the store last copied it; `None` if it never said anything. Whoever
    /// writes a grant leaves it to the store.
    pub copied: Option<Arc<ProfileCopy>>,
}

/// Says what the caller should do with a presented credential, and with the grant's row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Write this row and issue its credential: the newest credential was used for the first time.
    Advance(Grant),
    /// Issue the outstanding credential again and write nothing: a retry inside the grace window.
    Repeat,
    /// Write this row and issue its credential: a retry after the grace window, whose successor hasn't been used.
    Reissue(Grant),
    /// Refuse and count a strike: the verifier is wrong.
    Strike(Refusal),
    /// Refuse and end the grant: a replay with every proof right.
    Revoke(Refusal, RevocationReason),
    /// Refuse and write nothing.
    Refuse(Refusal),
}

impl Decision {
    /// Downgrades a decision taken after a write whose outcome is unknown, such as one whose connection was lost.
    ///
    /// That write may have been committed, and then it is what makes the credential look spent or replayed. A decision
    /// that rests on such evidence becomes `None`: the caller answers that the outcome is unknown, and revokes nothing.
    /// All others hold whether or not the write took effect.
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

impl Decision {
    /// Returns the refusal, if it says no more than that a grant is over: nobody is suspected, and nobody has ended it. Then a
    /// client may have chosen a new guest instead ([`OnEnded::NewGuest`]).
    ///
    /// [`OnEnded::NewGuest`]: crate::client::OnEnded::NewGuest
    #[must_use]
    pub fn refusal_if_over(&self, read: &Grant) -> Option<Refusal> {
        let reason = read.revoked.map(|revocation| revocation.reason);
        match self {
            Self::Refuse(over @ (Refusal::RefreshTokenExpired | Refusal::GrantEnded)) => {
                Some(*over)
            }
            Self::Refuse(over @ Refusal::GrantRevoked)
                if reason == Some(RevocationReason::Superseded) =>
            {
                Some(*over)
            }
            Self::Advance(_)
            | Self::Repeat
            | Self::Reissue(_)
            | Self::Strike(_)
            | Self::Revoke(..)
            | Self::Refuse(_) => None,
        }
    }

    /// Reconciles this decision with the one at an `earlier` time, when either may be the right one. `None` if one of them
    /// refuses or ends what the other doesn't: that would follow from the time alone.
    ///
    /// The earlier time tells how long the credential of a known grant lives from now on, but never less than the row that
    /// was `read` says: nothing is prolonged by the doubt, and nothing is cut short.
    #[must_use]
    pub fn unless_only_time_tells(self, earlier: &Self, read: &Grant) -> Option<Self> {
        let expires_at = |next: &Grant| {
            if read.generation == Generation::CODE {
                return next.expires_at;
            }
            let row = match earlier {
                Self::Advance(row) | Self::Reissue(row) => row,
                Self::Repeat | Self::Strike(_) | Self::Revoke(..) | Self::Refuse(_) => read,
            };
            row.expires_at.max(read.expires_at)
        };
        let expiring = |next: Grant| Grant {
            expires_at: expires_at(&next),
            ..next
        };
        match (self, earlier) {
            (Self::Advance(next), Self::Advance(_)) => Some(Self::Advance(expiring(next))),
            (Self::Reissue(next), Self::Reissue(_) | Self::Repeat) => {
                Some(Self::Reissue(expiring(next)))
            }
            (Self::Repeat, Self::Reissue(_)) => Some(Self::Repeat),
            (decision, earlier) => (decision == *earlier).then_some(decision),
        }
    }
}

impl Grant {
    /// Starts a grant, with its code outstanding.
    #[must_use]
    pub fn issue(
        id: GrantId,
        client: ClientNumber,
        network_id: NetworkId,
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
            copied: None,
        }
    }

    /// Starts a grant without a code: its first refresh token is outstanding, and what it came of (a seed, or the refresh token of
    /// a guest that it follows) counts as generation 0, so that the rules of [`Grant::refresh`] say what becomes of retries.
    #[must_use]
    pub fn issue_active(
        id: GrantId,
        client: ClientNumber,
        network_id: NetworkId,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        // The hash of no text.
        let challenge = Challenge::from_bytes([0; 32]);
        let issued = Self::issue(id, client, network_id, challenge, policy, now);
        issued.advanced(Generation::CODE.next(), Generation::CODE, policy, now)
    }

    /// Returns the same new grant for a time that may be `earliest` instead: it ends when it would if it began then. `None` if
    /// it could be over before its time by the later one.
    #[must_use]
    pub fn ending_from(self, earliest: Timestamp, policy: &Policy) -> Option<Self> {
        let ends_at = self.ends_at.min(earliest + policy.refresh_max);
        let needed = self.issued_at + policy.refresh_idle.min(policy.refresh_max);
        (ends_at >= needed || ends_at == self.ends_at).then_some(Self { ends_at, ..self })
    }

    /// Decides about the code, presented by an authenticated client with a verifier (RFC 6749 §4.1.3, RFC 7636 §4.6).
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

    /// Decides about a refresh token of generation `presented`, used by an authenticated client (RFC 6749 §6).
    ///
    /// With *g* presented, *n* outstanding and *p* proven:
    ///
    /// - *g* = *n* is the next refresh in order.
    /// - *p* ≤ *g* < *n* is a retry: an answer was lost or overtaken. Until a successor is used, that must not cost the
    ///   guest the grant.
    /// - *g* < *p* is a replay: a successor has been used, so two parties hold the credential (RFC 9700 §4.14.2).
    /// - *g* > *n* shows that the row has gone back in time.
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

    /// Returns the customer that the guest has become, as far as this grant repeats it.
    #[must_use]
    pub fn customer(&self) -> Option<&CustomerId> {
        self.copied.as_ref()?.customer.as_ref()
    }

    /// Returns those of the guest's attributes that a client is told, as far as this grant repeats them.
    #[must_use]
    pub fn attributes_told(&self, claims: &[ClaimName]) -> Option<Attributes> {
        if claims.is_empty() {
            return None;
        }
        self.copied.as_ref()?.attributes.as_ref()?.told(claims)
    }

    /// Returns whether the grant repeats less of its guest than `profile` says: a copy is missing or late.
    #[must_use]
    pub fn lacks_copy_of(&self, profile: &Profile) -> bool {
        let version = self.copied.as_ref().map_or(0, |copied| copied.version);
        version < profile.version
    }

    /// Decides whether its client may revoke the grant by presenting this credential (RFC 7009 §2.1): yes for a refresh
    /// token that isn't spent, no for the code, which isn't a token. The time has no say: a clock may be wrong, and the
    /// revocation of what has expired does no harm.
    #[must_use]
    pub fn may_be_ended_with(&self, presented: Generation) -> bool {
        self.revoked.is_none() && presented > Generation::CODE && presented >= self.proven
    }

    /// Returns `true` if a refresh token of that generation could be used (RFC 7662 §2.2).
    #[must_use]
    pub fn is_active_for(&self, presented: Generation, now: Timestamp) -> bool {
        let end = if presented > self.generation {
            // As for a refresh: what a row that went back in time says of expiry is about an older credential.
            self.ends_at
        } else {
            self.expires_at.min(self.ends_at)
        };
        self.may_be_ended_with(presented) && now < end
    }

    /// Returns `true` if the outstanding credential can be used: the grant isn't revoked, and neither it nor the
    /// credential has expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.ended_at() && self.revoked.is_none()
    }

    /// Starts one more grant of the same guest, for that client, with its code outstanding. It ends when this one would, or
    /// earlier by the client's policy.
    #[must_use]
    pub fn one_more(
        &self,
        client: ClientNumber,
        random: [u8; 8],
        challenge: Challenge,
        policy: &Policy,
        now: Timestamp,
    ) -> Self {
        let id = GrantId::new(self.id.profile, random);
        let issued = Self::issue(id, client, self.network_id, challenge, policy, now);
        Self {
            expires_at: issued.expires_at.min(self.ends_at),
            ends_at: issued.ends_at.min(self.ends_at),
            ..issued
        }
    }

    /// Returns whether its code is outstanding: nobody has redeemed it yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.generation == Generation::CODE
    }

    /// Returns the time from which no credential of the grant works: the earlier of its revocation and its expiry.
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

/// The number of wrong verifiers with which a code dies.
pub const MAX_STRIKES: u8 = 5;

/// The most grants of one client that one guest may have live at once (only `resume_with_jwt` and tickets make a second).
pub const MAX_LIVE: usize = 8;

/// Returns those of a guest's live grants of a client that are beyond [`MAX_LIVE`], and have to end: first those whose code nobody
/// has redeemed, the oldest first and the newest never, then the one advanced longest ago. A page that asks for codes and doesn't
/// redeem them must not end one grant after the other that is used.
///
/// Their choice follows from the grants and the clock alone, and one more grant spares none of them. So of calls at the
/// same time, each after it has added a grant, all end the same ones, and the one that reads last, which sees all grants, leaves
/// just as many as may live. The newest is none of a clock that is ahead: else the grant that a caller has just added wouldn't be it.
#[must_use]
pub fn surplus(mut grants: Vec<Grant>, client: ClientNumber, now: Timestamp) -> Vec<Grant> {
    grants.retain(|grant| grant.client == client && grant.is_live(now));
    let age = |grant: &Grant| (grant.advanced_at, grant.id);
    let may_be_newest = |grant: &&Grant| grant.is_pending() && grant.advanced_at <= now;
    let newest = grants.iter().filter(may_be_newest).map(age).max();
    grants.sort_by_key(|grant| {
        let age = age(grant);
        (Some(age) == newest, !grant.is_pending(), age)
    });
    grants.truncate(grants.len().saturating_sub(MAX_LIVE));
    grants
}

/// The retention period of ended grants; the cleaner removes them after it.
pub const KEEP_ENDED: Duration = Duration::from_secs(7 * 86_400);

/// Identifies a grant by its guest and eight random bytes. Its base64url text is the `sid` claim.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GrantId {
    /// The guest to whom the grant belongs.
    pub profile: ProfileId,
    /// Tells the grants of one guest apart, and makes the id impossible to guess.
    pub random: [u8; 8],
}

impl GrantId {
    /// Makes an id from a guest and random bytes.
    #[must_use]
    pub const fn new(profile: ProfileId, random: [u8; 8]) -> Self {
        Self { profile, random }
    }

    /// Decodes the output of [`GrantId::to_bytes`]. `None` for a profile id that isn't positive.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let (profile, random) = bytes.split_at(8);
        let profile = ProfileId::from_i64(i64::from_be_bytes(profile.try_into().ok()?))?;
        Some(Self {
            profile,
            random: random.try_into().ok()?,
        })
    }

    /// Encodes the profile id, most significant byte first, and then the random bytes.
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

/// Numbers the credentials of a grant in the order in which they are issued, beginning with the code.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Generation(u64);

impl Generation {
    /// The generation of the code, below that of every refresh token.
    pub const CODE: Self = Self(0);

    /// Makes a generation from its number in the store or in a credential.
    #[must_use]
    pub const fn from_u64(generation: u64) -> Self {
        Self(generation)
    }

    /// Returns the number that the store and credentials hold.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Returns the generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Records that a grant was ended before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// The time of the revocation.
    pub at: Timestamp,
    /// The rule by which the grant was ended.
    pub reason: RevocationReason,
}

/// Names the rule by which a grant was ended before its time.
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
    /// The guest had more than [`MAX_LIVE`] grants of the client, and this one had to go first: its code was not redeemed, or it
    /// was advanced longest ago.
    Superseded,
    /// The stored name is unknown here: a newer version of this program wrote it.
    Unrecognized,
}

impl RevocationReason {
    /// Returns the stable name, as it stands in the store, the journal and logs.
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

    /// Returns all reasons.
    pub fn all() -> impl Iterator<Item = Self> {
        iter::successors(Some(Self::CodeReplayed), |reason| reason.next())
    }

    /// Finds a reason by its stable name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::all()
            .find(|reason| reason.name() == name)
            .unwrap_or(Self::Unrecognized)
    }

    /// Steps through all reasons, in the order of their declaration. A new one doesn't compile without its place here,
    /// so that [`RevocationReason::from_name`] can't miss it.
    const fn next(self) -> Option<Self> {
        match self {
            Self::CodeReplayed => Some(Self::Contested),
            Self::Contested => Some(Self::RefreshTokenReplayed),
            Self::RefreshTokenReplayed => Some(Self::RetriedLate),
            Self::RetriedLate => Some(Self::RevokedByClient),
            Self::RevokedByClient => Some(Self::Superseded),
            Self::Superseded => Some(Self::Unrecognized),
            Self::Unrecognized => None,
        }
    }
}
