//! Fetches the keys of an issuer from its JWK set and keeps them up to date.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CACHE_CONTROL};
use http::uri::Scheme;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::key::{Algorithm, KeyError, KeySet};
use crate::rejection::Rejection;
use crate::unverified::Unverified;
use crate::verifier::{AccessToken, Verifier};

/// The length of the longest JWK set that is read.
const MAX_SET_BYTES: usize = 64 * 1024;

/// The seconds for which a set is fresh if the issuer sends no `max-age`, and the bounds of a `max-age` that it sends.
const DEFAULT_MAX_AGE: i64 = 300;
const LEAST_MAX_AGE: i64 = 60;
const GREATEST_MAX_AGE: i64 = 3600;

/// The rate limit of fetches: the least seconds between two, whatever the reason for them.
const MIN_INTERVAL: i64 = 5;

/// The seconds after its fetch for which a set is trusted at most, unless [`RemoteKeySet::trust_for`] sets others, and the
/// least that it can set.
const DEFAULT_TRUST: i64 = 86_400;
const LEAST_TRUST: i64 = LEAST_MAX_AGE;
const _: () = assert!(GREATEST_MAX_AGE < DEFAULT_TRUST && MIN_INTERVAL < LEAST_TRUST);

/// A cache of an issuer's keys, which are fetched from its JWK set and follow its key rotation. Clones share one cache.
///
/// - **Freshness**: the set is fetched when it is first needed, and again when it is older than its `Cache-Control:
///   max-age` (at least 60 seconds, at most an hour; 5 minutes if there is none).
/// - **Rotation**: a token that names an unknown key causes a fetch at once, so a new key works without waiting.
/// - **Rate limit**: two fetches are at least 5 seconds apart, so tokens with made-up key ids can't flood the issuer.
/// - **Single flight**: there is one fetch at a time, and all requests that need its result wait for that one. While a
///   stale set is being replaced, other requests go on with it.
/// - **Stale if error**: while fetching fails, the last set stays in use, but for no longer than a day after it was
///   fetched, or than [`trust_for`](Self::trust_for) says: a key that the issuer has removed since must not be trusted
///   for ever. From then on there are no keys, as before the first fetch. [`last_error`](Self::last_error) has the
///   cause.
///
/// So a key that has leaked and was removed at the issuer is trusted here until the next fetch that succeeds. To be rid
/// of it earlier, restart the service.
///
/// Secrets (HS256) in a fetched set are ignored. Fetching needs a tokio runtime.
///
/// ```no_run
/// # async fn example(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use guestpass_verify::{RemoteKeySet, Verifier, system_time};
///
/// let verifier = Verifier::new("https://id.shop.example");
/// let keys = RemoteKeySet::new("https://id.shop.example/oauth/jwks", Duration::from_secs(3))?;
/// let guest = keys.verify(&verifier, token, system_time()).await?;
/// println!("{} is back", guest.subject);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RemoteKeySet {
    inner: Arc<Inner>,
    /// Held during a fetch: single flight.
    fetching: Arc<Mutex<()>>,
    /// The seconds after its fetch for which a set is trusted at most.
    trust: i64,
}

struct Inner {
    uri: Uri,
    timeout: Duration,
    client: Client<HttpsConnector<HttpConnector>, String>,
    state: RwLock<State>,
}

#[derive(Clone, Default)]
struct State {
    set: Option<FetchedSet>,
    /// In seconds since the Unix epoch, as the caller's clock said.
    attempted_at: Option<i64>,
    error: Option<FetchError>,
}

#[derive(Clone)]
struct FetchedSet {
    keys: Arc<KeySet>,
    fetched: Moment,
    /// The seconds for which it is fresh.
    max_age: i64,
}

/// A point in time, by two clocks: the caller's, in seconds since the Unix epoch, which may be set and is tested with,
/// and this process's, which only goes on.
#[derive(Clone, Copy)]
struct Moment {
    told: i64,
    measured: Instant,
}

impl Moment {
    fn told(now: i64) -> Self {
        Self {
            told: now,
            measured: Instant::now(),
        }
    }
}

impl FetchedSet {
    /// Returns its age in seconds, by the clock that says more: one that was set back must not keep a set, nor one that
    /// stood still while the machine slept.
    fn age(&self, now: Moment) -> i64 {
        let measured = now.measured.duration_since(self.fetched.measured).as_secs();
        now.told
            .saturating_sub(self.fetched.told)
            .max(i64::try_from(measured).unwrap_or(i64::MAX))
    }

    /// Returns `true` while the set need not be fetched again.
    ///
    /// A clock that is set back makes the set stale, so that this can't last for ever. By up to `MIN_INTERVAL`, `now`
    /// may be earlier than the fetch without that: such requests read the clock before the fetch and came here after it.
    fn is_fresh(&self, now: Moment) -> bool {
        now.told.saturating_sub(self.fetched.told) >= -MIN_INTERVAL && self.age(now) < self.max_age
    }
}

