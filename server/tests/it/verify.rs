//! Sections 5 and 9 of the cases at the forward authentication endpoint. The crate `guestpass-verify` has its own tests
//! of the grammar; these are about the endpoint, with keys and tokens that a server has made.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{
    Answer, Connection, DAY, Forged, ISSUER, SHOP, Sent, TestApp, Tokens, config, exchange,
    forms_of, refresh, request, revoke, verify,
};

mod trust;
mod typ;

const ALGORITHMS: [&str; 4] = ["HS256", "ES256", "EdDSA", "RS256"];
const IDENTITY: [&str; 4] = [
    "x-guestpass-sub",
    "x-guestpass-subn",
    "x-guestpass-client",
    "x-guestpass-customer",
];

/// `FA` without any token.
fn ask() -> Sent {
    request("GET", "/oauth/verify")
}

async fn server(algorithm: &str) -> TestApp {
    TestApp::with_config(config(&[("tokens.algorithm", algorithm)])).await
}

/// Sends a request, which must be refused, and be nobody's in soft mode.
async fn refused(test: &TestApp, request: Sent) -> Answer {
    let answer = test.send(request.clone()).await;
    let outcome = (answer.status, answer.error());
    let expected = (StatusCode::UNAUTHORIZED, "invalid_token");
    assert_eq!(outcome, expected, "{request:?} {answer:?}");
    assert!(IDENTITY.iter().all(|name| answer.header(name).is_none()));
    let soft = test.send(request.clone().set("mode", "soft")).await;
    assert_eq!(soft.status, StatusCode::OK, "{request:?} {soft:?}");
    assert_eq!(soft.json(), json!({}));
    assert!(IDENTITY.iter().all(|name| soft.header(name) == Some("")));
    answer
}

