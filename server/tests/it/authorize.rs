//! Section 1 of the cases: the authorization endpoint and its parameters.

use guestpass_core::client::{Change, ClientSettings};
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::{
    Answer, CHALLENGE, REDIRECT_URI, SHOP, Sent, TestApp, authorize, exchange, lines_of, percent,
    refresh, request,
};

/// Lists the six parameters, each with a wrong value.
const PARAMETERS: [(&str, &str); 6] = [
    ("redirect_uri", "https://evil.example/"),
    ("response_type", "token"),
    ("client_id", "other"),
    ("state", "b"),
    ("code_challenge", OTHER_CHALLENGE),
    ("code_challenge_method", "plain"),
];

/// The challenge of RFC 7636 appendix B.
const OTHER_CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Sends a request that must give a code, that `state`, and one new guest.
async fn authorized(test: &TestApp, request: Sent, state: &str) -> Answer {
    let (row, before) = (format!("{request:?}"), test.count("profiles").await);
    let answer = test.send(request).await;
    assert_eq!(answer.status, 200, "{row} {answer:?}");
    assert_eq!(answer.json().as_object().unwrap().len(), 2, "{row}");
    assert_eq!(answer.text("state"), state, "{row}");
    assert!(!answer.text("code").is_empty(), "{row}");
    let after = test.counts().await;
    assert_eq!(after, (before + 1, before + 1), "{row}");
    answer
}

/// Sends one request for each value of a parameter; each must be refused.
async fn each_refused(name: &str, values: &[&str], error: &str) {
    let test = TestApp::new().await;
    for value in values {
        test.refused(authorize().set(name, value), error).await;
    }
}

#[tokio::test]
async fn c001_a_code_and_the_state_for_a_new_guest() {
    let test = TestApp::new().await;
    let answer = test.send(authorize()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json().as_object().unwrap().len(), 2);
    assert_eq!(answer.text("state"), "a1F5Kdf5Dhn123");
    // Sealed whole: without the key, none of its 384 bits is known. C036 tests their distribution.
    let code = URL_SAFE_NO_PAD.decode(answer.text("code")).unwrap();
    assert_eq!(code.len(), 48);
    assert_eq!(test.counts().await, (1, 1));
}

#[tokio::test]
async fn c002_order_encoding_and_base_path_do_not_matter() {
    let test = TestApp::new().await;
    let right = authorize();
    for path in ["/oauth/authorize", "/api/oauth/authorize"] {
        for urn in [REDIRECT_URI, &percent(REDIRECT_URI)] {
            for first in 0..PARAMETERS.len() {
                let mut names = PARAMETERS.map(|(name, _)| name);
                names.rotate_left(first);
                if first % 2 == 1 {
                    names.reverse();
                }
                let request = names.into_iter().fold(request("GET", path), |sent, name| {
                    let value = if name == "redirect_uri" {
                        urn
                    } else {
                        right.value(name)
                    };
                    sent.set_raw(name, value)
                });
                authorized(&test, request, right.value("state")).await;
            }
        }
    }
}

#[tokio::test]
async fn c003_a_missing_parameter_is_refused() {
    let test = TestApp::new().await;
    for (name, _) in PARAMETERS {
        test.refused(authorize().unset(name), "invalid_request")
            .await;
    }
}

#[tokio::test]
async fn c004_an_empty_parameter_counts_as_missing() {
    for (name, _) in PARAMETERS {
        each_refused(name, &[""], "invalid_request").await;
    }
}

#[tokio::test]
async fn c005_a_parameter_may_not_come_twice() {
    let test = TestApp::new().await;
    for (name, _) in PARAMETERS {
        let right = authorize();
        let twice = right.clone().also(name, right.value(name));
        test.refused(twice, "invalid_request").await;
    }
}

