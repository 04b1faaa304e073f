//! C146 and C147: the log contains no secret, and no request can forge a record in it.

use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{MARK, refused};
use crate::support::{
    CHALLENGE, Connection, SHOP, Sent, TestApp, TextLog, VERIFIER, WRONG_VERIFIER, authorize,
    exchange, lines_of, refresh, request,
};

/// Names a secret that a careless server would log: this text, or this member of its answer.
#[derive(Clone)]
enum Leak {
    Text(String),
    Answer(&'static str),
}

async fn careless(State(leak): State<Arc<Mutex<Leak>>>, request: Request, next: Next) -> Response {
    let (parts, body) = next.run(request).await.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let text = match leak.lock().unwrap().clone() {
        Leak::Text(text) => text,
        Leak::Answer(member) => {
            let answer: Value = serde_json::from_slice(&body).unwrap();
            answer[member].to_string()
        }
    };
    tracing::trace!(target: "guestpass::careless", text);
    Response::from_parts(parts, body.into())
}

#[tokio::test]
async fn c146_a_server_that_logs_a_secret_is_found_out() {
    let leak = Arc::new(Mutex::new(Leak::Text("nothing".to_owned())));
    let mut test = TestApp::new().await;
    let layer = from_fn_with_state(Arc::clone(&leak), careless);
    test.router = test.router.layer(layer);
    let test = Arc::new(test);
    let tokens = test.guest().await;
    let code = test.code(SHOP).await;

    let secret = "c146-what-must-not-be-logged";
    let text = || Leak::Text(secret.to_owned());
    let in_query = authorize().unset("code_challenge").set("state", secret);
    let in_form = exchange("x").set("code_verifier", "x").set("state", secret);
    let refreshed = refresh(&tokens.refresh_token);
    for (what, leak_now, request) in [
        ("code", text(), exchange(secret)),
        (
            "code_verifier",
            text(),
            exchange("x").set("code_verifier", secret),
        ),
        (
            "code_challenge",
            text(),
            authorize().set("code_challenge", secret),
        ),
        ("refresh_token", text(), refresh(secret)),
        ("x-api-key", text(), authorize().header("x-api-key", secret)),
        (
            "x-dressipi-jwt",
            text(),
            authorize().header("x-dressipi-jwt", secret),
        ),
        (
            "authorization",
            text(),
            authorize().header("authorization", secret),
        ),
        ("cookie", text(), authorize().header("cookie", secret)),
        ("query", Leak::Text(in_query.target()), in_query),
        ("form", Leak::Text(in_form.encoded()), in_form),
        ("issued code", Leak::Answer("code"), authorize()),
        (
            "issued refresh_token",
            Leak::Answer("refresh_token"),
            exchange(&code),
        ),
        (
            "issued access_token",
            Leak::Answer("access_token"),
            refreshed,
        ),
    ] {
        *leak.lock().unwrap() = leak_now;
        let test = Arc::clone(&test);
        let sending = tokio::spawn(async move { test.send(request).await });
        let Err(panic) = sending.await else {
            panic!("{what} was logged, and nobody noticed");
        };
        let panic = panic.into_panic();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(
            message.starts_with("the log holds a secret"),
            "{what}: {message}"
        );
    }
}

#[tokio::test]
async fn c146_a_request_is_a_line_that_holds_nothing_of_it() {
    // A member that is not here holds nothing that a request can choose, or the test must know why.
    const MEMBERS: [&str; 14] = [
        "timestamp",
        "level",
        "target",
        "message",
        "request.id",
        "client.id",
        "grant.id",
        "decision",
        "endpoint",
        "method",
        "status",
        "refusal",
        "peer",
        "elapsed_us",
    ];
    let test = TestApp::new().await;
    let (code, tokens) = (test.code(SHOP).await, test.guest().await);
    let guess = exchange(&code).set("code_verifier", WRONG_VERIFIER);
    let mut requests = vec![
        (authorize().set("state", MARK), "GET", 200),
        (guess.in_query(), "POST", 400),
        (exchange(&code).in_query(), "POST", 200),
        (refresh(&tokens.refresh_token).in_query(), "POST", 200),
    ];
    requests.extend(refused().into_iter().map(|(_, status, request)| {
        let method = if request.target().starts_with("/oauth/token") {
            "POST"
        } else {
            "GET"
        };
        (request, method, status)
    }));
    for (request, method, status) in requests {
        let request = request.header("user-agent", MARK).header("origin", MARK);
        let answer = test.send(request).await;
        let lines = lines_of(answer.log_name());
        let [line] = &lines[..] else {
            panic!("not one line: {lines:?}");
        };
        assert_eq!(line["status"], status, "{line}");
        assert!(
            [method, "other"].contains(&line["method"].as_str().unwrap()),
            "{line}"
        );
        for name in line.as_object().unwrap().keys() {
            assert!(MEMBERS.contains(&&**name), "{name} in {line}");
        }
        let line = line.to_string();
        for part in [MARK, "?", "=", VERIFIER, WRONG_VERIFIER, CHALLENGE] {
            assert!(!line.contains(part), "{part} in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c146_nothing_is_logged_of_what_is_no_request() {
    let mark = "c146-sent-on-the-wire";
    let test = TestApp::new().await;
    let address = test.listen().await;
    let header = format!("POST /oauth/token?code={mark} HTTP/1.1\r\nHost: id.example\r\n");
    let form = format!("5\r\ncode={mark}");
    for bad in [
        format!("{header}X-Api-Key : {mark}\r\n\r\n"),
        format!("{header}X-Api-Key: {mark}\x01\r\n\r\n"),
        format!("{header}Cookie: {mark}\r\nContent-Length: +5\r\n\r\n"),
        format!("{header}Transfer-Encoding: {mark}\r\n\r\n"),
        format!("{header}Transfer-Encoding: chunked\r\n\r\n{form}"),
        format!("{header}Host: {mark}\r\n\r\n"),
        format!("{header}{}\r\n", format!("Cookie: {mark}\r\n").repeat(300)),
        format!("{mark} / HTTP/9.9\r\n\r\n"),
    ] {
        let mut connection = Connection::open(address).unwrap();
        connection.write(&bad).unwrap();
        let answer = connection.last_answer();
        answer.unwrap_or_else(|error| panic!("{bad:?}: {error}"));
    }
    assert_eq!(lines_of(mark), Vec::<Value>::new());
}

/// Lists requests that put a forged record wherever they can.
fn forgeries() -> Vec<Sent> {
    let line_end = "x\r\n2027-01-15T08:00:00Z ERROR FAKE-RECORD";
    let bytes = [b"x\t\x80\x9b\xff".as_slice(), b"FAKE-RECORD"].concat();
    let mut requests = vec![
        authorize().set("state", line_end),
        authorize().set("client_id", line_end),
        authorize().set(line_end, "x"),
        exchange(line_end),
        refresh(line_end).in_query(),
        exchange("x").in_json().set("client_id", line_end),
        request("GET", "/x%0aFAKE-RECORD"),
        request("FAKE-RECORD|`'", "/oauth/token"),
        authorize().header(
            "authorization",
            format!("Basic {}", STANDARD.encode(line_end)),
        ),
    ];
    for name in [
        "user-agent",
        "referer",
        "origin",
        "x-request-id",
        "x-forwarded-for",
        "traceparent",
        "x-api-key",
        "content-type",
        "cookie",
    ] {
        requests.push(exchange("x").header(name, "x%0aFAKE-RECORD"));
        requests.push(exchange("x").header(name, &bytes));
    }
    requests
}

#[tokio::test]
async fn c147_a_request_is_one_record_whatever_it_says() {
    let test = TestApp::new().await;
    for request in forgeries() {
        let what = format!("{request:?}");
        let answer = test.send(request).await;
        let lines = lines_of(answer.log_name());
        assert_eq!(lines.len(), 1, "{what}");
    }
    // Each is JSON, so none was torn into two.
    lines_of("");
}

#[tokio::test]
async fn c147_a_request_is_one_line_of_text_whatever_it_says() {
    let test = TestApp::new().await;
    let text = TextLog::start();
    let requests = forgeries();
    let count = requests.len();
    for request in requests {
        test.send(request).await;
    }
    let text = text.read();
    assert_eq!(text.lines().count(), count, "{text}");
    assert!(
        text.lines()
            .all(|line| line.contains(" INFO guestpass::request: answered endpoint=")),
        "{text}"
    );
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c147_control_bytes_make_no_record() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    for byte in ['\0', '\x07', '\x08', '\x0b', '\x1b', '\x7f', '\r'] {
        let target = authorize().target();
        let agent = format!("User-Agent: x{byte}FAKE-BYTES");
        let bad = format!("GET {target} HTTP/1.1\r\nHost: id.example\r\n{agent}\r\n\r\n");
        let mut connection = Connection::open(address).unwrap();
        connection.write(bad).unwrap();
        assert_eq!(connection.last_answer().unwrap().status, 400, "{byte:?}");
    }
    assert_eq!(lines_of("FAKE-BYTES"), Vec::<Value>::new());
}