/// Sends a token in either header, where it must be refused.
async fn forged(test: &TestApp, token: &str) {
    for request in [verify(token), ask().header("x-dressipi-jwt", token)] {
        let answer = refused(test, request).await;
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some(r#"Bearer error="invalid_token""#));
    }
}

/// Sends a request, which must be let through as this guest's in both modes.
async fn passes_as(test: &TestApp, request: Sent, tokens: &Tokens) {
    for request in [request.clone(), request.set("mode", "soft")] {
        let answer = test.send(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let claims = &tokens.claims;
        let expected = json!({
            "sub": claims["sub"], "subn": claims["subn"], "client_id": claims["client_id"], "exp": claims["exp"],
        });
        assert_eq!(answer.json(), expected);
        for (name, claim) in IDENTITY.into_iter().zip(["sub", "subn", "client_id"]) {
            assert_eq!(answer.header(name), claims[claim].as_str(), "{name}");
        }
    }
}

#[tokio::test]
async fn c098_without_one_token_nobody_is_let_through() {
    let test = TestApp::new().await;
    let (first, second) = (test.guest().await, test.guest().await);
    for nothing in [
        ask(),
        ask().header("authorization", ""),
        ask().header("x-dressipi-jwt", ""),
        ask().header("authorization", "Bearer"),
        ask().header("authorization", "Bearer "),
        ask().header(
            "authorization",
            format!("Basic {}", STANDARD.encode("shop:")),
        ),
        ask().header("authorization", &first.access_token),
        ask().set("access_token", &first.access_token),
    ] {
        let answer = refused(&test, nothing).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let (one, other) = (&first.access_token, &second.access_token);
    for two in [
        verify(one).header("x-dressipi-jwt", other),
        verify(one).bearer(other),
        ask()
            .header("x-dressipi-jwt", one)
            .header("x-dressipi-jwt", other),
        verify(one).header("x-dressipi-jwt", "garbage"),
    ] {
        let answer = refused(&test, two).await;
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some(r#"Bearer error="invalid_token""#));
    }
    // The same one twice, or beside a client's own credentials, is one.
    passes_as(&test, verify(one).header("x-dressipi-jwt", one), &first).await;
    let basic = ask().header("authorization", "Basic YTpi");
    passes_as(&test, basic.header("x-dressipi-jwt", one), &first).await;
}

#[tokio::test]
async fn c099_a_token_needs_a_signature() {
    for algorithm in ALGORITHMS {
        let test = server(algorithm).await;
        let tokens = test.guest().await;
        let (signed, signature) = tokens.access_token.rsplit_once('.').unwrap();
        let payload = signed.split('.').nth(1).unwrap();
        for none in ["none", "None", "nOnE", "NONE", ""] {
            let mut header = tokens.header.clone();
            header["alg"] = json!(none);
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            for signature in ["", "AA", signature] {
                forged(&test, &format!("{header}.{payload}.{signature}")).await;
            }
        }
        forged(&test, &format!("{signed}.")).await;
        forged(&test, signed).await;
    }
}

#[tokio::test]
async fn c100_a_public_key_is_no_secret() {
    for algorithm in &ALGORITHMS[1..] {
        let test = server(algorithm).await;
        let tokens = test.guest().await;
        let jwks = test.send(request("GET", "/oauth/jwks")).await.json();
        for jwk in jwks["keys"].as_array().unwrap() {
            for secret in forms_of(jwk) {
                let forgery =
                    Forged::with_secret(&tokens, &secret).header("kid", jwk["kid"].clone());
                forged(&test, &forgery.sign()).await;
                forged(&test, &forgery.header("alg", json!("HS256")).sign()).await;
            }
        }
        assert!(test.passes(&tokens.access_token).await);
    }
}

#[tokio::test]
async fn c101_the_key_says_which_algorithm() {
    for algorithm in ALGORITHMS {
        let test = server(algorithm).await;
        let tokens = test.guest().await;
        let (_, rest) = tokens.access_token.split_once('.').unwrap();
        for other in [
            "HS256", "ES256", "EdDSA", "RS256", "PS256", "HS512", "ES256K",
        ] {
            if other == algorithm {
                continue;
            }
            let mut header = tokens.header.clone();
            header["alg"] = json!(other);
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            forged(&test, &format!("{header}.{rest}")).await;
            let hmac = Forged::with_secret(&tokens, &[0; 32]).header("alg", json!(other));
            forged(&test, &hmac.sign()).await;
        }
    }
    // Even if the other signature is right.
    let test = TestApp::new().await;
    let forgery = Forged::like(&test, &test.guest().await);
    assert!(test.passes(&forgery.sign()).await);
    for other in &ALGORITHMS[1..] {
        forged(&test, &forgery.clone().header("alg", json!(other)).sign()).await;
    }
}

#[tokio::test]
async fn c102_a_header_that_means_more_is_refused() {
    let test = TestApp::new().await;
    let forgery = Forged::like(&test, &test.guest().await);
    for alg in [
        None,
        Some(json!(256)),
        Some(json!(["HS256"])),
        Some(json!(null)),
        Some(json!("hs256")),
    ] {
        forged(&test, &forgery.clone().header("alg", alg).sign()).await;
    }
    let with = |name: &str, value: Value| forgery.clone().header(name, value);
    for header in [
        with("b64", json!(false)).header("crit", json!(["b64"])),
        with("b64", json!(false)),
        with("b64", json!(true)),
        with("crit", json!(["exp"])),
        with("crit", json!(["unheard-of"])).header("unheard-of", json!(1)),
        with("crit", json!([])),
        with("zip", json!("DEF")),
    ] {
        forged(&test, &header.sign()).await;
    }
    // An unknown member is ignored.
    assert!(test.passes(&with("foo", json!("bar")).sign()).await);
}

#[tokio::test]
async fn c103_a_key_is_found_by_its_exact_name() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let (forgery, rows) = (Forged::like(&test, &tokens), test.rows().await);
    let own = tokens.header["kid"].as_str().unwrap();
    let long = "a".repeat(5000);
    for kid in [
        "",
        "unknown",
        "../../etc/passwd",
        "' OR 1=1",
        "' OR 1=1 --",
        "\0",
        &format!("{own}\0"),
        &format!("{own} "),
        &own.to_ascii_uppercase(),
        &own[..own.len() - 1],
        &long,
    ] {
        forged(&test, &forgery.clone().header("kid", json!(kid)).sign()).await;
    }
    for kid in [None, Some(json!(1)), Some(json!([own]))] {
        forged(&test, &forgery.clone().header("kid", kid).sign()).await;
    }
    too_long(
        &test,
        &forgery.header("kid", json!("a".repeat(65536))).sign(),
    )
    .await;
    assert_eq!(test.rows().await, rows);
}

/// A token that doesn't even fit into a header that is read: refused, whatever the mode.
async fn too_long(test: &TestApp, token: &str) {
    for request in [verify(token), verify(token).set("mode", "soft")] {
        let answer = test.send(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    }
}

#[tokio::test]
async fn c104_one_wrong_bit_is_enough() {
    for algorithm in ALGORITHMS {
        let (test, other) = (server(algorithm).await, server(algorithm).await);
        let token = test.guest().await.access_token;
        let segments: Vec<_> = token.split('.').collect();
        let with = |at: usize, segment: String| {
            let mut segments = segments.clone();
            segments[at] = &segment;
            segments.join(".")
        };
        for (at, segment) in segments.iter().enumerate() {
            let bytes = URL_SAFE_NO_PAD.decode(segment).unwrap();
            for byte in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[byte] ^= 1 << (byte % 8);
                let wrong = with(at, URL_SAFE_NO_PAD.encode(flipped));
                assert!(!test.passes(&wrong).await, "{algorithm}: {at}, {byte}");
            }
        }
        let signature = URL_SAFE_NO_PAD.decode(segments[2]).unwrap();
        for length in [1, 16, signature.len() - 1] {
            forged(
                &test,
                &with(2, URL_SAFE_NO_PAD.encode(&signature[..length])),
            )
            .await;
        }
        forged(&test, &with(2, format!("{}A", segments[2]))).await;
        let foreign = other.guest().await.access_token;
        let foreign = foreign.rsplit('.').next().unwrap().to_owned();
        forged(&test, &with(2, foreign)).await;
        assert!(test.passes(&token).await);
    }
}

#[tokio::test]
async fn c106_a_token_expires() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let forgery = Forged::like(&test, &tokens);
    for exp in [
        None,
        Some(json!("1800086400")),
        Some(json!(null)),
        Some(json!(0)),
    ] {
        forged(&test, &forgery.clone().claim("exp", exp).sign()).await;
    }
    test.clock.advance(DAY);
    test.app.follow().await;
    // Clocks differ by a few seconds.
    passes_as(&test, verify(&tokens.access_token), &tokens).await;
    test.clock.advance_secs(5);
    forged(&test, &tokens.access_token).await;
    // The guest comes back with a new one.
    let next = test.granted(refresh(&tokens.refresh_token)).await;
    passes_as(&test, verify(&next.access_token), &next).await;
}

#[tokio::test]
async fn c107_a_token_is_not_from_the_future() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let (forgery, iat) = (
        Forged::like(&test, &tokens),
        tokens.claims["iat"].as_i64().unwrap(),
    );
    for (claim, ahead, passes) in [
        ("iat", 5, true),
        ("iat", 6, false),
        ("iat", 86_400, false),
        ("nbf", 0, true),
        ("nbf", 5, true),
        ("nbf", 6, false),
        ("nbf", 86_400, false),
    ] {
        let token = forgery.clone().claim(claim, json!(iat + ahead)).sign();
        if passes {
            assert!(test.passes(&token).await, "{claim} + {ahead}");
        } else {
            forged(&test, &token).await;
        }
    }
    forged(&test, &forgery.claim("iat", None).sign()).await;
}

#[tokio::test]
async fn c108_a_token_is_of_our_issuer_and_for_it() {
    let test = TestApp::new().await;
    let forgery = Forged::like(&test, &test.guest().await);
    for iss in [
        None,
        Some(json!("https://evil.example")),
        Some(json!(format!("{ISSUER}/"))),
        Some(json!(ISSUER.to_uppercase())),
        Some(json!("https://ID.example")),
        Some(json!([ISSUER])),
    ] {
        forged(&test, &forgery.clone().claim("iss", iss).sign()).await;
    }
    for aud in [
        None,
        Some(json!("https://evil.example")),
        Some(json!(format!("{ISSUER}/"))),
        Some(json!([])),
        Some(json!(["https://evil.example", "shop"])),
        Some(json!({"aud": ISSUER})),
    ] {
        forged(&test, &forgery.clone().claim("aud", aud).sign()).await;
    }
    for aud in [json!([ISSUER]), json!(["https://api.example", ISSUER])] {
        assert!(test.passes(&forgery.clone().claim("aud", aud).sign()).await);
    }
}

#[tokio::test]
async fn c110_a_token_of_another_installation_is_refused() {
    for algorithm in ALGORITHMS {
        let (ours, theirs) = (server(algorithm).await, server(algorithm).await);
        let (our, their) = (ours.guest().await, theirs.guest().await);
        assert!(theirs.passes(&their.access_token).await);
        forged(&ours, &their.access_token).await;
        if algorithm == "HS256" {
            // Theirs in every way, and named like ours.
            let kid = our.header["kid"].clone();
            forged(
                &ours,
                &Forged::like(&theirs, &their).header("kid", kid).sign(),
            )
            .await;
        } else {
            let (_, rest) = their.access_token.split_once('.').unwrap();
            let (header, _) = our.access_token.split_once('.').unwrap();
            forged(&ours, &format!("{header}.{rest}")).await;
        }
    }
}

#[tokio::test]
async fn c111_only_one_form_is_a_token() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let (token, forgery) = (&tokens.access_token, Forged::like(&test, &tokens));
    let segments: Vec<_> = token.split('.').collect();
    let jwe = json!({"alg": "dir", "enc": "A256GCM", "typ": "at+jwt"}).to_string();
    let json_form = json!({
        "payload": segments[1], "protected": segments[0], "signature": segments[2],
    });
    for wrong in [
        format!(
            "{}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA",
            URL_SAFE_NO_PAD.encode(jwe)
        ),
        forgery
            .clone()
            .header("cty", json!("JWT"))
            .sign_payload(token),
        json_form.to_string(),
        format!("{}.{}", segments[0], segments[1]),
        format!("{token}.{}", segments[2]),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}="),
        format!("{}.{}.{}", segments[0], segments[1], "!!!"),
        "a.b.c".to_owned(),
        "..".to_owned(),
        "garbage".to_owned(),
        tokens.refresh_token.clone(),
        forgery.sign_payload("[]"),
        forgery.sign_payload("not JSON"),
        forgery.sign_payload(r#"{"sub":"1","sub":"2"}"#),
    ] {
        forged(&test, &wrong).await;
    }
    too_long(
        &test,
        &forgery.claim("foo", json!("a".repeat(9 * 1024))).sign(),
    )
    .await;
}

