//! Section 2 of the cases: the exchange of a code for tokens. C063 is in nodes/races.rs.

use std::collections::HashSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use guestpass_core::client::ClientSettings;
use guestpass_core::policy::{Policy, PolicyOverrides};
use guestpass_core::profile::ProfileId;

use crate::support::{
    CHALLENGE, ISSUER, SHOP, Sent, TestApp, Tokens, VERIFIER, WRONG_VERIFIER, authorize,
    challenge_of, exchange, refresh, until,
};

/// The characters of a verifier (RFC 7636 §4.1).
const UNRESERVED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

const FORM: &str = "application/x-www-form-urlencoded";

/// Each request must be refused and leave the code as it was: redeemable.
async fn refused_for_now(test: &TestApp, code: &str, error: &str, requests: &[Sent]) {
    for request in requests {
        test.refused(request.clone(), error).await;
    }
    test.granted(exchange(code)).await;
}

/// Sends a wrong verifier: it must be refused, counted, and change nothing else about the only grant.
async fn struck(test: &TestApp, request: Sent) {
    const STRIKES: &str = "select strikes from grants";
    const REST: &str = "select generation, proven, advanced_at, expires_at, revoked_at from grants";
    let grant = async || (test.database.number(STRIKES).await, test.sql(REST).await);
    let (strikes, rest) = grant().await;
    let answer = test.send(request).await;
    let refusal = (answer.status.as_u16(), answer.error());
    assert_eq!(refusal, (400, "invalid_grant"), "{answer:?}");
    assert_eq!(grant().await, (strikes + 1, rest), "{answer:?}");
}

/// Sends a code again with every proof right: it must be refused and end the grant, whose tokens were these.
async fn replayed(test: &TestApp, code: &str, issued: &[Tokens]) {
    for tokens in issued {
        assert!(test.is_live(tokens).await);
    }
    let answer = test.send(exchange(code)).await;
    let refusal = (answer.status.as_u16(), answer.error());
    assert_eq!(refusal, (400, "invalid_grant"), "{answer:?}");
    for tokens in issued {
        assert!(!test.is_live(tokens).await);
    }
}

#[tokio::test]
async fn c040_a_code_and_its_verifier_give_tokens() {
    let test = TestApp::new().await;
    for (verifier, challenge) in [
        (VERIFIER, CHALLENGE),
        // RFC 7636 appendix B.
        (
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
    ] {
        let request = authorize().set("code_challenge", challenge);
        let code = test.send(request).await.text("code");
        let before = test.counts().await;
        let request = exchange(&code).set("code_verifier", verifier);
        let answer = test.send(request.clone()).await;
        assert_eq!(answer.json()["expires_in"], 86_400);
        let tokens = answer.tokens();
        assert_eq!(tokens.claims["iss"], ISSUER);
        assert!(test.is_live(&tokens).await);
        assert_eq!(test.counts().await, before);
        // Consumed: another wrong verifier isn't even counted.
        let wrong = request.set("code_verifier", WRONG_VERIFIER);
        test.refused(wrong, "invalid_grant").await;
    }
}

#[tokio::test]
async fn c041_parameters_may_stand_in_the_query_if_the_client_allows_it() {
    let test = TestApp::new().await;
    for content_type in [None, Some(FORM)] {
        let in_query = |request: Sent| match content_type {
            Some(value) => request.in_query().header("content-type", value),
            None => request.in_query(),
        };
        let code = test.code(SHOP).await;
        let allow = |allowed| ClientSettings {
            overrides: PolicyOverrides {
                query_params: Some(allowed),
                ..PolicyOverrides::default()
            },
            ..ClientSettings::default()
        };
        test.set_client(SHOP, allow(false)).await;
        test.refused(in_query(exchange(&code)), "invalid_request")
            .await;
        test.set_client(SHOP, allow(true)).await;
        let tokens = test.granted(in_query(exchange(&code))).await;

        let request = in_query(refresh(&tokens.refresh_token));
        test.set_client(SHOP, allow(false)).await;
        test.refused(request.clone(), "invalid_request").await;
        test.set_client(SHOP, allow(true)).await;
        test.granted(request).await;
    }
}

#[tokio::test]
async fn c041_query_and_body_are_never_merged() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let path = format!("/oauth/token?code={code}");
    let twice = format!("/oauth/token?code={code}&code={code}");
    let broken = format!("/oauth/token?utm=%zz&code={code}");
    let requests = [
        exchange(&code).unset("code").path(&path),
        exchange(&code).path(&path),
        exchange(&code).path(&twice),
        exchange(&code).path(&broken),
    ];
    refused_for_now(&test, &code, "invalid_request", &requests).await;
    // Unknown parameters are ignored.
    let code = test.code(SHOP).await;
    test.granted(exchange(&code).path("/oauth/token?utm=%zz&utm=x&code"))
        .await;
}

