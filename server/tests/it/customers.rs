//! Guests and customers: `/oauth/link` and `/oauth/unlink`.

mod delivery;
mod linking;
mod recording;
mod remembering;
mod retention;
mod unlinking;

use std::sync::Arc;

use axum::http::StatusCode;
use guestpass::store::{StoredEvent, WhichEvents};
use guestpass_core::answer_size;
use guestpass_core::client::{Client, ClientNumber, ClientSettings, Permission};
use guestpass_core::event::{EventCursor, EventType};
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    Answer, Sent, TestApp, Tokens, attributes, config, exchange, introspect, link, refresh,
    request, verify,
};

/// The settings of a shop: no limits, and events are recorded.
const SETTINGS: &[(&str, &str)] = &[("limits.mode", "off"), ("events.record", "true")];

/// The client that links.
const BACK_END: &str = "back-end";
/// The client that is told.
const API: &str = "api";
/// The public client that is told.
const APP: &str = "app";

/// A server with [`BACK_END`], [`API`] and [`APP`], and the keys of the first two.
struct Shop {
    test: Arc<TestApp>,
    back_end_key: String,
    api_key: String,
}

impl Shop {
    async fn new() -> Self {
        let test = TestApp::with_config(config(SETTINGS)).await;
        Self::on(test).await
    }

    /// Makes the clients of a shop on a server.
    async fn on(test: TestApp) -> Self {
        let back_end_key = test.add_confidential_client(BACK_END).await;
        let api_key = test.add_confidential_client(API).await;
        test.set_client(BACK_END, may_all()).await;
        test.set_client(API, told(&["customer"])).await;
        test.add_client(APP, told(&["customer"])).await;
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

    /// Takes a new guest of [`APP`] through authorize and exchange.
    async fn guest_of_app(&self) -> Tokens {
        let code = self.test.code(APP).await;
        let exchange = exchange(&code).set("client_id", APP);
        self.test.granted(exchange).await
    }

    /// Refreshes a token of [`APP`].
    async fn refreshed_by_app(&self, tokens: &Tokens) -> Tokens {
        let refresh = refresh(&tokens.refresh_token).set("client_id", APP);
        self.test.granted(refresh).await
    }

    /// Returns the number of grants that don't repeat what their guest's row says.
    async fn grants_that_differ(&self) -> i64 {
        let sql = "select count(*) from grants join profiles using (profile_id)
                    where coalesce(grants.version, 0) <> coalesce(profiles.version, 0)
                       or coalesce(grants.customer, '') <> coalesce(profiles.customer, '')
                       or coalesce(grants.attributes, '') <> coalesce(profiles.attributes, '')";
        self.test.number(sql).await
    }

    /// Sets attributes, in a request that is right in every way.
    fn set(&self, access_token: &str, changes: &str) -> Sent {
        attributes(access_token, changes)
            .set("client_id", BACK_END)
            .header("x-api-key", &self.back_end_key)
    }

    /// The same, where it must succeed. Returns all attributes.
    async fn sets(&self, tokens: &Tokens, attributes: &str) -> Value {
        let answer = self
            .test
            .send(self.set(&tokens.access_token, attributes))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["sub"], tokens.sub());
        answer["attributes"].clone()
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
            test: Arc::new(self.test.beside(config(SETTINGS)).await),
            back_end_key: self.back_end_key.clone(),
            api_key: self.api_key.clone(),
        }
    }

    /// Returns all events, as (type, `sub`, by or reason), in the order of their times.
    async fn events(&self) -> Vec<(EventType, String, Option<String>)> {
        let stored = self.stored_events().await;
        stored
            .into_iter()
            .map(|stored| {
                let reason = stored.event.reason.map(|reason| reason.into_owned());
                (
                    stored.event.event_type,
                    stored.event.guest.to_string(),
                    reason,
                )
            })
            .collect()
    }

    async fn stored_events(&self) -> Vec<StoredEvent> {
        let (start, end) = (EventCursor::START, Timestamp::from_millis(i64::MAX));
        let events = self
            .test
            .store
            .events_after(WhichEvents::All, start, end, 10_000);
        events.await.unwrap()
    }

    async fn linked_guests(&self) -> i64 {
        let sql = "select count(*) from profiles where customer is not null";
        self.test.number(sql).await
    }
}

fn may_all() -> ClientSettings {
    ClientSettings {
        may: Some(vec![Permission::Link, Permission::Attributes]),
        ..ClientSettings::default()
    }
}

