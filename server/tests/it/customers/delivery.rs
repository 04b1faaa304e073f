//! Events are delivered to the shop's receiver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use guestpass::clock::Clock as _;
use guestpass::config::Config;
use guestpass::store::{Delivery, StoredEvent};
use guestpass::webhooks::{Deliverer, Step};
use guestpass_core::event::EventType;

use super::Shop;
use crate::support::receiver::{Answers, Hook, Received};
use crate::support::{DAY, TestApp, config, lines_of, profile, thorough};

/// A shop with a receiver, and what delivers to it.
struct Delivering {
    shop: Shop,
    hook: Hook,
    deliverer: Deliverer,
}

impl Delivering {
    async fn new() -> Self {
        let hook = Hook::start().await;
        let config = settings(&hook);
        let shop = Shop::on(TestApp::with_config(config.clone()).await).await;
        let deliverer = Deliverer::new(Arc::clone(&shop.test.app), hook.receiver(&config));
        Self {
            shop,
            hook,
            deliverer,
        }
    }

    /// Takes a step, and returns what the receiver has got.
    async fn step(&mut self) -> Vec<Received> {
        self.deliverer.step().await.unwrap();
        self.hook.take()
    }

    fn advance(&self, duration: Duration) {
        self.shop.test.clock.advance(duration);
    }

    async fn stored(&self) -> StoredEvent {
        let mut stored = self.shop.stored_events().await;
        assert_eq!(stored.len(), 1);
        stored.remove(0)
    }
}

fn settings(hook: &Hook) -> Config {
    settings_of("one", hook)
}

/// Returns the settings of a node with that name.
fn settings_of(node: &str, hook: &Hook) -> Config {
    let mut settings = vec![("limits.mode", "off".to_owned()), ("node", node.to_owned())];
    settings.extend(hook.settings());
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    config(&settings)
}

#[tokio::test]
async fn c246_what_fails_is_tried_again_and_at_last_is_dead() {
    let mut d = Delivering::new().await;
    let guest = d.shop.guest_of_app().await;
    let customer = "customer-of-c246";
    d.shop.links(&guest, customer, "linked").await;
    let began = d.shop.test.clock.now();
    let mut ids = BTreeSet::new();
    // Each failure, and the pause after it in seconds, a fifth more or less.
    for (answer, pause) in [
        (Answers::Status(500), 5),
        (Answers::Redirect, 60),
        (Answers::Close, 300),
        (Answers::Status(410), 1800),
        (Answers::RetryAfter(503, 10), 3600),
        (Answers::RetryAfter(429, 90_000), 3600),
    ] {
        d.hook.answers(&[answer]);
        let received = d.step().await;
        assert_eq!(received.len(), 1, "{answer:?}");
        ids.insert(received[0].id().to_owned());
        let Delivery::Waiting(next_at) = d.stored().await.delivery else {
            panic!("{answer:?}: {:?}", d.stored().await);
        };
        let now = d.shop.test.clock.now();
        let waits = next_at.since(now).as_secs_f64() / f64::from(pause);
        assert!((0.8..=1.2).contains(&waits), "{answer:?}: {waits}");
        assert!(d.step().await.is_empty(), "{answer:?}");
        d.advance(next_at.since(now));
    }
    // An answer that comes too late is none.
    let hanging = d
        .hook
        .receiver_within(&settings(&d.hook), Duration::from_millis(50));
    let mut late = Deliverer::new(Arc::clone(&d.shop.test.app), hanging);
    d.hook.answers(&[Answers::Never]);
    let failed = Step::Tried {
        delivered: 0,
        failed: 1,
    };
    assert_eq!(late.step().await.unwrap(), failed);
    ids.extend(
        d.hook
            .take()
            .iter()
            .map(|received| received.id().to_owned()),
    );

    d.hook.always(Some(Answers::Status(500)));
    while d.shop.test.clock.now() < began + 3 * DAY {
        assert!(matches!(d.stored().await.delivery, Delivery::Waiting(_)));
        d.advance(Duration::from_secs(3600) * 6 / 5);
        ids.extend(
            d.step()
                .await
                .iter()
                .map(|received| received.id().to_owned()),
        );
    }
    assert_eq!(d.stored().await.delivery, Delivery::Dead);
    assert_eq!(ids.len(), 1, "{ids:?}");
    d.advance(Duration::from_secs(10));
    assert!(d.step().await.is_empty());
    // Each failure was logged, by the event's id.
    assert_eq!(lines_of(customer), Vec::<serde_json::Value>::new());
    let id = ids.first().unwrap();
    assert!(lines_of(id).len() > 10, "{id}");
    let metrics = d.shop.test.metrics().await;
    for counted in [
        r#"guestpass_events_total{type="guest.linked",result="dead"} 1"#,
        "guestpass_events_dead 1",
        "guestpass_events_waiting 0",
    ] {
        assert!(metrics.contains(counted), "{counted} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c247_an_outage_and_the_end_of_nodes_cost_no_event() {
    let mut d = Delivering::new().await;
    let mut expected = BTreeSet::new();
    d.hook.always(Some(Answers::Close));
    for _ in 0..24 {
        let guest = d.shop.guest_of_app().await;
        d.shop.links(&guest, "customer-x", "linked").await;
        expected.insert(guest.sub().to_owned());
        d.advance(Duration::from_secs(3600));
        d.step().await;
    }
    let refreshed = d.shop.guest_of_app().await;
    d.shop.refreshed_by_app(&refreshed).await;
    d.hook.always(None);
    // The receiver is there again: within an hour and a quarter all have come.
    let mut told = BTreeSet::new();
    for _ in 0..75 {
        told.extend(d.step().await.iter().map(sub_of));
        d.advance(Duration::from_secs(60));
    }
    assert_eq!(told, expected);

    // Ten times whoever has the lease dies in the middle, and another node takes over when it has run out.
    let other = d.shop.test.beside(settings_of("two", &d.hook)).await;
    let nodes = [Arc::clone(&d.shop.test.app), other.app.clone()];
    let mut told = BTreeSet::new();
    expected.clear();
    for round in 0..10 {
        for _ in 0..thorough(100) {
            let guest = d.shop.guest_of_app().await;
            d.shop.links(&guest, "customer-y", "linked").await;
            expected.insert(guest.sub().to_owned());
            d.advance(Duration::from_millis(1));
        }
        let dying = Arc::clone(&nodes[round % 2]);
        let mut dying = Deliverer::new(dying, d.hook.receiver(&settings(&d.hook)));
        let step = tokio::spawn(async move { dying.step().await });
        crate::support::until(async || !d.hook.is_empty()).await;
        step.abort();
        let _ = step.await;
        d.advance(Duration::from_secs(31));
        let heir = &nodes[(round + 1) % 2];
        let mut heir = Deliverer::new(Arc::clone(heir), d.hook.receiver(&settings(&d.hook)));
        let tried = heir.step().await.unwrap();
        assert!(matches!(tried, Step::Tried { failed: 0, .. }), "{tried:?}");
        told.extend(d.hook.take().iter().map(sub_of));
    }
    assert_eq!(told, expected);
    assert_eq!(
        d.shop
            .stored_events()
            .await
            .iter()
            .filter(|stored| !matches!(stored.delivery, Delivery::Delivered(_)))
            .count(),
        0
    );
}

#[tokio::test]
async fn c247_a_restore_delivers_again_under_the_same_id() {
    let mut d = Delivering::new().await;
    let guest = d.shop.guest_of_app().await;
    d.shop.links(&guest, "customer-x", "linked").await;
    let database = &d.shop.test.database;
    let backup = database.beside("backup");
    database.copy_to(&backup).await;
    let first = d.step().await;
    assert_eq!(first.len(), 1);
    let database = &d.shop.test.database;
    backup.copy_to(database).await;
    let restored = d.shop.test.beside(settings(&d.hook)).await;
    d.advance(Duration::from_secs(31));
    let mut deliverer = Deliverer::new(restored.app.clone(), d.hook.receiver(&settings(&d.hook)));
    deliverer.step().await.unwrap();
    let again = d.hook.take();
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].id(), &again[0].body),
        (first[0].id(), &first[0].body)
    );
}

