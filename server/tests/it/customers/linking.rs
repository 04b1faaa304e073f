//! A guest is linked to a customer.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock as _;
use guestpass::store::ChangeFailed;
use guestpass_core::client::{Change, ChangeError, ClientSettings};
use guestpass_core::event::EventType;
use guestpass_core::policy::PolicyOverrides;
use serde_json::Value;

use super::{API, APP, BACK_END, SETTINGS, Shop, is_linked, may_all};
use crate::support::{
    Forged, SHOP, Sent, authorize, config, exchange, link, profile, refresh, revoke, thorough,
    ticket,
};

#[tokio::test]
async fn c201_a_link_is_told_at_once_to_those_who_may_know() {
    let shop = Shop::new().await;
    let (tokens, bystander) = (shop.test.guest().await, shop.test.guest().await);
    let before = shop.test.rows().await;
    shop.links(&tokens, "c-4711", "linked").await;
    let after = shop.test.rows().await;
    let changed = after.iter().filter(|row| !before.contains(row)).count();
    // The guest's row, and what its grant repeats.
    assert_eq!((changed, after.len()), (2, before.len()));
    assert_eq!(shop.customer_of(&tokens).await, "c-4711");
    assert_eq!(shop.customer_of(&bystander).await, Value::Null);
    let token = &tokens.access_token;
    let to_the_linker = shop.told(BACK_END, &shop.back_end_key, token).await;
    assert_eq!(to_the_linker["active"], true);
    assert_eq!(to_the_linker.get("customer"), None);
    let next = shop.test.granted(refresh(&tokens.refresh_token)).await;
    assert_eq!(next.claims.get("customer"), None);
    let of_app = shop.guest_of_app().await;
    assert_eq!(of_app.claims.get("customer"), None);
    shop.links(&of_app, "c-4711", "linked").await;
    let next = shop.refreshed_by_app(&of_app).await;
    assert_eq!(next.claims["customer"], "c-4711");
    // The guest learns when, and not who.
    let told = shop.test.send(profile(token)).await.json();
    assert_eq!(told["linked_at"], shop.test.clock.now().as_seconds());
    assert!(!told.to_string().contains("c-4711"), "{told}");
    let metrics = shop.test.metrics().await;
    let counted = r#"guestpass_links_total{outcome="linked"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c202_a_repeated_link_writes_nothing() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    let links = vec![shop.link(&tokens.access_token, "customer-x"); 50];
    let answers = shop.test.at_once(links).await;
    let outcomes: Vec<_> = answers
        .iter()
        .map(|answer| answer.json()["outcome"].clone())
        .collect();
    let linked = outcomes.iter().filter(|outcome| **outcome == "linked");
    assert_eq!(linked.count(), 1, "{outcomes:?}");
    let already = outcomes.iter().filter(|outcome| **outcome == "already");
    assert_eq!(already.count(), 49, "{outcomes:?}");

    let before = shop.test.rows().await;
    shop.links(&tokens, "customer-x", "already").await;
    shop.test.clock.advance_secs(1);
    let other_node = shop.test.beside(config(SETTINGS)).await;
    let answer = other_node
        .send(shop.link(&tokens.access_token, "customer-x"))
        .await;
    is_linked(&answer, &tokens, "customer-x", "already");
    assert_eq!(shop.test.rows().await, before);
    assert_eq!(shop.events().await.len(), 1);
}

#[tokio::test]
async fn c203_guests_of_one_customer_stay_what_they_are() {
    let shop = Shop::new().await;
    let guests = [shop.test.guest().await, shop.test.guest().await];
    for tokens in &guests {
        shop.links(tokens, "customer-x", "linked").await;
    }
    for tokens in &guests {
        let next = shop.test.granted(refresh(&tokens.refresh_token)).await;
        for claim in ["sub", "subn", "sid"] {
            assert_eq!(next.claims[claim], tokens.claims[claim]);
        }
        assert_eq!(shop.customer_of(&next).await, "customer-x");
    }
}

