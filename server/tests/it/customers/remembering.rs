//! A shop remembers something of a guest.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::request_id::Reason;
use guestpass_core::client::{ClientSettings, Permission};
use serde_json::{Value, json};

use super::{API, APP, BACK_END, SETTINGS, Shop, told};
use crate::support::{attributes, config, profile, refresh, thorough};

#[tokio::test]
async fn c237_attributes_are_told_by_name() {
    let shop = Shop::new().await;
    shop.test.set_client(APP, told(&["segment", "n"])).await;
    shop.test.set_client(API, told(&["n", "customer"])).await;
    let (tokens, bystander) = (shop.guest_of_app().await, shop.guest_of_app().await);
    let all = shop.sets(&tokens, r#"{"segment":"vip","n":1}"#).await;
    assert_eq!(all, json!({"segment": "vip", "n": 1}));
    let next = shop.refreshed_by_app(&tokens).await;
    assert_eq!(next.claims["attrs"], json!({"segment": "vip", "n": 1}));
    let introspected = async |tokens: &_| {
        let told = shop.told(API, &shop.api_key, tokens).await;
        told.get("attrs").cloned()
    };
    assert_eq!(
        introspected(&next.access_token).await,
        Some(json!({"n": 1}))
    );
    assert_eq!(introspected(&bystander.access_token).await, None);
    let to_the_setter = shop
        .told(BACK_END, &shop.back_end_key, &next.access_token)
        .await;
    assert_eq!(to_the_setter.get("attrs"), None);

    let before = shop.test.rows().await;
    let all = shop.sets(&next, r#"{"n":null}"#).await;
    assert_eq!(all, json!({"segment": "vip"}));
    let changed = shop.test.rows().await;
    let changed = changed.iter().filter(|row| !before.contains(row)).count();
    assert_eq!(changed, 2, "the guest's row, and what its grant repeats");
    let next = shop.refreshed_by_app(&next).await;
    assert_eq!(next.claims["attrs"], json!({"segment": "vip"}));
    assert_eq!(introspected(&next.access_token).await, None);
    // A repetition writes nothing, and what a crash left out comes with it.
    let before = shop.test.rows().await;
    shop.sets(&next, r#"{"n":null,"segment":"vip"}"#).await;
    assert_eq!(shop.test.rows().await, before);
    shop.test
        .database
        .sql("update grants set version = null, attributes = null")
        .await;
    shop.sets(&next, "{}").await;
    assert_eq!(shop.grants_that_differ().await, 0);
    // Link and attributes don't touch each other.
    shop.links(&next, "x", "linked").await;
    assert_eq!(shop.sets(&next, r#"{"segment":null}"#).await, json!({}));
    let next = shop.refreshed_by_app(&next).await;
    assert_eq!(next.claims.get("attrs"), None);
    assert_eq!(shop.customer_of(&next).await, "x");
    shop.unlinks(&next, "x", "unlinked").await;
    assert_eq!(shop.sets(&next, r#"{"n":2}"#).await, json!({"n": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn c238_two_names_at_once_both_stand() {
    let shop = Shop::new().await;
    let other = shop.test.beside(config(SETTINGS)).await;
    for round in 0..thorough(1_000) {
        shop.test.clock.advance(Duration::from_millis(1));
        let tokens = shop.test.guest().await;
        let [a, b] = [r#"{"a":1}"#, r#"{"b":2}"#].map(|one| shop.set(&tokens.access_token, one));
        let (a, b) = tokio::join!(shop.test.send(a), other.send(b));
        for answer in [a, b] {
            assert_eq!(answer.status, StatusCode::OK, "{round}: {answer:?}");
        }
        assert_eq!(shop.sets(&tokens, "{}").await, json!({"a": 1, "b": 2}));
    }
    assert_eq!(shop.grants_that_differ().await, 0);
}

#[tokio::test]
async fn c239_attributes_that_are_malformed_or_too_long_change_nothing() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    shop.sets(&tokens, r#"{"a":"x"}"#).await;
    let before = shop.test.rows().await;
    let names: Vec<_> = (0..16).map(|n| format!(r#""n{n}":{n}"#)).collect();
    let seventeen = format!("{{{}}}", names.join(","));
    let of_length = |tildes: usize, rest: usize| {
        let (tildes, rest) = ("~".repeat(tildes), "x".repeat(rest));
        format!(r#"{{"a":"{tildes}","b":"{rest}"}}"#)
    };
    // As a token writes it, `~` has six bytes.
    let (longest, too_long) = (of_length(39, 7), of_length(39, 8));
    for (bad, refusal) in [
        (seventeen.as_str(), "attributes_too_long"),
        (&too_long, "attributes_too_long"),
        (r#"{"a":{"b":1}}"#, "attributes_malformed"),
        (r#"{"a":1.5}"#, "attributes_malformed"),
        (r#"{"a":9007199254740992}"#, "attributes_malformed"),
        (r#"{"customer":"x"}"#, "attributes_malformed"),
        (r#"{"Sub":"x"}"#, "attributes_malformed"),
        (r#"{"b":1,"b":2}"#, "attributes_malformed"),
        ("{", "attributes_malformed"),
        ("x", "attributes_malformed"),
        ("", "parameter_missing"),
    ] {
        let sent = shop.set(&tokens.access_token, bad);
        let answer = shop.test.refused(sent, "invalid_request").await;
        let record = shop.test.app.keys().now();
        let record = record
            .request_ids()
            .open(answer.header("x-request-id").unwrap());
        assert_eq!(record.unwrap().reason, Reason::of(refusal), "{bad}");
    }
    let twice = shop
        .set(&tokens.access_token, "{}")
        .also("attributes", "{}");
    shop.test.refused(twice, "invalid_request").await;
    let in_query = shop.set(&tokens.access_token, r#"{"a":1}"#).in_query();
    shop.test.refused(in_query, "invalid_request").await;
    assert_eq!(shop.test.rows().await, before);
    shop.sets(&tokens, &longest).await;
    let escaped = "select count(*) from grants where length(attributes) = 256";
    assert_eq!(shop.test.number(escaped).await, 1);
    let in_json = shop.set(&tokens.access_token, r#"{"b":null}"#).in_json();
    assert_eq!(shop.test.send(in_json).await.status, StatusCode::OK);
}

#[tokio::test]
async fn c206_who_may_set_attributes_is_for_the_operator_to_say() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    let only_link = ClientSettings {
        may: Some(vec![Permission::Link]),
        ..ClientSettings::default()
    };
    shop.test.set_client(BACK_END, only_link).await;
    let sent = shop.set(&tokens.access_token, r#"{"a":1}"#);
    shop.test.refused(sent.clone(), "unauthorized_client").await;
    let without_key = attributes(&tokens.access_token, "{}").set("client_id", BACK_END);
    shop.test.refused(without_key, "invalid_client").await;
    shop.test
        .refused(sent.set("client_id", APP), "invalid_client")
        .await;
    let written = "select count(*) from profiles where attributes is not null";
    assert_eq!(shop.test.number(written).await, 0);
}

#[tokio::test]
async fn c236_a_guest_reads_what_its_client_is_told_and_not_whose_it_is() {
    let shop = Shop::new().await;
    shop.test.set_client(APP, told(&["customer", "a"])).await;
    let tokens = shop.guest_of_app().await;
    shop.links(&tokens, "customer-4711", "linked").await;
    shop.sets(&tokens, r#"{"a":1,"secret":"x"}"#).await;
    let shown = shop.test.send(profile(&tokens.access_token)).await.json();
    assert_eq!(shown["attributes"], json!({"a": 1}));
    assert!(shown["linked_at"].is_i64(), "{shown}");
    assert!(!shown.to_string().contains("customer-4711"), "{shown}");
    let of_another = shop.test.guest().await;
    shop.sets(&of_another, r#"{"a":1}"#).await;
    let shown = shop
        .test
        .send(profile(&of_another.access_token))
        .await
        .json();
    assert_eq!(shown.get("attributes"), None);
    let next = shop.test.granted(refresh(&of_another.refresh_token)).await;
    assert_eq!(next.claims.get("attrs"), None::<&Value>);
}
