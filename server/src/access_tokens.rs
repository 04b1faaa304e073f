//! Verification of access tokens: the signature and the claims, and what has been revoked since.
//!
//! [`App::verify`] costs no read. What it returns is then checked either by [`App::check_recent`], which asks this
//! node's Bloom filter first, or by [`App::check_rows`], which always reads the rows.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::client::Client;
use guestpass_core::grant::{Grant, GrantId};
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;
use guestpass_verify::{AccessToken, Rejection};

use crate::app::App;
use crate::error::Error;
use crate::store::{RevokedId, RevokedList, Unavailable};

/// An access token whose signature and claims are good, and whose client is known.
pub struct VerifiedToken {
    /// The claims.
    pub claims: AccessToken,
    /// The client that it was issued to.
    pub client: Arc<Client>,
    /// The grant that it was issued from.
    pub grant: GrantId,
    /// Its `jti`.
    pub id: RevokedId,
}

impl App {
    /// Verifies signature and claims. It reads nothing from the store, so a revoked token passes.
    ///
    /// # Errors
    /// The first thing that is wrong with the token.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        let token = self.verify_even_if_disabled(token)?;
        if token.client.disabled {
            return Err(Refusal::AccessTokenOfNoClient);
        }
        Ok(token)
    }

    /// Verifies as [`App::verify`] does, but accepts the tokens of a disabled client, which are good again when it is
    /// enabled.
    ///
    /// # Errors
    /// As [`App::verify`].
    pub fn verify_even_if_disabled(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        let now = self.clock.now();
        let keys = self.keys.now();
        let claims = self
            .verifier
            .verify(token, keys.verifying(), now.as_seconds())
            .map_err(refusal)?;
        let client = self
            .clients
            .by_id(&claims.client_id)
            .ok_or(Refusal::AccessTokenOfNoClient)?;
        let (grant, id) = ids(&claims).ok_or(Refusal::AccessTokenMalformed)?;
        Ok(VerifiedToken {
            claims,
            client,
            grant,
            id,
        })
    }

    /// Verifies as [`App::verify_even_if_disabled`] does, but for the time.
    ///
    /// # Errors
    /// As there.
    pub fn verify_at_any_time(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        let keys = self.keys.now();
        let claims = self
            .verifier
            .verify_at_any_time(token, keys.verifying())
            .map_err(refusal)?;
        let client = self
            .clients
            .by_id(&claims.client_id)
            .ok_or(Refusal::AccessTokenOfNoClient)?;
        let (grant, id) = ids(&claims).ok_or(Refusal::AccessTokenMalformed)?;
        Ok(VerifiedToken {
            claims,
            client,
            grant,
            id,
        })
    }

    /// Checks that neither the token nor its grant or guest has been revoked, by the Bloom filter of this node, and by
    /// a row if the filter says "perhaps". A hit counts however stale the filter is, since nothing that was revoked
    /// comes back.
    ///
    /// # Errors
    /// A refusal; or [`Unavailable`] if the filter is stale and `verify.when_stale` is `refuse`.
    pub async fn check_recent(&self, token: &VerifiedToken) -> Result<(), Error> {
        self.check_staleness()?;
        for (list, id, refusal) in self.revocations_of(token) {
            if self.revocations.is_revoked(list, id).await? {
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    /// Checks that the filter has been refreshed from the store within `verify.max_staleness`.
    ///
    /// # Errors
    /// [`Unavailable`] if it hasn't, unless `verify.when_stale` is `signature-only`.
    pub fn check_staleness(&self) -> Result<(), Unavailable> {
        let is_stale =
            self.revocations.age(self.clock.monotonic()) > self.verification.max_staleness;
        if is_stale && !self.verification.signature_only_when_stale {
            return Err(Unavailable(
                "what is known of revocations is too old".into(),
            ));
        }
        Ok(())
    }

    /// Checks by the rows that neither the token nor its grant or guest has been revoked, and returns the grant.
    ///
    /// # Errors
    /// A refusal, or the store can't answer.
    pub async fn check_rows(&self, token: &VerifiedToken, now: Timestamp) -> Result<Grant, Error> {
        let grant = self
            .grants
            .load(token.grant)
            .await?
            .filter(|grant| grant.client == token.client.number && grant.is_live(now))
            .ok_or(Refusal::AccessTokenGrantEnded)?;
        for (list, id, refusal) in self.revocations_of(token) {
            if list != RevokedList::Grants && self.revoked.is_revoked(list, id).await? {
                return Err(refusal.into());
            }
        }
        Ok(grant)
    }

    /// Returns the entries that would each revoke the token, with the refusal for it.
    fn revocations_of(&self, token: &VerifiedToken) -> [(RevokedList, RevokedId, Refusal); 3] {
        let tombstone = self.keys.now().tombstone(token.grant.profile);
        [
            (
                RevokedList::Grants,
                token.grant.to_bytes(),
                Refusal::AccessTokenGrantEnded,
            ),
            (
                RevokedList::AccessTokens,
                token.id,
                Refusal::AccessTokenRevoked,
            ),
            (
                RevokedList::Guests,
                tombstone,
                Refusal::AccessTokenGrantEnded,
            ),
        ]
    }
}

/// Decodes the `sid` and `jti` of a token. `None` if they aren't as this server writes them.
pub fn ids(claims: &AccessToken) -> Option<(GrantId, RevokedId)> {
    let grant = GrantId::from_bytes(bytes(claims.grant_id.as_deref()?)?)?;
    let id = bytes(&claims.token_id)?;
    (grant.profile.to_string() == claims.subject).then_some((grant, id))
}

fn bytes(text: &str) -> Option<RevokedId> {
    let mut bytes = [0; 16];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == bytes.len()).then_some(bytes)
}

/// Maps a rejection of the verifier to a refusal.
#[must_use]
pub const fn refusal(rejection: Rejection) -> Refusal {
    match rejection {
        Rejection::TokensDisagree => Refusal::AccessTokensDisagree,
        Rejection::TooLong
        | Rejection::Malformed
        | Rejection::HeaderMalformed
        | Rejection::ClaimsMalformed
        | Rejection::ClaimMissing(_) => Refusal::AccessTokenMalformed,
        Rejection::HeaderUnsupported
        | Rejection::AlgorithmUnsupported
        | Rejection::AlgorithmMismatch
        | Rejection::TypeWrong => Refusal::AccessTokenUnsupported,
        Rejection::KeyUnknown => Refusal::AccessTokenKeyUnknown,
        Rejection::SignatureWrong => Refusal::AccessTokenForged,
        Rejection::IssuerWrong => Refusal::AccessTokenOfAnotherIssuer,
        Rejection::AudienceWrong => Refusal::AccessTokenOfAnotherAudience,
        Rejection::Expired => Refusal::AccessTokenExpired,
        Rejection::NotYetValid => Refusal::AccessTokenNotYetValid,
    }
}
