//! The statements are ones that a sharded engine can run: a request touches one guest, each statement is a transaction
//! of its own, and what looks beyond one guest takes bounded parts.

use guestpass_core::client::{ClientSettings, Permission};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::StatusCode;

use crate::support::{
    DAY, Overheard, Sent, Statement, TestApp, WRONG_VERIFIER, authorize, config, exchange,
    introspect, link, profile, refresh, revoke, until, verify,
};

mod shape;

const BACK_END: &str = "back-end";

/// The most rows that a statement may read which looks beyond one guest.
const MOST: i64 = 10_000;

/// Returns the numbers of statements since the last call that read and that wrote. Checks that all touch one guest,
/// each in a transaction of its own.
fn asked(overheard: &Overheard) -> (usize, usize) {
    let statements = overheard.take();
    let mut guests = Vec::new();
    for statement in &statements {
        let Statement { sql, .. } = statement;
        assert!(!statement.in_transaction, "in a transaction: {sql}");
        assert_eq!(shape::refused_word(sql), None, "{sql}");
        let key = shape::key(sql).unwrap_or_else(|why| panic!("{why}: {sql}"));
        if key.column == "profile_id" {
            guests.push(statement.number(key.parameter));
        }
    }
    guests.dedup();
    assert!(guests.len() <= 1, "{guests:?} in {statements:#?}");
    let reads = statements
        .iter()
        .filter(|statement| statement.sql.starts_with("select "))
        .count();
    (reads, statements.len() - reads)
}

/// Starts a server without batches, as on a sharded engine, with a confidential client that may resume.
async fn server() -> (TestApp, Overheard, String) {
    let (test, overheard) = TestApp::overheard(config(&[
        ("postgres.batch", "1"),
        ("events.record", "true"),
    ]))
    .await;
    let key = test.add_confidential_client(BACK_END).await;
    let resumes = ClientSettings {
        resume_with_jwt: Some(true),
        may: Some(vec![Permission::Link]),
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, resumes).await;
    until(async || overheard.is_settled()).await;
    overheard.take();
    (test, overheard, key)
}

fn by_back_end(request: Sent, key: &str) -> Sent {
    request.set("client_id", BACK_END).header("x-api-key", key)
}

#[tokio::test]
async fn a_code_and_its_tokens_take_one_read_and_one_write_each() {
    let (test, overheard, _) = server().await;
    let code = test.code("shop").await;
    assert_eq!(asked(&overheard), (0, 1), "authorize");
    let wrong = exchange(&code).set("code_verifier", WRONG_VERIFIER);
    test.send(wrong).await;
    assert_eq!(asked(&overheard), (1, 1), "a wrong verifier");
    let first = test.granted(exchange(&code)).await.refresh_token;
    assert_eq!(asked(&overheard), (1, 1), "an exchange");
    test.granted(refresh(&first)).await;
    assert_eq!(asked(&overheard), (1, 1), "a refresh");
    test.granted(refresh(&first)).await;
    assert_eq!(asked(&overheard), (1, 0), "a retry at once");
    test.clock.advance(DAY);
    let third = test.granted(refresh(&first)).await.refresh_token;
    assert_eq!(asked(&overheard), (1, 1), "a late retry");
    test.granted(refresh(&third)).await;
    assert_eq!(asked(&overheard), (1, 1), "the next refresh");
    test.clock.advance(DAY);
    let replayed = test.send(refresh(&first)).await;
    assert_eq!(replayed.error(), "invalid_grant");
    assert_eq!(asked(&overheard), (1, 1), "a replay");
    test.send(refresh(&third)).await;
    assert_eq!(asked(&overheard), (1, 0), "a refresh of what has ended");

    let code = test.code("shop").await;
    test.granted(exchange(&code)).await;
    asked(&overheard);
    test.send(exchange(&code)).await;
    assert_eq!(asked(&overheard), (1, 1), "a replayed code");
}

