//! Section 1, D13: a known guest authorizes again, where a confidential client is set to `resume_with_jwt`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock;
use guestpass_core::claims::{Claims, Typ};
use guestpass_core::client::ClientSettings;
use guestpass_core::grant::{GrantId, MAX_LIVE};
use guestpass_core::profile::NetworkId;

use crate::support::{ISSUER, Sent, TestApp, Tokens, authorize, exchange, lines_of, refresh};

const BACK_END: &str = "back-end";

/// A server with a confidential client that is set to `resume_with_jwt`, and its key.
async fn resuming() -> (Arc<TestApp>, String) {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACK_END).await;
    test.set_client(BACK_END, resume_with_jwt(true)).await;
    (Arc::new(test), key)
}

fn resume_with_jwt(on: bool) -> ClientSettings {
    ClientSettings {
        resume_with_jwt: Some(on),
        ..ClientSettings::default()
    }
}

fn by_back_end(request: Sent, key: &str) -> Sent {
    request.set("client_id", BACK_END).header("x-api-key", key)
}

fn with_jwt(key: &str, jwt: &str) -> Sent {
    by_back_end(authorize(), key).header("x-dressipi-jwt", jwt)
}

async fn exchanged(test: &TestApp, key: &str, request: Sent) -> Tokens {
    let answer = test.send(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    test.granted(by_back_end(exchange(&answer.text("code")), key))
        .await
}

#[tokio::test]
async fn c037_only_a_valid_token_of_a_living_grant_of_that_client_resumes() {
    let (test, key) = resuming().await;
    let guest = exchanged(&test, &key, by_back_end(authorize(), &key)).await;
    let resumed = exchanged(&test, &key, with_jwt(&key, &guest.access_token)).await;
    for claim in ["sub", "subn", "client_id"] {
        assert_eq!(resumed.claims[claim], guest.claims[claim], "{claim}");
    }
    assert_ne!(resumed.claims["sid"], guest.claims["sid"]);
    let bearer = by_back_end(authorize(), &key)
        .header("authorization", format!("Bearer {}", resumed.access_token));
    assert_eq!(exchanged(&test, &key, bearer).await.sub(), guest.sub());

    let other_client = test.guest().await.access_token;
    let revoked = exchanged(&test, &key, by_back_end(authorize(), &key)).await;
    let revoke = request_to_revoke(&revoked.refresh_token, &key);
    assert_eq!(test.send(revoke).await.status, StatusCode::OK);
    let profile = guest.sub().parse().unwrap();
    let now = test.clock.now();
    let made_up = test.app.keys().now().sign(
        Typ::AtJwt,
        &Claims {
            issuer: ISSUER,
            audience: None,
            audience_restricted: false,
            client_id: BACK_END,
            profile,
            network_id: NetworkId::new([7; 16]),
            grant: GrantId::new(profile, [7; 8]),
            token_id: [7; 16],
            issued_at: now,
            expires_at: now + Duration::from_secs(60),
            customer: None,
            attributes: None,
        },
    );
    let tampered = format!("{}x", guest.access_token);
    for (row, jwt) in [
        ("another client's", &other_client),
        ("of a revoked grant", &revoked.access_token),
        ("of no grant", &made_up),
        ("garbage", &tampered),
    ] {
        let new = exchanged(&test, &key, with_jwt(&key, jwt)).await;
        assert_ne!(new.sub(), guest.sub(), "{row}");
        assert_ne!(new.sub(), revoked.sub(), "{row}");
    }
    test.clock.advance_secs(86_400 + 60);
    let new = exchanged(&test, &key, with_jwt(&key, &guest.access_token)).await;
    assert_ne!(new.sub(), guest.sub(), "expired");
    test.set_client(BACK_END, resume_with_jwt(false)).await;
    let fresh = refreshed(&test, &key, &resumed).await;
    let new = exchanged(&test, &key, with_jwt(&key, &fresh.access_token)).await;
    assert_ne!(new.sub(), guest.sub(), "no longer set to");
}

#[tokio::test]
async fn a_resumed_grant_ends_when_the_first_would() {
    let (test, key) = resuming().await;
    let guest = exchanged(&test, &key, by_back_end(authorize(), &key)).await;
    let end = async |tokens: &Tokens| {
        let sid = test.app.verify(&tokens.access_token).unwrap().grant;
        test.store.load(sid).await.unwrap().unwrap().ends_at
    };
    test.clock.advance_secs(1000);
    let resumed = exchanged(&test, &key, with_jwt(&key, &guest.access_token)).await;
    assert_eq!(end(&resumed).await, end(&guest).await);
}

#[tokio::test]
async fn a_ninth_grant_ends_the_one_advanced_longest_ago() {
    let (test, key) = resuming().await;
    let mut all = vec![exchanged(&test, &key, by_back_end(authorize(), &key)).await];
    for _ in 1..MAX_LIVE {
        test.clock.advance_secs(1);
        let jwt = &all[0].access_token;
        all.push(exchanged(&test, &key, with_jwt(&key, jwt)).await);
    }
    // The first was used since, so the second is the one.
    test.clock.advance_secs(60);
    all[0] = refreshed(&test, &key, &all[0]).await;
    test.clock.advance_secs(60);
    let answer = test.send(with_jwt(&key, &all[0].access_token)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let lines = lines_of(answer.log_name());
    assert!(
        lines
            .iter()
            .any(|line| line["target"] == "guestpass::security"
                && line["message"] == "guest resumed with an access token"),
        "{lines:?}"
    );
    let ended = by_back_end(refresh(&all[1].refresh_token), &key);
    test.refused(ended, "invalid_grant").await;
    for (index, tokens) in all.iter().enumerate().filter(|(index, _)| *index != 1) {
        let answer = test
            .send(by_back_end(refresh(&tokens.refresh_token), &key))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_leave_no_more_than_may_live() {
    let (test, key) = resuming().await;
    let guest = exchanged(&test, &key, by_back_end(authorize(), &key)).await;
    let requests = vec![with_jwt(&key, &guest.access_token); 3 * MAX_LIVE];
    for answer in test.at_once(requests).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let sub = guest.sub();
    let live =
        format!("select count(*) from grants where profile_id = {sub} and revoked_at is null");
    let live: usize = test.database.number(&live).await.try_into().unwrap();
    assert_eq!(live, MAX_LIVE);
}

async fn refreshed(test: &TestApp, key: &str, tokens: &Tokens) -> Tokens {
    test.granted(by_back_end(refresh(&tokens.refresh_token), key))
        .await
}

fn request_to_revoke(token: &str, key: &str) -> Sent {
    by_back_end(refresh(token), key)
        .path("/oauth/revoke")
        .set("token", token)
}
