//! What is noted of a request on its way, for its line in the log; and its id, for the lines of what it has caused.

use std::cell::Cell;

use guestpass_core::grant::GrantId;
use tracing::field::{DisplayValue, display};

use crate::request_id::RequestId;

/// What is noted.
#[derive(Clone, Copy, Debug)]
pub struct Notes {
    /// What names the request.
    pub request: RequestId,
    /// The grant that it is about.
    pub grant: Option<GrantId>,
    /// What was decided.
    pub decision: Option<&'static str>,
}

tokio::task_local! {
    static NOTES: Cell<Notes>;
}

impl Notes {
    /// Nothing but the request's name.
    #[must_use]
    pub const fn new(request: RequestId) -> Self {
        Self {
            request,
            grant: None,
            decision: None,
        }
    }

    /// Runs what serves the request, and answers what was noted too.
    pub async fn take<T>(self, serve: impl Future<Output = T>) -> (T, Self) {
        let noted = async {
            let answer = serve.await;
            (answer, NOTES.with(Cell::get))
        };
        NOTES.scope(Cell::new(self), noted).await
    }
}

/// What names the request that is served here.
#[must_use]
pub fn request() -> Option<DisplayValue<RequestId>> {
    let notes = NOTES.try_with(Cell::get).ok();
    notes.map(|notes| display(notes.request))
}

/// Notes which grant the request is about.
pub fn grant(id: GrantId) {
    note(|notes| notes.grant = Some(id));
}

/// Notes what was decided.
pub fn decision(name: &'static str) {
    note(|notes| notes.decision = Some(name));
}

fn note(change: impl FnOnce(&mut Notes)) {
    // Outside a request nobody asks.
    let _ = NOTES.try_with(|notes| {
        let mut changed = notes.get();
        change(&mut changed);
        notes.set(changed);
    });
}
