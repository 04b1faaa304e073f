//! A link is undone, and no restored backup brings it back.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock as _;
use guestpass::journal::{Entry, Journal};
use guestpass::restore::has_lost;
use guestpass::store::{Tombstone, Write};
use guestpass_core::event::EventType;
use guestpass_core::profile::Profile;
use serde_json::{Value, json};

use super::{SETTINGS, Shop, is_linked};
use crate::support::{TestApp, config, thorough};

#[tokio::test]
async fn c215_a_link_is_undone_by_who_knows_it() {
    let shop = Shop::new().await;
    let (tokens, never) = (shop.test.guest().await, shop.test.guest().await);
    shop.links(&tokens, "customer-x", "linked").await;
    let to_another = shop.test.send(shop.unlink(&tokens, "customer-y")).await;
    assert_eq!(
        (to_another.status, to_another.error()),
        (StatusCode::CONFLICT, "linked_to_another")
    );
    shop.unlinks(&tokens, "customer-x", "unlinked").await;
    assert_eq!(shop.customer_of(&tokens).await, Value::Null);
    let before = shop.test.rows().await;
    shop.unlinks(&tokens, "customer-x", "not_linked").await;
    shop.unlinks(&never, "customer-x", "not_linked").await;
    assert_eq!(shop.test.rows().await, before);
    shop.links(&tokens, "customer-y", "linked").await;
    assert_eq!(shop.customer_of(&tokens).await, "customer-y");
    let undone = |entry: &&Entry| matches!(entry, Entry::LinkUndone(_));
    assert_eq!(shop.test.journaled().iter().filter(undone).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c216_a_link_beside_its_end_is_one_or_the_other() {
    let shop = Shop::new().await;
    for round in 0..thorough(1_000) {
        shop.test.clock.advance(Duration::from_millis(1));
        let tokens = shop.test.guest().await;
        let link = shop.link(&tokens.access_token, "customer-x");
        let unlink = shop.unlink(&tokens, "customer-x");
        let (linked, unlinked) = tokio::join!(shop.test.send(link), shop.test.send(unlink));
        is_linked(&linked, &tokens, "customer-x", "linked");
        assert_eq!(unlinked.status, StatusCode::OK, "{round}: {unlinked:?}");
        let is_undone = unlinked.json()["outcome"] == "unlinked";
        let expected = if is_undone {
            Value::Null
        } else {
            json!("customer-x")
        };
        assert_eq!(shop.customer_of(&tokens).await, expected, "{round}");
        assert_eq!(shop.grants_that_differ().await, 0, "{round}");

        let twice = [
            shop.unlink(&tokens, "customer-x"),
            shop.unlink(&tokens, "customer-x"),
        ];
        for answer in shop.test.at_once(twice.to_vec()).await {
            assert_eq!(answer.status, StatusCode::OK, "{round}: {answer:?}");
        }
        assert_eq!(shop.customer_of(&tokens).await, Value::Null, "{round}");
        shop.links(&tokens, "customer-y", "linked").await;
        // A copy that was held back until now says less than the grants know.
        let guest = tokens.sub().parse().unwrap();
        let late = Profile {
            version: 1,
            ..shop
                .test
                .store
                .load_profile(guest)
                .await
                .unwrap()
                .unwrap()
                .unlinked()
        };
        shop.test
            .store
            .write(Write::CopyProfile(late))
            .await
            .unwrap();
        assert_eq!(shop.grants_that_differ().await, 0, "{round}");
    }
}

#[tokio::test]
async fn c217_a_restored_backup_brings_no_link_back() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let mut tokens = Vec::new();
    for customer in ["customer-x", "customer-y", "customer-x"] {
        let guest = test.guest().await;
        shop.links(&guest, customer, "linked").await;
        tokens.push(guest);
    }
    let backup = test.database.beside("backup");
    test.database.copy_to(&backup).await;
    test.clock.advance_secs(60);
    shop.unlinks(&tokens[0], "customer-x", "unlinked").await;
    backup.copy_to(&test.database).await;
    let restored = test.beside(config(SETTINGS)).await;
    assert_eq!(linked_now(test).await, ["customer-x", "customer-y"]);
    assert_eq!(restored.count("tombstones").await, 1);
    assert_eq!(shop.grants_that_differ().await, 0);
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
    let hash = keys.tombstone_of_link(guest, &"customer-x".parse().unwrap());
    let at = test.clock.now();
    let entry = Entry::LinkUndone(Tombstone { hash, at });
    let journal = Journal::open(&restored.journal()).unwrap();
    journal.append(entry).await.unwrap();
    assert!(
        has_lost(&*restored.store, &restored.journal())
            .await
            .unwrap()
    );
    test.beside(config(SETTINGS)).await;
    assert_eq!(linked_now(test).await, ["customer-y"]);
    assert_eq!(shop.grants_that_differ().await, 0);

    // And as if it had been killed when the guest's row was written, and those of its grants not yet.
    let guest = tokens[1].sub();
    let hash = keys.tombstone_of_link(guest.parse().unwrap(), &"customer-y".parse().unwrap());
    let entry = Entry::LinkUndone(Tombstone { hash, at });
    journal.append(entry).await.unwrap();
    let unlinked = "customer = null, linked_at = null, linked_by = null, version = version + 1";
    let sql = format!("update profiles set {unlinked} where profile_id = {guest}");
    test.database.sql(&sql).await;
    assert_eq!(shop.grants_that_differ().await, 1);
    test.beside(config(SETTINGS)).await;
    assert_eq!(shop.grants_that_differ().await, 0);
    // Both that were linked again when a start looked were reported once more; of the third that was not known any more.
    let events = shop.restarted().await.events().await;
    let undone = events
        .iter()
        .filter(|(what, ..)| *what == EventType::GuestUnlinked);
    let undone: Vec<_> = undone.map(|(_, sub, by)| (&**sub, by.as_deref())).collect();
    let by_restore = Some("restore");
    assert_eq!(
        undone,
        [(tokens[0].sub(), by_restore), (tokens[2].sub(), by_restore)]
    );
}

#[tokio::test]
async fn c218_a_link_that_is_younger_than_its_end_stays() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let tokens = test.guest().await;
    shop.links(&tokens, "customer-x", "linked").await;
    let first = test.database.beside("first");
    test.database.copy_to(&first).await;
    for _ in 0..2 {
        test.clock.advance_secs(1);
        shop.unlinks(&tokens, "customer-x", "unlinked").await;
        test.clock.advance_secs(1);
        shop.links(&tokens, "customer-x", "linked").await;
    }
    let second = test.database.beside("second");
    test.database.copy_to(&second).await;
    test.clock.advance_secs(1);
    shop.unlinks(&tokens, "customer-x", "unlinked").await;
    // The store that has one end of this link may lack a later one.
    second.copy_to(&test.database).await;
    let shop = shop.restarted().await;
    assert_eq!(shop.linked_guests().await, 0);

    test.clock.advance_secs(1);
    shop.links(&tokens, "customer-x", "linked").await;
    // An entry that is younger than what the store knows of the end of this link, and older than the link.
    let keys = test.app.keys().now();
    let hash = keys.tombstone_of_link(
        tokens.sub().parse().unwrap(),
        &"customer-x".parse().unwrap(),
    );
    let before = |millis| {
        let at = test.clock.now().before(Duration::from_millis(millis));
        Entry::LinkUndone(Tombstone { hash, at })
    };
    let journal = Journal::open(&test.journal()).unwrap();
    journal.append(before(500)).await.unwrap();
    let shop = shop.restarted().await;
    assert_eq!(linked_now(test).await, ["customer-x"]);
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
    let tokens = shop.guest_of_app().await;
    let backup = test.database.beside("backup");
    test.database.copy_to(&backup).await;
    shop.links(&tokens, "customer-x", "linked").await;
    backup.copy_to(&test.database).await;
    let shop = shop.restarted().await;
    let next = shop.refreshed_by_app(&tokens).await;
    assert_eq!(next.claims.get("customer"), None);
    shop.links(&next, "customer-x", "linked").await;
    assert_eq!(
        shop.refreshed_by_app(&next).await.claims["customer"],
        "customer-x"
    );
}

/// The customers that guests are linked to.
async fn linked_now(test: &TestApp) -> Vec<String> {
    let sql = "select customer from profiles where customer is not null order by customer";
    test.database.column(sql).await
}