impl State {
    /// Returns the set, if it is younger than `trust` seconds: what the issuer may have removed meanwhile isn't trusted.
    fn trusted(&self, trust: i64, now: Moment) -> Option<&FetchedSet> {
        self.set.as_ref().filter(|set| set.age(now) < trust)
    }

    fn keys(&self, trust: i64, now: Moment) -> Option<Arc<KeySet>> {
        self.trusted(trust, now).map(|set| Arc::clone(&set.keys))
    }

    /// A clock that is set back ends the rate limit, as it ends freshness.
    fn is_rate_limited(&self, now: Moment) -> bool {
        self.attempted_at.is_some_and(|attempted_at| {
            (-MIN_INTERVAL..MIN_INTERVAL).contains(&now.told.saturating_sub(attempted_at))
        })
    }
}

impl RemoteKeySet {
    /// Makes an empty cache for the JWK set at `url`; nothing is fetched yet. `timeout` limits a whole fetch, and so
    /// the time for which a request may wait for keys.
    ///
    /// # Errors
    /// Returns [`FetchError::UrlUnsupported`] unless the URL is `https`, or `http` on loopback, where no one else can
    /// answer, and [`FetchError::NoTrustAnchors`] if this machine has no root certificates to verify `https` with.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::UrlUnsupported)?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let is_local = uri.scheme() == Some(&Scheme::HTTP) && uri.host().is_some_and(is_loopback);
        let has_user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        if !(is_https || is_local) || has_user {
            return Err(FetchError::UrlUnsupported);
        }
        // Not the process's default provider, which another crate may have chosen.
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Unreachable(error.to_string()))?;
        let config = if is_https {
            config
                .with_native_roots()
                .map_err(|error| FetchError::NoTrustAnchors(error.to_string()))?
        } else {
            config.with_root_certificates(RootCertStore::empty())
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            // No idle connections: a fetch every few minutes isn't worth one.
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self {
            inner: Arc::new(Inner {
                uri,
                timeout,
                client,
                state: RwLock::default(),
            }),
            fetching: Arc::default(),
            trust: DEFAULT_TRUST,
        })
    }

    /// Sets the age at which a set is no longer trusted, in whole seconds, if the issuer can't be reached for so long. The
    /// default is a day, the least a minute. A set is fetched again at that age at the latest.
    ///
    /// Choose it by what is worse: to answer 503 while the issuer is away, or to accept what someone signs with a key that
    /// the issuer has removed.
    #[must_use]
    pub fn trust_for(self, age: Duration) -> Self {
        let trust = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        Self {
            trust: trust.max(LEAST_TRUST),
            ..self
        }
    }

    /// Verifies a token with these keys, as [`Verifier::verify`] does; and once more with newer keys if it names one
    /// that isn't among them. The future may be dropped at any time: a fetch that it has started goes on.
    ///
    /// # Errors
    /// Returns [`Unverified::KeysUnavailable`] if no set could be fetched yet, or none for so long that the last one is no
    /// longer trusted, and [`Unverified::Rejected`] with the reason for which the token is rejected.
    pub async fn verify(
        &self,
        verifier: &Verifier,
        token: &str,
        now: i64,
    ) -> Result<AccessToken, Unverified> {
        let moment = Moment::told(now);
        let keys = self.current(moment).await;
        let keys = keys.ok_or(Unverified::KeysUnavailable)?;
        let answer = verifier.verify(token, &keys, now);
        if answer == Err(Rejection::KeyUnknown)
            && let Some(newer) = self.newer_than(&keys, moment).await
        {
            return Ok(verifier.verify(token, &newer, now)?);
        }
        Ok(answer?)
    }

    /// Returns the error of the last fetch, for health checks and logs. `None` if it succeeded, or if there was none.
    #[must_use]
    pub fn last_error(&self) -> Option<FetchError> {
        self.inner.state().error
    }

    /// Returns the set to use now, after fetching it if it is absent, stale or no longer trusted. `None` if there still
    /// is none.
    async fn current(&self, now: Moment) -> Option<Arc<KeySet>> {
        let state = self.inner.state();
        let keys = state.keys(self.trust, now);
        if self.has_fresh(&state, now) || state.is_rate_limited(now) && keys.is_some() {
            return keys;
        }
        let fetching = Arc::clone(&self.fetching);
        if keys.is_none() {
            let guard = fetching.lock_owned().await;
            self.fetch_if(guard, now, |state| state.trusted(self.trust, now).is_none())
                .await;
        } else if let Ok(guard) = fetching.try_lock_owned() {
            // Only this request waits, up to the timeout; the others go on with the stale set.
            self.fetch_if(guard, now, |state| !self.has_fresh(state, now))
                .await;
        }
        self.inner.state().keys(self.trust, now)
    }

    fn has_fresh(&self, state: &State, now: Moment) -> bool {
        state
            .trusted(self.trust, now)
            .is_some_and(|set| set.is_fresh(now))
    }

    /// Returns a set that is newer than `keys`, after fetching it if need be. `None` if there is none.
    async fn newer_than(&self, keys: &Arc<KeySet>, now: Moment) -> Option<Arc<KeySet>> {
        let is_same = |state: &State| {
            let set = state.set.as_ref();
            set.is_some_and(|set| Arc::ptr_eq(&set.keys, keys))
        };
        let guard = Arc::clone(&self.fetching).lock_owned().await;
        self.fetch_if(guard, now, is_same).await;
        let state = self.inner.state();
        if is_same(&state) {
            None
        } else {
            state.keys(self.trust, now)
        }
    }

    /// Fetches the set if `is_needed` still says so now that this request holds the lock, within the rate limit.
    ///
    /// The fetch runs in a task of its own, since the request that started it may be cancelled while others wait for
    /// it.
    async fn fetch_if(
        &self,
        guard: OwnedMutexGuard<()>,
        now: Moment,
        is_needed: impl Fn(&State) -> bool,
    ) {
        let state = self.inner.state();
        if !is_needed(&state) || state.is_rate_limited(now) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move {
            inner.fetch(now).await;
            drop(guard);
        });
        // Joining only fails while the runtime shuts down.
        let _ = task.await;
    }
}

