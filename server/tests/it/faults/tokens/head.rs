//! `HEAD` where `GET` is (RFC 9110 §9.3.2): health checks ask so.

use axum::http::StatusCode;

use crate::support::{
    Answer, Connection, TestApp, authorize, introspect, profile, refresh, request, revoke, verify,
};

/// The headers but for the id of the request.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let headers = answer.headers.iter();
    let mut headers: Vec<_> = headers
        .filter(|(name, _)| *name != "x-request-id")
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    headers
}

#[tokio::test]
async fn f31_head_is_get_without_a_body() {
    let test = TestApp::new().await;
    let token = test.guest().await.access_token;
    for get in [
        request("GET", "/livez"),
        request("GET", "/readyz"),
        request("GET", "/.well-known/oauth-authorization-server"),
        request("GET", "/oauth/jwks"),
        request("GET", "/api/oauth/jwks"),
        request("GET", "/oauth/openapi.json"),
        profile(&token),
        profile("garbage"),
        verify(&token),
        verify("garbage"),
    ] {
        let head = test.send(get.clone().method("HEAD")).await;
        let got = test.send(get.clone()).await;
        assert_eq!(head.status, got.status, "{get:?}");
        assert_eq!(headers(&head), headers(&got), "{get:?}");
        assert!(head.body.is_empty() && !got.body.is_empty(), "{get:?}");
        let Some(etag) = got.header("etag") else {
            continue;
        };
        let known = |method| get.clone().method(method).header("if-none-match", etag);
        let (head, got) = (
            test.send(known("HEAD")).await,
            test.send(known("GET")).await,
        );
        assert_eq!(head.status, StatusCode::NOT_MODIFIED, "{get:?}");
        assert_eq!(headers(&head), headers(&got), "{get:?}");
    }
}

#[tokio::test]
async fn f31_head_is_allowed_where_get_is_but_for_authorize() {
    let test = TestApp::new().await;
    let token = test.guest().await.access_token;
    for (request, allow) in [
        (request("POST", "/livez"), "GET, HEAD, OPTIONS"),
        (request("POST", "/readyz"), "GET, HEAD, OPTIONS"),
        (request("POST", "/oauth/jwks"), "GET, HEAD, OPTIONS"),
        (profile(&token).method("POST"), "GET, HEAD, DELETE, OPTIONS"),
        (authorize().method("HEAD"), "GET, OPTIONS"),
        (authorize().method("POST"), "GET, OPTIONS"),
        (revoke(&token).method("HEAD"), "POST, OPTIONS"),
        (introspect(&token).method("HEAD"), "POST, OPTIONS"),
        (refresh("x").method("HEAD"), "POST, OPTIONS"),
    ] {
        let rows = test.rows().await;
        let answer = test.send(request.clone()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{request:?}");
        assert_eq!(answer.header("allow"), Some(allow), "{request:?}");
        assert_eq!(test.rows().await, rows, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f31_a_connection_goes_on_after_head() {
    let test = TestApp::new().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    for path in ["/livez", "/oauth/openapi.json", "/readyz"] {
        for method in ["HEAD", "GET"] {
            let answer = connection.send(&request(method, path)).unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
        }
    }
}
