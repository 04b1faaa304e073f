//! Section 7 of the cases: the headers of every answer, CORS, and secrets that the log must not contain.

use std::sync::Arc;

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass::listen::Settings;
use guestpass_core::client::ClientSettings;
use rustls::version::TLS13;

use crate::support::certified::{Certified, shake_hands};
use crate::support::{
    Answer, Connection, SHOP, Sent, TestApp, WRONG_VERIFIER, authorize, exchange, introspect,
    profile, refresh, request, revoke, verify,
};

mod logs;

/// The web page of [`SHOP`] in these tests.
const SHOP_PAGE: &str = "https://shop.example";
/// A text that requests put wherever they may choose one.
const MARK: &str = "mark-of-what-was-sent";

fn origins(origins: &[&str]) -> ClientSettings {
    ClientSettings {
        add_origins: origins
            .iter()
            .map(|origin| origin.parse().unwrap())
            .collect(),
        ..ClientSettings::default()
    }
}

/// Lists requests that are refused, each with its status, from the outermost middleware to the innermost.
fn refused() -> Vec<(&'static str, u16, Sent)> {
    let long = MARK.repeat(1000);
    let json = exchange(MARK).header("content-type", "application/json");
    let basic = STANDARD.encode(format!("{MARK}:{MARK}"));
    vec![
        (
            "framing",
            400,
            authorize().header("transfer-encoding", MARK),
        ),
        ("host", 400, authorize().header("host", format!("{MARK} "))),
        ("target", 414, authorize().set("foo", &long)),
        ("header", 431, authorize().header("x-mark", &long)),
        ("path", 404, request("GET", &format!("/{MARK}"))),
        ("method", 405, authorize().method(MARK)),
        (
            "prefetch",
            503,
            authorize().set("state", MARK).header("purpose", "prefetch"),
        ),
        ("body", 413, exchange(MARK).set("foo", &long)),
        (
            "media type",
            415,
            exchange(MARK).header("content-type", MARK),
        ),
        ("JSON", 400, json.body(format!("{{{MARK}"))),
        (
            "encoding",
            400,
            authorize().set_raw("state", &format!("{MARK}%zz")),
        ),
        ("parameter twice", 400, authorize().also("state", MARK)),
        (
            "parameter too long",
            400,
            exchange(&"x".repeat(513)).set("foo", MARK),
        ),
        ("client", 400, authorize().set("client_id", MARK)),
        (
            "client at token",
            400,
            exchange(MARK).set("client_id", MARK),
        ),
        ("API key", 400, exchange(MARK).header("x-api-key", MARK)),
        (
            "Basic",
            401,
            exchange(MARK)
                .unset("client_id")
                .header("authorization", format!("Basic {basic}")),
        ),
        ("redirect URI", 400, authorize().set("redirect_uri", MARK)),
        ("response type", 400, authorize().set("response_type", MARK)),
        ("challenge", 400, authorize().set("code_challenge", MARK)),
        ("grant type", 400, exchange(MARK).set("grant_type", MARK)),
        ("scope", 400, exchange(MARK).set("scope", MARK)),
        ("verifier", 400, exchange(MARK).set("code_verifier", MARK)),
        ("code", 400, exchange(MARK)),
        ("refresh token", 400, refresh(MARK)),
    ]
}

/// Returns an answer of every kind, to requests from a web page of that origin.
async fn answers(origin: &str) -> Vec<(&'static str, Answer)> {
    let test = TestApp::new().await;
    test.set_client(SHOP, origins(&[SHOP_PAGE])).await;
    let tokens = test.guest().await;
    let (code, stolen) = (test.code(SHOP).await, test.code(SHOP).await);
    let is_known = origin == SHOP_PAGE;
    let mut requests = refused();
    requests.extend([
        ("authorize", if is_known { 200 } else { 400 }, authorize()),
        ("exchange", 200, exchange(&code)),
        ("refresh", 200, refresh(&tokens.refresh_token)),
        ("health", 200, request("GET", "/livez")),
        ("readiness", 200, request("GET", "/readyz")),
        ("options", 204, authorize().method("OPTIONS")),
        (
            "wrong verifier",
            400,
            exchange(&stolen).set("code_verifier", WRONG_VERIFIER),
        ),
    ]);
    let mut answers = Vec::new();
    for (what, status, request) in requests {
        let answer = test.send(request.header("origin", origin)).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        answers.push((what, answer));
    }
    if is_known {
        test.random.panic_next();
        let asked = authorize().header("origin", origin);
        let answer = test.send(asked).await;
        assert_eq!(answer.status, 500);
        answers.push(("panic", answer));
    }
    test.sql("alter table grants rename to elsewhere").await;
    let request = refresh(&tokens.refresh_token).header("origin", origin);
    let answer = test.send(request).await;
    assert_eq!(answer.status, 503);
    answers.push(("database", answer));
    answers
}

