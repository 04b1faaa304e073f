//! Guests who come from elsewhere: from a refresh token that the page has kept, or by a ticket.

use super::*;

/// Returns a guest of the page's client who lives outside of cookies.
async fn outside(shop: &Shop) -> crate::support::Tokens {
    let authorize = crate::support::authorize().set("client_id", WEB);
    let code = shop.test.send(authorize).await.text("code");
    shop.test
        .granted(exchange(&code).set("client_id", WEB))
        .await
}

async fn seeded(shop: &Shop) -> Browser {
    let mut browser = Browser::default();
    shop.ask(&mut browser).await;
    browser
}

#[tokio::test]
async fn c316_a_refresh_token_moves_into_cookies_once_they_come_back() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let stored = outside(&shop).await;
    let with = |browser: &Browser, token: &str| browser.request().set("refresh_token", token);

    // Twenty loads of a browser that keeps no cookies use nothing up.
    let before = test.rows().await;
    for _ in 0..20 {
        let answer = test
            .send(with(&Browser::default(), &stored.refresh_token))
            .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    assert_eq!(test.rows().await, before);

    let answer = test
        .send(with(&seeded(&shop).await, &stored.refresh_token))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        (answer.text("sub"), answer.json()["new"].clone()),
        (stored.sub().to_owned(), json!(false))
    );
    // Its answer was lost, and what was sent before is the predecessor now.
    let answer = test
        .send(with(&seeded(&shop).await, &stored.refresh_token))
        .await;
    assert_eq!(answer.text("sub"), stored.sub().to_owned());

    let (other, guest) = shop.guest().await;
    let before = test.number("select sum(generation) from grants").await;
    let answer = test.send(with(&other, &stored.refresh_token)).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
    assert_eq!(
        test.number("select sum(generation) from grants").await,
        before
    );

    let dead = "A".repeat(64);
    let answer = test.send(with(&seeded(&shop).await, &dead)).await;
    assert_eq!(
        (answer.status, answer.json()["new"].clone()),
        (StatusCode::OK, json!(true))
    );
}

#[tokio::test]
async fn c346_a_ticket_replaces_no_guest_that_the_browser_has() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let hands_over = ClientSettings {
        add_ticket_to: vec![WEB.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.add_client("app", hands_over).await;
    let code = test.code("app").await;
    let app = test.granted(exchange(&code).set("client_id", "app")).await;
    let mint = || ticket("app", WEB).set("refresh_token", &app.refresh_token);
    let minted = test.send(mint()).await.text("ticket");
    let with = |browser: &Browser, ticket: &str| browser.request().set("ticket", ticket);

    let (other, _) = shop.guest().await;
    let answer = test.refused(with(&other, &minted), "invalid_grant").await;
    assert!(cookies_of(&answer).is_empty());
    let both = with(&Browser::default(), &minted).set("refresh_token", &app.refresh_token);
    test.refused(both, "invalid_request").await;

    let mut browser = Browser::default();
    let answer = test.send(with(&browser, &minted)).await;
    assert_eq!(
        (answer.status, answer.text("sub")),
        (StatusCode::OK, app.sub().to_owned())
    );
    browser.keep(&answer);
    // The same guest: by its own cookies, and the ticket stays good.
    let another = test.send(mint()).await.text("ticket");
    let answer = test.send(with(&browser, &another)).await;
    assert_eq!(
        (answer.status, answer.text("sub")),
        (StatusCode::OK, app.sub().to_owned())
    );
    let answer = test.send(with(&Browser::default(), &another)).await;
    assert_eq!(
        (answer.status, answer.text("sub")),
        (StatusCode::OK, app.sub().to_owned())
    );
    let nonsense = with(&Browser::default(), "nonsense");
    test.refused(nonsense, "invalid_grant").await;
}
