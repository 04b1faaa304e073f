//! Guests go that nobody comes back as, if the operator says so, and nobody else.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock as _;
use guestpass::upkeep::{Cleaner, Step};
use guestpass_core::client::{ClientNumber, ClientSettings, OnEnded};
use guestpass_core::event::EventType::GuestErased;
use guestpass_core::policy::PolicyOverrides;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;

use super::{BACK_END, Shop};
use crate::support::{DAY, TestApp, Tokens, authorize, config, exchange, refresh, ticket};

/// A client whose grants end after a day, and whose apps go on with a new guest.
const SHORT: &str = "short";

async fn shop() -> Shop {
    let shop = Shop::new().await;
    let short = ClientSettings {
        overrides: PolicyOverrides {
            refresh_idle: Some(DAY),
            ..PolicyOverrides::default()
        },
        on_ended: Some(OnEnded::NewGuest),
        ..ClientSettings::default()
    };
    shop.test.add_client(SHORT, short).await;
    shop
}

async fn guest_of_short(shop: &Shop) -> Tokens {
    let code = shop.test.code(SHORT).await;
    let exchange = exchange(&code).set("client_id", SHORT);
    shop.test.granted(exchange).await
}

/// A cleaner that forgets guests after thirty days, those who are linked after that time, if at all.
fn cleaner(test: &TestApp, idle_linked: &str, has_receiver: bool) -> Cleaner {
    let settings = [
        ("retention.idle", "30d"),
        ("retention.idle_linked", idle_linked),
    ];
    Cleaner::new(&test.app, config(&settings).keep, has_receiver)
}

/// Walks to the end of the guests, and returns how many were forgotten.
async fn walk(cleaner: &mut Cleaner) -> usize {
    let mut forgotten = 0;
    for _ in 0..100 {
        match cleaner.step().await.unwrap() {
            Step::Forgot { guests } => forgotten += guests,
            Step::Finished { .. } => return forgotten,
            Step::Scanned { .. } => {}
            step => panic!("{step:?}"),
        }
    }
    panic!("the walk has no end");
}

async fn subs(test: &TestApp) -> Vec<String> {
    test.database
        .column("select profile_id from profiles order by profile_id")
        .await
}

#[tokio::test]
async fn c250_only_who_can_not_come_back_is_forgotten() {
    let shop = shop().await;
    let test = &shop.test;
    let alive = test.guest().await;
    let gone = guest_of_short(&shop).await;
    let linked = guest_of_short(&shop).await;
    shop.links(&linked, "customer-x", "linked").await;
    test.clock.advance(38 * DAY);
    let ended_yesterday = guest_of_short(&shop).await;
    test.clock.advance(2 * DAY);
    let now = test.clock.now();
    let id = ProfileId::from_i64(94_173).unwrap();
    let (client, created_at) = (ClientNumber(1), Timestamp::from_millis(1_420_070_400_000));
    let imported = Profile {
        seen_at: Some(now),
        ..Profile::new(id, NetworkId::new([7; 16]), client, created_at)
    };
    test.store.insert_profiles(vec![imported]).await.unwrap();

    let mut cleaner = cleaner(test, "off", false);
    walk(&mut cleaner).await;
    let mut left = vec!["94173", alive.sub(), linked.sub(), ended_yesterday.sub()];
    left.sort_unstable_by_key(|sub| sub.parse::<i64>().unwrap());
    assert_eq!(subs(test).await, left);
    let mut erased = shop.events().await;
    erased.retain(|(what, ..)| *what == GuestErased);
    let retention = Some("retention".to_owned());
    assert_eq!(erased, [(GuestErased, gone.sub().to_owned(), retention)]);
    let metrics = test.metrics().await;
    let counted = r#"guestpass_guests_forgotten_total{linked="false"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(test.count("tombstones").await, 0);
    // The one who is alive refreshes, and after that time has passed once more, the others go.
    test.granted(refresh(&alive.refresh_token)).await;
    test.clock.advance(31 * DAY);
    walk(&mut self::cleaner(test, "30d", false)).await;
    assert_eq!(subs(test).await, [alive.sub()]);
}

#[tokio::test]
async fn c251_nobody_is_forgotten_by_a_wrong_clock_or_while_the_receiver_is_behind() {
    let shop = shop().await;
    let test = &shop.test;
    for _ in 0..150 {
        guest_of_short(&shop).await;
        test.clock.advance(Duration::from_millis(1));
    }
    test.clock.advance(40 * DAY);
    // One walk removes the grants; by then nobody was idle whose grant stood.
    let before = config(&[("retention.idle", "30d")]).keep.guests;
    let at = test.clock.now();
    test.clean().await;
    let dry = test
        .store
        .scan_guests(None, before.before(at), 10_000)
        .await
        .unwrap();
    assert_eq!(dry.idle.len(), 150);

    let mut cleaner = cleaner(test, "off", true);
    let filler: Vec<_> = (0..10_000)
        .map(|number| {
            format!(
                "(1, {}, 'guest.linked', {}, {}, 1)",
                id_of(test, number),
                at.as_millis(),
                id_of(test, number)
            )
        })
        .collect();
    let columns = "(profile_id, event_id, type, at, network_id, next_at)";
    for some in filler.chunks(1_000) {
        let insert = format!("insert into events {columns} values {}", some.join(", "));
        test.sql(&insert).await;
    }
    assert!(matches!(
        cleaner.step().await.unwrap(),
        Step::Scanned { .. }
    ));
    assert_eq!(cleaner.step().await.unwrap(), Step::ReceiverBehind);
    // The grants are cleaned all the same.
    assert!(matches!(
        cleaner.step().await.unwrap(),
        Step::Scanned { .. }
    ));
    assert_eq!(cleaner.step().await.unwrap(), Step::ReceiverBehind);
    assert_eq!(test.count("profiles").await, 150);

    test.sql("delete from events where profile_id = 1").await;
    test.clock.jump(86_400_000);
    test.app.follow().await;
    assert_eq!(cleaner.step().await.unwrap(), Step::ClockDoubted);
    assert_eq!(test.count("profiles").await, 150);
    test.clock.jump(-86_400_000);
    test.app.follow().await;

    // The shop is told of each, so there is a pause after every hundred.
    assert!(matches!(
        cleaner.step().await.unwrap(),
        Step::Scanned { .. }
    ));
    let step = cleaner.step().await.unwrap();
    assert_eq!(step, Step::Forgot { guests: 100 });
    assert!(cleaner.pause_after(step) >= Duration::from_secs(1));
    while cleaner.step().await.unwrap() != (Step::Finished { removed: 0 }) {}
    assert_eq!(test.count("profiles").await, 0);
    assert_eq!(shop.events().await.len(), 150);
}

