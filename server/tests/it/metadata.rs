//! Section 5 of the cases, as far as it is about authorization server metadata (RFC 8414).

use axum::http::StatusCode;
use guestpass::config::{Config, Issuer};
use serde_json::{Value, json};

use crate::support::{ISSUER, TestApp, config, request};

const PATH: &str = "/.well-known/oauth-authorization-server";

#[tokio::test]
async fn c114_the_document_says_what_works() {
    let test = TestApp::new().await;
    let answer = test.send(request("GET", PATH)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    let (basic, post) = ("client_secret_basic", "client_secret_post");
    let header = "urn:guestpass:auth-method:x-api-key";
    let expected = json!({
        "issuer": test.guest().await.claims["iss"],
        "authorization_endpoint": format!("{ISSUER}/oauth/authorize"),
        "token_endpoint": format!("{ISSUER}/oauth/token"),
        "jwks_uri": format!("{ISSUER}/oauth/jwks"),
        "revocation_endpoint": format!("{ISSUER}/oauth/revoke"),
        "introspection_endpoint": format!("{ISSUER}/oauth/introspect"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["urn:guestpass:response-mode:body"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", basic, post, header],
        "revocation_endpoint_auth_methods_supported": ["none", basic, post, header],
        "introspection_endpoint_auth_methods_supported": [basic, post, header],
    });
    let mut said = answer.json();
    // Members about documentation for people, if there are any.
    said.as_object_mut()
        .unwrap()
        .remove("service_documentation");
    assert_eq!(said, expected);
    let etag = answer.header("etag").unwrap();
    let again = test
        .send(request("GET", PATH).header("if-none-match", etag))
        .await;
    assert_eq!(
        (again.status, again.body.len()),
        (StatusCode::NOT_MODIFIED, 0)
    );
}

#[tokio::test]
async fn c114_the_endpoints_are_where_the_document_says() {
    for (issuer, base_paths, path, base) in [
        ("https://id.example", &["", "/api"][..], PATH.to_owned(), ""),
        (
            "https://id.example/api",
            &["", "/api"],
            format!("{PATH}/api"),
            "/api",
        ),
        ("https://id.example/api", &[""], format!("{PATH}/api"), ""),
        (
            "https://id.example:8443",
            &["/api"],
            PATH.to_owned(),
            "/api",
        ),
        ("http://127.0.0.1:8080", &["", "/api"], PATH.to_owned(), ""),
    ] {
        let base_paths = base_paths.iter().map(|path| (*path).to_owned());
        let config = Config {
            base_paths: base_paths.collect(),
            ..config(&[("issuer", issuer)])
        };
        let test = TestApp::with_config(config).await;
        let answer = test.send(request("GET", &path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {answer:?}");
        let said = answer.json();
        assert_eq!(said["issuer"], issuer);
        let origin = issuer.trim_end_matches("/api");
        for (name, value) in said.as_object().unwrap() {
            if !name.ends_with("_endpoint") && name != "jwks_uri" {
                continue;
            }
            let value = value.as_str().unwrap();
            let path = value
                .strip_prefix(origin)
                .unwrap_or_else(|| panic!("{name}: {value}"));
            assert!(
                path.starts_with(&format!("{base}/oauth/")),
                "{name}: {value}"
            );
            let options = test.send(request("OPTIONS", path)).await;
            assert_eq!(options.status, StatusCode::NO_CONTENT, "{name}: {value}");
        }
    }
}

#[test]
fn c114_an_issuer_that_others_can_read_is_refused() {
    for refused in [
        "http://id.example",
        "http://id.example:8080",
        "http://192.0.2.1",
        "http://[2001:db8::1]",
        "http://localhost.evil.example",
        "ftp://id.example",
        "id.example",
    ] {
        assert!(refused.parse::<Issuer>().is_err(), "{refused}");
        let settings = [("issuer", refused.to_owned())];
        assert!(
            Config::from_sources(&settings, Vec::new(), None).is_err(),
            "{refused}"
        );
    }
    for taken in [
        "https://id.example",
        "http://127.0.0.1:8080",
        "http://[::1]:1",
        "http://localhost",
    ] {
        assert!(taken.parse::<Issuer>().is_ok(), "{taken}");
    }
}

#[tokio::test]
async fn c115_the_document_is_the_same_whatever_the_request_calls_the_host() {
    let test = TestApp::new().await;
    let plain = test.send(request("GET", PATH)).await;
    let with = |name: &str, value: &str| request("GET", PATH).header(name, value);
    for request in [
        with("host", "evil.example"),
        with("x-forwarded-host", "evil.example"),
        with("x-forwarded-proto", "http"),
        with("x-forwarded-prefix", "/evil"),
        with("forwarded", "host=evil.example;proto=http"),
        with("x-original-host", "evil.example"),
        with("origin", "https://evil.example"),
        request("GET", &format!("{PATH}?issuer=https://evil.example")),
    ] {
        let answer = test.send(request).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &plain.body));
        for value in answer.headers.values() {
            assert!(!value.to_str().unwrap().contains("evil"), "{answer:?}");
        }
    }
    let said: Value = plain.json();
    assert_eq!(said["issuer"], ISSUER);
}