#[tokio::test]
async fn c204_a_guest_stays_with_its_customer() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    shop.links(&tokens, "customer-x", "linked").await;
    let before = shop.test.rows().await;
    let sent = shop.link(&tokens.access_token, "customer-y");
    let answer = shop.test.send(sent).await;
    assert_eq!(
        (answer.status, answer.error()),
        (StatusCode::CONFLICT, "linked_to_another")
    );
    let said = format!("{answer:?}");
    assert!(!said.contains("customer-x"), "{said}");
    assert_eq!(shop.test.rows().await, before);
    assert_eq!(shop.customer_of(&tokens).await, "customer-x");
    let anew = shop.test.guest().await;
    shop.links(&anew, "customer-y", "linked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c205_of_two_customers_at_once_one_gets_the_guest() {
    let shop = Shop::new().await;
    let other = shop.test.beside(config(SETTINGS)).await;
    for round in 0..thorough(1_000) {
        shop.test.clock.advance(Duration::from_millis(1));
        let tokens = shop.test.guest().await;
        let links =
            ["customer-x", "customer-y"].map(|customer| shop.link(&tokens.access_token, customer));
        let [x, y] = links;
        let (x, y) = tokio::join!(shop.test.send(x), other.send(y));
        let mut statuses = [x.status.as_u16(), y.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{round}: {x:?} {y:?}");
        let customer = match x.status {
            StatusCode::OK => "customer-x",
            _ => "customer-y",
        };
        assert_eq!(shop.customer_of(&tokens).await, customer);
    }
    assert_eq!(shop.grants_that_differ().await, 0);
}

#[tokio::test]
async fn c206_who_may_link_is_for_the_operator_to_say() {
    let shop = Shop::new().await;
    let token = shop.test.guest().await.access_token;
    let with = |client: &str, key: &str| {
        link(&token, "customer-x")
            .set("client_id", client)
            .header("x-api-key", key)
    };
    for (sent, error) in [
        (
            link(&token, "customer-x").set("client_id", SHOP),
            "invalid_client",
        ),
        (
            link(&token, "customer-x").set("client_id", BACK_END),
            "invalid_client",
        ),
        (link(&token, "customer-x"), "invalid_client"),
        (with(BACK_END, "wrong"), "invalid_client"),
        (with(API, &shop.api_key), "unauthorized_client"),
    ] {
        shop.test
            .refused(sent.clone().path("/oauth/unlink"), error)
            .await;
        shop.test.refused(sent, error).await;
    }
    let change = Change::SetClient {
        id: SHOP.parse().unwrap(),
        settings: may_all(),
    };
    let refused = shop.test.store.change(change).await.unwrap_err();
    assert!(
        matches!(refused, ChangeFailed::Refused(ChangeError::MayPublic)),
        "{refused:?}"
    );
    let public = ClientSettings {
        confidential: Some(false),
        ..ClientSettings::default()
    };
    let change = Change::SetClient {
        id: BACK_END.parse().unwrap(),
        settings: public,
    };
    shop.test.store.change(change).await.unwrap_err();
    let none = ClientSettings {
        may: Some(Vec::new()),
        ..ClientSettings::default()
    };
    shop.test.set_client(BACK_END, none).await;
    let sent = shop.link(&token, "customer-x");
    shop.test.refused(sent, "unauthorized_client").await;
}

#[tokio::test]
async fn c207_only_a_token_proves_who_holds_the_guest() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    let right = || shop.link(&tokens.access_token, "customer-x");
    for wrong in [
        right().unset("token").set("sub", tokens.sub()),
        right().unset("token").set("ticket", &tokens.access_token),
        right().also("token", &tokens.access_token),
    ] {
        shop.test.refused(wrong, "invalid_request").await;
    }
    let challenge = authorize().value("code_challenge").to_owned();
    let answer = shop
        .test
        .send(right().set("code_challenge", &challenge))
        .await;
    // And no code.
    is_linked(&answer, &tokens, "customer-x", "linked");
}

#[tokio::test]
async fn c208_only_a_token_that_is_good_and_meant_for_the_client_links() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let mut bad = Vec::new();
    let revoked = test.guest().await.access_token;
    test.send(revoke(&revoked)).await;
    bad.push(("revoked", revoked));
    let ended = test.guest().await;
    test.send(revoke(&ended.refresh_token)).await;
    bad.push(("of an ended grant", ended.access_token));
    let erased = test.guest().await.access_token;
    test.send(profile(&erased).method("DELETE")).await;
    bad.push(("of an erased guest", erased));
    test.add_client("closed", ClientSettings::default()).await;
    let code = test.code("closed").await;
    let disabled = test
        .granted(exchange(&code).set("client_id", "closed"))
        .await;
    test.disable_client("closed", true).await;
    bad.push(("of a disabled client", disabled.access_token));
    let guest = test.guest().await;
    bad.push(("forged", Forged::with_secret(&guest, b"wrong").sign()));
    bad.push(("no token", "customer-x".to_owned()));
    let expired = Forged::like(test, &guest).claim("exp", guest.claims["iat"].clone());
    test.clock.advance(Duration::from_secs(120));
    bad.push(("expired", expired.sign()));

    let mut bodies = Vec::new();
    for (what, token) in bad {
        let answer = test
            .refused(shop.link(&token, "customer-x"), "invalid_grant")
            .await;
        bodies.push((what, answer.body));
    }
    // A client that has an audience of its own links by no other token.
    let own = ClientSettings {
        overrides: PolicyOverrides {
            audience: "back-end".parse().ok(),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, own).await;
    let sent = shop.link(&guest.access_token, "customer-x");
    let answer = test.refused(sent, "invalid_grant").await;
    bodies.push(("of another audience", answer.body));
    for (what, body) in &bodies {
        assert_eq!(body, &bodies[0].1, "{what}");
    }
    assert_eq!(shop.linked_guests().await, 0);
}

