//! Ending things before their time: a grant, an access token, a guest.
//!
//! Each goes into the journal, then into the store, then into what this node remembers; only then is it answered.

use std::collections::HashMap;
use std::sync::Arc;

use guestpass_core::client::Client;
use guestpass_core::grant::{Grant, GrantId, Revocation, RevocationReason};
use guestpass_core::profile::ProfileId;
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;

use crate::access_tokens::Trusted;
use crate::app::App;
use crate::error::Error;
use crate::journal::{Entry, Journal};
use crate::keys::Keys;
use crate::listen::REQUEST_DEADLINE;
use crate::metrics::Revoked as RevokedLabel;
use crate::notes;
use crate::random::Random;
use crate::store::{
    Grants, Outcome, RevokedAccessToken, RevokedList, Store, Tombstone, Unavailable, Write,
};

mod recent;

pub use recent::{Now, Recent};

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
        self.recent.insert(RevokedList::Grants, grant.to_bytes());
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
                    { request.id = notes::request(), grant.id = %grant, client.id = %client.id, reason },
                    "grant revoked"
                );
            } else {
                tracing::warn!(
                    target: "guestpass::security",
                    { request.id = notes::request(), grant.id = %grant, client.id = %client.id, reason },
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
        self.recent.insert(RevokedList::AccessTokens, token.id);
        tracing::info!(
            target: "guestpass::security",
            { request.id = notes::request(), client.id = %client.id },
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
            notes::grant(grant.id);
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
        notes::grant(token.grant);
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
        token: &Trusted,
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
        self.recent.insert(RevokedList::Guests, hash);
        tracing::info!(
            target: "guestpass::security",
            { request.id = notes::request() },
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

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Replayed {
    /// Grants that were alive again.
    pub grants: u64,
    /// Access tokens whose revocation was missing.
    pub access_tokens: u64,
    /// Guests who were there again.
    pub guests: u64,
}

/// Whether the store has gone back in time: it lacks the last mark of the journal, or something that follows it
/// ([`Journal::since_last_mark`]).
///
/// # Errors
/// [`Unavailable`] if the store can't answer.
pub async fn is_behind(
    store: &dyn Store,
    journal: &[Entry],
    now: Timestamp,
) -> Result<bool, Unavailable> {
    for entry in journal {
        let is_known = match entry {
            Entry::Mark(mark) => store.has_mark(*mark).await?,
            // One that isn't there any more was never there in a store that went back.
            Entry::GrantRevoked(grant, _) => {
                let id = grant.to_bytes();
                store.is_revoked(RevokedList::Grants, id).await?
            }
            // Forgotten, rather than missing.
            Entry::AccessTokenRevoked(token) if token.expires_at <= now => true,
            Entry::AccessTokenRevoked(token) => {
                let list = RevokedList::AccessTokens;
                store.is_revoked(list, token.id).await?
            }
            Entry::GuestErased(tombstone) => {
                let list = RevokedList::Guests;
                store.is_revoked(list, tombstone.hash).await?
            }
        };
        if !is_known {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Marks a node's journal and the store, which agree now.
///
/// # Errors
/// [`Unavailable`] if either can't be written.
pub async fn mark(
    (store, journal): (&dyn Grants, &Journal),
    node: &str,
    random: &dyn Random,
    now: Timestamp,
) -> Result<(), Unavailable> {
    let mark = random.bytes();
    journal.append(Entry::Mark(mark)).await?;
    let write = Write::InsertMark(node.to_owned(), mark, now);
    store.write(write).await.map(drop)
}

/// Carries out again what the journal says and the store doesn't. `progress` hears how many guests were looked at.
///
/// If it is cut off, the store is still behind: a tombstone is there only when its guest is gone.
///
/// # Errors
/// [`Unavailable`] if the store can't answer. It can be done again from the beginning.
pub async fn replay(
    store: &dyn Store,
    journal: &[Entry],
    keys: &Keys,
    progress: impl Fn(u64),
) -> Result<Replayed, Unavailable> {
    let mut done = Replayed::default();
    let mut erased = HashMap::new();
    for entry in journal {
        match entry {
            Entry::GrantRevoked(grant, revocation) => {
                let write = Write::RevokeGrant(*grant, *revocation);
                if store.write(write).await? == Outcome::Done {
                    done.grants += 1;
                }
            }
            Entry::AccessTokenRevoked(token) => {
                if !store
                    .is_revoked(RevokedList::AccessTokens, token.id)
                    .await?
                {
                    store.write(Write::RevokeAccessToken(*token)).await?;
                    done.access_tokens += 1;
                }
            }
            Entry::Mark(_) => {}
            Entry::GuestErased(tombstone) => {
                erased.insert(tombstone.hash, *tombstone);
            }
        }
    }
    let (mut after, mut seen) = (None, 0);
    while !erased.is_empty() {
        let part = store.profiles(after, PART).await?;
        for profile in &part {
            if let Some(tombstone) = erased.get(&keys.tombstone(profile.id)) {
                let write = Write::EraseGuest(profile.id, *tombstone);
                store.write(write).await?;
                done.guests += 1;
            }
        }
        seen += part.len() as u64;
        progress(seen);
        match part.last() {
            Some(last) if part.len() == PART => after = Some(last.id),
            _ => break,
        }
    }
    for tombstone in erased.into_values() {
        store.write(Write::InsertTombstone(tombstone)).await?;
    }
    Ok(done)
}

/// How many guests are looked at between two signs of life.
const PART: usize = 1000;
