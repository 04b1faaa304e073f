//! Section 4 of the cases: client authentication with API keys. The console's half of C095 is not covered yet.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use guestpass::clients::new_api_key;
use guestpass::clock::Clock;
use guestpass_core::client::{ApiKey, ApiKeyHash, ApiKeyId, Change};

use crate::support::binary::Binary;
use crate::support::{
    SHOP, Sent, TestApp, authorize, exchange, lines_of, percent, refresh, sha256,
};

mod in_body;

/// A confidential client.
const BACKEND: &str = "backend";

#[tokio::test]
async fn c085_a_confidential_client_without_a_working_key_authorizes_nobody() {
    let test = TestApp::new().await;
    let right = test.add_confidential_client(BACKEND).await;
    let revoked = test.add_api_key(BACKEND, None).await;
    let end = test.clock.now() + Duration::from_secs(60);
    let expired = test.add_api_key(BACKEND, Some(end)).await;
    let request = |key| with_key(authorize().set("client_id", BACKEND), key);
    for key in [&right, &revoked, &expired] {
        assert_eq!(test.send(request(Some(key))).await.status, 200);
    }
    revoke(&test, &revoked).await;
    test.clock.advance_secs(60);
    let wrong = altered(&right, 20);
    let mut bodies = HashSet::new();
    for key in [None, Some(&wrong), Some(&revoked), Some(&expired)] {
        let answer = test.refused(request(key), "unauthorized_client").await;
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1);
    assert_eq!(test.send(request(Some(&right))).await.status, 200);
}

#[tokio::test]
async fn c086_a_confidential_client_without_its_key_gets_no_token() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let calls = Calls::of(&test, BACKEND, Some(&key)).await;
    for wrong in [None, Some(&altered(&key, 20))] {
        calls.are_refused(&test, |call| with_key(call, wrong)).await;
    }
    calls
        .are_granted(&test, |call| with_key(call, Some(&key)))
        .await;
}

#[tokio::test]
async fn c087_a_key_is_its_own_clients_alone() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let other_key = test.add_confidential_client("other").await;
    let calls = Calls::of(&test, BACKEND, Some(&key)).await;
    let other_calls = Calls::of(&test, "other", Some(&other_key)).await;
    calls
        .are_refused(&test, |call| with_key(call, Some(&other_key)))
        .await;
    other_calls
        .are_refused(&test, |call| with_key(call, Some(&key)))
        .await;
    calls
        .are_granted(&test, |call| with_key(call, Some(&key)))
        .await;
    other_calls
        .are_granted(&test, |call| with_key(call, Some(&other_key)))
        .await;
}

#[tokio::test]
async fn c088_a_public_client_needs_no_key() {
    let test = TestApp::new().await;
    let calls = Calls::of(&test, SHOP, None).await;
    calls.are_granted(&test, |call| call).await;
}

#[tokio::test]
async fn c089_a_key_that_is_shown_is_checked() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let calls = Calls::of(&test, SHOP, None).await;
    for wrong in [&altered(&key, 20), &key] {
        calls
            .are_refused(&test, |call| with_key(call, Some(wrong)))
            .await;
    }
    calls.are_granted(&test, |call| call).await;
}

#[tokio::test]
async fn c090_no_shape_of_a_key_is_trouble() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let long = "k".repeat(8192);
    for (client_id, key) in [(SHOP, None), (BACKEND, Some(&key))] {
        let calls = Calls::of(&test, client_id, key).await;
        for shape in [
            "".as_bytes(),
            long.as_bytes(),
            "clé".as_bytes(),
            b"\xff\xfe",
        ] {
            calls
                .are_refused(&test, |call| call.header("x-api-key", shape))
                .await;
        }
        let any = key.map_or("any", String::as_str);
        for (call, _) in calls.all() {
            for second in [any, "other", ""] {
                let twice = call
                    .clone()
                    .header("x-api-key", any)
                    .header("x-api-key", second);
                test.refused(twice, "invalid_request").await;
            }
        }
        calls.are_granted(&test, |call| with_key(call, key)).await;
    }
}

#[tokio::test]
async fn c091_two_keys_work_until_the_old_one_ends() {
    let test = TestApp::new().await;
    let new = test.add_confidential_client(BACKEND).await;
    let end = test.clock.now() + Duration::from_secs(60);
    let old = test.add_api_key(BACKEND, Some(end)).await;
    test.clock.advance_secs(59);
    for key in [&old, &new] {
        let calls = Calls::of(&test, BACKEND, Some(key)).await;
        calls
            .are_granted(&test, |call| with_key(call, Some(key)))
            .await;
    }
    let calls = Calls::of(&test, BACKEND, Some(&old)).await;
    test.clock.advance_secs(1);
    calls
        .are_refused(&test, |call| with_key(call, Some(&old)))
        .await;
    calls
        .are_granted(&test, |call| with_key(call, Some(&new)))
        .await;
}

