//! What a request needs, put together once.

use std::sync::Arc;

use guestpass_core::policy::Policy;

use crate::clock::Clock;
use crate::config::Issuer;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::registry::Clients;
use crate::store::Grants;

/// Everything that the endpoints share.
pub struct App {
    /// Guests and their grants.
    pub grants: Arc<dyn Grants>,
    /// Who may call.
    pub clients: Clients,
    /// What tokens are signed and credentials are sealed with.
    pub keys: Arc<Keys>,
    /// Lifetimes and choices.
    pub policy: Policy,
    /// The `iss` of every access token.
    pub issuer: Issuer,
    /// What stands before the issuer in `aud`.
    pub audience: Option<String>,
    /// Where `/oauth/…` is served; `""` is the root.
    pub base_paths: Vec<String>,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}
