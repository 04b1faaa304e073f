//! The node's view of revocations at forward authentication: its sources, its staleness, and the refusal to answer when
//! it is too stale.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::client::ClientSettings;
use guestpass_core::policy::PolicyOverrides;

use super::{ask, refused};
use crate::support::{Answer, DAY, SHOP, Sent, TestApp, Tokens, config, exchange, revoke, verify};

/// Takes away the tables that tell what was revoked, or gives them back.
async fn break_store(test: &TestApp, broken: bool) {
    for table in ["grants", "revoked_access_tokens", "tombstones"] {
        let (from, to) = match broken {
            true => (table.to_owned(), format!("{table}_elsewhere")),
            false => (format!("{table}_elsewhere"), table.to_owned()),
        };
        let rename = format!("alter table {from} rename to {to}");
        test.sql(&rename).await;
    }
}

async fn status(test: &TestApp, request: Sent) -> StatusCode {
    test.send(request).await.status
}

fn unavailable(answer: &Answer) {
    let outcome = (answer.status, answer.error());
    let expected = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
    assert_eq!(outcome, expected, "{answer:?}");
    assert_eq!(answer.header("x-guestpass-sub"), None);
}

#[tokio::test]
async fn c166_without_a_database_nobody_new_is_trusted() {
    let test = TestApp::new().await;
    let (live, ended) = (test.guest().await, test.guest().await);
    test.send(revoke(&ended.refresh_token)).await;
    break_store(&test, true).await;
    // The view is good for a while, during which no read is needed.
    test.clock.advance_secs(10);
    test.app.follow().await;
    assert_eq!(status(&test, verify(&live.access_token)).await, 200);
    // A hit in the filter may be false, so the row decides.
    unavailable(&test.send(verify(&ended.access_token)).await);
    test.clock.advance(Duration::from_millis(1));
    test.app.follow().await;
    for token in [&live.access_token, &ended.access_token] {
        unavailable(&test.send(verify(token)).await);
        unavailable(&test.send(verify(token).set("mode", "soft")).await);
    }
    // A request without a token, or with one of another issuer, is refused without the database.
    refused(&test, ask()).await;
    refused(&test, verify("garbage")).await;
    break_store(&test, false).await;
    test.app.follow().await;
    assert_eq!(status(&test, verify(&live.access_token)).await, 200);
    refused(&test, verify(&ended.access_token)).await;
}

#[tokio::test]
async fn c166_signature_only_is_never_open() {
    let test = TestApp::with_config(config(&[("verify.when_stale", "signature-only")])).await;
    let (live, ended) = (test.guest().await, test.guest().await);
    test.send(revoke(&ended.refresh_token)).await;
    break_store(&test, true).await;
    test.clock.advance_secs(3600);
    test.app.follow().await;
    assert_eq!(status(&test, verify(&live.access_token)).await, 200);
    refused(&test, ask()).await;
    refused(&test, verify("garbage")).await;
    // A revocation that this node has seen stays in force.
    unavailable(&test.send(verify(&ended.access_token)).await);
    test.clock.advance(DAY);
    refused(&test, verify(&live.access_token)).await;
}

#[tokio::test]
async fn what_is_known_grows_old_by_the_time_that_passes() {
    let test = TestApp::with_config(config(&[("verify.max_staleness", "1m")])).await;
    let token = test.guest().await.access_token;
    test.clock.advance_secs(60);
    assert_eq!(status(&test, verify(&token)).await, 200);
    test.clock.advance_secs(1);
    unavailable(&test.send(verify(&token)).await);
    refused(&test, ask()).await;
    // Setting the clock back doesn't make it younger.
    test.clock.jump(-50_000);
    unavailable(&test.send(verify(&token)).await);
    test.app.follow().await;
    assert_eq!(status(&test, verify(&token)).await, 200);
}

#[tokio::test]
async fn what_ended_elsewhere_is_known_after_the_next_look() {
    let here = TestApp::new().await;
    let there = here.beside(config(&[])).await;
    let [by_refresh, by_access, erased] =
        [here.guest().await, here.guest().await, here.guest().await];
    let bystander = there.guest().await;
    there.send(revoke(&by_refresh.refresh_token)).await;
    there.send(revoke(&by_access.access_token)).await;
    there
        .app
        .erase(erased.sub().parse().unwrap())
        .await
        .unwrap();
    for tokens in [by_refresh, by_access, erased] {
        assert!(!there.passes(&tokens.access_token).await);
        assert!(!here.passes(&tokens.access_token).await);
    }
    for test in [&here, &there] {
        assert!(test.is_live(&bystander).await);
    }
}

