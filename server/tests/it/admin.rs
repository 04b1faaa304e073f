//! The operators' API.

use std::net::IpAddr;

use axum::http::{Method, StatusCode};
use guestpass::config::{Admin, Config, Host, OperatorToken};
use guestpass_core::client::ClientSettings;

use crate::support::{Answer, SHOP, Sent, TestApp, config, exchange, refresh, request};

#[tokio::test]
async fn metrics_count_what_happened_and_name_nobody() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    test.granted(refresh(&guest.refresh_token)).await;
    test.granted(refresh(&guest.refresh_token)).await;
    test.refused(exchange("nonsense"), "invalid_grant").await;

    let text = test.metrics().await;
    for line in [
        r#"guestpass_answers_total{endpoint="/oauth/authorize",status="200"} 1"#,
        r#"guestpass_answers_total{endpoint="/oauth/token",status="400"} 1"#,
        r#"guestpass_refusals_total{refusal="credential_unknown"} 1"#,
        r#"guestpass_tokens_total{grant_type="authorization_code",decision="advance"} 1"#,
        r#"guestpass_tokens_total{grant_type="refresh_token",decision="advance"} 1"#,
        r#"guestpass_tokens_total{grant_type="refresh_token",decision="repeat"} 1"#,
        // The time (twice), the mark of the journal, a guest, an exchange and a refresh; a repeat writes nothing.
        "guestpass_batch_writes_sum 6.0",
        "guestpass_clock_trusted 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(
        !text.contains("shop") && !text.contains(guest.sub()),
        "{text}"
    );
}

#[tokio::test]
async fn the_public_api_has_no_metrics() {
    let test = TestApp::new().await;
    assert_eq!(test.send(request("GET", "/metrics")).await.status, 404);
}

fn on(address: &str) -> Admin {
    Admin::on((address.parse::<IpAddr>().unwrap(), 9090).into())
}

