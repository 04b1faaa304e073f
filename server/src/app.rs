//! What a request needs, put together once.

use std::sync::Arc;

use guestpass_verify::Verifier;

use crate::clock::Clock;
use crate::config::{Issuer, Verification};
use crate::journal::Journal;
use crate::keys::{KeyRing, KeysError};
use crate::metrics::Metrics;
use crate::random::Random;
use crate::registry::Clients;
use crate::revocation::{Now, Recent};
use crate::store::{Grants, Revoked, Unavailable, Upkeep};

/// Everything that the endpoints share.
pub struct App {
    /// Guests and their grants.
    pub grants: Arc<dyn Grants>,
    /// What ended before its time, by the rows.
    pub revoked: Arc<dyn Revoked>,
    /// The same, as far as this node remembers.
    pub recent: Recent,
    /// Everything that is known of a guest.
    pub upkeep: Arc<dyn Upkeep>,
    /// Where erasures and revocations are repeated.
    pub journal: Journal,
    /// Who may call, and what holds for them.
    pub clients: Clients,
    /// What tokens are signed and credentials are sealed with.
    pub keys: Arc<KeyRing>,
    /// What is asked of an access token.
    pub verifier: Verifier,
    /// How `/oauth/verify` trusts.
    pub verification: Verification,
    /// The `iss` of every access token.
    pub issuer: Issuer,
    /// Where `/oauth/…` is served; `""` is the root.
    pub base_paths: Vec<String>,
    /// What this node is called in the ids of refused requests.
    pub node: String,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl App {
    /// Sees what operators and other nodes have changed, and does what is due in the life of the keys. Each part goes on
    /// without the others; what can't be read stays as it was.
    pub async fn follow(&self) {
        if let Err(error) = self.clients.refresh().await {
            tracing::warn!(error = %error, "the clients can't be read; what is known of them stays");
        }
        if let Err(error) = self.follow_keys().await {
            tracing::error!(error = %error, "the keys can't be read or changed; what is known of them stays");
        }
        if let Err(error) = self.follow_revocations().await {
            tracing::warn!(error = %error, "revocations can't be read; what is known of them grows old");
        }
    }

    async fn follow_keys(&self) -> Result<(), KeysError> {
        self.keys.refresh().await?;
        self.keys
            .tend(self.clients.lifetimes(), self.clock.now())
            .await
    }

    async fn follow_revocations(&self) -> Result<(), Unavailable> {
        let now = Now::of(&*self.clock);
        self.recent
            .poll(now, self.keys.now().longest_access_ttl())
            .await
    }
}
