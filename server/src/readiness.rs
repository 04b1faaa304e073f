//! The readiness check: decides whether the node can serve. All who ask within a second share one answer.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::app::App;
use crate::error::Error;
use crate::store::{Unavailable, Write};
use crate::timing::READINESS_GOOD_FOR;

/// The last check, which may be under way: all who ask meanwhile wait for the same one.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<Check>>);

type Check = Shared<BoxFuture<'static, Checked>>;

/// The result of a check.
#[derive(Clone)]
struct Checked {
    /// Its end, by the monotonic clock: whoever has waited for a slow one takes part in it.
    at: Duration,
    result: Result<(), Unavailable>,
}

impl App {
    /// Checks that the node can serve requests: it reads its database, a write to it has just become durable, the files
    /// are those that it has opened, the journal could be written, what is known of revocations is fresh, and it isn't ending.
    ///
    /// # Errors
    /// [`Unavailable`] that names all that is wrong.
    pub async fn check_readiness(self: &Arc<Self>) -> Result<(), Error> {
        if self.leaving.is_asked() {
            return Err(Unavailable("the server is ending".into()).into());
        }
        let check = {
            let mut last = self
                .readiness
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.monotonic();
            let is_good = |checked: &Checked| now.saturating_sub(checked.at) < READINESS_GOOD_FOR;
            let of_this_second = last.take().filter(|check| check.peek().is_none_or(is_good));
            last.insert(of_this_second.unwrap_or_else(|| self.begin_check()))
                .clone()
        };
        check.await.result?;
        Ok(self.check_staleness()?)
    }

    /// Starts a check that goes on when those who wait for it have gone: the next to ask takes part in it, instead of
    /// beginning another one.
    fn begin_check(self: &Arc<Self>) -> Check {
        let app = Arc::clone(self);
        let checking = async move {
            let result = app.check_storage().await;
            let at = app.clock.monotonic();
            Checked { at, result }
        };
        let check = AssertUnwindSafe(checking)
            .catch_unwind()
            .map(|checked| {
                checked.unwrap_or_else(|_| Checked {
                    at: Duration::ZERO,
                    result: Err(Unavailable("the readiness check has panicked".into())),
                })
            })
            .boxed()
            .shared();
        self.leaving.spawn(check.clone().map(drop));
        check
    }

    /// Does all checks that ask a disk or another machine, so that the answer names all that is wrong. None takes a lock that
    /// [`App::follow`] needs.
    async fn check_storage(&self) -> Result<(), Unavailable> {
        let (read, written, files, journal) = tokio::join!(
            self.clients.revision(),
            self.grants.write(Write::Probe),
            self.upkeep.check_files(),
            self.journal.check(),
        );
        let wrong: Vec<_> = [read.map(drop), written.map(drop), files, journal]
            .into_iter()
            .filter_map(Result::err)
            .map(|Unavailable(reason)| reason)
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Unavailable(wrong.join("; ")))
    }
}