#[tokio::test]
async fn c042_a_grant_type_must_be_named_once() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let requests = [
        exchange(&code).unset("grant_type"),
        exchange(&code).set("grant_type", ""),
        exchange(&code).also("grant_type", "authorization_code"),
        exchange(&code).also("grant_type", "refresh_token"),
    ];
    refused_for_now(&test, &code, "invalid_request", &requests).await;
}

#[tokio::test]
async fn c043_other_grant_types_are_unsupported() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let requests = [
        "password",
        "client_credentials",
        "implicit",
        "AUTHORIZATION_CODE",
        "urn:ietf:params:oauth:grant-type:device_code",
    ]
    .map(|grant_type| exchange(&code).set("grant_type", grant_type));
    refused_for_now(&test, &code, "unsupported_grant_type", &requests).await;
}

#[tokio::test]
async fn c044_a_code_must_be_there_once_and_be_text_of_a_sensible_length() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let requests = [
        exchange(&code).unset("code"),
        exchange(&code).set("code", ""),
        exchange(&code).also("code", &code),
        exchange(&code).set("code", &"a".repeat(513)),
        exchange(&code).set("code", &format!("{code}\0")),
    ];
    refused_for_now(&test, &code, "invalid_request", &requests).await;
}

#[tokio::test]
async fn c045_a_guessed_code_and_one_that_can_not_be_look_alike() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let random = challenge_of("a") + &challenge_of("b")[..21];
    let mut bodies = HashSet::new();
    for guess in [
        &random[..],
        "x",
        &code[..63],
        &format!("{code}A"),
        &format!("{code}="),
        &"a".repeat(512),
    ] {
        let request = exchange(guess);
        bodies.insert(test.refused(request, "invalid_grant").await.body);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn c046_the_redirect_uri_is_required() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let request = exchange(&code).unset("redirect_uri");
    refused_for_now(&test, &code, "invalid_request", &[request]).await;
}

#[tokio::test]
async fn c047_the_redirect_uri_must_be_the_one_of_the_authorization() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let request = exchange(&code).set("redirect_uri", "https://evil.example");
    refused_for_now(&test, &code, "invalid_grant", &[request]).await;
}

#[tokio::test]
async fn c048_a_client_must_be_named_once() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let requests = [
        exchange(&code).unset("client_id"),
        exchange(&code).set("client_id", ""),
        exchange(&code).also("client_id", SHOP),
    ];
    refused_for_now(&test, &code, "invalid_request", &requests).await;
}

#[tokio::test]
async fn c049_an_unknown_client_gets_nothing() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let request = exchange(&code).set("client_id", "unknown");
    refused_for_now(&test, &code, "invalid_client", &[request]).await;
}

#[tokio::test]
async fn c050_a_code_is_for_its_own_client() {
    let test = TestApp::new().await;
    test.add_client("other", ClientSettings::default()).await;
    let key = test.add_confidential_client("backend").await;
    let code = test.code(SHOP).await;
    let requests = [
        exchange(&code).set("client_id", "other"),
        exchange(&code)
            .set("client_id", "backend")
            .header("x-api-key", key),
    ];
    refused_for_now(&test, &code, "invalid_grant", &requests).await;
}

#[tokio::test]
async fn c051_a_verifier_must_be_there_once() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let requests = [
        exchange(&code).unset("code_verifier"),
        exchange(&code).set("code_verifier", ""),
        exchange(&code).also("code_verifier", VERIFIER),
    ];
    refused_for_now(&test, &code, "invalid_request", &requests).await;
}