#[tokio::test]
async fn c092_a_key_in_the_query_is_no_key() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let backend = Calls::of(&test, BACKEND, Some(&key)).await;
    let shop = Calls::of(&test, SHOP, None).await;
    for name in ["x-api-key", "api_key"] {
        // Among the other parameters, which of a token request may stand in the body or in the query.
        backend
            .are_refused(&test, |call| call.also(name, &key))
            .await;
        backend
            .are_refused(&test, |call| call.also(name, &key).in_query())
            .await;
        // In the query beside a body.
        let (call, error) = &backend.all()[2];
        let beside = format!("/oauth/token?{name}={key}");
        let answer = test.refused(call.clone().path(&beside), error).await;
        let lines = lines_of(answer.log_name());
        assert!(!lines.is_empty());
        assert!(!format!("{lines:?}").contains(&key), "{lines:?}");
    }
    // Absent, so that there is nothing to check either.
    shop.are_granted(&test, |call| {
        call.also("x-api-key", "x").also("api_key", "x")
    })
    .await;
    backend
        .are_granted(&test, |call| with_key(call, Some(&key)))
        .await;
}

#[tokio::test]
async fn c093_basic_authentication_works_as_the_key_does() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    // A colon ends the user, so that one inside is encoded (RFC 6749 §2.3.1).
    let key_of_colon = test.add_confidential_client("a:b").await;
    for (client_id, key) in [
        (BACKEND, Some(&key)),
        ("a:b", Some(&key_of_colon)),
        (SHOP, None),
    ] {
        let right = basic(client_id, key.map_or("", String::as_str));
        let calls = Calls::of(&test, client_id, key).await;
        calls
            .are_granted(&test, |call| call.header("authorization", &right))
            .await;
        // A scheme is case-insensitive, and `client_id` may be left out beside Basic.
        let right = right.replace("Basic", "bASIC");
        let unnamed = |call: Sent| call.unset("client_id").header("authorization", &right);
        let calls = Calls::of(&test, client_id, key).await;
        calls.are_granted(&test, unnamed).await;
    }
}

#[tokio::test]
async fn c093_wrong_basic_authentication_is_answered_in_its_terms() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let other_key = test.add_confidential_client("other").await;
    let calls = Calls::of(&test, BACKEND, Some(&key)).await;
    let encoded = |text: &[u8]| format!("Basic {}", STANDARD.encode(text));
    let mut bodies = HashSet::new();
    for wrong in [
        basic(BACKEND, &altered(&key, 20)),
        basic(BACKEND, &other_key),
        basic(BACKEND, ""),
        basic("nobody", &key),
        basic(SHOP, &key),
        encoded(b"no colon"),
        encoded(b"%zz:x"),
        encoded(b"\xff:\xff"),
        "Basic !".to_owned(),
        "Basic".to_owned(),
    ] {
        for (call, error) in calls.all() {
            let before = test.rows().await;
            let call = call.unset("client_id").header("authorization", &wrong);
            let answer = test.send(call).await;
            let given = (answer.status, answer.error());
            assert_eq!(given, (StatusCode::UNAUTHORIZED, error), "{wrong}");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(
                challenge.starts_with("Basic realm="),
                "{wrong}: {challenge}"
            );
            assert_eq!(test.rows().await, before, "{wrong}");
            bodies.insert(answer.text("error_description"));
        }
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    calls
        .are_granted(&test, |call| with_key(call, Some(&key)))
        .await;
}

#[tokio::test]
async fn c093_one_request_names_one_client_in_one_way() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client(BACKEND).await;
    let right = basic(BACKEND, &key);
    let calls = Calls::of(&test, BACKEND, Some(&key)).await;
    for (call, _) in calls.all() {
        let by_basic = call.header("authorization", &right);
        for ambiguous in [
            by_basic.clone().set("client_id", SHOP),
            by_basic.clone().header("x-api-key", &key),
            by_basic.clone().header("x-api-key", ""),
            by_basic.clone().header("authorization", &right),
        ] {
            test.refused(ambiguous, "invalid_request").await;
        }
    }
    calls
        .are_granted(&test, |call| with_key(call, Some(&key)))
        .await;
}

