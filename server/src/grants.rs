//! The loop around the pure core: load the grant, let it decide, write once.

use std::sync::Arc;

use guestpass_core::authorize::AuthorizeRequest;
use guestpass_core::claims::Claims;
use guestpass_core::client::{ClaimName, Client, OnEnded};
use guestpass_core::credential::{self, Credential, CredentialKind};
use guestpass_core::grant::{Decision, Generation, Grant, GrantId, Revocation};
use guestpass_core::policy::{Audience, Policy};
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;
use guestpass_core::token_request::{AUTHORIZATION_CODE, REFRESH_TOKEN, TokenRequest};

use crate::app::App;
use crate::clock::Reading;
use crate::error::Error;
use crate::metrics::Granted;
use crate::request_context;
use crate::source::Source;
use crate::store::{Outcome, Proof, Redeemed, Redemption, Unavailable, Write};
use crate::succession;

/// The successful answer to a token request (RFC 6749 §5.1).
pub struct Tokens {
    /// A JWS: nothing in it needs escaping.
    pub access_token: String,
    /// Base64url.
    pub refresh_token: String,
    /// Seconds, equal to `exp - iat` of the access token.
    pub expires_in: i64,
    /// The guest.
    pub profile: ProfileId,
    /// The guest's `subn`.
    pub network_id: NetworkId,
    /// The time of the answer.
    pub issued_at: Timestamp,
    /// The time from which on the refresh token is no good, if it isn't used before.
    pub refresh_ends_at: Timestamp,
    /// Names what became of the grant: `advance`, `repeat`, `reissue` or `recover`.
    pub decision: &'static str,
}

/// A redemption that isn't granted.
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    /// The grant that ends for it.
    ends: Option<(GrantId, Revocation)>,
}

impl App {
    /// Creates a guest with its first grant, and returns the grant's code.
    pub async fn authorize(
        &self,
        client: &Client,
        request: &AuthorizeRequest<'_>,
    ) -> Result<String, Error> {
        let policy = self.clients.policy_of(client);
        for _ in 0..ATTEMPTS {
            let reading = self.clock.reading();
            let now = reading.now;
            let profile = Profile::new(
                ProfileId::new(now, self.random.bytes()),
                NetworkId::new(self.random.bytes()),
                client.number,
                now,
            );
            let id = GrantId::new(profile.id, self.random.bytes());
            let grant = Grant::issue(
                id,
                client.number,
                profile.network_id,
                request.challenge,
                &policy,
                now,
            )
            .ending_from(reading.earliest, &policy)
            .ok_or_else(Reading::doubt)?;
            let code = self.keys.now().seal(Credential {
                grant: id,
                generation: grant.generation,
            });
            if self
                .grants
                .write(Write::InsertGuest(profile, grant))
                .await?
                == Outcome::Done
            {
                request_context::grant(id);
                return Ok(code);
            }
        }
        Err(Unavailable("every profile id that was drawn is taken".into()).into())
    }

    /// Exchanges a code or a refresh token for new tokens. Both take the same path and differ in the decision.
    ///
    /// For a client that has chosen a new guest in place of one that is over, `source` is whose limit it counts for.
    pub async fn redeem(
        &self,
        client: &Client,
        request: &TokenRequest<'_>,
        source: Option<Source>,
    ) -> Result<Tokens, Error> {
        let (text, kind) = match request {
            TokenRequest::AuthorizationCode { code, .. } => (code, CredentialKind::Code),
            TokenRequest::RefreshToken { refresh_token } => {
                (refresh_token, CredentialKind::RefreshToken)
            }
        };
        let presented = self
            .keys
            .open(text)
            .await?
            .ok_or_else(|| credential::refusal_of_unopened(text))?;
        if presented.kind() != kind {
            let refusal = match presented.kind() {
                CredentialKind::Code => Refusal::CodeAsRefreshToken,
                CredentialKind::RefreshToken => Refusal::RefreshTokenAsCode,
            };
            return Err(refusal.into());
        }
        request_context::grant(presented.grant);
        self.decide(client, request, presented, source)
            .await
            .map_err(|error| error.about(presented.grant))
    }

    async fn decide(
        &self,
        client: &Client,
        request: &TokenRequest<'_>,
        presented: Credential,
        source: Option<Source>,
    ) -> Result<Tokens, Error> {
        let policy = self.clients.policy_of(client);
        let proof = match request {
            TokenRequest::AuthorizationCode { verifier, .. } => Proof::Code(*verifier),
            TokenRequest::RefreshToken { .. } => Proof::RefreshToken(presented.generation),
        };
        // Drawn before the write: an answer that can't be made must not advance the grant.
        let token_id = self.random.bytes();
        let redemption = self.redemption(client, &policy, presented.grant, proof);
        let redeemed = self.grants.redeem(redemption).await?;
        if client.on_ended == OnEnded::NewGuest
            && let Some(refusal) = succession::refusal_if_over(proof, redeemed.as_ref())
        {
            // Boxed, because it is rare.
            let answer = self.succeed(client, &policy, presented, refusal, source, token_id);
            return Box::pin(answer).await;
        }
        let redeemed = redeemed.ok_or(Refusal::GrantGone)?;
        match self.granted(client, &policy, proof, redeemed, token_id) {
            Ok(tokens) => Ok(tokens),
            Err(denied) => Err(self.deny(client, denied).await?),
        }
    }

