//! Section 5 of the cases, as far as it is about what is issued: the access token and its encoding.

use std::collections::HashSet;

use guestpass::config::Config;
use guestpass_core::client::ClientSettings;
use guestpass_core::policy::Policy;
use serde_json::{Value, json};

use crate::support::{ISSUER, SHOP, TestApp, exchange, refresh};

#[tokio::test]
async fn c096_the_header_and_the_claims_under_hs256() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let tokens = test.granted(exchange(&code)).await;
    let header = tokens.header.as_object().unwrap();
    let members = HashSet::from(["alg", "typ", "kid"]);
    assert_eq!(
        header.keys().map(String::as_str).collect::<HashSet<_>>(),
        members
    );
    assert_eq!(
        (&header["alg"], &header["typ"]),
        (&json!("HS256"), &json!("at+jwt"))
    );
    // Random: a thumbprint of a symmetric key would say something about it.
    assert_eq!(header["kid"].as_str().unwrap().len(), 16);

    let claims = tokens.claims.as_object().unwrap();
    let members = HashSet::from([
        "iss",
        "sub",
        "aud",
        "client_id",
        "iat",
        "exp",
        "jti",
        "sid",
        "subn",
    ]);
    assert_eq!(
        claims.keys().map(String::as_str).collect::<HashSet<_>>(),
        members
    );
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!(ISSUER), &json!(ISSUER))
    );
    assert_eq!(claims["client_id"], SHOP);
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        86_400
    );
    assert!(
        tokens.sub().parse::<i64>().unwrap() > 0,
        "a decimal number, as a string"
    );
    assert!(is_uuid_v4(&claims["subn"]), "{}", claims["subn"]);

    // The claims of guest and grant stay; the token is another.
    let next = test.granted(refresh(&tokens.refresh_token)).await;
    for (name, stays) in [("sub", true), ("subn", true), ("sid", true), ("jti", false)] {
        assert_eq!(next.claims[name] == tokens.claims[name], stays, "{name}");
    }
    assert_eq!(next.header, tokens.header);
}

#[tokio::test]
async fn c097_ten_thousand_tokens_decode_with_plain_base64_and_none_is_like_another() {
    let test = TestApp::with_policy(Policy {
        max_unproven: 1000,
        ..Policy::default()
    })
    .await;
    let guest = test.guest().await;
    let mut seen = HashSet::new();
    for _ in 0..10_000 {
        let tokens = test.granted(refresh(&guest.refresh_token)).await;
        let token = &tokens.access_token;
        let payload = token.split('.').nth(1).unwrap();
        assert!(
            payload.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{payload}"
        );
        assert!(token.len() < 1024, "{} bytes", token.len());
        assert!(
            seen.insert(tokens.claims["jti"].to_string()),
            "one id came twice"
        );
    }
}

#[tokio::test]
async fn c097_the_longest_token_fits_where_clients_keep_it() {
    let issuer = format!("https://{}", "i".repeat(128 - "https://".len()));
    let environment = vec![
        ("GUESTPASS_ISSUER".to_owned(), issuer),
        ("GUESTPASS_TOKENS__AUDIENCE".to_owned(), "a".repeat(64)),
    ];
    let config = Config::from_sources(&[], environment, None).unwrap();
    let test = TestApp::with_config(config).await;
    let client_id = "c".repeat(128);
    test.add_client(&client_id, ClientSettings::default()).await;
    let code = test.code(&client_id).await;
    // The helper checks that the whole answer keeps to 1,536 bytes.
    let tokens = test
        .granted(exchange(&code).set("client_id", &client_id))
        .await;
    assert!(
        tokens.access_token.len() < 1024,
        "{} bytes",
        tokens.access_token.len()
    );
    assert_eq!(tokens.claims["aud"].as_array().unwrap().len(), 2);
}

fn is_uuid_v4(value: &Value) -> bool {
    let text = value.as_str().unwrap();
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    let hexadecimal = |c: char| c == '-' || c.is_ascii_digit() || matches!(c, 'a'..='f');
    groups == [8, 4, 4, 4, 12]
        && text.chars().all(hexadecimal)
        && text.as_bytes()[14] == b'4'
        && b"89ab".contains(&text.as_bytes()[19])
}
