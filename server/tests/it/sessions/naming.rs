//! Tests what the cookies of a page are called, whom browsers send them to, and how long.

use super::*;

const LONGEST_NAME: &str = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

/// Returns the attributes of each cookie that an answer sets, but for its age.
fn attributes_of(answer: &Answer) -> BTreeMap<String, Vec<String>> {
    let cookies = cookies_of(answer).into_iter();
    cookies
        .map(|mut cookie| {
            cookie
                .attributes
                .retain(|attribute| !attribute.starts_with("Max-Age="));
            (cookie.name, cookie.attributes)
        })
        .collect()
}

#[tokio::test]
async fn c303_cookies_are_for_this_host_alone_unless_a_domain_says_otherwise() {
    let common = ["HttpOnly", "Path=/", "SameSite=Lax"];
    for (issuer, domain, prefixes) in [
        ("https://www.shop.example", None, ["__Host-", "__Host-"]),
        (
            "https://id.shop.example",
            Some("shop.example"),
            ["__Secure-", "__Host-"],
        ),
        ("http://127.0.0.1:8080", None, ["", ""]),
    ] {
        let shop = Shop::with(&[("issuer", issuer)], PolicyOverrides::default()).await;
        let settings = ClientSettings {
            cookie_domain: domain.map(|domain| domain.parse().unwrap()),
            ..ClientSettings::default()
        };
        shop.test.set_client(WEB, settings).await;
        let secure = issuer.starts_with("https").then_some("Secure");
        let expected = |own: &[&str]| {
            let all = common.iter().chain(own).copied().chain(secure);
            let mut all: Vec<_> = all.map(ToOwned::to_owned).collect();
            all.sort();
            all
        };
        let [of_access, of_others] = prefixes;
        let seed = (format!("{of_others}guest-s"), expected(&[]));
        let refresh = (format!("{of_others}guest-r"), expected(&["Priority=High"]));
        let of_domain = domain.map(|domain| format!("Domain={domain}"));
        let access = (
            format!("{of_access}guest"),
            expected(&Vec::from_iter(of_domain.as_deref())),
        );
        let mut browser = Browser::default();
        let first = shop.ask(&mut browser).await;
        assert_eq!(attributes_of(&first), BTreeMap::from([seed.clone()]));
        let second = shop.ask(&mut browser).await;
        let all = BTreeMap::from([seed, refresh, access]);
        assert_eq!(attributes_of(&second), all);
        let end = shop.test.send(browser.end("")).await;
        assert_eq!(attributes_of(&end), all);
        let is_cleared = |cookie: &SetCookie| {
            cookie.value.is_empty() && cookie.attributes.contains(&"Max-Age=0".to_owned())
        };
        assert!(cookies_of(&end).iter().all(is_cleared));
    }
}

#[tokio::test]
async fn c303_the_longest_cookies_fit_into_a_request() {
    for (algorithm, most) in [
        ("HS256", 1_250),
        ("ES256", 1_250),
        ("EdDSA", 1_250),
        ("RS256", 4_096),
    ] {
        let issuer = format!("https://{}.example", "i".repeat(50));
        let settings = [
            ("limits.mode", "off"),
            ("tokens.algorithm", algorithm),
            ("issuer", issuer.as_str()),
        ];
        let test = TestApp::with_config(config(&settings)).await;
        let id = "c".repeat(128);
        let longest = ClientSettings {
            overrides: PolicyOverrides {
                audience: "a".repeat(64).parse().ok(),
                ..PolicyOverrides::default()
            },
            ..with_cookies(LONGEST_NAME)
        };
        test.add_client(&id, longest).await;
        let mut browser = Browser::default();
        let ask = |browser: &Browser| browser.request().set("client_id", &id);
        for status in [StatusCode::ACCEPTED, StatusCode::OK] {
            let answer = test.send(ask(&browser)).await;
            assert_eq!(answer.status, status, "{answer:?}");
            for field in answer.headers.get_all("set-cookie") {
                assert!(field.len() < 4_096, "{algorithm}");
            }
            browser.keep(&answer);
        }
        let sent = browser.header().len();
        assert!(sent <= most, "{algorithm}: {sent}");
    }
}

