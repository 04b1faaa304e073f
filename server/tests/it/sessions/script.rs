//! The JavaScript client that the server serves.

use super::*;

#[tokio::test]
async fn c360_the_script_is_served_to_every_page() {
    let shop = Shop::new().await;
    let package = include_bytes!("../../../../sdk/js/guestpass.min.js");
    let mut etags = Vec::new();
    for path in [
        "/oauth/guestpass.js",
        "/api/oauth/guestpass.js",
        "/oauth/guestpass.js?client_id=web",
    ] {
        for origin in ["https://anywhere.example", ORIGIN] {
            let answer = shop
                .test
                .send(request("GET", path).header("origin", origin))
                .await;
            assert_eq!(
                (answer.status, &answer.body[..]),
                (StatusCode::OK, &package[..])
            );
            assert_eq!(answer.header("content-type"), Some("text/javascript"));
            assert_eq!(answer.header("cache-control"), Some("public, max-age=600"));
            assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
            assert_eq!(answer.header("access-control-allow-credentials"), None);
            etags.push(answer.header("etag").unwrap().to_owned());
        }
    }
    etags.dedup();
    assert_eq!(etags.len(), 1);
    let known = request("GET", "/oauth/guestpass.js").header("if-none-match", &etags[0]);
    assert_eq!(shop.test.send(known).await.status, StatusCode::NOT_MODIFIED);
}