#[tokio::test]
async fn c140_no_answer_about_a_token_may_be_stored() {
    let test = TestApp::new().await;
    let key = test.add_confidential_client("api").await;
    let tokens = test.guest().await;
    let by_api = |token: &str| {
        introspect(token)
            .set("client_id", "api")
            .header("x-api-key", &key)
    };
    for (status, request) in [
        (200, by_api(&tokens.access_token)),
        (200, by_api("garbage")),
        (400, by_api("").unset("token")),
        (401, introspect(&tokens.access_token)),
        (413, by_api(&"a".repeat(17_000))),
        (405, by_api("").method("GET")),
        (200, verify(&tokens.access_token)),
        (401, verify("garbage")),
        (200, profile(&tokens.access_token)),
        (401, profile("garbage")),
        (200, revoke(&tokens.access_token)),
        (200, revoke("garbage")),
        (400, revoke("").unset("token")),
        (
            400,
            revoke(&tokens.refresh_token).header("x-api-key", "wrong"),
        ),
        (415, revoke("garbage").header("content-type", "text/plain")),
        (405, revoke("garbage").method("GET")),
        (204, revoke("garbage").method("OPTIONS")),
        (
            204,
            profile(&test.guest().await.access_token).method("DELETE"),
        ),
    ] {
        let answer = test.send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("pragma"), Some("no-cache"));
    }
}

