//! Revocation of grants and access tokens, and erasure of guests.
//!
//! Each is appended to the journal, then written to the store, then inserted into the revocation filter, and only then
//! answered (`App::end`). What is answered with 503 instead is carried out as soon as it can be ([`App::tend_storage`]).

use std::sync::Arc;

use guestpass_core::client::Client;
use guestpass_core::grant::{Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::profile::ProfileId;
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;

use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::endings::Ending;
use crate::error::Error;
use crate::metrics::Revoked as RevokedLabel;
use crate::request_context;
use crate::store::{Outcome, RevokedAccessToken, RevokedList, Tombstone, Unavailable, Write};
use crate::timing::REQUEST_DEADLINE;

impl App {
    /// Revokes a grant, and logs it: as a warning unless the client asked for it, or the guest has newer ones, because a token may
    /// have been stolen.
    ///
    /// # Errors
    /// [`Unavailable`] if the journal or the store can't be written; the grant is revoked as soon as they can.
    pub async fn end_grant(
        &self,
        client: &Client,
        grant: GrantId,
        revocation: Revocation,
    ) -> Result<(), Unavailable> {
        let outcome = self.end(Ending::Grant(grant, revocation)).await?;
        // Only the request whose write changed the row counts it.
        if outcome == Outcome::Done {
            let reason = revocation.reason.name();
            self.metrics.revocations.inc(&RevokedLabel { reason });
            let is_ordinary = matches!(
                revocation.reason,
                RevocationReason::RevokedByClient | RevocationReason::Superseded
            );
            if is_ordinary {
                tracing::info!(
                    target: "guestpass::security",
                    { request.id = request_context::request(), grant.id = %grant, client.id = %client.id, reason },
                    "grant revoked"
                );
            } else {
                tracing::warn!(
                    target: "guestpass::security",
                    { request.id = request_context::request(), grant.id = %grant, client.id = %client.id, reason },
                    "grant revoked"
                );
            }
        }
        Ok(())
    }

    /// Revokes one access token and nothing else.
    ///
    /// # Errors
    /// As [`App::end_grant`].
    pub async fn end_access_token(
        &self,
        client: &Client,
        token: RevokedAccessToken,
    ) -> Result<(), Unavailable> {
        self.end(Ending::AccessToken(token)).await?;
        tracing::info!(
            target: "guestpass::security",
            { request.id = request_context::request(), client.id = %client.id },
            "access token revoked"
        );
        Ok(())
    }

    /// Revokes a token (RFC 7009 §2.1). `client` is the authenticated caller. Without one, the token must be a public
    /// client's, which has nothing but its tokens to prove itself with.
    ///
    /// A refresh token revokes its grant. An access token revokes the grant of a confidential client, and only itself
    /// for a public one: many parties see it, and one from a log must not suffice to log a guest out.
    ///
    /// The times in a token are ignored: the clock may be wrong, and what has expired by a wrong one is good again by
    /// the right one.
    ///
    /// # Errors
    /// A refusal if the token works and is another client's. An invalid token is no error (RFC 7009 §2.2).
    pub async fn revoke(&self, client: Option<&Client>, token: &str) -> Result<(), Error> {
        let now = self.clock.now();
        let reason = RevocationReason::RevokedByClient;
        let revocation = Revocation { at: now, reason };
        if let Some(credential) = self.keys.open(token).await? {
            let Some(grant) = self.grants.load(credential.grant).await? else {
                return Ok(());
            };
            // The client was removed, and its grants ended with it.
            let Some(owner) = self.clients.by_number(grant.client) else {
                return Ok(());
            };
            if !grant.may_be_ended_with(credential.generation) {
                return Ok(());
            }
            permitted(client, &owner, Refusal::GrantOfAnotherClient)?;
            request_context::grant(grant.id);
            return Ok(self.end_grant(&owner, grant.id, revocation).await?);
        }
        let Ok(token) = self.verify_for_revocation(token) else {
            return Ok(());
        };
        let owner = Arc::clone(&token.client);
        permitted(client, &owner, Refusal::AccessTokenOfAnotherClient)?;
        let grant = self.grants.load(token.grant).await?;
        if self.is_revoked_already(&token, grant.as_ref()).await? {
            return Ok(());
        }
        request_context::grant(token.grant);
        // After a restore the grant may have no row to be revoked in; the token itself is then revoked.
        let is_alone = !owner.confidential && !self.ends_too_many(&owner, token.grant);
        if is_alone || grant.is_none() {
            let token = RevokedAccessToken {
                id: token.id,
                at: now,
                expires_at: Timestamp::from_millis(token.claims.expires_at.saturating_mul(1000)),
            };
            return Ok(self.end_access_token(&owner, token).await?);
        }
        Ok(self.end_grant(&owner, token.grant, revocation).await?)
    }

    /// Returns whether that token, or its grant, is revoked already: to do it again would only lengthen the journal.
    async fn is_revoked_already(
        &self,
        token: &VerifiedToken,
        grant: Option<&Grant>,
    ) -> Result<bool, Unavailable> {
        if grant.is_some_and(|grant| grant.revoked.is_some()) {
            return Ok(true);
        }
        let list = RevokedList::AccessTokens;
        self.revoked.is_revoked(list, token.id).await
    }

    /// Erases a guest: now, and once more after `REQUEST_DEADLINE`, because an import that was under way may have put the
    /// guest back before it could know of this. Nobody can get a token for such a guest.
    ///
    /// # Errors
    /// As [`App::end_grant`].
    pub async fn erase(self: &Arc<Self>, profile: ProfileId) -> Result<(), Unavailable> {
        let hash = self.keys.now().tombstone(profile);
        let at = self.clock.now();
        self.end(Ending::Guest(profile, Tombstone { hash, at }))
            .await?;
        tracing::info!(
            target: "guestpass::security",
            { request.id = request_context::request() },
            "guest erased"
        );
        self.erase_again_later(profile, hash);
        Ok(())
    }

    /// Starts the second pass of an erasure.
    pub(crate) fn erase_again_later(self: &Arc<Self>, profile: ProfileId, hash: [u8; 16]) {
        let app = Arc::clone(self);
        self.leaving.spawn(async move {
            // At the end of the server at once. What it misses then, the cleaner removes.
            let _ = tokio::time::timeout(REQUEST_DEADLINE, app.leaving.drained()).await;
            let at = app.clock.now();
            // The first pass has said so already.
            let again = Write::EraseGuest(profile, Tombstone { hash, at }, None);
            if let Err(error) = app.grants.write(again).await {
                tracing::warn!(error = %error, "the second look at an erased guest failed");
            }
        });
    }
}

/// Checks that the caller may revoke a token of that owner.
fn permitted(client: Option<&Client>, owner: &Client, of_another: Refusal) -> Result<(), Refusal> {
    match client {
        Some(client) if client.number == owner.number => Ok(()),
        Some(_) => Err(of_another),
        None if owner.confidential => Err(Refusal::ApiKeyMissing),
        None => Ok(()),
    }
}
