//! Clients as this node knows them, followed from the store; and what operators do to them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use guestpass_core::client::{ApiKey, ApiKeySecret, Client, ClientId, ClientNumber};
use guestpass_core::policy::{Choice, LateRetry, Policy, PolicyError};
use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::keys::Lifetimes;
use crate::random::Random;
use crate::store::{Change, ChangeError, ClientSettings, Registry, Unavailable};

/// All clients, as of some revision.
pub struct Clients {
    store: Arc<dyn Registry>,
    defaults: Arc<Policy>,
    known: RwLock<Arc<Known>>,
    /// One at a time, lest an older list be put over a newer one.
    refreshing: Mutex<()>,
}

struct Known {
    revision: i64,
    by_id: HashMap<String, Arc<Client>>,
    by_number: HashMap<ClientNumber, Arc<Client>>,
    origins: HashSet<String>,
    /// What holds for each client.
    policies: HashMap<ClientNumber, Arc<Policy>>,
    /// The clients whose choices don't go with the server's defaults.
    unsound: HashSet<ClientId>,
}

impl Clients {
    /// Reads all clients. `defaults` hold where a client hasn't chosen.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn load(store: Arc<dyn Registry>, defaults: Policy) -> Result<Self, Unavailable> {
        let known = read(&*store, &defaults, &HashSet::new()).await?;
        Ok(Self {
            store,
            defaults: Arc::new(defaults),
            known: RwLock::new(Arc::new(known)),
            refreshing: Mutex::new(()),
        })
    }

    /// The client with that `client_id`.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<Client>> {
        self.known().by_id.get(id).map(Arc::clone)
    }

    /// The client with that number.
    #[must_use]
    pub fn by_number(&self, number: ClientNumber) -> Option<Arc<Client>> {
        self.known().by_number.get(&number).map(Arc::clone)
    }

    /// What holds where a client hasn't chosen.
    #[must_use]
    pub fn defaults(&self) -> &Policy {
        &self.defaults
    }

    /// What holds for that client: its choices over the defaults.
    #[must_use]
    pub fn policy_of(&self, client: &Client) -> Arc<Policy> {
        let known = self.known();
        let policy = known.policies.get(&client.number);
        // A client that was removed while it was answered.
        Arc::clone(policy.unwrap_or(&self.defaults))
    }

    /// The longest that what is issued now may live, whichever client it is for.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            access_token: self.longest(|policy| policy.access_ttl),
            grant: self.longest(|policy| policy.refresh_max),
        }
    }

    /// Whether any client has registered that web origin.
    #[must_use]
    pub fn any_has_origin(&self, origin: &str) -> bool {
        self.known().origins.contains(origin)
    }

    /// Reads all clients again if anything has changed since.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer; what is known stays.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        let _one_at_a_time = self.refreshing.lock().await;
        if self.store.revision().await? != self.known().revision {
            let read = read(&*self.store, &self.defaults, &self.known().unsound).await?;
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
        }
        Ok(())
    }

    fn longest(&self, of: impl Fn(&Policy) -> Duration) -> Duration {
        let known = self.known();
        let of_clients = known.policies.values().map(|policy| of(policy)).max();
        of_clients.unwrap_or_default().max(of(&self.defaults))
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How often a node looks for changes; they are followed within a second.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Reads all clients and resolves their policies. Of the clients in `warned` the operator has been told.
async fn read(
    store: &dyn Registry,
    defaults: &Policy,
    warned: &HashSet<ClientId>,
) -> Result<Known, Unavailable> {
    let (revision, clients) = store.clients().await?;
    let mut policies = HashMap::new();
    let mut unsound = HashSet::new();
    for client in &clients {
        let mut policy = defaults.with(&client.overrides);
        if let Err(problem) = policy.check() {
            if !warned.contains(&client.id) {
                warn_of_unsound(&client.id, problem);
            }
            policy = made_sound(policy, problem, defaults);
            unsound.insert(client.id.clone());
        }
        policies.insert(client.number, Arc::new(policy));
    }
    let origins = clients
        .iter()
        .flat_map(|client| &client.origins)
        .map(|origin| origin.as_str().to_owned())
        .collect();
    let clients: Vec<_> = clients.into_iter().map(Arc::new).collect();
    let by_number = clients
        .iter()
        .map(|client| (client.number, Arc::clone(client)))
        .collect();
    let by_id = clients
        .into_iter()
        .map(|client| (client.id.as_str().to_owned(), client))
        .collect();
    Ok(Known {
        revision,
        by_id,
        by_number,
        origins,
        policies,
        unsound,
    })
}

/// What is served until the operator has chosen again: the stricter reading.
fn made_sound(policy: Policy, problem: PolicyError, defaults: &Policy) -> Policy {
    match problem {
        PolicyError::ReissueWithoutGrace => Policy {
            late_retry: LateRetry::Revoke,
            ..policy
        },
        // Nothing that this program writes.
        PolicyError::LifetimeOutOfRange(..)
        | PolicyError::LifetimeNotWholeMilliseconds(_)
        | PolicyError::AccessTtlNotWholeSeconds
        | PolicyError::MaxUnprovenOutOfRange => defaults.clone(),
    }
}

fn warn_of_unsound(id: &ClientId, problem: PolicyError) {
    let meanwhile = match problem {
        PolicyError::ReissueWithoutGrace => "late_retry = revoke holds",
        _ => "the defaults hold",
    };
    tracing::warn!(
        client.id = %id,
        "the choices of {id} and the defaults don't go together, so for now {meanwhile}: {problem}. Type: \
         guestpass client set {id} {}",
        mended_by(problem)
    );
}

/// The flag of `guestpass client` that makes a client's policy sound again.
#[must_use]
pub fn mended_by(problem: PolicyError) -> String {
    let choice = match problem {
        PolicyError::ReissueWithoutGrace => {
            return "--late-retry revoke (or --grace 30s)".to_owned();
        }
        PolicyError::LifetimeOutOfRange(choice, ..)
        | PolicyError::LifetimeNotWholeMilliseconds(choice) => choice,
        PolicyError::AccessTtlNotWholeSeconds => Choice::AccessTtl,
        PolicyError::MaxUnprovenOutOfRange => Choice::MaxUnproven,
    };
    format!("--{} default", choice.name().replace('_', "-"))
}

/// Adds a client. A confidential one gets its first API key, whose secret is answered.
///
/// # Errors
/// [`ChangeError::ClientExists`], or the store can't answer.
pub async fn add_client(
    store: &dyn Registry,
    id: ClientId,
    settings: ClientSettings,
    random: &dyn Random,
    now: Timestamp,
) -> Result<Option<ApiKeySecret>, ChangeError> {
    let (secret, api_key) = match settings.confidential {
        Some(true) => {
            let (secret, key) = new_api_key(random, now, None);
            (Some(secret), Some(key))
        }
        _ => (None, None),
    };
    store
        .change(Change::AddClient {
            id,
            settings,
            api_key,
            now,
        })
        .await?;
    Ok(secret)
}

/// Gives a confidential client one more API key, and answers its secret.
///
/// # Errors
/// [`ChangeError::ClientUnknown`], [`ChangeError::ClientPublic`], or the store can't answer.
pub async fn add_api_key(
    store: &dyn Registry,
    id: ClientId,
    expires_at: Option<Timestamp>,
    random: &dyn Random,
    now: Timestamp,
) -> Result<ApiKeySecret, ChangeError> {
    let (secret, key) = new_api_key(random, now, expires_at);
    store.change(Change::AddApiKey(id, key)).await?;
    Ok(secret)
}

/// Makes an API key: the secret to be shown once, and what is stored of it.
#[must_use]
pub fn new_api_key(
    random: &dyn Random,
    now: Timestamp,
    expires_at: Option<Timestamp>,
) -> (ApiKeySecret, ApiKey) {
    let secret = ApiKeySecret::new(&random.bytes());
    let key = ApiKey {
        id: secret.id(),
        hash: secret.hash(),
        created_at: now,
        expires_at,
        revoked_at: None,
    };
    (secret, key)
}