#[tokio::test]
async fn what_is_asked_about_a_token_reads_rows_of_its_guest_alone() {
    let (test, overheard, key) = server().await;
    let guest = test.guest().await;
    asked(&overheard);
    test.send(verify(&guest.access_token)).await;
    assert_eq!(asked(&overheard), (0, 0), "verify");
    for token in [&guest.access_token, &guest.refresh_token] {
        let told = test.send(by_back_end(introspect(token), &key)).await;
        assert_eq!(told.status, StatusCode::OK, "{told:?}");
        let (reads, writes) = asked(&overheard);
        assert!((1..=3).contains(&reads) && writes == 0, "introspection");
    }
    let shown = test.send(profile(&guest.access_token)).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert_eq!(asked(&overheard), (5, 0), "a look at the profile");

    test.send(revoke(&guest.access_token)).await;
    assert_eq!(asked(&overheard), (2, 1), "an access token ends");
    test.send(verify(&guest.access_token)).await;
    assert_eq!(asked(&overheard), (1, 0), "verify of what may have ended");
    test.send(revoke(&guest.refresh_token)).await;
    assert_eq!(asked(&overheard), (1, 1), "a refresh token ends");
}

#[tokio::test]
async fn a_link_and_its_end_change_one_guest() {
    let (test, overheard, key) = server().await;
    let told = ClientSettings {
        claims: Some(vec!["customer".parse().unwrap()]),
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, told).await;
    let guest = test.guest().await;
    until(async || overheard.is_settled()).await;
    overheard.take();
    let link = by_back_end(link(&guest.access_token, "x"), &key);
    for (sent, expected, what) in [
        // The guest, then what its grants repeat.
        (link.clone(), (4, 2), "a link"),
        (link.clone(), (6, 0), "a link that is there"),
        (link.clone().path("/oauth/unlink"), (6, 3), "its end"),
        (link.path("/oauth/unlink"), (6, 0), "no link"),
        (
            by_back_end(introspect(&guest.access_token), &key),
            (4, 0),
            "introspection by a client that is told",
        ),
    ] {
        let answer = test.send(sent).await;
        assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
        assert_eq!(asked(&overheard), expected, "{what}");
    }
}

#[tokio::test]
async fn a_known_guest_comes_back_and_goes_as_one_guest() {
    let (test, overheard, key) = server().await;
    let code = test.send(by_back_end(authorize(), &key)).await.text("code");
    let guest = test.granted(by_back_end(exchange(&code), &key)).await;
    asked(&overheard);
    let again = by_back_end(authorize(), &key).header("x-dressipi-jwt", &guest.access_token);
    let code = test.send(again).await.text("code");
    // The guest is marked, then given a grant.
    assert_eq!(asked(&overheard), (5, 2), "authorize with a token");
    let resumed = test.granted(by_back_end(exchange(&code), &key)).await;
    assert_eq!(resumed.sub(), guest.sub());
    asked(&overheard);
    let erase = profile(&guest.access_token).method("DELETE");
    assert_eq!(test.send(erase).await.status, StatusCode::NO_CONTENT);
    // Its grants and events, the guest with the event of its end, what was being inserted beside it, then the tombstone, and once
    // more the rows.
    assert_eq!(asked(&overheard), (3, 7), "an erasure");
}

#[tokio::test]
async fn refreshes_that_wait_together_take_one_read_and_one_write() {
    const GUESTS: usize = 32;
    let (test, overheard) = TestApp::overheard(config(&[])).await;
    let test = Arc::new(test);
    let mut refreshes = Vec::new();
    for _ in 0..GUESTS {
        refreshes.push(refresh(&test.guest().await.refresh_token));
    }
    overheard.take();
    for answer in test.at_once(refreshes).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let statements = overheard.take();
    let statements = statements
        .iter()
        .filter(|statement| shape::is_of_guests(&statement.sql));
    let (reads, writes): (Vec<_>, Vec<_>) = statements.partition(|s| s.sql.starts_with("select "));
    assert_eq!(
        (reads.len(), writes.len()),
        (1, 1),
        "{reads:#?} {writes:#?}"
    );
    assert_eq!((reads[0].length(1), writes[0].length(1)), (GUESTS, GUESTS));
}

