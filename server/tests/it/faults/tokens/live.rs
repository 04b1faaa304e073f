//! An access token is live while it hasn't expired and neither it, its grant nor its guest has been ended: all who can
//! be asked agree on that. Its guest can do with it what is the guest's right.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::client::{Change, ClientSettings};
use guestpass_core::policy::{Policy, PolicyOverrides};
use serde_json::json;

use crate::support::{
    Answer, DAY, SHOP, Sent, TestApp, Tokens, exchange, introspect, profile, refresh, revoke,
    verify,
};

const API: &str = "api";

fn erase(access_token: &str) -> Sent {
    profile(access_token).method("DELETE")
}

/// Returns a server, with a confidential client to introspect, whose key is returned too.
async fn server(policy: Policy) -> (TestApp, String) {
    let test = TestApp::with_policy(policy).await;
    let key = test.add_confidential_client(API).await;
    (test, key)
}

/// Returns whether forward authentication, introspection and the profile take an access token.
async fn takes((test, key): &(TestApp, String), tokens: &Tokens) -> [bool; 3] {
    test.app.follow().await;
    let token = &tokens.access_token;
    let ask = introspect(token).set("client_id", API);
    let told = test.send(ask.header("x-api-key", key)).await;
    assert_eq!(told.status, StatusCode::OK, "{told:?}");
    let passes = |answer: Answer| match answer.status {
        StatusCode::OK => true,
        StatusCode::UNAUTHORIZED => false,
        _ => panic!("{answer:?}"),
    };
    [
        passes(test.send(verify(token)).await),
        told.json()["active"] == true,
        passes(test.send(profile(token)).await),
    ]
}

