//! Ends a server (graceful shutdown): it says so, finishes what was asked of it, then what goes on without a client.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::timing::LAST_TASKS;

/// Says how far a server that ends has come, and holds the tasks that nobody waits for.
#[derive(Default)]
pub(crate) struct Leaving {
    asked: CancellationToken,
    drained: CancellationToken,
    /// The rest of handlers whose client has gone, and the second passes of erasures.
    tasks: TaskTracker,
}

impl Leaving {
    /// Tells whether the server has been asked to end.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until there are no more requests.
    pub(crate) async fn drained(&self) {
        self.drained.cancelled().await;
    }

    /// Runs a task that nobody waits for but the end of the server.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

impl App {
    /// Begins the end of the server: from now on it isn't ready, so that no one sends it new requests.
    pub fn leave(&self) {
        self.leaving.asked.cancel();
    }

    /// Finishes, for a few seconds, what goes on without a client. There must be no more requests.
    pub async fn finish(&self) {
        self.leaving.drained.cancel();
        self.leaving.tasks.close();
        let finished = tokio::time::timeout(LAST_TASKS, self.leaving.tasks.wait()).await;
        if finished.is_err() {
            tracing::warn!(
                tasks = self.leaving.tasks.len(),
                "some tasks were still under way at the end; the next start or the cleaner finishes them"
            );
        }
    }
}
