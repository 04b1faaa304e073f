//! Section 6 of the cases: methods, media types, limits, framing and paths. Tests of rules that the HTTP library takes
//! part in use a real connection.

use std::fmt::Write;
use std::net::SocketAddr;

use axum::http::Method;
use serde_json::json;

use crate::support::{
    Answer, Connection, REDIRECT_URI, SHOP, Sent, TestApp, VERIFIER, authorize, exchange,
    introspect, profile, request, revoke,
};

mod framing;
mod media_types;

/// Sends a request, which must be answered with that status and change no row.
async fn unchanged(test: &TestApp, request: Sent, status: u16) -> Answer {
    let before = test.rows().await;
    let what = format!("{request:?}");
    let answer = test.send(request).await;
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert_eq!(test.rows().await, before, "{what}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn c116_authorize_answers_get_and_nothing_else() {
    let test = TestApp::new().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    for path in ["/oauth/authorize", "/api/oauth/authorize"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "HEAD", "TRACE", "FOO"] {
            let request = authorize().path(path).method(method);
            let request = request.header("x-mark", "echoed");
            let answer = connection.send(&request).unwrap();
            assert_eq!(answer.status, 405, "{method}");
            assert_eq!(answer.header("allow"), Some("GET, OPTIONS"), "{method}");
            let body = String::from_utf8(answer.body).unwrap();
            assert!(!body.contains("echoed"), "{method}: {body}");
        }
    }
    assert_eq!(test.rows().await, Vec::<String>::new());
}

#[tokio::test]
async fn c117_token_answers_post_and_nothing_else() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
        let request = exchange(&code).in_query().method(method);
        let answer = unchanged(&test, request, 405).await;
        assert_eq!(answer.header("allow"), Some("POST, OPTIONS"), "{method}");
    }
    test.granted(exchange(&code)).await;
}

