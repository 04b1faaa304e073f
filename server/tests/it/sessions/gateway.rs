//! Forward authentication by the cookies of a page: `/oauth/verify?client_id=`.

use super::*;

fn ask(browser: &Browser, query: &str) -> Sent {
    let sent = request("GET", &format!("/oauth/verify?client_id=web{query}"));
    match browser.jar.is_empty() {
        true => sent,
        false => sent.header("cookie", browser.header()),
    }
}

/// Asks strictly and softly, which must agree; returns the guest.
async fn who(shop: &Shop, change: impl Fn(Sent) -> Sent, browser: &Browser) -> Option<String> {
    let strict = shop.test.send(change(ask(browser, ""))).await;
    let soft = shop.test.send(change(ask(browser, "&mode=soft"))).await;
    assert_eq!(soft.status, StatusCode::OK, "{soft:?}");
    let sub = soft.header("x-guestpass-sub").filter(|sub| !sub.is_empty());
    match sub {
        Some(sub) => {
            assert_eq!(strict.status, StatusCode::OK);
            assert_eq!(strict.header("x-guestpass-sub"), Some(sub));
        }
        None => assert_eq!(strict.status, StatusCode::UNAUTHORIZED),
    }
    assert!(cookies_of(&strict).is_empty() && cookies_of(&soft).is_empty());
    sub.map(ToOwned::to_owned)
}

fn unchanged(sent: Sent) -> Sent {
    sent
}

fn sub(guest: &Value) -> Option<String> {
    guest["sub"].as_str().map(ToOwned::to_owned)
}

#[tokio::test]
async fn c337_a_foreign_page_is_nobody_though_its_browser_sends_the_cookies() {
    let shop = Shop::new().await;
    let (browser, guest) = shop.guest().await;
    let from = |origin: &'static str| move |sent: Sent| sent.header("origin", origin);
    assert_eq!(who(&shop, unchanged, &browser).await, sub(&guest));
    assert_eq!(who(&shop, from(ORIGIN), &browser).await, sub(&guest));
    for origin in ["https://evil.shop.example", "https://other.example", "null"] {
        assert_eq!(who(&shop, from(origin), &browser).await, None, "{origin}");
    }
    assert_eq!(who(&shop, unchanged, &Browser::default()).await, None);
}

#[tokio::test]
async fn c338_what_a_header_says_counts_more_than_a_cookie() {
    let shop = Shop::new().await;
    let ((one, first), (two, _)) = (shop.guest().await, shop.guest().await);
    let bearer = |token: String| move |sent: Sent| sent.bearer(&token);
    assert_eq!(
        who(&shop, bearer(one.jar[A].clone()), &two).await,
        sub(&first)
    );
    assert_eq!(who(&shop, bearer("nonsense".to_owned()), &two).await, None);
    // Without a client, or with one that has no cookies, they aren't read.
    let plain = request("GET", "/oauth/verify").header("cookie", one.header());
    assert_eq!(shop.test.send(plain).await.status, StatusCode::UNAUTHORIZED);
    shop.test.add_client("second", with_cookies("second")).await;
    for client in ["shop", "nobody", "second"] {
        let sent = request("GET", &format!("/oauth/verify?client_id={client}"));
        let answer = shop.test.send(sent.header("cookie", one.header())).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{client}");
    }
    // An access token of another client under this name.
    let code = shop.test.code("shop").await;
    let foreign = shop.test.granted(exchange(&code)).await;
    let foreign = Browser::with(&[(A, &foreign.access_token)]);
    assert_eq!(who(&shop, unchanged, &foreign).await, None);
}