impl fmt::Debug for RemoteKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeySet")
            .field("uri", &self.inner.uri)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> State {
        self.state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn fetch(&self, now: Moment) {
        let fetched = tokio::time::timeout(self.timeout, self.request())
            .await
            .unwrap_or(Err(FetchError::TooSlow));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.attempted_at = Some(now.told);
        match fetched {
            Ok((keys, max_age)) => {
                state.set = Some(FetchedSet {
                    keys: Arc::new(keys),
                    fetched: now,
                    max_age,
                });
                state.error = None;
            }
            Err(error) => state.error = Some(error),
        }
    }

    /// Requests the set, and returns it with the seconds for which it is fresh.
    async fn request(&self) -> Result<(KeySet, i64), FetchError> {
        let request = Request::get(&self.uri)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .body(String::new())
            .map_err(|_| FetchError::UrlUnsupported)?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| FetchError::Unreachable(error_chain(&error)))?;
        // Redirects aren't followed: they could lead to another scheme or host.
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), MAX_SET_BYTES)
            .collect()
            .await
            .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => FetchError::TooLong,
                None => FetchError::Unreachable(error_chain(&*error)),
            })?;
        let keys = KeySet::from_jwks(&body.to_bytes()).map_err(FetchError::NotAKeySet)?;
        // A published secret isn't secret: anyone could sign with it.
        Ok((keys.without(Algorithm::Hs256), max_age))
    }
}

/// Returns `max-age` (RFC 9111 §5.2.2.1) within its bounds. A set that must not be stored is fresh for the least time.
fn max_age(headers: &HeaderMap) -> i64 {
    let directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut age = DEFAULT_MAX_AGE;
    for directive in directives {
        if matches!(&*directive, "no-store" | "no-cache") {
            return LEAST_MAX_AGE;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            age = seconds.trim_matches('"').parse().unwrap_or(LEAST_MAX_AGE);
        }
    }
    age.clamp(LEAST_MAX_AGE, GREATEST_MAX_AGE)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Formats an error with its chain of sources: the text of an HTTP client's error says little by itself.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The reason why a JWK set couldn't be fetched.
///
/// The first two variants come from [`RemoteKeySet::new`], where they are final. The others come from a fetch and are
/// found by [`RemoteKeySet::last_error`]; the fetch is tried again with the next request, at most every 5 seconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FetchError {
    /// The URL is neither `https` nor `http` on loopback, or it contains a user name.
    ///
    /// A likely cause is the issuer's name without its scheme.
    UrlUnsupported,
    /// No root certificates were found on this machine, so that no server could be trusted.
    ///
    /// A likely cause is a minimal container image without `ca-certificates`.
    NoTrustAnchors(String),
    /// There was no connection, or it broke. The text has the chain of causes.
    ///
    /// Likely causes are a name that doesn't resolve, a port where nobody listens, a firewall, or a certificate that
    /// isn't signed by one of this machine's root certificates.
    Unreachable(String),
    /// The whole answer didn't arrive within the timeout that was given to [`RemoteKeySet::new`].
    TooSlow,
    /// The answer has another status than 200.
    ///
    /// Likely causes are a wrong path (Guestpass publishes its set at `/oauth/jwks`), or a redirect, which isn't
    /// followed.
    Status(StatusCode),
    /// The body is longer than 64 KiB.
    TooLong,
    /// The body isn't a JWK set.
    ///
    /// Likely causes are the URL of another document, such as the issuer's metadata, or a proxy's HTML page.
    NotAKeySet(KeyError),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UrlUnsupported => f.write_str("the URL must be https, or http on loopback"),
            Self::NoTrustAnchors(error) => write!(f, "no certificates to trust: {error}"),
            Self::Unreachable(error) => write!(f, "the issuer can't be reached: {error}"),
            Self::TooSlow => f.write_str("the issuer didn't answer in time"),
            Self::Status(status) => write!(f, "the issuer answered {status}"),
            Self::TooLong => write!(f, "the answer is longer than {} KiB", MAX_SET_BYTES / 1024),
            Self::NotAKeySet(error) => write!(f, "the answer can't be used: {error}"),
        }
    }
}

