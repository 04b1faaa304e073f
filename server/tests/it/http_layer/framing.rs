//! C129 to C134 and C136: request smuggling. The boundary between two requests is unambiguous, or the first is refused.

use axum::http::Method;

use super::{header, refused_and_closed, token};
use crate::support::{Connection, SHOP, TestApp, authorize, exchange};

#[tokio::test(flavor = "multi_thread")]
async fn c129_one_content_length_and_a_number() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let form = exchange(&test.code(SHOP).await).encoded();
    let length = form.len();
    let longer = length + 1;
    let twice = |first: usize, second: usize| format!("{first}\r\nContent-Length: {second}");
    for value in [
        twice(length, longer),
        twice(longer, length),
        twice(length, 0),
        twice(0, length),
        format!("{length}, {longer}"),
        format!("{length}x"),
        format!("{length} 0"),
        format!("0x{length:x}"),
        format!("-{length}"),
        format!("+{length}"),
        // 2^64 more than right.
        format!("{}", (1_u128 << 64) + length as u128),
        String::new(),
    ] {
        let bad = token(&format!("Content-Length: {value}\r\n"), &form);
        refused_and_closed(&test, address, &bad, &[400]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c130_content_length_beside_chunks_smuggles_nothing() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let smuggled = String::from_utf8(authorize().wire()).unwrap();
    let lengths = [0, 5, 5 + smuggled.len(), 10_000].map(|n| format!("Content-Length: {n}\r\n"));
    let chunked = "Transfer-Encoding: chunked\r\n";
    for length in &lengths {
        for fields in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
            // The chunks count, and are empty: there are no parameters.
            let bad = token(&fields, "0\r\n\r\n");
            refused_and_closed(&test, address, &bad, &[400]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c131_no_transfer_coding_but_chunked_once() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let form = exchange(&test.code(SHOP).await).encoded();
    let chunks = format!("{:x}\r\n{form}\r\n0\r\n\r\n", form.len());
    let many_fields = "x: x\r\n".repeat(200);
    for coding in [
        "identity",
        "gzip",
        "xchunked",
        "chunkedx",
        "\"chunked\"",
        "chunked;q=1",
        "chunked, chunked",
        "gzip, chunked",
        "identity, chunked",
        "chunked, identity",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "identity\r\nTransfer-Encoding: chunked",
        "",
    ] {
        let field = format!("Transfer-Encoding: {coding}\r\n");
        refused_and_closed(&test, address, &token(&field, &chunks), &[400, 501]).await;
        // This comes before any other refusal: an answer that left the connection open would trust the coding.
        let bad = token(&format!("{many_fields}{field}"), &chunks);
        refused_and_closed(&test, address, &bad, &[400, 501]).await;
    }
    let good = token("Transfer-Encoding: chunked\r\n", &chunks);
    let old = good.replacen("HTTP/1.1", "HTTP/1.0", 1);
    refused_and_closed(&test, address, &old, &[400]).await;
    let mut connection = Connection::open(address).unwrap();
    connection.write(good).unwrap();
    connection.answer_to(&Method::POST).unwrap().tokens();
}

#[tokio::test(flavor = "multi_thread")]
async fn c132_broken_chunks() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let form = exchange(&test.code(SHOP).await).encoded();
    let length = form.len();
    let end = "\r\n0\r\n\r\n";
    for chunks in [
        format!("zz\r\n{form}{end}"),
        format!("-{length:x}\r\n{form}{end}"),
        format!("+{length:x}\r\n{form}{end}"),
        format!("0x{length:x}\r\n{form}{end}"),
        format!("\r\n{form}{end}"),
        format!("{length:x} 0\r\n{form}{end}"),
        // 2^64, and 2^64 more than right.
        format!("10000000000000000\r\n{form}{end}"),
        format!("1{length:016x}\r\n{form}{end}"),
        // A line that ends otherwise than by CRLF.
        format!("{length:x}\n{form}{end}"),
        format!("{length:x};x\n{form}{end}"),
        format!("{length:x}\r\n{form}0\r\n\r\n"),
        format!("{length:x}\r\n{form}\n0\r\n\r\n"),
        format!("{length:x}\r\n{form}\r\n0\r\n"),
        format!("{length:x}\r\n{form}\r\n"),
    ] {
        let bad = token("Transfer-Encoding: chunked\r\n", &chunks);
        refused_and_closed(&test, address, &bad, &[400]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c133_one_host() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let target = authorize().target();
    for hosts in [
        "",
        "Host: id.example\r\nHost: id.example\r\n",
        "Host: id.example\r\nHost: evil.example\r\n",
        "Host: a b\r\n",
        "Host: id.example/\r\n",
        "Host: user@id.example\r\n",
        "Host: http://id.example\r\n",
    ] {
        let bad = format!("GET {target} HTTP/1.1\r\n{hosts}\r\n");
        refused_and_closed(&test, address, &bad, &[400]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c134_field_names_are_tokens() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let target = authorize().target();
    for field in [
        "X-Mark : x",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "X-\0Mark: x",
        "X-\x01Mark: x",
        "X-\x7fMark: x",
        "X-Mark\t: x",
        "X Mark: x",
        "X-Märk: x",
        ": x",
        "X-Mark",
        " X-Mark: x",
        "X-Mark: x\r\n folded",
        "X-Mark: x\0",
        "X-Mark: x\ry",
    ] {
        let bad = header(&target, &format!("{field}\r\n"));
        refused_and_closed(&test, address, &bad, &[400]).await;
    }
}

/// The framing that RFC 9112 (§2.2, §6.3) lets a server take and the HTTP library takes: it can't be told not to. Each is read in one way,
/// so that the request behind it is answered as itself. A change here concerns SECURITY.md.
#[tokio::test(flavor = "multi_thread")]
async fn f58_what_is_taken_though_others_refuse_it() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    for (what, fields, ends_there) in [
        ("bare LF", "Content-Length: {length}\r\n", false),
        (
            "the same length twice",
            "Content-Length: {length}\r\nContent-Length: {length}\r\n",
            false,
        ),
        (
            "a blank behind the size of a chunk",
            "Transfer-Encoding: chunked\r\n",
            false,
        ),
        (
            "a length behind chunks",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            true,
        ),
    ] {
        let form = exchange(&test.code(SHOP).await).encoded();
        let length = form.len();
        let body = if fields.contains("chunked") {
            format!("{length:x} \r\n{form}\r\n0 \r\n\r\n")
        } else {
            form
        };
        let sent = token(&fields.replace("{length}", &length.to_string()), &body);
        let sent = match what {
            "bare LF" => sent.replace("\r\n", "\n"),
            _ => sent,
        };
        let mut connection = Connection::open(address).unwrap();
        connection
            .write([sent.as_bytes(), &authorize().wire()].concat())
            .unwrap();
        if ends_there {
            connection.last_answer().unwrap().tokens();
        } else {
            connection.answer_to(&Method::POST).unwrap().tokens();
            connection.answer_to(&Method::GET).unwrap().text("code");
        }
    }
}

/// As deploy/README.md says.
#[tokio::test(flavor = "multi_thread")]
async fn f67_http2_in_clear_is_refused_by_a_close() {
    let test = TestApp::new().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    connection
        .write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    assert!(connection.is_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn c136_pipelined_requests_are_answered_in_order() {
    let test = TestApp::new().await;
    let mut connection = Connection::open(test.listen().await).unwrap();
    let code = test.code(SHOP).await;
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let state = format!("request {n}");
        let echo = format!("\"{state}\"");
        let (request, status, text) = match n % 10 {
            0 => (authorize().unset("state"), 400, "state is missing"),
            2 => (authorize().unset("client_id"), 400, "client_id is missing"),
            4 => (
                authorize().path("/oauth"),
                404,
                "there is nothing at this path",
            ),
            6 => (
                exchange(&code).set("scope", "x"),
                400,
                "there are no scopes",
            ),
            8 => (
                exchange(&code).header("content-type", "text/plain"),
                415,
                "urlencoded",
            ),
            _ => (authorize().set("state", &state), 200, &*echo),
        };
        requests.extend(request.wire());
        expected.push((status, text.to_owned()));
    }
    let before = test.count("profiles").await;
    connection.write(requests).unwrap();
    for (n, (status, text)) in expected.into_iter().enumerate() {
        let answer = connection.answer_to(&Method::GET).unwrap();
        let body = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, status, "request {n}: {body}");
        assert!(body.contains(&text), "request {n}: {body}");
    }
    assert_eq!(test.count("profiles").await, before + 50);
    test.granted(exchange(&code)).await;
}
