//! The embedded store: its file, and the log beside it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guestpass::store::sqlite::{SqliteStore, Synchronous};
use guestpass::store::transfer::{Part, Table};
use guestpass::store::{Outcome, Store, Tombstone, Write};
use tempfile::TempDir;

use super::{NOW, advance, each, grant, insert, size_of_this_run};
use crate::support::SeededRandom;
use crate::support::binary::{PATIENCE, eventually};

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
    // A row has its final size when its numbers have: SQLite keeps 0 and 1 in no byte.
    for _ in 0..3 {
        each(&store, &mut grants, advance).await;
    }
    // The last to close the file moves all of the log into it.
    drop(store);
    let before = file.metadata().unwrap().len();
    let store = open();
    for _ in 3..rounds {
        each(&store, &mut grants, advance).await;
    }
    let log = directory.path().join("guestpass.db-wal");
    let first = starts(&log);
    for _ in 0..MOST_ROUNDS {
        if starts(&log) == first {
            each(&store, &mut grants, advance).await;
        }
    }
    // A busy machine may have had no time for the checkpoint beside all these. Now it has, and then the log starts over
    // with the next write.
    let waiting = Instant::now();
    while starts(&log) == first {
        assert!(waiting.elapsed() < PATIENCE, "the log grows and grows");
        each(&store, &mut grants[..1], advance).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(store);
    let after = file.metadata().unwrap().len();
    println!("{before} bytes after some refreshes of each grant, {after} in the end");
    assert!(after * 100 <= before * 102, "{before} bytes, then {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_leaves_the_log_once_nobody_reads_it() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("guestpass.db");
    SqliteStore::migrate(&file, &SeededRandom::new()).unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&file, Synchronous::Off).unwrap());
    let mut guest = grant(1);
    each(&store, std::slice::from_mut(&mut guest), insert).await;
    let log = directory.path().join("guestpass.db-wal");
    let size_of_log = || log.metadata().unwrap().len();

    let reader = rusqlite::Connection::open(&file).unwrap();
    reader.execute_batch("begin").unwrap();
    let guests = || reader.query_row("select count(*) from profiles", [], |row| row.get(0));
    assert_eq!(guests(), Ok(1));
    let tombstone = Tombstone {
        hash: [1; 16],
        at: NOW,
    };
    let erasure = Write::EraseGuest(guest.id.profile, tombstone, None);
    assert_eq!(store.write(erasure).await.unwrap(), Outcome::Done);
    // Long enough for a try to empty the log, in vain.
    let mut others: Vec<_> = (2..3000).map(grant).collect();
    each(&store, &mut others, insert).await;
    assert_eq!(guests(), Ok(1));
    assert!(size_of_log() > 0);

    // Without another write, but for the one page with the number of the log that begins.
    reader.execute_batch("commit").unwrap();
    eventually("a new log", || size_of_log() <= 32 + 24 + 2048);
}

#[tokio::test]
async fn a_grant_lies_under_its_guest_however_it_came() {
    let directory = TempDir::new().unwrap();
    let [signed_up, copied] = ["guestpass.db", "copy.db"].map(|name| directory.path().join(name));
    let [from, to] = [&signed_up, &copied].map(|file| -> Arc<dyn Store> {
        SqliteStore::migrate(file, &SeededRandom::new()).unwrap();
        Arc::new(SqliteStore::open(file, Synchronous::Off).unwrap())
    });
    let mut grants: Vec<_> = (0..100).map(grant).collect();
    each(&from, &mut grants, insert).await;

    let installation = from.installation_row().await.unwrap();
    assert!(to.begin_copy(installation).await.unwrap());
    let part = Part {
        table: Table::Grants,
        after: None,
        up_to: None,
        rows: from.rows(Table::Grants, None, 1000).await.unwrap(),
    };
    assert!(to.replace(part).await.unwrap());
    for file in [signed_up, copied] {
        let under_its_guest = "select count(*) from grants where grant_number = profile_id";
        let connection = rusqlite::Connection::open(&file).unwrap();
        let found = connection.query_row(under_its_guest, [], |row| row.get::<_, usize>(0));
        assert_eq!(found.unwrap(), grants.len(), "{}", file.display());
    }
}

/// Some 600 MiB of log, of which 256 are as many as should be.
const MOST_ROUNDS: u32 = 2000;

/// Returns how often the log has started over: a number in its header (SQLite, "WAL Format", "Checkpoint sequence number").
fn starts(log: &Path) -> u32 {
    let mut number = [0; 4];
    let log = File::open(log).unwrap();
    log.read_exact_at(&mut number, 12).unwrap();
    u32::from_be_bytes(number)
}
