//! Tests the layer around a real router.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, Response};
use axum::routing::get;
use axum::{Extension, Router};
use guestpass_verify::{AccessToken, Rejection, Unverified, VerifyLayer};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{NOW, signers, verifier};

type Fields<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn c098_who_is_let_in() {
    let good = signers()[1].token(&[], &[]);
    let other = signers()[1].token(&[], &[("jti", json!("2"))]);
    let expired = signers()[1].token(&[], &[("exp", json!(NOW))]);
    let bearer = format!("Bearer {good}");
    let none = r#"Bearer"#;
    let invalid = r#"Bearer error="invalid_token""#;
    for (fields, challenge, rejection) in [
        (&[][..], none, None),
        (&[("authorization", "")], none, None),
        (&[("authorization", "Bearer")], none, None),
        (&[("authorization", "Basic YTpi")], none, None),
        (&[("x-dressipi-jwt", "")], none, None),
        (
            &[("authorization", &bearer), ("x-dressipi-jwt", &other)],
            invalid,
            Some(Rejection::TokensDisagree),
        ),
        (
            &[("x-dressipi-jwt", &good), ("x-dressipi-jwt", &other)],
            invalid,
            Some(Rejection::TokensDisagree),
        ),
        (
            &[("authorization", "Bearer undefined")],
            invalid,
            Some(Rejection::Malformed),
        ),
        (
            &[("x-dressipi-jwt", &expired)],
            invalid,
            Some(Rejection::Expired),
        ),
    ] as [(Fields<'_>, _, _); 9]
    {
        let answer = ask(strict(), fields).await;
        assert_eq!(answer.status(), 401, "{fields:?}");
        assert_eq!(
            answer.headers()["www-authenticate"],
            challenge,
            "{fields:?}"
        );
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let why = rejection.map(Unverified::Rejected);
        assert_eq!(answer.extensions().get(), why.as_ref());
        let body: Value = serde_json::from_str(&text(answer).await).unwrap();
        assert_eq!(body["error"], "invalid_token");
        assert!(body["error_description"].is_string() && body.as_object().unwrap().len() == 2);

        let answer = ask(soft(), fields).await;
        assert_eq!(answer.status(), 200);
        let name = rejection.map_or("nothing", Rejection::name);
        assert_eq!(text(answer).await, format!("nobody, {name}"), "{fields:?}");
    }
    for fields in [
        &[("authorization", &*bearer)][..],
        &[("authorization", &bearer.replace("Bearer", "bEARER"))],
        &[("x-dressipi-jwt", &good)],
        &[("authorization", &bearer), ("x-dressipi-jwt", &good)],
        &[("authorization", "Basic YTpi"), ("x-dressipi-jwt", &good)],
    ] {
        for layer in [strict(), soft()] {
            let answer = ask(layer, fields).await;
            assert_eq!(
                (answer.status().as_u16(), &*text(answer).await),
                (200, "guest 94173, nothing")
            );
        }
    }
}

#[tokio::test]
async fn a_guest_from_outside_is_forgotten() {
    let guest = signers()[1].verify(&signers()[1].token(&[], &[])).unwrap();
    for (layer, expected) in [(strict(), 401), (soft(), 200)] {
        let mut request = Request::get("/")
            .header("host", "api.shop.example")
            .body(Body::empty())
            .unwrap();
        request.extensions_mut().insert(guest.clone());
        let answer = router(layer).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), expected);
        assert!(!text(answer).await.contains("94173"));
    }
}

#[tokio::test]
async fn the_machine_gives_the_time_unless_told() {
    // Valid in 2001 only.
    let token = signers()[1].token(
        &[],
        &[("iat", json!(1_000_000_000)), ("exp", json!(1_000_000_060))],
    );
    let layer = VerifyLayer::strict(verifier(), signers()[1].keys());
    let answer = ask(layer.clone(), &[("x-dressipi-jwt", &token)]).await;
    assert_eq!(
        answer.extensions().get(),
        Some(&Unverified::Rejected(Rejection::Expired))
    );
    let layer = layer.clock(|| 1_000_000_000);
    assert_eq!(
        ask(layer, &[("x-dressipi-jwt", &token)]).await.status(),
        200
    );
}

#[cfg(feature = "fetch")]
#[tokio::test]
async fn without_keys_strict_says_try_again_and_soft_lets_in() {
    use guestpass_verify::RemoteKeySet;

    // A port that was free a moment ago: nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    drop(listener);
    let token = signers()[1].token(&[], &[]);
    let keys = RemoteKeySet::new(&url, std::time::Duration::from_secs(10)).unwrap();
    let layer = VerifyLayer::strict(verifier(), keys.clone()).clock(|| NOW);
    let answer = ask(layer, &[("x-dressipi-jwt", &token)]).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert!(!answer.headers().contains_key("www-authenticate"));
    assert!(
        text(answer)
            .await
            .contains(r#""error":"temporarily_unavailable""#)
    );
    let layer = VerifyLayer::soft(verifier(), keys).clock(|| NOW);
    let answer = ask(layer, &[("x-dressipi-jwt", &token)]).await;
    assert_eq!(
        (answer.status().as_u16(), &*text(answer).await),
        (200, "nobody, keys_unavailable")
    );
}

fn strict() -> VerifyLayer {
    VerifyLayer::strict(verifier(), signers()[1].keys()).clock(|| NOW)
}

fn soft() -> VerifyLayer {
    VerifyLayer::soft(verifier(), signers()[1].keys()).clock(|| NOW)
}

fn router(layer: VerifyLayer) -> Router {
    async fn who(
        headers: HeaderMap,
        guest: Option<Extension<AccessToken>>,
        why: Option<Extension<Unverified>>,
    ) -> String {
        assert!(headers.contains_key("host"), "the headers come through");
        let guest = guest.map_or("nobody".to_owned(), |guest| {
            format!("guest {}", guest.subject)
        });
        let why = why.map_or("nothing", |why| why.name());
        format!("{guest}, {why}")
    }

    Router::new().route("/", get(who)).layer(layer)
}

async fn ask(layer: VerifyLayer, fields: Fields<'_>) -> Response<Body> {
    let mut request = Request::get("/").header("host", "api.shop.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    router(layer)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn text(answer: Response<Body>) -> String {
    let body = to_bytes(answer.into_body(), 1024).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}
