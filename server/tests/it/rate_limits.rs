//! Section 8 of the cases: rate limits, by address, client and grant.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::config::Config;
use guestpass::listen::Peer;
use guestpass_core::choice::Choice;
use guestpass_core::client::ClientSettings;
use guestpass_core::policy::PolicyOverrides;

use crate::support::{
    Answer, SHOP, Sent, TestApp, WRONG_VERIFIER, authorize, config, exchange, introspect, profile,
    refresh, request, revoke, verify,
};

const HOME: &str = "192.0.2.1";
const ELSEWHERE: &str = "192.0.2.2";
const ORIGIN: &str = "https://shop.example";

#[tokio::test]
async fn c149_guests_are_limited_by_address_and_by_client() {
    let test = limited(&[("limits.guests_per_address", "3/1m")]).await;
    for _ in 0..3 {
        assert_eq!(send(&test, HOME, authorize()).await.status, StatusCode::OK);
    }
    let before = test.rows().await;
    let answer = send(&test, HOME, authorize()).await;
    is_limited(&answer, "guests_per_address", 3);
    assert_eq!(test.rows().await, before, "nothing is written");
    assert_eq!(
        send(&test, ELSEWHERE, authorize()).await.status,
        StatusCode::OK
    );
    test.clock.advance(retry_after(&answer));
    assert_eq!(send(&test, HOME, authorize()).await.status, StatusCode::OK);
    is_limited(
        &send(&test, HOME, authorize()).await,
        "guests_per_address",
        3,
    );

    // A client's own limit: its guests from all addresses, and nobody else's.
    let own = ClientSettings {
        overrides: PolicyOverrides {
            guests_per_client: "2/1m".parse().ok(),
            guests_per_address: "off".parse().ok(),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    test.add_client("app", own).await;
    let of_app = || authorize().set("client_id", "app");
    for address in [HOME, ELSEWHERE] {
        assert_eq!(send(&test, address, of_app()).await.status, StatusCode::OK);
    }
    let answer = send(&test, "192.0.2.3", of_app()).await;
    is_limited(&answer, "guests_per_client", 2);
    let other = send(&test, "192.0.2.3", authorize()).await;
    assert_eq!(other.status, StatusCode::OK);
    test.clock.advance(retry_after(&answer));
    assert_eq!(send(&test, HOME, of_app()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_guest_beyond_a_limit_is_refused_before_anything_else_is_read() {
    let test = limited(&[("limits.guests_per_address", "1/1m")]).await;
    let page = ClientSettings {
        add_origins: vec![ORIGIN.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.add_client("page", page).await;
    let of_page = || {
        authorize()
            .set("client_id", "page")
            .header("origin", ORIGIN)
    };
    assert_eq!(send(&test, HOME, of_page()).await.status, StatusCode::OK);
    // Whatever else is wrong with it; and the page may read how long to wait.
    for sent in [
        of_page(),
        of_page().set("code_challenge", "too short"),
        of_page().set("state", "\u{7f}"),
        of_page().header("x-api-key", "wrong"),
        of_page().header("sec-purpose", "prefetch"),
    ] {
        let answer = send(&test, HOME, sent).await;
        is_limited(&answer, "guests_per_address", 1);
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
    }
    // Who can't be told for sure to be asking for a guest beyond the limit is asked in the usual order.
    test.add_confidential_client("back").await;
    for sent in [
        of_page().set("client_id", "back"),
        of_page().set("client_id", "nobody"),
        request("GET", "/oauth/authorize"),
    ] {
        let answer = send(&test, HOME, sent).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    }
    let encoded = of_page().unset("client_id").set_raw("client_id", "%70age");
    let answer = send(&test, HOME, encoded.set("code_challenge", "too short")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    // What makes no guest is under no limit: else no page could read the refusal.
    let asks = of_page()
        .method("OPTIONS")
        .header("access-control-request-method", "GET");
    assert_eq!(send(&test, HOME, asks).await.status, StatusCode::NO_CONTENT);
    // Looking takes nothing out of a bucket: another address has its whole one.
    assert_eq!(
        send(&test, ELSEWHERE, of_page()).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn c150_guesses_are_limited_and_whoever_holds_a_token_is_not() {
    let test = limited(&[("limits.failures_per_address", "3/1m")]).await;
    let key = test.add_confidential_client("back").await;
    let mut tokens = test.guest().await;
    for guess in [
        refresh(&"A".repeat(64)),
        authorize().set("client_id", "nobody"),
        introspect("x")
            .set("client_id", "back")
            .header("x-api-key", "wrong"),
    ] {
        let answer = send(&test, HOME, guess).await;
        assert!(matches!(answer.status.as_u16(), 400 | 401), "{answer:?}");
    }
    let code = test.code(SHOP).await;
    let before = test.rows().await;
    for guess in [
        refresh(&"B".repeat(64)),
        authorize().set("client_id", "nobody"),
        // Else it would tell that there is such a client.
        authorize().set("client_id", "back"),
        profile("x.y.z"),
        exchange(&code).set("code_verifier", WRONG_VERIFIER),
        // The right one has to wait, too: a wrong one would have been written down.
        exchange(&code),
    ] {
        is_limited(&send(&test, HOME, guess).await, "failures_per_address", 3);
    }
    assert_eq!(test.rows().await, before);
    // A guest that is known, a back end with its key, and everybody elsewhere.
    for address in [HOME, ELSEWHERE] {
        tokens = send(&test, address, refresh(&tokens.refresh_token))
            .await
            .tokens();
    }
    let asked = introspect(&tokens.access_token).set("client_id", "back");
    let answer = send(&test, HOME, asked.header("x-api-key", &key)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        send(&test, ELSEWHERE, exchange(&code)).await.status,
        StatusCode::OK
    );
    // A gateway asks with the tokens of others.
    for _ in 0..5 {
        let answer = send(&test, HOME, verify("x.y.z")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
    }
}

#[tokio::test]
async fn c151_two_nodes_allow_twice_as_much() {
    let settings = [("limits.guests_per_address", "3/1m")];
    let one = limited(&settings).await;
    let other = one.beside(config(&settings)).await;
    let mut served = 0;
    for _ in 0..10 {
        for node in [&one, &other] {
            let answer = send(node, HOME, authorize()).await;
            served += usize::from(answer.status == StatusCode::OK);
        }
    }
    assert_eq!(served, 2 * 3);
}

#[tokio::test]
async fn c152_the_oldest_address_is_forgotten() {
    let test = limited(&[("limits.failures_per_address", "1/1h")]).await;
    let guess = async |address: &str| {
        let guess = authorize().set("client_id", "nobody");
        send_unchecked(&test, address, guess).await.status
    };
    let first = "10.255.0.1";
    assert_eq!(guess(first).await, StatusCode::BAD_REQUEST);
    assert_eq!(guess(first).await, StatusCode::TOO_MANY_REQUESTS);
    for number in 0..100_000_u32 {
        let address = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        assert_eq!(guess(&address.to_string()).await, StatusCode::BAD_REQUEST);
    }
    assert_eq!(guess(first).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn f50_a_customer_of_ipv6_is_one_address() {
    let test = limited(&[("limits.guests_per_address", "1/1m")]).await;
    let status = async |address: &str| send(&test, address, authorize()).await.status;
    assert_eq!(status("2001:db8:0:1::1").await, StatusCode::OK);
    let same = status("2001:db8:0:1:ffff::2").await;
    assert_eq!(same, StatusCode::TOO_MANY_REQUESTS);
    // A customer with more networks has some more, not all that they have.
    let mut served = 0;
    for network in 2..100 {
        let status = status(&format!("2001:db8:0:{network:x}::1")).await;
        served += usize::from(status == StatusCode::OK);
    }
    assert_eq!(served, 15);
    assert_eq!(status("2001:db8:1::1").await, StatusCode::OK);
    // An IPv4 address in another spelling.
    assert_eq!(status("::ffff:192.0.2.7").await, StatusCode::OK);
    assert_eq!(status("192.0.2.7").await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn f50_revocations_and_erasures_are_limited() {
    let test = limited(&[("limits.endings_per_address", "2/1m")]).await;
    let tokens = [test.guest().await, test.guest().await];
    let answer = send(&test, HOME, revoke(&tokens[0].access_token)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let erase = || request("DELETE", "/oauth/profile").bearer(&tokens[1].access_token);
    assert_eq!(send(&test, HOME, revoke("x")).await.status, StatusCode::OK);
    is_limited(&send(&test, HOME, erase()).await, "endings_per_address", 2);
    let answer = send(&test, HOME, revoke(&tokens[1].refresh_token)).await;
    is_limited(&answer, "endings_per_address", 2);
    assert_eq!(
        send(&test, ELSEWHERE, erase()).await.status,
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn f52_a_grant_whose_tokens_are_revoked_again_and_again_ends() {
    let test = limited(&[("limits.endings_per_grant", "3/1h")]).await;
    let mut tokens = test.guest().await;
    for _ in 0..3 {
        let answer = send(&test, HOME, revoke(&tokens.access_token)).await;
        assert_eq!(answer.status, StatusCode::OK);
        tokens = test.granted(refresh(&tokens.refresh_token)).await;
    }
    let before = test.count("revoked_access_tokens").await;
    assert_eq!(before, 3);
    let answer = send(&test, HOME, revoke(&tokens.access_token)).await;
    assert_eq!(answer.status, StatusCode::OK);
    let ended = test.send(refresh(&tokens.refresh_token)).await;
    assert_eq!(ended.error(), "invalid_grant");
    assert_eq!(test.count("revoked_access_tokens").await, before);
}

#[tokio::test]
async fn f50_introspections_are_limited_by_client() {
    let test = limited(&[("limits.introspections_per_client", "2/1m")]).await;
    let keys = [
        ("one", test.add_confidential_client("one").await),
        ("two", test.add_confidential_client("two").await),
    ];
    let ask = async |(id, key): &(&str, String)| {
        let asked = introspect("x")
            .set("client_id", id)
            .header("x-api-key", key);
        send(&test, HOME, asked).await
    };
    for _ in 0..2 {
        assert_eq!(ask(&keys[0]).await.status, StatusCode::OK);
    }
    is_limited(&ask(&keys[0]).await, "introspections_per_client", 2);
    assert_eq!(ask(&keys[1]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn f50_the_address_behind_trusted_proxies_counts_and_no_other_is_believed() {
    let test = limited(&[
        ("limits.guests_per_address", "1/1m"),
        ("trusted_proxies", "::ffff:10.0.0.0/104, 2001:db8:ffff::/48"),
    ])
    .await;
    // Each counts for the address behind it, whose one guest it brings.
    for (header, value, counts_for) in [
        ("x-forwarded-for", "198.51.100.1", "198.51.100.1"),
        (
            "x-forwarded-for",
            "203.0.113.9, 198.51.100.2",
            "198.51.100.2",
        ),
        (
            "x-forwarded-for",
            "203.0.113.9,198.51.100.3, 10.9.9.9",
            "198.51.100.3",
        ),
        ("x-forwarded-for", "198.51.100.4:1234", "198.51.100.4"),
        (
            "forwarded",
            "for=203.0.113.9, for=198.51.100.5;proto=https",
            "198.51.100.5",
        ),
        ("forwarded", "FOR=\"[2001:db8:5::1]:4711\"", "2001:db8:5::1"),
        (
            "x-forwarded-for",
            "2001:db8:6::1, 2001:db8:ffff::2",
            "2001:db8:6::1",
        ),
    ] {
        let through = || authorize().header(header, value);
        let answer = send(&test, "10.0.0.1", through()).await;
        assert_eq!(answer.status, StatusCode::OK, "{value}");
        let direct = send(&test, counts_for, authorize()).await;
        assert_eq!(direct.status, StatusCode::TOO_MANY_REQUESTS, "{value}");
    }
    // The bucket of a proxy is for what hides its address, or names two.
    for (number, headers) in [
        &[("x-forwarded-for", "unknown")][..],
        &[("forwarded", "for=_hidden")],
        &[
            ("forwarded", "for=198.51.100.50"),
            ("x-forwarded-for", "198.51.100.51"),
        ],
    ]
    .into_iter()
    .enumerate()
    {
        let mut hides = authorize();
        for (name, value) in headers {
            hides = hides.header(name, value);
        }
        let expected = if number == 0 { 200 } else { 429 };
        let status = send(&test, "10.0.0.2", hides).await.status.as_u16();
        assert_eq!(status, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn f50_a_header_that_cannot_be_read_to_its_nearest_hop_says_nothing() {
    let test = limited(&[
        ("limits.guests_per_address", "1/1m"),
        ("trusted_proxies", "10.0.0.0/8"),
    ])
    .await;
    // Nor does what stands within quotes.
    let unreadable = |number: u32| {
        [
            authorize()
                .header("x-forwarded-for", b"\xff, 198.51.100.60")
                .header("forwarded", format!("for=203.0.113.{number}")),
            authorize()
                .header("x-forwarded-for", "198.51.100.60,")
                .header("forwarded", format!("for=203.0.113.{number}")),
            authorize()
                .header("forwarded", b"for=\"\xff, for=198.51.100.60")
                .header("x-forwarded-for", format!("203.0.113.{number}")),
            authorize().header(
                "forwarded",
                format!("for=198.51.100.60;host=\"x,for=203.0.113.{number}\""),
            ),
        ]
    };
    let mut served = 0;
    for number in 1..5 {
        for spoofed in unreadable(number) {
            let answer = send(&test, "10.0.0.3", spoofed).await;
            served += usize::from(answer.status == StatusCode::OK);
        }
    }
    // One of the proxy's own, and one of the only address that was named.
    assert_eq!(served, 2);
    // A stranger that says so is not believed; the operator is told, for it may be a proxy.
    for number in 0..3 {
        let spoofed = authorize().header("x-forwarded-for", format!("198.51.100.{}", 90 + number));
        let expected = if number == 0 { 200 } else { 429 };
        assert_eq!(send(&test, HOME, spoofed).await.status.as_u16(), expected);
    }
}

#[tokio::test]
async fn f50_a_back_end_counts_for_the_visitor_that_it_names_and_never_for_itself() {
    let test = limited(&[("limits.guests_per_address", "1/1m")]).await;
    let key = test.add_confidential_client("back").await;
    let as_back = || {
        authorize()
            .set("client_id", "back")
            .header("x-api-key", &key)
    };
    let named = |address: &str| as_back().header("x-guestpass-visitor", address);
    for _ in 0..3 {
        assert_eq!(send(&test, HOME, as_back()).await.status, StatusCode::OK);
    }
    assert_eq!(send(&test, HOME, named("198.51.100.1")).await.status, 200);
    let again = send(&test, HOME, named("198.51.100.1")).await;
    is_limited(&again, "guests_per_address", 1);
    assert_eq!(send(&test, HOME, named("2001:db8::1")).await.status, 200);
    for bad in [
        "198.51.100.1:80",
        "unknown",
        "198.51.100.1, 198.51.100.2",
        "",
    ] {
        let answer = send(&test, HOME, named(bad)).await;
        assert_eq!(answer.error(), "invalid_request", "{bad}");
    }
    // Without the key nobody is believed.
    let public = || authorize().header("x-guestpass-visitor", "198.51.100.9");
    assert_eq!(send(&test, ELSEWHERE, public()).await.status, 200);
    assert_eq!(send(&test, ELSEWHERE, public()).await.status, 429);
}

#[tokio::test]
async fn f50_limits_can_be_watched_and_switched_off() {
    for (mode, is_counted) in [("monitor", true), ("off", false)] {
        let test = limited(&[("limits.guests_per_address", "1/1m"), ("limits.mode", mode)]).await;
        for _ in 0..3 {
            assert_eq!(send(&test, HOME, authorize()).await.status, StatusCode::OK);
        }
        let metrics = test.metrics().await;
        let counted = "guestpass_rate_limited_total{limit=\"guests_per_address\"} 2";
        assert_eq!(metrics.contains(counted), is_counted, "{metrics}");
    }
}

#[test]
fn f50_a_limit_that_makes_no_sense_is_refused() {
    for text in ["0/1m", "5", "5/0s", "-1/1m"] {
        let environment = vec![(
            "GUESTPASS_LIMITS__GUESTS_PER_ADDRESS".to_owned(),
            text.to_owned(),
        )];
        let problem = Config::from_sources(&[], environment, None).err().unwrap();
        assert!(problem.to_string().contains("1000/2m, or off"), "{problem}");
    }
    assert!(
        Choice::ALL
            .iter()
            .filter(|choice| choice.name().contains("_per_"))
            .count()
            == 6
    );
}

async fn limited(settings: &[(&'static str, &str)]) -> TestApp {
    TestApp::with_config(config(settings)).await
}

/// Sends a request as from that address.
async fn send(test: &TestApp, address: &str, sent: Sent) -> Answer {
    let method = sent.clone().into_http().method().clone();
    let answer = send_unchecked(test, address, sent).await;
    answer.check(&method);
    answer
}

async fn send_unchecked(test: &TestApp, address: &str, sent: Sent) -> Answer {
    let peer = SocketAddr::new(address.parse().unwrap(), 1234);
    let mut request = sent.into_http().map(axum::body::Body::from);
    request.extensions_mut().insert(Peer::from(peer));
    test.send_http(request).await
}

/// Checks a refusal by a limit of `count` in a minute or an hour.
fn is_limited(answer: &Answer, limit: &str, count: u32) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    assert_eq!(answer.error(), "temporarily_unavailable");
    let wait = retry_after(answer).as_secs();
    assert!(wait >= 1, "{answer:?}");
    let policy = answer.header("ratelimit-policy").unwrap();
    assert!(
        policy.starts_with(&format!("\"{limit}\";q={count};w=")),
        "{policy}"
    );
    let left = answer.header("ratelimit").unwrap();
    assert_eq!(left, format!("\"{limit}\";r=0;t={wait}"));
}

fn retry_after(answer: &Answer) -> Duration {
    Duration::from_secs(answer.header("retry-after").unwrap().parse().unwrap())
}
