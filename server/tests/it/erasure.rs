//! A guest is erased whole, or not yet: whatever fails, and whatever is restored.

use axum::http::StatusCode;
use guestpass::restore::{catch_up, has_lost};

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
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let backup = "create table a as select * from profiles; create table b as select * from grants";
    test.sql(backup).await;
    assert_eq!(erase(&test, &tokens).await, StatusCode::NO_CONTENT);
    let restore = "insert into profiles select * from a; insert into grants select * from b; delete from tombstones";
    test.sql(restore).await;

    let (journal, keys) = (test.journal(), test.app.keys().now());
    let recorder = test.recorder();
    let again = async || catch_up(&*test.store, &journal, 0, &keys, &recorder).await;
    keep_guests(&test, true).await;
    again().await.unwrap_err();
    assert!(has_lost(&*test.store, &journal).await.unwrap());
    keep_guests(&test, false).await;
    assert_eq!(again().await.unwrap().guests, 1);
    assert!(!has_lost(&*test.store, &journal).await.unwrap());
    test.refused(refresh(&tokens.refresh_token), "invalid_grant")
        .await;
}