#[tokio::test]
async fn a_token_of_a_client_that_may_not_act_is_refused() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    test.disable_client(SHOP, true).await;
    forged(&test, &tokens.access_token).await;
    test.disable_client(SHOP, false).await;
    passes_as(&test, verify(&tokens.access_token), &tokens).await;
    test.change(guestpass_core::client::Change::RemoveClient(
        SHOP.parse().unwrap(),
    ))
    .await;
    forged(&test, &tokens.access_token).await;
}

#[tokio::test]
async fn a_token_names_a_guest_and_one_of_its_grants() {
    let test = TestApp::new().await;
    let (tokens, other) = (test.guest().await, test.guest().await);
    let forgery = Forged::like(&test, &tokens);
    for (claim, value) in [
        ("sub", None),
        ("sub", Some(other.claims["sub"].clone())),
        ("sub", Some(json!(1))),
        ("sub", Some(json!(""))),
        ("sid", None),
        ("sid", Some(other.claims["sid"].clone())),
        ("sid", Some(json!("AAAA"))),
        ("jti", None),
        ("jti", Some(json!("AAAA"))),
        ("client_id", None),
        ("client_id", Some(json!("unknown"))),
    ] {
        forged(&test, &forgery.clone().claim(claim, value).sign()).await;
    }
}

