//! The readiness check: decides whether the node can serve. All who ask within a second share one answer.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::app::App;
use crate::error::Error;
use crate::store::{Unavailable, Write};

/// The last check, with its time by the monotonic clock. Locked while one runs, so that there is one at a time.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Duration, Result<(), Unavailable>)>>);

/// The time for which a check is good. A check costs a write to the database and one beside the journal, and whoever
/// balances load asks often.
const GOOD_FOR: Duration = Duration::from_secs(1);

impl App {
    /// Checks that the node can serve requests: it reads its database, a write to it has just become durable, the files
    /// are those that it has opened, the journal could be written, what is known of revocations is fresh, and it isn't ending.
    ///
    /// # Errors
    /// [`Unavailable`] that names all that is wrong.
    pub async fn check_readiness(&self) -> Result<(), Error> {
        if self.leaving.is_asked() {
            return Err(Unavailable("the server is ending".into()).into());
        }
        let mut last = self.readiness.0.lock().await;
        let age = |at| self.clock.monotonic().saturating_sub(at);
        let of_this_second = last.as_ref().filter(|(at, _)| age(*at) < GOOD_FOR);
        let checked = match of_this_second {
            Some((_, checked)) => checked.clone(),
            None => {
                let checked = self.check_storage().await;
                // The time of its end: whoever has waited for a slow one takes part in it.
                *last = Some((self.clock.monotonic(), checked.clone()));
                checked
            }
        };
        drop(last);
        checked?;
        Ok(self.check_staleness()?)
    }

    /// Does all checks that ask a disk or another machine, so that the answer names all that is wrong.
    async fn check_storage(&self) -> Result<(), Unavailable> {
        let (read, written, files, journal) = tokio::join!(
            self.clients.refresh(),
            self.grants.write(Write::Probe),
            self.upkeep.check_files(),
            self.journal.check(),
        );
        let wrong: Vec<_> = [read, written.map(drop), files, journal]
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