/// Authorizes and exchanges the code with this verifier.
async fn with_verifier(test: &TestApp, verifier: &str) -> Sent {
    let request = authorize().set("code_challenge", &challenge_of(verifier));
    let code = test.send(request).await.text("code");
    exchange(&code).set("code_verifier", verifier)
}

#[tokio::test]
async fn c052_a_verifier_of_another_length_is_refused_even_if_it_fits() {
    let test = TestApp::new().await;
    for length in [42, 129] {
        let request = with_verifier(&test, &"a".repeat(length)).await;
        test.refused(request, "invalid_request").await;
    }
}

#[tokio::test]
async fn c053_a_verifier_has_43_to_128_unreserved_characters() {
    let test = TestApp::new().await;
    for verifier in [
        &UNRESERVED[..43],
        &UNRESERVED[UNRESERVED.len() - 43..],
        &UNRESERVED.repeat(2)[..128],
    ] {
        let request = with_verifier(&test, verifier).await;
        test.granted(request).await;
    }
}

#[tokio::test]
async fn c054_a_verifier_with_other_characters_is_refused_even_if_it_fits() {
    let test = TestApp::new().await;
    for wrong in [" ", "+", "/", "=", "\0", "é"] {
        let verifier = format!("{VERIFIER}{wrong}{VERIFIER}");
        let request = with_verifier(&test, &verifier).await;
        test.refused(request, "invalid_request").await;
    }
}

#[tokio::test]
async fn c055_a_wrong_verifier_gives_nothing_and_leaves_the_code() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let wrong = exchange(&code).set("code_verifier", WRONG_VERIFIER);
    struck(&test, wrong).await;
    test.clock.advance_secs(59);
    test.granted(exchange(&code)).await;
}

#[tokio::test]
async fn c056_a_nearly_right_verifier_is_wrong() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let with = |verifier: &str| exchange(&code).set("code_verifier", verifier);
    struck(&test, with(&format!("{}Z", &VERIFIER[..42]))).await;
    struck(&test, with(&VERIFIER.to_lowercase())).await;
    let line = with(&format!("{VERIFIER}\n"));
    refused_for_now(&test, &code, "invalid_request", &[line]).await;
}

#[tokio::test]
async fn c057_the_fifth_wrong_verifier_kills_the_code() {
    for (wrong_ones, dead) in [(4, false), (5, true), (10, true)] {
        let test = TestApp::new().await;
        let code = test.code(SHOP).await;
        let wrong = exchange(&code).set("code_verifier", WRONG_VERIFIER);
        for _ in 0..wrong_ones.min(5) {
            struck(&test, wrong.clone()).await;
        }
        for _ in 5..wrong_ones {
            test.refused(wrong.clone(), "invalid_grant").await;
        }
        if dead {
            test.refused(exchange(&code), "invalid_grant").await;
        } else {
            test.granted(exchange(&code)).await;
        }
    }
}

#[tokio::test]
async fn c058_a_replayed_code_ends_the_grant() {
    let test = TestApp::new().await;
    let bystander = test.guest().await;
    let code = test.code(SHOP).await;
    let first = test.granted(exchange(&code)).await;
    let second = test.granted(refresh(&first.refresh_token)).await;
    let rows = test.counts().await;
    replayed(&test, &code, &[first, second]).await;
    assert_eq!(test.counts().await, rows);
    assert!(test.is_live(&bystander).await);
    // Once ended, there is nothing left to change.
    test.refused(exchange(&code), "invalid_grant").await;
}

#[tokio::test]
async fn c059_a_replay_without_every_proof_ends_nothing() {
    let test = TestApp::new().await;
    test.add_client("other", ClientSettings::default()).await;
    let code = test.code(SHOP).await;
    let tokens = test.granted(exchange(&code)).await;
    for (name, wrong) in [
        ("code_verifier", WRONG_VERIFIER),
        ("redirect_uri", "https://evil.example"),
        ("client_id", "other"),
    ] {
        let request = exchange(&code).set(name, wrong);
        test.refused(request, "invalid_grant").await;
    }
    assert!(test.is_live(&tokens).await);
}