async fn erased(server: &(TestApp, String), tokens: &Tokens) {
    let (test, _) = server;
    let answer = test.send(erase(&tokens.access_token)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
    assert_eq!(takes(server, tokens).await, [false; 3]);
    let sub = tokens.sub();
    for table in ["profiles", "grants"] {
        let left = format!("select count(*) from {table} where profile_id = {sub}");
        assert_eq!(test.database.number(&left).await, 0, "{table}");
    }
}

#[tokio::test]
async fn f32_an_access_token_ends_with_its_grant() {
    let server = server(Policy {
        refresh_max: Duration::from_millis(100_900),
        ..Policy::default()
    })
    .await;
    let (test, _) = &server;
    let lives = |tokens: &Tokens| {
        tokens.claims["exp"].as_i64().unwrap() - tokens.claims["iat"].as_i64().unwrap()
    };
    // `Answer::tokens` compares it with `expires_in`.
    let first = test.guest().await;
    assert_eq!(lives(&first), 100);
    test.clock.advance_secs(60);
    let second = test.granted(refresh(&first.refresh_token)).await;
    assert_eq!(lives(&second), 40);
    let repeated = test.granted(refresh(&first.refresh_token)).await;
    assert_eq!(lives(&repeated), 40);
    test.clock.advance(Duration::from_millis(40_500));
    let last = test.granted(refresh(&second.refresh_token)).await;
    assert_eq!(lives(&last), 0);
    for tokens in [&first, &second, &last] {
        assert_eq!(takes(&server, tokens).await, [true; 3]);
    }
    // Clocks differ by a few seconds.
    test.clock.advance_secs(5);
    for tokens in [&first, &second, &last] {
        assert_eq!(takes(&server, tokens).await, [false; 3]);
    }
}

#[tokio::test]
async fn f32_a_token_of_a_grant_that_was_not_refreshed_in_time_is_good_everywhere() {
    let server = server(Policy {
        refresh_idle: Duration::from_secs(3),
        ..Policy::default()
    })
    .await;
    let (test, _) = &server;
    let (alone, tokens) = (test.guest().await, test.guest().await);
    test.clock.advance_secs(4);
    test.refused(refresh(&tokens.refresh_token), "invalid_grant")
        .await;
    assert_eq!(takes(&server, &tokens).await, [true; 3]);
    let told = test.send(profile(&tokens.access_token)).await.json();
    assert_eq!(
        (&told["sub"], &told["grants"]),
        (&json!(tokens.sub()), &json!([]))
    );
    // Until the end of the token, cleaning included.
    test.clock.advance(DAY - Duration::from_secs(10));
    test.clean().await;
    assert_eq!(takes(&server, &tokens).await, [true; 3]);
    test.send(revoke(&alone.access_token)).await;
    assert_eq!(takes(&server, &alone).await, [false; 3]);
    erased(&server, &tokens).await;
}

#[tokio::test]
async fn f32_a_disabled_clients_guest_can_see_and_erase_itself() {
    let server = server(Policy::default()).await;
    let (test, _) = &server;
    let (tokens, revoked, other) = (test.guest().await, test.guest().await, test.guest().await);
    test.send(revoke(&revoked.access_token)).await;
    test.disable_client(SHOP, true).await;
    assert_eq!(takes(&server, &tokens).await, [false, false, true]);
    assert_eq!(takes(&server, &revoked).await, [false; 3]);
    let refused = test.send(erase(&revoked.access_token)).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    erased(&server, &tokens).await;
    test.disable_client(SHOP, false).await;
    assert_eq!(takes(&server, &tokens).await, [false; 3]);
    assert_eq!(takes(&server, &other).await, [true; 3]);
}

#[tokio::test]
async fn f32_a_removed_clients_guest_can_see_and_erase_itself() {
    let server = server(Policy::default()).await;
    let (test, _) = &server;
    let (cleaned, again, tokens) = (test.guest().await, test.guest().await, test.guest().await);
    test.change(Change::RemoveClient(SHOP.parse().unwrap()))
        .await;
    assert_eq!(takes(&server, &tokens).await, [false, false, true]);
    erased(&server, &tokens).await;
    // Also when the cleaner has removed the grants of a client that is gone.
    test.clean().await;
    assert_eq!(test.count("grants").await, 0);
    assert_eq!(takes(&server, &cleaned).await, [false, false, true]);
    erased(&server, &cleaned).await;
    // Also when another client has its name.
    test.add_client(SHOP, ClientSettings::default()).await;
    erased(&server, &again).await;
}

/// As SECURITY.md says.
#[tokio::test]
async fn f67_a_new_client_under_an_old_id_inherits_the_access_tokens() {
    let server = server(Policy::default()).await;
    let (test, _) = &server;
    let tokens = test.guest().await;
    test.change(Change::RemoveClient(SHOP.parse().unwrap()))
        .await;
    test.add_client(SHOP, ClientSettings::default()).await;
    assert_eq!(test.send(verify(&tokens.access_token)).await.status, 200);
    test.refused(refresh(&tokens.refresh_token), "invalid_grant")
        .await;
}

#[tokio::test]
async fn f32_a_row_that_a_restore_has_lost_ends_nothing() {
    let server = server(Policy::default()).await;
    let (test, _) = &server;
    let (tokens, lost, revoked) = (test.guest().await, test.guest().await, test.guest().await);
    test.send(revoke(&revoked.refresh_token)).await;
    test.sql("delete from grants").await;
    let delete = format!("delete from profiles where profile_id = {}", lost.sub());
    test.sql(&delete).await;
    assert_eq!(takes(&server, &tokens).await, [true; 3]);
    assert_eq!(takes(&server, &revoked).await, [false; 3]);
    // Of a guest that nobody knows there is nothing to show; to have it erased is no error.
    assert_eq!(takes(&server, &lost).await, [true, true, false]);
    for tokens in [&tokens, &lost] {
        erased(&server, tokens).await;
    }
}

#[tokio::test]
async fn f32_a_shorter_life_of_one_clients_grants_shortens_its_tokens() {
    let server = server(Policy::default()).await;
    let (test, _) = &server;
    let short = ClientSettings {
        overrides: PolicyOverrides {
            refresh_max: Some(Duration::from_secs(60)),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    test.add_client("short", short).await;
    let code = test.code("short").await;
    let tokens = test
        .granted(exchange(&code).set("client_id", "short"))
        .await;
    assert_eq!(
        tokens.claims["exp"].as_i64().unwrap() - tokens.claims["iat"].as_i64().unwrap(),
        60
    );
}
