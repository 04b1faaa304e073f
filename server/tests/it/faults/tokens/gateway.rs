//! Tests that what a gateway could take for a yes is one, and that it can say whom it asks for.

use axum::http::StatusCode;
use guestpass::store::ChangeFailed;
use guestpass_core::choice::Choice;
use guestpass_core::client::{Change, ChangeError, ClientSettings};
use guestpass_core::policy::PolicyOverrides;
use serde_json::{Value, json};

use crate::support::binary::Binary;
use crate::support::{
    Answer, ISSUER, SHOP, Sent, TestApp, Tokens, authorize, exchange, introspect, profile, refresh,
    request, revoke, verify,
};

const PAGE: &str = "https://shop.example";
const API: &str = "https://api.example";

#[tokio::test]
async fn f39_only_a_preflight_is_answered_without_a_verdict() {
    let test = TestApp::new().await;
    let origins = ClientSettings {
        add_origins: vec![PAGE.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.set_client(SHOP, origins).await;
    let token = test.guest().await.access_token;
    let options = || request("OPTIONS", "/oauth/verify");
    let preflight = options()
        .header("origin", PAGE)
        .header("access-control-request-method", "GET");
    let allowed = test.send(preflight.clone()).await;
    assert_eq!(allowed.status, StatusCode::NO_CONTENT, "{allowed:?}");
    assert_eq!(allowed.header("access-control-allow-origin"), Some(PAGE));

    for other in [
        options(),
        options().header("origin", PAGE),
        options().header("access-control-request-method", "GET"),
        options()
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "GET"),
        options()
            .header("origin", "null")
            .header("access-control-request-method", "GET"),
        options().header("access-control-request-headers", "authorization"),
        preflight.clone().method("GET"),
        preflight.clone().method("HEAD"),
        preflight.clone().method("TRACE"),
        preflight.method("FOO"),
        request("TRACE", "/oauth/verify"),
        request("PROPFIND", "/oauth/verify"),
        request("GET", "/oauth/verify").header("if-none-match", "*"),
        request("GET", "/oauth/verify")
            .header("if-modified-since", "Thu, 01 Jan 2037 00:00:00 GMT"),
        request("GET", "/oauth/verify").header("range", "bytes=0-0"),
    ] {
        let refused = test.send_http(other.clone().into_request()).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{other:?}");
        let passed = other.clone().bearer(&token);
        let passed = test.send_http(passed.into_request()).await;
        assert_eq!(passed.status, StatusCode::OK, "{other:?}");
        assert!(passed.header("x-guestpass-sub").is_some(), "{other:?}");
        let nobody = other.set("mode", "soft");
        let nobody = test.send_http(nobody.into_request()).await;
        assert_eq!(nobody.status, StatusCode::OK);
        assert_eq!(nobody.header("x-guestpass-sub"), Some(""));
    }
}

fn with_audience(audience: &str, restricted: bool) -> ClientSettings {
    ClientSettings {
        overrides: PolicyOverrides {
            audience: audience.parse().ok(),
            ..PolicyOverrides::default()
        },
        audience_restricted: Some(restricted),
        ..ClientSettings::default()
    }
}

async fn guest_of(test: &TestApp, client: &str) -> Tokens {
    let code = test.code(client).await;
    let exchange = exchange(&code).set("client_id", client);
    test.granted(exchange).await
}

async fn ask(test: &TestApp, request: Sent) -> (StatusCode, Value) {
    let answer = test.send(request).await;
    let said = match answer.status {
        StatusCode::OK => answer.json(),
        _ => json!(answer.error()),
    };
    (answer.status, said)
}

#[tokio::test]
async fn f33_a_gateway_says_whom_it_asks_for() {
    let test = TestApp::new().await;
    test.add_client("other", with_audience("https://other.example", false))
        .await;
    test.add_client("api", with_audience(API, false)).await;
    test.add_client("alone", with_audience(API, true)).await;
    let of_shop = test.guest().await;
    let [of_other, of_api, of_alone] = [
        guest_of(&test, "other").await,
        guest_of(&test, "api").await,
        guest_of(&test, "alone").await,
    ];
    assert_eq!(of_api.claims["aud"], json!([API, ISSUER]));
    assert_eq!(of_alone.claims["aud"], json!(API));
    for (audience, tokens, has_it) in [
        (ISSUER, &of_shop, true),
        (ISSUER, &of_api, true),
        (ISSUER, &of_alone, false),
        (API, &of_shop, false),
        (API, &of_other, false),
        (API, &of_api, true),
        (API, &of_alone, true),
        ("https://api.example/", &of_api, false),
        ("HTTPS://API.EXAMPLE", &of_api, false),
        ("https://api.exampl", &of_api, false),
        ("api", &of_api, false),
        ("https://api.example https://id.example", &of_api, false),
    ] {
        let request = verify(&tokens.access_token).set("audience", audience);
        let (strict, said) = ask(&test, request.clone()).await;
        let (soft, nobody) = ask(&test, request.set("mode", "soft")).await;
        assert_eq!(soft, StatusCode::OK, "{audience}");
        if has_it {
            assert_eq!(strict, StatusCode::OK, "{audience}");
            assert_eq!(said["sub"], tokens.sub());
            assert_eq!(nobody, said);
        } else {
            let outcome = (strict, said);
            let expected = (StatusCode::UNAUTHORIZED, json!("invalid_token"));
            assert_eq!(outcome, expected, "{audience}");
            assert_eq!(nobody, json!({}));
        }
    }
    // Without it all of them pass, and what nobody knows is passed over.
    for tokens in [&of_shop, &of_other, &of_api, &of_alone] {
        for request in [
            verify(&tokens.access_token),
            verify(&tokens.access_token).set("client_id", "nobody"),
        ] {
            assert_eq!(ask(&test, request).await.0, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn f33_an_audience_that_is_empty_or_comes_twice_lets_nobody_through() {
    let test = TestApp::new().await;
    let token = test.guest().await.access_token;
    for wrong in [
        verify(&token).set("audience", ""),
        verify(&token).set_raw("audience", ""),
        verify(&token)
            .set("audience", ISSUER)
            .also("audience", ISSUER),
        verify(&token).set("audience", ISSUER).also("audience", ""),
        verify(&token).set("audience", "").also("audience", ISSUER),
        verify(&token).set("audience", &"a".repeat(2000)),
        verify(&token).set_raw("audience", "%zz"),
        verify(&token).set("audience", "a\0"),
    ] {
        for request in [wrong.clone(), wrong.set("mode", "soft")] {
            let (status, said) = ask(&test, request.clone()).await;
            let expected = (StatusCode::UNAUTHORIZED, json!("invalid_request"));
            assert_eq!((status, said), expected, "{request:?}");
        }
    }
}

#[tokio::test]
async fn f33_the_server_itself_takes_a_restricted_token() {
    let test = TestApp::new().await;
    test.add_client("alone", with_audience(API, true)).await;
    let keys = [test.add_confidential_client("asks").await, {
        test.add_client(
            "stock",
            ClientSettings {
                confidential: Some(true),
                ..with_audience(API, true)
            },
        )
        .await;
        test.add_api_key("stock", None).await
    }];
    let tokens = guest_of(&test, "alone").await;
    let next = refresh(&tokens.refresh_token).set("client_id", "alone");
    let next = test.granted(next).await;
    assert_eq!(next.claims["aud"], json!(API));
    // The API itself is told about it, and nobody else.
    for (client, key, is_told) in [("asks", &keys[0], false), ("stock", &keys[1], true)] {
        let request = introspect(&next.access_token).set("client_id", client);
        let told = test.send(request.header("x-api-key", key)).await;
        assert_eq!(told.json()["active"], is_told, "{client}");
    }
    assert_eq!(
        test.send(profile(&next.access_token)).await.status,
        StatusCode::OK
    );
    // When the API gets another name, nothing that was signed for the old one is lost, nor given to the new one.
    test.set_client("alone", with_audience("https://new.example", true))
        .await;
    for (audience, status) in [
        (None, StatusCode::OK),
        (Some(API), StatusCode::OK),
        (Some("https://new.example"), StatusCode::UNAUTHORIZED),
    ] {
        let request = verify(&next.access_token);
        let request = match audience {
            Some(audience) => request.set("audience", audience),
            None => request,
        };
        assert_eq!(test.send(request).await.status, status, "{audience:?}");
    }
    test.set_client("alone", with_audience(API, true)).await;
    // No longer restricted, no token of before is lost.
    let both = ClientSettings {
        audience_restricted: Some(false),
        ..ClientSettings::default()
    };
    test.set_client("alone", both).await;
    assert_eq!(
        test.send(verify(&next.access_token)).await.status,
        StatusCode::OK
    );
    let request = revoke(&next.access_token).set("client_id", "alone");
    assert_eq!(test.send(request).await.status, StatusCode::OK);
    let ended = |answer: Answer| answer.status == StatusCode::UNAUTHORIZED;
    assert!(ended(test.send(verify(&next.access_token)).await));
    let erase = profile(&tokens.access_token).method("DELETE");
    assert_eq!(test.send(erase).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn f33_a_restricted_token_resumes() {
    let test = TestApp::new().await;
    let settings = ClientSettings {
        confidential: Some(true),
        resume_with_jwt: Some(true),
        ..with_audience(API, true)
    };
    test.add_client("back-end", settings).await;
    let key = test.add_api_key("back-end", None).await;
    let by = |request: Sent| {
        request
            .set("client_id", "back-end")
            .header("x-api-key", &key)
    };
    let code = test.send(by(authorize())).await.text("code");
    let tokens = test.granted(by(exchange(&code))).await;
    let again = by(authorize()).header("x-dressipi-jwt", &tokens.access_token);
    let code = test.send(again).await.text("code");
    let resumed = test.granted(by(exchange(&code))).await;
    assert_eq!(resumed.sub(), tokens.sub());
}

#[tokio::test]
async fn f33_a_restriction_needs_an_audience_of_the_clients_own() {
    let test = TestApp::new().await;
    test.add_client("alone", with_audience(API, true)).await;
    let restricted = ClientSettings {
        audience_restricted: Some(true),
        ..ClientSettings::default()
    };
    let unset = ClientSettings {
        unset: vec![Choice::Audience],
        ..ClientSettings::default()
    };
    for (client, settings) in [(SHOP, restricted), ("alone", unset)] {
        let id = client.parse().unwrap();
        let change = Change::SetClient { id, settings };
        let refused = test.store.change(change).await.unwrap_err();
        assert!(
            matches!(
                refused,
                ChangeFailed::Refused(ChangeError::RestrictedToNothing)
            ),
            "{client}: {refused:?}"
        );
    }
}

#[test]
fn f33_the_command_line_restricts_a_client_to_its_audience() {
    let binary = Binary::new();
    let refused = binary.failure(&["client", "add", SHOP, "--audience-restricted"]);
    assert!(refused.contains("--audience TEXT"), "{refused}");
    binary.json(&[
        "client",
        "add",
        SHOP,
        "--audience",
        API,
        "--audience-restricted",
    ]);
    let set = |flags: &[&str]| {
        let set = [&["client", "set", SHOP], flags].concat();
        binary.json(&set)["audience_restricted"].clone()
    };
    let refused = binary.failure(&["client", "set", SHOP, "--audience=default"]);
    assert!(refused.contains("--no-audience-restricted"), "{refused}");
    let server = binary.serve();
    assert_eq!(server.guest().claims["aud"], API);
    assert!(server.stop().success());
    assert_eq!(set(&["--no-audience-restricted"]), false);
    let server = binary.serve();
    assert_eq!(server.guest().claims["aud"][0], API);
    assert!(server.stop().success());
    assert_eq!(set(&["--audience-restricted"]), true);
    let both = ["--no-audience-restricted", "--audience=default"];
    assert_eq!(set(&both), false);
}
