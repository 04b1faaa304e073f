//! Names of parameters that a proxy may read otherwise.

use axum::http::StatusCode;

use crate::support::{
    SHOP, TestApp, authorize, exchange, percent, profile, refresh, request, revoke, verify,
};

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

#[tokio::test]
async fn f35_a_value_with_a_control_character_is_refused_even_if_nobody_knows_the_name() {
    let test = TestApp::new().await;
    let (code, tokens) = (test.code(SHOP).await, test.guest().await);
    for value in ["\0", "a\0b", "a\nb", "\u{1b}[2J", "\u{7f}", "\u{85}"] {
        for request in [
            exchange(&code),
            exchange(&code).in_json(),
            exchange(&code).in_query(),
            exchange(&code).path(&format!("/oauth/token?foo={}", percent(value))),
            refresh(&tokens.refresh_token),
            authorize(),
            revoke(&tokens.refresh_token),
            revoke(&tokens.refresh_token).in_json(),
        ] {
            test.refused(request.also("foo", value), "invalid_request")
                .await;
        }
        let ask = verify(&tokens.access_token).set("foo", value);
        let answer = test.send(ask).await;
        let outcome = (answer.status, answer.error());
        assert_eq!(outcome, (StatusCode::UNAUTHORIZED, "invalid_request"));
    }
    test.granted(exchange(&code).also("foo", "caf\u{e9} \u{a0}"))
        .await;
    assert!(test.is_live(&tokens).await);
}

#[tokio::test]
async fn f35_control_characters_are_refused_where_no_parameter_is_known() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    let endpoints = [
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/oauth/jwks"),
        ("GET", "/api/oauth/jwks"),
        ("GET", "/oauth/openapi.json"),
        ("GET", "/oauth/profile"),
        ("OPTIONS", "/oauth/profile"),
        ("DELETE", "/oauth/profile"),
        ("DELETE", "/api/oauth/profile"),
    ];
    for query in [
        "x%00",
        "%00",
        "x=%00",
        "sub%00=1",
        "a=b&x=1%0a2",
        "%7Fx=1",
        "x=%C2%85",
        "%zz%00",
        "x=%ff%1B",
    ] {
        for (method, path) in endpoints {
            let path = format!("{path}?{query}");
            let answer = test.send(request(method, &path).bearer(&tokens.access_token));
            let answer = answer.await;
            let outcome = (answer.status, answer.error());
            let refused = (StatusCode::BAD_REQUEST, "invalid_request");
            assert_eq!(outcome, refused, "{method} {path}");
        }
    }
    assert!(test.is_live(&tokens).await);
    // Any other mistake in a query that nobody reads harms nobody.
    for query in ["", "%zz", "x=%ff", "a&a", "caf%C3%A9=%20+"] {
        for path in ["/livez", "/oauth/jwks", "/oauth/profile"] {
            let asked = profile(&tokens.access_token).path(&format!("{path}?{query}"));
            let answer = test.send(asked).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}?{query}");
        }
    }
}
