//! A start recognises what is there, and refuses to go on with a part of an installation.

use std::fs;

use axum::http::StatusCode;

use crate::support::binary::Binary;
use crate::support::{SHOP, Tokens, refresh, revoke};

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

/// An installation that was served: a guest stayed, and what another had was revoked.
fn served() -> (Binary, Tokens) {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let [guest, revoked] = [server.guest(), server.guest()];
    assert_eq!(
        server.send(&revoke(&revoked.refresh_token)).status,
        StatusCode::OK
    );
    assert!(server.stop().success());
    (binary, guest)
}

#[test]
fn f10_a_database_that_has_lost_a_part_is_refused() {
    for (loss, what, to_do) in [
        ("delete from keys", "keys", "db migrate --new"),
        (
            "delete from keys; update installation set master_key_check = null",
            "keys",
            "db migrate --new",
        ),
        ("delete from clients", "clients", "client add"),
        ("delete from journal_marks", "journal", "db migrate --new"),
    ] {
        let (binary, _) = served();
        binary.sql(loss);
        let problem = binary.failure(SERVE);
        for part in [what, to_do, "backup"] {
            assert!(problem.contains(part), "{loss}: {problem}");
        }
        assert_eq!(binary.failure(SERVE), problem, "a refusal changes nothing");
    }
}

/// The journal has only marks, but the database has had a client.
#[test]
fn f10_a_database_whose_clients_are_gone_is_refused() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    server.guest();
    assert!(server.stop().success());
    binary.sql("delete from clients");
    let problem = binary.failure(SERVE);
    for part in ["clients", "client add", "backup"] {
        assert!(problem.contains(part), "{problem}");
    }
    binary.json(&["client", "add", "another"]);
    assert!(binary.serve().stop().success());
}

#[test]
fn f10_a_new_installation_may_be_served_before_it_has_clients() {
    let binary = Binary::new();
    for _ in 0..2 {
        assert!(binary.serve().stop().success());
    }
    binary.json(&["client", "add", SHOP]);
    binary.serve().guest();
}

/// A mark that the database wasn't given when the process ended proves nothing.
#[test]
fn f10_a_first_start_that_was_cut_off_is_begun_again() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    assert!(server.stop().success());
    binary.sql("delete from journal_marks");
    let path = binary.data_dir().join("guestpass.journal");
    let journal = fs::read_to_string(&path).unwrap();
    let cut = journal.find("{\"event\":\"mark_stored\"").unwrap();
    fs::write(&path, &journal[..cut]).unwrap();
    let server = binary.serve();
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

mod sqlite {
    use super::*;

    fn refused(binary: &Binary, parts: &[&str]) {
        for command in [SERVE, &["db", "migrate"], &["client", "add", "another"]] {
            let problem = binary.failure(command);
            for part in parts {
                assert!(problem.contains(part), "{command:?}: {problem}");
            }
        }
    }

    #[test]
    fn f10_an_emptied_database_is_no_new_installation() {
        for is_removed in [false, true] {
            let (binary, guest) = served();
            let (database, journal) = (
                binary.data_dir().join("guestpass.db"),
                binary.data_dir().join("guestpass.journal"),
            );
            let whole = fs::read(&database).unwrap();
            let said = fs::read_to_string(&journal).unwrap();
            match is_removed {
                true => fs::remove_file(&database).unwrap(),
                false => fs::write(&database, "").unwrap(),
            }
            let named = [&database, &journal].map(|path| path.to_str().unwrap());
            refused(&binary, &[named[0], named[1], "backup", "db migrate --new"]);

            // The backup comes back, and all is well.
            let left = fs::metadata(&database).map(|found| found.len());
            assert_eq!(left.ok(), (!is_removed).then_some(0));
            fs::write(&database, whole).unwrap();
            let server = binary.serve();
            server.send(&refresh(&guest.refresh_token)).tokens();
            assert!(server.stop().success());

            // Or whoever wants to begins anew, and what the journal says stays there.
            fs::remove_file(&database).unwrap();
            binary.json(&["db", "migrate", "--new"]);
            assert!(binary.failure(SERVE).contains("client add"));
            binary.json(&["client", "add", SHOP]);
            let server = binary.serve();
            server.guest();
            let refused = server.send(&refresh(&guest.refresh_token));
            assert_eq!(refused.error(), "invalid_grant");
            assert!(fs::read_to_string(&journal).unwrap().starts_with(&said));
        }
    }

    #[test]
    fn f10_a_master_key_or_a_log_without_its_database_is_refused() {
        // The master key alone, beside a database that holds nothing any more.
        let (binary, _) = served();
        fs::remove_file(binary.data_dir().join("guestpass.journal")).unwrap();
        fs::write(binary.data_dir().join("guestpass.db"), "").unwrap();
        refused(&binary, &["guestpass.db", "master.key", "backup"]);

        // The log alone: SQLite would empty it.
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let server = binary.serve();
        server.guest();
        server.kill();
        let [database, log] =
            ["guestpass.db", "guestpass.db-wal"].map(|name| binary.data_dir().join(name));
        let before = fs::read(&log).unwrap();
        assert!(!before.is_empty());
        for is_removed in [false, true] {
            match is_removed {
                true => fs::remove_file(&database).unwrap(),
                false => fs::write(&database, "").unwrap(),
            }
            refused(&binary, &["guestpass.db", log.to_str().unwrap()]);
            assert!(
                binary
                    .failure(&["db", "migrate", "--new"])
                    .contains("move the log away")
            );
            assert!(fs::read(&log).unwrap() == before);
        }
    }
}
