//! Tests that no guest is lost to a lost answer, to requests or answers that overlap, or to a copy that was restored.

use super::*;

#[tokio::test]
async fn c318_a_lost_answer_costs_nobody() {
    let shop = Shop::new().await;
    let mut seeded = Browser::default();
    shop.ask(&mut seeded).await;
    let mut lost = seeded.clone();
    let first = shop.ask(&mut lost).await;
    let mut at_once = seeded.clone();
    let again = shop.ask(&mut at_once).await;
    assert_eq!(again.json()["sub"], first.json()["sub"]);
    assert_eq!(at_once.jar[R], lost.jar[R]);
    shop.pass(Duration::from_secs(31)).await;
    let mut later = seeded.clone();
    let again = shop.ask(&mut later).await;
    assert_eq!(again.json()["sub"], first.json()["sub"]);
    assert_ne!(later.jar[R], lost.jar[R]);
    assert_eq!(shop.count().await, (1, 1));

    // A seed that comes late, when the refresh token was used already.
    let mut seeded = Browser::default();
    shop.ask(&mut seeded).await;
    let mut browser = seeded.clone();
    let guest = shop.ask(&mut browser).await;
    let without = browser.without(A);
    shop.ask(&mut browser.without(A)).await;
    let mut used = without.clone();
    shop.ask(&mut used).await;
    shop.ask(&mut used.without(A)).await;
    shop.pass(Duration::from_secs(40)).await;
    let answer = shop.test.send(seeded.request()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let live = "select count(*) from grants where revoked_at is null";
    assert_eq!(shop.test.number(live).await, 2);
    let mut renewed = used.without(A);
    let answer = shop.ask(&mut renewed).await;
    assert_eq!(answer.json()["sub"], guest.json()["sub"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c319_tabs_that_open_at_once_have_one_guest() {
    let shop = Shop::new().await;
    let other = Arc::new(shop.test.beside(config(&[("limits.mode", "off")])).await);
    for nodes in [[&shop.test, &shop.test], [&shop.test, &other]] {
        let mut browser = Browser::default();
        shop.ask(&mut browser).await;
        let (one, two) = tokio::join!(
            nodes[0].at_once(vec![browser.request(); 10]),
            nodes[1].at_once(vec![browser.request(); 10])
        );
        let mut subs = std::collections::BTreeSet::new();
        for answer in one.into_iter().chain(two) {
            match answer.status {
                StatusCode::OK => drop(subs.insert(answer.text("sub"))),
                status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
        }
        assert_eq!(subs.len(), 1);
    }
    assert_eq!(shop.count().await, (2, 2));
}

#[tokio::test]
async fn c320_a_renewal_that_is_lost_is_made_up_for() {
    let shop = Shop::new().await;
    let (browser, guest) = shop.guest().await;
    let old = browser.without(A);
    let mut first = old.clone();
    shop.ask(&mut first).await;
    let mut again = old.clone();
    shop.ask(&mut again).await;
    assert_eq!(again.jar[R], first.jar[R]);
    let mut seen = vec![first.jar[R].clone()];
    for _ in 0..8 {
        shop.pass(Duration::from_secs(60)).await;
        let mut later = old.clone();
        let answer = shop.ask(&mut later).await;
        assert_eq!(answer.json()["sub"], guest["sub"]);
        assert!(!seen.contains(&later.jar[R]));
        seen.push(later.jar[R].clone());
    }
    shop.pass(Duration::from_secs(60)).await;
    let answer = shop.test.send(old.request()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let revoked = "select count(*) from grants where revoked_at is not null";
    assert_eq!(shop.test.number(revoked).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn c321_tabs_that_renew_at_once_have_one_refresh_token() {
    let shop = Shop::new().await;
    let (browser, guest) = shop.guest().await;
    let old = browser.without(A);
    let mut tokens = std::collections::BTreeSet::new();
    for answer in shop.test.at_once(vec![old.request(); 20]).await {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json()["sub"], guest["sub"]);
        let mut browser = old.clone();
        browser.keep(&answer);
        tokens.insert(browser.jar[R].clone());
    }
    assert_eq!(tokens.len(), 1);
}

#[tokio::test]
async fn c322_answers_that_arrive_in_the_wrong_order_cost_nobody() {
    let shop = Shop::new().await;
    let (mut browser, guest) = shop.guest().await;
    browser = browser.without(A);
    let (mut earlier, mut later) = (browser.clone(), browser.clone());
    shop.ask(&mut earlier).await;
    shop.pass(Duration::from_secs(31)).await;
    shop.ask(&mut later).await;
    assert_ne!(earlier.jar[R], later.jar[R]);
    // The answer of the earlier one is stored last.
    let mut jar = earlier.without(A);
    let answer = shop.ask(&mut jar).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
}

#[tokio::test]
async fn c323_a_browser_that_was_restored_is_a_replay_and_a_clock_in_doubt_is_none() {
    let shop = Shop::new().await;
    let (mut browser, guest) = shop.guest().await;
    let mut restored = browser.without(A);
    for _ in 0..3 {
        shop.ask(&mut browser).await;
        shop.pass(DAY).await;
    }
    let answer = shop.ask(&mut restored).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let said = lines_of(answer.log_name());
    let is_security = |line: &Value| line["target"] == "guestpass::security";
    assert!(said.iter().any(is_security), "{said:?}");
    let answer = shop.ask(&mut browser.without(A)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "its grant was revoked");
    let answer = shop.ask(&mut restored).await;
    assert_ne!(answer.json()["sub"], guest["sub"]);

    let (browser, guest) = shop.guest().await;
    let old = browser.without(A);
    shop.test.clock.jump(2 * 366 * 86_400_000);
    let doubting = shop.test.beside(config(&[("limits.mode", "off")])).await;
    let answer = doubting.send(old.request()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(cookies_of(&answer).is_empty());
    let answer = shop.ask(&mut old.clone()).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
}

#[tokio::test]
async fn c324_who_was_overtaken_is_told_to_come_again() {
    let shop = Shop::new().await;
    let (browser, guest) = shop.guest().await;
    let old = browser.without(A);
    let mut newer = old.clone();
    shop.ask(&mut newer).await;
    let mut newest = newer.without(A);
    shop.ask(&mut newest).await;
    let answer = shop.test.send(old.request()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(cookies_of(&answer).is_empty());
    let answer = shop.ask(&mut newest).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
}

#[tokio::test]
async fn c326_a_restored_database_costs_a_guest_only_what_it_has_lost() {
    let shop = Shop::new().await;
    let (browser, guest) = shop.guest().await;
    let mut browser = browser.without(A);
    shop.ask(&mut browser).await;
    // Gone back in time: the row knows an earlier generation.
    shop.test
        .sql("update grants set generation = 1, proven = 0")
        .await;
    let mut recovered = browser.without(A);
    let answer = shop.ask(&mut recovered).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
    let decided = shop.test.metrics().await;
    assert!(
        decided.contains("guestpass_sessions_total{decision=\"recover\"} 1"),
        "{decided}"
    );
    for table in ["grants", "profiles"] {
        shop.test.sql(&format!("delete from {table}")).await;
    }
    let mut lost = recovered.without(A);
    assert_eq!(shop.ask(&mut lost).await.status, StatusCode::ACCEPTED);
    let answer = shop.ask(&mut lost).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_ne!(answer.json()["sub"], guest["sub"]);
}

#[tokio::test]
async fn c327_a_late_answer_to_a_second_tab_takes_no_new_guest_away() {
    let shop = Shop::new().await;
    let (mut jar, _) = shop.guest().await;
    let revoke = revoke(&jar.jar[R]).set("client_id", WEB);
    shop.test.send(revoke).await;
    // Both tabs ask; the first one goes on, and only then the second's answer arrives.
    let of_second = shop.test.send(jar.request()).await;
    shop.ask(&mut jar).await;
    let guest = shop.ask(&mut jar).await.json();
    let refresh_token = jar.jar[R].clone();
    jar.keep(&of_second);
    assert_eq!(jar.jar[R], refresh_token);
    assert_eq!(shop.ask(&mut jar).await.json()["sub"], guest["sub"]);
}
