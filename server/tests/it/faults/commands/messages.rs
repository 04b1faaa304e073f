//! Small mistakes, and what their messages name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::binary::{Binary, run};
use crate::support::{SHOP, refresh};

mod sqlite;

#[test]
fn f26_the_remedy_for_a_missing_key_helps() {
    let binary = Binary::new();
    let added = binary.json(&["client", "add", "back-end", "--confidential"]);
    let key = added["api_key"].as_str().unwrap();
    let server = binary.serve();
    let request = refresh("made up").set("client_id", "back-end");
    let refused = server.send(&request);
    let id = refused.header("x-request-id").unwrap();
    let help = binary.json(&["explain", id])["help"].to_string();
    for hint in [
        "x-api-key",
        "Authorization: Basic",
        "client_secret",
        "guestpass client key add ID",
    ] {
        assert!(help.contains(hint), "{help}");
    }
    // As it says, the key is found in each of these places.
    let basic = format!("Basic {}", STANDARD.encode(format!("back-end:{key}")));
    for request in [
        request.clone().header("x-api-key", key),
        request.clone().header("authorization", basic),
        request.set("client_secret", key),
    ] {
        assert_eq!(server.send(&request).text("error"), "invalid_grant");
    }
}

#[test]
fn f26_no_remedy_offers_a_weaker_client() {
    for refusal in guestpass_core::refusal::Refusal::all() {
        let remedy = refusal.remedy();
        for weaker in [
            "--no-confidential",
            "make the client public",
            "set ID --query-params",
        ] {
            assert!(!remedy.contains(weaker), "{}: {remedy}", refusal.name());
        }
    }
}

#[test]
fn f27_an_empty_name_of_a_file_is_none() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.set_variable("GUESTPASS_CONFIG", "");
    binary.set_variable("CREDENTIALS_DIRECTORY", "");
    std::fs::write(binary.working_dir().join("guestpass.master_key"), "x").unwrap();
    assert_eq!(binary.json(&["client", "list"])[0]["client_id"], SHOP);
    binary.json(&["config", "check"]);
    let ended = run(binary.bare_command(&["--config", "", "client", "list"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--config <FILE>"), "{ended:?}");
    let ended = run(binary.bare_command(&["--data-dir", "", "client", "list"]));
    assert!(ended.stderr.contains("data_dir = "), "{ended:?}");
}

#[test]
fn f27_a_wait_is_told_in_two_units() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_KEYS__JWKS_MAX_AGE", "1d");
    binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", "ES256");
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    let problem = binary.failure(&["key", "rotate"]);
    let wait = problem.split("for another ").nth(1).unwrap();
    let wait = wait.split(". Wait").next().unwrap();
    let words: Vec<_> = wait.split(' ').collect();
    assert!(matches!(words[..], [_, _] | [_, _, _, _]), "{problem}");
    assert!(
        wait.starts_with("1 day") || wait.starts_with("23 h"),
        "{problem}"
    );
}

#[test]
fn f27_an_import_takes_nothing_for_twice_the_same() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    let subn = "919108f7-52d1-4320-9bac-f847db4148a8";
    let other = "58cc4e63-0a5b-4af2-a233-5e776cd1473f";
    let file = binary.working_dir().join("guests.csv");
    let import = ["profile", "import", "guests.csv", "--client", SHOP];
    for (csv, problem) in [
        (
            format!("sub,sub,subn,created_at\n1,1,{subn},1700000000000\n"),
            "line 1: there is more than one column sub",
        ),
        (
            format!("sub,subn,created_at\n1,{subn},1700000000000\n2,{subn},1700000000000\n"),
            "line 3: subn 919108f7-52d1-4320-9bac-f847db4148a8 stands on line 2 already, for another sub",
        ),
    ] {
        std::fs::write(&file, csv).unwrap();
        let said = binary.failure(&import);
        assert!(said.contains(problem), "{said}");
    }
    std::fs::write(
        &file,
        format!("sub,subn,created_at\n1,{subn},1700000000000\n"),
    )
    .unwrap();
    assert_eq!(binary.json(&import)["imported"], 1);
    // The same again is fine; the subn under another sub is not.
    assert_eq!(binary.json(&import)["present"], 1);
    let both = format!("sub,subn,created_at\n3,{other},1700000000000\n2,{subn},1700000000000\n");
    std::fs::write(&file, both).unwrap();
    let said = binary.failure(&import);
    let problem = "line 3: subn 919108f7-52d1-4320-9bac-f847db4148a8 is that of guest 1 already";
    assert!(said.contains(problem), "{said}");
}

#[test]
fn f27_a_client_named_like_a_guest_is_advised_against() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let guest = binary.serve().guest();
    let sid = guest.claims["sid"].as_str().unwrap();
    for (id, claim) in [(guest.sub(), "`sub`"), (sid, "`sid`")] {
        // A sid may begin with a dash.
        let ended = binary.run(&["client", "add", "--json", "--", id]);
        assert_eq!(ended.json()["client_id"], id);
        assert!(ended.stderr.contains(claim), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        let checked = binary.json(&["config", "check"]);
        let advice = checked["advice"].as_array().unwrap().iter();
        let mut advice = advice.filter(|advice| advice["client_id"] == id);
        assert!(
            advice.any(|advice| advice["text"].to_string().contains(claim)),
            "{checked}"
        );
    }
    let quiet = binary.run(&["client", "add", "123"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        binary.json(&["client", "show", "123"])["disabled"],
        json!(false)
    );
}
