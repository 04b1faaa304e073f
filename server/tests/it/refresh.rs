//! Section 3 of the cases: the exchange of a refresh token for new tokens, and C153. C079 is with revocation.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use guestpass_core::client::{Change, ClientSettings};
use guestpass_core::policy::{LateRetry, Policy};

use crate::support::{
    Answer, SHOP, Sent, TestApp, Tokens, VERIFIER, WRONG_VERIFIER, authorize, exchange, refresh,
    revoke, sha256,
};

mod decisions;

#[tokio::test]
async fn c067_a_refresh_token_gives_new_tokens_for_the_same_guest() {
    let test = TestApp::new().await;
    let first = test.guest().await;
    let second = test.granted(refresh(&first.refresh_token)).await;
    for claim in ["sub", "subn", "sid", "client_id"] {
        assert_eq!(second.claims[claim], first.claims[claim], "{claim}");
    }
    assert_ne!(second.access_token, first.access_token);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert!(test.is_live(&second).await);
    assert_eq!(test.counts().await, (1, 1));
    // The first is no leaf any more: it gives nothing new, and nothing at all once the second is used.
    let again = test.granted(refresh(&first.refresh_token)).await;
    assert_eq!(again.refresh_token, second.refresh_token);
    test.granted(refresh(&second.refresh_token)).await;
    test.refused(refresh(&first.refresh_token), "invalid_grant")
        .await;
}

#[tokio::test]
async fn c068_the_redirect_uri_may_be_absent_but_not_wrong() {
    let test = TestApp::new().await;
    let first = test.guest().await;
    let evil = refresh(&first.refresh_token).set("redirect_uri", "https://evil.example");
    test.refused(evil, "invalid_grant").await;
    test.granted(refresh(&first.refresh_token).unset("redirect_uri"))
        .await;
}

#[tokio::test]
async fn c069_the_refresh_token_is_one_parameter_of_bounded_length() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    let token = &guest.refresh_token;
    let request = refresh(token);
    for (what, broken) in [
        ("absent", request.clone().unset("refresh_token")),
        ("empty", request.clone().set("refresh_token", "")),
        ("twice", request.clone().also("refresh_token", token)),
        ("513 bytes", refresh(&"a".repeat(513))),
        ("NUL", refresh(&format!("{token}\0"))),
    ] {
        let answer = test.refused(broken, "invalid_request").await;
        let description = answer.text("error_description");
        assert!(
            description.contains("refresh_token"),
            "{what}: {description}"
        );
    }
    assert!(test.is_live(&guest).await);
}

#[tokio::test]
async fn c070_a_token_that_was_never_issued_is_refused() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    let token = &guest.refresh_token;
    let unknown = TestApp::new().await.guest().await.refresh_token;
    assert_eq!(unknown.len(), token.len());
    let sealed = URL_SAFE_NO_PAD.decode(token).unwrap();
    let flipped = (0..sealed.len() * 8).map(|bit| {
        let mut bytes = sealed.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        URL_SAFE_NO_PAD.encode(bytes)
    });
    let malformed = [
        "x",
        "no such token",
        "é",
        "%",
        "null",
        "..",
        &"a".repeat(512),
    ];
    let around = [
        format!("{token}="),
        format!("{token}A"),
        format!(" {token}"),
        token.repeat(2),
    ];
    let truncated = (1..token.len()).map(|length| token[..length].to_owned());
    let wrong = flipped
        .chain(truncated)
        .chain(around)
        .chain(malformed.map(ToOwned::to_owned))
        .chain([unknown, token.to_ascii_lowercase()]);
    let mut bodies = HashSet::new();
    for wrong in wrong {
        bodies.insert(test.refused(refresh(&wrong), "invalid_grant").await.body);
    }
    assert_eq!(bodies.len(), 1);
    assert!(test.is_live(&guest).await);
}

