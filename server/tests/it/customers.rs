//! Guests and customers: links.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock as _;
use guestpass::journal::{Entry, Journal};
use guestpass::restore::has_lost;
use guestpass::store::{ChangeFailed, Tombstone};
use guestpass_core::client::{Change, ChangeError, ClientSettings, Permission};
use guestpass_core::policy::PolicyOverrides;
use serde_json::{Value, json};

use crate::support::{
    Answer, Forged, SHOP, Sent, TestApp, Tokens, authorize, config, introspect, link, profile,
    refresh, request, revoke, thorough,
};

/// The client that links.
const BACK_END: &str = "back-end";
/// The client that is told.
const API: &str = "api";

/// A server with [`BACK_END`] and [`API`], and the keys of both.
struct Shop {
    test: Arc<TestApp>,
    back_end_key: String,
    api_key: String,
}

impl Shop {
    async fn new() -> Self {
        let test = TestApp::with_config(config(&[("limits.mode", "off")])).await;
        let back_end_key = test.add_confidential_client(BACK_END).await;
        let api_key = test.add_confidential_client(API).await;
        test.set_client(BACK_END, may_link()).await;
        let told = ClientSettings {
            claims: Some(vec!["customer".parse().unwrap()]),
            ..ClientSettings::default()
        };
        test.set_client(API, told).await;
        Self {
            test: Arc::new(test),
            back_end_key,
            api_key,
        }
    }

    /// A link that is right in every way.
    fn link(&self, access_token: &str, customer: &str) -> Sent {
        link(access_token, customer)
            .set("client_id", BACK_END)
            .header("x-api-key", &self.back_end_key)
    }

    async fn links(&self, tokens: &Tokens, customer: &str, outcome: &str) {
        let sent = self.link(&tokens.access_token, customer);
        let answer = self.test.send(sent).await;
        is_linked(&answer, tokens, customer, outcome);
    }

    fn unlink(&self, tokens: &Tokens, customer: &str) -> Sent {
        self.link(&tokens.access_token, customer)
            .path("/oauth/unlink")
    }

    async fn unlinks(&self, tokens: &Tokens, customer: &str, outcome: &str) {
        let answer = self.test.send(self.unlink(tokens, customer)).await;
        is_unlinked(&answer, tokens, outcome);
    }

    /// Introspects a token as a client, and returns the answer.
    async fn told(&self, client: &str, key: &str, token: &str) -> Value {
        let request = introspect(token).set("client_id", client);
        let answer = self.test.send(request.header("x-api-key", key)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()
    }

    /// Returns the customer that [`API`] is told.
    async fn customer_of(&self, tokens: &Tokens) -> Value {
        let told = self.told(API, &self.api_key, &tokens.access_token).await;
        assert_eq!(told["active"], true, "{told}");
        told["customer"].clone()
    }

    /// The same shop after a start, as after a restore: the server of before has the files of before.
    async fn restarted(&self) -> Self {
        Self {
            test: Arc::new(self.test.beside(config(&[("limits.mode", "off")])).await),
            back_end_key: self.back_end_key.clone(),
            api_key: self.api_key.clone(),
        }
    }

    async fn linked_guests(&self) -> i64 {
        let sql = "select count(*) from profiles where customer is not null";
        self.test.number(sql).await
    }
}

fn may_link() -> ClientSettings {
    ClientSettings {
        may: Some(vec![Permission::Link]),
        ..ClientSettings::default()
    }
}

fn is_linked(answer: &Answer, tokens: &Tokens, customer: &str, outcome: &str) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let (sub, subn) = (tokens.sub(), &tokens.claims["subn"]);
    let expected = json!({"sub": sub, "subn": subn, "customer": customer, "outcome": outcome});
    assert_eq!(answer.json(), expected);
}

