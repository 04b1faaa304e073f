//! The embedded store: its file, and the log beside it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use guestpass::store::Store;
use guestpass::store::sqlite::{SqliteStore, Synchronous};
use tempfile::TempDir;

use super::{advance, each, grant, insert, size_of_this_run};
use crate::support::SeededRandom;

#[tokio::test(flavor = "multi_thread")]
async fn the_file_does_not_grow_and_the_log_starts_over() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("guestpass.db");
    SqliteStore::migrate(&file, &SeededRandom::new()).unwrap();
    let open =
        || -> Arc<dyn Store> { Arc::new(SqliteStore::open(&file, Synchronous::Off).unwrap()) };
    let (grants, rounds) = size_of_this_run();
    let mut grants: Vec<_> = (0..grants).map(grant).collect();
    let store = open();
    each(&store, &mut grants, insert).await;
    each(&store, &mut grants, advance).await;
    // The last to close the file moves all of the log into it.
    drop(store);
    let before = file.metadata().unwrap().len();
    let store = open();
    for _ in 1..rounds {
        each(&store, &mut grants, advance).await;
    }
    let log = directory.path().join("guestpass.db-wal");
    let first = starts(&log);
    let mut more = 0;
    while starts(&log) == first {
        more += 1;
        assert!(more < MOST_ROUNDS, "the log grows and grows");
        each(&store, &mut grants, advance).await;
    }
    drop(store);
    let after = file.metadata().unwrap().len();
    println!("{before} bytes after one refresh of each grant, {after} in the end");
    assert!(after * 100 <= before * 102, "{before} bytes, then {after}");
}

/// Some 300 MiB of log, of which 64 are as many as should be.
const MOST_ROUNDS: usize = 1000;

/// How often the log has started over: a number in its header (SQLite, "WAL Format", "Checkpoint sequence number").
fn starts(log: &Path) -> u32 {
    let mut number = [0; 4];
    let log = File::open(log).unwrap();
    log.read_exact_at(&mut number, 12).unwrap();
    u32::from_be_bytes(number)
}
