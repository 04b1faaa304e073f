//! `guestpass key`, beside a running server and without one.

use axum::http::StatusCode;
use guestpass_verify::{KeySet, Verifier};
use serde_json::Value;

use crate::support::binary::{Binary, eventually};
use crate::support::{SHOP, Sent, exchange, refresh, request};

mod sqlite;

#[test]
fn a_rotation_is_followed_by_the_server_within_a_second_or_so() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let before = server.guest();
    let listed = binary.json(&["key", "list"]);
    let next = with(&listed, "access-token", "next");
    // Nobody but our own servers knows a key of HS256, and they follow within seconds.
    eventually("the next key may be used", || {
        binary.run(&["key", "rotate"]).code == Some(0)
    });
    let mut after = server.guest();
    eventually("the server signs with the next key", || {
        after = server.guest();
        after.header["kid"] == next
    });
    for tokens in [&before, &after] {
        let asked = bearer(request("GET", "/oauth/verify"), &tokens.access_token);
        assert_eq!(server.send(&asked).status, StatusCode::OK);
    }
    let listed = binary.json(&["key", "list"]);
    assert_eq!(with(&listed, "access-token", "current"), next);
    assert_eq!(
        with(&listed, "access-token", "retiring"),
        before.header["kid"]
    );

    // The exported keys verify without the server.
    let exported = binary.json(&["key", "export"]).to_string();
    let keys = KeySet::from_jwks(exported.as_bytes()).unwrap();
    let issuer = after.claims["iss"].as_str().unwrap();
    let now = after.claims["iat"].as_i64().unwrap();
    for tokens in [&before, &after] {
        let verified = Verifier::new(issuer).verify(&tokens.access_token, &keys, now);
        assert_eq!(verified.unwrap().subject, tokens.sub());
    }
}

#[test]
fn a_rotation_that_would_break_verifiers_says_how_long_to_wait() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", "ES256");
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let problem = binary.failure(&["key", "rotate"]);
    assert!(
        problem.contains("for another 5 min") && problem.contains("--force"),
        "{problem}"
    );
    let next = with(&binary.json(&["key", "list"]), "access-token", "next");
    let rotated = binary.json(&["key", "rotate", "--force"]);
    assert_eq!(rotated["current"]["kid"], next);
    eventually("the server signs with it", || {
        server.guest().header["kid"] == next
    });
}

#[test]
fn sealing_keys_rotate_three_deep_and_no_further() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let rotate = ["key", "rotate", "--use", "credential"];
    let current = || with(&binary.json(&["key", "list"]), "credential", "current");
    let code = server.send(&crate::support::authorize()).text("code");
    let mut tokens = server.guest();
    for _ in 0..2 {
        let before = current();
        let made = binary.json(&rotate)["next"]["kid"].clone();
        assert!(binary.failure(&rotate).contains("isn't over"));
        eventually("the server seals with it", || current() == made);
        assert_ne!(before, made);
        // A token that the last key sealed opens, and its successor is the new key's.
        tokens = server.send(&refresh(&tokens.refresh_token)).tokens();
    }
    let problem = binary.failure(&rotate);
    assert!(problem.contains("up to 1 guests"), "{problem}");
    // The code is the first key's.
    assert_eq!(server.send(&exchange(&code)).status, StatusCode::OK);
    let listed = binary.json(&["key", "list"]);
    let oldest = with(&listed, "credential", "retiring");
    binary.json(&["key", "rotate", "--use", "credential", "--force"]);
    let listed = binary.json(&["key", "list"]);
    assert!(!listed.to_string().contains(oldest.as_str().unwrap()));
    server.send(&refresh(&tokens.refresh_token)).tokens();
}

#[test]
fn a_key_that_has_leaked_is_rotated_and_removed() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let before = server.guest();
    let leaked = before.header["kid"].as_str().unwrap();
    assert!(
        binary
            .failure(&["key", "remove", leaked])
            .contains("key rotate")
    );
    assert!(binary.failure(&["key", "remove", "x"]).contains("key list"));
    binary.json(&["key", "rotate", "--force"]);
    binary.json(&["key", "remove", leaked]);
    let asked = bearer(request("GET", "/oauth/verify"), &before.access_token);
    eventually("the server refuses what the key has signed", || {
        server.send(&asked).status == StatusCode::UNAUTHORIZED
    });
    let after = server.send(&refresh(&before.refresh_token)).tokens();
    let asked = bearer(request("GET", "/oauth/verify"), &after.access_token);
    assert_eq!(server.send(&asked).status, StatusCode::OK);
}

/// The `kid` of the first key of that use in that state.
fn with(listed: &Value, key_use: &str, state: &str) -> Value {
    let mut keys = listed.as_array().unwrap().iter();
    let found = keys.find(|key| key["use"] == key_use && key["state"] == state);
    found.map_or(Value::Null, |key| key["kid"].clone())
}

fn bearer(request: Sent, token: &str) -> Sent {
    request.header("authorization", format!("Bearer {token}"))
}
