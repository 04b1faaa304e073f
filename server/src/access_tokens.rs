//! Verification of access tokens: the signature and the claims, and what has ended since.
//!
//! A token is live while it hasn't expired, and neither it, its grant nor its guest has been ended; whether the grant
//! can still be refreshed is another question. [`App::verify`] costs no read. What it returns is then checked either by
//! [`App::check_recent`], which asks this node's Bloom filter first, or by [`App::check_rows`], which always reads the
//! rows. Both ask the same, so that all endpoints agree.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::claims::Typ;
use guestpass_core::client::{ApiKey, Client};
use guestpass_core::grant::{Grant, GrantId};
use guestpass_core::policy::Audience;
use guestpass_core::refusal::Refusal;
use guestpass_verify::{AccessToken, Rejection, Verifier};

use crate::app::App;
use crate::clients::Clients;
use crate::error::Error;
use crate::keys::Keys;
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

/// An access token whose signature and claims are good, in the hands of its guest: of a client that may be disabled or
/// removed.
pub struct GuestToken {
    /// The client that it was issued to, unless that was removed.
    pub client: Option<Arc<Client>>,
    /// The grant that it was issued from.
    pub grant: GrantId,
    /// Its `jti`.
    pub id: RevokedId,
    /// The name of its client.
    client_id: String,
}

