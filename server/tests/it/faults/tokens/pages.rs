//! Pages that nobody asked make no guests, as far as their browsers say what they are.

use axum::http::StatusCode;
use guestpass_core::client::ClientSettings;

use crate::support::{SHOP, Sent, TestApp, authorize};

const PAGE: &str = "https://shop.example";

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
    }
}

#[tokio::test]
async fn f38_a_fetch_an_app_and_a_back_end_make_guests() {
    let test = TestApp::new().await;
    let origins = ClientSettings {
        add_origins: vec![PAGE.parse().unwrap()],
        ..ClientSettings::default()
    };
    test.set_client(SHOP, origins).await;
    for request in [
        authorize(),
        by_browser("cross-site", "cors", "empty").header("origin", PAGE),
        by_browser("same-site", "cors", "empty").header("origin", PAGE),
        by_browser("same-origin", "cors", "empty"),
        by_browser("same-origin", "same-origin", "empty"),
        by_browser("none", "cors", "empty"),
        // As Node's fetch does it, and an app that calls itself something.
        authorize().header("sec-fetch-mode", "cors"),
        authorize().header("origin", "app://localhost"),
    ] {
        let answer = test.send(request.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{request:?} {answer:?}");
    }
    // A browser that loads ahead is told to come again, whatever else it says.
    let prefetch = by_browser("cross-site", "no-cors", "empty").header("sec-purpose", "prefetch");
    let answer = test.send(prefetch).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
}
