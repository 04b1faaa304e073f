//! Disks that are full or fail, and readiness.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::restore::has_lost;

use crate::support::{TestApp, Tokens, lines_of, profile, request, revoke};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod sqlite;

async fn ready(test: &TestApp) -> StatusCode {
    test.send(request("GET", "/readyz")).await.status
}

/// Asks a second later, by when the last answer is good no more.
async fn ready_now(test: &TestApp) -> StatusCode {
    test.clock.advance(Duration::from_secs(1));
    ready(test).await
}

async fn probes(test: &TestApp) -> i64 {
    let probes = "select coalesce(max(writes), 0) from probe";
    test.database.number(probes).await
}

#[tokio::test]
async fn f06_a_node_is_ready_once_a_write_has_become_durable() {
    let test = Arc::new(TestApp::new().await);
    assert_eq!(probes(&test).await, 0);
    assert_eq!(ready(&test).await, StatusCode::OK);
    assert_eq!(probes(&test).await, 1);
    assert_eq!(ready_now(&test).await, StatusCode::OK);
    assert_eq!(probes(&test).await, 2);
}

#[tokio::test]
async fn f06_all_who_ask_within_a_second_share_one_write() {
    let test = Arc::new(TestApp::new().await);
    let asked = || (0..20).map(|_| request("GET", "/readyz")).collect();
    for answer in test.at_once(asked()).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    test.clock.advance(Duration::from_millis(999));
    test.at_once(asked()).await;
    assert_eq!(probes(&test).await, 1);
    test.clock.advance(Duration::from_millis(1));
    test.at_once(asked()).await;
    assert_eq!(probes(&test).await, 2);
}

#[tokio::test]
async fn f06_a_node_whose_writes_fail_is_not_ready_although_it_reads() {
    let test = TestApp::new().await;
    assert_eq!(ready(&test).await, StatusCode::OK);
    test.sql("alter table probe rename to away").await;
    assert_eq!(ready(&test).await, StatusCode::OK, "within the second");
    assert_eq!(ready_now(&test).await, StatusCode::SERVICE_UNAVAILABLE);
    test.sql("alter table away rename to probe").await;
    assert_eq!(ready_now(&test).await, StatusCode::OK);
}

#[tokio::test]
async fn f06_a_journal_that_is_not_in_its_place_is_not_ready() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    let (journal, away) = (test.journal(), test.journal().with_extension("away"));
    fs::rename(&journal, &away).unwrap();
    assert_eq!(ready_now(&test).await, StatusCode::SERVICE_UNAVAILABLE);
    let answer = test.send(revoke(&guest.refresh_token)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    // What would be written to another file of that name, nobody would find.
    fs::copy(&away, &journal).unwrap();
    assert_eq!(ready_now(&test).await, StatusCode::SERVICE_UNAVAILABLE);
    fs::rename(&away, &journal).unwrap();
    assert_eq!(ready_now(&test).await, StatusCode::OK);
    // Nothing is left beside the journal by trying it.
    let beside = fs::read_dir(journal.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1);
}

/// Makes the database refuse to erase, or lets it again.
async fn refuse(test: &TestApp, refused: bool) {
    let sql = match refused {
        true => {
            "create table stuck (profile_id bigint references profiles (profile_id));
             insert into stuck select profile_id from profiles"
        }
        false => "drop table stuck",
    };
    test.sql(sql).await;
}

async fn erase(test: &TestApp, guest: &Tokens) -> StatusCode {
    let erased = profile(&guest.access_token).method("DELETE");
    test.send(erased).await.status
}

#[tokio::test]
async fn f09_what_was_answered_with_503_is_carried_out_as_soon_as_the_store_can_be_written() {
    let test = TestApp::new().await;
    let [first, second, other] = [test.guest().await, test.guest().await, test.guest().await];
    refuse(&test, true).await;
    for guest in [&first, &second] {
        assert_eq!(erase(&test, guest).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    test.app.tend_storage().await;
    // On PostgreSQL their grants go first.
    assert_eq!(test.count("profiles").await, 3);

    refuse(&test, false).await;
    test.app.tend_storage().await;
    for guest in [&first, &second] {
        assert!(!test.is_live(guest).await);
    }
    assert!(test.is_live(&other).await);
    // Each stands in the journal once, however often it was tried.
    assert_eq!(test.journaled().len(), 2);
    let said = lines_of("answered with 503 is carried out now");
    assert!(said.iter().any(|line| line["what"] == "a guest was erased"));
    // Nothing is left for a restart to do.
    assert!(!has_lost(&*test.store, &test.journal()).await.unwrap());
}

#[tokio::test]
async fn f09_what_the_journal_could_not_take_is_carried_out_as_soon_as_it_can() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    let (journal, away) = (test.journal(), test.journal().with_extension("away"));
    fs::rename(&journal, &away).unwrap();
    let answer = test.send(revoke(&guest.refresh_token)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    fs::rename(&away, &journal).unwrap();
    test.app.tend_storage().await;
    assert!(!test.is_live(&guest).await);
    assert_eq!(test.journaled().len(), 1);
}
