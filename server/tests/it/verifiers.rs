//! Resource servers with `guestpass-verify` verify access tokens of the real binary offline. Those in tests/clients do
//! the same with third-party libraries.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_verify::{AccessToken, KeySet, Rejection, Unverified, Verifier};
use serde_json::json;
use tower::ServiceExt;

use crate::support::binary::{Binary, Server};
use crate::support::{Forged, SHOP, Tokens, authorize, exchange, forms_of, request};

mod example;

const API: &str = "https://api.example";

#[tokio::test]
async fn es256_tokens_are_verified_with_the_published_keys() {
    with_published_keys("ES256").await;
}

#[tokio::test]
async fn eddsa_tokens_are_verified_with_the_published_keys() {
    with_published_keys("EdDSA").await;
}

#[tokio::test]
async fn rs256_tokens_are_verified_with_the_published_keys() {
    with_published_keys("RS256").await;
}

#[test]
fn hs256_tokens_are_verified_with_the_exported_keys() {
    let (binary, server, issuer) = serve("HS256");
    let published = server.send(&request("GET", "/oauth/jwks"));
    assert_eq!(published.json(), json!({"keys": []}));
    let exported = binary.json(&["key", "export"]);
    let keys = KeySet::from_jwks(exported.to_string().as_bytes()).unwrap();
    let tokens = server.guest();
    let issued_at = tokens.claims["iat"].as_i64().unwrap();
    let verified = |token: &str, now| Verifier::new(&issuer).verify(token, &keys, now);
    assert_eq!(
        verified(&tokens.access_token, issued_at).unwrap().subject,
        tokens.sub()
    );
    let end = issued_at + 86_400 + 5;
    assert_eq!(verified(&tokens.access_token, end), Err(Rejection::Expired));
    for (forged, why) in flipped(&tokens.access_token) {
        let refused = verified(&forged, issued_at).unwrap_err();
        assert!(why.is_none_or(|why| why == refused), "{refused:?}");
    }
    let forgery = Forged::with_secret(&tokens, b"another secret, as long as ours is");
    assert_eq!(
        verified(&forgery.sign(), issued_at),
        Err(Rejection::SignatureWrong)
    );
    for (forged, why) in unsigned(&tokens) {
        assert_eq!(verified(&forged, issued_at), Err(why));
    }
}

#[tokio::test]
async fn layers_let_in_whom_they_should() {
    let (_binary, server, issuer) = serve("ES256");
    let (verifier, keys) = example::trust(&issuer, &jwks_uri(&server)).unwrap();
    let router = example::router(&verifier, &keys);
    let tokens = server.guest();
    let [(forged, _), _] = unsigned(&tokens);
    let good = &tokens.access_token;
    let (account, home) = (
        "the account of ".to_owned() + tokens.sub(),
        "hello, ".to_owned() + tokens.sub(),
    );
    for (path, token, status, text) in [
        ("/account", Some(good), StatusCode::OK, Some(&*account)),
        ("/account", Some(&forged), StatusCode::UNAUTHORIZED, None),
        ("/account", None, StatusCode::UNAUTHORIZED, None),
        ("/", Some(good), StatusCode::OK, Some(&home)),
        ("/", Some(&forged), StatusCode::OK, Some("hello")),
        ("/", None, StatusCode::OK, Some("hello")),
    ] {
        let answer = get(&router, path, token.map(String::as_str)).await;
        assert_eq!(answer.0, status, "{path} {token:?}");
        assert!(text.is_none_or(|text| answer.1 == text), "{answer:?}");
    }
}

#[tokio::test]
async fn f41_the_published_keys_are_found_whatever_the_path_of_the_issuer() {
    let issuer = "https://id.example:8443/shop/id";
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", "ES256");
    binary.set_variable("GUESTPASS_ISSUER", issuer);
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let well_known = "/.well-known/oauth-authorization-server";
    for path in [
        format!("{well_known}/shop/id"),
        format!("/shop/id{well_known}"),
    ] {
        let metadata = server.send(&request("GET", &path));
        assert_eq!(metadata.text("issuer"), issuer);
        let jwks_uri = metadata.text("jwks_uri");
        assert_eq!(jwks_uri, "https://id.example:8443/oauth/jwks");
        // What stands before the server in production has the issuer's name.
        let here = format!("http://{}", server.address);
        let jwks_uri = jwks_uri.replace("https://id.example:8443", &here);
        let (verifier, keys) = example::trust(issuer, &jwks_uri).unwrap();
        let tokens = server.guest();
        let bearer = format!("Bearer {}", tokens.access_token);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer.parse().unwrap())]);
        let guest = example::guest(&headers, &verifier, &keys).await;
        assert_eq!(guest.unwrap().unwrap().subject, tokens.sub());
    }
}

fn jwks_uri(server: &Server) -> String {
    let metadata = server.send(&request("GET", "/.well-known/oauth-authorization-server"));
    metadata.text("jwks_uri")
}