/// Returns 16 bytes as a literal of the database.
fn id_of(test: &TestApp, number: usize) -> String {
    match test.database {
        crate::support::Database::Sqlite(_) => format!("x'{number:032x}'"),
        crate::support::Database::Postgres(_) => format!("'\\x{number:032x}'"),
    }
}

#[tokio::test]
async fn c252_a_code_that_nobody_redeemed_takes_no_known_guest_along() {
    let shop = shop().await;
    let test = &shop.test;
    let resuming = ClientSettings {
        resume_with_jwt: Some(true),
        overrides: PolicyOverrides {
            refresh_idle: Some(DAY),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, resuming).await;
    let by_back_end = |sent: crate::support::Sent| {
        sent.set("client_id", BACK_END)
            .header("x-api-key", &shop.back_end_key)
    };
    let code = test.send(by_back_end(authorize())).await.text("code");
    let guest = test.granted(by_back_end(exchange(&code))).await;
    let again = by_back_end(authorize()).header("x-dressipi-jwt", &guest.access_token);
    assert_eq!(test.send(again).await.status, StatusCode::OK);
    let keep = config(&[("cleaning.orphans", "30d")]).keep;
    let mut cleaner = Cleaner::new(&test.app, keep, false);
    for (days, grants) in [(10, 1), (31, 0)] {
        test.clock.advance(days * DAY);
        cleaner.step().await.unwrap();
        assert_eq!(test.counts().await, (1, grants), "{days}");
    }
    // Nor if both go at once.
    let code = test.send(by_back_end(authorize())).await.text("code");
    let guest = test.granted(by_back_end(exchange(&code))).await;
    let again = by_back_end(authorize()).header("x-dressipi-jwt", &guest.access_token);
    assert_eq!(test.send(again).await.status, StatusCode::OK);
    test.clock.advance(40 * DAY);
    cleaner.step().await.unwrap();
    assert_eq!(test.counts().await, (2, 0));
}

#[tokio::test]
async fn c252_a_ticket_that_nobody_redeemed_takes_no_known_guest_along() {
    let shop = shop().await;
    let test = &shop.test;
    let hands_over = ClientSettings {
        add_ticket_to: vec![BACK_END.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.set_client(SHORT, hands_over).await;
    let guest = guest_of_short(&shop).await;
    let mint = ticket(SHORT, BACK_END).set("refresh_token", &guest.refresh_token);
    assert_eq!(test.send(mint).await.status, StatusCode::OK);
    let keep = config(&[("cleaning.orphans", "30d")]).keep;
    let mut cleaner = Cleaner::new(&test.app, keep, false);
    // First the older grant goes, then the one that never was redeemed.
    for (days, grants) in [(10, 1), (31, 0)] {
        test.clock.advance(days * DAY);
        cleaner.step().await.unwrap();
        assert_eq!(test.counts().await, (1, grants), "{days}");
    }
}

#[tokio::test]
async fn c257_who_has_followed_and_was_forgotten_does_not_come_back() {
    let shop = shop().await;
    let test = &shop.test;
    let dead = guest_of_short(&shop).await;
    test.clock.advance(2 * DAY);
    let refresh = || refresh(&dead.refresh_token).set("client_id", SHORT);
    let follower = test.granted(refresh()).await;
    assert_ne!(follower.sub(), dead.sub());
    test.clock.advance(40 * DAY);
    walk(&mut cleaner(test, "off", false)).await;
    assert_eq!(subs(test).await, Vec::<String>::new());
    // Its number isn't given again to the same token.
    assert_eq!(test.count("tombstones").await, 1);
    test.refused(refresh(), "invalid_grant").await;
}

#[tokio::test]
async fn who_is_looked_at_was_seen_when_its_last_grant_was_used() {
    let shop = shop().await;
    let test = &shop.test;
    let guest = guest_of_short(&shop).await;
    test.clock.advance_secs(3600);
    let at = test.clock.now();
    test.granted(refresh(&guest.refresh_token).set("client_id", SHORT))
        .await;
    let seen = async || {
        let listed = test.store.profiles_and_when_seen(None, 10).await.unwrap();
        listed[0].seen_at
    };
    assert_eq!(seen().await, Some(at));
    let row = "select coalesce(seen_at, 0) from profiles";
    assert_eq!(test.number(row).await, 0);
    test.clock.advance(20 * DAY);
    test.clean().await;
    assert_eq!(test.counts().await, (1, 0));
    assert_eq!(seen().await, Some(at));
    assert_eq!(test.number(row).await, at.as_millis());
}
