//! Cleaning up, and what has to wait when there is more to write than the disk takes.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock;
use guestpass::keys::{Key, KeyState, KeyUse};
use guestpass::store::{EndedBefore, Outcome, RevokedAccessToken, Write};
use guestpass::upkeep::{Cleaner, PART, Step};
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;
use tokio::task::JoinSet;

use self::jam::{Jam, new_guest, redemption, revocation, written};
use crate::support::{SHOP, Sent, TestApp, WRONG_VERIFIER, authorize, config, exchange, refresh};

mod jam;

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn f51_an_orphan_goes_a_day_after_its_code_has_expired_and_nobody_else_does() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    // Each was redeemed; one of them, and a grant of the other, have ended since.
    let (used, replayed) = (test.guest().await, test.code(SHOP).await);
    test.granted(exchange(&replayed)).await;
    test.send(exchange(&replayed)).await;
    // Guesses at its verifier don't make it anybody's.
    let orphan = test.code(SHOP).await;
    test.send(exchange(&orphan).set("code_verifier", WRONG_VERIFIER))
        .await;
    test.clock.advance(Policy::default().code_ttl + DAY);
    assert_eq!(walk(&mut cleaner).await, 0);
    assert_eq!(test.counts().await, (3, 3));
    test.clock.advance(MILLISECOND);
    assert_eq!(walk(&mut cleaner).await, 1);
    assert_eq!(test.counts().await, (2, 2));
    test.granted(refresh(&used.refresh_token)).await;
}

/// Times are those of the setting `cleaning.orphans`.
#[tokio::test]
async fn f51_an_orphan_is_kept_for_as_long_as_the_settings_say() {
    let test = TestApp::new().await;
    let mut cleaner = Cleaner::new(
        &test.app,
        config(&[("cleaning.orphans", "30d")]).keep,
        false,
    );
    test.code(SHOP).await;
    test.clock.advance(Policy::default().code_ttl + 30 * DAY);
    assert_eq!(walk(&mut cleaner).await, 0);
    assert_eq!(test.counts().await, (1, 1));
    test.clock.advance(MILLISECOND);
    assert_eq!(walk(&mut cleaner).await, 1);
    assert_eq!(test.counts().await, (0, 0));
}

#[tokio::test]
async fn an_ended_grant_goes_seven_days_after_its_end_and_its_guest_stays() {
    let short = Policy {
        refresh_max: 20 * DAY,
        ..Policy::default()
    };
    for (how, policy, lives) in [
        ("unused", Policy::default(), Policy::default().refresh_idle),
        ("at its absolute end", short, 20 * DAY),
        ("revoked", Policy::default(), Duration::ZERO),
    ] {
        let test = TestApp::with_policy(policy).await;
        let mut cleaner = cleaner(&test);
        let code = test.code(SHOP).await;
        test.granted(exchange(&code)).await;
        if how == "revoked" {
            test.send(exchange(&code)).await;
        }
        test.clock.advance(lives + 7 * DAY);
        assert_eq!(walk(&mut cleaner).await, 0, "{how}");
        test.clock.advance(MILLISECOND);
        assert_eq!(walk(&mut cleaner).await, 1, "{how}");
        assert_eq!(test.counts().await, (1, 0), "{how}");
    }
}

#[tokio::test]
async fn a_live_grant_stays() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    let (mut used, _unused) = (test.guest().await, test.guest().await);
    for removed in [0, 1, 0] {
        test.clock.advance(300 * DAY);
        assert_eq!(walk(&mut cleaner).await, removed);
        used = test.granted(refresh(&used.refresh_token)).await;
    }
    assert_eq!(test.count("grants").await, 1);
}

