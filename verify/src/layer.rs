//! Middleware for tower services that speak HTTP, such as axum's or tonic's.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::bearer;
use crate::clock::system_time;
use crate::key::KeySet;
#[cfg(feature = "fetch")]
use crate::remote::RemoteKeySet;
use crate::unverified::Unverified;
use crate::verifier::{AccessToken, Verifier};

/// Tower middleware that verifies the token of each request and puts the [`AccessToken`] into the request's extensions.
///
/// Choose [`strict`](Self::strict) for what only guests may see and [`soft`](Self::soft) for what anonymous visitors
/// see too. Handlers can trust an `AccessToken` in the extensions: one that was there before is removed.
///
/// A token that isn't verified leaves its reason, an [`Unverified`], for your log: in the extensions of the request if
/// it is passed on, and in those of the response if it is refused.
///
/// Put middleware that answers CORS preflight requests outside of this one, since they carry no token.
#[derive(Clone)]
pub struct VerifyLayer {
    verifier: Arc<Verifier>,
    keys: KeySource,
    is_strict: bool,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// The source of the keys for a [`VerifyLayer`]. It converts from a [`KeySet`] and from a
/// [`RemoteKeySet`](crate::RemoteKeySet), so it need not be named.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeySource {
    /// A set that never changes: a key of it that the issuer removes is trusted for as long as the layer lives.
    Fixed(Arc<KeySet>),
    /// A set that is fetched from the issuer and kept up to date.
    #[cfg(feature = "fetch")]
    Remote(RemoteKeySet),
}

impl From<KeySet> for KeySource {
    fn from(keys: KeySet) -> Self {
        Self::Fixed(Arc::new(keys))
    }
}

#[cfg(feature = "fetch")]
impl From<RemoteKeySet> for KeySource {
    fn from(keys: RemoteKeySet) -> Self {
        Self::Remote(keys)
    }
}

impl VerifyLayer {
    /// Refuses requests without a valid token: with 401, or with 503 while there are no keys: none could be
    /// fetched yet, or none for so long that the last ones are no longer trusted.
    #[must_use]
    pub fn strict(verifier: Verifier, keys: impl Into<KeySource>) -> Self {
        Self::new(verifier, keys.into(), true)
    }

    /// Passes on every request. Without a valid token, or with two different ones, the request is anonymous: it has no
    /// [`AccessToken`]. Existing clients of the API need this, since they treat a 401 as an outage.
    #[must_use]
    pub fn soft(verifier: Verifier, keys: impl Into<KeySource>) -> Self {
        Self::new(verifier, keys.into(), false)
    }

    /// Replaces this machine's clock, such as for tests: `clock` returns seconds since the Unix epoch.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self {
            clock: Arc::new(clock),
            ..self
        }
    }

    fn new(verifier: Verifier, keys: KeySource, is_strict: bool) -> Self {
        Self {
            verifier: Arc::new(verifier),
            keys,
            is_strict,
            clock: Arc::new(system_time),
        }
    }

    /// Verifies the token of a request. `None` if it carries none.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Option<AccessToken>, Unverified> {
        let Some(token) = bearer::token_of(headers)? else {
            return Ok(None);
        };
        let now = (self.clock)();
        let token = match &self.keys {
            KeySource::Fixed(keys) => self.verifier.verify(token, keys, now)?,
            #[cfg(feature = "fetch")]
            KeySource::Remote(keys) => keys.verify(&self.verifier, token, now).await?,
        };
        Ok(Some(token))
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, inner: S) -> Verify<S> {
        Verify {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service that [`VerifyLayer`] wraps around another one.
#[derive(Clone)]
pub struct Verify<S> {
    layer: VerifyLayer,
    inner: S,
}

impl<S, B, C> Service<Request<B>> for Verify<S>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    C: From<String>,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<C>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Call the instance that `poll_ready` has reserved, and leave the clone, which isn't ready, in its place.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            request.extensions_mut().remove::<AccessToken>();
            // Taken out, since a reference to the whole request across the await would require `B: Sync`.
            let headers = mem::take(request.headers_mut());
            let guest = layer.authenticate(&headers).await;
            *request.headers_mut() = headers;
            match guest {
                Ok(Some(token)) => {
                    request.extensions_mut().insert(token);
                }
                Ok(None) if layer.is_strict => return Ok(refuse(None)),
                Err(reason) if layer.is_strict => return Ok(refuse(Some(reason))),
                Ok(None) => {}
                Err(reason) => {
                    request.extensions_mut().insert(reason);
                }
            }
            inner.call(request).await
        })
    }
}

/// Answers a request whose token is absent or not verified (RFC 6750 §3, §3.1). The reason is in the response's
/// extensions, and not in what the caller sees.
fn refuse<C: From<String>>(reason: Option<Unverified>) -> Response<C> {
    let (status, name, value, error, description) = match reason {
        None => (
            StatusCode::UNAUTHORIZED,
            WWW_AUTHENTICATE,
            "Bearer",
            "invalid_token",
            "An access token is needed.",
        ),
        Some(Unverified::KeysUnavailable) => (
            StatusCode::SERVICE_UNAVAILABLE,
            RETRY_AFTER,
            "5",
            "temporarily_unavailable",
            "Try again later.",
        ),
        Some(Unverified::Rejected(_)) => (
            StatusCode::UNAUTHORIZED,
            WWW_AUTHENTICATE,
            r#"Bearer error="invalid_token""#,
            "invalid_token",
            "The access token has expired, or is not valid here.",
        ),
    };
    let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
    let mut response = Response::new(C::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(name, HeaderValue::from_static(value));
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    response
}