#[tokio::test]
async fn c118_a_form_or_a_json_object_of_strings() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let object = json!({
        "grant_type": "authorization_code",
        "client_id": SHOP,
        "redirect_uri": REDIRECT_URI,
        "code": code,
        "code_verifier": VERIFIER,
    });
    let object = object.to_string();
    let with = |members: &str| object.replacen('{', &format!("{{{members},"), 1);
    let json = "application/json";
    for (media_type, body, status) in [
        (json, format!("[{object}]"), 400),
        (json, with(r#""foo":1"#), 400),
        (json, with(r#""client_id":"shop""#), 400),
        (json, object.replace(r#""shop""#, "1"), 400),
        ("text/plain", object.clone(), 415),
        ("text/plain", exchange(&code).encoded(), 415),
        ("multipart/form-data; boundary=x", multipart(&code), 415),
    ] {
        let request = exchange(&code)
            .header("content-type", media_type)
            .body(&body);
        let answer = unchanged(&test, request, status).await;
        assert_eq!(answer.error(), "invalid_request", "{body}");
    }
    test.granted(exchange(&code).header("content-type", json).body(&object))
        .await;
}

/// Renders a token request as `multipart/form-data` with the boundary `x`.
fn multipart(code: &str) -> String {
    let mut body = String::new();
    for (name, value) in [
        ("grant_type", "authorization_code"),
        ("client_id", SHOP),
        ("redirect_uri", REDIRECT_URI),
        ("code", code),
        ("code_verifier", VERIFIER),
    ] {
        let disposition = "Content-Disposition: form-data";
        write!(
            body,
            "--x\r\n{disposition}; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
        .unwrap();
    }
    body + "--x--\r\n"
}

#[tokio::test]
async fn c119_the_media_type_in_every_spelling() {
    let test = TestApp::new().await;
    for media_type in [
        "application/x-www-form-urlencoded; charset=UTF-8",
        "application/x-www-form-urlencoded;charset=utf-8",
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "application/x-www-form-urlencoded; charset=\"utf-8\"",
        "application/x-www-form-urlencoded ; Charset=\"UTF-8\" ; foo=\"bar\"",
    ] {
        let code = test.code(SHOP).await;
        test.granted(exchange(&code).header("content-type", media_type))
            .await;
    }
}

#[tokio::test]
async fn c120_no_other_charset_and_no_content_coding() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let form = "application/x-www-form-urlencoded";
    for (media_type, codings) in [
        ("application/x-www-form-urlencoded; charset=utf-16", &[][..]),
        ("application/x-www-form-urlencoded; charset=\"UTF-16\"", &[]),
        ("application/json; charset=utf-16", &[]),
        (form, &["gzip"]),
        (form, &["br"]),
        (form, &["identity", "gzip"]),
    ] {
        let mut request = exchange(&code).header("content-type", media_type);
        for coding in codings {
            request = request.header("content-encoding", coding);
        }
        unchanged(&test, request, 415).await;
    }
    test.granted(exchange(&code)).await;
}

#[tokio::test]
async fn c121_a_body_says_what_it_is() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    unchanged(&test, exchange(&code).body(exchange(&code).encoded()), 415).await;
    // An empty body needs no media type: the parameters are in the query.
    test.granted(exchange(&code).in_query()).await;
}

/// Renders a token request for the wire: a header with these fields, an empty line, and the rest.
fn token(fields: &str, body: &str) -> String {
    format!(
        "POST /oauth/token HTTP/1.1\r\nHost: id.example\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n{fields}\r\n{body}"
    )
}

/// Renders an authorization request for the wire, with this target and these fields.
fn header(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: id.example\r\n{fields}\r\n")
}

/// Sends a bad request and a good one behind it. The bad one gets one of these statuses, no row changes, and the
/// connection ends there: the good one might as well be part of the bad one.
async fn refused_and_closed(test: &TestApp, address: SocketAddr, bad: &str, statuses: &[u16]) {
    let before = test.rows().await;
    let mut connection = Connection::open(address).unwrap();
    let sent = [bad.as_bytes(), &authorize().wire()].concat();
    // It may refuse before it has read all of it.
    let _ = connection.write(sent);
    let answer = connection.last_answer();
    let answer = answer.unwrap_or_else(|error| panic!("{bad:?}: {error}"));
    assert!(
        statuses.contains(&answer.status.as_u16()),
        "{bad:?}\n{answer:?}"
    );
    assert_eq!(test.rows().await, before, "{bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c122_a_body_too_long_is_refused_before_it_is_read() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let code = test.code(SHOP).await;
    let form = exchange(&code).encoded();
    for bad in [
        // The body itself is never sent.
        token("Content-Length: 16385\r\n", ""),
        token("Content-Length: 10000000000\r\n", ""),
        // Nor invited.
        token(
            "Content-Length: 10000000000\r\nExpect: 100-continue\r\n",
            "",
        ),
        token(
            "Transfer-Encoding: chunked\r\n",
            &format!("4001\r\n{}", "a".repeat(0x4001)),
        ),
    ] {
        refused_and_closed(&test, address, &bad, &[413]).await;
    }
    let room = 16 * 1024 - form.len() - "&foo=".len();
    let longest = exchange(&code).set("foo", &"x".repeat(room));
    assert_eq!(longest.encoded().len(), 16 * 1024);
    let mut connection = Connection::open(address).unwrap();
    connection.send(&longest).unwrap().tokens();
}

#[tokio::test]
async fn c123_many_parameters_or_a_long_name() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    // Broken behind the limit: only a server that reads on would see it.
    let many = format!("{}%zz", "&".repeat(10_000));
    let members = format!("{{{}", r#""a":"","#.repeat(1_000));
    let long_name = "a".repeat(15 * 1024);
    let form = "application/x-www-form-urlencoded";
    for (media_type, body, status) in [
        (form, many, 400),
        (form, "a=1&".repeat(10_000), 413),
        (form, long_name.clone(), 400),
        ("application/json", members, 400),
        ("application/json", format!(r#"{{"{long_name}":""}}"#), 400),
    ] {
        let request = exchange(&code)
            .header("content-type", media_type)
            .body(&body);
        let answer = unchanged(&test, request, status).await;
        let text = match status {
            413 => "the body is too long",
            _ => "too many parameters, or a name that is too long",
        };
        assert_eq!(answer.text("error_description"), text, "{}", &body[..20]);
    }
    test.granted(exchange(&code)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c124_a_header_has_a_longest() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let target = authorize().target();
    let field = |name: &str, length: usize| format!("{name}: {}\r\n", "x".repeat(length));
    let fields = |count: usize, length: usize| field("x", length).repeat(count);
    // With the field `Host`, which takes 18 bytes.
    let longest = fields(2, 8000) + &field("y", 16 * 1024 - 18 - 2 * 8005 - 5);
    for (what, fields, status) in [
        ("17 KiB", fields(17, 1024 - 5), 431),
        ("200 fields", fields(200, 1), 431),
        ("a field of 9 KiB", fields(1, 9 * 1024), 431),
        ("more than the library would keep", fields(70, 1024), 431),
        (
            "more fields than the library would keep",
            fields(300, 1),
            431,
        ),
        ("16 KiB", longest.clone(), 200),
        ("16 KiB and a byte", longest.replacen("y: ", "yy: ", 1), 431),
        ("100 fields", fields(99, 1), 200),
        ("101 fields", fields(100, 1), 431),
        ("a field of 8 KiB", fields(1, 8 * 1024), 200),
    ] {
        let before = test.rows().await;
        let mut connection = Connection::open(address).unwrap();
        let _ = connection.write(header(&target, &fields));
        let answer = connection.answer_to(&Method::GET).unwrap();
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(test.rows().await == before, status == 431, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c125_a_target_has_a_longest() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let target = authorize().target();
    let padded = |length: usize| {
        let room = length - target.len() - "&foo=".len();
        format!("{target}&foo={}", "x".repeat(room))
    };
    for (what, target, status) in [
        ("9 KiB", padded(9 * 1024), 414),
        ("8 KiB and a byte", padded(8 * 1024 + 1), 414),
        ("8 KiB", padded(8 * 1024), 200),
        ("a path of 9 KiB", format!("/{}", "x".repeat(9 * 1024)), 414),
        (
            "a host of 9 KiB",
            format!("http://{}{target}", "x".repeat(9 * 1024)),
            414,
        ),
    ] {
        let before = test.rows().await;
        let mut connection = Connection::open(address).unwrap();
        let _ = connection.write(header(&target, ""));
        let answer = connection.answer_to(&Method::GET).unwrap();
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(test.rows().await == before, status == 414, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c135_a_path_has_one_spelling() {
    let test = TestApp::new().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    let code = test.code(SHOP).await;
    let before = test.rows().await;
    for path in [
        "//oauth/authorize",
        "/oauth//authorize",
        "/oauth/./authorize",
        "/oauth/../oauth/authorize",
        "/oauth%2Fauthorize",
        "/oauth/%61uthorize",
        "/OAUTH/AUTHORIZE",
        "/oauth/Authorize",
        "/oauth/authorize/",
        "/oauth/authorize;x",
        "/oauth;x/authorize",
        "/oauth/authorize%20",
        "/oauth/authorize%3F",
    ] {
        let token = path
            .replace("authorize", "token")
            .replace("AUTHORIZE", "TOKEN");
        for request in [authorize().path(path), exchange(&code).path(&token)] {
            let answer = connection.send(&request).unwrap();
            assert_eq!(answer.status, 404, "{path}");
        }
    }
    assert_eq!(test.rows().await, before);

    for origin in [
        "http://id.example",
        "https://id.example:443",
        "http://evil.example",
    ] {
        let absolute = authorize().path(&format!("{origin}/api/oauth/authorize"));
        let code = connection.send(&absolute).unwrap().text("code");
        let absolute = exchange(&code).path(&format!("{origin}/oauth/token"));
        connection.send(&absolute).unwrap().tokens();
    }
}

#[tokio::test]
async fn c137_options_say_what_is_allowed() {
    let test = TestApp::new().await;
    let (code, tokens) = (test.code(SHOP).await, test.guest().await);
    for (request, allow) in [
        (authorize(), "GET, OPTIONS"),
        (authorize().path("/api/oauth/authorize"), "GET, OPTIONS"),
        (exchange(&code), "POST, OPTIONS"),
        (exchange(&code).in_query(), "POST, OPTIONS"),
        (exchange(&code).path("/api/oauth/token"), "POST, OPTIONS"),
        (revoke(&tokens.refresh_token), "POST, OPTIONS"),
        (introspect(&tokens.access_token), "POST, OPTIONS"),
        (profile(&tokens.access_token), "GET, HEAD, DELETE, OPTIONS"),
        (request("GET", "/oauth/jwks"), "GET, HEAD, OPTIONS"),
        (request("GET", "/api/oauth/jwks"), "GET, HEAD, OPTIONS"),
        (
            request("GET", "/.well-known/oauth-authorization-server"),
            "GET, HEAD, OPTIONS",
        ),
        (request("GET", "/livez"), "GET, HEAD, OPTIONS"),
        (request("GET", "/readyz"), "GET, HEAD, OPTIONS"),
    ] {
        let answer = unchanged(&test, request.method("OPTIONS"), 204).await;
        assert_eq!(answer.header("allow"), Some(allow));
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert!(answer.body.is_empty());
    }
    test.granted(exchange(&code)).await;
    assert!(test.is_live(&tokens).await);
}

#[tokio::test]
async fn every_endpoint_answers_its_own_methods_and_no_other() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    for (request, others) in [
        (revoke(&tokens.refresh_token), &["GET", "HEAD", "PUT"][..]),
        (introspect(&tokens.access_token), &["GET", "HEAD", "PUT"]),
        (profile(&tokens.access_token), &["POST", "PUT"]),
        (request("GET", "/oauth/jwks"), &["POST", "PUT"]),
        (
            request("GET", "/.well-known/oauth-authorization-server"),
            &["POST", "PUT"],
        ),
    ] {
        for method in others.iter().chain(&["TRACE", "FOO"]) {
            let request = request.clone().header("x-mark", "echoed").method(method);
            let answer = unchanged(&test, request, 405).await;
            let allow = answer.header("allow").unwrap();
            assert!(!allow.contains(method), "{method}: {allow}");
            let body = String::from_utf8(answer.body).unwrap();
            assert!(!body.contains("echoed"), "{method}: {body}");
        }
    }
    assert!(test.is_live(&tokens).await);
}

#[tokio::test]
async fn c138_nothing_else_is_here() {
    let test = TestApp::new().await;
    for path in [
        "/",
        "/nothing",
        "/.git/config",
        "/oauth",
        "/oauth/",
        "/oauth/authorize.json",
        "/api",
        "/api/livez",
        "/livez/",
        "/favicon.ico",
    ] {
        for method in ["GET", "POST", "OPTIONS", "FOO"] {
            let answer = unchanged(&test, authorize().path(path).method(method), 404).await;
            assert_eq!(answer.error(), "invalid_request", "{method} {path}");
            assert_eq!(answer.header("allow"), None, "{method} {path}");
        }
    }
}