#[tokio::test]
async fn a_walk_goes_in_parts_and_the_next_one_starts_again() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    for _ in 0..=PART {
        test.guest().await;
    }
    // Behind all the others in the order of keys.
    test.clock.advance(MILLISECOND);
    test.code(SHOP).await;
    test.clock.advance(8 * DAY);
    for expected in [Step::Scanned { removed: 0 }, Step::Finished { removed: 1 }] {
        assert_eq!(cleaner.step().await.unwrap(), expected);
        assert!(!cleaner.pause_after(expected).is_zero(), "{expected:?}");
    }
    test.clock.advance(Policy::default().refresh_idle);
    for (expected, goes_on) in [
        (Step::Scanned { removed: PART }, true),
        (Step::Finished { removed: 1 }, false),
    ] {
        assert_eq!(cleaner.step().await.unwrap(), expected);
        let pause = cleaner.pause_after(expected);
        assert_eq!(pause.is_zero(), goes_on, "{expected:?}");
    }
    assert_eq!(test.counts().await, (u64::try_from(PART).unwrap() + 1, 0));
}

#[tokio::test]
async fn f51_revoked_tokens_are_forgotten_without_a_pause() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    let long_ago = Timestamp::from_millis(0);
    // One more than a step forgets.
    for number in 0..=500_u128 {
        let token = RevokedAccessToken {
            id: number.to_be_bytes(),
            at: long_ago,
            expires_at: long_ago,
        };
        let revoked = test.store.write(Write::RevokeAccessToken(token)).await;
        assert_eq!(revoked.unwrap(), Outcome::Done);
    }
    for (left, goes_on) in [(1, true), (0, false)] {
        let step = cleaner.step().await.unwrap();
        assert_eq!(step, Step::Finished { removed: 0 });
        assert_eq!(test.count("revoked_access_tokens").await, left);
        assert_eq!(cleaner.pause_after(step).is_zero(), goes_on, "{left} left");
    }
}

#[tokio::test]
async fn a_cleaning_that_failed_is_done_by_the_next_pass() {
    let test = TestApp::new().await;
    let mut cleaner = cleaner(&test);
    test.code(SHOP).await;
    test.clock.advance(8 * DAY);
    test.sql(
        "create table stuck (profile_id bigint references profiles (profile_id));
         insert into stuck select profile_id from profiles",
    )
    .await;
    for _ in 0..2 {
        cleaner.step().await.unwrap_err();
        assert_eq!(test.counts().await, (1, 1));
    }
    test.sql("drop table stuck").await;
    assert_eq!(cleaner.step().await.unwrap(), Step::Finished { removed: 1 });
    assert_eq!(test.counts().await, (0, 0));
}

#[tokio::test]
async fn nothing_is_removed_while_the_clock_is_wrong() {
    let test = TestApp::new().await;
    test.code(SHOP).await;
    let mut cleaner = cleaner(&test);
    let days = |days: i64| days * 86_400_000;

    test.clock.jump(days(30));
    assert_eq!(
        cleaner.step().await.unwrap(),
        Step::Finished { removed: 0 },
        "not even before anybody has looked"
    );
    for jump in [0, days(-60)] {
        test.clock.jump(jump);
        test.app.follow().await;
        test.clock.advance_secs(600);
        test.app.follow().await;
        assert_eq!(cleaner.step().await.unwrap(), Step::ClockDoubted, "{jump}");
    }
    assert_eq!(test.count("grants").await, 1);

    test.clock.jump(days(30));
    test.app.follow().await;
    assert_eq!(
        cleaner.step().await.unwrap(),
        Step::Finished { removed: 0 },
        "twenty minutes have passed"
    );
    // As a time server corrects it.
    test.clock.jump(4_000);
    test.app.follow().await;
    test.clock.advance(8 * DAY);
    assert_eq!(cleaner.step().await.unwrap(), Step::Finished { removed: 1 });
}

#[tokio::test]
async fn no_key_is_given_up_while_the_clock_is_wrong() {
    let test = TestApp::new().await;
    test.clock.advance_secs(60);
    let rotate = test
        .app
        .keys()
        .rotate(KeyUse::AccessToken, test.clock.now(), true);
    assert!(rotate.await.unwrap());
    let mut cleaner = cleaner(&test);
    let mut step = async || cleaner.step().await.unwrap();
    test.clock.jump(30 * 86_400_000);
    test.app.follow().await;
    step().await;
    assert_eq!(retiring(&test), 1);
    test.clock.jump(-30 * 86_400_000);
    test.app.follow().await;
    test.clock.advance(DAY);
    step().await;
    assert_eq!(retiring(&test), 1, "something that it signed may live");
    test.clock.advance_secs(60);
    step().await;
    assert_eq!(retiring(&test), 0);
}