#[tokio::test]
async fn c071_a_token_works_for_its_own_client_only() {
    let test = TestApp::new().await;
    test.add_client("other", ClientSettings::default()).await;
    let first = test.guest().await.refresh_token;
    let stolen = refresh(&first).set("client_id", "other");
    test.refused(stolen.clone(), "invalid_grant").await;
    let second = test.granted(refresh(&first)).await;
    test.granted(refresh(&second.refresh_token)).await;
    // A replay by another client proves nothing against this one.
    test.clock.advance_secs(30);
    test.refused(stolen, "invalid_grant").await;
    assert!(test.is_live(&second).await);
}

#[tokio::test]
async fn c072_the_client_must_say_who_it_is() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    test.refused(
        refresh(&guest.refresh_token).unset("client_id"),
        "invalid_request",
    )
    .await;
    assert!(test.is_live(&guest).await);
}

#[tokio::test]
async fn c076_a_replay_ends_one_family_alone() {
    let test = TestApp::new().await;
    test.add_client("other", ClientSettings::default()).await;
    let for_other = |request: Sent| request.set("client_id", "other");
    let (replayed, device) = (test.guest().await, test.guest().await);
    let elsewhere = test.granted(for_other(exchange(&test.code("other").await)));
    let elsewhere = elsewhere.await;

    let second = test.granted(refresh(&replayed.refresh_token)).await;
    test.granted(refresh(&second.refresh_token)).await;
    test.clock.advance_secs(30);
    let answer = test.send(refresh(&replayed.refresh_token)).await;
    assert_eq!(answer.error(), "invalid_grant");
    assert!(!test.is_live(&second).await);

    assert!(test.is_live(&device).await);
    assert!(test.is_live(&elsewhere).await);
}