    /// Returns the grant of a client's refresh token that would still get an answer. It changes nothing.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer, or the answer depends on a clock in doubt.
    pub(crate) async fn grant_of(
        &self,
        client: &Client,
        refresh_token: Credential,
    ) -> Result<Option<Grant>, Unavailable> {
        let Some(grant) = self.grants.load(refresh_token.grant).await? else {
            return Ok(None);
        };
        let reading = self.clock.reading();
        let is_active = |now| grant.is_active_for(refresh_token.generation, now);
        let works = grant.client == client.number && reading.decide(is_active, bool::eq)?;
        Ok(works.then_some(grant))
    }

    pub(crate) fn redemption(
        &self,
        client: &Client,
        policy: &Arc<Policy>,
        grant: GrantId,
        proof: Proof,
    ) -> Redemption {
        Redemption {
            grant,
            proof,
            client: client.number,
            policy: Arc::clone(policy),
            clock: self.clock.clone(),
        }
    }

    /// Makes the tokens of a redemption, if it was decided so.
    pub(crate) fn granted(
        &self,
        client: &Client,
        policy: &Policy,
        proof: Proof,
        Redeemed { read, decision, at }: Redeemed,
        token_id: [u8; 16],
    ) -> Result<Tokens, Denied> {
        let denied = |refusal, ends| Err(Denied { refusal, ends });
        let (name, grant) = match decision {
            Decision::Advance(next) => match proof {
                Proof::RefreshToken(presented) if presented > read.generation => {
                    warn_of_rewind(&read, presented);
                    ("recover", next)
                }
                Proof::Code(_) | Proof::RefreshToken(_) => ("advance", next),
            },
            Decision::Reissue(next) => ("reissue", next),
            Decision::Repeat => ("repeat", read),
            Decision::Revoke(refusal, reason) => {
                return denied(refusal, Some((read.id, Revocation { at, reason })));
            }
            Decision::Strike(refusal) | Decision::Refuse(refusal) => return denied(refusal, None),
        };
        self.note_granted(proof, name);
        let tokens = self.mint(client, policy, &grant, token_id, at);
        Ok(Tokens {
            decision: name,
            ..tokens
        })
    }

    /// Ends the grant of a redemption that was denied, if that was decided, and returns the refusal.
    pub(crate) async fn deny(&self, client: &Client, denied: Denied) -> Result<Error, Unavailable> {
        if let Some((grant, revocation)) = denied.ends {
            // Boxed, because it is rare: the future of every refresh would have room for it, and be moved with it.
            Box::pin(self.end_grant(client, grant, revocation)).await?;
        }
        Ok(denied.refusal.into())
    }

    /// Counts a granted request, and names its decision in the log.
    pub(crate) fn note_granted(&self, proof: Proof, decision: &'static str) {
        let grant_type = match proof {
            Proof::Code(_) => AUTHORIZATION_CODE,
            Proof::RefreshToken(_) => REFRESH_TOKEN,
        };
        self.metrics.tokens.inc(&Granted {
            grant_type,
            decision,
        });
        request_context::decision(decision);
    }

    /// Seals the outstanding credential of a grant and signs an access token for it.
    pub(crate) fn mint(
        &self,
        client: &Client,
        policy: &Policy,
        grant: &Grant,
        token_id: [u8; 16],
        now: Timestamp,
    ) -> Tokens {
        // A token that outlived its grant would be good without anyone who could end it.
        let expires_at = (now + policy.access_ttl).min(grant.ends_at);
        let attributes = grant.attributes_told(&client.claims);
        let claims = Claims {
            issuer: self.issuer.as_str(),
            audience: policy.audience.as_ref().map(Audience::as_str),
            audience_restricted: client.sole_audience().is_some(),
            client_id: client.id.as_str(),
            profile: grant.id.profile,
            network_id: grant.network_id,
            grant: grant.id,
            token_id,
            issued_at: now,
            expires_at,
            attributes: attributes.as_ref(),
            customer: grant
                .customer()
                .filter(|_| client.is_told(ClaimName::CUSTOMER)),
        };
        let keys = self.keys.now();
        Tokens {
            access_token: keys.sign(client.typ.unwrap_or_default(), &claims),
            refresh_token: keys.seal(Credential {
                grant: grant.id,
                generation: grant.generation,
            }),
            expires_in: expires_at.as_seconds() - now.as_seconds(),
            profile: grant.id.profile,
            network_id: grant.network_id,
            issued_at: now,
            refresh_ends_at: grant.expires_at,
            decision: "create",
        }
    }
}

/// The attempts to draw a profile id that isn't taken. Two guests of one millisecond share an id once in two million
/// times.
const ATTEMPTS: usize = 4;

fn warn_of_rewind(row: &Grant, presented: Generation) {
    tracing::error!(
        request.id = request_context::request(),
        grant.id = %row.id,
        stored = row.generation.as_u64(),
        presented = presented.as_u64(),
        "a credential is newer than its row: the database went back in time"
    );
}
