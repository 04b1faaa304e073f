//! The context of a request, in a task-local: its id, for every line that it causes in the log, and what its own line
//! says beside the answer.

use std::cell::Cell;

use guestpass_core::grant::GrantId;
use tracing::field::{DisplayValue, display};

use crate::request_id::RequestId;

/// Collects what the log says of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext {
    /// The id of the request.
    pub request: RequestId,
    /// The grant that it is about.
    pub grant: Option<GrantId>,
    /// The name of the decision.
    pub decision: Option<&'static str>,
}

tokio::task_local! {
    static CONTEXT: Cell<RequestContext>;
}

impl RequestContext {
    /// Makes a context that knows only the request's id.
    #[must_use]
    pub const fn new(request: RequestId) -> Self {
        Self {
            request,
            grant: None,
            decision: None,
        }
    }

    /// Runs `serve` in this context; returns its result, and the context as it was left.
    pub async fn scope<T>(self, serve: impl Future<Output = T>) -> (T, Self) {
        let scoped = async {
            let answer = serve.await;
            (answer, CONTEXT.with(Cell::get))
        };
        CONTEXT.scope(Cell::new(self), scoped).await
    }
}

/// Returns the id of the current request, for a line in the log. `None` outside a request.
#[must_use]
pub fn request() -> Option<DisplayValue<RequestId>> {
    CONTEXT
        .try_with(|context| display(context.get().request))
        .ok()
}

/// Records the grant that the current request is about.
pub fn grant(id: GrantId) {
    record(|context| context.grant = Some(id));
}

/// Records the decision on the current request.
pub fn decision(name: &'static str) {
    record(|context| context.decision = Some(name));
}

fn record(change: impl FnOnce(&mut RequestContext)) {
    // Outside a request there is no line to put it in.
    let _ = CONTEXT.try_with(|context| {
        let mut changed = context.get();
        change(&mut changed);
        context.set(changed);
    });
}