/// Time doesn't depend on where keys differ, because hashes are compared, and all their bytes. That isn't measured
/// here.
#[tokio::test]
async fn c094_a_key_matches_whole_and_wherever_it_stands() {
    let test = TestApp::new().await;
    let now = test.clock.now();
    for place in [0, 16, 32] {
        let id = format!("client-{place}");
        test.add_confidential_client(&id).await;
        let (secret, mut right) = new_api_key(&*test.random, now, None);
        right.created_at = now + Duration::from_millis(place * 2);
        let key = secret.expose().to_owned();
        let request = |key: &str| authorize().set("client_id", &id).header("x-api-key", key);
        // Each of these is wrong in one byte of its hash.
        for at in 0..32 {
            let mut hash = *right.hash.as_bytes();
            hash[at as usize] ^= 1;
            let near = ApiKey {
                id: ApiKeyId(format!("near-{at}")),
                hash: ApiKeyHash::from_bytes(hash),
                created_at: now + Duration::from_millis(at * 2 + 1),
                ..right.clone()
            };
            test.change(Change::AddApiKey(id.parse().unwrap(), near))
                .await;
        }
        test.refused(request(&key), "unauthorized_client").await;
        test.change(Change::AddApiKey(id.parse().unwrap(), right))
            .await;
        assert_eq!(test.send(request(&key)).await.status, 200, "{place}");
        let altered = (0..key.len()).map(|at| altered(&key, at));
        let around = [
            key[1..].to_owned(),
            key[..key.len() - 1].to_owned(),
            format!("{key}A"),
        ];
        for wrong in altered.chain(around) {
            test.refused(request(&wrong), "unauthorized_client").await;
        }
    }
}

#[test]
fn c095_a_key_is_shown_once_and_known_by_its_beginning() {
    let binary = Binary::new();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let first = binary.json(&["client", "add", BACKEND, "--confidential"]);
    let second = binary.json(&["client", "key", "add", BACKEND]);
    let keys = [text(&first["api_key"]), text(&second["api_key"])];
    let beginnings = keys.clone().map(|key| key[..12].to_owned());
    assert_ne!(beginnings[0], beginnings[1]);
    assert_eq!(second["key_id"], *beginnings[1]);
    for command in [
        &["client", "key", "list", BACKEND][..],
        &["client", "show", BACKEND],
        &["client", "list"],
        &["client", "key", "revoke", BACKEND, &beginnings[0]],
        &["client", "set", BACKEND, "--no-query-params"],
    ] {
        for format in [&[][..], &["--json"]] {
            let ended = binary.run(&[format, command].concat());
            assert_eq!(ended.code, Some(0), "{ended:?}");
            // Of a key only the beginning may be shown.
            let shown = |key: &String| format!("{ended:?}").contains(&key[12..18]);
            assert!(!keys.iter().any(shown), "{ended:?}");
        }
    }
    let listed = binary.json(&["client", "key", "list", BACKEND]);
    let listed: HashSet<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (text(&key["key_id"]), text(&key["state"])))
        .collect();
    let states = ["revoked".to_owned(), "active".to_owned()];
    assert_eq!(listed, beginnings.into_iter().zip(states).collect());

    let stored = binary.stored();
    for key in keys {
        let random = URL_SAFE_NO_PAD.decode(&key[4..47]).unwrap();
        assert!(stored.holds(&sha256(key.as_bytes())));
        assert!(!stored.holds_any_part_of(key.as_bytes()));
        assert!(!stored.holds_any_part_of(&random));
    }
}

/// The three requests that a client makes, each right but for its authentication.
struct Calls {
    client_id: String,
    code: String,
    refresh_token: String,
}

impl Calls {
    /// Gets a code and, for another guest, a refresh token with the key that works.
    async fn of(test: &TestApp, client_id: &str, key: Option<&String>) -> Self {
        let call = |call: Sent| test.send(with_key(call.set("client_id", client_id), key));
        let code = call(authorize()).await.text("code");
        let refresh_token = call(exchange(&code)).await.tokens().refresh_token;
        Self {
            client_id: client_id.to_owned(),
            code: call(authorize()).await.text("code"),
            refresh_token,
        }
    }

    /// Lists them with the error that a failed authentication has at each endpoint.
    fn all(&self) -> [(Sent, &'static str); 3] {
        [
            (authorize(), "unauthorized_client"),
            (exchange(&self.code), "invalid_client"),
            (refresh(&self.refresh_token), "invalid_client"),
        ]
        .map(|(call, error)| (call.set("client_id", &self.client_id), error))
    }

    async fn are_refused(&self, test: &TestApp, change: impl Fn(Sent) -> Sent) {
        for (call, error) in self.all() {
            test.refused(change(call), error).await;
        }
    }

    /// Sends all of them with the right key, which also shows that no refused request has touched the code or the
    /// token.
    async fn are_granted(self, test: &TestApp, change: impl Fn(Sent) -> Sent) {
        for (call, _) in self.all() {
            let answer = test.send(change(call)).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        }
    }
}

fn with_key(call: Sent, key: Option<&String>) -> Sent {
    match key {
        Some(key) => call.header("x-api-key", key),
        None => call,
    }
}

fn basic(user: &str, password: &str) -> String {
    let pair = format!("{}:{}", percent(user), percent(password));
    format!("Basic {}", STANDARD.encode(pair))
}

/// Returns the text with another character at one place.
fn altered(text: &str, at: usize) -> String {
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    [&text[..at], other, &text[at + 1..]].concat()
}

async fn revoke(test: &TestApp, key: &str) {
    let (client, key) = (BACKEND.parse().unwrap(), ApiKeyId(key[..12].to_owned()));
    let now = test.clock.now();
    test.change(Change::RevokeApiKey(client, key, now)).await;
}