#[tokio::test]
async fn c006_of_two_values_neither_wins() {
    let test = TestApp::new().await;
    test.add_client("other", ClientSettings::default()).await;
    for (name, other) in PARAMETERS {
        let right = authorize();
        let right_last = right.clone().set(name, other).also(name, right.value(name));
        let right_first = right.also(name, other);
        for twice in [right_first, right_last] {
            test.refused(twice, "invalid_request").await;
        }
    }
}

#[tokio::test]
async fn c007_unknown_parameters_are_ignored() {
    let test = TestApp::new().await;
    for request in [
        authorize().also("foo", "bar"),
        authorize().also("foo", "bar").also("foo", "baz"),
        authorize().also("nonce", "x"),
    ] {
        authorized(&test, request, "a1F5Kdf5Dhn123").await;
    }
}

#[tokio::test]
async fn c008_nobody_is_sent_to_another_redirect_uri() {
    let test = TestApp::new().await;
    let request = authorize().set("redirect_uri", "https://evil.example/");
    let answer = test.refused(request, "invalid_request").await;
    assert_eq!(answer.header("location"), None);
    assert!(!String::from_utf8(answer.body).unwrap().contains("evil"));
}

#[tokio::test]
async fn c009_the_redirect_uri_is_compared_as_a_string() {
    let values = [
        "URN:IETF:WG:OAUTH:2.0:OOB:AUTO",
        "URN:ietf:wg:oauth:2.0:oob:auto",
        "urn:ietf:wg:oauth:2.0:oob:AUTO",
        "urn:ietf:wg:oauth:2.0:oob:auto/",
        "urn:ietf:wg:oauth:2.0:oob:auto:",
        "urn:ietf:wg:oauth:2.0:oob:auto ",
        " urn:ietf:wg:oauth:2.0:oob:auto",
        "urn:ietf:wg:oauth:2.0:oob:auto#x",
        "urn:ietf:wg:oauth:2.0:oob:auto?x",
        "urn:ietf:wg:oauth:2.0:oob",
    ];
    each_refused("redirect_uri", &values, "invalid_request").await;
}

#[tokio::test]
async fn c010_parameters_are_decoded_only_once() {
    let encoded = percent(REDIRECT_URI);
    each_refused("redirect_uri", &[&encoded], "invalid_request").await;
}

#[tokio::test]
async fn c011_only_codes_are_issued_here() {
    let values = ["token", "id_token", "code token", "none"];
    each_refused("response_type", &values, "unsupported_response_type").await;
}

#[tokio::test]
async fn c012_the_response_type_is_compared_as_a_string() {
    let values = ["Code", " code", "code "];
    each_refused("response_type", &values, "unsupported_response_type").await;
}