#[tokio::test]
async fn c140_no_answer_may_be_stored() {
    for (what, answer) in answers(SHOP_PAGE).await {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(answer.header("pragma"), Some("no-cache"), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c141_no_answer_is_anything_but_data() {
    for (what, answer) in answers(SHOP_PAGE).await {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            (
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'",
            ),
        ] {
            assert_eq!(answer.header(name), Some(value), "{what}");
        }
    }
    // The HTTP library adds its fields at the end.
    let test = TestApp::new().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    let good = connection.send(&authorize()).unwrap();
    connection.write("BAD\r\n\r\n").unwrap();
    let early = connection.last_answer().unwrap();
    for (answer, status) in [(good, 200), (early, 400)] {
        assert_eq!(answer.status, status);
        for name in ["server", "x-powered-by", "via", "strict-transport-security"] {
            assert_eq!(answer.header(name), None, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f57_over_tls_every_answer_asks_for_tls_from_then_on() {
    let test = TestApp::new().await;
    let certified = Certified::new();
    let settings = Settings {
        tls: Some(certified.tls().read().unwrap()),
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    let client = Arc::new(certified.client(&[&TLS13]));
    let connect = || Connection::over(shake_hands(address, &client).unwrap());
    let asks_for_tls = |answer: &Answer| {
        let hsts = answer.header("strict-transport-security");
        assert_eq!(hsts, Some("max-age=31536000"), "{answer:?}");
    };
    let mut connection = connect();
    for request in [
        authorize(),
        exchange("nonsense"),
        request("GET", "/nothing"),
    ] {
        asks_for_tls(&connection.send(&request).unwrap());
    }
    // What isn't a request is answered by the HTTP library, on this connection and on new ones.
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(300));
    for (mut connection, raw, status) in [
        (connection, "nonsense\r\n\r\n", 400),
        (connect(), "GET / HTTP/1.1\r\nno field\r\n\r\n", 400),
        (connect(), many.as_str(), 431),
    ] {
        connection.write(raw).unwrap();
        let answer = connection.answer_to(&Method::GET).unwrap();
        assert_eq!(answer.status, status, "{answer:?}");
        asks_for_tls(&answer);
    }
}

#[tokio::test]
async fn c142_an_error_gives_nothing_away() {
    let allowed = |byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    for (what, answer) in answers(SHOP_PAGE).await {
        if !answer.status.is_client_error() && !answer.status.is_server_error() {
            continue;
        }
        let json = answer.json();
        assert_eq!(json.as_object().unwrap().len(), 2, "{what}: {json}");
        for member in ["error", "error_description"] {
            assert!(answer.text(member).bytes().all(allowed), "{what}: {json}");
        }
        let body = json.to_string().to_lowercase();
        for telling in [
            MARK,
            "select",
            "table",
            "sql",
            "elsewhere",
            ".rs",
            "/tmp",
            "src/",
            "panic",
            "asked for",
        ] {
            assert!(!body.contains(telling), "{what} tells {telling}: {body}");
        }
    }
}

#[tokio::test]
async fn c143_a_guest_is_told_of_to_the_pages_of_its_client() {
    let test = TestApp::new().await;
    test.set_client(SHOP, origins(&[SHOP_PAGE])).await;
    test.add_client("other", origins(&["https://other.example"]))
        .await;
    for origin in [
        SHOP_PAGE,
        "https://other.example",
        "https://evil.example",
        "null",
    ] {
        for method in ["GET", "DELETE"] {
            // The answer is given all the same: an origin is no proof of anything.
            let request = profile(&test.guest().await.access_token).method(method);
            let answer = test.send(request.header("origin", origin)).await;
            assert!(answer.status.is_success(), "{answer:?}");
            assert_eq!(answer.header("vary"), Some("Origin"));
            if origin == SHOP_PAGE {
                let allowed = answer.header("access-control-allow-origin");
                assert_eq!(allowed, Some(SHOP_PAGE));
            } else {
                assert_no_page_may_read(&answer, origin);
            }
        }
    }
}

#[tokio::test]
async fn c143_a_preflight_knows_the_origins_of_all_clients() {
    let test = TestApp::new().await;
    test.set_client(SHOP, origins(&[SHOP_PAGE])).await;
    test.add_client("app", origins(&["capacitor://localhost"]))
        .await;
    let others = [
        "https://evil.example",
        "null",
        "http://shop.example",
        "https://shop.example:1",
    ];
    for (path, methods) in [
        ("/oauth/token", "POST, OPTIONS"),
        ("/api/oauth/token", "POST, OPTIONS"),
        ("/oauth/authorize", "GET, OPTIONS"),
        ("/oauth/revoke", "POST, OPTIONS"),
        ("/oauth/profile", "GET, HEAD, DELETE, OPTIONS"),
        ("/api/oauth/profile", "GET, HEAD, DELETE, OPTIONS"),
    ] {
        let preflight = request("OPTIONS", path)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        for origin in [SHOP_PAGE, "capacitor://localhost"] {
            let answer = test.send(preflight.clone().header("origin", origin)).await;
            assert_eq!(answer.status, 204);
            for (name, value) in [
                ("access-control-allow-origin", origin),
                ("access-control-allow-methods", methods),
                ("vary", "Origin"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{origin} {path}");
            }
            let headers = listed(&answer, "access-control-allow-headers");
            for name in [
                "authorization",
                "content-type",
                "x-api-key",
                "x-dressipi-jwt",
            ] {
                assert!(headers.contains(&name.to_owned()), "{headers:?}");
            }
        }
        for origin in others {
            let answer = test.send(preflight.clone().header("origin", origin)).await;
            assert_eq!(answer.status, 204);
            assert_no_page_may_read(&answer, origin);
            assert_eq!(answer.header("vary"), Some("Origin"), "{origin} {path}");
        }
    }
    // The same holds for every answer that is given before the client is known. There are no rate limits yet.
    for (what, status, request) in refused() {
        if !matches!(status, 413 | 414 | 415 | 431 | 503) {
            continue;
        }
        let known = test.send(request.clone().header("origin", SHOP_PAGE)).await;
        assert_eq!(
            known.header("access-control-allow-origin"),
            Some(SHOP_PAGE),
            "{what}"
        );
        assert_eq!(known.header("vary"), Some("Origin"), "{what}");
        for origin in others {
            let answer = test.send(request.clone().header("origin", origin)).await;
            assert_no_page_may_read(&answer, origin);
            assert_eq!(answer.header("vary"), Some("Origin"), "{what}");
        }
    }
}

#[tokio::test]
async fn f61_a_page_that_is_traced_may_call() {
    let test = TestApp::new().await;
    test.set_client(SHOP, origins(&[SHOP_PAGE])).await;
    let tracing = ["traceparent", "tracestate", "baggage", "sentry-trace"];
    for path in ["/oauth/token", "/oauth/authorize", "/api/oauth/profile"] {
        let preflight = request("OPTIONS", path)
            .header("origin", SHOP_PAGE)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", tracing.join(","));
        let allowed = listed(&test.send(preflight).await, "access-control-allow-headers");
        for name in tracing {
            assert!(allowed.contains(&name.to_owned()), "{path}: {allowed:?}");
        }
        // Nothing that could be a credential of a page's, and not everything.
        for name in ["cookie", "*", "x-guestpass-sub"] {
            assert!(!allowed.contains(&name.to_owned()), "{path}: {allowed:?}");
        }
    }
    let traced = tracing.iter().fold(authorize(), |request, name| {
        request.header(
            name,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
    });
    let answer = test.send(traced.header("origin", SHOP_PAGE)).await;
    assert_eq!(answer.status, 200);
    let exposed = listed(&answer, "access-control-expose-headers");
    for name in [
        "retry-after",
        "x-request-id",
        "ratelimit",
        "ratelimit-policy",
    ] {
        assert!(exposed.contains(&name.to_owned()), "{exposed:?}");
    }
}

/// Returns the names that a header lists.
fn listed(answer: &Answer, name: &str) -> Vec<String> {
    let list = answer.header(name).unwrap_or_default();
    list.split(", ").map(str::to_owned).collect()
}

fn assert_no_page_may_read(answer: &Answer, origin: &str) {
    for name in answer.headers.keys() {
        assert!(
            !name.as_str().starts_with("access-control-"),
            "{origin}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn c144_an_answer_is_for_the_pages_of_its_client() {
    const OTHER_PAGE: &str = "https://other.example";
    let test = TestApp::new().await;
    test.set_client(SHOP, origins(&[SHOP_PAGE])).await;
    test.add_client("other", origins(&[OTHER_PAGE])).await;
    for (page, readable) in [(SHOP_PAGE, true), (OTHER_PAGE, false)] {
        let (tokens, code) = (test.guest().await, test.code(SHOP).await);
        for (request, status) in [
            (authorize(), if readable { 200 } else { 400 }),
            (authorize().unset("state"), 400),
            (authorize().header("x-api-key", "wrong"), 400),
            (exchange(&code).set("code_verifier", WRONG_VERIFIER), 400),
            (exchange(&code), 200),
            (exchange(&code).in_json(), 400),
            (refresh(&tokens.refresh_token), 200),
            (refresh("wrong").in_query(), 400),
            (refresh("wrong").header("x-api-key", "wrong"), 400),
        ] {
            let answer = test.send(request.header("origin", page)).await;
            assert_eq!(answer.status, status, "{page}: {answer:?}");
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, readable.then_some(page), "{answer:?}");
            assert_eq!(answer.header("vary"), Some("Origin"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn c145_no_answer_is_for_every_page() {
    for origin in [
        SHOP_PAGE,
        "https://evil.example",
        "null",
        "*",
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil.example",
        "https://evilshop.example",
        "https://SHOP.example",
        "https://shop.example/",
        "https://shop.example, https://evil.example",
    ] {
        for (what, answer) in answers(origin).await {
            let allowed = answer.header("access-control-allow-origin");
            assert!(
                allowed.is_none_or(|allowed| allowed == SHOP_PAGE && origin == SHOP_PAGE),
                "{what} from {origin}: {answer:?}"
            );
            assert_eq!(
                answer.header("access-control-allow-credentials"),
                None,
                "{what}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c148_a_panic_ends_one_request_and_nothing_else() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let tokens = test.guest().await;
    let code = test.code(SHOP).await;
    let mut connection = Connection::open(address).unwrap();
    let mut other = Connection::open(address).unwrap();
    let under_way = refresh(&test.guest().await.refresh_token).wire();
    let (first, rest) = under_way.split_at(under_way.len() - 10);
    other.write(first).unwrap();
    let before = test.rows().await;
    for request in [authorize(), exchange(&code), refresh(&tokens.refresh_token)] {
        test.random.panic_next();
        let answer = connection.send(&request).unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.error()),
            (500, "server_error")
        );
        assert_eq!(answer.header("connection"), None, "{answer:?}");
        let body = String::from_utf8(answer.body).unwrap();
        for telling in ["asked for", "panic", "backtrace", ".rs", "thread", "task"] {
            assert!(!body.contains(telling), "{body}");
        }
    }
    assert_eq!(test.rows().await, before);
    other.write(rest).unwrap();
    other.answer_to(&Method::POST).unwrap().tokens();
    for request in [authorize(), exchange(&code), refresh(&tokens.refresh_token)] {
        assert_eq!(connection.send(&request).unwrap().status, 200);
    }
}
