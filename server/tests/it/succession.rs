//! `on_ended = new_guest`: an app that never authorizes a second time gets a new guest in place of one that is over.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::client::{ClientSettings, OnEnded};
use guestpass_core::grant::MAX_LIVE;
use guestpass_core::policy::PolicyOverrides;

use crate::support::{
    Forged, SHOP, Sent, TestApp, Tokens, authorize, config, exchange, profile, refresh, revoke,
    verify,
};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const YEAR: i64 = 31_557_600_000;

/// A shop whose grants end after an hour without a refresh, and after a day in any case.
async fn shop(on_ended: OnEnded) -> TestApp {
    let test = TestApp::with_config(config(&[("limits.mode", "off")])).await;
    test.set_client(SHOP, choosing(on_ended)).await;
    test
}

fn choosing(on_ended: OnEnded) -> ClientSettings {
    ClientSettings {
        on_ended: Some(on_ended),
        overrides: PolicyOverrides {
            refresh_idle: Some(Duration::from_secs(HOUR)),
            refresh_max: Some(Duration::from_secs(DAY)),
            access_ttl: Some(Duration::from_secs(HOUR)),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    }
}

/// Uses the refresh token of a guest who is over, and returns the tokens of the one who follows.
async fn follows(test: &TestApp, before: &Tokens) -> Tokens {
    let after = test.granted(refresh(&before.refresh_token)).await;
    for claim in ["sub", "subn", "sid"] {
        assert_ne!(after.claims[claim], before.claims[claim], "{claim}");
    }
    let sub: i64 = after.sub().parse().unwrap();
    assert!(
        (0..1 << 47).contains(&(sub - 1_000_000_000_000_000)),
        "{sub}"
    );
    assert!(test.passes(&after.access_token).await);
    let shown = test.send(profile(&after.access_token)).await.json();
    assert_eq!(
        (&shown["sub"], shown.get("linked_at")),
        (&after.claims["sub"], None)
    );
    after
}

async fn is_refused(test: &TestApp, token: &str) {
    test.refused(refresh(token), "invalid_grant").await;
}

/// The same where it may be the request that ends the grant.
async fn ends_it(test: &TestApp, token: &str) {
    let answer = test.send(refresh(token)).await;
    let outcome = (answer.status, answer.error());
    assert_eq!(outcome, (StatusCode::BAD_REQUEST, "invalid_grant"));
}

/// Ways in which a grant comes to its end that say nothing against its holder.
const ENDS: [&str; 5] = ["idle", "max age", "erased", "cleaned", "superseded"];

/// Makes a guest and lets it come to such an end. Returns its last tokens.
async fn ended(test: &TestApp, end: &str) -> Tokens {
    let mut guest = test.guest().await;
    match end {
        "idle" => test.clock.advance_secs(HOUR),
        "max age" => {
            for _ in 0..2 * DAY / HOUR {
                test.clock.advance_secs(HOUR / 2);
                let sent = test.send(refresh(&guest.refresh_token)).await;
                if sent.status != StatusCode::OK || sent.tokens().sub() != guest.sub() {
                    break;
                }
                guest = sent.tokens();
            }
        }
        "erased" => {
            let erase = profile(&guest.access_token).method("DELETE");
            assert_eq!(test.send(erase).await.status, StatusCode::NO_CONTENT);
        }
        "cleaned" => {
            test.clock.advance_secs(9 * DAY);
            test.clean().await;
            assert_eq!(test.count("grants").await, 0);
        }
        _ => {
            // As the ninth grant of a guest makes it: only the row says why.
            test.database
                .sql("update grants set revoked_at = issued_at, revocation_reason = 'superseded'")
                .await;
        }
    }
    guest
}

#[tokio::test]
async fn c253_in_place_of_one_that_is_over_there_is_a_new_guest() {
    for end in ENDS {
        let test = shop(OnEnded::Refuse).await;
        let guest = ended(&test, end).await;
        is_refused(&test, &guest.refresh_token).await;
        let guests = test.count("profiles").await;
        test.set_client(SHOP, choosing(OnEnded::NewGuest)).await;
        let after = follows(&test, &guest).await;
        assert_eq!(test.count("profiles").await, guests + 1, "{end}");
        let next = test.granted(refresh(&after.refresh_token)).await;
        assert_eq!(next.sub(), after.sub(), "{end}");
        let metrics = test.metrics().await;
        let counted = r#"decision="new_guest"} 1"#;
        assert!(metrics.contains(counted), "{end}: {metrics}");
    }
}

#[tokio::test]
async fn c253_so_there_is_for_the_least_recent_of_too_many_grants() {
    const BACK_END: &str = "back-end";
    let test = shop(OnEnded::NewGuest).await;
    let key = test.add_confidential_client(BACK_END).await;
    let resuming = ClientSettings {
        resume_with_jwt: Some(true),
        on_ended: Some(OnEnded::NewGuest),
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, resuming).await;
    let by_back_end = |sent: Sent| sent.set("client_id", BACK_END).header("x-api-key", &key);
    let code = test.send(by_back_end(authorize())).await.text("code");
    let first = test.granted(by_back_end(exchange(&code))).await;
    for _ in 0..MAX_LIVE {
        test.clock.advance_secs(1);
        let again = by_back_end(authorize()).header("x-dressipi-jwt", &first.access_token);
        let code = test.send(again).await.text("code");
        test.granted(by_back_end(exchange(&code))).await;
    }
    let after = test
        .granted(by_back_end(refresh(&first.refresh_token)))
        .await;
    assert_ne!(after.sub(), first.sub());
}

#[tokio::test(flavor = "multi_thread")]
async fn c254_requests_agree_on_who_follows() {
    let test = Arc::new(shop(OnEnded::NewGuest).await);
    let other = Arc::new(test.beside(config(&[("limits.mode", "off")])).await);
    let guest = ended(&test, "idle").await;
    let dead = || vec![refresh(&guest.refresh_token); 25];
    let (here, there) = tokio::join!(test.at_once(dead()), other.at_once(dead()));
    let tokens: Vec<_> = here
        .iter()
        .chain(&there)
        .map(|answer| answer.tokens())
        .collect();
    let first = &tokens[0];
    for same in &tokens {
        assert_eq!(same.sub(), first.sub());
        assert_eq!(same.refresh_token, first.refresh_token);
    }
    assert_eq!(test.count("profiles").await, 2);
    // A node that was started since knows no more than the store.
    let later = test.beside(config(&[("limits.mode", "off")])).await;
    let again = later.granted(refresh(&guest.refresh_token)).await;
    assert_eq!(again.refresh_token, first.refresh_token);
    // Its answer was lost, twice: each time the next generation, as of any grant.
    let mut seen = vec![first.refresh_token.clone()];
    for later in [60, HOUR - 120] {
        test.clock.advance_secs(later);
        let again = test.granted(refresh(&guest.refresh_token)).await;
        assert_eq!(again.sub(), first.sub());
        assert!(!seen.contains(&again.refresh_token));
        seen.push(again.refresh_token);
    }
    let used = test.granted(refresh(seen.last().unwrap())).await;
    assert_eq!(used.sub(), first.sub());
    test.clock.advance_secs(60);
    // Two hold it by now.
    ends_it(&test, &guest.refresh_token).await;
    is_refused(&test, &used.refresh_token).await;
    is_refused(&test, &guest.refresh_token).await;
    assert_eq!(test.count("profiles").await, 2);
}

#[tokio::test]
async fn c255_what_was_taken_from_someone_stays_refused_until_nobody_knows_it() {
    for end in ["replayed", "contested", "revoked"] {
        let test = shop(OnEnded::NewGuest).await;
        let first = test.guest().await;
        let second = test.granted(refresh(&first.refresh_token)).await;
        match end {
            "replayed" => {
                test.granted(refresh(&second.refresh_token)).await;
                test.clock.advance_secs(60);
            }
            "contested" => {
                for _ in 0..9 {
                    test.clock.advance_secs(60);
                    test.send(refresh(&first.refresh_token)).await;
                }
            }
            _ => {
                test.send(revoke(&second.refresh_token)).await;
            }
        }
        for token in [&first, &second] {
            ends_it(&test, &token.refresh_token).await;
            is_refused(&test, &token.refresh_token).await;
        }
        assert_eq!(test.count("profiles").await, 1, "{end}");
        test.clock.advance_secs(9 * DAY);
        test.clean().await;
        assert_eq!(test.count("grants").await, 0, "{end}");
        let (one, other) = (follows(&test, &first).await, follows(&test, &second).await);
        assert_ne!(one.sub(), other.sub(), "{end}");
    }
}

#[tokio::test]
async fn c256_nobody_follows_for_others_or_by_a_wrong_clock() {
    let test = shop(OnEnded::NewGuest).await;
    test.add_client("other", choosing(OnEnded::NewGuest)).await;
    let guest = test.guest().await;
    let code = test.code(SHOP).await;
    test.clock.advance_secs(HOUR);
    let of_another = refresh(&guest.refresh_token).set("client_id", "other");
    test.refused(of_another, "invalid_grant").await;
    test.refused(exchange(&code), "invalid_grant").await;
    let forged = format!("{}A", &guest.refresh_token[..63]);
    is_refused(
        &test,
        if forged == guest.refresh_token {
            "x"
        } else {
            &forged
        },
    )
    .await;
    is_refused(&test, &Forged::like(&test, &guest).sign()).await;
    test.disable_client(SHOP, true).await;
    test.refused(refresh(&guest.refresh_token), "invalid_client")
        .await;
    test.disable_client(SHOP, false).await;
    let guests = test.count("profiles").await;

    let (over, guest) = (test.guest().await, test.guest().await);
    test.clock.advance_secs(HOUR - 60);
    let guest = test.granted(refresh(&guest.refresh_token)).await;
    test.clock.advance_secs(60);
    test.clock.jump(2 * YEAR);
    test.app.follow().await;
    // Over by any clock; but which guest follows must not be for a clock in doubt to say.
    let answer = test.send(refresh(&over.refresh_token)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    for server in [&test, &test.beside(config(&[("limits.mode", "off")])).await] {
        let answer = server.send(refresh(&guest.refresh_token)).await;
        // As before, or as if it wasn't known; never another guest.
        match answer.status {
            StatusCode::OK => assert_eq!(answer.tokens().sub(), guest.sub()),
            status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}"),
        }
    }
    assert_eq!(test.count("profiles").await, guests + 2);
    test.clock.jump(-2 * YEAR);
    test.app.follow().await;
    let again = test.granted(refresh(&guest.refresh_token)).await;
    assert_eq!(again.sub(), guest.sub());
    follows(&test, &over).await;
}

#[tokio::test]
async fn who_follows_counts_for_the_limits_of_new_guests() {
    let test = TestApp::new().await;
    let mut choices = choosing(OnEnded::NewGuest);
    choices.overrides.guests_per_client = "3/1d".parse().ok();
    test.set_client(SHOP, choices).await;
    let (one, other) = (test.guest().await, test.guest().await);
    test.clock.advance_secs(HOUR);
    follows(&test, &one).await;
    let refused = test.send(refresh(&other.refresh_token)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    // A repetition makes nobody.
    follows(&test, &one).await;
    assert_eq!(test.count("profiles").await, 3);
}

#[tokio::test]
async fn c257_who_has_followed_and_gone_does_not_come_back() {
    let test = shop(OnEnded::NewGuest).await;
    let (erased, expired) = (test.guest().await, test.guest().await);
    test.clock.advance_secs(HOUR);
    let after = follows(&test, &erased).await;
    let erase = profile(&after.access_token).method("DELETE");
    assert_eq!(test.send(erase).await.status, StatusCode::NO_CONTENT);
    is_refused(&test, &erased.refresh_token).await;
    let passed = test.send(verify(&after.access_token)).await;
    assert_eq!(passed.status, StatusCode::UNAUTHORIZED);
    // The one that was erased may itself be followed: it is another token.
    follows(&test, &after).await;

    follows(&test, &expired).await;
    test.clock.advance_secs(HOUR);
    is_refused(&test, &expired.refresh_token).await;
    test.clock.advance_secs(9 * DAY);
    test.clean().await;
    assert_eq!(test.count("grants").await, 0);
    is_refused(&test, &expired.refresh_token).await;
    is_refused(&test, &erased.refresh_token).await;
}