/// Checks what every answer must have. Metrics aren't JSON.
fn check(answer: &Answer) {
    let is_text = answer.header("content-type") == Some(OPEN_METRICS);
    answer.check(if is_text { &Method::HEAD } else { &Method::GET });
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn metrics_at(host: &str) -> Sent {
    request("GET", "/metrics").header("host", host)
}

#[tokio::test]
async fn f65_the_operators_api_goes_by_its_own_names() {
    let test = TestApp::new().await;
    let named = Admin {
        hosts: ["metrics.shop.example", "192.0.2.7"]
            .map(|host| Host::of(host).unwrap())
            .into(),
        ..on("192.0.2.1")
    };
    for (admin, host, is_own) in [
        (on("127.0.0.1"), "127.0.0.1:9090", true),
        (on("127.0.0.1"), "localhost:9090", true),
        (on("127.0.0.1"), "LOCALHOST", true),
        (on("127.0.0.1"), "[::1]:9090", true),
        (on("127.0.0.1"), "evil.example", false),
        (on("127.0.0.1"), "localhost.evil.example", false),
        (on("127.0.0.1"), "127.0.0.1.evil.example:9090", false),
        (on("127.0.0.1"), "192.0.2.1", false),
        (on("127.0.0.1"), "", false),
        (named.clone(), "Metrics.shop.example:9090", true),
        (named.clone(), "192.0.2.1:9090", true),
        (named.clone(), "[::ffff:192.0.2.1]", true),
        (named.clone(), "metrics.shop.example.", true),
        (named.clone(), "192.0.2.7:1", true),
        (named.clone(), "192.0.2.2", false),
        (named, "shop.example", false),
        (on("0.0.0.0"), "192.0.2.1", true),
        (on("0.0.0.0"), "evil.example", false),
    ] {
        for path in ["/metrics", "/livez", "/readyz", "/nothing"] {
            let asked = request("GET", path).header("host", host);
            let answer = test.ask_operators(admin.clone(), asked).await;
            check(&answer);
            let expected = match (is_own, path) {
                (false, _) => StatusCode::MISDIRECTED_REQUEST,
                (true, "/nothing") => StatusCode::NOT_FOUND,
                (true, _) => StatusCode::OK,
            };
            assert_eq!(answer.status, expected, "{host}{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn f65_the_operators_api_answers_as_the_public_one_does() {
    let test = TestApp::new().await;
    let origins = ClientSettings {
        add_origins: vec!["https://shop.example".parse().unwrap()],
        ..ClientSettings::default()
    };
    test.set_client(SHOP, origins).await;
    for (asked, status) in [
        (metrics_at("localhost"), 200),
        (request("POST", "/metrics").header("host", "localhost"), 405),
        (
            request("GET", "/oauth/authorize").header("host", "localhost"),
            404,
        ),
        (
            metrics_at("localhost").header("x-long", "x".repeat(9000)),
            431,
        ),
    ] {
        let asked = asked.header("origin", "https://shop.example");
        let answer = test.ask_operators(on("127.0.0.1"), asked).await;
        check(&answer);
        assert_eq!(answer.status, status, "{answer:?}");
        // No page may read it, whoever has registered it.
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn f65_metrics_ask_for_the_token_and_health_does_not() {
    const TOKEN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let test = TestApp::new().await;
    let admin = Admin {
        token: OperatorToken::parse(TOKEN),
        ..on("127.0.0.1")
    };
    let guest = test.guest().await.access_token;
    for (token, is_right) in [
        (Some(TOKEN), true),
        (Some(&TOKEN[1..]), false),
        (Some("another one"), false),
        (Some(&guest), false),
        (None, false),
    ] {
        let mut asked = metrics_at("localhost");
        if let Some(token) = token {
            asked = asked.header("authorization", format!("Bearer {token}"));
        }
        let answer = test.ask_operators(admin.clone(), asked).await;
        check(&answer);
        if is_right {
            assert_eq!(answer.status, StatusCode::OK);
        } else {
            assert_eq!(answer.error(), "invalid_token");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    for path in ["/livez", "/readyz"] {
        let asked = request("GET", path).header("host", "localhost");
        let answer = test.ask_operators(admin.clone(), asked).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn f65_health_can_be_taken_off_the_public_listener() {
    let settings = [
        ("admin_listen", "127.0.0.1:9090"),
        ("public_health", "false"),
    ];
    let test = TestApp::with_config(config(&settings)).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(test.send(request("GET", path)).await.status, 404);
        let asked = request("GET", path).header("host", "localhost");
        let answer = test.ask_operators(on("127.0.0.1"), asked).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[test]
fn f65_what_others_can_reach_needs_a_token_and_tls() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let good = file("good", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    let short = file("short", "secret\n");
    let many = file("many", &"two words ".repeat(9));
    let absent = directory.path().join("absent");
    let shared = ("ADMIN_LISTEN", "0.0.0.0:9090");
    let loopback = ("ADMIN_LISTEN", "127.0.0.1:9090");
    fn with(file: &str) -> (&str, &str) {
        ("ADMIN__TOKEN_FILE", file)
    }
    let tls = |how| ("ADMIN__TLS", how);
    for (settings, hint) in [
        (vec![shared], Some("Set admin.token_file")),
        (vec![shared, tls("in-front")], Some("Set admin.token_file")),
        (vec![shared, with(&good)], Some("Set admin.tls")),
        (
            vec![shared, with(&good), tls("on")],
            Some("Set tls.certificate_file"),
        ),
        (vec![shared, with(&good), tls("in-front")], None),
        (vec![loopback], None),
        (vec![loopback, with(&good)], None),
        (vec![loopback, with(&short)], Some("at least 32")),
        (vec![loopback, with(&many)], Some("at least 32")),
        (
            vec![loopback, with(absent.to_str().unwrap())],
            Some("No such file"),
        ),
        (vec![loopback, tls("maybe")], Some("off, on or in-front")),
        (
            vec![loopback, ("ADMIN__HOSTS", "https://id.example")],
            Some("no host name"),
        ),
        (
            vec![loopback, ("ADMIN__HOSTS", "https://u:secret@x/")],
            Some("no host name"),
        ),
        (vec![loopback, ("ADMIN__HOSTS", "a.example.,[::1]")], None),
        (vec![tls("in-front")], Some("Set admin_listen")),
        (vec![loopback, with("secret/secret")], Some("No such file")),
        (
            vec![("ADMIN__HOSTS", "id.example")],
            Some("Set admin_listen"),
        ),
        (vec![with(&good)], Some("Set admin_listen")),
        (vec![("PUBLIC_HEALTH", "false")], Some("Set admin_listen")),
    ] {
        let settings = settings
            .into_iter()
            .map(|(name, value)| (format!("GUESTPASS_{name}"), value.to_owned()));
        let read = Config::from_sources(&[], settings.collect(), None);
        match (read, hint) {
            (Ok(_), None) => {}
            (Err(error), Some(hint)) => {
                let problem = error.to_string();
                assert!(
                    problem.contains(hint) && !problem.contains("secret"),
                    "{problem}"
                );
            }
            (read, hint) => panic!("{hint:?}: {:?}", read.err()),
        }
    }
}
