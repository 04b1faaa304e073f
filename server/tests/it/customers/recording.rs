//! Tests that what becomes of guests is recorded, once each, in the statement that makes it so.

use axum::http::StatusCode;
use guestpass::clock::Clock as _;
use guestpass::store::WhichEvents;
use guestpass_core::event::EventType::{GrantEnded, GuestErased, GuestLinked, GuestUnlinked};
use guestpass_core::event::{EventCursor, EventType};

use super::{SETTINGS, Shop};
use crate::support::{
    DAY, TestApp, Tokens, config, exchange, lines_of, profile, refresh, revoke, thorough,
};

#[tokio::test]
async fn c244_each_change_is_an_event_and_no_repetition_is() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let guest = shop.guest_of_app().await;
    test.send(exchange("wrong")).await;
    assert_eq!(shop.events().await, [], "a new guest");

    for outcome in ["linked", "already"] {
        shop.links(&guest, "customer-x", outcome).await;
    }
    assert_eq!(new(&shop, GuestLinked).await, [none(&guest)]);
    let refused = test
        .send(shop.link(&guest.access_token, "customer-y"))
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    for outcome in ["unlinked", "not_linked"] {
        shop.unlinks(&guest, "customer-x", outcome).await;
    }
    assert_eq!(new(&shop, GuestUnlinked).await, [none(&guest)]);

    let next = shop.refreshed_by_app(&guest).await;
    shop.refreshed_by_app(&next).await;
    test.clock.advance(DAY);
    for _ in 0..2 {
        let replayed = refresh(&guest.refresh_token).set("client_id", super::APP);
        assert_eq!(test.send(replayed).await.error(), "invalid_grant");
    }
    let replayed = [reason(&guest, "refresh_token_replayed")];
    assert_eq!(new(&shop, GrantEnded).await, replayed);

    let revoked = test.guest().await;
    for _ in 0..2 {
        test.send(revoke(&revoked.refresh_token)).await;
        // The end of one access token is none of a grant.
        test.send(revoke(&revoked.access_token)).await;
    }
    let expected = [reason(&revoked, "revoked_by_client")];
    assert_eq!(new(&shop, GrantEnded).await, expected);

    let code = test.code("shop").await;
    let twice = test.granted(exchange(&code)).await;
    assert_eq!(test.send(exchange(&code)).await.error(), "invalid_grant");
    let expected = [reason(&twice, "code_replayed")];
    assert_eq!(new(&shop, GrantEnded).await, expected);

    let erased = test.guest().await;
    shop.links(&erased, "customer-x", "linked").await;
    for status in [StatusCode::NO_CONTENT, StatusCode::UNAUTHORIZED] {
        let erase = profile(&erased.access_token).method("DELETE");
        assert_eq!(test.send(erase).await.status, status);
    }
    assert_eq!(new(&shop, GuestErased).await, [reason(&erased, "guest")]);
    // Nothing else is left of it.
    let events = shop.events().await;
    let left = events.iter().filter(|(_, sub, _)| sub == erased.sub());
    assert_eq!(left.count(), 1);
    let metrics = test.metrics().await;
    for (what, times) in [
        (GuestLinked, 2),
        (GuestUnlinked, 1),
        (GrantEnded, 3),
        (GuestErased, 1),
    ] {
        let what = what.name();
        let counted =
            format!(r#"guestpass_events_total{{type="{what}",result="recorded"}} {times}"#);
        assert!(metrics.contains(&counted), "{counted} in {metrics}");
    }
}

/// Nobody's customer is named where operators and machines look all day: what a request says of one is looked for in the log
/// with each request of every test.
#[tokio::test]
async fn c236_no_log_and_no_metric_names_a_customer() {
    let customer = "customer-of-c236";
    let shop = Shop::new().await;
    let test = &shop.test;
    let guest = shop.guest_of_app().await;
    shop.links(&guest, customer, "linked").await;
    shop.links(&guest, customer, "already").await;
    let conflict = test
        .send(shop.link(&guest.access_token, "customer-of-no-one"))
        .await;
    assert_eq!(conflict.status, StatusCode::CONFLICT);
    let other = test.beside(config(SETTINGS)).await;
    other.send(shop.unlink(&guest, customer)).await;
    shop.links(&guest, customer, "linked").await;
    test.send(revoke(&guest.refresh_token)).await;
    let erased = shop.guest_of_app().await;
    shop.links(&erased, customer, "linked").await;
    test.send(profile(&erased.access_token).method("DELETE"))
        .await;
    test.clock.advance(400 * DAY);
    let keep = config(&[("retention.idle", "30d"), ("retention.idle_linked", "30d")]).keep;
    let mut cleaner = guestpass::upkeep::Cleaner::new(&test.app, keep, false);
    for _ in 0..5 {
        cleaner.step().await.unwrap();
    }
    assert_eq!(test.count("profiles").await, 0);
    assert_eq!(lines_of(customer), Vec::<serde_json::Value>::new());
    assert!(!test.metrics().await.contains(customer));
}

