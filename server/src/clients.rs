//! Clients as this node knows them: a snapshot in memory, which [`App::follow`](crate::app::App::follow) brings up to date.
//!
//! Every node polls the store's revision each `timing::FOLLOW_EVERY`, and reads all clients again when it has moved: so a client that
//! an operator disables on one node (`guestpass client disable`, in `cli/client.rs`) is disabled on all within a second. The
//! rules for a change are in core ([`Change`]); here is only what it takes to add a client or an API key.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use fnv::FnvBuildHasher;
use guestpass_core::answer_size;
use guestpass_core::choice::Choice;
use guestpass_core::client::{
    ApiKey, ApiKeySecret, Change, Client, ClientId, ClientNumber, ClientSettings,
};
use guestpass_core::policy::{LateRetry, Policy, PolicyError};
use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::keys::Lifetimes;
use crate::random::Random;
use crate::store::{ChangeFailed, Registry, Unavailable};

/// Holds all clients as of some revision, and the policy of each. Reads take a snapshot and never wait for the store.
pub struct Clients {
    store: Arc<dyn Registry>,
    snapshot: ArcSwap<Snapshot>,
    /// One at a time, lest an older list be put over a newer one.
    refreshing: Mutex<()>,
}

struct Snapshot {
    revision: i64,
    /// The policy where a client hasn't chosen.
    defaults: Arc<Policy>,
    by_id: Table<String, Arc<Client>>,
    by_number: Table<ClientNumber, Arc<Client>>,
    origins: HashSet<String>,
    /// The policy of each client.
    policies: Table<ClientNumber, Arc<Policy>>,
    /// The clients of whose choices the operator has been warned.
    warned: HashSet<ClientId>,
}

/// A table that operators fill, and strangers only look up in: a quick hash does.
type Table<K, V> = HashMap<K, V, FnvBuildHasher>;

impl Clients {
    /// Reads all clients. `defaults` hold where a client hasn't chosen.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn load(store: Arc<dyn Registry>, defaults: Policy) -> Result<Self, Unavailable> {
        let (revision, clients) = store.clients().await?;
        let defaults = Arc::new(defaults);
        let snapshot = Snapshot::of(revision, clients, defaults, &HashSet::new());
        Ok(Self {
            store,
            snapshot: ArcSwap::from_pointee(snapshot),
            refreshing: Mutex::new(()),
        })
    }

    /// Finds the client with that `client_id`.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<Client>> {
        self.snapshot().by_id.get(id).map(Arc::clone)
    }

    /// Finds the client with that number.
    #[must_use]
    pub fn by_number(&self, number: ClientNumber) -> Option<Arc<Client>> {
        self.snapshot().by_number.get(&number).map(Arc::clone)
    }

    /// Returns the policy of that client: its choices over the defaults.
    #[must_use]
    pub fn policy_of(&self, client: &Client) -> Arc<Policy> {
        let snapshot = self.snapshot();
        let policy = snapshot.policies.get(&client.number);
        // A client that was removed while it was answered.
        Arc::clone(policy.unwrap_or(&snapshot.defaults))
    }

    /// Returns the same where there may be no client: then the defaults hold.
    #[must_use]
    pub fn policy_for(&self, client: Option<&Client>) -> Arc<Policy> {
        client.map_or_else(
            || Arc::clone(&self.snapshot().defaults),
            |client| self.policy_of(client),
        )
    }

    /// Returns the longest lifetimes over all clients.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            access_token: self.longest(|policy| policy.access_ttl),
            grant: self.longest(|policy| policy.refresh_max),
        }
    }

    /// Returns each client to which an answer from that issuer could be too long, and by how many bytes. One that is disabled
    /// gets none.
    #[must_use]
    pub fn answered_too_long(&self, issuer: &str) -> Vec<(ClientId, usize)> {
        let snapshot = self.snapshot();
        let clients = snapshot.by_id.values().filter(|client| !client.disabled);
        let beyond = |client: &Arc<Client>| {
            let policy = snapshot.policies.get(&client.number)?;
            let bytes = answer_size::beyond(client, policy, issuer)?;
            Some((client.id.clone(), bytes))
        };
        clients.filter_map(beyond).collect()
    }

    /// Tells whether any client has registered that web origin.
    #[must_use]
    pub fn any_has_origin(&self, origin: &str) -> bool {
        self.snapshot().origins.contains(origin)
    }

    /// Tells whether any client has registered that web origin and keeps guests in cookies.
    #[must_use]
    pub fn any_keeps_cookies_at(&self, origin: &str) -> bool {
        let snapshot = self.snapshot();
        let keeps =
            |client: &Arc<Client>| client.cookies.is_some() && client.has_origin(origin.as_bytes());
        snapshot.by_id.values().any(keeps)
    }

    /// Reads all clients again if anything has changed since.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer; what is known stays.
    pub async fn refresh(&self) -> Result<(), Unavailable> {
        let revision = self.revision().await?;
        self.follow(revision).await
    }

    /// Returns the revision of clients and keys in the store.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn revision(&self) -> Result<i64, Unavailable> {
        self.store.revision().await
    }

    /// As [`Clients::refresh`], given the store's revision.
    ///
    /// # Errors
    /// As there.
    pub async fn follow(&self, revision: i64) -> Result<(), Unavailable> {
        if revision == self.snapshot().revision {
            return Ok(());
        }
        let _one_at_a_time = self.refreshing.lock().await;
        // Another may have read them meanwhile.
        let known = self.snapshot.load_full();
        if revision != known.revision {
            let (revision, clients) = self.store.clients().await?;
            let defaults = Arc::clone(&known.defaults);
            self.replace(Snapshot::of(revision, clients, defaults, &known.warned));
        }
        Ok(())
    }

    /// Takes over the rate limits of another policy, where a client hasn't chosen.
    pub async fn set_limits(&self, of: &Policy) {
        let _one_at_a_time = self.refreshing.lock().await;
        let known = self.snapshot.load_full();
        let clients = known.by_id.values().map(|client| Client::clone(client));
        let defaults = Arc::new(known.defaults.with_limits_of(of));
        let revision = known.revision;
        self.replace(Snapshot::of(
            revision,
            clients.collect(),
            defaults,
            &known.warned,
        ));
    }

    fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    fn longest(&self, of: impl Fn(&Policy) -> Duration) -> Duration {
        let snapshot = self.snapshot();
        let of_clients = snapshot.policies.values().map(|policy| of(policy)).max();
        of_clients.unwrap_or_default().max(of(&snapshot.defaults))
    }

    fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }
}