impl std::error::Error for FetchError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_or_loopback() {
        for url in [
            "https://id.shop.example/jwks.json",
            "http://localhost:1/jwks.json",
            "http://127.0.0.1/jwks.json",
            "http://127.1.2.3:8080/",
            "http://[::1]:8080/jwks.json",
        ] {
            let error = RemoteKeySet::new(url, Duration::from_secs(1)).err();
            // A machine may be without certificates.
            let is_named = matches!(error, None | Some(FetchError::NoTrustAnchors(_)));
            assert!(is_named, "{url}: {error:?}");
        }
        for url in [
            "",
            "/jwks.json",
            "id.shop.example",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "http://id.shop.example/jwks.json",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://127.0.0.1@id.shop.example/",
            "https://user:password@id.shop.example/",
        ] {
            let error = RemoteKeySet::new(url, Duration::from_secs(1)).unwrap_err();
            assert_eq!(error, FetchError::UrlUnsupported, "{url}");
        }
    }

    #[test]
    fn how_long_a_set_is_used() {
        for (fields, age) in [
            (&[][..], 300),
            (&["public"], 300),
            (&["public, max-age=900"], 900),
            (&["Max-Age=\"900\""], 900),
            (&["public", "max-age=900"], 900),
            (&["max-age=0"], 60),
            (&["max-age=-5"], 60),
            (&["max-age=x"], 60),
            (&["max-age=86400"], 3600),
            (&["max-age=99999999999999999999"], 60),
            (&["max-age=900, no-cache"], 60),
            (&["no-store"], 60),
        ] {
            let headers = fields
                .iter()
                .map(|field| (CACHE_CONTROL, field.parse().unwrap()))
                .collect();
            assert_eq!(max_age(&headers), age, "{fields:?}");
        }
    }

    #[test]
    fn time_that_is_set_back_ends_freshness_and_rate_limit() {
        let start = Moment::told(1000);
        let state = fetched(start);
        for (now, is_fresh, is_rate_limited) in [
            (1000, true, true),
            (1004, true, true),
            (1005, true, false),
            (1059, true, false),
            (1060, false, false),
            (995, true, true),
            (994, false, false),
            (i64::MIN, false, false),
        ] {
            let now = Moment { told: now, ..start };
            let set = state.set.as_ref().unwrap();
            assert_eq!(
                (set.is_fresh(now), state.is_rate_limited(now)),
                (is_fresh, is_rate_limited),
                "{}",
                now.told
            );
        }
    }

    #[test]
    fn f40_no_clock_keeps_a_set_beyond_its_bound() {
        let start = Moment::told(1000);
        let state = fetched(start);
        for (told, measured, is_trusted) in [
            (1000, 0, true),
            (1000 + 86_399, 86_399, true),
            (1000 + 86_400, 86_400, false),
            // The clock was set back, or doesn't go at all.
            (0, 86_399, true),
            (0, 86_400, false),
            (1000, 86_400, false),
            // The machine slept, and only one clock has noticed.
            (1000 + 86_400, 60, false),
            (i64::MAX, 0, false),
            (i64::MIN, 0, true),
        ] {
            let now = Moment {
                told,
                measured: start.measured + Duration::from_secs(measured),
            };
            let trusted = state.trusted(DEFAULT_TRUST, now);
            assert_eq!(trusted.is_some(), is_trusted, "{told} {measured}");
        }
    }

    /// Returns the state after a fetch, of a set that is fresh for a minute.
    fn fetched(start: Moment) -> State {
        let set = FetchedSet {
            keys: Arc::new(KeySet::from_iter([])),
            fetched: start,
            max_age: 60,
        };
        State {
            set: Some(set),
            attempted_at: Some(start.told),
            error: None,
        }
    }
}
