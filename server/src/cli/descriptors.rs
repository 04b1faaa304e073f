//! The limit of open files, which bounds connections.

use crate::config::{Config, Database};
use crate::listen::MAX_CONNECTIONS;

/// Raises the limit of open files as far as the process may, and returns how many connections fit below it.
pub(super) fn room_for_connections(config: &Config) -> usize {
    let own = match &config.database {
        Database::Sqlite(_) => OWN_FILES,
        Database::Postgres(_) => OWN_FILES + config.postgres.connections,
    };
    raised().map_or(MAX_CONNECTIONS, |files| {
        files.saturating_sub(own).clamp(1, MAX_CONNECTIONS)
    })
}

/// Returns the number of files that the process may have open, or `None` if there is no limit.
#[cfg(unix)]
fn raised() -> Option<usize> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let highest = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, highest) {
        Ok(()) => highest.current,
        Err(_) => limit.current,
    };
    current.map(|files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
fn raised() -> Option<usize> {
    None
}

/// The files that the process has open beside its connections: database, journal, key files that are read anew, listeners,
/// and the operators' connections.
const OWN_FILES: usize = 128;
