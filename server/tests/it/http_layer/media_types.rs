//! Headers that describe a body: where there is none, and as HTTP libraries write them.

use super::unchanged;
use crate::support::{SHOP, Sent, TestApp, exchange, introspect, refresh, revoke};

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn f59_nothing_has_no_type_and_no_coding() {
    let test = TestApp::new().await;
    for fields in [
        &[("content-type", FORM)][..],
        &[("content-type", "application/json")],
        &[("content-type", "application/json; charset=utf-16")],
        &[("content-type", "text/plain")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "")],
        &[
            ("content-type", "text/plain"),
            ("content-type", "text/html"),
        ],
        &[("content-encoding", "gzip")],
        &[("content-language", "de"), ("content-location", "/x")],
    ] {
        let with = |request: Sent| {
            let add = |request: Sent, (name, value): &(&str, &str)| request.header(name, value);
            fields.iter().fold(request, add)
        };
        let code = test.code(SHOP).await;
        let tokens = test.granted(with(exchange(&code).in_query())).await;
        test.granted(with(refresh(&tokens.refresh_token).in_query()))
            .await;
        // Where the query is no place for parameters, they are missing or misplaced, whatever the header says.
        test.refused(with(revoke("x").in_query()), "invalid_request")
            .await;
        let nothing = revoke("").unset("token").unset("client_id").body("");
        let answer = test.refused(with(nothing), "invalid_request").await;
        assert_eq!(answer.text("error_description"), "token is missing");
        unchanged(&test, with(introspect("x").body("")), 401).await;
    }
}

#[tokio::test]
async fn f60_a_charset_that_contains_ascii_is_no_obstacle_to_ascii() {
    let test = TestApp::new().await;
    for charset in [
        "us-ascii",
        "US-ASCII",
        "ascii",
        "iso-8859-1",
        "ISO-8859-1",
        "\"iso-8859-15\"",
        "ISO_8859-1:1987",
        "latin1",
        "windows-1252",
        "Cp1252",
        "utf8",
        "UTF-8",
        "\"Utf-8\"",
        "'utf-8'",
    ] {
        let code = test.code(SHOP).await;
        let form = exchange(&code).header("content-type", format!("{FORM}; charset={charset}"));
        let tokens = test.granted(form).await;
        let json = format!("application/json;Charset={charset}");
        let refresh = refresh(&tokens.refresh_token).in_json();
        test.granted(refresh.header("content-type", json)).await;
    }
}

#[tokio::test]
async fn f60_another_charset_and_what_is_no_ascii_are_refused() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let request = |charset: &str| {
        exchange(&code).header("content-type", format!("{FORM}; charset={charset}"))
    };
    for charset in [
        "utf-16",
        "utf-16le",
        "utf-32",
        "utf-7",
        "cp037",
        "iso-2022-jp",
        "x",
        "\"\"",
        "",
        "utf-8; charset=utf-16",
    ] {
        unchanged(&test, request(charset), 415).await;
    }
    let spaced = format!("{FORM}; charset = utf-16");
    unchanged(&test, exchange(&code).header("content-type", spaced), 415).await;
    // As it stands, and not percent-encoded: what it means depends on the charset.
    let body = format!("{}&foo=\u{e9}", exchange(&code).encoded());
    for charset in ["iso-8859-1", "us-ascii", "windows-1252"] {
        unchanged(&test, request(charset).body(&body), 415).await;
    }
    test.granted(request("utf-8").body(&body)).await;
}
