//! The one assembly of a server, for `serve`, the tests and the benchmark: everything that requests share, put together
//! in the order that restores and rolling changes need.

use std::fmt;
use std::sync::Arc;

use guestpass_core::client::ClientId;

use crate::app::App;
use crate::clients::{self, Clients};
use crate::clock::{Now, SteadyClock};
use crate::config::{Config, Issuer};
use crate::endings::RetryQueue;
use crate::events::EventRecorder;
use crate::journal::{Journal, JournalError};
use crate::keys::{KeyRing, KeysError};
use crate::leaving::Leaving;
use crate::marks::Marks;
use crate::metrics::Metrics;
use crate::progress::waiting;
use crate::random::Random;
use crate::rate_limits::RateLimits;
use crate::readiness::Readiness;
use crate::restore::{self, RestoreError};
use crate::revocation_filter::RevocationFilter;
use crate::store::{Store, Unavailable, Write};
use crate::timekeeper::Timekeeper;

/// Holds the parts of a server that depend on where it runs.
pub struct Parts {
    /// The opened database.
    pub store: Arc<dyn Store>,
    /// The keys of the installation, opened with its master key.
    pub keys: KeyRing,
    /// The `iss` of every access token. It may depend on the address that is listened on.
    pub issuer: Issuer,
    /// The time; it has begun to serve this store ([`Timekeeper::begin`]).
    pub clock: Arc<SteadyClock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// Puts a server together; afterwards requests can be served. What changes later is followed by [`App::follow`].
///
/// # Errors
/// [`StartError`] if the database, the keys or the journal can't be used.
pub async fn start(config: &Config, parts: Parts) -> Result<Arc<App>, StartError> {
    let Parts {
        store,
        keys,
        issuer,
        clock,
        random,
    } = parts;
    let clients = Clients::load(store.clone(), config.policy.clone()).await?;
    let too_long = clients.answered_too_long(issuer.as_str());
    if !too_long.is_empty() {
        return Err(StartError::AnswersTooLong(too_long));
    }
    // Nothing that is forgotten for its age can be brought back, so age is judged by the earliest time that it may be.
    let earliest = clock.reading().earliest;
    let known = Arc::clone(&keys.now());
    let records = config.events.recorded;
    if store.records_events().await? != records {
        store.write(Write::RecordEvents(records)).await?;
    }
    let recorder = EventRecorder::new(records, clock.clone(), random.clone());
    let opening = restore::open_journal(config, &*store, &known, &recorder, earliest);
    let (journal, went_back_at) = waiting("waiting for the journal", opening).await?;
    // Before the longest life of an access token is asked for: the keys promise to live that long.
    if !clock.is_doubted() {
        keys.tend(clients.lifetimes(), clock.now()).await?;
    }
    let lifetime = keys.now().longest_access_ttl();
    // After the journal was caught up with: what that has ended is in the store now.
    let now = Now {
        wall: earliest,
        monotonic: clock.monotonic(),
    };
    let loading = RevocationFilter::load(store.clone(), now, lifetime);
    let revocations = waiting("reading what was revoked lately", loading).await?;
    if went_back_at.is_some() {
        // A grant that the store has lost has no row to be read from.
        let since = earliest.before(lifetime);
        for entry in Journal::entries_from_end(&config.journal)? {
            let (_, entry) = entry?;
            if entry.at().is_some_and(|at| at < since) {
                break;
            }
            revocations.insert_from_journal(entry);
        }
    }
    let metrics = Metrics::new(store.batches());
    let app = Arc::new(App {
        grants: store.clone(),
        revoked: store.clone(),
        revocations,
        recorder,
        events: store.clone(),
        upkeep: store.clone(),
        journal,
        marks: Marks::new(store.clone(), config.journal.clone(), went_back_at),
        clients,
        keys: Arc::new(keys),
        verifier: config.verification.verifier(issuer.as_str()),
        verification: config.verification.clone(),
        issuer,
        base_paths: config.base_paths.clone(),
        public_health: config.public_health,
        leaving: Leaving::default(),
        readiness: Readiness::default(),
        retries: RetryQueue::default(),
        node: config.node.clone(),
        rate_limits: RateLimits::new(config.limits_mode, clock.clone(), &metrics),
        trusted_proxies: config.connections.trusted_proxies.clone(),
        metrics,
        timekeeper: Timekeeper::new(store.clone(), clock.clone()),
        clock,
        random,
    });
    // After the journal was caught up with: a mark says that both agree.
    waiting("waiting to write to the database", app.mark()).await?;
    Ok(app)
}

/// Says which part of a server can't be used.
#[derive(Debug)]
pub enum StartError {
    /// The journal, or the database while it was repeated.
    Restore(RestoreError),
    /// The keys.
    Keys(KeysError),
    /// The database.
    Unavailable(Unavailable),
    /// Answers to those clients could have so many bytes too many.
    AnswersTooLong(Vec<(ClientId, usize)>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restore(error) => error.fmt(f),
            Self::Keys(error) => error.fmt(f),
            Self::Unavailable(error) => error.fmt(f),
            Self::AnswersTooLong(clients) => {
                let lines = clients.iter().map(|(id, bytes)| {
                    format!("the client {id}: {}", clients::too_long(id, *bytes))
                });
                f.write_str(&lines.collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<RestoreError> for StartError {
    fn from(error: RestoreError) -> Self {
        Self::Restore(error)
    }
}

impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        Self::Restore(error.into())
    }
}

impl From<KeysError> for StartError {
    fn from(error: KeysError) -> Self {
        Self::Keys(error)
    }
}

impl From<Unavailable> for StartError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}