#[tokio::test]
async fn c307_a_page_is_told_the_access_token_only_if_its_client_is_set_so() {
    let shop = Shop::new().await;
    let (mut browser, guest) = shop.guest().await;
    assert_eq!(guest.get("access_token"), None);
    let current = shop.ask(&mut browser).await;
    for secret in browser.jar.values() {
        let text = format!("{:?}", current.json());
        assert!(!text.contains(secret.as_str()));
    }
    let page_token = ClientSettings {
        page_token: Some(true),
        ..ClientSettings::default()
    };
    shop.test.set_client(WEB, page_token).await;
    let current = shop.ask(&mut browser).await;
    assert_eq!(current.text("access_token"), browser.jar[A]);
    let renewed = shop.ask(&mut browser.without(A)).await;
    let (new, told) = shop.guest().await;
    assert_eq!(told["access_token"], new.jar[A].as_str());
    let set = cookies_of(&renewed)
        .into_iter()
        .find(|cookie| cookie.name == A)
        .unwrap();
    assert_eq!(renewed.text("access_token"), set.value);
}

#[tokio::test]
async fn c311_two_clients_on_one_host_do_not_disturb_each_other() {
    let shop = Shop::new().await;
    let test = &shop.test;
    test.add_client("second", with_cookies("b")).await;
    let as_second = |browser: &Browser| browser.request().set("client_id", "second");
    let (mut browser, guest) = shop.guest().await;
    for status in [StatusCode::ACCEPTED, StatusCode::OK] {
        let answer = test.send(as_second(&browser)).await;
        assert_eq!(answer.status, status);
        browser.keep(&answer);
    }
    let second = test.send(as_second(&browser)).await.json();
    assert_ne!(second["sub"], guest["sub"]);
    assert_eq!(shop.ask(&mut browser).await.json()["sub"], guest["sub"]);

    // The refresh token of one under the name of the other's.
    let swapped = Browser::with(&[(R, &browser.jar["__Host-b-r"])]);
    assert_eq!(
        test.send(swapped.request()).await.status,
        StatusCode::ACCEPTED
    );
    let answer = test.send(as_second(&browser.without("__Host-b"))).await;
    assert_eq!(answer.json()["sub"], second["sub"]);
    assert!(
        "a-r"
            .parse::<guestpass_core::cookies::CookieName>()
            .is_err()
    );
}

#[tokio::test]
async fn c335_what_a_cookie_is_set_for_depends_on_the_issuer_alone() {
    let shop = Shop::new().await;
    let sent = |host: &str, origin: &str| {
        session(WEB)
            .header("host", host)
            .header("x-forwarded-proto", "http")
            .header("x-forwarded-host", host)
            .header("origin", origin)
    };
    for host in ["evil.example", "other.example"] {
        let answer = shop.test.send(sent(host, ORIGIN)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        let cookies = cookies_of(&answer);
        assert_eq!(cookies[0].name, S);
        assert!(cookies[0].attributes.contains(&"Secure".to_owned()));
        let foreign = sent(host, &format!("https://{host}"));
        shop.test.refused(foreign, "unauthorized_client").await;
    }
    // A page in clear isn't the client's, and a cookie of the plain name isn't ours.
    let plain = "http://www.shop.example";
    shop.test
        .refused(sent("www.shop.example", plain), "unauthorized_client")
        .await;
    let (browser, guest) = shop.guest().await;
    let planted = format!("guest-r=planted; {}", browser.header());
    let sent = session(WEB)
        .header("origin", ORIGIN)
        .header("cookie", planted);
    assert_eq!(shop.test.send(sent).await.json()["sub"], guest["sub"]);
}

#[tokio::test]
async fn pages_of_a_sibling_host_may_read_their_answers() {
    let shop = Shop::new().await;
    shop.test
        .add_client("bare", bare("https://bare.shop.example"))
        .await;
    let allowed = |answer: &Answer| {
        let name = "access-control-allow-credentials";
        (
            answer.header("access-control-allow-origin").is_some(),
            answer.header(name).is_some(),
        )
    };
    let preflight = |path: &str, origin: &str| {
        request("OPTIONS", path)
            .header("origin", origin)
            .header("access-control-request-method", "DELETE")
    };
    for (path, origin, expected) in [
        ("/oauth/session", ORIGIN, (true, true)),
        ("/oauth/ticket", ORIGIN, (true, true)),
        ("/oauth/token", ORIGIN, (true, false)),
        ("/oauth/session", "https://bare.shop.example", (true, false)),
        ("/oauth/session", "https://evil.example", (false, false)),
    ] {
        let answer = shop.test.send(preflight(path, origin)).await;
        assert_eq!(allowed(&answer), expected, "{path} {origin}");
    }
    let first = shop.test.send(Browser::default().request()).await;
    assert_eq!(allowed(&first), (true, true));
    let refused = Browser::default().request().set("client_id", "nobody");
    assert_eq!(allowed(&shop.test.send(refused).await), (true, true));
    let foreign = session(WEB).header("origin", "https://bare.shop.example");
    assert_eq!(allowed(&shop.test.send(foreign).await), (false, false));
}
