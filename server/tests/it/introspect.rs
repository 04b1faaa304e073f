//! Section 9 of the cases, as far as it is about introspection (RFC 7662).

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass_core::client::ClientSettings;
use guestpass_core::policy::PolicyOverrides;
use serde_json::{Value, json};

use crate::support::{
    DAY, Forged, ISSUER, SHOP, Sent, TestApp, authorize, config, exchange, introspect, refresh,
    revoke,
};

/// A confidential client, which introspects.
const API: &str = "api";

/// Introspects a token, which must change nothing, and returns the answer.
async fn told(test: &TestApp, api_key: &str, token: &str) -> Value {
    let before = test.rows().await;
    let request = introspect(token).set("client_id", API);
    let answer = test.send(request.header("x-api-key", api_key)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(test.rows().await, before);
    answer.json()
}

async fn inactive(test: &TestApp, api_key: &str, token: &str) {
    let before = test.rows().await;
    let request = introspect(token).set("client_id", API);
    let answer = test.send(request.header("x-api-key", api_key)).await;
    assert_eq!(answer.body, br#"{"active":false}"#, "{token}");
    assert_eq!(test.rows().await, before);
}

#[tokio::test]
async fn c160_who_may_ask_is_settled_first() {
    let test = TestApp::new().await;
    let api_key = test.add_confidential_client(API).await;
    let rival_key = test.add_confidential_client("rival").await;
    let token = test.guest().await.access_token;
    let basic = |user: &str, password: &str| {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    };
    let request = introspect(&token);
    let as_api = || introspect(&token).set("client_id", API);
    for wrong in [
        request.clone(),
        request.clone().set("client_id", SHOP),
        as_api(),
        as_api().header("x-api-key", ""),
        as_api().header("x-api-key", "wrong"),
        as_api().header("x-api-key", &rival_key),
        request
            .clone()
            .set("client_id", SHOP)
            .header("x-api-key", &api_key),
        request
            .clone()
            .set("client_id", "unknown")
            .header("x-api-key", &api_key),
        request.clone().bearer(&token),
        as_api().bearer(&token),
        request.clone().header("authorization", basic(API, "wrong")),
        request.clone().header("authorization", basic(API, "")),
        request.clone().header("authorization", basic(SHOP, "")),
        // The request isn't parsed: malformed ones are refused for their authentication too.
        request.clone().unset("token"),
        request.clone().also("token", "another"),
        request
            .clone()
            .body("{")
            .header("content-type", "text/plain"),
        as_api().unset("token").header("x-api-key", "wrong"),
    ] {
        let before = test.rows().await;
        let answer = test.send(wrong.clone()).await;
        let outcome = (answer.status, answer.error());
        let expected = (StatusCode::UNAUTHORIZED, "invalid_client");
        assert_eq!(outcome, expected, "{wrong:?}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic "), "{challenge}");
        assert_eq!(test.rows().await, before);
    }
    let right = request
        .clone()
        .header("authorization", basic(API, &api_key));
    assert_eq!(test.send(right.clone()).await.json()["active"], true);
    let in_json = as_api().header("x-api-key", &api_key).in_json();
    assert_eq!(test.send(in_json).await.json()["active"], true);
    for broken in [
        right.clone().unset("token"),
        right.clone().set("token", ""),
        right.clone().also("token", &token),
        right.clone().in_query(),
        right.clone().set("client_id", "rival"),
        right.header("x-api-key", &api_key),
    ] {
        test.refused(broken, "invalid_request").await;
    }
}

#[tokio::test]
async fn c161_a_live_access_token_is_told_of() {
    for algorithm in ["HS256", "ES256", "EdDSA", "RS256"] {
        let test = TestApp::with_config(config(&[("tokens.algorithm", algorithm)])).await;
        let api_key = test.add_confidential_client(API).await;
        let tokens = test.guest().await;
        let claims = &tokens.claims;
        assert_eq!(
            told(&test, &api_key, &tokens.access_token).await,
            json!({
                "active": true, "token_type": "Bearer", "iss": claims["iss"], "sub": claims["sub"],
                "subn": claims["subn"], "aud": [claims["aud"]], "client_id": SHOP, "iat": claims["iat"],
                "exp": claims["exp"], "jti": claims["jti"], "sid": claims["sid"],
            })
        );
    }
}

#[tokio::test]
async fn c161_a_refresh_token_is_told_of_to_its_own_client() {
    let test = TestApp::new().await;
    let api_key = test.add_confidential_client(API).await;
    let with_key = |request: Sent| request.set("client_id", API).header("x-api-key", &api_key);
    let code = test.send(with_key(authorize())).await.text("code");
    inactive(&test, &api_key, &code).await;
    let first = test.granted(with_key(exchange(&code))).await;
    inactive(&test, &api_key, &code).await;
    test.clock.advance_secs(60);
    let second = test.granted(with_key(refresh(&first.refresh_token))).await;
    let claims = &second.claims;
    for token in [&first, &second] {
        // Both would get an answer: the first is the retry of one that was lost.
        assert_eq!(
            told(&test, &api_key, &token.refresh_token).await,
            json!({
                "active": true, "token_type": "refresh_token", "iss": ISSUER, "sub": claims["sub"],
                "subn": claims["subn"], "client_id": API, "iat": claims["iat"],
                "exp": claims["iat"].as_i64().unwrap() + 365 * 86_400, "sid": claims["sid"],
            })
        );
    }
    let third = test.granted(with_key(refresh(&second.refresh_token))).await;
    inactive(&test, &api_key, &first.refresh_token).await;
    assert_eq!(
        told(&test, &api_key, &third.refresh_token).await["active"],
        true
    );
    let of_another = test.guest().await;
    inactive(&test, &api_key, &of_another.refresh_token).await;
    test.clock.advance(365 * DAY);
    inactive(&test, &api_key, &third.refresh_token).await;
}

#[tokio::test]
async fn c161_of_any_other_token_nothing_is_told() {
    let test = TestApp::new().await;
    let api_key = test.add_confidential_client(API).await;
    let (live, revoked, ended, erased) = (
        test.guest().await,
        test.guest().await,
        test.guest().await,
        test.guest().await,
    );
    let foreign = TestApp::new().await.guest().await;
    test.send(revoke(&revoked.access_token)).await;
    test.send(revoke(&ended.refresh_token)).await;
    test.app.erase(erased.sub().parse().unwrap()).await.unwrap();
    let forgery = Forged::like(&test, &live);
    for token in [
        "garbage",
        "a.b.c",
        "é",
        &"a".repeat(12_000),
        &foreign.access_token,
        &foreign.refresh_token,
        &revoked.access_token,
        &ended.access_token,
        &ended.refresh_token,
        &erased.access_token,
        &erased.refresh_token,
        &format!("{}A", live.access_token),
        &forgery
            .clone()
            .claim("aud", json!("https://elsewhere.example"))
            .sign(),
        &forgery.claim("client_id", json!(API)).sign(),
    ] {
        inactive(&test, &api_key, token).await;
    }
    assert!(test.is_live(&live).await);
    test.disable_client(SHOP, true).await;
    inactive(&test, &api_key, &live.access_token).await;
    test.disable_client(SHOP, false).await;
    test.clock.advance(DAY + std::time::Duration::from_secs(5));
    inactive(&test, &api_key, &live.access_token).await;
}

#[tokio::test]
async fn c162_a_client_learns_of_tokens_for_its_audience() {
    let of_audience = |audience: &str, confidential| ClientSettings {
        confidential: Some(confidential),
        overrides: PolicyOverrides {
            audience: Some(audience.parse().unwrap()),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    let test = TestApp::new().await;
    let api_key = test.add_confidential_client(API).await;
    test.add_client("stock", of_audience("https://stock.example", true))
        .await;
    let stock_key = test.add_api_key("stock", None).await;
    test.add_client("app", of_audience("https://stock.example", false))
        .await;
    let for_all = test.guest().await.access_token;
    let code = test.code("app").await;
    let for_stock = test
        .granted(exchange(&code).set("client_id", "app"))
        .await
        .access_token;
    // Its tokens have the issuer in `aud` too, which is the audience of clients without one of their own.
    for token in [&for_all, &for_stock] {
        assert_eq!(told(&test, &api_key, token).await["active"], true);
    }
    let by_stock = |token: &str| {
        let request = introspect(token).set("client_id", "stock");
        test.send(request.header("x-api-key", &stock_key))
    };
    assert_eq!(by_stock(&for_stock).await.json()["active"], true);
    assert_eq!(by_stock(&for_all).await.body, br#"{"active":false}"#);
}
