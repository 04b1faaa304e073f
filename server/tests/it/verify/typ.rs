//! The type that a token says it is of, in its header.

use axum::http::StatusCode;
use guestpass_core::choice::Choice;
use guestpass_core::claims::Typ;
use guestpass_core::client::ClientSettings;
use serde_json::{Value, json};

use super::{forged, passes_as};
use crate::support::{Forged, SHOP, TestApp, config, exchange, profile, refresh, revoke, verify};

#[tokio::test]
async fn c109_a_token_says_that_it_is_an_access_token() {
    let strict = TestApp::new().await;
    let lenient = TestApp::with_config(config(&[("verify.untyped", "true")])).await;
    for test in [&strict, &lenient] {
        let forgery = Forged::like(test, &test.guest().await);
        let of = |typ: Option<Value>| forgery.clone().header("typ", typ).sign();
        for typ in ["application/at+jwt", "at+jwt", "AT+JWT"] {
            assert!(test.passes(&of(Some(json!(typ)))).await, "{typ}");
        }
        let is_lenient = std::ptr::eq(test, &raw const lenient);
        for untyped in [Some(json!("JWT")), None] {
            let token = of(untyped);
            if is_lenient {
                assert!(test.passes(&token).await);
            } else {
                forged(test, &token).await;
            }
        }
        for typ in ["logout+jwt", "id_token", "dpop+jwt", "", "at"] {
            forged(test, &of(Some(json!(typ)))).await;
        }
    }
}

#[tokio::test]
async fn c242_a_client_may_choose_what_its_tokens_say_they_are() {
    let test = TestApp::new().await;
    let choose = |typ: Option<Typ>| ClientSettings {
        typ,
        unset: typ.map_or_else(|| vec![Choice::Typ], |_| Vec::new()),
        ..ClientSettings::default()
    };
    let before = test.guest().await;
    assert_eq!(before.header["typ"], "at+jwt");
    test.set_client(SHOP, choose(Some(Typ::Jwt))).await;
    let old = test.granted(refresh(&before.refresh_token)).await;
    assert_eq!(old.header["typ"], "JWT");
    // Tokens of either type are taken as long as the client has chosen one.
    for token in [&before, &old] {
        passes_as(&test, verify(&token.access_token), token).await;
    }
    let untyped = Forged::like(&test, &old).header("typ", None).sign();
    forged(&test, &untyped).await;
    test.set_client(SHOP, choose(Some(Typ::AtJwt))).await;
    let new = test.granted(refresh(&old.refresh_token)).await;
    assert_eq!(new.header["typ"], "at+jwt");
    passes_as(&test, verify(&old.access_token), &old).await;
    let shown = test.send(profile(&old.access_token)).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    // Not those of a client that hasn't.
    test.add_client("other", ClientSettings::default()).await;
    let code = test.code("other").await;
    let other = test
        .granted(exchange(&code).set("client_id", "other"))
        .await;
    let other = Forged::like(&test, &other).header("typ", Some(json!("JWT")));
    forged(&test, &other.sign()).await;

    test.set_client(SHOP, choose(None)).await;
    forged(&test, &old.access_token).await;
    passes_as(&test, verify(&new.access_token), &new).await;
    // Its type takes no right from the guest, and none of the client to end it.
    let shown = test.send(profile(&old.access_token)).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    test.send(revoke(&old.access_token)).await;
    let shown = test.send(profile(&old.access_token)).await;
    assert_eq!(shown.status, StatusCode::UNAUTHORIZED, "{shown:?}");
}