/// Makes a client one that is told these claims.
fn told(claims: &[&str]) -> ClientSettings {
    ClientSettings {
        claims: Some(claims.iter().map(|name| name.parse().unwrap()).collect()),
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
    let from_page = shop
        .set(&tokens.access_token, r#"{"a":1}"#)
        .header("origin", origin);
    let answer = shop.test.send(from_page).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    for path in ["/oauth/link", "/oauth/unlink", "/oauth/attributes"] {
        for (method, status) in [
            ("GET", StatusCode::METHOD_NOT_ALLOWED),
            ("OPTIONS", StatusCode::NO_CONTENT),
        ] {
            let sent = request(method, path).header("origin", origin);
            let answer = shop.test.send(sent).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
}

#[tokio::test]
async fn c240_an_answer_is_no_longer_than_existing_clients_read() {
    let mut client = Client::new(
        ClientNumber(1),
        "c".repeat(128).parse().unwrap(),
        Timestamp::from_millis(0),
    );
    client.claims = told(&["customer", "a", "b"]).claims.unwrap();
    client.overrides.audience = "a".repeat(64).parse().ok();
    let policy = Policy::default().with(&client.overrides);
    let issuer = |length| format!("https://id.example/{}", "i".repeat(length));
    let fits = |length: &usize| answer_size::beyond(&client, &policy, &issuer(*length)).is_none();
    let room = 128 - "https://id.example/".len();
    let longest = (1..=room).rev().find(fits).unwrap();
    assert!(longest < room, "a longer issuer would be too long");
    let expected = answer_size::longest(&client, &policy, &issuer(longest));
    assert!(expected <= answer_size::MAX_BYTES);
    for algorithm in ["HS256", "ES256", "EdDSA"] {
        let issuer = issuer(longest);
        let settings = [
            ("issuer", issuer.as_str()),
            ("tokens.algorithm", algorithm),
            ("limits.mode", "off"),
        ];
        let test = TestApp::with_config(config(&settings)).await;
        let id = client.id.as_str();
        let told = ClientSettings {
            claims: Some(client.claims.clone()),
            overrides: client.overrides.clone(),
            ..ClientSettings::default()
        };
        test.add_client(id, told).await;
        let key = test.add_confidential_client(BACK_END).await;
        test.set_client(BACK_END, may_all()).await;
        let exchange = exchange(&test.code(id).await).set("client_id", id);
        let guest = test.granted(exchange).await;
        let link = link(&guest.access_token, &"x".repeat(128)).set("client_id", BACK_END);
        let linked = test.send(link.header("x-api-key", &key)).await;
        assert_eq!(linked.status, StatusCode::OK, "{linked:?}");
        // `~` is written as six characters, none of which a plain base64 decoder stumbles over.
        let changes = format!(r#"{{"a":"{}","b":">x"}}"#, "~".repeat(39));
        let set = attributes(&guest.access_token, &changes).set("client_id", BACK_END);
        let set = test.send(set.header("x-api-key", &key)).await;
        assert_eq!(set.status, StatusCode::OK, "{set:?}");
        // Every answer with tokens is looked at: it has a payload that any base64 decoder reads, and is short enough.
        let answer = test
            .send(refresh(&guest.refresh_token).set("client_id", id))
            .await;
        assert_eq!(answer.tokens().claims["customer"], "x".repeat(128));
        let length = answer.body.len();
        assert_eq!(answer.tokens().claims["attrs"]["a"], "~".repeat(39));
        // A guest from elsewhere may have an id of 19 digits, and only HS256 has a shorter signature and key id.
        let least = expected - 4 - if algorithm == "HS256" { 79 } else { 0 };
        assert!(
            (least..=expected).contains(&length),
            "{algorithm}: {length}, {expected}"
        );
    }
}

#[tokio::test]
async fn c243_a_gateway_is_told_the_customer_or_nobody() {
    let shop = Shop::new().await;
    let (linked, other) = (shop.guest_of_app().await, shop.guest_of_app().await);
    shop.links(&linked, "x", "linked").await;
    let linked = shop.refreshed_by_app(&linked).await;
    let claiming = |sent: Sent| sent.header("x-guestpass-customer", "mallory");
    for (sent, customer) in [
        (verify(&linked.access_token), "x"),
        (verify(&other.access_token), ""),
        (request("GET", "/oauth/verify").set("mode", "soft"), ""),
    ] {
        for sent in [sent.clone(), claiming(sent)] {
            let answer = shop.test.send(sent).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            assert_eq!(answer.header("x-guestpass-customer"), Some(customer));
            let told = answer.json().get("customer").cloned();
            assert_eq!(told, (!customer.is_empty()).then(|| json!(customer)));
        }
    }
}