fn is_unlinked(answer: &Answer, tokens: &Tokens, outcome: &str) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let (sub, subn) = (tokens.sub(), &tokens.claims["subn"]);
    let expected = json!({"sub": sub, "subn": subn, "outcome": outcome});
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn c201_a_link_is_told_at_once_to_those_who_may_know() {
    let shop = Shop::new().await;
    let (tokens, bystander) = (shop.test.guest().await, shop.test.guest().await);
    let before = shop.test.rows().await;
    shop.links(&tokens, "c-4711", "linked").await;
    let after = shop.test.rows().await;
    let changed = after.iter().filter(|row| !before.contains(row)).count();
    assert_eq!((changed, after.len()), (1, before.len()));
    assert_eq!(shop.customer_of(&tokens).await, "c-4711");
    assert_eq!(shop.customer_of(&bystander).await, Value::Null);
    let token = &tokens.access_token;
    let to_the_linker = shop.told(BACK_END, &shop.back_end_key, token).await;
    assert_eq!(to_the_linker["active"], true);
    assert_eq!(to_the_linker.get("customer"), None);
    // The guest learns when, and not who.
    let told = shop.test.send(profile(token)).await.json();
    assert_eq!(told["linked_at"], shop.test.clock.now().as_seconds());
    assert!(!told.to_string().contains("c-4711"), "{told}");
    let metrics = shop.test.metrics().await;
    let counted = r#"guestpass_links_total{outcome="linked"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c202_a_repeated_link_writes_nothing() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    let links = vec![shop.link(&tokens.access_token, "x"); 50];
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
    shop.links(&tokens, "x", "already").await;
    shop.test.clock.advance_secs(1);
    let other_node = shop.test.beside(config(&[("limits.mode", "off")])).await;
    let answer = other_node.send(shop.link(&tokens.access_token, "x")).await;
    is_linked(&answer, &tokens, "x", "already");
    assert_eq!(shop.test.rows().await, before);
}

