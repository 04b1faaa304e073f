//! The API's description says what the router does. That every answer has a status that is described is checked by
//! [`TestApp::send`] for the answers of all tests; that documents, requests and answers keep to their schemas by
//! tests/schema, against the binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use axum::http::StatusCode;
use guestpass::config::Config;
use guestpass_core::params::{Parameter, Presence};
use guestpass_core::{authorize, presented_token, session, ticket, token_request};
use serde_json::Value;

use super::support::{Answer, TestApp, request};
use super::support::{authorize as az, exchange, refresh};

const PATH: &str = "/oauth/openapi.json";

#[tokio::test]
async fn the_description_may_be_kept() {
    let test = TestApp::new().await;
    let answer = get(&test, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
    assert_eq!(answer.header("pragma"), None);
    let etag = answer.header("etag").unwrap().to_owned();
    assert_eq!(get(&test, &[]).await.body, answer.body);
    for known in [&*etag, "*", &format!("\"other\", W/{etag}")] {
        let answer = get(&test, &[("if-none-match", known)]).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
        assert_eq!(answer.header("etag"), Some(&*etag));
        assert!(answer.body.is_empty());
    }
    let other = get(&test, &[("if-none-match", "\"other\"")]).await;
    assert_eq!(other.status, StatusCode::OK);
}

#[tokio::test]
async fn the_description_names_the_configured_server_and_no_other() {
    let config = Config::from_sources(&[], Vec::new(), None).unwrap();
    let issuer = Some("https://id.example/api".parse().unwrap());
    let test = TestApp::with_config(Config { issuer, ..config }).await;
    let document = get(&test, &[("x-forwarded-host", "evil.example")]).await;
    assert!(!String::from_utf8_lossy(&document.body).contains("evil.example"));
    let document = document.json();
    assert_eq!(document["servers"][0]["url"], "https://id.example/api");
    for path in [
        "/.well-known/oauth-authorization-server/api",
        "/api/.well-known/oauth-authorization-server",
    ] {
        let metadata = &document["paths"][path];
        assert_eq!(
            metadata["servers"][0]["url"], "https://id.example",
            "{path}"
        );
    }
}

#[tokio::test]
async fn exactly_the_methods_that_are_described_are_answered() {
    let test = TestApp::new().await;
    for (path, methods) in described_methods(&document(&test).await) {
        for method in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO",
        ] {
            let answer = send(&test, method, &path).await;
            assert_ne!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
            let is_answered = answer.status != StatusCode::METHOD_NOT_ALLOWED;
            // A gateway may ask with any method, and OpenAPI has no word for most.
            let is_expected = methods.contains(method) || path == "/oauth/verify";
            assert_eq!(is_answered, is_expected, "{method} {path}");
            if !is_answered || method == "OPTIONS" {
                let allow = answer.header("allow").unwrap();
                let allowed: BTreeSet<_> = allow.split(", ").map(ToOwned::to_owned).collect();
                assert_eq!(allowed, methods, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn every_endpoint_of_the_code_is_described() {
    let test = TestApp::new().await;
    let described: BTreeSet<_> = described_methods(&document(&test).await)
        .into_keys()
        .collect();
    let mut found = BTreeSet::new();
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    for file in [http.clone(), http.join("openapi")] {
        for file in std::fs::read_dir(file).unwrap() {
            let file = file.unwrap().path();
            // The operators' API has no document.
            if file.is_file() && !file.ends_with("admin.rs") {
                let source = std::fs::read_to_string(file).unwrap();
                let paths = source.split("    path: \"").skip(1);
                found.extend(paths.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    assert_eq!(found, described);
}

#[tokio::test]
async fn operations_have_names_of_their_own_and_links_lead_to_them() {
    let test = TestApp::new().await;
    let document = document(&test).await;
    let mut names = BTreeSet::new();
    let mut links = BTreeSet::new();
    for operation in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} twice");
        for response in operation["responses"].as_object().unwrap().values() {
            for link in response["links"].as_object().into_iter().flatten() {
                links.insert(link.1["operationId"].as_str().unwrap().to_owned());
            }
        }
    }
    assert!(links.is_subset(&names), "{links:?}");
    let expected = [
        "attributes",
        "erase",
        "introspect",
        "link",
        "profile",
        "revoke",
        "ticket",
        "token",
        "unlink",
        "verify",
    ];
    assert!(links.iter().eq(expected), "{links:?}");
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let test = TestApp::new().await;
    let document = document(&test).await;
    let mut nodes = vec![&document];
    let mut references = 0;
    while let Some(node) = nodes.pop() {
        match node {
            Value::Object(members) => nodes.extend(members.values()),
            Value::Array(items) => nodes.extend(items),
            _ => {}
        }
        if let Some(target) = node.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
            references += 1;
        }
    }
    assert!(references > 100);
}

#[tokio::test]
async fn every_table_of_parameters_is_described() {
    let test = TestApp::new().await;
    let document = document(&test).await;
    let operation = |path: &str, method: &str| document["paths"][path][method].clone();
    let query: Vec<_> = operation("/oauth/authorize", "get")["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|described| {
            let name = described["name"].as_str().unwrap().to_owned();
            (name, described["required"] == true)
        })
        .collect();
    let table: Vec<_> = authorize::PARAMETERS
        .iter()
        .map(|it| (it.name.to_owned(), it.presence == Presence::Required))
        .collect();
    assert_eq!(query, table);
    let mode = operation("/oauth/verify", "put")["parameters"][0].clone();
    assert_eq!(mode["name"], "mode");

    let schemas = &document["components"]["schemas"];
    let members = |name: &str| {
        let members = schemas[name]["properties"].as_object().unwrap();
        members.keys().cloned().collect::<BTreeSet<_>>()
    };
    let names = |table: &[Parameter], without: &[&str]| {
        let names = table.iter().map(|it| it.name.to_owned());
        names
            .filter(|name| !without.contains(&&**name))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        members("AuthorizationCodeRequest"),
        names(token_request::PARAMETERS, &["refresh_token"])
    );
    assert_eq!(
        members("RefreshTokenRequest"),
        names(token_request::PARAMETERS, &["code", "code_verifier"])
    );
    for (schema, table) in [
        ("PresentedToken", presented_token::PARAMETERS),
        ("SessionRequest", session::PARAMETERS),
        ("TicketRequest", ticket::PARAMETERS),
    ] {
        assert_eq!(members(schema), names(table, &[]), "{schema}");
    }
    let end = operation("/oauth/session", "delete");
    let end: Vec<_> = end["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(end, ["client_id", "erase"]);
}

/// The tables agree with the parsers: a request fails without a parameter that they call required, and doesn't without
/// any other.
#[tokio::test]
async fn what_is_required_is_what_is_described() {
    let test = TestApp::new().await;
    let document = document(&test).await;
    let schemas = &document["components"]["schemas"];
    for parameter in authorize::PARAMETERS {
        let status = test.send(az().unset(parameter.name)).await.status;
        let is_required = parameter.presence == Presence::Required;
        assert_eq!(
            status == StatusCode::BAD_REQUEST,
            is_required,
            "{}",
            parameter.name
        );
    }
    for parameter in token_request::PARAMETERS {
        let code = test.code("shop").await;
        let guest = test.guest().await;
        for (schema, sent) in [
            ("AuthorizationCodeRequest", exchange(&code)),
            ("RefreshTokenRequest", refresh(&guest.refresh_token)),
        ] {
            let required = schemas[schema]["required"].as_array().unwrap();
            let is_required = required.iter().any(|name| name == parameter.name);
            let status = test.send(sent.unset(parameter.name)).await.status;
            let is_refused = status == StatusCode::BAD_REQUEST;
            assert_eq!(is_refused, is_required, "{schema} {}", parameter.name);
        }
    }
}

/// Returns the described methods by path.
fn described_methods(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, item)| {
            let members = item.as_object().unwrap().keys();
            let methods = members.filter(|member| *member != "servers");
            (path.clone(), methods.map(|it| it.to_uppercase()).collect())
        })
        .collect()
}

fn operations(document: &Value) -> impl Iterator<Item = &Value> {
    let items = document["paths"].as_object().unwrap().values();
    items
        .flat_map(|item| item.as_object().unwrap().values())
        .filter(|member| member.is_object())
}

async fn document(test: &TestApp) -> Value {
    get(test, &[]).await.json()
}

async fn get(test: &TestApp, headers: &[(&str, &str)]) -> Answer {
    let headers = headers.iter();
    let sent = headers.fold(request("GET", PATH), |sent, (name, value)| {
        sent.header(name, value)
    });
    test.send_http(sent.into_request()).await
}

/// Sends without the checks of [`TestApp::send`], because cacheable answers have other headers than it expects.
async fn send(test: &TestApp, method: &str, path: &str) -> Answer {
    test.send_http(request(method, path).into_request()).await
}