#[tokio::test]
async fn an_entry_of_a_slower_clock_is_not_overlooked() {
    let here = TestApp::new().await;
    let tokens = here.guest().await;
    here.app.follow().await;
    // Another process, whose clock is 59 seconds behind, ends a grant after this one has looked.
    let at = guestpass::clock::Clock::now(&*here.clock).as_millis() - 59_000;
    here.sql(&format!(
        "update grants set revoked_at = {at}, revocation_reason = 'revoked_by_client'"
    ))
    .await;
    assert!(!here.passes(&tokens.access_token).await);
}

#[tokio::test]
async fn a_restart_forgets_nothing_that_could_still_be_shown() {
    let test = TestApp::new().await;
    let [by_refresh, by_access, erased, bystander] = [
        test.guest().await,
        test.guest().await,
        test.guest().await,
        test.guest().await,
    ];
    test.send(revoke(&by_refresh.refresh_token)).await;
    test.send(revoke(&by_access.access_token)).await;
    test.app.erase(erased.sub().parse().unwrap()).await.unwrap();
    test.clock.advance(DAY - Duration::from_secs(1));
    let again = test.beside(config(&[])).await;
    drop(test);
    for tokens in [by_refresh, by_access, erased] {
        refused(&again, verify(&tokens.access_token)).await;
    }
    assert!(again.is_live(&bystander).await);
}

#[tokio::test]
async fn a_start_under_a_wrong_clock_forgets_nothing_once_it_is_right() {
    const THREE_DAYS: i64 = 3 * 86_400_000;
    let test = TestApp::new().await;
    let [by_refresh, by_access, erased] =
        [test.guest().await, test.guest().await, test.guest().await];
    test.send(revoke(&by_refresh.refresh_token)).await;
    test.send(revoke(&by_access.access_token)).await;
    test.app.erase(erased.sub().parse().unwrap()).await.unwrap();
    test.clock.advance_secs(3600);
    test.clock.jump(THREE_DAYS);
    let again = test.beside(config(&[])).await;
    test.clock.jump(-THREE_DAYS);
    again.app.follow().await;
    for tokens in [by_refresh, by_access, erased] {
        refused(&again, verify(&tokens.access_token)).await;
    }
}

#[tokio::test]
async fn no_turn_of_the_memory_lets_a_revoked_token_through() {
    let test = TestApp::new().await;
    let long = ClientSettings {
        overrides: PolicyOverrides {
            access_ttl: Some(10 * DAY),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    test.add_client("long", long).await;
    test.app.follow().await;
    // The filter has two generations, which rotate every ten days and a minute. Each of these is revoked at another
    // time of that, just before and after a turn included, and is looked at until it expires.
    let turn = 10 * DAY + Duration::from_secs(60);
    let moments = [
        Duration::ZERO,
        5 * DAY,
        turn,
        turn + Duration::from_secs(1),
        2 * turn + Duration::from_secs(1),
        3 * turn,
    ];
    let mut ended: Vec<Tokens> = Vec::new();
    let mut passed = Duration::ZERO;
    let step = DAY / 2;
    while passed <= 5 * turn {
        let next = moments.iter().find(|moment| **moment >= passed);
        if next == Some(&passed) {
            let code = test.code("long").await;
            let tokens = test.granted(exchange(&code).set("client_id", "long")).await;
            assert!(test.passes(&tokens.access_token).await);
            test.send(revoke(&tokens.refresh_token).set("client_id", "long"))
                .await;
            ended.push(tokens);
        }
        for tokens in &ended {
            assert!(!test.passes(&tokens.access_token).await, "after {passed:?}");
        }
        let due = moments.iter().find(|moment| **moment > passed);
        let wait = due.map_or(step, |moment| step.min(*moment - passed));
        test.clock.advance(wait);
        passed += wait;
        test.app.follow().await;
    }
    assert_eq!(ended.len(), moments.len());
    let code = test.code(SHOP).await;
    let live = test.granted(exchange(&code)).await;
    assert!(test.is_live(&live).await);
}
