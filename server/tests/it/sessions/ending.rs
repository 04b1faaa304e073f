//! `DELETE /oauth/session`: a consent is withdrawn.

use guestpass::journal::Entry;

use super::*;

async fn is_live(shop: &Shop, refresh_token: &str) -> bool {
    let refresh = refresh(refresh_token).set("client_id", WEB);
    shop.test.send(refresh).await.status == StatusCode::OK
}

/// Ends the session; all cookies must be cleared.
async fn end(shop: &Shop, browser: &Browser, more: &str) {
    let answer = shop.test.send(browser.end(more)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
    let cookies = cookies_of(&answer);
    let mut names: Vec<_> = cookies.iter().map(|cookie| &*cookie.name).collect();
    names.sort_unstable();
    assert_eq!(names, [A, R, S]);
    assert!(cookies.iter().all(|cookie| cookie.value.is_empty()));
}

#[tokio::test]
async fn c314_a_session_that_ends_takes_its_grant_along_or_its_guest() {
    let shop = Shop::new().await;
    let (browser, _) = shop.guest().await;
    end(&shop, &browser, "").await;
    assert!(!is_live(&shop, &browser.jar[R]).await);
    assert_eq!(shop.count().await.0, 1);

    let erased = |shop: &Shop| {
        let is_erasure = |entry: &Entry| matches!(entry, Entry::GuestErased(_));
        shop.test
            .journaled()
            .iter()
            .filter(|entry| is_erasure(entry))
            .count()
    };
    let (browser, _) = shop.guest().await;
    end(&shop, &browser, "&erase=yes").await;
    assert_eq!((shop.count().await.0, erased(&shop)), (1, 1));

    // With a refresh token that is over, and an access token that isn't.
    let (browser, _) = shop.guest().await;
    let dead = Browser {
        jar: [(A, &*browser.jar[A]), (R, &"A".repeat(64))]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    };
    end(&shop, &dead, "&erase=yes").await;
    assert_eq!((shop.count().await.0, erased(&shop)), (1, 2));

    let (browser, _) = shop.guest().await;
    end(&shop, &Browser::with(&[(R, &"A".repeat(64))]), "").await;
    end(&shop, &Browser::default(), "").await;
    end(&shop, &Browser::default(), "&erase=yes").await;
    assert!(is_live(&shop, &browser.jar[R]).await);
}

#[tokio::test]
async fn who_has_been_planted_a_cookie_can_withdraw() {
    let shop = Shop::new().await;
    let (browser, _) = shop.guest().await;
    for name in [R, S, A] {
        for more in ["", "&erase=yes"] {
            let jar = format!("{name}=planted; {name}=twice; {}", browser.header());
            let sent = request("DELETE", &format!("/oauth/session?client_id={WEB}{more}"))
                .header("origin", ORIGIN)
                .header("cookie", jar);
            let answer = shop.test.send(sent).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{name}");
            assert_eq!(cookies_of(&answer).len(), 3);
        }
    }
}

#[tokio::test]
async fn only_a_page_of_the_client_ends_a_session_and_only_its_own() {
    let shop = Shop::new().await;
    let (browser, _) = shop.guest().await;
    let sent = |query: &str| {
        request("DELETE", &format!("/oauth/session?{query}")).header("cookie", browser.header())
    };
    for (sent, error) in [
        (sent("client_id=web"), "unauthorized_client"),
        (
            sent("client_id=web").header("origin", "https://evil.example"),
            "unauthorized_client",
        ),
        (
            sent("client_id=nobody").header("origin", ORIGIN),
            "invalid_client",
        ),
        (
            sent("client_id=web&erase=no").header("origin", ORIGIN),
            "invalid_request",
        ),
        (sent("").header("origin", ORIGIN), "invalid_request"),
    ] {
        let answer = shop.test.refused(sent, error).await;
        assert!(cookies_of(&answer).is_empty());
    }
    // The tokens of another client under these names end nothing.
    shop.test.add_client("second", with_cookies("second")).await;
    let foreign = format!(
        "__Host-second={}; __Host-second-r={}",
        browser.jar[A], browser.jar[R]
    );
    for more in ["", "&erase=yes"] {
        let sent = request("DELETE", &format!("/oauth/session?client_id=second{more}"))
            .header("origin", ORIGIN)
            .header("cookie", &foreign);
        assert_eq!(shop.test.send(sent).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(shop.count().await, (1, 1));
    assert!(is_live(&shop, &browser.jar[R]).await);
}

#[tokio::test]
async fn c315_nothing_is_set_or_cleared_while_the_store_is_down() {
    let shop = Shop::new().await;
    let settings = ClientSettings {
        add_ticket_to: vec!["back-end".parse().unwrap()],
        ..ClientSettings::default()
    };
    shop.test.add_confidential_client("back-end").await;
    shop.test.set_client(WEB, settings).await;
    let (browser, guest) = shop.guest().await;
    let mut seeded = Browser::default();
    shop.ask(&mut seeded).await;
    let ticket = browser.ticket("back-end");
    let requests = [
        browser.without(A).request(),
        seeded.request(),
        browser.end(""),
        browser.end("&erase=yes"),
        ticket,
    ];
    shop.test
        .sql("alter table grants rename to elsewhere")
        .await;
    shop.test
        .sql("alter table profiles rename to elsewhere_too")
        .await;
    for request in requests.clone() {
        let answer = shop.test.send(request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert!(cookies_of(&answer).is_empty());
    }
    shop.test
        .sql("alter table elsewhere rename to grants")
        .await;
    shop.test
        .sql("alter table elsewhere_too rename to profiles")
        .await;
    let answer = shop.ask(&mut seeded).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let mut renewed = browser.without(A);
    let answer = shop.ask(&mut renewed).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);

    // A replay ends its grant, and a session that ends does, too: neither without the journal.
    let replayed = renewed.clone();
    for _ in 0..3 {
        shop.ask(&mut renewed).await;
        shop.pass(DAY).await;
    }
    let (other, _) = shop.guest().await;
    let (journal, away) = (
        shop.test.journal(),
        shop.test.journal().with_extension("away"),
    );
    std::fs::rename(&journal, &away).unwrap();
    for request in [
        replayed.without(A).request(),
        other.end(""),
        other.end("&erase=yes"),
    ] {
        let answer = shop.test.send(request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert!(cookies_of(&answer).is_empty());
    }
    std::fs::rename(&away, &journal).unwrap();
}
