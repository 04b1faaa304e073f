//! Sections 5 and 9 of the cases, as far as they are about keys: which there are, who sees them, and how they change
//! without a token that is refused.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass::clock::Clock;
use guestpass::keys::{KeyState, KeyUse, RotateError, RotationRefused};
use guestpass_core::time::Timestamp;
use guestpass_verify::{KeySet, Verifier};
use serde_json::{Value, json};

use crate::support::{
    Answer, DAY, Forged, ISSUER, TestApp, Tokens, config, lines_of, refresh, request, sha256,
    verify,
};

const ALGORITHMS: [&str; 4] = ["HS256", "ES256", "EdDSA", "RS256"];

async fn server(algorithm: &str) -> TestApp {
    TestApp::with_config(config(&[("tokens.algorithm", algorithm)])).await
}

/// The published keys, by their names.
async fn published(test: &TestApp) -> HashMap<String, Value> {
    let jwks = test.send(request("GET", "/oauth/jwks")).await.json();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| (key["kid"].as_str().unwrap().to_owned(), key.clone()))
        .collect()
}

fn kid(tokens: &Tokens) -> &str {
    tokens.header["kid"].as_str().unwrap()
}

/// Returns the metadata of the signing keys, in the order of their use.
fn signing(test: &TestApp) -> Vec<(String, KeyState)> {
    let keys = test.app.keys().now();
    let mut ours: Vec<_> = keys
        .list()
        .iter()
        .filter(|key| key.key_use == KeyUse::AccessToken)
        .collect();
    ours.sort_by_key(|key| key.current_at.map_or(i64::MAX, Timestamp::as_millis));
    ours.iter()
        .map(|key| (key.kid.clone(), key.state()))
        .collect()
}

#[tokio::test]
async fn c096_each_algorithm_names_its_key_and_publishes_it_unless_it_is_secret() {
    for algorithm in ALGORITHMS {
        let test = server(algorithm).await;
        let tokens = test.guest().await;
        let header = &tokens.header;
        assert_eq!(
            *header,
            json!({"alg": algorithm, "typ": "at+jwt", "kid": kid(&tokens)})
        );
        let keys = published(&test).await;
        if algorithm == "HS256" {
            assert!(keys.is_empty(), "{keys:?}");
            continue;
        }
        let key = &keys[kid(&tokens)];
        assert_eq!(
            (&key["alg"], &key["use"]),
            (&json!(algorithm), &json!("sig"))
        );
        // RFC 7638 §3: the members that every such key must have, in the order of their names.
        let required: &[&str] = match algorithm {
            "ES256" => &["crv", "kty", "x", "y"],
            "EdDSA" => &["crv", "kty", "x"],
            _ => &["e", "kty", "n"],
        };
        let members: Vec<_> = required
            .iter()
            .map(|name| format!("\"{name}\":{}", key[name]))
            .collect();
        let thumbprint = sha256(format!("{{{}}}", members.join(",")).as_bytes());
        assert_eq!(kid(&tokens), URL_SAFE_NO_PAD.encode(thumbprint));
        for claim in [
            "iss",
            "sub",
            "aud",
            "client_id",
            "iat",
            "exp",
            "jti",
            "sid",
            "subn",
        ] {
            assert!(!tokens.claims[claim].is_null(), "{claim}");
        }
        let payload = tokens.access_token.split('.').nth(1).unwrap();
        assert!(
            payload.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{payload}"
        );
    }
}