#[tokio::test]
async fn c013_unknown_deleted_and_disabled_clients_look_alike() {
    let test = TestApp::new().await;
    for id in ["deleted", "disabled"] {
        test.add_client(id, ClientSettings::default()).await;
        test.code(id).await;
    }
    test.change(Change::RemoveClient("deleted".parse().unwrap()))
        .await;
    let disabled = ClientSettings {
        disabled: Some(true),
        ..ClientSettings::default()
    };
    test.set_client("disabled", disabled).await;
    let mut bodies = HashSet::new();
    for id in ["unknown", "deleted", "disabled"] {
        let request = authorize().set("client_id", id);
        bodies.insert(test.refused(request, "unauthorized_client").await.body);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn c014_the_client_id_is_compared_as_a_string() {
    // The last begins with a Cyrillic letter.
    let values = ["SHOP", "Shop", "shop ", " shop", "ѕhop"];
    each_refused("client_id", &values, "unauthorized_client").await;
}

#[tokio::test]
async fn c015_a_client_id_that_none_can_be_is_refused_before_it_is_used() {
    let test = TestApp::new().await;
    let injection = "\r\nSet-Cookie:x=1";
    for value in [&"a".repeat(129), &"a".repeat(7168), "\0", "a\0b", injection] {
        let request = authorize().set("client_id", value);
        let answer = test.refused(request, "invalid_request").await;
        assert_eq!(answer.header("set-cookie"), None);
        let lines = lines_of(answer.log_name());
        assert_eq!(lines.len(), 1, "{value:?} {lines:?}");
    }
    assert!(lines_of(injection.trim()).is_empty());
}

#[tokio::test]
async fn c016_a_client_id_is_never_sql() {
    let test = TestApp::new().await;
    let before = (test.database.schema().await, test.count("clients").await);
    for value in ["' OR '1'='1", "x';DROP TABLE clients--", "$1", "%"] {
        let request = authorize().set("client_id", value);
        test.refused(request, "unauthorized_client").await;
    }
    let after = (test.database.schema().await, test.count("clients").await);
    assert_eq!(after, before);
    test.code(SHOP).await;
}

#[tokio::test]
async fn c017_a_state_of_1_to_1024_bytes_is_echoed() {
    let test = TestApp::new().await;
    for state in ["x", &"x".repeat(1024), &"é".repeat(512)] {
        authorized(&test, authorize().set("state", state), state).await;
    }
}

#[tokio::test]
async fn c018_a_state_of_1025_bytes_is_refused() {
    let values = ["x".repeat(1025), "é".repeat(513)];
    each_refused(
        "state",
        &values.each_ref().map(|v| &v[..]),
        "invalid_request",
    )
    .await;
}

#[tokio::test]
async fn c019_the_state_keeps_its_code_points() {
    let test = TestApp::new().await;
    // The last two would become one character each under normalisation.
    for (encoded, state) in [
        ("%C3%A9%F0%9F%98%80", "\u{e9}\u{1f600}"),
        ("e%CC%81", "e\u{301}"),
        ("%E2%84%AB", "\u{212b}"),
    ] {
        authorized(&test, authorize().set_raw("state", encoded), state).await;
    }
}

#[tokio::test]
async fn c020_the_state_is_decoded_as_a_form() {
    let test = TestApp::new().await;
    for (encoded, state) in [
        ("a%2Bb", "a+b"),
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%26b%3Dc", "a&b=c"),
    ] {
        authorized(&test, authorize().set_raw("state", encoded), state).await;
    }
}

#[tokio::test]
async fn c021_control_characters_in_the_state_are_refused() {
    each_refused("state", &["\0", "\n", "\x1f", "\x7f"], "invalid_request").await;
}

#[tokio::test]
async fn c022_a_state_with_markup_is_escaped_json() {
    let test = TestApp::new().await;
    let state = r#"<script>alert(1)</script>"\"#;
    authorized(&test, authorize().set("state", state), state).await;
}

#[tokio::test]
async fn c023_broken_percent_encoding_is_refused() {
    let test = TestApp::new().await;
    for encoded in ["%zz", "%", "%4"] {
        let at_the_end = authorize().set_raw("state", encoded);
        for request in [at_the_end.clone(), at_the_end.set_raw("foo", "bar")] {
            test.refused(request, "invalid_request").await;
        }
    }
}

#[tokio::test]
async fn c024_a_challenge_has_43_characters() {
    let values = [&CHALLENGE[..42], &format!("{CHALLENGE}A")];
    each_refused("code_challenge", &values, "invalid_request").await;
}

#[tokio::test]
async fn c025_a_challenge_has_no_padding() {
    let padded = format!("{CHALLENGE}=");
    each_refused("code_challenge", &[&padded], "invalid_request").await;
}

#[tokio::test]
async fn c026_a_challenge_is_base64url() {
    let test = TestApp::new().await;
    for wrong in ["+", "/", ".", "~", " ", "\0", "é"] {
        let mut challenge = CHALLENGE.to_owned();
        challenge.replace_range(7..=7, wrong);
        let request = authorize().set("code_challenge", &challenge);
        test.refused(request, "invalid_request").await;
    }
}

#[tokio::test]
async fn c027_a_challenge_is_not_hexadecimal() {
    let hash = "a7b08d6758b8e2d03926b5e63563455bdabe4b6c2b1b24bb92b6bbe9aec41c94";
    each_refused("code_challenge", &[hash], "invalid_request").await;
}

#[tokio::test]
async fn c028_the_plain_method_is_refused() {
    each_refused("code_challenge_method", &["plain"], "invalid_request").await;
}

#[tokio::test]
async fn c029_other_challenge_methods_are_refused() {
    let values = ["s256", "S512", "none"];
    each_refused("code_challenge_method", &values, "invalid_request").await;
}

#[tokio::test]
async fn c030_a_missing_challenge_method_is_not_taken_for_plain() {
    let test = TestApp::new().await;
    let request = authorize().unset("code_challenge_method");
    test.refused(request, "invalid_request").await;
}

#[tokio::test]
async fn c031_pkce_can_not_be_left_out() {
    let test = TestApp::new().await;
    let stripped = authorize()
        .unset("code_challenge")
        .unset("code_challenge_method");
    test.refused(stripped, "invalid_request").await;
}

#[tokio::test]
async fn c032_the_server_fetches_nothing_it_is_told_of() {
    let test = TestApp::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let object = URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{url}","jwks_uri":"{url}"}}"#));
    let request_object = format!("eyJhbGciOiJub25lIn0.{object}.");
    for (name, value) in [
        ("request_uri", &url),
        ("request", &request_object),
        ("client_metadata_uri", &url),
    ] {
        let answer = test.send(authorize().also(name, value)).await;
        assert!([200, 400].contains(&answer.status.as_u16()), "{answer:?}");
        let caller = listener.accept().map(|(_, caller)| caller);
        let nobody = caller.expect_err(name).kind();
        assert_eq!(nobody, ErrorKind::WouldBlock, "{name}");
    }
}

#[tokio::test]
async fn c033_no_response_mode_changes_the_answer() {
    let test = TestApp::new().await;
    for mode in ["form_post", "fragment"] {
        let request = authorize().also("response_mode", mode);
        authorized(&test, request, "a1F5Kdf5Dhn123").await;
    }
}

#[tokio::test]
async fn c034_a_scope_is_refused_and_an_empty_one_ignored() {
    let test = TestApp::new().await;
    let (code, guest) = (test.code(SHOP).await, test.guest().await);
    for request in [authorize(), exchange(&code), refresh(&guest.refresh_token)] {
        let scoped = request.clone().also("scope", "admin");
        test.refused(scoped, "invalid_scope").await;
        let answer = test.send(request.also("scope", "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn c035_the_same_request_twice_makes_two_guests() {
    let test = TestApp::new().await;
    let first = authorized(&test, authorize(), "a1F5Kdf5Dhn123").await;
    let second = authorized(&test, authorize(), "a1F5Kdf5Dhn123").await;
    assert_ne!(first.text("code"), second.text("code"));
    let first = test.granted(exchange(&first.text("code"))).await;
    let second = test.granted(exchange(&second.text("code"))).await;
    assert_ne!(first.sub(), second.sub());
}

#[tokio::test]
async fn c036_codes_look_like_noise() {
    const CODES: u32 = 10_000;
    let test = Arc::new(TestApp::new().await);
    let mut codes = Vec::new();
    for _ in 0..CODES / 100 {
        let answers = test.at_once(vec![authorize(); 100]).await;
        codes.extend(answers.iter().map(|answer| answer.text("code")));
        test.clock.advance(Duration::from_millis(1));
    }
    codes.sort_unstable();
    for pair in codes.windows(2) {
        // Of so many random texts, some begin with the same four or five characters, but none with the same eight.
        assert_ne!(pair[0][..8], pair[1][..8]);
    }
    let decode = |code| -> Vec<u8> { URL_SAFE_NO_PAD.decode(code).unwrap() };
    let codes: Vec<_> = codes.iter().map(decode).collect();

    // Monobit: as many ones as zeros, within six standard deviations.
    let bits = f64::from(CODES) * 384.0;
    let ones: u32 = codes.iter().flatten().map(|byte| byte.count_ones()).sum();
    let deviation = (2.0 * f64::from(ones) - bits) / bits.sqrt();
    assert!(deviation.abs() < 6.0, "{deviation}");

    // Chi-square at each of the 48 places: with 255 degrees of freedom, 391 is six standard deviations above the mean.
    let expected = f64::from(CODES) / 256.0;
    for place in 0..48 {
        let mut counts = [0_u32; 256];
        for code in &codes {
            counts[usize::from(code[place])] += 1;
        }
        let squares = counts.map(|count| (f64::from(count) - expected).powi(2) / expected);
        let chi_square: f64 = squares.iter().sum();
        assert!(chi_square < 391.0, "{chi_square} at {place}");
    }
}

/// The half about `resume_with_jwt` is in resumption.rs.
#[tokio::test]
async fn c037_a_guest_token_does_not_turn_into_a_code_for_that_guest() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    let payload = guest.access_token.split('.').nth(1).unwrap();
    let unsigned = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let mut guests = HashSet::from([guest.sub().to_owned()]);
    for (row, jwt) in [
        ("valid", &guest.access_token[..]),
        ("alg=none", &unsigned),
        ("garbage", "garbage"),
        ("expired", &guest.access_token),
    ] {
        if row == "expired" {
            test.clock.advance_secs(86_401);
        }
        let request = authorize().header("x-dressipi-jwt", jwt);
        let answer = authorized(&test, request, "a1F5Kdf5Dhn123").await;
        let tokens = test.granted(exchange(&answer.text("code"))).await;
        assert!(guests.insert(tokens.sub().to_owned()), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c038_a_body_is_not_taken_for_the_next_request() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let get = |state, fields: &str| {
        let target = authorize().set("state", state).target();
        format!("GET {target} HTTP/1.1\r\nHost: id.example\r\n{fields}\r\n")
    };
    let second = get("second", "Connection: close\r\n");
    for body in ["GET /x?y=z".to_owned(), get("smuggled", "")] {
        let before = test.count("profiles").await;
        let length = format!("Content-Length: {}\r\n", body.len());
        let mut connection = TcpStream::connect(address).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let requests = [get("first", &length), body, second.clone()].concat();
        connection.write_all(requests.as_bytes()).unwrap();
        let mut answers = Vec::new();
        let end = connection.read_to_end(&mut answers).map_err(|e| e.kind());
        assert!(
            matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)),
            "{end:?}"
        );

        let answers = String::from_utf8(answers).unwrap();
        let mut answers = answers.split("HTTP/1.1 ").skip(1);
        let first = answers.next().unwrap();
        let first_is_a_guest = first.starts_with("200") && first.ends_with(r#""state":"first"}"#);
        assert!(first_is_a_guest || first.starts_with("400"), "{first}");
        // The server may also close the connection instead of looking for the next request.
        let second = answers.next();
        let second_is_a_guest = second.is_none_or(|second| {
            second.starts_with("200") && second.ends_with(r#""state":"second"}"#)
        });
        assert!(second_is_a_guest, "{second:?}");
        assert_eq!(answers.next(), None);
        let guests = u64::from(first_is_a_guest) + u64::from(second.is_some());
        assert_eq!(test.count("profiles").await, before + guests);
    }
}

#[tokio::test]
async fn c039_prefetching_makes_no_guest() {
    let test = TestApp::new().await;
    for (name, value) in [
        ("sec-purpose", "prefetch"),
        ("sec-purpose", "prefetch;prerender"),
        ("purpose", "prefetch"),
        ("purpose", "Prerender"),
        ("x-moz", "prefetch"),
        ("x-purpose", "preview"),
    ] {
        let answer = test.send(authorize().header(name, value)).await;
        let refusal = (answer.status.as_u16(), answer.error());
        assert_eq!(refusal, (503, "temporarily_unavailable"), "{name}: {value}");
        assert_eq!(test.count("profiles").await, 0, "{name}: {value}");
    }
}
