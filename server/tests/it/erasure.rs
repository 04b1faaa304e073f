//! A guest is erased whole, or not yet: whatever fails, and whatever is restored.

use axum::http::StatusCode;
use guestpass::journal::Journal;
use guestpass::restore::{has_lost, replay};
use guestpass_core::time::Timestamp;

use crate::support::{TestApp, Tokens, refresh, request};

/// Makes the database refuse to delete guests, or lets it again.
async fn keep_guests(test: &TestApp, kept: bool) {
    let sql = match kept {
        true => {
            "create table stuck (profile_id bigint references profiles (profile_id));
             insert into stuck select profile_id from profiles"
        }
        false => "drop table stuck",
    };
    test.sql(sql).await;
}

async fn erase(test: &TestApp, tokens: &Tokens) -> StatusCode {
    let request = request("DELETE", "/oauth/profile").bearer(&tokens.access_token);
    test.send(request).await.status
}

#[tokio::test]
async fn an_erasure_that_failed_can_be_asked_for_again() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    keep_guests(&test, true).await;
    assert_eq!(erase(&test, &tokens).await, StatusCode::SERVICE_UNAVAILABLE);
    keep_guests(&test, false).await;
    assert_eq!(erase(&test, &tokens).await, StatusCode::NO_CONTENT);
    assert_eq!(test.counts().await, (0, 0));
    assert!(!test.is_live(&tokens).await);
}

#[tokio::test]
async fn a_replay_that_was_cut_off_is_begun_again() {
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let backup = "create table a as select * from profiles; create table b as select * from grants";
    test.sql(backup).await;
    assert_eq!(erase(&test, &tokens).await, StatusCode::NO_CONTENT);
    let restore = "insert into profiles select * from a; insert into grants select * from b; delete from tombstones";
    test.sql(restore).await;

    let entries = Journal::read(&test.journal()).unwrap();
    let keys = test.app.keys().now();
    keep_guests(&test, true).await;
    replay(&*test.store, &entries, &keys, drop)
        .await
        .unwrap_err();
    assert!(has_lost(&*test.store, &entries, NOW).await.unwrap());
    keep_guests(&test, false).await;
    let done = replay(&*test.store, &entries, &keys, drop).await.unwrap();
    assert_eq!(done.guests, 1);
    assert!(!has_lost(&*test.store, &entries, NOW).await.unwrap());
    test.refused(refresh(&tokens.refresh_token), "invalid_grant")
        .await;
}
