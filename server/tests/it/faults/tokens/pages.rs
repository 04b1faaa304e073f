//! Pages that nobody asked make no guests, as far as their browsers say what they are.

use axum::http::StatusCode;
use guestpass_core::client::ClientSettings;

use crate::support::{SHOP, Sent, TestApp, authorize, exchange, profile, refresh, revoke, verify};

const PAGE: &str = "https://shop.example";
const APP: &str = "app://localhost";

/// Adds Fetch Metadata headers as a browser sends them.
fn by_browser(site: &str, mode: &str, destination: &str) -> Sent {
    authorize()
        .header("sec-fetch-site", site)
        .header("sec-fetch-mode", mode)
        .header("sec-fetch-dest", destination)
}

#[tokio::test]
async fn f38_what_no_page_could_read_makes_no_guest() {
    let test = TestApp::new().await;
    let origins = ClientSettings {
        add_origins: vec![PAGE.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.set_client(SHOP, origins).await;
    for site in ["cross-site", "same-site", "same-origin", "none"] {
        for (mode, destination) in [
            ("no-cors", "image"),
            ("no-cors", "script"),
            ("no-cors", "style"),
            ("no-cors", "empty"),
            ("no-cors", "audio"),
            ("navigate", "document"),
            ("navigate", "iframe"),
            ("navigate", "empty"),
            ("nested-navigate", "frame"),
            ("websocket", "empty"),
            ("cors", "font"),
            ("cors", "script"),
            ("cors", "image"),
            ("same-origin", "worker"),
        ] {
            test.refused(by_browser(site, mode, destination), "invalid_request")
                .await;
            let known = by_browser(site, mode, destination).header("origin", PAGE);
            test.refused(known, "invalid_request").await;
        }
    }
    for partly in [
        authorize().header("sec-fetch-mode", "no-cors"),
        authorize().header("sec-fetch-dest", "image"),
        authorize().header("sec-fetch-mode", "navigate"),
    ] {
        test.refused(partly, "invalid_request").await;
    }
    // A fetch of a page whose origin the client hasn't registered can't read the answer either.
    for origin in [
        "https://evil.example",
        "null",
        "https://shop.example.evil.example",
    ] {
        for site in ["cross-site", "same-site"] {
            let foreign = by_browser(site, "cors", "empty").header("origin", origin);
            test.refused(foreign, "invalid_request").await;
        }
        // A browser that says no more than the origin.
        let foreign = authorize().header("origin", origin);
        test.refused(foreign, "invalid_request").await;
    }
}

#[tokio::test]
async fn f38_a_fetch_an_app_and_a_back_end_make_guests() {
    let test = TestApp::new().await;
    let origins = ClientSettings {
        add_origins: vec![PAGE.parse().unwrap(), APP.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.set_client(SHOP, origins).await;
    test.add_client("app", ClientSettings::default()).await;
    for request in [
        authorize(),
        by_browser("cross-site", "cors", "empty").header("origin", PAGE),
        by_browser("same-site", "cors", "empty").header("origin", PAGE),
        by_browser("same-origin", "cors", "empty"),
        by_browser("same-origin", "same-origin", "empty"),
        by_browser("none", "cors", "empty"),
        // As Node's fetch does it, and an app that calls itself something.
        authorize().header("sec-fetch-mode", "cors"),
        authorize().header("origin", APP),
        // Of a client that has registered no origin.
        authorize()
            .set("client_id", "app")
            .header("origin", "https://app.example"),
    ] {
        let answer = test.send(request.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{request:?} {answer:?}");
    }
    // A browser that loads ahead is told to come again, whatever else it says.
    let prefetch = by_browser("cross-site", "no-cors", "empty").header("sec-purpose", "prefetch");
    let answer = test.send(prefetch).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn f38_what_no_page_could_read_ends_nothing() {
    let test = TestApp::new().await;
    let (code, tokens) = (test.code(SHOP).await, test.guest().await);
    let erase = || profile(&tokens.access_token).method("DELETE");
    let asked = || {
        [
            exchange(&code),
            exchange(&code).in_query(),
            refresh(&tokens.refresh_token),
            refresh(&tokens.refresh_token).in_query(),
            revoke(&tokens.refresh_token),
            revoke(&tokens.access_token),
            erase(),
        ]
    };
    for (name, value) in [
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-mode", "nested-navigate"),
        ("sec-fetch-mode", "websocket"),
        ("sec-fetch-dest", "document"),
        ("sec-fetch-dest", "iframe"),
        ("sec-fetch-dest", "image"),
        ("sec-fetch-dest", "webidentity"),
    ] {
        for request in asked() {
            test.refused(request.header(name, value), "invalid_request")
                .await;
        }
    }
    for (name, value) in [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("x-moz", "prefetch"),
        ("x-purpose", "preview"),
    ] {
        for request in asked() {
            let answer = test.send(request.header(name, value)).await;
            let outcome = (answer.status, answer.error());
            let refused = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable");
            assert_eq!(outcome, refused, "{name}: {value}");
        }
    }
    // Only what makes or ends nothing by its answer may go without one: a beacon of a page that is left.
    for request in [exchange(&code), refresh(&tokens.refresh_token), erase()] {
        let unread = request.header("sec-fetch-mode", "no-cors");
        test.refused(unread, "invalid_request").await;
    }
    assert!(test.is_live(&tokens).await);
    // A gateway repeats the headers of whatever the browser asks for.
    let page = verify(&tokens.access_token)
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-purpose", "prefetch");
    assert_eq!(test.send(page).await.status, StatusCode::OK);
    let fetched = refresh(&tokens.refresh_token)
        .header("sec-fetch-mode", "cors")
        .header("sec-fetch-dest", "empty")
        .header("sec-fetch-site", "cross-site");
    let tokens = test.granted(fetched).await;
    let beacon = revoke(&tokens.refresh_token)
        .header("sec-fetch-mode", "no-cors")
        .header("sec-fetch-dest", "empty");
    assert_eq!(test.send(beacon).await.status, StatusCode::OK);
    assert!(!test.is_live(&tokens).await);
}
