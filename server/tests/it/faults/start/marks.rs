//! Marks keep what a start has to look at short, however much was revoked, and whatever the clock said.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass::journal::Entry;
use guestpass::random::Random;

use crate::support::binary::{Binary, eventually};
use crate::support::{SHOP, SeededRandom, TestApp, config, lines_of, profile, refresh, revoke};

/// Returns the numbers of entries that the starts of a server have looked at, the first start's first.
fn looked_at(test: &TestApp) -> Vec<u64> {
    lines_of(&format!("{}", test.journal().display()))
        .iter()
        .filter_map(|line| line["entries"].as_u64())
        .collect()
}

#[tokio::test]
async fn f15_a_start_looks_at_what_follows_the_last_mark() {
    let test = TestApp::new().await;
    for _ in 0..20 {
        // Nobody is given the id of one who was erased, as there is none in the past of whoever comes.
        test.clock.advance(Duration::from_millis(1));
        let [guest, erased] = [test.guest().await, test.guest().await];
        test.send(revoke(&guest.refresh_token)).await;
        test.send(profile(&erased.access_token).method("DELETE"))
            .await;
    }
    test.beside(config(&[])).await;
    // The forty, that the mark of the first start is stored, and no more of the past at the next start.
    assert_eq!(looked_at(&test), [41]);
    let again = test.beside(config(&[])).await;
    assert_eq!(looked_at(&again), [41, 1]);
    // As it happens by itself after many entries, or after a minute.
    again.send(revoke(&again.guest().await.refresh_token)).await;
    again.app.mark().await.unwrap();
    again.send(revoke(&again.guest().await.access_token)).await;
    test.beside(config(&[])).await;
    assert_eq!(looked_at(&test), [41, 1, 2]);
}

#[tokio::test]
async fn f05_a_mark_at_a_wrong_clock_is_not_the_youngest_for_ever() {
    let test = TestApp::new().await;
    let years = 10 * 365 * 86_400_000;
    for jump in [years, -years, -years, years] {
        test.clock.jump(jump);
        test.beside(config(&[])).await;
    }
    let last = test.beside(config(&[])).await;
    let path = last.journal().display().to_string();
    for line in lines_of(&path) {
        assert_ne!(line["level"], "ERROR", "{line}");
    }
}

#[tokio::test]
async fn f15_what_could_not_be_stored_keeps_no_mark_from_being_true() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    let held = test
        .sql("create table stuck (profile_id bigint references profiles (profile_id))")
        .await;
    drop(held);
    test.sql("insert into stuck select profile_id from profiles")
        .await;
    let erase = || profile(&guest.access_token).method("DELETE");
    assert_eq!(test.send(erase()).await.status, 503);
    // The journal has it and the store doesn't, so a mark behind it waits until it is carried out.
    let mut mark = std::pin::pin!(test.app.mark());
    for _ in 0..20 {
        tokio::select! {
            biased;
            marked = &mut mark => panic!("the store doesn't have what the mark says: {marked:?}"),
            _ = test.code(SHOP) => {}
        }
    }
    let carry_out = async {
        test.sql("drop table stuck").await;
        let journal = guestpass::journal::Journal::read(&test.journal()).unwrap();
        let stored = journal
            .iter()
            .filter(|entry| matches!(entry, Entry::MarkStored(_)));
        assert_eq!(stored.count(), 1, "that of the start");
        test.app.tend_storage().await;
    };
    let (marked, ()) = tokio::join!(mark, carry_out);
    marked.unwrap();
    test.refused(refresh(&guest.refresh_token), "invalid_grant")
        .await;
    assert_eq!(test.count("profiles").await, 20);
    test.beside(config(&[])).await;
    assert_eq!(looked_at(&test).last(), Some(&1));
}

/// Twenty thousand erasures that the database lacks, as the journal of a flood has them before a restore.
#[test]
fn f15_a_long_journal_is_carried_out_before_the_port_is_open() {
    let mut binary = Binary::new();
    let issuer = binary.set_issuer_to_address("http");
    let address = issuer.strip_prefix("http://").unwrap();
    binary.json(&["client", "add", SHOP]);
    assert!(binary.serve().stop().success());
    let random: &dyn Random = &SeededRandom::new();
    let mut lines = String::new();
    for _ in 0..20_000 {
        let hash = URL_SAFE_NO_PAD.encode(random.bytes::<16>());
        writeln!(
            lines,
            "{{\"event\":\"guest_erased\",\"at\":1795870000000,\"tombstone\":\"{hash}\"}}"
        )
        .unwrap();
    }
    // One line that has no end costs nothing, and is no entry.
    lines.push_str(&"x".repeat(1 << 20));
    let path = binary.data_dir().join("guestpass.journal");
    let mut journal = fs::OpenOptions::new().append(true).open(path).unwrap();
    journal.write_all(lines.as_bytes()).unwrap();
    drop(journal);
    let server = std::thread::scope(|scope| {
        let starting = scope.spawn(|| binary.serve());
        eventually("the port is open", || TcpStream::connect(address).is_ok());
        let log = fs::read_to_string(binary.working_dir().join("log")).unwrap();
        assert!(log.contains("entries=20001"), "{log}");
        starting.join().unwrap()
    });
    assert!(server.stop().success());
    let server = binary.serve();
    assert!(server.log().contains("entries=1 "), "{}", server.log());
    assert!(server.stop().success());
}
