//! The same under the real binary, whose disk fails as `fault_shim.c` says.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use crate::deadlines::LOCK_TIMEOUT;
use crate::support::GrantsInFile;
use crate::support::binary::{Binary, PATIENCE, Server, eventually};
use crate::support::faults::{Call, Errno, Faults, log_of};
use crate::support::{Connection, SHOP, authorize, exchange, profile, refresh, request, revoke};

mod each_call;
mod first_start;

/// Prepares an installation with a client, on a disk that can fail.
fn installation() -> (Binary, Faults) {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_LOG__LEVEL", "info");
    binary.set_variable("GUESTPASS_CLEANING__START_AFTER", "0s");
    // Readiness is to be about the disk, and not about a machine that has stood still.
    binary.set_variable("GUESTPASS_VERIFY__MAX_STALENESS", "10m");
    binary.json(&["client", "add", SHOP, "--grace", "300s"]);
    let faults = Faults::under(&mut binary);
    (binary, faults)
}

/// One of ten, or of as many as the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how thorough this run is, which is nothing of the program's"
)]
fn every() -> usize {
    match std::env::var("GUESTPASS_TEST_FAULTS") {
        Ok(every) => every.parse().expect("GUESTPASS_TEST_FAULTS is a number"),
        Err(_) => 10,
    }
}

/// Asks once. A server that is about to end is not ready.
fn is_ready(server: &Server) -> bool {
    let asked = Connection::open(server.address)
        .and_then(|mut connection| connection.send(&request("GET", "/readyz")));
    asked.is_ok_and(|answer| answer.status == StatusCode::OK)
}

/// Returns the time after which it was so.
fn becomes_ready(server: &Server) -> Duration {
    soon("the server is ready", || is_ready(server))
}

/// Returns the time after which it was so.
fn becomes_unready(server: &Server) -> Duration {
    soon("the server isn't ready", || !is_ready(server))
}

/// The time from which on whoever asks is told that writes fail, or that they succeed again: a safety bound, for a process on a
/// busy machine. On a quiet one it is two seconds, which `make faults` prints.
const SOON: Duration = Duration::from_secs(20);