impl Snapshot {
    /// Resolves the policies of the clients. Of those in `warned` the operator has been told.
    fn of(
        revision: i64,
        clients: Vec<Client>,
        defaults: Arc<Policy>,
        warned: &HashSet<ClientId>,
    ) -> Self {
        let mut policies = Table::default();
        let mut now_warned = HashSet::new();
        for client in &clients {
            let is_new = !warned.contains(&client.id);
            let mut policy = defaults.with(&client.overrides);
            if let Err(problem) = policy.check() {
                if is_new {
                    warn_of_invalid(&client.id, problem);
                }
                policy = stricter(policy, problem, &defaults);
                now_warned.insert(client.id.clone());
            }
            if !client.unknown_choices.is_empty() {
                if is_new {
                    warn_of_unknown(client);
                }
                now_warned.insert(client.id.clone());
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
        Self {
            revision,
            defaults,
            by_id,
            by_number,
            origins,
            policies,
            warned: now_warned,
        }
    }
}

/// Returns the policy that holds until the operator has chosen again: the stricter reading.
fn stricter(policy: Policy, problem: PolicyError, defaults: &Policy) -> Policy {
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

fn warn_of_invalid(id: &ClientId, problem: PolicyError) {
    let meanwhile = match problem {
        PolicyError::ReissueWithoutGrace => "late_retry = revoke holds",
        PolicyError::LifetimeOutOfRange(..)
        | PolicyError::LifetimeNotWholeMilliseconds(_)
        | PolicyError::AccessTtlNotWholeSeconds
        | PolicyError::MaxUnprovenOutOfRange => "the defaults hold",
    };
    tracing::warn!(
        client.id = %id,
        "the choices of {id} and the defaults don't go together, so for now {meanwhile}: {problem}. Type: \
         guestpass client set {id} {}",
        remedy(problem)
    );
}

fn warn_of_unknown(client: &Client) {
    let id = &client.id;
    let names: Vec<_> = client.unknown_choices.keys().map(String::as_str).collect();
    let names = names.join(", ");
    tracing::warn!(
        client.id = %id,
        choices = names,
        "{id} has choices that this version doesn't know, {names}: a newer version of guestpass has made them. They are \
         kept, and have no effect here"
    );
}

/// Returns the flag of `guestpass client set` that makes a client's policy valid again.
#[must_use]
pub fn remedy(problem: PolicyError) -> String {
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

/// Says that an answer to a client could be too long by so many bytes, and what to do.
#[must_use]
pub fn too_long(id: &ClientId, bytes: usize) -> String {
    format!(
        "with the claims that it is told, an answer to it could have {bytes} bytes more than the {} that existing clients read. \
         Choose a shorter audience or issuer, or type: guestpass client set {id} --claims none",
        answer_size::MAX_BYTES
    )
}

/// Adds a client. A confidential one gets its first API key, whose secret is answered.
///
/// # Errors
/// [`ChangeFailed`]: a client has that id, or the store can't answer.
pub async fn add_client(
    store: &dyn Registry,
    id: ClientId,
    settings: ClientSettings,
    random: &dyn Random,
    now: Timestamp,
) -> Result<Option<ApiKeySecret>, ChangeFailed> {
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
/// [`ChangeFailed`]: no client has that id, it is a public one, or the store can't answer.
pub async fn add_api_key(
    store: &dyn Registry,
    id: ClientId,
    expires_at: Option<Timestamp>,
    random: &dyn Random,
    now: Timestamp,
) -> Result<ApiKeySecret, ChangeFailed> {
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
