//! Fetches the keys of an issuer from its JWK set and keeps them up to date.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

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

/// A cache of an issuer's keys, which are fetched from its JWK set and follow its key rotation. Clones share one cache.
///
/// - **Freshness**: the set is fetched when it is first needed, and again when it is older than its `Cache-Control:
///   max-age` (at least 60 seconds, at most an hour; 5 minutes if there is none).
/// - **Rotation**: a token that names an unknown key causes a fetch at once, so a new key works without waiting.
/// - **Rate limit**: two fetches are at least 5 seconds apart, so tokens with made-up key ids can't flood the issuer.
/// - **Single flight**: there is one fetch at a time, and all requests that need its result wait for that one. While a
///   stale set is being replaced, other requests go on with it.
/// - **Stale if error**: while fetching fails, the last set stays in use. [`last_error`](Self::last_error) has the
///   cause.
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
}

struct Inner {
    uri: Uri,
    timeout: Duration,
    client: Client<HttpsConnector<HttpConnector>, String>,
    state: RwLock<State>,
}

#[derive(Clone, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// In seconds since the Unix epoch, as are all times here.
    fetched_at: i64,
    max_age: i64,
    attempted_at: Option<i64>,
    error: Option<FetchError>,
}

impl State {
    /// Returns `true` while the set need not be fetched again.
    ///
    /// A clock that is set back makes the set stale, and likewise ends the rate limit, so that neither can last for
    /// ever. By up to `MIN_INTERVAL`, `now` may be earlier than the fetch without that: such requests read the clock
    /// before the fetch and came here after it.
    fn is_fresh(&self, now: i64) -> bool {
        (-MIN_INTERVAL..self.max_age).contains(&now.saturating_sub(self.fetched_at))
    }

    fn is_rate_limited(&self, now: i64) -> bool {
        self.attempted_at.is_some_and(|attempted_at| {
            (-MIN_INTERVAL..MIN_INTERVAL).contains(&now.saturating_sub(attempted_at))
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
        })
    }

    /// Verifies a token with these keys, as [`Verifier::verify`] does; and once more with newer keys if it names one
    /// that isn't among them. The future may be dropped at any time: a fetch that it has started goes on.
    ///
    /// # Errors
    /// Returns [`Unverified::KeysUnavailable`] if no set could be fetched yet, and [`Unverified::Rejected`] with the
    /// reason for which the token is rejected.
    pub async fn verify(
        &self,
        verifier: &Verifier,
        token: &str,
        now: i64,
    ) -> Result<AccessToken, Unverified> {
        let keys = self.current(now).await.ok_or(Unverified::KeysUnavailable)?;
        let answer = verifier.verify(token, &keys, now);
        if answer == Err(Rejection::KeyUnknown)
            && let Some(newer) = self.newer_than(&keys, now).await
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

    /// Returns the set to use now, after fetching it if it is absent or stale. `None` if there still is none.
    async fn current(&self, now: i64) -> Option<Arc<KeySet>> {
        let state = self.inner.state();
        if state.is_fresh(now) || state.is_rate_limited(now) && state.keys.is_some() {
            return state.keys;
        }
        let fetching = Arc::clone(&self.fetching);
        if state.keys.is_none() {
            let guard = fetching.lock_owned().await;
            self.fetch_if(guard, now, |state| state.keys.is_none())
                .await;
        } else if let Ok(guard) = fetching.try_lock_owned() {
            // Only this request waits, up to the timeout; the others go on with the stale set.
            self.fetch_if(guard, now, |state| !state.is_fresh(now))
                .await;
        }
        self.inner.state().keys
    }

    /// Returns a set that is newer than `keys`, after fetching it if need be. `None` if there is none.
    async fn newer_than(&self, keys: &Arc<KeySet>, now: i64) -> Option<Arc<KeySet>> {
        let is_same = |state: &State| {
            state
                .keys
                .as_ref()
                .is_some_and(|new| Arc::ptr_eq(new, keys))
        };
        let guard = Arc::clone(&self.fetching).lock_owned().await;
        self.fetch_if(guard, now, is_same).await;
        let state = self.inner.state();
        if is_same(&state) { None } else { state.keys }
    }

    /// Fetches the set if `is_needed` still says so now that this request holds the lock, within the rate limit.
    ///
    /// The fetch runs in a task of its own, since the request that started it may be cancelled while others wait for
    /// it.
    async fn fetch_if(
        &self,
        guard: OwnedMutexGuard<()>,
        now: i64,
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

    async fn fetch(&self, now: i64) {
        let fetched = tokio::time::timeout(self.timeout, self.request())
            .await
            .unwrap_or(Err(FetchError::TooSlow));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.attempted_at = Some(now);
        match fetched {
            Ok((keys, max_age)) => {
                *state = State {
                    keys: Some(Arc::new(keys)),
                    fetched_at: now,
                    max_age,
                    attempted_at: Some(now),
                    error: None,
                };
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
        let state = State {
            fetched_at: 1000,
            max_age: 60,
            attempted_at: Some(1000),
            ..State::default()
        };
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
            assert_eq!(
                (state.is_fresh(now), state.is_rate_limited(now)),
                (is_fresh, is_rate_limited),
                "{now}"
            );
        }
    }
}