fn retiring(test: &TestApp) -> usize {
    let keys = test.app.keys().now();
    let retiring = |key: &&Key| key.state() == KeyState::Retiring;
    keys.list().iter().filter(retiring).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_cleaning_first_then_new_guests_then_codes_then_refreshes() {
    // PostgreSQL has one write under way, so that one redemption keeps all others in the queue.
    let one_by_one = config(&[("postgres.batch", "1"), ("postgres.connections", "2")]);
    let test = Arc::new(TestApp::with_config(one_by_one).await);
    let mut cleaner = cleaner(&test);
    test.code(SHOP).await;
    test.clock.advance(8 * DAY);
    let code = test.code(SHOP).await;
    let guests = [test.guest().await, test.guest().await];

    let mut jam = Jam::start(&test).await;
    cleaner.step().await.unwrap_err();

    let guests_taken = jam.fill(|store| written(store, new_guest())).await;
    assert!(guests_taken > 0, "guests are taken when cleaning isn't");
    unavailable(&test, authorize()).await;

    let codes_taken = jam.fill(|store| redemption(store, &test.clock)).await;
    assert!(codes_taken > 0, "codes are taken when guests aren't");
    unavailable(&test, exchange(&code)).await;

    // Refreshes are taken to the last place in the queue. There is as much room for them alone as there was for codes
    // alone; of two, one gets the last place.
    for _ in 1..codes_taken {
        assert!(
            jam.queue(written(jam.store, revocation())).await,
            "refreshes are taken when codes aren't"
        );
    }
    let mut refreshes = JoinSet::new();
    for guest in &guests {
        let (test, refresh) = (Arc::clone(&test), refresh(&guest.refresh_token));
        refreshes.spawn(async move { test.send(refresh).await });
    }
    let refused = refreshes.join_next().await.unwrap().unwrap();
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );
    // A token that is refused anyway isn't looked at.
    unavailable(&test, refresh("forged")).await;
    let is_late = jam.release().await;
    let taken = refreshes.join_next().await.unwrap().unwrap();
    assert!(is_late || taken.status == StatusCode::OK, "{taken:?}");

    // All that were refused lost nothing by it.
    for guest in &guests {
        test.granted(refresh(&guest.refresh_token)).await;
    }
    test.granted(exchange(&code)).await;
    test.code(SHOP).await;
    let both_orphans = Step::Finished { removed: 2 };
    assert_eq!(cleaner.step().await.unwrap(), both_orphans);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f51_a_full_queue_lets_cleaning_through_in_proportion_to_what_comes() {
    let one_by_one = config(&[("postgres.batch", "1"), ("postgres.connections", "2")]);
    let test = TestApp::with_config(one_by_one).await;
    let mut jam = Jam::start(&test).await;
    let now = EndedBefore::all(test.clock.now());
    let clean = || Write::RemoveEnded(Vec::new(), now);
    for turn in 0..3 {
        // A sign-up leaves one grant behind, and a job of cleaning removes a hundred.
        for _ in 0..64 {
            assert!(jam.queue(written(jam.store, new_guest())).await);
        }
        assert!(jam.queue(written(jam.store, clean())).await, "turn {turn}");
        assert!(
            !jam.queue(written(jam.store, clean())).await,
            "twice, turn {turn}"
        );
    }
    jam.release().await;
}

/// A cleaner that trusts the clock as it is now.
fn cleaner(test: &TestApp) -> Cleaner {
    Cleaner::new(&test.app, config(&[]).keep, false)
}

/// Walks to the end, and answers how many grants were removed.
async fn walk(cleaner: &mut Cleaner) -> usize {
    let mut removed = 0;
    for _ in 0..100 {
        match cleaner.step().await.unwrap() {
            Step::Scanned { removed: some } => removed += some,
            Step::Finished { removed: some } => return removed + some,
            step => panic!("{step:?}: this cleaner must not clean"),
        }
    }
    panic!("the walk has no end");
}

/// Sends a request that must be put off, with no change to any row.
async fn unavailable(test: &TestApp, request: Sent) {
    let before = test.rows().await;
    let answer = test.send(request).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(test.rows().await, before);
}
