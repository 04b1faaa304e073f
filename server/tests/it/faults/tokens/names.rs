//! Names of parameters that a proxy may read otherwise.

use axum::http::StatusCode;

use crate::support::{SHOP, TestApp, authorize, exchange, percent, refresh, revoke, verify};

#[tokio::test]
async fn f35_a_name_with_a_control_character_is_refused() {
    let test = TestApp::new().await;
    let (code, tokens) = (test.code(SHOP).await, test.guest().await);
    // NUL, the others below the space, DEL, and those of Latin-1.
    for name in [
        "code\0",
        "\0",
        "\0code",
        "co\0de",
        "foo\0",
        "code\n",
        "foo\r\n",
        "foo\t",
        "\u{1b}[2J",
        "client_id\u{7f}",
        "foo\u{80}",
        "foo\u{85}",
        "caf\u{e9}\u{9f}",
    ] {
        for request in [
            exchange(&code),
            exchange(&code).in_json(),
            exchange(&code).in_query(),
            refresh(&tokens.refresh_token),
            refresh(&tokens.refresh_token).in_json(),
            authorize(),
            revoke(&tokens.refresh_token),
            revoke(&tokens.refresh_token).in_json(),
        ] {
            for value in ["Y", ""] {
                test.refused(request.clone().also(name, value), "invalid_request")
                    .await;
            }
        }
        let query = format!("/oauth/token?{}=Y", percent(name));
        test.refused(exchange(&code).path(&query), "invalid_request")
            .await;
        for mode in ["strict", "soft"] {
            let ask = verify(&tokens.access_token).set("mode", mode);
            let answer = test.send(ask.also(name, "Y")).await;
            let outcome = (answer.status, answer.error());
            assert_eq!(outcome, (StatusCode::UNAUTHORIZED, "invalid_request"));
        }
    }
    // Other names that nobody knows are passed over.
    let request = exchange(&code).also("caf\u{e9} \u{a0}", "x");
    test.granted(request).await;
    assert!(test.is_live(&tokens).await);
}
