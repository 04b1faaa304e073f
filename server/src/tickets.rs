//! Tickets: a client hands its guest over to another one, which it may by `ticket_to`.
//!
//! A ticket is a pending grant of the same guest for the other client, and the verifier of its code. It is minted by a refresh
//! token, not by an access token, which must not become a refresh token by itself; nothing is rotated for it. So a refresh
//! token that was stolen can become a ticket without a trace in its own grant, and each is a line in the log.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::client::Client;
use guestpass_core::credential::{self, CredentialKind};
use guestpass_core::grant::Grant;
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::refusal::Refusal;
use guestpass_core::ticket::Ticket;

use crate::app::App;
use crate::error::Error;
use crate::request_context;

/// A ticket that was minted.
pub struct Minted {
    /// Its text.
    pub ticket: String,
    /// The time for which it can be redeemed.
    pub expires_in: Duration,
}

impl App {
    /// Mints a ticket for the guest of a refresh token.
    ///
    /// # Errors
    /// [`Refusal::TicketTargetDisallowed`], or the refusal of the refresh token.
    pub async fn mint_ticket(
        &self,
        client: &Client,
        target: &str,
        refresh_token: &str,
    ) -> Result<Minted, Error> {
        let allows = |target: &Client| client.ticket_to.contains(&target.id) && !target.disabled;
        // Asked again, though the command does: a restore may have brought back what it has refused since.
        let hides = |target: &Client| client.cookies.is_none() || target.confidential;
        let target = self
            .clients
            .by_id(target)
            .filter(|target| allows(target) && hides(target))
            .ok_or(Refusal::TicketTargetDisallowed)?;
        let grant = self.grant_to_hand_over(client, refresh_token).await?;
        let text = URL_SAFE_NO_PAD.encode(self.random.bytes::<32>());
        let verifier = Verifier::parse(&text)
            .ok_or_else(|| Error::Internal("a verifier is too short".to_owned()))?;
        let challenge = Challenge::of(verifier);
        let added = self.add_grant(&grant, &target, challenge).await?;
        let (id, code) = added.ok_or(Refusal::GrantGone)?;
        request_context::grant(grant.id);
        tracing::info!(
            target: "guestpass::security",
            { request.id = request_context::request(), grant.id = %id, from = %grant.id, client.id = %client.id, target.id = %target.id },
            "ticket minted"
        );
        self.metrics.count_ticket("minted");
        let left = grant.ends_at.since(self.clock.now());
        Ok(Minted {
            ticket: Ticket::text(&code, &text),
            expires_in: self.clients.policy_of(&target).code_ttl.min(left),
        })
    }

    async fn grant_to_hand_over(
        &self,
        client: &Client,
        refresh_token: &str,
    ) -> Result<Grant, Error> {
        let opened = self.keys.open(refresh_token).await?;
        let opened = opened.ok_or_else(|| credential::refusal_of_unopened(refresh_token))?;
        if opened.kind() == CredentialKind::Code {
            return Err(Refusal::CodeAsRefreshToken.into());
        }
        request_context::grant(opened.grant);
        let grant = self.grant_of(client, opened).await?;
        grant.ok_or_else(|| Error::from(Refusal::RefreshTokenDead).about(opened.grant))
    }
}