/// Asks until something is so, and returns when the question was asked that was answered like that. Each one that is asked
/// after [`SOON`] must be. It doesn't matter when the answer comes: a busy machine changes nothing.
fn soon(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    loop {
        let asked = Instant::now();
        let after = asked - since;
        if is_so() {
            return after;
        }
        assert!(
            after < SOON || was_given_up(asked) && after < PATIENCE,
            "still not after {after:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns whether the answer to what was asked then took so long that the store may have given up for that reason alone.
fn was_given_up(asked: Instant) -> bool {
    asked.elapsed() > LOCK_TIMEOUT
}

/// Puts so much into a journal, all of it about tokens that expired long ago, that it is replaced by a shorter one.
fn lengthen(journal: &Path) {
    let line = "{\"event\":\"access_token_revoked\",\"at\":1,\"jti\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"expires_at\":2}\n";
    let rest = fs::read_to_string(journal).unwrap();
    fs::write(journal, line.repeat(15_000) + &rest).unwrap();
}

/// Returns the bytes that all files of the installation take.
fn held(binary: &Binary) -> u64 {
    let files = fs::read_dir(binary.data_dir()).unwrap();
    let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
    blocks.sum::<u64>() * 512
}

#[test]
fn f06_while_no_write_gets_through_the_server_is_not_ready() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let guest = server.guest();
    becomes_ready(&server);
    faults.fail(&[Call::Write], Errno::Enospc, "-wal");
    let answer = server.send(&refresh(&guest.refresh_token));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    becomes_unready(&server);
    faults.heal();
    becomes_ready(&server);
    server.send(&refresh(&guest.refresh_token)).tokens();
}

#[test]
fn f06_a_file_that_was_moved_deleted_or_replaced_is_a_503_until_it_is_back() {
    for ending in ["", "-wal", "-shm"] {
        let (binary, _faults) = installation();
        let server = binary.serve();
        let guest = server.guest();
        becomes_ready(&server);
        let file = format!("guestpass.db{ending}");
        let file = binary.data_dir().join(file);
        let away = binary.working_dir().join("away");
        fs::rename(&file, &away).unwrap();
        becomes_unready(&server);
        // Whoever doesn't ask is told as well: it would be lost at the next start.
        let answer = server.send(&refresh(&guest.refresh_token));
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{ending}");
        fs::copy(&away, &file).unwrap();
        assert!(!is_ready(&server), "{ending}");
        fs::rename(&away, &file).unwrap();
        becomes_ready(&server);
        server.send(&refresh(&guest.refresh_token)).tokens();
        let log = server.log();
        assert!(
            log.contains("was moved or deleted under the server"),
            "{log}"
        );
    }
}

#[test]
fn f06_a_journal_on_a_full_disk_of_its_own_is_not_ready() {
    let (binary, faults) = installation();
    let server = binary.serve();
    becomes_ready(&server);
    // Nobody has tried to append.
    faults.fail(&[Call::Write], Errno::Enospc, "-room (deleted)");
    becomes_unready(&server);
    faults.heal();
    becomes_ready(&server);
}

#[test]
fn f06_a_journal_that_could_not_be_written_is_not_ready_until_it_can() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let guest = server.guest();
    becomes_ready(&server);
    faults.fail(&[Call::Write], Errno::Eio, ".journal");
    let answer = server.send(&revoke(&guest.refresh_token));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    becomes_unready(&server);
    faults.heal();
    becomes_ready(&server);
}

#[test]
fn f06_a_damaged_database_is_not_ready() {
    let (binary, _faults) = installation();
    let server = binary.serve();
    let guests: Vec<_> = (0..50).map(|_| server.guest()).collect();
    assert!(server.stop().success());
    let file = binary.data_dir().join("guestpass.db");
    GrantsInFile::find(&file).damage(&file);
    let server = binary.serve();
    let answers = guests
        .iter()
        .map(|guest| server.send(&refresh(&guest.refresh_token)));
    let refused = answers.filter(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.count() > 0);
    becomes_unready(&server);
    let log = server.log();
    assert!(log.contains("guestpass.db is damaged"), "{log}");
}

#[test]
fn f07_a_log_that_has_filled_the_disk_gives_its_room_back() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let mut guest = server.guest();
    becomes_ready(&server);
    faults.bound(held(&binary) + 200 * 1024);
    for _ in 0..300 {
        guest = server.send(&refresh(&guest.refresh_token)).tokens();
    }
    assert!(
        server.log().contains("gave its room back"),
        "{}",
        server.log()
    );
    becomes_ready(&server);
    // So does a start, before its first write.
    faults.bound(held(&binary));
    server.kill();
    let server = binary.serve();
    becomes_ready(&server);
    server.send(&refresh(&guest.refresh_token)).tokens();
}

#[test]
fn f07_new_guests_fill_the_disk_and_known_ones_go_on() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let mut guest = server.guest();
    faults.bound(held(&binary) + 200 * 1024);
    let mut guests = 0;
    while server.send(&authorize()).status == StatusCode::OK {
        guests += 1;
        assert!(guests < 5000, "the disk is never full");
    }
    // The log has given its room to the file, where a refresh needs none.
    for _ in 0..50 {
        guest = server.send(&refresh(&guest.refresh_token)).tokens();
    }
    becomes_ready(&server);
    faults.bound(0);
    eventually("there is room for a guest", || {
        server.send(&authorize()).status == StatusCode::OK
    });
    println!("{guests} guests");
}