#[tokio::test]
async fn c113_the_key_set_holds_public_keys_the_next_one_too() {
    const PUBLIC: [&str; 9] = ["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"];
    for algorithm in ALGORITHMS {
        let settings = [
            ("tokens.algorithm", algorithm),
            ("keys.jwks_max_age", "10m"),
        ];
        let test = TestApp::with_config(config(&settings)).await;
        for path in ["/oauth/jwks", "/api/oauth/jwks"] {
            let answer = test.send(request("GET", path)).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("cache-control"), Some("public, max-age=600"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            let jwks = answer.json();
            assert_eq!(jwks.as_object().unwrap().len(), 1);
            let keys = jwks["keys"].as_array().unwrap();
            // The current one and the next. A secret is not shown to anyone.
            assert_eq!(keys.len(), if algorithm == "HS256" { 0 } else { 2 });
            for key in keys {
                let mut names = key.as_object().unwrap().keys();
                assert!(names.all(|name| PUBLIC.contains(&name.as_str())), "{key}");
            }
            // A verifier needs nothing else.
            let tokens = test.guest().await;
            let set = KeySet::from_jwks(&answer.body).unwrap();
            let now = test.clock.now().as_seconds();
            let verified = Verifier::new(ISSUER).verify(&tokens.access_token, &set, now);
            assert_eq!(verified.is_ok(), algorithm != "HS256", "{verified:?}");
        }
    }
}

#[tokio::test]
async fn c113_who_has_the_key_set_is_told_no_more_until_it_changes() {
    let test = server("ES256").await;
    let jwks = || request("GET", "/oauth/jwks");
    let first = test.send(jwks()).await;
    let etag = first.header("etag").unwrap().to_owned();
    let unchanged = |answer: &Answer| {
        assert_eq!(
            (answer.status, answer.body.len()),
            (StatusCode::NOT_MODIFIED, 0)
        );
        for name in ["etag", "cache-control"] {
            assert_eq!(answer.header(name), first.header(name), "{name}");
        }
    };
    for known in [
        etag.clone(),
        format!("W/{etag}"),
        format!("\"other\", {etag}"),
        format!("\"other\",W/{etag}"),
        "*".to_owned(),
    ] {
        unchanged(&test.send(jwks().header("if-none-match", &known)).await);
    }
    unchanged(
        &test
            .send(
                jwks()
                    .header("if-none-match", "\"other\"")
                    .header("if-none-match", &etag),
            )
            .await,
    );
    for other in ["\"other\"", "", &etag[1..], "\u{e9}"] {
        let answer = test.send(jwks().header("if-none-match", other)).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &first.body));
    }
    rotate(&test).await;
    let answer = test.send(jwks().header("if-none-match", &etag)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_ne!(answer.header("etag"), Some(&*etag));
}

/// Waits until verifiers have the next key, and rotates.
async fn rotate(test: &TestApp) {
    test.clock.advance_secs(305);
    test.app.follow().await;
    let rotated = test
        .app
        .keys()
        .rotate(KeyUse::AccessToken, test.clock.now(), false)
        .await;
    assert!(rotated.unwrap());
    test.app.follow().await;
}

#[tokio::test]
async fn c112_tokens_of_the_previous_key_are_good_until_its_end() {
    for algorithm in ALGORITHMS {
        let test = server(algorithm).await;
        let before = test.guest().await;
        // Not before every verifier can know it: the key set may be kept for five minutes.
        if algorithm != "HS256" {
            test.clock.advance_secs(304);
            let early = test
                .app
                .keys()
                .rotate(KeyUse::AccessToken, test.clock.now(), false)
                .await;
            let Err(RotateError::Refused(RotationRefused::TooSoon(wait))) = early else {
                panic!("{algorithm}: {:?}", early.is_ok());
            };
            assert_eq!(wait, Duration::from_secs(1));
        }
        let next = &signing(&test)[1].0.clone();
        rotate(&test).await;
        let after = test.granted(refresh(&before.refresh_token)).await;
        assert_eq!(
            (kid(&after), &after.header["alg"]),
            (&**next, &json!(algorithm))
        );
        assert_ne!(kid(&before), kid(&after));
        for tokens in [&before, &after] {
            assert!(test.is_live(tokens).await, "{algorithm}");
        }
        let states: Vec<_> = signing(&test).into_iter().map(|(_, state)| state).collect();
        assert_eq!(
            states,
            [KeyState::Retiring, KeyState::Current, KeyState::Next]
        );
        if algorithm != "HS256" {
            let keys = published(&test).await;
            assert_eq!(keys.len(), 3);
            assert!(keys.contains_key(kid(&before)) && keys.contains_key(kid(&after)));
        }
        // To its last second; and the key goes when nothing that it signed can be valid.
        let left = before.claims["exp"].as_i64().unwrap() - test.clock.now().as_seconds();
        test.clock.advance_secs(left.unsigned_abs() - 1);
        assert!(test.passes(&before.access_token).await);
        test.clock.advance_secs(700);
        test.app.follow().await;
        test.clean().await;
        let answer = test.send(verify(&before.access_token)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refusal(&answer), "access_token_key_unknown");
        assert_eq!(signing(&test).len(), 2);
        assert!(!published(&test).await.contains_key(kid(&before)));
        let last = test.granted(refresh(&after.refresh_token)).await;
        assert!(test.is_live(&last).await);
    }
}

#[tokio::test]
async fn c112_a_removed_key_verifies_nothing_however_long_its_token_says_it_lives() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let exp = tokens.claims["exp"].as_i64().unwrap() + 30 * 86_400;
    let long = Forged::like(&test, &tokens).claim("exp", json!(exp)).sign();
    assert!(test.passes(&long).await);
    rotate(&test).await;
    assert!(test.passes(&long).await);
    test.clock.advance(DAY + Duration::from_secs(60));
    test.clean().await;
    assert!(!test.passes(&long).await);
}

