//! What a gateway could take for a yes is one.

use axum::http::StatusCode;
use guestpass_core::client::ClientSettings;

use crate::support::{SHOP, TestApp, request};

const PAGE: &str = "https://shop.example";

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
