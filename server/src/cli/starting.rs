//! A start that can be interrupted at any moment.

use tokio::runtime::Handle;

use super::Failure;
use super::serve::Server;
use crate::config::Config;

/// Starts a server. Ends the process if `stop` comes first, whatever the start is waiting for: a lock, a silent database,
/// a file that blocks. Nothing is half done then, since each step is durable as a whole or repeated by the next start.
pub(super) async fn start(
    config: &Config,
    stop: impl Future<Output = ()>,
) -> Result<Option<Server>, Failure> {
    let config = config.clone();
    // On a thread of its own, since it may wait without giving way to anything else.
    let starting =
        tokio::task::spawn_blocking(move || Handle::current().block_on(Server::start(&config)));
    tokio::select! {
        biased;
        () = stop => {
            tracing::info!("stopped before the server was ready");
            Ok(None)
        }
        started = starting => started?.map(Some),
    }
}