#[tokio::test]
async fn c203_guests_of_one_customer_stay_what_they_are() {
    let shop = Shop::new().await;
    let guests = [shop.test.guest().await, shop.test.guest().await];
    for tokens in &guests {
        shop.links(tokens, "x", "linked").await;
    }
    for tokens in &guests {
        let next = shop.test.granted(refresh(&tokens.refresh_token)).await;
        for claim in ["sub", "subn", "sid"] {
            assert_eq!(next.claims[claim], tokens.claims[claim]);
        }
        assert_eq!(shop.customer_of(&next).await, "x");
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
    let other = shop.test.beside(config(&[("limits.mode", "off")])).await;
    for round in 0..thorough(1_000) {
        let tokens = shop.test.guest().await;
        let links = ["x", "y"].map(|customer| shop.link(&tokens.access_token, customer));
        let [x, y] = links;
        let (x, y) = tokio::join!(shop.test.send(x), other.send(y));
        let mut statuses = [x.status.as_u16(), y.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{round}: {x:?} {y:?}");
        let customer = match x.status {
            StatusCode::OK => "x",
            _ => "y",
        };
        assert_eq!(shop.customer_of(&tokens).await, customer);
    }
}

#[tokio::test]
async fn c206_who_may_link_is_for_the_operator_to_say() {
    let shop = Shop::new().await;
    let token = shop.test.guest().await.access_token;
    let with = |client: &str, key: &str| {
        link(&token, "x")
            .set("client_id", client)
            .header("x-api-key", key)
    };
    for (sent, error) in [
        (link(&token, "x").set("client_id", SHOP), "invalid_client"),
        (
            link(&token, "x").set("client_id", BACK_END),
            "invalid_client",
        ),
        (link(&token, "x"), "invalid_client"),
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
        settings: may_link(),
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
    let sent = shop.link(&token, "x");
    shop.test.refused(sent, "unauthorized_client").await;
}

#[tokio::test]
async fn c207_only_a_token_proves_who_holds_the_guest() {
    let shop = Shop::new().await;
    let tokens = shop.test.guest().await;
    let right = || shop.link(&tokens.access_token, "x");
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
    is_linked(&answer, &tokens, "x", "linked");
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
        .granted(crate::support::exchange(&code).set("client_id", "closed"))
        .await;
    test.disable_client("closed", true).await;
    bad.push(("of a disabled client", disabled.access_token));
    let guest = test.guest().await;
    bad.push(("forged", Forged::with_secret(&guest, b"wrong").sign()));
    bad.push(("no token", "x".to_owned()));
    let expired = Forged::like(test, &guest).claim("exp", guest.claims["iat"].clone());
    test.clock.advance(Duration::from_secs(120));
    bad.push(("expired", expired.sign()));

    let mut bodies = Vec::new();
    for (what, token) in bad {
        let answer = test.refused(shop.link(&token, "x"), "invalid_grant").await;
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
    let sent = shop.link(&guest.access_token, "x");
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
        let refused = shop.test.refused(shop.link(token, "x"), "invalid_grant");
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
    let long = "x".repeat(129);
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
        right("x").set_raw("customer", "a%00"),
        right("x").also("customer", "y"),
        right("x").in_query(),
        right("x").unset("customer").path("/oauth/link?customer=x"),
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
        let link = shop.link(&tokens.access_token, "x");
        let erase = profile(&tokens.access_token).method("DELETE");
        let (linked, erased) = tokio::join!(test.send(link), test.send(erase));
        assert_eq!(erased.status, StatusCode::NO_CONTENT, "{round}: {erased:?}");
        if linked.status != StatusCode::OK {
            let outcome = (linked.status, linked.error());
            assert_eq!(outcome, (StatusCode::BAD_REQUEST, "invalid_grant"));
        }
        assert_eq!(test.counts().await, (0, 0), "{round}");
        let again = shop.link(&tokens.access_token, "x");
        test.refused(again, "invalid_grant").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c212_a_link_beside_a_refresh_costs_neither() {
    let shop = Shop::new().await;
    for round in 0..thorough(1_000) {
        let tokens = shop.test.guest().await;
        let link = shop.link(&tokens.access_token, "x");
        let (linked, next) = tokio::join!(
            shop.test.send(link),
            shop.test.send(refresh(&tokens.refresh_token))
        );
        is_linked(&linked, &tokens, "x", "linked");
        assert_eq!(next.status, StatusCode::OK, "{round}: {next:?}");
        let next = next.tokens();
        assert_eq!(shop.customer_of(&next).await, "x");
        let after = shop.test.granted(refresh(&next.refresh_token)).await;
        assert_eq!(shop.customer_of(&after).await, "x");
        let generation = "select max(generation) from grants";
        assert_eq!(shop.test.number(generation).await, 3);
    }
}

#[tokio::test]
async fn c215_a_link_is_undone_by_who_knows_it() {
    let shop = Shop::new().await;
    let (tokens, never) = (shop.test.guest().await, shop.test.guest().await);
    shop.links(&tokens, "x", "linked").await;
    let to_another = shop.test.send(shop.unlink(&tokens, "y")).await;
    assert_eq!(
        (to_another.status, to_another.error()),
        (StatusCode::CONFLICT, "linked_to_another")
    );
    shop.unlinks(&tokens, "x", "unlinked").await;
    assert_eq!(shop.customer_of(&tokens).await, Value::Null);
    let before = shop.test.rows().await;
    shop.unlinks(&tokens, "x", "not_linked").await;
    shop.unlinks(&never, "x", "not_linked").await;
    assert_eq!(shop.test.rows().await, before);
    shop.links(&tokens, "y", "linked").await;
    assert_eq!(shop.customer_of(&tokens).await, "y");
    let undone = |entry: &&Entry| matches!(entry, Entry::LinkUndone(_));
    assert_eq!(shop.test.journaled().iter().filter(undone).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c216_a_link_beside_its_end_is_one_or_the_other() {
    let shop = Shop::new().await;
    for round in 0..thorough(1_000) {
        let tokens = shop.test.guest().await;
        let link = shop.link(&tokens.access_token, "x");
        let unlink = shop.unlink(&tokens, "x");
        let (linked, unlinked) = tokio::join!(shop.test.send(link), shop.test.send(unlink));
        is_linked(&linked, &tokens, "x", "linked");
        assert_eq!(unlinked.status, StatusCode::OK, "{round}: {unlinked:?}");
        let is_undone = unlinked.json()["outcome"] == "unlinked";
        let expected = if is_undone { Value::Null } else { json!("x") };
        assert_eq!(shop.customer_of(&tokens).await, expected, "{round}");

        let twice = [shop.unlink(&tokens, "x"), shop.unlink(&tokens, "x")];
        for answer in shop.test.at_once(twice.to_vec()).await {
            assert_eq!(answer.status, StatusCode::OK, "{round}: {answer:?}");
        }
        assert_eq!(shop.customer_of(&tokens).await, Value::Null, "{round}");
        shop.links(&tokens, "y", "linked").await;
    }
}

#[tokio::test]
async fn c217_a_restored_backup_brings_no_link_back() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let mut tokens = Vec::new();
    for customer in ["x", "y", "x"] {
        let guest = test.guest().await;
        shop.links(&guest, customer, "linked").await;
        tokens.push(guest);
    }
    let backup = test.database.beside("backup");
    test.database.copy_to(&backup).await;
    test.clock.advance_secs(60);
    shop.unlinks(&tokens[0], "x", "unlinked").await;
    backup.copy_to(&test.database).await;
    let restored = test.beside(config(&[])).await;
    assert_eq!(linked_now(test).await, ["x", "y"]);
    assert_eq!(restored.count("tombstones").await, 1);
    let unlinked = "select profile_id from profiles where customer is null";
    assert_eq!(test.database.column(unlinked).await, [tokens[0].sub()]);
    assert!(
        !has_lost(&*restored.store, &restored.journal())
            .await
            .unwrap()
    );

    // As if the server had been killed when the journal had it, and the store not yet.
    let keys = restored.app.keys().now();
    let guest = tokens[2].sub().parse().unwrap();
    let hash = keys.tombstone_of_link(guest, &"x".parse().unwrap());
    let at = test.clock.now();
    let entry = Entry::LinkUndone(Tombstone { hash, at });
    let journal = Journal::open(&restored.journal()).unwrap();
    journal.append(entry).await.unwrap();
    assert!(
        has_lost(&*restored.store, &restored.journal())
            .await
            .unwrap()
    );
    test.beside(config(&[])).await;
    assert_eq!(linked_now(test).await, ["y"]);
}

#[tokio::test]
async fn c218_a_link_that_is_younger_than_its_end_stays() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let tokens = test.guest().await;
    shop.links(&tokens, "x", "linked").await;
    let first = test.database.beside("first");
    test.database.copy_to(&first).await;
    for _ in 0..2 {
        test.clock.advance_secs(1);
        shop.unlinks(&tokens, "x", "unlinked").await;
        test.clock.advance_secs(1);
        shop.links(&tokens, "x", "linked").await;
    }
    let second = test.database.beside("second");
    test.database.copy_to(&second).await;
    test.clock.advance_secs(1);
    shop.unlinks(&tokens, "x", "unlinked").await;
    // The store that has one end of this link may lack a later one.
    second.copy_to(&test.database).await;
    let shop = shop.restarted().await;
    assert_eq!(shop.linked_guests().await, 0);

    test.clock.advance_secs(1);
    shop.links(&tokens, "x", "linked").await;
    // An entry that is younger than what the store knows of the end of this link, and older than the link.
    let keys = test.app.keys().now();
    let hash = keys.tombstone_of_link(tokens.sub().parse().unwrap(), &"x".parse().unwrap());
    let before = |millis| {
        let at = test.clock.now().before(Duration::from_millis(millis));
        Entry::LinkUndone(Tombstone { hash, at })
    };
    let journal = Journal::open(&test.journal()).unwrap();
    journal.append(before(500)).await.unwrap();
    let shop = shop.restarted().await;
    assert_eq!(linked_now(test).await, ["x"]);
    // The end that a node with a clock ahead has written counts, although another with an earlier time follows it.
    journal.append(before(0)).await.unwrap();
    journal.append(before(700)).await.unwrap();
    let shop = shop.restarted().await;
    assert_eq!(shop.linked_guests().await, 0);
    first.copy_to(&test.database).await;
    let shop = shop.restarted().await;
    assert_eq!(shop.linked_guests().await, 0);
}

#[tokio::test]
async fn c219_a_link_that_a_restore_has_lost_comes_back_at_the_next_login() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let tokens = test.guest().await;
    let backup = test.database.beside("backup");
    test.database.copy_to(&backup).await;
    shop.links(&tokens, "x", "linked").await;
    backup.copy_to(&test.database).await;
    let shop = shop.restarted().await;
    let next = shop.test.granted(refresh(&tokens.refresh_token)).await;
    assert_eq!(shop.customer_of(&next).await, Value::Null);
    shop.links(&next, "x", "linked").await;
    assert_eq!(shop.customer_of(&next).await, "x");
}

/// The customers that guests are linked to.
async fn linked_now(test: &TestApp) -> Vec<String> {
    let sql = "select customer from profiles where customer is not null order by customer";
    test.database.column(sql).await
}

#[tokio::test]
async fn c263_no_page_may_link() {
    let shop = Shop::new().await;
    let origin = "https://shop.example";
    let registered = ClientSettings {
        add_origins: vec![origin.parse().unwrap()],
        ..ClientSettings::default()
    };
    shop.test.set_client(BACK_END, registered).await;
    let tokens = shop.test.guest().await;
    let from_page = shop
        .link(&tokens.access_token, "x")
        .header("origin", origin);
    let answer = shop.test.send(from_page).await;
    is_linked(&answer, &tokens, "x", "linked");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let from_page = shop.unlink(&tokens, "x").header("origin", origin);
    let answer = shop.test.send(from_page).await;
    is_unlinked(&answer, &tokens, "unlinked");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    for (method, path, status) in [
        ("GET", "/oauth/link", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/oauth/unlink", StatusCode::METHOD_NOT_ALLOWED),
        ("OPTIONS", "/oauth/link", StatusCode::NO_CONTENT),
        ("OPTIONS", "/oauth/unlink", StatusCode::NO_CONTENT),
    ] {
        let sent = request(method, path).header("origin", origin);
        let answer = shop.test.send(sent).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}
