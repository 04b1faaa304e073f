//! Clients as this node knows them, followed from the store; and what operators do to them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use guestpass_core::client::{ApiKey, ApiKeySecret, Client, ClientId, ClientNumber};
use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::random::Random;
use crate::store::{Change, ChangeError, ClientSettings, Registry, Unavailable};

/// All clients, as of some revision.
pub struct Clients {
    store: Arc<dyn Registry>,
    known: RwLock<Arc<Known>>,
    /// One at a time, lest an older list be put over a newer one.
    refreshing: Mutex<()>,
}

struct Known {
    revision: i64,
    by_id: HashMap<String, Arc<Client>>,
    by_number: HashMap<ClientNumber, Arc<Client>>,
    origins: HashSet<String>,
}

impl Clients {
    /// Reads all clients.
    ///
    /// # Errors
    /// [`Unavailable`] if the store can't answer.
    pub async fn load(store: Arc<dyn Registry>) -> Result<Self, Unavailable> {
        let known = RwLock::new(Arc::new(read(&*store).await?));
        Ok(Self {
            store,
            known,
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
            let read = Arc::new(read(&*self.store).await?);
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = read;
        }
        Ok(())
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How often a node looks for changes; they are followed within a second.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(500);

async fn read(store: &dyn Registry) -> Result<Known, Unavailable> {
    let (revision, clients) = store.clients().await?;
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
    })
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
