//! Credentials in the wrong place, and the advice of `guestpass explain` about them.

use crate::support::binary::{Binary, Server, eventually};
use crate::support::{
    SHOP, Sent, authorize, exchange, introspect, profile, refresh, request, verify,
};

/// Returns name and remedy of the refusal of a request.
fn explained(binary: &Binary, server: &Server, request: &Sent) -> (String, String) {
    let answer = server.send(request);
    let id = answer.header("x-request-id").unwrap();
    let said = binary.json(&["explain", id]);
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    (text("refusal"), text("help"))
}

#[test]
fn f26_what_was_sent_in_the_wrong_place_is_named() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let added = binary.json(&["client", "add", "back-end", "--confidential"]);
    let key = added["api_key"].as_str().unwrap();
    let mut elsewhere = Binary::new();
    elsewhere.set_variable("GUESTPASS_ISSUER", "https://elsewhere.example");
    elsewhere.json(&["client", "add", SHOP]);
    let (server, other) = (binary.serve(), elsewhere.serve());
    let (tokens, foreign) = (server.guest(), other.guest());
    let code = server.send(&authorize()).text("code");
    let as_jwt = |text: &str| request("GET", "/oauth/profile").header("x-dressipi-jwt", text);
    for (request, refusal, hint) in [
        (
            refresh(&tokens.access_token),
            "access_token_as_credential",
            "This is an access token",
        ),
        (
            exchange(&tokens.access_token),
            "access_token_as_credential",
            "This is an access token",
        ),
        (
            refresh(&foreign.access_token),
            "access_token_as_credential",
            "This is an access token",
        ),
        (
            exchange(&tokens.refresh_token),
            "refresh_token_as_code",
            "This is a refresh token",
        ),
        (refresh(&code), "code_as_refresh_token", "This is a code"),
        (refresh(key), "api_key_as_credential", "This is an API key"),
        (exchange(key), "api_key_as_credential", "x-api-key"),
        (
            refresh(&foreign.refresh_token),
            "credential_unknown",
            "another installation",
        ),
        (exchange("made up"), "credential_unknown", "made up"),
        (
            verify(&tokens.refresh_token),
            "credential_as_access_token",
            "a refresh token",
        ),
        (
            profile(&code),
            "credential_as_access_token",
            "This is a code",
        ),
        (
            as_jwt(&tokens.refresh_token),
            "credential_as_access_token",
            "access_token",
        ),
        (verify(key), "api_key_as_access_token", "This is an API key"),
        (as_jwt(key), "api_key_as_access_token", "x-api-key"),
        (
            verify(&foreign.access_token),
            "access_token_of_another_issuer",
            "another installation",
        ),
        (
            introspect("x")
                .set("client_id", "back-end")
                .header("x-api-key", &tokens.access_token),
            "api_key_wrong",
            "gpk_",
        ),
    ] {
        let (name, help) = explained(&binary, &server, &request);
        assert_eq!(name, refusal, "{request:?}");
        assert!(help.contains(hint), "{help}");
    }
}

#[test]
fn f26_the_remedy_for_a_missing_audience_gives_the_client_that_audience() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let ask = |token: &str| verify(token).set("audience", "https://api.example");
    let tokens = server.guest();
    let (name, help) = explained(&binary, &server, &ask(&tokens.access_token));
    assert_eq!(name, "access_token_lacks_audience");
    assert!(
        help.contains("guestpass client set ID --audience TEXT"),
        "{help}"
    );
    // As it says: then a refresh gives a token that has it.
    binary.json(&["client", "set", SHOP, "--audience", "https://api.example"]);
    eventually("the audience", || {
        let tokens = server.guest();
        let refreshed = server.send(&refresh(&tokens.refresh_token)).tokens();
        server.send(&ask(&refreshed.access_token)).status == 200
    });
}

#[test]
fn f26_the_remedy_for_a_removed_key_says_so() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let tokens = server.guest();
    let old = tokens.header["kid"].as_str().unwrap();
    binary.json(&["key", "rotate", "--force"]);
    binary.json(&["key", "remove", old]);
    eventually("the removal", || {
        server.send(&verify(&tokens.access_token)).status == 401
    });
    let (name, help) = explained(&binary, &server, &verify(&tokens.access_token));
    assert_eq!(name, "access_token_key_unknown");
    assert!(
        help.contains("removed") && help.contains("guestpass key list"),
        "{help}"
    );
    // As it says.
    let refreshed = server.send(&refresh(&tokens.refresh_token)).tokens();
    assert_eq!(server.send(&verify(&refreshed.access_token)).status, 200);
}