impl App {
    /// Verifies signature and claims. It reads nothing from the store, so a revoked token passes.
    ///
    /// # Errors
    /// The first thing that is wrong with the token; [`Unavailable`] if that may be the clock.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, Error> {
        let takes_jwt = |claims: &AccessToken| takes_jwt(&self.clients, claims);
        let token = self.of_known_client(self.verify_signed(token, takes_jwt)?)?;
        self.check_audience(&token.claims, &token.client)?;
        if token.client.disabled {
            return Err(Refusal::AccessTokenOfNoClient.into());
        }
        Ok(token)
    }

    /// Verifies as [`App::verify`] does, but for the time, the audience, the issuer, and whether the client is disabled: what
    /// may be good again, or elsewhere, is worth a revocation. A token that one of our keys has signed is ours, whatever the
    /// issuer was called then, or is called on a node that is set otherwise.
    ///
    /// # Errors
    /// As there.
    pub fn verify_for_revocation(&self, token: &str) -> Result<VerifiedToken, Error> {
        let keys = self.keys.now();
        let at_any_time = |verifier: &Verifier| {
            let verify = |verifier: &Verifier| verifier.verify_at_any_time(token, keys.verifying());
            of_either_typ(token, verifier, verify, |_| true)
        };
        let mut verified = at_any_time(&self.verifier);
        if let (Err(Rejection::IssuerWrong), Some(issuer)) = (&verified, claimed_issuer(token)) {
            let verifier = self.verification.verifier(&issuer);
            verified = at_any_time(&verifier);
        }
        self.of_known_client(verified.map_err(refusal)?)
    }

    /// Verifies a token with which a guest asks about itself. It is good for that whatever has become of its client: to
    /// read what is stored and to erase it is the guest's right.
    ///
    /// # Errors
    /// As [`App::verify`].
    pub fn verify_for_guest(&self, token: &str) -> Result<GuestToken, Error> {
        let claims = self.verify_signed(token, |_| true)?;
        let (grant, id) = ids(&claims).ok_or(Refusal::AccessTokenMalformed)?;
        let client = self.clients.by_id(&claims.client_id);
        // Of a removed client nobody knows any more which audience was its own.
        if let Some(client) = &client {
            self.check_audience(&claims, client)?;
        }
        Ok(GuestToken {
            client,
            grant,
            id,
            client_id: claims.client_id,
        })
    }

    fn check_audience(&self, claims: &AccessToken, client: &Client) -> Result<(), Refusal> {
        if is_for_issuer(claims, self.issuer.as_str(), client) {
            Ok(())
        } else {
            Err(Refusal::AccessTokenOfAnotherAudience)
        }
    }

    /// Lists the audiences of a token that the client would be issued now.
    pub(crate) fn audiences_of(&self, client: &Client) -> Vec<String> {
        let policy = self.clients.policy_of(client);
        let own = policy
            .audience
            .as_ref()
            .map(|audience| audience.as_str().to_owned());
        let is_sole = client.sole_audience().is_some();
        let issuer = (!is_sole).then(|| self.issuer.as_str().to_owned());
        own.into_iter().chain(issuer).collect()
    }

    /// A token that has expired by the clock, but perhaps not in truth, is neither good nor refused.
    fn verify_signed(
        &self,
        token: &str,
        takes_jwt: impl Fn(&AccessToken) -> bool,
    ) -> Result<AccessToken, Error> {
        let keys = self.keys.now();
        let expired = |verified: &Result<_, _>| matches!(verified, Err(Rejection::Expired));
        let verified = self.clock.reading().decide(
            |now| {
                let verify = |verifier: &Verifier| {
                    verifier.verify(token, keys.verifying(), now.as_seconds())
                };
                of_either_typ(token, &self.verifier, verify, &takes_jwt)
            },
            |now, earlier| expired(now) == expired(earlier),
        )?;
        let issuer = self.issuer.as_str();
        Ok(verified.map_err(|rejection| refusal_of(token, rejection, &keys, issuer))?)
    }

    fn of_known_client(&self, claims: AccessToken) -> Result<VerifiedToken, Error> {
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
        for (list, id, refusal) in self.revocations_of(token.grant, token.id) {
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

    /// Checks by the rows that neither the token nor its grant or guest has been revoked. Returns the grant, or `None` if
    /// a restore has lost its row.
    ///
    /// # Errors
    /// A refusal, or the store can't answer.
    pub async fn check_rows(&self, token: &VerifiedToken) -> Result<Option<Grant>, Error> {
        let grant = self.check_rows_of(token.grant, token.id).await?;
        // The client's id was that of another client before, with which the grant has ended.
        if let Some(grant) = &grant
            && grant.client != token.client.number
        {
            return Err(Refusal::AccessTokenGrantEnded.into());
        }
        Ok(grant)
    }

    /// Verifies a token that a confidential client shows, and checks by the rows that it is live. The client must be its audience.
    ///
    /// # Errors
    /// A refusal, or [`Unavailable`] if the store can't answer.
    pub async fn check_for(&self, client: &Client, token: &str) -> Result<VerifiedToken, Error> {
        let token = self.verify(token)?;
        // A client of its own audience is a resource server by that name; the others stand for the issuer.
        let audience = client
            .overrides
            .audience
            .as_ref()
            .map_or(self.issuer.as_str(), Audience::as_str);
        if !token.claims.audience.iter().any(|aud| aud == audience) {
            return Err(Refusal::AccessTokenLacksAudience.into());
        }
        self.check_rows(&token).await?;
        Ok(token)
    }

    /// Checks the same of a token in the hands of its guest.
    ///
    /// # Errors
    /// As [`App::check_rows`].
    pub async fn check_rows_for_guest(&self, token: &GuestToken) -> Result<(), Error> {
        let grant = self.check_rows_of(token.grant, token.id).await?;
        let owner = grant.and_then(|grant| self.clients.by_number(grant.client));
        if owner.is_some_and(|owner| owner.id.as_str() != token.client_id) {
            return Err(Refusal::AccessTokenOfNoClient.into());
        }
        Ok(())
    }

    async fn check_rows_of(&self, grant: GrantId, id: RevokedId) -> Result<Option<Grant>, Error> {
        let row = self.grants.load(grant).await?;
        let [of_grant, of_token, of_guest] = self.revocations_of(grant, id);
        let has_ended = match &row {
            Some(grant) => grant.revoked.is_some(),
            // A restore has lost the row. What is known of its revocation is what the journal says.
            None => {
                let (list, id, _) = of_grant;
                self.revocations.is_revoked(list, id).await?
            }
        };
        if has_ended {
            return Err(of_grant.2.into());
        }
        let others = [of_token, of_guest];
        let entries = others.map(|(list, id, _)| (list, id));
        match self.revoked.first_revoked(entries).await? {
            Some(at) => Err(others[at].2.into()),
            None => Ok(row),
        }
    }

    /// Returns the entries that would each revoke a token, with the refusal for it.
    fn revocations_of(
        &self,
        grant: GrantId,
        id: RevokedId,
    ) -> [(RevokedList, RevokedId, Refusal); 3] {
        let tombstone = self.keys.now().tombstone(grant.profile);
        [
            (
                RevokedList::Grants,
                grant.to_bytes(),
                Refusal::AccessTokenGrantEnded,
            ),
            (RevokedList::AccessTokens, id, Refusal::AccessTokenRevoked),
            (
                RevokedList::Guests,
                tombstone,
                Refusal::AccessTokenGrantEnded,
            ),
        ]
    }
}

/// Decides whether a token is meant for the issuer's own endpoints: its audience is the issuer, or that of its client. If
/// the client is restricted to its audience, so is any other, for it may have had another name when the token was signed.
pub fn is_for_issuer(claims: &AccessToken, issuer: &str, client: &Client) -> bool {
    if client.sole_audience().is_some() {
        return true;
    }
    let own = client.overrides.audience.as_ref();
    let mut audience = claims.audience.iter();
    audience.any(|aud| aud == issuer || own.is_some_and(|own| aud == own.as_str()))
}

/// Returns the issuer that a token names, unverified.
pub(crate) fn claimed_issuer(token: &str) -> Option<String> {
    claimed(token, 1, "iss")
}

/// Verifies a token; of one of type `JWT`, `takes_jwt` decides whether it is taken as well. Our keys sign nothing else that could be
/// taken for one.
///
/// # Errors
/// As `verify`.
pub fn of_either_typ(
    token: &str,
    verifier: &Verifier,
    verify: impl Fn(&Verifier) -> Result<AccessToken, Rejection>,
    takes_jwt: impl Fn(&AccessToken) -> bool,
) -> Result<AccessToken, Rejection> {
    match verify(verifier) {
        Err(Rejection::TypeWrong) if is_jwt(token) => {
            let claims = verify(&verifier.clone().accept_untyped())?;
            let is_good = takes_jwt(&claims);
            is_good.then_some(claims).ok_or(Rejection::TypeWrong)
        }
        verified => verified,
    }
}

/// Tells whether tokens of type `JWT` are taken of the client that claims name: if it has chosen a `typ`, whichever, so that there is
/// a way back while its older tokens are out.
#[must_use]
pub fn takes_jwt(clients: &Clients, claims: &AccessToken) -> bool {
    let client = clients.by_id(&claims.client_id);
    client.is_some_and(|client| client.typ.is_some())
}

/// Returns whether a token says that it is of type `JWT`, unverified.
fn is_jwt(token: &str) -> bool {
    claimed(token, 0, "typ").is_some_and(|typ| typ == Typ::Jwt.as_str())
}

/// Returns what a segment of a token says under a name.
fn claimed(token: &str, segment: usize, name: &str) -> Option<String> {
    let json = URL_SAFE_NO_PAD.decode(token.split('.').nth(segment)?);
    let members: serde_json::Value = serde_json::from_slice(&json.ok()?).ok()?;
    Some(members.get(name)?.as_str()?.to_owned())
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

/// Says why a text is refused as an access token, with what the text itself tells: perhaps it is something else, or from
/// elsewhere. What isn't verified is for the operator alone, since the client is told the same in any case.
#[must_use]
pub fn refusal_of(text: &str, rejection: Rejection, keys: &Keys, issuer: &str) -> Refusal {
    match rejection {
        Rejection::Malformed if keys.open(text).is_some() => Refusal::CredentialAsAccessToken,
        Rejection::Malformed if ApiKey::is_like(text) => Refusal::ApiKeyAsAccessToken,
        Rejection::KeyUnknown if claimed_issuer(text).is_some_and(|claimed| claimed != issuer) => {
            Refusal::AccessTokenOfAnotherIssuer
        }
        other => refusal(other),
    }
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