#[tokio::test]
async fn c339_the_refresh_token_alone_says_who_is_here_and_stays_as_it_is() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let told = ClientSettings {
        claims: Some(vec!["customer".parse().unwrap()]),
        ..ClientSettings::default()
    };
    test.set_client(WEB, told).await;
    let (browser, guest) = shop.guest().await;
    let alone = |browser: &Browser| Browser::with(&[(R, &browser.jar[R])]);
    let unchanging = async |browser: &Browser| {
        let before = test.rows().await;
        let found = who(&shop, unchanged, browser).await;
        assert_eq!(test.rows().await, before);
        found
    };
    assert_eq!(unchanging(&alone(&browser)).await, sub(&guest));
    let mut newer = alone(&browser);
    shop.ask(&mut newer).await;
    assert_eq!(
        unchanging(&alone(&browser)).await,
        sub(&guest),
        "predecessor"
    );
    assert_eq!(unchanging(&alone(&newer)).await, sub(&guest));
    let mut newest = alone(&newer);
    shop.ask(&mut newest).await;
    assert_eq!(unchanging(&alone(&browser)).await, None, "spent");

    let (mut seeded, other) = (Browser::default(), shop.guest().await.0);
    shop.ask(&mut seeded).await;
    assert_eq!(
        unchanging(&Browser::with(&[(R, &seeded.jar[S])])).await,
        None
    );
    test.add_client("second", with_cookies("second")).await;
    let sent = request("GET", "/oauth/verify?client_id=second")
        .header("cookie", format!("__Host-second-r={}", other.jar[R]));
    assert_eq!(test.send(sent).await.status, StatusCode::UNAUTHORIZED);

    // Of a linked guest the gateway is told the customer.
    let key = test.add_confidential_client("back-end").await;
    let may = ClientSettings {
        may: Some(vec![guestpass_core::client::Permission::Link]),
        ..ClientSettings::default()
    };
    test.set_client("back-end", may).await;
    let link = crate::support::link(&other.jar[A], "customer-x")
        .set("client_id", "back-end")
        .header("x-api-key", &key);
    assert_eq!(test.send(link).await.status, StatusCode::OK);
    let answer = test.send(ask(&alone(&other), "")).await;
    assert_eq!(answer.header("x-guestpass-customer"), Some("customer-x"));
    assert_eq!(answer.header("x-guestpass-client"), Some(WEB));

    test.send(revoke(&other.jar[R]).set("client_id", WEB)).await;
    assert_eq!(unchanging(&alone(&other)).await, None, "revoked");
    let (erased, _) = shop.guest().await;
    test.send(erased.end("&erase=yes")).await;
    assert_eq!(unchanging(&alone(&erased)).await, None, "erased");
    shop.pass(366 * DAY).await;
    assert_eq!(unchanging(&alone(&newest)).await, None, "expired");
}

#[tokio::test]
async fn c332_a_planted_access_token_is_believed_only_where_nothing_else_is_there() {
    let shop = Shop::new().await;
    let domain = ClientSettings {
        cookie_domain: "shop.example".parse().ok(),
        ..ClientSettings::default()
    };
    shop.test.set_client(WEB, domain).await;
    let ((browser, guest), (evil, evil_guest)) = (shop.guest().await, shop.guest().await);
    let secure = "__Secure-guest";
    let cookies = |text: String| move |sent: Sent| sent.header("cookie", text.clone());
    let nobody = Browser::default();
    let both = format!("{secure}={}; {}", evil.jar[secure], browser.header());
    assert_eq!(who(&shop, cookies(both.clone()), &nobody).await, None);
    let one = format!("{secure}={}; {R}={}", evil.jar[secure], browser.jar[R]);
    assert_eq!(who(&shop, cookies(one.clone()), &nobody).await, sub(&guest));
    let unseen = format!("{secure}={}", evil.jar[secure]);
    assert_eq!(who(&shop, cookies(unseen), &nobody).await, sub(&evil_guest));
    // The page goes on by the refresh token with either.
    for text in [both, one] {
        let sent = session(WEB).header("origin", ORIGIN).header("cookie", text);
        let answer = shop.test.send(sent).await;
        assert_eq!(answer.json()["sub"], guest["sub"]);
    }
}

#[tokio::test]
async fn two_refresh_tokens_are_nobody_and_a_store_that_is_down_is_no_answer() {
    let shop = Shop::new().await;
    let (browser, _) = shop.guest().await;
    let two = format!("{R}=planted; {}", browser.header());
    let planted = |sent: Sent| sent.header("cookie", two.clone());
    assert_eq!(who(&shop, planted, &Browser::default()).await, None);
    shop.test
        .sql("alter table grants rename to elsewhere")
        .await;
    for query in ["", "&mode=soft"] {
        let answer = shop.test.send(ask(&browser.without(A), query)).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    // The access token needs no row.
    let answer = shop.test.send(ask(&browser, "")).await;
    assert_eq!(answer.status, StatusCode::OK);
}
