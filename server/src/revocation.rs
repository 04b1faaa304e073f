//! Ending things before their time: a grant, an access token, a guest.
//!
//! Each goes into the journal, then into the store, then into what this node remembers; only then is it answered.

use std::sync::Arc;

use guestpass_core::client::Client;
use guestpass_core::grant::{Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::profile::ProfileId;
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;

use crate::access_tokens::VerifiedToken;
use crate::app::App;
use crate::error::Error;
use crate::journal::Entry;
use crate::metrics::Revoked as RevokedLabel;
use crate::request_context;
use crate::store::{Outcome, RevokedAccessToken, RevokedList, Tombstone, Unavailable, Write};
use crate::timing::REQUEST_DEADLINE;

impl App {
    /// Ends a grant, and tells the operator. Unless the client asked for it, that is a warning: someone may hold what isn't
    /// theirs.
    ///
    /// # Errors
    /// [`Unavailable`] if the journal or the store can't answer; the grant may or may not have ended.
    pub async fn end_grant(
        &self,
        client: &Client,
        grant: GrantId,
        revocation: Revocation,
    ) -> Result<(), Unavailable> {
        let entry = Entry::GrantRevoked(grant, revocation);
        self.journal.append(entry).await?;
        let outcome = self
            .grants
            .write(Write::RevokeGrant(grant, revocation))
            .await?;
        self.revocations
            .insert(RevokedList::Grants, grant.to_bytes());
        // Whoever was faster has counted it.
        if outcome == Outcome::Done {
            let reason = revocation.reason.name();
            self.metrics
                .revocations
                .get_or_create(&RevokedLabel { reason })
                .inc();
            if revocation.reason == RevocationReason::RevokedByClient {
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

    /// Ends one access token and nothing else.
    ///
    /// # Errors
    /// As [`App::end_grant`].
    pub async fn end_access_token(
        &self,
        client: &Client,
        token: RevokedAccessToken,
    ) -> Result<(), Unavailable> {
        self.journal
            .append(Entry::AccessTokenRevoked(token))
            .await?;
        self.grants.write(Write::RevokeAccessToken(token)).await?;
        self.revocations.insert(RevokedList::AccessTokens, token.id);
        tracing::info!(
            target: "guestpass::security",
            { request.id = request_context::request(), client.id = %client.id },
            "access token revoked"
        );
        Ok(())
    }

    /// Ends what a token stands for, as RFC 7009 §2.1 says. `client` is who asks, authenticated; without one, the token
    /// must be a public client's, whose tokens prove as much as the client could.
    ///
    /// A refresh token ends its grant. An access token ends the grant for a confidential client and only itself for a
    /// public one: many see it, and a logged one must not log a guest out.
    ///
    /// # Errors
    /// A token that works, of another client. One that doesn't work is no error: it is what was asked for.
    pub async fn revoke(&self, client: Option<&Client>, token: &str) -> Result<(), Error> {
        let now = self.clock.now();
        let reason = RevocationReason::RevokedByClient;
        let revocation = Revocation { at: now, reason };
        if let Some(credential) = self.keys.open(token).await? {
            let Some(grant) = self.grants.load(credential.grant).await? else {
                return Ok(());
            };
            // The grants of a client that is gone are, too.
            let Some(owner) = self.clients.by_number(grant.client) else {
                return Ok(());
            };
            if !grant.may_be_ended_with(credential.generation, now) {
                return Ok(());
            }
            permitted(client, &owner, Refusal::GrantOfAnotherClient)?;
            request_context::grant(grant.id);
            return Ok(self.end_grant(&owner, grant.id, revocation).await?);
        }
        let Ok(token) = self.verify_of_any(token) else {
            return Ok(());
        };
        let owner = Arc::clone(&token.client);
        permitted(client, &owner, Refusal::AccessTokenOfAnotherClient)?;
        let grant = self.grants.load(token.grant).await?;
        if self.has_been_ended(&token, grant.as_ref()).await? {
            return Ok(());
        }
        request_context::grant(token.grant);
        // Of a grant that is gone, as after a restore, there is no row to remember that it ended.
        if !owner.confidential || grant.is_none() {
            let token = RevokedAccessToken {
                id: token.id,
                at: now,
                expires_at: Timestamp::from_millis(token.claims.expires_at.saturating_mul(1000)),
            };
            return Ok(self.end_access_token(&owner, token).await?);
        }
        Ok(self.end_grant(&owner, token.grant, revocation).await?)
    }

    /// Whether someone has ended that token, or its grant: to end it again would only make the journal longer.
    async fn has_been_ended(
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

    /// Erases a guest: once now, and once more when no request can be under way that began before, for one of those may
    /// have given the guest another grant.
    ///
    /// # Errors
    /// As [`App::end_grant`].
    pub async fn erase(self: &Arc<Self>, profile: ProfileId) -> Result<(), Unavailable> {
        let hash = self.keys.now().tombstone(profile);
        let tombstone = move |at| Tombstone { hash, at };
        let first = tombstone(self.clock.now());
        self.journal.append(Entry::GuestErased(first)).await?;
        self.grants.write(Write::EraseGuest(profile, first)).await?;
        self.revocations.insert(RevokedList::Guests, hash);
        tracing::info!(
            target: "guestpass::security",
            { request.id = request_context::request() },
            "guest erased"
        );
        let app = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(REQUEST_DEADLINE).await;
            let again = Write::EraseGuest(profile, tombstone(app.clock.now()));
            // What is left is a grant without its guest, and the cleaner removes those.
            if let Err(error) = app.grants.write(again).await {
                tracing::warn!(error = %error, "the second look at an erased guest failed");
            }
        });
        Ok(())
    }
}

/// Whether whoever asks may end a token of that owner.
fn permitted(client: Option<&Client>, owner: &Client, of_another: Refusal) -> Result<(), Refusal> {
    match client {
        Some(client) if client.number == owner.number => Ok(()),
        Some(_) => Err(of_another),
        None if owner.confidential => Err(Refusal::ApiKeyMissing),
        None => Ok(()),
    }
}