#[tokio::test]
async fn c248_of_an_erased_guest_only_the_erasure_is_told() {
    let mut d = Delivering::new().await;
    d.hook.always(Some(Answers::Status(500)));
    let guest = d.shop.guest_of_app().await;
    d.shop.links(&guest, "customer-x", "linked").await;
    assert_eq!(d.step().await.len(), 1);
    let erase = profile(&guest.access_token).method("DELETE");
    d.shop.test.send(erase).await;
    assert_eq!(d.step().await.len(), 1);
    // The second look, as the end of the server brings it on.
    d.shop.test.app.leave();
    d.shop.test.app.finish().await;
    d.hook.always(None);
    d.advance(Duration::from_secs(3600));
    let received = d.step().await;
    assert_eq!(received.len(), 1, "{received:?}");
    let told = received[0].json();
    assert_eq!(told["type"], "guest.erased");
    assert_eq!(told["data"]["customer"], "customer-x");
    assert_eq!(told["data"]["reason"], "guest");
    assert_eq!(told["data"]["subn"], guest.claims["subn"]);
    assert_eq!(d.shop.events().await, []);
    d.advance(DAY);
    assert!(d.step().await.is_empty());
}

#[tokio::test]
async fn deliveries_wait_for_a_clock_that_is_right_and_for_the_lease() {
    let mut d = Delivering::new().await;
    let guest = d.shop.guest_of_app().await;
    d.shop.links(&guest, "customer-x", "linked").await;
    let other = d.shop.test.beside(settings_of("two", &d.hook)).await;
    let mut elsewhere = Deliverer::new(other.app.clone(), d.hook.receiver(&settings(&d.hook)));
    assert_eq!(d.step().await.len(), 1);
    d.shop.unlinks(&guest, "customer-x", "unlinked").await;
    assert_eq!(elsewhere.step().await.unwrap(), Step::Elsewhere);
    d.advance(Duration::from_secs(31));
    let delivered = Step::Tried {
        delivered: 1,
        failed: 0,
    };
    assert_eq!(elsewhere.step().await.unwrap(), delivered);
    assert_eq!(d.deliverer.step().await.unwrap(), Step::Elsewhere);
    d.shop.test.clock.jump(400 * 86_400_000);
    other.app.follow().await;
    assert_eq!(elsewhere.step().await.unwrap(), Step::ClockDoubted);
    let stored = d.shop.stored_events().await;
    let of_link = stored
        .iter()
        .find(|stored| stored.event.event_type == EventType::GuestLinked);
    assert!(matches!(of_link.unwrap().delivery, Delivery::Delivered(_)));
}

fn sub_of(received: &Received) -> String {
    received.json()["data"]["sub"].as_str().unwrap().to_owned()
}
