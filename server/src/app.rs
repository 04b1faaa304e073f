//! The shared state of all requests.

use std::sync::Arc;
use std::time::Instant;

use guestpass_verify::Verifier;

use crate::clients::Clients;
use crate::clock::{Now, SteadyClock};
use crate::config::{Issuer, TrustedProxies, Verification};
use crate::endings::RetryQueue;
use crate::events::EventRecorder;
use crate::journal::Journal;
use crate::keys::{KeyRing, KeysError};
use crate::leaving::Leaving;
use crate::marks::Marks;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::rate_limits::RateLimits;
use crate::readiness::Readiness;
use crate::revocation_filter::RevocationFilter;
use crate::store::{Events, Grants, Revoked, Upkeep};
use crate::timekeeper::Timekeeper;

/// Holds everything that the endpoints share.
///
/// There is one per process, made by [`start`](crate::start::start), the only place that builds it. Its methods are the
/// operations of the server and stand in the module of their subject: `authorize` and `redeem` in `grants.rs`, `verify`
/// in `access_tokens.rs`, `end_grant` and `erase` in `revocation.rs`. A handler parses its request, calls one of them
/// and renders the answer. [`App::follow`] and [`App::tend_storage`] must be called every half second, or the node serves
/// with clients, keys and revocations that grow stale, and notices late what becomes of its files.
pub struct App {
    /// Guests and their grants.
    pub(crate) grants: Arc<dyn Grants>,
    /// The revocation lists, read row by row.
    pub(crate) revoked: Arc<dyn Revoked>,
    /// The same in memory: a Bloom filter.
    pub(crate) revocations: RevocationFilter,
    /// Draws the stamps of events.
    pub(crate) recorder: EventRecorder,
    /// Lists the events that are recorded.
    pub(crate) events: Arc<dyn Events>,
    /// Queries that look beyond one grant.
    pub(crate) upkeep: Arc<dyn Upkeep>,
    /// The log of erasures and revocations outside the database.
    pub(crate) journal: Journal,
    /// Serves the marks of the journal.
    pub(crate) marks: Marks,
    /// The clients and their policies.
    pub(crate) clients: Clients,
    /// The keys that sign tokens and seal credentials.
    pub(crate) keys: Arc<KeyRing>,
    /// Verifies access tokens of this issuer.
    pub(crate) verifier: Verifier,
    /// The settings of `/oauth/verify`.
    pub(crate) verification: Verification,
    /// The `iss` of every access token.
    pub(crate) issuer: Issuer,
    /// The prefixes under which `/oauth/…` is served; `""` is the root.
    pub(crate) base_paths: Vec<String>,
    /// The health checks are answered on the public listener as well.
    pub(crate) public_health: bool,
    /// The end of the server, as far as it has come.
    pub(crate) leaving: Leaving,
    /// The last readiness check.
    pub(crate) readiness: Readiness,
    /// Revocations and erasures that were answered with 503 and wait to be carried out.
    pub(crate) retries: RetryQueue,
    /// The name of this node, in the ids of refused requests and in the cleaner's lease.
    pub(crate) node: String,
    /// The token buckets of addresses, clients and grants.
    pub(crate) rate_limits: RateLimits,
    /// The proxies that are believed when they say for whom they ask.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Counters and histograms for `/metrics`.
    pub(crate) metrics: Metrics,
    /// The time.
    pub(crate) clock: Arc<SteadyClock>,
    /// Keeps the time in the store.
    pub(crate) timekeeper: Timekeeper,
    /// Randomness.
    pub(crate) random: Arc<dyn Random>,
}

impl App {
    /// Returns the clients, as this node knows them.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Returns the keys, as this node knows them.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Polls the store for what operators and other nodes have changed, and takes the steps that are due in the life of
    /// the keys. Clients, keys and revocations are read beside each other, so that none waits for a slow one; they fail
    /// independently, and what can't be read stays as it was.
    pub async fn follow(&self) {
        if let Err(error) = self.timekeeper.follow().await {
            tracing::warn!(error = %error, "the time can't be kept in the store");
        }
        self.metrics.note_clock(self.clock.is_doubted());
        tokio::join!(self.follow_registry(), self.follow_revocations());
    }

    async fn follow_registry(&self) {
        let asked_at = Instant::now();
        let revision = match self.clients.revision().await {
            Ok(revision) => revision,
            Err(error) => {
                tracing::error!(error = %error, "clients and keys can't be read; what is known of them stays");
                return;
            }
        };
        let (clients, keys) = tokio::join!(
            self.clients.follow(revision),
            self.keys.follow(revision, asked_at)
        );
        if let Err(error) = clients {
            tracing::warn!(error = %error, "the clients can't be read; what is known of them stays");
        }
        // After the clients, for the keys promise to live as long as what they sign.
        if let Err(error) = self.tend_keys(keys).await {
            tracing::error!(error = %error, "the keys can't be read or changed; what is known of them stays");
        }
    }

    /// Keeps the time in the store once more, at the end, so that the next start goes on from there.
    pub async fn note_time(&self) {
        if let Err(error) = self.timekeeper.note().await {
            tracing::warn!(error = %error, "the time can't be kept in the store");
        }
    }

    async fn tend_keys(&self, followed: Result<(), KeysError>) -> Result<(), KeysError> {
        followed?;
        // By a wrong clock keys would be changed that can't be changed back.
        if self.clock.is_doubted() {
            return Ok(());
        }
        self.keys
            .tend(self.clients.lifetimes(), self.clock.now())
            .await
    }

    async fn follow_revocations(&self) {
        let now = Now::of(&*self.clock);
        let lifetime = self.keys.now().longest_access_ttl();
        if let Err(error) = self.revocations.poll(now, lifetime).await {
            tracing::warn!(error = %error, "revocations can't be read; what is known of them grows old");
        }
    }
}