#[tokio::test]
async fn c244_a_start_after_a_restore_records_what_it_repeats() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let [linked, erased, ended] = [test.guest().await, test.guest().await, test.guest().await];
    for guest in [&linked, &erased] {
        shop.links(guest, "customer-x", "linked").await;
    }
    let backup = test.database.beside("backup");
    test.database.copy_to(&backup).await;
    test.clock.advance_secs(1);
    shop.unlinks(&linked, "customer-x", "unlinked").await;
    test.send(profile(&erased.access_token).method("DELETE"))
        .await;
    test.send(revoke(&ended.refresh_token)).await;
    test.clock.advance_secs(1);
    backup.copy_to(&test.database).await;
    let mut after_restore = shop.restarted().await.events().await;
    after_restore.retain(|(what, ..)| *what != GuestLinked);
    after_restore.sort();
    let (by_restore, revoked) = (
        Some("restore".to_owned()),
        Some("revoked_by_client".to_owned()),
    );
    let expected = [
        (GuestUnlinked, linked.sub().to_owned(), by_restore.clone()),
        (GuestErased, erased.sub().to_owned(), by_restore),
        (GrantEnded, ended.sub().to_owned(), revoked),
    ];
    assert_eq!(after_restore, expected);
    // That is done now, and a further start tells of nothing.
    let again = shop.restarted().await.events().await;
    assert_eq!(again.len(), 4);
}

#[tokio::test]
async fn nothing_is_recorded_unless_it_is_asked_for() {
    let test = TestApp::with_config(config(&[("limits.mode", "off")])).await;
    let shop = Shop::on(test).await;
    let guest = shop.test.guest().await;
    shop.links(&guest, "customer-x", "linked").await;
    shop.test.send(revoke(&guest.refresh_token)).await;
    assert_eq!(shop.events().await, []);
    // What was recorded before goes with the guest all the same.
    let recording = Shop {
        test: shop.test.beside(config(SETTINGS)).await.into(),
        back_end_key: shop.back_end_key.clone(),
        api_key: shop.api_key.clone(),
    };
    let other = recording.test.guest().await;
    recording.links(&other, "customer-x", "linked").await;
    assert_eq!(shop.events().await.len(), 1);
    shop.test
        .send(profile(&other.access_token).method("DELETE"))
        .await;
    assert_eq!(shop.events().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn c249_who_reads_behind_the_last_event_misses_none() {
    let shop = Shop::new().await;
    let other = shop.restarted().await;
    let writes = thorough(1_000);
    let (mut read, mut after) = (Vec::new(), EventCursor::START);
    let mut expected = Vec::new();
    for round in 0.. {
        shop.test.clock.advance_secs(7);
        if round < writes / 4 {
            let guests = [shop.test.guest().await, shop.test.guest().await];
            let [one, two] = &guests;
            tokio::join!(
                shop.links(one, "customer-x", "linked"),
                other.links(two, "customer-y", "linked")
            );
            tokio::join!(
                shop.unlinks(one, "customer-x", "unlinked"),
                other.unlinks(two, "customer-y", "unlinked")
            );
            for guest in &guests {
                expected.extend([
                    (guest.sub().to_owned(), GuestLinked),
                    (guest.sub().to_owned(), GuestUnlinked),
                ]);
            }
        } else if round > writes / 4 + 10 {
            break;
        }
        // As `guestpass events --after` asks: never for what is younger than a minute.
        let before = shop
            .test
            .clock
            .now()
            .before(std::time::Duration::from_secs(60));
        let store = &shop.test.store;
        let part = store
            .events_after(WhichEvents::All, after, before, 3)
            .await
            .unwrap();
        after = part.last().map_or(after, |last| last.event.cursor());
        read.extend(part);
    }
    let before = shop.test.clock.now();
    let rest = shop
        .test
        .store
        .events_after(WhichEvents::All, after, before, 10_000)
        .await;
    read.extend(rest.unwrap());
    let mut read: Vec<_> = read
        .iter()
        .map(|read| (read.event.guest.to_string(), read.event.event_type))
        .collect();
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
}

fn none(guest: &Tokens) -> (String, Option<String>) {
    (guest.sub().to_owned(), None)
}

fn reason(guest: &Tokens, reason: &str) -> (String, Option<String>) {
    (guest.sub().to_owned(), Some(reason.to_owned()))
}

/// Returns guests and reasons of the events of that type that were recorded since the last call: time passes after it.
async fn new(shop: &Shop, event_type: EventType) -> Vec<(String, Option<String>)> {
    let now = shop.test.clock.now();
    let mut stored = shop.stored_events().await;
    stored.retain(|stored| stored.event.at == now && stored.event.event_type == event_type);
    shop.test.clock.advance_secs(1);
    stored
        .into_iter()
        .map(|stored| {
            let reason = stored.event.reason.map(|reason| reason.into_owned());
            (stored.event.guest.to_string(), reason)
        })
        .collect()
}