#[tokio::test]
async fn what_looks_beyond_one_guest_takes_bounded_parts() {
    let settings = config(&[("postgres.batch", "8"), ("postgres.connections", "8")]);
    let (test, overheard) = TestApp::overheard(settings).await;
    let test = Arc::new(test);
    test.at_once(vec![authorize(); 64]).await;
    let revoked = test.guest().await;
    test.send(revoke(&revoked.access_token)).await;
    test.send(revoke(&revoked.refresh_token)).await;
    test.app.follow().await;
    test.clock.advance(400 * DAY);
    test.clean().await;
    // A guest who has redeemed a code stays, though all its grants have ended.
    assert_eq!(test.counts().await, (1, 0));
    let mut batches = 0;
    for statement in overheard.take() {
        let Statement { sql, .. } = &statement;
        assert_eq!(shape::refused_word(sql), None, "{sql}");
        if shape::key(sql).is_ok() || !shape::is_of_guests(sql) {
            continue;
        }
        let most = match shape::bound(sql) {
            Some(shape::Bound::Limit(rows)) => rows,
            Some(shape::Bound::LimitOf(parameter)) => statement.number(parameter),
            Some(shape::Bound::LengthOf(parameter)) => {
                batches += 1;
                statement.length(parameter).try_into().unwrap()
            }
            None => panic!("without a bound: {sql}"),
        };
        assert!(most <= MOST, "{most} rows by {sql}");
    }
    assert!(batches > 0, "nothing was sent together");
}

/// Collects all files under a directory.
fn files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            self::files(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn no_statement_says_what_a_sharded_engine_lacks() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![server.join("src/store/postgres.rs")];
    files(&server.join("src/store/postgres"), &mut all);
    files(&server.join("migrations/postgres"), &mut all);
    let mut statements = 0;
    for file in all {
        let text = fs::read_to_string(&file).unwrap();
        let is_sql = file.extension().is_some_and(|extension| extension == "sql");
        let said = if is_sql {
            vec![shape::without_comments(&text)]
        } else {
            shape::literals(&text)
        };
        statements += said.len();
        for sql in said {
            let word = shape::refused_word(&sql);
            // No request migrates or copies, and there one program has to wait for another.
            let no_request = ["schema.rs", "transfer.rs"]
                .iter()
                .any(|name| file.ends_with(name));
            assert!(
                word.is_none() || (no_request && word == Some("for update")),
                "{word:?} in {}: {sql}",
                file.display()
            );
        }
    }
    assert!(statements > 60, "{statements} were found");
}

#[test]
fn statements_that_touch_more_are_refused() {
    for sql in [
        "select 1 from grants",
        "select 1 from grants where grant_id = $1",
        "select 1 from grants where profile_id = $1 or generation = 0",
        "select 1 from grants where profile_id > $1",
        "select 1 from grants where profile_id = 1",
        "select 1 from grants join profiles using (profile_id) where profile_id = $1",
        "select 1 from clients where profile_id = $1",
        "select 1 from tombstones where erased_at = $1",
        "update grants set strikes = 0",
        "update grants set strikes = 0 from profiles where profile_id = $1",
        "delete from grants where profile_id in (select profile_id from profiles)",
        "delete from grants using profiles where profile_id = $1",
        "insert into grants (grant_id, profile_id) values ($1, $2)",
        "insert into grants (profile_id) select client_number from profiles where profile_id = $1",
        "insert into grants (profile_id) select profile_id from profiles",
        "with gone as (delete from grants where profile_id = $1) delete from profiles where profile_id = $2",
        "start transaction",
        "commit",
        "truncate grants",
    ] {
        assert!(shape::key(sql).is_err(), "{sql}");
    }
    for sql in [
        "create table a (b bigint references c)",
        "create table a (b BIGSERIAL)",
        "select nextval('a')",
        "select pg_advisory_xact_lock(1)",
        "select 1 from grants where profile_id = $1 for  update",
        "select * from grants",
        "delete from grants returning *",
        "listen a",
        "savepoint a",
    ] {
        assert!(shape::refused_word(sql).is_some(), "{sql}");
    }
    assert!(shape::bound("select 1 from grants where generation = 0").is_none());
}