#[tokio::test]
async fn c209_what_is_no_access_token_links_nobody() {
    let shop = Shop::new().await;
    let code = shop.test.code(SHOP).await;
    let refresh_token = shop.test.guest().await.refresh_token;
    let mut bodies = Vec::new();
    for token in [&code, &refresh_token, &shop.api_key, "forged"] {
        let refused = shop
            .test
            .refused(shop.link(token, "customer-x"), "invalid_grant");
        bodies.push(refused.await.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn c210_the_ids_of_customers() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    let right = |customer: &str| shop.link(&tokens.access_token, customer);
    let long = "customer-x".repeat(129);
    for bad in [
        "",
        "a b",
        "a@b",
        "é",
        "\"",
        "null",
        "uNdefined",
        "0",
        "-1",
        "NaN",
        "Guest",
        &long,
    ] {
        shop.test.refused(right(bad), "invalid_request").await;
    }
    for wrong in [
        right("customer-x").set_raw("customer", "a%00"),
        right("customer-x").also("customer", "customer-y"),
        right("customer-x").in_query(),
        right("customer-x")
            .unset("customer")
            .path("/oauth/link?customer=x"),
    ] {
        shop.test.refused(wrong, "invalid_request").await;
    }
    shop.links(&tokens, &long[..128], "linked").await;
    let (lower, upper) = (shop.test.guest().await, shop.test.guest().await);
    let answer = shop
        .test
        .send(shop.link(&lower.access_token, "abc").in_json())
        .await;
    is_linked(&answer, &lower, "abc", "linked");
    shop.links(&upper, "ABC", "linked").await;
    assert_eq!(shop.customer_of(&lower).await, "abc");
    assert_eq!(shop.customer_of(&upper).await, "ABC");
    let sent = shop.link(&lower.access_token, "ABC");
    assert_eq!(shop.test.send(sent).await.status, StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn c211_a_link_brings_no_erased_guest_back() {
    let shop = Shop::new().await;
    let test = &shop.test;
    for round in 0..thorough(1_000) {
        // Nobody is given the id of one who was erased, as there is none in the past of whoever comes.
        test.clock.advance(Duration::from_millis(1));
        let tokens = test.guest().await;
        let link = shop.link(&tokens.access_token, "customer-x");
        let erase = profile(&tokens.access_token).method("DELETE");
        let (linked, erased) = tokio::join!(test.send(link), test.send(erase));
        assert_eq!(erased.status, StatusCode::NO_CONTENT, "{round}: {erased:?}");
        if linked.status != StatusCode::OK {
            let outcome = (linked.status, linked.error());
            assert_eq!(outcome, (StatusCode::BAD_REQUEST, "invalid_grant"));
        }
        assert_eq!(test.counts().await, (0, 0), "{round}");
        let mut events = shop.events().await;
        events.retain(|(_, sub, _)| sub == tokens.sub());
        let erased = (
            EventType::GuestErased,
            tokens.sub().to_owned(),
            Some("guest".to_owned()),
        );
        assert_eq!(events, [erased], "{round}");
        let again = shop.link(&tokens.access_token, "customer-x");
        test.refused(again, "invalid_grant").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c212_a_link_beside_a_refresh_costs_neither() {
    let shop = Shop::new().await;
    for round in 0..thorough(1_000) {
        shop.test.clock.advance(Duration::from_millis(1));
        let tokens = shop.guest_of_app().await;
        let link = shop.link(&tokens.access_token, "customer-x");
        let refresh = refresh(&tokens.refresh_token).set("client_id", APP);
        let (linked, next) = tokio::join!(shop.test.send(link), shop.test.send(refresh));
        is_linked(&linked, &tokens, "customer-x", "linked");
        assert_eq!(next.status, StatusCode::OK, "{round}: {next:?}");
        let next = next.tokens();
        assert_eq!(shop.customer_of(&next).await, "customer-x");
        let after = shop.refreshed_by_app(&next).await;
        assert_eq!(after.claims["customer"], "customer-x");
        let generation = "select max(generation) from grants";
        assert_eq!(shop.test.number(generation).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c213_a_grant_that_is_made_beside_a_link_tells_of_it() {
    let shop = Shop::new().await;
    let resuming = ClientSettings {
        resume_with_jwt: Some(true),
        ..ClientSettings::default()
    };
    shop.test.set_client(BACK_END, resuming).await;
    let by_back_end = |sent: Sent| {
        sent.set("client_id", BACK_END)
            .header("x-api-key", &shop.back_end_key)
    };
    let other = shop.test.beside(config(SETTINGS)).await;
    for round in 0..thorough(1_000) {
        shop.test.clock.advance(Duration::from_millis(1));
        let code = shop.test.send(by_back_end(authorize())).await.text("code");
        let tokens = shop.test.granted(by_back_end(exchange(&code))).await;
        let link = shop.link(&tokens.access_token, "customer-x");
        let resume = by_back_end(authorize()).header("x-dressipi-jwt", &tokens.access_token);
        let (linked, resumed) = tokio::join!(shop.test.send(link), other.send(resume));
        is_linked(&linked, &tokens, "customer-x", "linked");
        assert_eq!(resumed.status, StatusCode::OK, "{round}: {resumed:?}");
        assert_eq!(shop.grants_that_differ().await, 0, "{round}");
    }
    assert_eq!(
        shop.test.number("select count(*) from grants").await,
        2 * shop.linked_guests().await
    );
}

#[tokio::test]
async fn c213_a_ticket_that_is_minted_beside_a_link_tells_of_it() {
    let shop = Shop::new().await;
    let hands_over = ClientSettings {
        add_ticket_to: vec![API.parse().unwrap()],
        ..ClientSettings::default()
    };
    shop.test.set_client(APP, hands_over).await;
    let other = shop.test.beside(config(SETTINGS)).await;
    for round in 0..thorough(1_000) {
        shop.test.clock.advance(Duration::from_millis(1));
        let tokens = shop.guest_of_app().await;
        let link = shop.link(&tokens.access_token, "customer-x");
        let mint = ticket(APP, API).set("refresh_token", &tokens.refresh_token);
        let (linked, minted) = tokio::join!(shop.test.send(link), other.send(mint));
        is_linked(&linked, &tokens, "customer-x", "linked");
        assert_eq!(minted.status, StatusCode::OK, "{round}: {minted:?}");
        assert_eq!(shop.grants_that_differ().await, 0, "{round}");
    }
    assert_eq!(
        shop.test.number("select count(*) from grants").await,
        2 * shop.linked_guests().await
    );
}

#[tokio::test]
async fn c214_what_a_crash_kept_from_a_grant_comes_with_the_next_login_or_the_cleaner() {
    let shop = Shop::new().await;
    // As if the server had been killed between the guest's row and those of its grants.
    let forget = "update grants set version = null, customer = null";
    let (linked, unlinked) = (shop.guest_of_app().await, shop.guest_of_app().await);
    for tokens in [&linked, &unlinked] {
        shop.links(tokens, "customer-x", "linked").await;
    }
    shop.test.database.sql(forget).await;
    shop.links(&linked, "customer-x", "already").await;
    assert_eq!(
        shop.refreshed_by_app(&linked).await.claims["customer"],
        "customer-x"
    );
    assert_eq!(shop.grants_that_differ().await, 1);
    shop.test.clean().await;
    assert_eq!(shop.grants_that_differ().await, 0);
    let next = shop.refreshed_by_app(&unlinked).await;
    assert_eq!(next.claims["customer"], "customer-x");

    let linked_still = "update grants set version = 1, customer = 'customer-x'";
    shop.unlinks(&unlinked, "customer-x", "unlinked").await;
    shop.test.database.sql(linked_still).await;
    shop.unlinks(&unlinked, "customer-x", "not_linked").await;
    assert_eq!(shop.grants_that_differ().await, 0);
    let next = shop.refreshed_by_app(&next).await;
    assert_eq!(next.claims.get("customer"), None);
    // Two links and the end of one: no repetition has told of any again.
    assert_eq!(shop.events().await.len(), 3);
}