#[test]
fn f08_after_a_failed_sync_of_the_database_file_the_log_is_kept_and_the_server_ends() {
    for nth in 1..=3 {
        let (binary, faults) = installation();
        let server = binary.serve();
        let [erased, other] = [server.guest(), server.guest()];
        faults.fail_once(&[Call::Sync], nth, Errno::Eio, "guestpass.db");
        // An erasure has the log emptied.
        let answer = server.send(&profile(&erased.access_token).method("DELETE"));
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
        eventually("a failed sync", || faults.failed() == 1);
        let log = server.log();
        assert_eq!(server.ended().code(), Some(1), "{nth} {log}");
        assert!(fs::metadata(log_of(&binary)).unwrap().len() > 0, "{nth}");

        let server = binary.serve();
        let log = server.log();
        assert!(log.contains("could not be synced"), "{nth} {log}");
        server.send(&refresh(&other.refresh_token)).tokens();
        let answer = server.send(&refresh(&erased.refresh_token));
        assert_eq!(answer.error(), "invalid_grant", "{nth}");
        assert!(server.stop().success());
    }
}

#[test]
fn f08_a_failed_sync_of_the_log_costs_its_batch_and_no_more() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let guest = server.guest();
    let code = server.send(&authorize()).text("code");
    faults.fail_once(&[Call::Sync], 1, Errno::Eio, "-wal");
    let answer = server.send(&refresh(&guest.refresh_token));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let next = server.send(&refresh(&guest.refresh_token)).tokens();
    server.send(&exchange(&code)).tokens();
    server.kill();
    let server = binary.serve();
    server.send(&refresh(&next.refresh_token)).tokens();
    let report = binary.json(&["db", "check"]);
    assert_eq!(report["ok"], true);
}

#[test]
fn f08_a_failed_sync_of_the_journal_is_a_503_and_is_made_up_for() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let guest = server.guest();
    faults.fail_once(&[Call::Sync], 1, Errno::Eio, ".journal");
    let answer = server.send(&revoke(&guest.refresh_token));
    // It may have been tried again at once.
    if answer.status != StatusCode::OK {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    eventually("the grant is revoked", || {
        server.send(&refresh(&guest.refresh_token)).status == StatusCode::BAD_REQUEST
    });
}

#[test]
fn f09_a_full_disk_is_no_restore() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let guest = server.guest();
    faults.fail(&[Call::Write], Errno::Enospc, "-wal");
    let answer = server.send(&profile(&guest.access_token).method("DELETE"));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    faults.heal();
    eventually("the guest is erased", || {
        server.send(&refresh(&guest.refresh_token)).status == StatusCode::BAD_REQUEST
    });
    eventually("it says so", || {
        server
            .log()
            .contains("answered with 503 is carried out now")
    });
    assert!(server.stop().success());
    let server = binary.serve();
    assert!(
        !server.log().contains("as after a restore"),
        "{}",
        server.log()
    );
}

#[test]
fn f09_a_command_that_the_store_can_not_be_told_of_leaves_nothing_in_the_journal() {
    let (binary, faults) = installation();
    let server = binary.serve();
    let guest = server.guest();
    let sub = guest.sub();
    faults.fail(&[Call::Write], Errno::Enospc, "-wal");
    let problem = binary.failure(&["profile", "erase", sub]);
    assert!(problem.contains("disk is full"), "{problem}");
    faults.heal();
    assert!(server.stop().success());
    let server = binary.serve();
    server.send(&refresh(&guest.refresh_token)).tokens();
    binary.json(&["profile", "erase", sub]);
    let answer = server.send(&refresh(&guest.refresh_token));
    assert_eq!(answer.error(), "invalid_grant");
}

/// The erasure is looked at once more half a minute later, which nobody waits for.
#[test]
fn f07_a_stop_soon_after_an_erasure_leaves_no_log() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    for _ in 0..3 {
        let server = binary.serve();
        let erase = profile(&server.guest().access_token).method("DELETE");
        assert_eq!(server.send(&erase).status, StatusCode::NO_CONTENT);
        assert!(server.stop().success());
        for ending in ["-wal", "-shm"] {
            let beside = binary.data_dir().join(format!("guestpass.db{ending}"));
            assert!(!beside.exists(), "{}", beside.display());
        }
    }
}
