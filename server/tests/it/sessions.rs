//! A guest in the cookies of a browser: `/oauth/session`.

mod ending;
mod gateway;
mod moving;
mod naming;
mod overlapping;
mod script;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::choice::Choice;
use guestpass_core::client::{Change, ChangeError, ClientSettings, OnEnded};
use guestpass_core::policy::PolicyOverrides;
use serde_json::{Value, json};

use crate::support::{
    Answer, DAY, Sent, TestApp, config, exchange, introspect, lines_of, refresh, request, revoke,
    session, thorough, ticket, until, verify,
};

const WEB: &str = "web";
const ORIGIN: &str = "https://www.shop.example";

/// A server with a client whose pages keep guests in cookies.
struct Shop {
    test: Arc<TestApp>,
}

/// A browser on a page of the shop, with its jar.
#[derive(Clone, Default)]
struct Browser {
    jar: BTreeMap<String, String>,
}

/// A field `Set-Cookie`, taken apart.
#[derive(Debug)]
struct SetCookie {
    name: String,
    value: String,
    attributes: Vec<String>,
}

impl Shop {
    async fn new() -> Self {
        Self::with(&[], PolicyOverrides::default()).await
    }

    async fn with(settings: &[(&'static str, &str)], overrides: PolicyOverrides) -> Self {
        let settings = [&[("limits.mode", "off")][..], settings].concat();
        let test = TestApp::with_config(config(&settings)).await;
        let web = ClientSettings {
            overrides,
            ..with_cookies("guest")
        };
        test.add_client(WEB, web).await;
        Self {
            test: Arc::new(test),
        }
    }

    /// Asks for the session, and keeps what the answer sets.
    async fn ask(&self, browser: &mut Browser) -> Answer {
        let answer = self.test.send(browser.request()).await;
        browser.keep(&answer);
        answer
    }

    /// Takes a new browser to its guest, in two requests.
    async fn guest(&self) -> (Browser, Value) {
        let mut browser = Browser::default();
        assert_eq!(self.ask(&mut browser).await.status, StatusCode::ACCEPTED);
        let answer = self.ask(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        (browser, answer.json())
    }

    /// Lets time pass, through which the node has followed the store.
    async fn pass(&self, time: Duration) {
        self.test.clock.advance(time);
        self.test.app.follow().await;
    }

    async fn count(&self) -> (u64, u64) {
        self.test.counts().await
    }
}

fn with_cookies(name: &str) -> ClientSettings {
    ClientSettings {
        add_origins: vec![ORIGIN.parse().unwrap()],
        cookies: Some(name.parse().unwrap()),
        ..ClientSettings::default()
    }
}

/// A client without cookies, with pages.
fn bare(origin: &str) -> ClientSettings {
    ClientSettings {
        add_origins: vec![origin.parse().unwrap()],
        ..ClientSettings::default()
    }
}

impl Browser {
    fn with(cookies: &[(&str, &str)]) -> Self {
        let cookies = cookies.iter();
        let jar = cookies.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { jar: jar.collect() }
    }

    fn request(&self) -> Sent {
        let request = session(WEB).header("origin", ORIGIN);
        match self.jar.is_empty() {
            true => request,
            false => request.header("cookie", self.header()),
        }
    }

    /// Returns a request of the page for a ticket.
    fn ticket(&self, target: &str) -> Sent {
        ticket(WEB, target)
            .header("origin", ORIGIN)
            .header("cookie", self.header())
    }

    /// `SD`: returns a request to end the session.
    fn end(&self, more: &str) -> Sent {
        let sent = request("DELETE", &format!("/oauth/session?client_id={WEB}{more}"));
        let sent = sent.header("origin", ORIGIN);
        match self.jar.is_empty() {
            true => sent,
            false => sent.header("cookie", self.header()),
        }
    }

    fn header(&self) -> String {
        let pairs = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in cookies_of(answer) {
            if cookie
                .attributes
                .iter()
                .any(|attribute| attribute == "Max-Age=0")
            {
                self.jar.remove(&cookie.name);
            } else {
                self.jar.insert(cookie.name, cookie.value);
            }
        }
    }

    fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        assert!(other.jar.remove(name).is_some(), "{name}");
        other
    }
}

fn cookies_of(answer: &Answer) -> Vec<SetCookie> {
    let fields = answer.headers.get_all("set-cookie").iter();
    fields
        .map(|field| {
            let mut parts = field.to_str().unwrap().split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            let mut attributes: Vec<_> = parts.map(ToOwned::to_owned).collect();
            attributes.sort();
            SetCookie {
                name: name.to_owned(),
                value: value.to_owned(),
                attributes,
            }
        })
        .collect()
}

const A: &str = "__Host-guest";
const R: &str = "__Host-guest-r";
const S: &str = "__Host-guest-s";

#[tokio::test]
async fn c301_a_first_request_makes_nobody() {
    let shop = Shop::new().await;
    let answer = shop.ask(&mut Browser::default()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.json(), json!({"again": true}));
    let cookies = cookies_of(&answer);
    let [seed] = &cookies[..] else {
        panic!("{cookies:?}")
    };
    assert_eq!((&*seed.name, seed.value.len()), (S, 64));
    let attributes = ["HttpOnly", "Max-Age=60", "Path=/", "SameSite=Lax", "Secure"];
    assert_eq!(seed.attributes, attributes);
    assert_eq!(shop.count().await, (0, 0));
}

#[tokio::test]
async fn c302_a_browser_that_has_kept_the_seed_gets_its_guest() {
    let shop = Shop::new().await;
    let mut browser = Browser::default();
    shop.ask(&mut browser).await;
    let answer = shop.ask(&mut browser).await;
    let guest = answer.json();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        (&guest["new"], &guest["expires_in"]),
        (&json!(true), &json!(86_400))
    );
    let names: Vec<_> = browser.jar.keys().map(String::as_str).collect();
    assert_eq!(names, [A, R]);
    assert_eq!(shop.count().await, (1, 1));
    let row = "select generation * 10 + proven from grants where revoked_at is null";
    assert_eq!(shop.test.number(row).await, 10);
    let told = shop.test.send(verify(&browser.jar[A])).await;
    assert_eq!(told.status, StatusCode::OK);
    assert_eq!(told.header("x-guestpass-sub"), guest["sub"].as_str());
    assert_eq!(told.header("x-guestpass-subn"), guest["subn"].as_str());
    for cookie in cookies_of(&answer) {
        let max_age = match &*cookie.name {
            A => 86_340,
            R => 365 * 86_400,
            _ => 0,
        };
        let mut expected = vec![
            "HttpOnly".to_owned(),
            format!("Max-Age={max_age}"),
            "Path=/".to_owned(),
        ];
        if cookie.name == R {
            expected.push("Priority=High".to_owned());
        }
        expected.extend(["SameSite=Lax", "Secure"].map(ToOwned::to_owned));
        assert_eq!(cookie.attributes, expected, "{cookie:?}");
    }
}

#[tokio::test]
async fn without_tls_on_loopback_cookies_have_no_prefix() {
    let shop = Shop::with(
        &[("issuer", "http://127.0.0.1:8080")],
        PolicyOverrides::default(),
    )
    .await;
    let (browser, _) = shop.guest().await;
    let names: Vec<_> = browser.jar.keys().map(String::as_str).collect();
    assert_eq!(names, ["guest", "guest-r"]);
    let answer = shop.test.send(Browser::default().request()).await;
    let attributes = ["HttpOnly", "Max-Age=60", "Path=/", "SameSite=Lax"];
    assert_eq!(cookies_of(&answer)[0].attributes, attributes);
}

#[tokio::test]
async fn c304_a_fresh_session_is_answered_from_memory() {
    let settings = [("limits.mode", "off"), ("postgres.batch", "1")];
    let (test, overheard) = TestApp::overheard(config(&settings)).await;
    test.add_client(WEB, with_cookies("guest")).await;
    let shop = Shop {
        test: Arc::new(test),
    };
    let (mut browser, guest) = shop.guest().await;
    overheard.take();
    for _ in 0..thorough(1_000) {
        let answer = shop.ask(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(cookies_of(&answer).is_empty());
        let shown = answer.json();
        assert_eq!(
            (&shown["sub"], &shown["new"]),
            (&guest["sub"], &json!(false))
        );
    }
    assert_eq!(overheard.take().len(), 0);
}

#[tokio::test]
async fn c305_a_session_is_renewed_before_its_token_ends() {
    let shop = Shop::new().await;
    let (mut browser, guest) = shop.guest().await;
    let (_, other) = (0, shop.guest().await.0);
    let forged = format!("{}A", browser.jar[A]);
    // A quarter of its life is left, and then a little less.
    shop.pass(DAY * 3 / 4).await;
    assert!(cookies_of(&shop.ask(&mut browser).await).is_empty());
    shop.pass(DAY / 100).await;
    for (what, access_token) in [
        ("soon over", Some(browser.jar[A].clone())),
        ("absent", None),
        ("forged", Some(forged)),
        ("of another grant", Some(other.jar[A].clone())),
        ("no text", Some("\u{fffd}".to_owned())),
    ] {
        let mut browser = browser.clone();
        browser.jar.remove(A);
        browser
            .jar
            .extend(access_token.map(|token| (A.to_owned(), token)));
        let before = browser.clone();
        let answer = shop.ask(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{what}: {answer:?}");
        assert_eq!(answer.json()["sub"], guest["sub"], "{what}");
        for name in [A, R] {
            assert_ne!(browser.jar.get(name), before.jar.get(name), "{what}");
        }
    }
    shop.pass(2 * DAY).await;
    let answer = shop.ask(&mut browser).await;
    assert_eq!(answer.json()["sub"], guest["sub"], "expired");
}

#[tokio::test]
async fn c306_a_guest_that_is_over_makes_way_for_another() {
    let new_guest = ClientSettings {
        on_ended: Some(OnEnded::NewGuest),
        ..ClientSettings::default()
    };
    for over in ["revoked", "idle"] {
        let shop = Shop::new().await;
        shop.test.set_client(WEB, new_guest.clone()).await;
        let (mut browser, guest) = shop.guest().await;
        match over {
            "revoked" => {
                let revoke = revoke(&browser.jar[R]).set("client_id", WEB);
                shop.test.send(revoke).await;
            }
            _ => shop.pass(366 * DAY).await,
        }
        let answer = shop.ask(&mut browser).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{over}");
        let cookies = cookies_of(&answer);
        let names: Vec<_> = cookies.iter().map(|cookie| &*cookie.name).collect();
        assert_eq!(names, [S], "{over}");
        let answer = shop.ask(&mut browser).await;
        assert_eq!(answer.status, StatusCode::OK, "{over}");
        assert_ne!(answer.json()["sub"], guest["sub"], "{over}");
    }
}

#[tokio::test]
async fn c308_who_has_no_cookies_gets_none() {
    let shop = Shop::new().await;
    let test = &shop.test;
    test.add_client("other", ClientSettings::default()).await;
    let (browser, _) = shop.guest().await;
    let from_page = |client: &str| {
        session(client)
            .header("origin", ORIGIN)
            .header("cookie", browser.header())
    };
    for (sent, error) in [
        (from_page("other"), "unauthorized_client"),
        (from_page("nobody"), "invalid_client"),
        (
            from_page(WEB).header("x-api-key", "gpk_wrong"),
            "invalid_client",
        ),
        (from_page(WEB).in_query(), "invalid_request"),
    ] {
        let answer = test.refused(sent, error).await;
        assert!(cookies_of(&answer).is_empty());
    }
    test.disable_client(WEB, true).await;
    let answer = test.refused(from_page(WEB), "invalid_client").await;
    assert!(cookies_of(&answer).is_empty());
    for method in ["GET", "HEAD", "PUT"] {
        let answer = test.send(request(method, "/oauth/session")).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header("allow"), Some("POST, DELETE, OPTIONS"));
    }
}

#[tokio::test]
async fn only_a_page_of_the_client_has_a_session() {
    let shop = Shop::new().await;
    let (browser, _) = shop.guest().await;
    let cookies = browser.header();
    let sent = || session(WEB).header("cookie", &cookies);
    for (sent, error) in [
        (sent(), "unauthorized_client"),
        (sent().header("origin", "null"), "unauthorized_client"),
        (
            sent().header("origin", "https://evil.example"),
            "unauthorized_client",
        ),
        (
            sent().header("origin", "http://www.shop.example"),
            "unauthorized_client",
        ),
        (
            sent()
                .header("origin", ORIGIN)
                .header("origin", "https://evil.example"),
            "unauthorized_client",
        ),
        (
            sent()
                .header("origin", ORIGIN)
                .header("sec-fetch-site", "cross-site"),
            "invalid_request",
        ),
    ] {
        let answer = shop.test.refused(sent, error).await;
        assert!(cookies_of(&answer).is_empty());
    }
    let ahead = sent()
        .header("origin", ORIGIN)
        .header("sec-purpose", "prefetch;prerender");
    let answer = shop.test.send(ahead).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(cookies_of(&answer).is_empty());
}

#[tokio::test]
async fn c310_what_was_never_issued_here_is_no_refresh_token() {
    let shop = Shop::new().await;
    let elsewhere = Shop::new().await;
    let (foreign, _) = elsewhere.guest().await;
    for text in [
        &*foreign.jar[R],
        &"A".repeat(64),
        "",
        "\t",
        &"A".repeat(4_000),
    ] {
        let answer = shop.ask(&mut Browser::with(&[(R, text)])).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{text:?}");
    }
    let huge = Browser::with(&[(R, &"A".repeat(9_000))]);
    let answer = shop.test.send(huge.request()).await;
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(shop.count().await, (0, 0));
}

#[tokio::test]
async fn two_values_of_one_cookie_are_never_chosen_between() {
    let shop = Shop::new().await;
    let ((one, guest), (two, _)) = (shop.guest().await, shop.guest().await);
    for name in [R, S] {
        let jar = format!("{name}=a; {name}=b");
        let sent = session(WEB).header("origin", ORIGIN).header("cookie", jar);
        shop.test.refused(sent, "invalid_request").await;
    }
    // Of two access tokens neither counts, and who is here is told by the refresh token.
    let jar = format!("{}; {A}={}", one.header(), two.jar[A]);
    let sent = session(WEB).header("origin", ORIGIN).header("cookie", jar);
    let answer = shop.test.send(sent).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
    assert_eq!(cookies_of(&answer).len(), 2);
}

#[tokio::test]
async fn c312_a_seed_is_good_for_a_minute_at_its_client_and_nowhere_else() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let seeded = async || {
        let mut browser = Browser::default();
        shop.ask(&mut browser).await;
        browser
    };
    let late = seeded().await;
    shop.pass(Duration::from_secs(61)).await;
    let answer = test.send(late.request()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);

    let browser = seeded().await;
    let other_node = test.beside(config(&[("limits.mode", "off")])).await;
    let answer = other_node.send(browser.request()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let used_there = answer.json();

    // At another client with cookies: used there before, and not.
    test.add_client("second", with_cookies("second")).await;
    let as_second = |browser: &Browser| {
        let seed = format!("__Host-second-s={}", browser.jar[S]);
        session("second")
            .header("origin", ORIGIN)
            .header("cookie", seed)
    };
    let answer = test.send(as_second(&browser)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let unused = seeded().await;
    let answer = test.send(as_second(&unused)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_ne!(answer.json()["sub"], used_there["sub"]);
    let answer = test.send(unused.request()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);

    let seed = &seeded().await.jar[S];
    let key = test.add_confidential_client("api").await;
    test.refused(exchange(seed).set("client_id", WEB), "invalid_grant")
        .await;
    test.refused(refresh(seed).set("client_id", WEB), "invalid_grant")
        .await;
    let told = introspect(seed)
        .set("client_id", "api")
        .header("x-api-key", key);
    assert_eq!(test.send(told).await.json(), json!({"active": false}));
    let answer = test.send(revoke(seed).set("client_id", WEB)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let code = test.code("shop").await;
    let answer = shop.ask(&mut Browser::with(&[(S, &code)])).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn c313_a_seed_whose_number_was_taken_or_erased_makes_nobody() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let mut browser = Browser::default();
    shop.ask(&mut browser).await;
    let sown = browser.clone();
    let taken = shop.ask(&mut browser).await;
    // As if another guest had drawn the same number.
    test.database
        .sql("update grants set grant_id = network_id")
        .await;
    let answer = test.send(sown.request()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_ne!(answer.json()["sub"], taken.json()["sub"]);

    let mut erased = Browser::default();
    shop.ask(&mut erased).await;
    let seeded = erased.clone();
    shop.ask(&mut erased).await;
    let other_node = test.beside(config(&[("limits.mode", "off")])).await;
    let answer = test.send(erased.end("&erase=yes")).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    // The other node has not heard of it: the guest may come back there, until the second look.
    let status = other_node.send(seeded.request()).await.status;
    assert!([StatusCode::OK, StatusCode::ACCEPTED].contains(&status));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    until(async || test.count("profiles").await == 1).await;
    other_node.app.follow().await;
    for node in [test, &other_node] {
        let answer = node.send(seeded.request()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        assert_eq!(cookies_of(&answer).len(), 1);
    }
    let mut unused = Browser::default();
    shop.ask(&mut unused).await;
    test.clock.advance_secs(11);
    let answer = test.send(unused.request()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(cookies_of(&answer).is_empty());
}

#[tokio::test]
async fn c317_no_cookie_outlives_what_it_holds() {
    let seconds = Duration::from_secs;
    let year = 365 * 86_400;
    for (idle, max, access, expected) in [
        (90 * DAY, 5 * 365 * DAY, DAY, (7_776_000, 86_340)),
        (3_650 * DAY, 3_650 * DAY, seconds(300), (34_560_000, 270)),
        (365 * DAY, 3 * DAY, seconds(10), (259_200, 9)),
    ] {
        let overrides = PolicyOverrides {
            refresh_idle: Some(idle),
            refresh_max: Some(max),
            access_ttl: Some(access),
            ..PolicyOverrides::default()
        };
        let shop = Shop::with(&[], overrides).await;
        let mut browser = Browser::default();
        shop.ask(&mut browser).await;
        let answer = shop.ask(&mut browser).await;
        let age = |name: &str| {
            let cookies = cookies_of(&answer);
            let cookie = cookies
                .into_iter()
                .find(|cookie| cookie.name == name)
                .unwrap();
            let age = cookie
                .attributes
                .iter()
                .find_map(|a| a.strip_prefix("Max-Age="));
            age.unwrap().parse::<u64>().unwrap()
        };
        assert_eq!((age(R), age(A)), expected);
        assert!(age(R) <= 400 * 86_400 && age(A) <= year);
    }
}

#[tokio::test]
async fn c325_the_refresh_token_alone_says_who_is_here() {
    let shop = Shop::new().await;
    let (browser, guest) = shop.guest().await;
    let answer = shop.ask(&mut browser.without(A)).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
    for mut lacking in [browser.without(R), Browser::default()] {
        assert_eq!(shop.ask(&mut lacking).await.status, StatusCode::ACCEPTED);
        let answer = shop.ask(&mut lacking).await;
        assert_ne!(answer.json()["sub"], guest["sub"]);
    }
}

#[tokio::test]
async fn a_seed_that_comes_again_counts_for_no_limit() {
    let test = TestApp::with_config(config(&[("limits.guests_per_client", "2/1h")])).await;
    test.add_client(WEB, with_cookies("guest")).await;
    let shop = Shop {
        test: Arc::new(test),
    };
    let mut seeded = Browser::default();
    shop.ask(&mut seeded).await;
    let guest = shop.test.send(seeded.request()).await.json();
    for _ in 0..8 {
        let answer = shop.test.send(seeded.request()).await;
        assert_eq!(answer.json()["sub"], guest["sub"], "{answer:?}");
    }
    let mut other = Browser::default();
    shop.ask(&mut other).await;
    let answer = shop.test.send(other.request()).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(cookies_of(&answer).is_empty());
}

#[tokio::test]
async fn a_shop_behind_basic_authentication_keeps_its_guests() {
    let shop = Shop::new().await;
    let basic = |sent: Sent| {
        sent.header(
            "authorization",
            "Basic c3RhZ2luZzpzZWNyZXQtb2YtdGhlLXNob3A=",
        )
    };
    let (browser, guest) = shop.guest().await;
    let answer = shop.test.send(basic(browser.request())).await;
    assert_eq!(answer.json()["sub"], guest["sub"]);
    let answer = shop.test.send(basic(browser.end(""))).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_log_says_what_became_of_a_session() {
    let shop = Shop::new().await;
    let decision = |answer: &Answer| {
        let lines = lines_of(answer.log_name());
        let line = lines
            .iter()
            .find(|line| line["message"] == "answered")
            .unwrap();
        line["decision"].as_str().unwrap_or_default().to_owned()
    };
    let mut browser = Browser::default();
    assert_eq!(decision(&shop.ask(&mut browser).await), "seed");
    let seeded = browser.clone();
    assert_eq!(decision(&shop.ask(&mut browser).await), "create");
    assert_eq!(decision(&shop.test.send(seeded.request()).await), "repeat");
    assert_eq!(decision(&shop.ask(&mut browser).await), "current");
    shop.test
        .send(revoke(&browser.jar[R]).set("client_id", WEB))
        .await;
    assert_eq!(decision(&shop.ask(&mut browser).await), "grant_revoked");
}

#[tokio::test]
async fn c341_nothing_of_a_session_is_in_the_log_or_the_metrics() {
    // What is sent here is looked for in every line of the log, at all levels, by the client of these tests.
    let shop = Shop::new().await;
    shop.test.add_confidential_client("back-end").await;
    let to = ClientSettings {
        add_ticket_to: vec!["back-end".parse().unwrap()],
        ..ClientSettings::default()
    };
    shop.test.set_client(WEB, to).await;
    let mut browser = Browser::default();
    shop.ask(&mut browser).await;
    let mut secrets = Vec::from_iter(browser.jar.values().cloned());
    shop.ask(&mut browser).await;
    shop.ask(&mut browser.without(A)).await;
    secrets.extend(browser.jar.values().cloned());
    let ticket = shop.test.send(browser.ticket("back-end")).await;
    secrets.push(ticket.text("ticket"));
    let gateway = request("GET", "/oauth/verify?client_id=web").header("cookie", browser.header());
    shop.test.send(gateway).await;
    shop.test.send(browser.end("&erase=yes")).await;
    let metrics = shop.test.metrics().await;
    for (event, count) in [("minted", 1), ("redeemed", 0)] {
        let line = format!("guestpass_tickets_total{{event=\"{event}\"}} {count}");
        assert_eq!(metrics.contains(&line), count > 0, "{metrics}");
    }
    assert!(metrics.contains("guestpass_verified_total{by=\"access_cookie\"} 1"));
    assert!(
        secrets
            .iter()
            .all(|secret| !metrics.contains(secret.as_str()))
    );
}

#[tokio::test]
async fn the_rules_of_a_client_with_cookies() {
    let shop = Shop::new().await;
    let set = async |id: &str, settings: ClientSettings| {
        let id = id.parse().unwrap();
        match shop
            .test
            .store
            .change(Change::SetClient { id, settings })
            .await
        {
            Ok(()) => None,
            Err(guestpass::store::ChangeFailed::Refused(error)) => Some(error),
            Err(error) => panic!("{error:?}"),
        }
    };
    shop.test
        .add_client("second", ClientSettings::default())
        .await;
    let origin = |text: &str| ClientSettings {
        add_origins: vec![text.parse().unwrap()],
        ..ClientSettings::default()
    };
    assert_eq!(
        set("second", with_cookies("guest")).await,
        Some(ChangeError::CookiesTaken(
            "second".parse().unwrap(),
            WEB.parse().unwrap()
        ))
    );
    let bare = ClientSettings {
        add_origins: Vec::new(),
        ..with_cookies("second")
    };
    assert_eq!(
        set("second", bare).await,
        Some(ChangeError::CookiesWithoutOrigin)
    );
    let confidential = ClientSettings {
        confidential: Some(true),
        ..ClientSettings::default()
    };
    assert_eq!(
        set(WEB, confidential).await,
        Some(ChangeError::CookiesConfidential)
    );
    let insecure = "http://www.shop.example";
    let expected = ChangeError::CookiesInsecure(insecure.parse().unwrap());
    assert_eq!(set(WEB, origin(insecure)).await, Some(expected));
    let last = ClientSettings {
        remove_origins: vec![ORIGIN.parse().unwrap()],
        ..ClientSettings::default()
    };
    assert_eq!(
        set(WEB, last).await,
        Some(ChangeError::CookiesWithoutOrigin)
    );
    for text in [
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://www.shop.localhost:8080",
        "http://[::1]:80",
    ] {
        if let Ok(known) = text.parse() {
            let settings = ClientSettings {
                add_origins: vec![known],
                ..ClientSettings::default()
            };
            assert_eq!(set(WEB, settings).await, None, "{text}");
        }
    }
    let taken_back = ClientSettings {
        unset: vec![Choice::Cookies],
        ..ClientSettings::default()
    };
    assert_eq!(set(WEB, taken_back).await, None);
    assert_eq!(set("second", with_cookies("guest")).await, None);
}