/// The name of the refusal in the log.
fn refusal(answer: &Answer) -> String {
    let lines = lines_of(answer.log_name());
    let line = lines.iter().find(|line| line["message"] == "answered");
    line.unwrap()["refusal"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rotation_that_is_forced_does_not_wait() {
    let test = server("EdDSA").await;
    let before = test.guest().await;
    let now = test.clock.now();
    assert!(
        test.app
            .keys()
            .rotate(KeyUse::AccessToken, now, true)
            .await
            .unwrap()
    );
    let after = test.guest().await;
    assert_ne!(kid(&before), kid(&after));
    assert!(test.is_live(&before).await && test.is_live(&after).await);
}

#[tokio::test]
async fn keys_rotate_by_themselves_if_they_are_told_to() {
    let settings = [("tokens.algorithm", "ES256"), ("keys.rotate_every", "7d")];
    let test = TestApp::with_config(config(&settings)).await;
    let mut kids = HashSet::new();
    let mut newest = test.guest().await;
    for _ in 0..60 {
        kids.insert(kid(&newest).to_owned());
        test.clock.advance(DAY / 2);
        test.app.follow().await;
        test.clean().await;
        newest = test.granted(refresh(&newest.refresh_token)).await;
        assert!(test.passes(&newest.access_token).await);
        assert!(published(&test).await.contains_key(kid(&newest)));
        assert!(published(&test).await.len() <= 3);
    }
    assert_eq!(kids.len(), 5, "thirty days");
}

#[tokio::test]
async fn another_algorithm_takes_over_without_one_refused_token() {
    for (from, to) in [
        ("HS256", "ES256"),
        ("ES256", "EdDSA"),
        ("EdDSA", "RS256"),
        ("RS256", "HS256"),
    ] {
        let first = server(from).await;
        let mut issued = vec![first.guest().await];
        let known = published(&first).await;
        let test = first.beside(config(&[("tokens.algorithm", to)])).await;
        drop(first);
        let mut seen: HashMap<String, Timestamp> = known
            .into_keys()
            .map(|kid| (kid, Timestamp::from_millis(0)))
            .collect();
        let steps = [vec![Duration::from_secs(60); 10], vec![DAY / 8; 16]].concat();
        for step in steps {
            let now = test.clock.now();
            for kid in published(&test).await.into_keys() {
                seen.entry(kid).or_insert(now);
            }
            let newest = issued.last().unwrap();
            let next = test.granted(refresh(&newest.refresh_token)).await;
            if next.header["alg"] != "HS256" {
                // A verifier that fetched the key set just before this key came, and kept it as long as allowed, has
                // it.
                let known = now.since(seen[kid(&next)]);
                assert!(known >= Duration::from_secs(300), "{to}: after {known:?}");
            }
            issued.push(next);
            issued.retain(|tokens| tokens.claims["exp"].as_i64().unwrap() > now.as_seconds());
            for tokens in &issued {
                assert!(
                    test.passes(&tokens.access_token).await,
                    "from {from} to {to}"
                );
            }
            assert!(test.is_live(issued.last().unwrap()).await);
            test.clock.advance(step);
            test.app.follow().await;
            test.clean().await;
        }
        let algorithms: HashSet<_> = issued
            .iter()
            .map(|tokens| tokens.header["alg"].to_string())
            .collect();
        assert_eq!(algorithms, HashSet::from([json!(to).to_string()]));
        let states: Vec<_> = signing(&test).into_iter().map(|(_, state)| state).collect();
        assert_eq!(states, [KeyState::Current, KeyState::Next]);
        let keys = published(&test).await;
        assert!(keys.values().all(|key| key["alg"] == to), "{keys:?}");
    }
}

#[tokio::test]
async fn c073_a_retry_after_a_rotation_of_the_sealing_key_gets_the_same_generation() {
    let test = TestApp::new().await;
    let first = test.guest().await;
    let rotated = test
        .app
        .keys()
        .rotate(KeyUse::Credential, test.clock.now(), false)
        .await;
    assert!(rotated.unwrap());
    test.app.follow().await;
    let second = test.granted(refresh(&first.refresh_token)).await;
    let rows = test.rows().await;
    // Every node has the new key by then, and seals with it.
    test.clock.advance_secs(5);
    test.app.follow().await;
    let again = test.granted(refresh(&first.refresh_token)).await;
    assert_ne!(again.refresh_token, second.refresh_token);
    let opened = |tokens: &Tokens| test.app.keys().now().open(&tokens.refresh_token).unwrap();
    assert_eq!(opened(&again), opened(&second));
    assert_eq!(test.rows().await, rows, "nothing is written");
    for tokens in [&second, &again] {
        assert!(test.is_live(tokens).await);
    }
    let third = test.granted(refresh(&second.refresh_token)).await;
    assert!(test.is_live(&third).await);
}
