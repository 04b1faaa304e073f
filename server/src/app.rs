//! What a request needs, put together once.

use std::sync::Arc;
use std::time::Instant;

use guestpass_verify::Verifier;

use crate::clients::Clients;
use crate::clock::{Clock, Now};
use crate::config::{Issuer, Verification};
use crate::journal::Journal;
use crate::keys::{KeyRing, KeysError};
use crate::metrics::Metrics;
use crate::random::Random;
use crate::revocation_filter::RevocationFilter;
use crate::store::{Grants, Revoked, Unavailable, Upkeep};

/// Everything that the endpoints share.
pub struct App {
    /// Guests and their grants.
    pub(crate) grants: Arc<dyn Grants>,
    /// What ended before its time, by the rows.
    pub(crate) revoked: Arc<dyn Revoked>,
    /// The same, as far as this node remembers.
    pub(crate) revocations: RevocationFilter,
    /// Everything that is known of a guest.
    pub(crate) upkeep: Arc<dyn Upkeep>,
    /// Where erasures and revocations are repeated.
    pub(crate) journal: Journal,
    /// Who may call, and what holds for them.
    pub(crate) clients: Clients,
    /// What tokens are signed and credentials are sealed with.
    pub(crate) keys: Arc<KeyRing>,
    /// What is asked of an access token.
    pub(crate) verifier: Verifier,
    /// How `/oauth/verify` trusts.
    pub(crate) verification: Verification,
    /// The `iss` of every access token.
    pub(crate) issuer: Issuer,
    /// Where `/oauth/…` is served; `""` is the root.
    pub(crate) base_paths: Vec<String>,
    /// What this node is called in the ids of refused requests.
    pub(crate) node: String,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) random: Arc<dyn Random>,
}

impl App {
    /// The clients, as this node knows them.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The keys, as this node knows them.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Sees what operators and other nodes have changed, and does what is due in the life of the keys. Each part goes on
    /// without the others; what can't be read stays as it was.
    pub async fn follow(&self) {
        let asked_at = Instant::now();
        match self.clients.revision().await {
            Ok(revision) => {
                if let Err(error) = self.clients.follow(revision).await {
                    tracing::warn!(error = %error, "the clients can't be read; what is known of them stays");
                }
                if let Err(error) = self.follow_keys(revision, asked_at).await {
                    tracing::error!(error = %error, "the keys can't be read or changed; what is known of them stays");
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "clients and keys can't be read; what is known of them stays");
            }
        }
        if let Err(error) = self.follow_revocations().await {
            tracing::warn!(error = %error, "revocations can't be read; what is known of them grows old");
        }
    }

    async fn follow_keys(&self, revision: i64, asked_at: Instant) -> Result<(), KeysError> {
        self.keys.follow(revision, asked_at).await?;
        self.keys
            .tend(self.clients.lifetimes(), self.clock.now())
            .await
    }

    async fn follow_revocations(&self) -> Result<(), Unavailable> {
        let now = Now::of(&*self.clock);
        self.revocations
            .poll(now, self.keys.now().longest_access_ttl())
            .await
    }
}