async fn with_published_keys(algorithm: &str) {
    let (_binary, server, issuer) = serve(algorithm);
    let metadata = server.send(&request("GET", "/.well-known/oauth-authorization-server"));
    let jwks = server.send(&request("GET", "/oauth/jwks")).json();
    assert_eq!(metadata.text("issuer"), issuer);
    assert_eq!(metadata.text("jwks_uri"), format!("{issuer}/oauth/jwks"));
    let (verifier, keys) = example::trust(&issuer, &metadata.text("jwks_uri")).unwrap();
    let tokens = server.guest();
    assert_eq!(
        (&tokens.header["alg"], &tokens.header["typ"]),
        (&json!(algorithm), &json!("at+jwt"))
    );

    // By this machine's clock.
    let mut headers = HeaderMap::new();
    assert_eq!(example::guest(&headers, &verifier, &keys).await, Ok(None));
    let bearer = format!("Bearer {}", tokens.access_token);
    headers.insert("authorization", bearer.parse().unwrap());
    let guest = example::guest(&headers, &verifier, &keys)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (guest.subject.as_str(), guest.audience),
        (tokens.sub(), vec![issuer.clone()])
    );

    // By a clock that stands where the token says that it was issued, or moves as far as the test says.
    let judge = async |verifier: &Verifier, token: &str, now| {
        judged(keys.verify(verifier, token, now).await)
    };
    let (good, now) = (&tokens.access_token, issued_at(&tokens));
    let end = now + 86_400;
    assert_eq!(judge(&verifier, good, now).await, Ok(()));
    assert_eq!(judge(&verifier, good, end + 4).await, Ok(()));
    let over = judge(&verifier, good, end + 5).await;
    assert_eq!(over, Err(Rejection::Expired));
    let other = Verifier::new(format!("{issuer}/")).audience(&issuer);
    assert_eq!(judge(&other, good, now).await, Err(Rejection::IssuerWrong));
    let api = verifier.clone().audience(API);
    assert_eq!(judge(&api, good, now).await, Err(Rejection::AudienceWrong));
    let for_api = issue(&server, "api");
    for verifier in [&api, &verifier] {
        let judged = judge(verifier, &for_api.access_token, issued_at(&for_api)).await;
        assert_eq!(judged, Ok(()));
    }
    let brief = issue(&server, "brief");
    let end = issued_at(&brief) + 1;
    assert_eq!(brief.claims["exp"], json!(end));
    assert_eq!(judge(&verifier, &brief.access_token, end + 4).await, Ok(()));
    let over = judge(&verifier, &brief.access_token, end + 5).await;
    assert_eq!(over, Err(Rejection::Expired));

    for (forged, why) in flipped(good) {
        let refused = judge(&verifier, &forged, now).await.unwrap_err();
        assert!(why.is_none_or(|why| why == refused), "{refused:?}");
    }
    for (forged, why) in unsigned(&tokens) {
        assert_eq!(judge(&verifier, &forged, now).await, Err(why));
    }
    let ours = jwks["keys"].as_array().unwrap().iter();
    let jwk = ours
        .into_iter()
        .find(|jwk| jwk["kid"] == tokens.header["kid"])
        .unwrap();
    for secret in forms_of(jwk) {
        let forgery = Forged::with_secret(&tokens, &secret).header("alg", json!("HS256"));
        let refused = judge(&verifier, &forgery.sign(), now).await;
        assert_eq!(refused, Err(Rejection::AlgorithmMismatch));
    }
}

/// Starts a server; returns it with its issuer. Tokens of the client `api` have another audience too, those of `brief`
/// a lifetime of a second.
fn serve(algorithm: &str) -> (Binary, Server, String) {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", algorithm);
    binary.json(&["client", "add", SHOP]);
    binary.json(&["client", "add", "api", "--audience", API]);
    binary.json(&["client", "add", "brief", "--access-ttl", "1s"]);
    let issuer = binary.set_issuer_to_address("http");
    let server = binary.serve();
    (binary, server, issuer)
}

fn issue(server: &Server, client_id: &str) -> Tokens {
    let code = server
        .send(&authorize().set("client_id", client_id))
        .text("code");
    server
        .send(&exchange(&code).set("client_id", client_id))
        .tokens()
}

fn issued_at(tokens: &Tokens) -> i64 {
    tokens.claims["iat"].as_i64().unwrap()
}

fn judged(verified: Result<AccessToken, Unverified>) -> Result<(), Rejection> {
    verified.map(drop).map_err(|why| match why {
        Unverified::Rejected(rejection) => rejection,
        Unverified::KeysUnavailable => panic!("no keys"),
    })
}

/// Lists the token with one bit of each byte flipped, each with the expected error; in the header it depends on the
/// byte.
fn flipped(token: &str) -> Vec<(String, Option<Rejection>)> {
    let segments: Vec<Vec<u8>> = token
        .split('.')
        .map(|segment| URL_SAFE_NO_PAD.decode(segment).unwrap())
        .collect();
    let mut all = Vec::new();
    for at in 0..segments.len() {
        for byte in 0..segments[at].len() {
            let mut segments = segments.clone();
            segments[at][byte] ^= 1 << (byte % 8);
            let encoded: Vec<_> = segments
                .iter()
                .map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
                .collect();
            all.push((
                encoded.join("."),
                (at > 0).then_some(Rejection::SignatureWrong),
            ));
        }
    }
    all
}

/// Lists the token with `alg` none, without a signature and with its own, each with the expected error.
fn unsigned(tokens: &Tokens) -> [(String, Rejection); 2] {
    let mut header = tokens.header.clone();
    header["alg"] = json!("none");
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let (_, rest) = tokens.access_token.split_once('.').unwrap();
    let (payload, _) = rest.split_once('.').unwrap();
    [
        (format!("{header}.{payload}."), Rejection::Malformed),
        (format!("{header}.{rest}"), Rejection::AlgorithmUnsupported),
    ]
}

async fn get(router: &Router, path: &str, token: Option<&str>) -> (StatusCode, String) {
    let mut request = Request::get(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = router
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
