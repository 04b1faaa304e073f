//! Whether an access token is worth anything here: what it says, and what has happened since it was issued.

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
    /// What it says.
    pub claims: AccessToken,
    /// The client that it was issued to.
    pub client: Arc<Client>,
    /// The grant that it was issued from.
    pub grant: GrantId,
    /// Its `jti`.
    pub id: RevokedId,
}

impl App {
    /// Reads a token without asking what has been revoked since. Costs no read.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, Refusal> {
        let token = self.verify_of_any(token)?;
        if token.client.disabled {
            return Err(Refusal::AccessTokenOfNoClient);
        }
        Ok(token)
    }

    /// As [`App::verify`], also for a client that is disabled: its tokens are good again when it is enabled.
    ///
    /// # Errors
    /// As [`App::verify`].
    pub fn verify_of_any(&self, token: &str) -> Result<VerifiedToken, Refusal> {
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

    /// Whether a token has ended before its time, as far as this node knows: from memory, with a row for a "perhaps". What
    /// this node remembers counts however old it is: nothing that ended comes back.
    ///
    /// # Errors
    /// A refusal, or [`Unavailable`] if what this node knows is too old and the operator doesn't settle for less.
    pub async fn check_recent(&self, token: &VerifiedToken) -> Result<(), Error> {
        self.check_staleness()?;
        for (list, id, refusal) in self.ends(token) {
            if self.revocations.holds(list, id).await? {
                return Err(refusal.into());
            }
        }
        Ok(())
    }

    /// Whether this node has looked lately for what has ended elsewhere, if that matters to the operator.
    ///
    /// # Errors
    /// [`Unavailable`] if it hasn't.
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

    /// Whether a token has ended before its time, by the rows themselves; answers its grant.
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
        for (list, id, refusal) in self.ends(token) {
            if list != RevokedList::Grants && self.revoked.is_revoked(list, id).await? {
                return Err(refusal.into());
            }
        }
        Ok(grant)
    }

    /// What could have ended it.
    fn ends(&self, token: &VerifiedToken) -> [(RevokedList, RevokedId, Refusal); 3] {
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

/// The grant of a token and its `jti`, as this server writes them. `None` if another made the token up.
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

/// What a rejection is called here.
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