#[tokio::test]
async fn c060_a_replay_counts_for_600_seconds() {
    let test = TestApp::new().await;
    // The code itself expires after 60.
    for secs in [30, 61, 600] {
        let code = test.code(SHOP).await;
        let tokens = test.granted(exchange(&code)).await;
        test.clock.advance_secs(secs);
        replayed(&test, &code, &[tokens]).await;
    }
    let code = test.code(SHOP).await;
    let tokens = test.granted(exchange(&code)).await;
    test.clock.advance_secs(601);
    test.refused(exchange(&code), "invalid_grant").await;
    assert!(test.is_live(&tokens).await);
}

#[tokio::test]
async fn c061_a_code_can_be_redeemed_until_it_expires() {
    // However it is configured, no code lives longer than ten minutes.
    for (code_ttl, lifetime) in [(60, 60), (600, 600), (3600, 600)] {
        let policy = Policy {
            code_ttl: Duration::from_secs(code_ttl),
            ..Policy::default()
        };
        let test = TestApp::with_policy(policy).await;
        let code = test.code(SHOP).await;
        test.clock.advance_secs(lifetime - 1);
        test.granted(exchange(&code)).await;
        let code = test.code(SHOP).await;
        test.clock.advance_secs(lifetime + 1);
        test.refused(exchange(&code), "invalid_grant").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c062_of_50_parallel_exchanges_one_wins_and_the_others_end_its_grant() {
    let test = Arc::new(TestApp::new().await);
    let code = test.code(SHOP).await;
    let answers = test.at_once(vec![exchange(&code); 50]).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(won.len(), 1, "{won:?}");
    for answer in lost {
        let refusal = (answer.status.as_u16(), answer.error());
        assert_eq!(refusal, (400, "invalid_grant"), "{answer:?}");
    }
    assert!(!test.is_live(&won[0].tokens()).await);
    assert_eq!(test.count("grants").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c064_a_code_is_consumed_or_not_when_the_connection_closes() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    for (missing_bytes, consumed) in [(0, true), (1, false)] {
        let code = test.code(SHOP).await;
        let (form, before) = (exchange(&code).encoded(), test.rows().await);
        let length = form.len();
        let head = format!(
            "POST /oauth/token HTTP/1.1\r\nHost: id.example\r\nContent-Type: {FORM}\r\nContent-Length: {length}\r\n\r\n"
        );
        let request = [head.as_bytes(), &form.as_bytes()[..length - missing_bytes]].concat();
        let mut connection = TcpStream::connect(address).unwrap();
        connection.write_all(&request).unwrap();
        if consumed {
            until(async || test.rows().await != before).await;
        }
        drop(connection);
        check_one_family_at_most(&test, &code, consumed).await;
    }
}

#[tokio::test]
async fn c064_a_code_is_consumed_although_its_client_has_gone() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let before = test.rows().await;
    test.abandon(exchange(&code)).await;
    until(async || test.rows().await != before).await;
    check_one_family_at_most(&test, &code, true).await;
}

/// Sends the code again: either the lost exchange has consumed it, and this is a replay, or it is redeemed only now.
async fn check_one_family_at_most(test: &TestApp, code: &str, consumed: bool) {
    let grants = test.count("grants").await;
    let answer = test.send(exchange(code)).await;
    if consumed {
        let refusal = (answer.status.as_u16(), answer.error());
        assert_eq!(refusal, (400, "invalid_grant"), "{answer:?}");
    } else {
        assert!(test.is_live(&answer.tokens()).await);
    }
    assert_eq!(test.count("grants").await, grants);
}

#[tokio::test]
async fn c065_a_code_of_a_disabled_client_waits() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    test.disable_client(SHOP, true).await;
    test.refused(exchange(&code), "invalid_client").await;
    test.disable_client(SHOP, false).await;
    test.granted(exchange(&code)).await;
}

#[tokio::test]
async fn c065_a_code_of_an_erased_guest_gives_nothing() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let id = test.database.number("select profile_id from profiles");
    let guest = ProfileId::from_i64(id.await).unwrap();
    test.app.erase(guest).await.unwrap();
    test.refused(exchange(&code), "invalid_grant").await;
}

#[tokio::test]
async fn c066_a_code_is_no_refresh_token_nor_the_reverse() {
    let test = TestApp::new().await;
    let (code, guest) = (test.code(SHOP).await, test.guest().await);
    let requests = [refresh(&code), exchange(&guest.refresh_token)];
    refused_for_now(&test, &code, "invalid_grant", &requests).await;
    assert!(test.is_live(&guest).await);
}
