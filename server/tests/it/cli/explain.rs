//! `guestpass explain`: why a request or a token was refused, in words that help.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::binary::{Binary, eventually};
use crate::support::{SHOP, authorize, exchange, refresh, request, session, ticket};

#[test]
fn a_refused_request_explains_itself() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_NODE", "a-node-with-a-long-name");
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let tokens = server.guest();
    let spent = server.send(&refresh(&tokens.refresh_token)).tokens();
    server.send(&refresh(&spent.refresh_token)).tokens();
    for (request, refusal, grant) in [
        (authorize().unset("state"), "parameter_missing", false),
        (exchange("made up"), "credential_unknown", false),
        (
            refresh(&tokens.refresh_token),
            "refresh_token_overtaken",
            true,
        ),
        (
            refresh("x").set("client_id", "nobody"),
            "client_unknown",
            false,
        ),
        (request("GET", "/nowhere"), "path_unknown", false),
        (
            request("GET", "/oauth/verify"),
            "access_token_missing",
            false,
        ),
    ] {
        let answer = server.send(&request);
        let id = answer.header("x-request-id").unwrap();
        let explained = binary.json(&["explain", id]);
        assert_eq!(explained["refusal"], refusal);
        assert_eq!(explained["answered"], answer.text("error_description"));
        assert_eq!(explained["node"], "a-node-with-a-lo");
        assert_eq!(explained["request"], answer.log_name());
        let sid = if grant {
            tokens.claims["sid"].clone()
        } else {
            Value::Null
        };
        assert_eq!(explained["grant"], sid, "{refusal}");
        eventually(refusal, || server.log().contains(answer.log_name()));
    }
    // The length is the same with a grant and without.
    let unknown = server.send(&exchange(&"x".repeat(64)));
    let known = server.send(&refresh(&tokens.refresh_token));
    let length = |answer: &crate::support::Answer| answer.header("x-request-id").unwrap().len();
    assert_eq!(length(&unknown), length(&known));

    let granted = server.send(&authorize());
    let problem = binary.failure(&["explain", granted.header("x-request-id").unwrap()]);
    assert!(problem.contains("in the log"), "{problem}");
    let altered = format!("{}A", known.header("x-request-id").unwrap());
    assert!(binary.failure(&["explain", &altered]).contains("altered"));
}

#[test]
fn a_token_is_explained_as_it_would_be_answered_now() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let code = server.send(&authorize()).text("code");
    let explained = |token: &str| explain(&binary, token);
    assert_eq!(explained(&code)["token"], "a code");
    assert!(
        explained(&code)["now"]
            .as_str()
            .unwrap()
            .starts_with("works")
    );
    let tokens = server.send(&exchange(&code)).tokens();
    assert_eq!(explained(&code)["refusal"], "code_spent");
    for token in [&tokens.refresh_token, &tokens.access_token] {
        let said = explained(token);
        assert!(said["now"].as_str().unwrap().starts_with("works"), "{said}");
        assert_eq!(said["state"], "active");
        assert_eq!(said["sub"], tokens.sub());
    }
    // With every proof right, a code that comes twice ends the grant.
    server.send(&exchange(&code));
    assert_eq!(explained(&tokens.refresh_token)["refusal"], "grant_revoked");
    let said = explained(&tokens.access_token);
    assert_eq!(said["refusal"], "access_token_grant_ended");
    assert_eq!(said["state"], "revoked (code_replayed)");
    assert_eq!(explained("x.y.z")["refusal"], "access_token_malformed");
    let erased = server.guest();
    binary.json(&["profile", "erase", erased.sub()]);
    assert_eq!(explained(&erased.access_token)["guest"], "erased");
    assert_eq!(explained(&erased.refresh_token)["refusal"], "grant_gone");
}

#[test]
fn c343_a_ticket_and_a_seed_are_explained() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.json(&[
        "client",
        "add",
        "web",
        "--origin",
        "https://shop.example",
        "--cookies",
        "guest",
    ]);
    binary.json(&["client", "set", SHOP, "--ticket-to", "web"]);
    let server = binary.serve();
    let tokens = server.guest();
    let mint = ticket(SHOP, "web").set("refresh_token", &tokens.refresh_token);
    let minted = server.send(&mint).text("ticket");
    let said = explain(&binary, &minted);
    assert_eq!(said["token"], "a ticket: a code with its verifier");
    assert_eq!(
        (&said["now"], said["sub"].as_str()),
        (&json!("works, for its client"), Some(tokens.sub()))
    );
    let other = minted[..65].to_owned() + &"x".repeat(43);
    assert_eq!(explain(&binary, &other)["refusal"], "verifier_wrong");
    let page = session("web").header("origin", "https://shop.example");
    let adopted = server.send(&page.clone().set("ticket", &minted));
    assert_eq!(adopted.status, 200, "{adopted:?}");
    assert_eq!(explain(&binary, &minted)["refusal"], "code_spent");

    let seeded = server.send(&page);
    let cookie = seeded.header("set-cookie").unwrap();
    let seed = cookie.split_once('=').unwrap().1.split(';').next().unwrap();
    let said = explain(&binary, seed);
    assert_eq!(said["guest"], "not made yet", "{said}");
}

#[test]
fn a_token_without_a_type_is_explained_as_the_setting_says() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_ISSUER", "http://127.0.0.1:8080");
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let issued = server.guest().access_token;
    let exported = binary.json(&["key", "export"]);
    let kid = URL_SAFE_NO_PAD.decode(issued.split('.').next().unwrap());
    let header: Value = serde_json::from_slice(&kid.unwrap()).unwrap();
    let mut keys = exported["keys"].as_array().unwrap().iter();
    let key = keys.find(|key| key["kid"] == header["kid"]).unwrap();
    let secret = URL_SAFE_NO_PAD.decode(key["k"].as_str().unwrap()).unwrap();
    let header = json!({"alg": "HS256", "kid": header["kid"]}).to_string();
    let payload = issued.split('.').nth(1).unwrap();
    let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &secret),
        signed.as_bytes(),
    );
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    let refusal = "access_token_unsupported";
    assert_eq!(explain(&binary, &token)["refusal"], refusal);
    binary.set_variable("GUESTPASS_VERIFY__UNTYPED", "true");
    assert_eq!(explain(&binary, &token)["now"], "works");
}

fn explain(binary: &Binary, token: &str) -> Value {
    use std::io::Write;
    use std::process::Stdio;
    let data_dir = binary.data_dir();
    let data_dir = ["--data-dir", data_dir.to_str().unwrap()];
    let mut command = binary.bare_command(&["explain", "--token", "--json"]);
    command.args(data_dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    writeln!(input, "{token}").unwrap();
    drop(input);
    let ended = running.wait_with_output().unwrap();
    serde_json::from_slice(&ended.stdout).unwrap()
}