#[tokio::test]
async fn c163_a_live_token_says_who_the_guest_is() {
    for algorithm in ALGORITHMS {
        let test = server(algorithm).await;
        let code = test.code(SHOP).await;
        let tokens = test.granted(exchange(&code)).await;
        let rows = test.rows().await;
        passes_as(&test, verify(&tokens.access_token), &tokens).await;
        let header = ask().header("x-dressipi-jwt", &tokens.access_token);
        passes_as(&test, header, &tokens).await;
        // A gateway may ask with the method of the request that it asks about.
        for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let answer = test.send(verify(&tokens.access_token).method(method)).await;
            assert_eq!(answer.status, StatusCode::OK, "{method} {answer:?}");
            assert_eq!(answer.header("x-guestpass-sub"), Some(tokens.sub()));
            let answer = test.send(ask().method(method)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method}");
        }
        assert_eq!(test.rows().await, rows);
    }
}

#[tokio::test]
async fn c164_what_the_request_says_of_identity_is_not_read() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let claiming = |request: Sent| {
        IDENTITY
            .into_iter()
            .fold(request, |request, name| request.header(name, "4711"))
    };
    // The identity headers come from the token; a refusal has none, and in soft mode they are empty.
    passes_as(&test, claiming(verify(&tokens.access_token)), &tokens).await;
    refused(&test, claiming(ask())).await;
    refused(&test, claiming(verify("garbage"))).await;
}

