//! The same with the real binary, by the file of the embedded store.

use std::fs;
use std::path::Path;

use axum::http::StatusCode;

use crate::support::binary::Binary;
use crate::support::{ISSUER, SHOP, profile, refresh, revoke, verify};

/// Puts a backup where the database is, whose server has ended.
fn put_back(backup: &Path, database: &Path) {
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", database.display()));
    }
    fs::copy(backup, database).unwrap();
}

#[test]
fn a_server_repeats_what_its_database_has_lost() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let serve = || binary.serve_with(&["--issuer", ISSUER]);
    let server = serve();
    let [erased, revoked, alone, live] = [
        server.guest(),
        server.guest(),
        server.guest(),
        server.guest(),
    ];
    assert!(server.stop().success());
    let database = binary.data_dir().join("guestpass.db");
    let backup = binary.working_dir().join("backup.db");
    fs::copy(&database, &backup).unwrap();

    let server = serve();
    let done = |status, request| assert_eq!(server.send(&request).status, status);
    done(
        StatusCode::NO_CONTENT,
        profile(&erased.access_token).method("DELETE"),
    );
    done(StatusCode::OK, revoke(&revoked.refresh_token));
    done(StatusCode::OK, revoke(&alone.access_token));
    assert!(!server.log().contains("went back"), "{}", server.log());
    assert!(server.stop().success());
    put_back(&backup, &database);

    let server = serve();
    let log = server.log();
    assert!(
        log.contains("erasures and revocations were repeated"),
        "{log}"
    );
    for tokens in [&erased, &revoked] {
        assert_eq!(
            server.send(&refresh(&tokens.refresh_token)).error(),
            "invalid_grant"
        );
        let answer = server.send(&verify(&tokens.access_token));
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let answer = server.send(&verify(&alone.access_token));
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    server.send(&refresh(&alone.refresh_token)).tokens();
    assert_eq!(
        server.send(&verify(&live.access_token)).status,
        StatusCode::OK
    );
    assert!(server.stop().success());

    // Once is enough.
    let repeated = |log: &str| {
        log.matches("erasures and revocations were repeated")
            .count()
    };
    assert_eq!(repeated(&serve().log()), 1);
    let report = binary.json(&["db", "check"]);
    assert_eq!(report["profiles"], 3);
}
