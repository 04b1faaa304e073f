//! The middleware around every endpoint: checks limits, runs the handler within its deadline, and finishes the answer.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::ORIGIN;
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use tokio::runtime::Handle;
use tower::layer::layer_fn;
use tower::{Layer, Service};

use super::endpoint::{Caller, EarlyRefusal, Endpoint};
use super::respond::Unfinished;
use super::visitor::Visitor;
use super::{client_auth, limits, respond};
use crate::app::App;
use crate::error::Error;
use crate::listen::{Deadline, Peer};
use crate::request_context::RequestContext;
use crate::request_id::RequestId;
use crate::store::Unavailable;

/// Keeps the parts of a request that its answer and its log line need.
pub(super) struct Received {
    /// Identifies the request in the answer and in the log.
    pub(super) id: RequestId,
    pub(super) endpoint: Option<&'static Endpoint>,
    pub(super) method: Method,
    pub(super) origin: Option<HeaderValue>,
    pub(super) tries_basic: bool,
    pub(super) peer: Option<Peer>,
    pub(super) visitor: Visitor,
    /// The time of arrival by the monotonic clock.
    pub(super) at: Duration,
}

impl Received {
    /// Tells whether the handler may write something for its caller, and so has to run to its end.
    fn may_write(&self) -> bool {
        match self.endpoint.map(|endpoint| endpoint.caller) {
            Some(Caller::Client(_) | Caller::BackEnd | Caller::Page) => true,
            Some(Caller::Guest) => !self.method.is_safe(),
            Some(
                Caller::Anyone | Caller::ConfidentialClient | Caller::Operator | Caller::Gateway,
            )
            | None => false,
        }
    }
}

/// Returns the middleware for an endpoint, or for paths without one.
pub(super) fn layer<S>(
    app: &Arc<App>,
    endpoint: Option<&'static Endpoint>,
) -> impl Layer<S, Service = Envelope<S>> + Clone + use<S> {
    let app = Arc::clone(app);
    layer_fn(move |inner| {
        Envelope(Arc::new(Content {
            app: Arc::clone(&app),
            endpoint,
            inner,
        }))
    })
}

/// The middleware as a service. With axum's middleware functions the request would be moved twice more, and the handler
/// boxed anew for each request. The router clones it for each request, too; what is inside isn't cloned before it is called.
pub(super) struct Envelope<S>(Arc<Content<S>>);

struct Content<S> {
    app: Arc<App>,
    endpoint: Option<&'static Endpoint>,
    inner: S,
}

impl<S> Clone for Envelope<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Service<Request> for Envelope<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    /// Always: a handler is ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Content {
            app,
            endpoint,
            inner,
        } = &*self.0;
        let peer = request.extensions().get::<Peer>().cloned();
        let received = Received {
            id: RequestId::draw(&*app.random),
            endpoint: *endpoint,
            method: request.method().clone(),
            origin: request.headers().get(ORIGIN).cloned(),
            tries_basic: client_auth::tries_basic(request.headers()),
            visitor: Visitor::of(request.headers(), peer.as_ref(), &app.trusted_proxies),
            peer,
            at: app.clock.monotonic(),
        };
        let context = RequestContext::new(received.id);
        if let Err(refused) = check(app, &request, &received) {
            let response = respond::finish(app, &received, context, refused.into());
            return future::ready(Ok(response)).boxed();
        }
        let deadline = request.extensions().get::<Deadline>().copied();
        let handler = inner.clone().call(request);
        let app = Arc::clone(app);
        Box::pin(async move {
            let may_write = received.may_write();
            let (answer, context) = handle(&app, handler, may_write, deadline, context).await;
            Ok(respond::finish(&app, &received, context, answer))
        })
    }
}

/// Refuses what needs no handler to be refused.
fn check(app: &App, request: &Request, received: &Received) -> Result<(), EarlyRefusal> {
    limits::check(request, received.endpoint)?;
    match received.endpoint.and_then(|endpoint| endpoint.early_check) {
        Some(check) => check(app, request, received.visitor),
        None => Ok(()),
    }
}

/// Runs the handler. If it may write, it runs to completion, even if the client disconnects or the deadline passes: then
/// it goes on in the background. A panic of the handler becomes an internal error.
async fn handle(
    app: &Arc<App>,
    handler: impl Future<Output = Result<Response, Infallible>> + Send + 'static,
    may_write: bool,
    deadline: Option<Deadline>,
    context: RequestContext,
) -> (Unfinished, RequestContext) {
    let handler = ToItsEnd::new(app, context.scope(handler), may_write);
    let result = match deadline {
        Some(Deadline { answer, .. }) => tokio::time::timeout_at(answer, handler).await,
        None => Ok(handler.await),
    };
    let error = match result {
        Ok(Ok((Ok(response), context))) => return (response.into(), context),
        Ok(Err(panic)) => Error::Internal(message(&*panic)),
        Err(_) => Unavailable("the answer took too long".into()).into(),
    };
    (error.into(), context)
}

/// Returns the message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    format!("a panic: {text}")
}

/// Wraps a future so that it can run to completion: if this is dropped before, the rest becomes a task, which the end of the
/// server waits for, provided that it goes on. A panic in it is returned as an error.
struct ToItsEnd<T: 'static> {
    app: Arc<App>,
    rest: Option<BoxFuture<'static, thread::Result<T>>>,
    goes_on: bool,
}

impl<T: Send + 'static> ToItsEnd<T> {
    fn new(
        app: &Arc<App>,
        future: impl Future<Output = T> + Send + 'static,
        goes_on: bool,
    ) -> Self {
        Self {
            app: Arc::clone(app),
            // Unwind-safe: what handlers share is behind locks, which a panic poisons, or replaced whole.
            rest: Some(AssertUnwindSafe(future).catch_unwind().boxed()),
            goes_on,
        }
    }
}

impl<T> Future for ToItsEnd<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.rest.as_mut();
        let result = ready!(future.expect("it has not ended").as_mut().poll(context));
        self.rest = None;
        Poll::Ready(result)
    }
}

impl<T> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take()
            && self.goes_on
            && Handle::try_current().is_ok()
        {
            self.app.leaving.spawn(rest.map(drop));
        }
    }
}