#[tokio::test]
async fn c165_what_the_request_says_of_itself_opens_nothing() {
    let test = TestApp::new().await;
    let token = test.guest().await.access_token;
    test.send(revoke(&token)).await;
    for (name, value) in [
        ("x-forwarded-method", "OPTIONS"),
        ("x-forwarded-uri", "/livez"),
        ("x-forwarded-uri", "/oauth/jwks"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "id.example"),
        ("x-original-method", "OPTIONS"),
        ("x-original-url", "/livez"),
        ("x-http-method-override", "OPTIONS"),
        ("x-envoy-original-path", "/livez"),
        ("access-control-request-method", "GET"),
    ] {
        refused(&test, ask().header(name, value)).await;
        refused(&test, verify("garbage").header(name, value)).await;
        refused(&test, verify(&token).header(name, value)).await;
    }
}

#[tokio::test]
async fn a_mode_that_is_neither_is_refused() {
    let test = TestApp::new().await;
    let token = test.guest().await.access_token;
    let with = |mode: &str| verify(&token).set("mode", mode);
    assert_eq!(test.send(with("strict")).await.status, StatusCode::OK);
    for wrong in [
        with("Soft"),
        with("open"),
        with("soft").also("mode", "soft"),
        with("soft").also("mode", "strict"),
        with(&"s".repeat(17)),
        ask().set_raw("mode", "%zz"),
    ] {
        let answer = test.send(wrong).await;
        let outcome = (answer.status, answer.error());
        // A gateway would take a 400 for a failure of the check.
        assert_eq!(outcome, (StatusCode::UNAUTHORIZED, "invalid_request"));
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some(r#"Bearer error="invalid_request""#));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_auth_answers_on_a_connection() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    for (request, status) in [
        (verify(&tokens.access_token), 200),
        (verify(&"a".repeat(12 * 1024)), 401),
        (ask(), 401),
        (verify(&tokens.access_token).method("HEAD"), 200),
    ] {
        assert_eq!(connection.send(&request).unwrap().status, status);
    }
}
