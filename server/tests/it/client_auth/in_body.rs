//! The API key as `client_secret`, in a body and nowhere else (RFC 6749 §2.3.1).

use axum::http::StatusCode;

use super::{BACKEND, altered, basic, revoke as revoke_key};
use crate::support::{
    Answer, SHOP, Sent, TestApp, authorize, exchange, introspect, lines_of, refresh, revoke,
};

/// A request to each endpoint that authenticates clients and reads a body, right but for the authentication of [`BACKEND`].
async fn calls(test: &TestApp, key: &str) -> [Sent; 4] {
    let send =
        |request: Sent| test.send(request.set("client_id", BACKEND).header("x-api-key", key));
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let code = send(authorize()).await.text("code");
        tokens.push(send(exchange(&code)).await.tokens());
    }
    let code = send(authorize()).await.text("code");
    [
        exchange(&code),
        refresh(&tokens[0].refresh_token),
        introspect(&tokens[1].refresh_token),
        revoke(&tokens[1].refresh_token),
    ]
    .map(|call| call.set("client_id", BACKEND))
}

/// Sends a request that must fail for its authentication, with a 401 where one is required, and change nothing.
async fn unauthenticated(test: &TestApp, call: Sent) -> Answer {
    let (what, before) = (format!("{call:?}"), test.rows().await);
    let at_introspect = call.target().starts_with("/oauth/introspect");
    let answer = test.send(call).await;
    let status = if at_introspect { 401 } else { 400 };
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(answer.error(), "invalid_client", "{what}");
    assert_eq!(test.rows().await, before, "{what}");
    answer
}

#[tokio::test]
async fn f66_a_secret_in_a_form_or_a_json_object_is_the_key() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    for in_json in [false, true] {
        for call in calls(&test, &key).await {
            let call = call.set("client_secret", &key);
            let call = if in_json { call.in_json() } else { call };
            let answer = test.send(call.clone()).await;
            assert_eq!(answer.status, StatusCode::OK, "{call:?}: {answer:?}");
            if call.target() == "/oauth/introspect" {
                assert_eq!(answer.json()["active"], true);
            }
        }
    }
}

#[tokio::test]
async fn f66_a_secret_that_is_not_the_key_is_a_wrong_one() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let other = test.add_confidential_client("other").await;
    let revoked = test.add_api_key(BACKEND, None).await;
    revoke_key(&test, &revoked).await;
    let of_backend = calls(&test, &key).await;
    let shop = test.guest().await.refresh_token;
    let of_shop =
        [refresh(&shop), introspect(&shop), revoke(&shop)].map(|call| call.set("client_id", SHOP));
    let long = "k".repeat(8192);
    for secret in [
        &altered(&key, 20),
        &other,
        &revoked,
        &key[1..],
        &long,
        "clé",
        " ",
    ] {
        for call in &of_backend {
            unauthenticated(&test, call.clone().set("client_secret", secret)).await;
        }
    }
    // A public client has no key, so that each is a wrong one.
    for secret in [&*key, "any"] {
        for call in &of_shop {
            unauthenticated(&test, call.clone().set("client_secret", secret)).await;
        }
    }
    // An empty one is none.
    for call in &of_backend {
        let call = call.clone().set("client_secret", "");
        unauthenticated(&test, call.clone()).await;
        let answer = test.send(call.header("x-api-key", &key)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    test.granted(of_shop[0].clone().set("client_secret", ""))
        .await;
}

#[tokio::test]
async fn f66_one_form_of_authentication_and_no_other_beside_it() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let right = basic(BACKEND, &key);
    for call in calls(&test, &key).await {
        let shown = call.clone().set("client_secret", &key);
        for twice in [
            shown.clone().header("x-api-key", &key),
            shown.clone().header("x-api-key", ""),
            shown.clone().header("authorization", &right),
            shown.clone().header("authorization", basic(BACKEND, "")),
            shown.clone().also("client_secret", &key),
            shown.clone().also("client_secret", ""),
            shown.clone().unset("client_id"),
        ] {
            test.refused(twice, "invalid_request").await;
        }
        // A scheme other than Basic, such as the guest's own token, is no form of the client's.
        let answer = test.send(shown.bearer("x")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

#[tokio::test]
async fn f66_a_secret_in_a_query_is_refused_and_never_logged() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let calls = calls(&test, &key).await;
    let of_backend = calls.clone().map(|call| call.header("x-api-key", &key));
    let authorization = authorize().set("client_id", BACKEND);
    let authorizations = [
        authorization.clone(),
        authorization.header("x-api-key", &key),
        authorize(),
    ];
    // Among the other parameters, whether there is another form of authentication or none.
    for call in calls.iter().chain(&of_backend).chain(&authorizations) {
        refused_unlogged(
            &test,
            call.clone().also("client_secret", &key).in_query(),
            &key,
        )
        .await;
    }
    // Beside a body.
    for call in calls.iter().chain(&of_backend) {
        for name in ["client_secret", "client%5Fsecret", "%zz&client_secret"] {
            let target = format!("{}?{name}={key}", call.target());
            refused_unlogged(&test, call.clone().path(&target), &key).await;
        }
    }
    for call in of_backend {
        let target = format!("{}?client_secret=", call.target());
        let answer = test.send(call.path(&target)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

async fn refused_unlogged(test: &TestApp, call: Sent, key: &str) {
    let answer = test.refused(call, "invalid_request").await;
    let lines = format!("{:?}", lines_of(answer.log_name()));
    assert!(lines.contains("parameter_in_query"), "{lines}");
    assert!(!lines.contains(key), "{lines}");
}