#[tokio::test]
async fn c076_a_replay_ends_none_of_the_guests_other_families() {
    let test = TestApp::new().await;
    let api_key = test.add_confidential_client("back-end").await;
    let resuming = ClientSettings {
        resume_with_jwt: Some(true),
        ..ClientSettings::default()
    };
    test.set_client("back-end", resuming).await;
    let by_it = |request: Sent| {
        let request = request.set("client_id", "back-end");
        request.header("x-api-key", &api_key)
    };
    let code = test.send(by_it(authorize())).await.text("code");
    let replayed = test.granted(by_it(exchange(&code))).await;
    let again = by_it(authorize()).header("x-dressipi-jwt", &replayed.access_token);
    let code = test.send(again).await.text("code");
    let family = test.granted(by_it(exchange(&code))).await;
    assert_eq!(family.sub(), replayed.sub());
    assert_ne!(family.claims["sid"], replayed.claims["sid"]);

    let second = test.granted(by_it(refresh(&replayed.refresh_token))).await;
    test.granted(by_it(refresh(&second.refresh_token))).await;
    test.clock.advance_secs(30);
    let answer = test.send(by_it(refresh(&replayed.refresh_token))).await;
    assert_eq!(answer.error(), "invalid_grant");
    assert!(!test.is_live(&second).await);
    assert!(test.is_live(&family).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn c077_tabs_that_refresh_at_once_get_one_successor() {
    let test = Arc::new(TestApp::new().await);
    let token = test.guest().await.refresh_token;
    let answers = test.at_once(vec![refresh(&token); 20]).await;
    let given: Vec<Tokens> = tokens(&answers).collect();
    let successors: HashSet<_> = given.iter().map(|given| &given.refresh_token).collect();
    assert_eq!((given.len(), successors.len()), (20, 1));
    assert_eq!(grants(&test).await, [(2, false)]);
    for given in &given {
        assert!(test.is_live(given).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c078_without_a_window_one_of_many_is_granted_and_no_second_leaf_lives() {
    let policy = Policy {
        grace: Duration::ZERO,
        late_retry: LateRetry::Revoke,
        ..Policy::default()
    };
    let test = Arc::new(TestApp::with_policy(policy).await);
    let guest = test.guest().await;
    let answers = test.at_once(vec![refresh(&guest.refresh_token); 50]).await;
    let granted: Vec<Tokens> = tokens(&answers).collect();
    assert_eq!(granted.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let refused = (answer.status, answer.error());
        assert_eq!(refused, (StatusCode::BAD_REQUEST, "invalid_grant"));
    }
    // The others were late retries, so not even the one that was granted is live.
    assert_eq!(grants(&test).await, [(2, true)]);
    for tokens in [&guest, &granted[0]] {
        assert!(!test.is_live(tokens).await);
    }
}

#[tokio::test]
async fn c080_use_extends_the_idle_end_and_never_the_last() {
    const DAY: u64 = 86_400;
    let policy = || Policy {
        refresh_idle: Duration::from_secs(30 * DAY),
        refresh_max: Duration::from_secs(90 * DAY),
        ..Policy::default()
    };
    let test = TestApp::with_policy(policy()).await;
    let idle = test.guest().await;
    test.clock.advance_secs(30 * DAY - 1);
    assert!(test.refreshes(&idle).await);
    test.clock.advance_secs(2);
    test.refused(refresh(&idle.refresh_token), "invalid_grant")
        .await;

    let test = TestApp::with_policy(policy()).await;
    let mut newest = test.guest().await;
    for _ in 1..90 {
        test.clock.advance_secs(DAY);
        newest = test.granted(refresh(&newest.refresh_token)).await;
    }
    test.clock.advance_secs(DAY - 1);
    assert!(test.is_live(&newest).await);
    test.clock.advance_secs(2);
    test.refused(refresh(&newest.refresh_token), "invalid_grant")
        .await;
}

#[tokio::test]
async fn c081_an_expired_access_token_beside_it_is_no_obstacle() {
    let test = TestApp::new().await;
    let mut tokens = test.guest().await;
    for header in ["x-dressipi-jwt", "authorization"] {
        test.clock.advance_secs(86_401);
        let expired = match header {
            "authorization" => format!("Bearer {}", tokens.access_token),
            _ => tokens.access_token.clone(),
        };
        let request = refresh(&tokens.refresh_token).header(header, expired);
        tokens = test.granted(request).await;
    }
}

#[tokio::test]
async fn c082_an_erased_guest_and_a_disabled_client_are_refused() {
    let test = TestApp::new().await;
    let (erased, kept) = (test.guest().await, test.guest().await);
    let sub = erased.sub().parse().unwrap();
    test.app.erase(sub).await.unwrap();
    test.refused(refresh(&erased.refresh_token), "invalid_grant")
        .await;

    test.disable_client(SHOP, true).await;
    test.refused(refresh(&kept.refresh_token), "invalid_client")
        .await;
    test.disable_client(SHOP, false).await;
    test.granted(refresh(&kept.refresh_token)).await;
}

#[tokio::test]
async fn a_client_that_was_removed_has_no_grants_when_it_is_added_again() {
    let test = TestApp::new().await;
    let token = test.guest().await.refresh_token;
    test.change(Change::RemoveClient(SHOP.parse().unwrap()))
        .await;
    test.refused(refresh(&token), "invalid_client").await;
    test.add_client(SHOP, ClientSettings::default()).await;
    test.refused(refresh(&token), "invalid_grant").await;
}

#[tokio::test]
async fn c083_a_thousand_rotations_take_no_room() {
    let test = TestApp::new().await;
    let mut token = test.guest().await.refresh_token;
    test.database.settle().await;
    let before = test.database.size().await;
    let mut seen = HashSet::new();
    for _ in 0..1000 {
        test.clock.advance_secs(60);
        token = test.granted(refresh(&token)).await.refresh_token;
        assert!(seen.insert(token.clone()));
    }
    assert_eq!(test.counts().await, (1, 1));
    test.database.settle().await;
    assert_eq!(test.database.size().await, before);
    assert_eq!(test.stop().size().await, before, "after the end");
}

#[tokio::test]
async fn c084_the_database_holds_no_credential_and_no_bare_key() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client("backend").await;
    let by_backend = |request: Sent| {
        request
            .set("client_id", "backend")
            .header("x-api-key", &key)
    };
    let code = test.send(by_backend(authorize())).await.text("code");
    let guessed = by_backend(exchange(&code)).set("code_verifier", WRONG_VERIFIER);
    assert_eq!(test.send(guessed).await.error(), "invalid_grant");
    let first = test.granted(by_backend(exchange(&code))).await;
    let second = test
        .granted(by_backend(refresh(&first.refresh_token)))
        .await;

    let stored = test.stored().await;
    // The hashes that are stored instead of a key and a verifier. That the search finds them shows that it works.
    let hashes = [&*key, VERIFIER].map(|secret| sha256(secret.as_bytes()));
    assert!(hashes.iter().all(|hash| stored.holds(hash)));
    let signature = |tokens: &Tokens| tokens.access_token.rsplit('.').next().unwrap().to_owned();
    for secret in [
        &*key,
        VERIFIER,
        WRONG_VERIFIER,
        &code,
        &first.refresh_token,
        &second.refresh_token,
        &signature(&first),
        &signature(&second),
    ] {
        let (text, hash) = (secret.as_bytes(), sha256(secret.as_bytes()));
        let decoded = URL_SAFE_NO_PAD.decode(secret).unwrap_or_default();
        for form in [text, &hash, &decoded, &sha256(&decoded)] {
            let expected = hashes.iter().any(|stored| stored == form);
            assert_eq!(stored.holds_any_part_of(form), expected, "{secret}");
        }
    }
    // Every draw of 32 bytes is a key: to seal, to sign, of the API, or the master key. Shorter draws are ids and
    // nonces, which may be found.
    for drawn in test.random.drawn() {
        let encoded = STANDARD.encode(drawn);
        for form in [&drawn[16..], &encoded.as_bytes()[24..], &sha256(&drawn)] {
            assert!(!stored.holds_any_part_of(form), "a bare key");
        }
    }
}

/// Returns the tokens of the requests that were granted.
fn tokens(answers: &[Answer]) -> impl Iterator<Item = Tokens> {
    let granted = answers.iter().filter(|answer| answer.status == 200);
    granted.map(Answer::tokens)
}

/// Returns the outstanding generation of each grant, and if it was revoked.
async fn grants(test: &TestApp) -> Vec<(u64, bool)> {
    let rows = test.sql("select generation, revoked_at from grants").await;
    let mut grants = Vec::new();
    for row in rows {
        let [generation, revoked_at] = <[_; 2]>::try_from(row).unwrap();
        grants.push((generation.unwrap().parse().unwrap(), revoked_at.is_some()));
    }
    grants
}

#[tokio::test]
async fn c153_refusals_of_a_kind_are_alike() {
    let test = TestApp::new().await;
    test.add_confidential_client("back-end").await;
    test.add_client("off", ClientSettings::default()).await;
    let disabled = ClientSettings {
        disabled: Some(true),
        ..ClientSettings::default()
    };
    test.set_client("off", disabled).await;
    let (expired, revoked) = (test.guest().await, test.guest().await);
    test.send(revoke(&revoked.refresh_token)).await;
    let unknown = TestApp::new().await.guest().await;
    let as_client = |id: &str| refresh(&expired.refresh_token).set("client_id", id);
    let with_key = |id: &str| as_client(id).header("x-api-key", "gpk_wrong");
    let clients = [
        as_client("unknown"),
        with_key("unknown"),
        as_client("off"),
        with_key("off"),
        as_client("back-end"),
        with_key("back-end"),
        with_key(SHOP),
    ];
    let at_authorize = clients.clone().map(|request| {
        let id = request.value("client_id").to_owned();
        authorize()
            .set("client_id", &id)
            .header("x-api-key", "gpk_wrong")
    });
    alike(&test, "invalid_client", &clients).await;
    alike(&test, "unauthorized_client", &at_authorize).await;
    test.clock.advance(Policy::default().refresh_idle);
    let tokens = [
        refresh("garbage"),
        refresh(&unknown.refresh_token),
        refresh(&expired.refresh_token),
        refresh(&revoked.refresh_token),
    ];
    alike(&test, "invalid_grant", &tokens).await;
}

async fn alike(test: &TestApp, error: &str, requests: &[Sent]) {
    let mut bodies = HashSet::new();
    for request in requests {
        bodies.insert(test.refused(request.clone(), error).await.body);
    }
    assert_eq!(bodies.len(), 1, "{error}");
}
