//! `guestpass profile`, beside a running server.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::binary::{Binary, Server, run};
use crate::support::{SHOP, Tokens, authorize, exchange, link, refresh};

#[test]
fn a_guest_is_shown_as_it_is() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let code = server.send(&authorize()).text("code");
    let tokens = server.send(&exchange(&code)).tokens();
    server.send(&refresh(&tokens.refresh_token)).tokens();

    let shown = show(&binary, &tokens);
    for member in ["sub", "subn", "client_id"] {
        assert_eq!(shown[member], tokens.claims[member], "{member}");
    }
    let grant = &shown["grants"][0];
    assert_eq!(shown["grants"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&grant["sid"], &grant["client_id"]),
        (&tokens.claims["sid"], &json!(SHOP))
    );
    assert_eq!(
        (&grant["state"], &grant["generation"]),
        (&json!("active"), &json!(2))
    );

    assert_eq!(
        server.send(&exchange(&code)).status,
        StatusCode::BAD_REQUEST,
        "a replay"
    );
    assert_eq!(
        show(&binary, &tokens)["grants"][0]["state"],
        "revoked (code_replayed)"
    );
    binary.json(&["client", "remove", SHOP]);
    assert_eq!(show(&binary, &tokens)["client_id"], "(removed)");
}

#[test]
fn the_guests_of_a_customer_are_listed() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let key = add_back_end(&binary);
    let server = binary.serve();
    let guests = [(); 3].map(|()| server.guest());
    for (tokens, customer) in guests.iter().zip(["c-4711", "C-4711", "c-4711"]) {
        link_to(&server, &key, tokens, customer);
    }
    let listed = binary.json(&["customer", "show", "c-4711"]);
    assert_eq!(listed["customer"], "c-4711");
    let listed = listed["guests"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    for (listed, tokens) in listed.iter().zip([&guests[0], &guests[2]]) {
        assert_eq!(listed["sub"], tokens.sub());
        assert_eq!(listed["subn"], tokens.claims["subn"]);
        assert_eq!(listed["linked_by"], "back-end");
        let shown = show(&binary, tokens);
        assert_eq!(shown["customer"], "c-4711");
        assert_eq!(shown["linked_at"], listed["linked_at"]);
    }
    let mut from_input = binary.command(&["customer", "show", "-"]);
    let piped = binary.working_dir().join("customer");
    std::fs::write(&piped, "c-4711\n").unwrap();
    from_input.stdin(std::fs::File::open(piped).unwrap());
    let text = run(from_input).stdout;
    assert!(
        text.contains("GUEST") && text.contains(guests[2].sub()),
        "{text}"
    );
    let nobody = binary.run(&["customer", "show", "c-0"]);
    assert_eq!(nobody.stdout, "no guest is linked to c-0\n");
    let problem = binary.failure(&["customer", "show", "null"]);
    assert!(
        problem.contains("this word is no customer's id"),
        "{problem}"
    );
    binary.json(&["client", "remove", "back-end"]);
    let listed = binary.json(&["customer", "show", "c-4711"]);
    assert_eq!(listed["guests"][0]["linked_by"], "(removed)");
}

#[test]
fn c233_all_guests_of_a_customer_are_unlinked_exported_and_erased() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_EVENTS__RECORD", "true");
    binary.json(&["client", "add", SHOP]);
    let key = add_back_end(&binary);
    let server = binary.serve();
    let guests: Vec<_> = (0..249).map(|_| server.guest()).collect();
    let bystander = server.guest();
    link_to(&server, &key, &bystander, "y");
    for command in ["unlink", "erase"] {
        for tokens in &guests {
            link_to(&server, &key, tokens, "x");
        }
        let shown = binary.json(&["customer", "show", "x"]);
        assert_eq!(shown["guests"].as_array().unwrap().len(), 249);
        // More than a pipe holds.
        let file = binary.working_dir().join("customer.json");
        let mut export = binary.command(&["--json", "customer", "export", "x"]);
        export.stdout(std::fs::File::create(&file).unwrap());
        assert!(export.status().unwrap().success());
        let exported = std::fs::read_to_string(file).unwrap();
        let exported: Value = serde_json::from_str(&exported).unwrap();
        let exported = exported["guests"].as_array().unwrap();
        assert_eq!(exported.len(), 249);
        assert_eq!(exported[0]["grants"].as_array().unwrap().len(), 1);
        // One more is linked beside the command; whether before its last look or after, nobody is left half done.
        let last = server.guest();
        let running = binary.command(&["--json", "customer", command, "x"]);
        let ended = std::thread::scope(|scope| {
            let ended = scope.spawn(|| run(running));
            link_to(&server, &key, &last, "x");
            ended.join().unwrap().json()
        });
        let left = binary.json(&["customer", command, "x"]);
        let number = |ended: &Value| ended[format!("{command}ed").replace("eed", "ed")].as_u64();
        assert_eq!(number(&ended).unwrap() + number(&left).unwrap(), 250);
        let shown = binary.json(&["customer", "show", "x"]);
        assert_eq!(shown["guests"], json!([]));
    }
    for tokens in guests.iter().step_by(50) {
        binary.failure(&["profile", "show", tokens.sub()]);
    }
    assert_eq!(show(&binary, &bystander)["customer"], "y");
    let text = std::fs::read_to_string(binary.data_dir().join("guestpass.journal")).unwrap();
    for event in ["guest_erased", "link_undone"] {
        assert_eq!(text.matches(event).count(), 250, "{event}");
    }
    // What was recorded of the links and their end went with the guests, but for the one that was linked beside the command,
    // who is still there.
    let events = recorded(&binary);
    let of = |what: &str, reason: &str| {
        let is = |event: &&Value| event["type"] == what && event["data"]["reason"] == reason;
        events.iter().filter(is).count()
    };
    assert_eq!(of("guest.erased", "customer"), 250);
    assert_eq!(
        events.len(),
        250 + 3,
        "{:?}",
        events
            .iter()
            .filter(|event| event["type"] != "guest.erased")
            .collect::<Vec<_>>()
    );
}

/// Returns all events, as if a minute had passed.
pub(super) fn recorded(binary: &Binary) -> Vec<Value> {
    binary.sql("update events set at = at - 60000");
    let file = binary.working_dir().join("events.json");
    let mut list = binary.command(&["--json", "events", "--limit", "10000"]);
    // More than a pipe holds.
    list.stdout(std::fs::File::create(&file).unwrap());
    assert!(list.status().unwrap().success());
    let listed = std::fs::read_to_string(file).unwrap();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    listed["events"].as_array().unwrap().clone()
}

#[test]
fn an_erased_guest_is_gone_at_once() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let (erased, other) = (server.guest(), server.guest());
    assert_eq!(
        binary.json(&["profile", "erase", erased.sub()]),
        json!({"sub": erased.sub()})
    );

    let answer = server.send(&refresh(&erased.refresh_token));
    assert_eq!(
        (answer.status, answer.error()),
        (StatusCode::BAD_REQUEST, "invalid_grant")
    );
    for command in ["show", "erase"] {
        let problem = binary.failure(&["profile", command, erased.sub()]);
        assert!(problem.contains(erased.sub()), "{problem}");
    }
    server.send(&refresh(&other.refresh_token)).tokens();
    let report = binary.json(&["db", "check"]);
    assert_eq!(
        report,
        json!({"ok": true, "problems": [], "profiles": 1, "grants": 1})
    );
}

#[test]
fn an_erasure_is_not_kept_in_a_journal_that_no_server_reads() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let (first, second) = (server.guest(), server.guest());
    binary.json(&["profile", "erase", first.sub()]);
    let elsewhere = binary.working_dir().join("other.journal");
    binary.set_variable("GUESTPASS_JOURNAL", elsewhere.to_str().unwrap());
    let problem = binary.failure(&["profile", "erase", second.sub()]);
    assert!(problem.contains("other.journal"), "{problem}");
    assert!(!elsewhere.exists());
    server.send(&refresh(&second.refresh_token)).tokens();
}

/// Adds a client that may link, and returns its API key.
pub(super) fn add_back_end(binary: &Binary) -> String {
    let add = ["client", "add", "back-end", "--confidential"];
    let added = binary.json(&[&add[..], &["--may", "link"]].concat());
    added["api_key"].as_str().unwrap().to_owned()
}

pub(super) fn link_to(server: &Server, key: &str, tokens: &Tokens, customer: &str) {
    let sent = link(&tokens.access_token, customer).set("client_id", "back-end");
    let answer = server.send(&sent.header("x-api-key", key));
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}

fn show(binary: &Binary, tokens: &Tokens) -> Value {
    binary.json(&["profile", "show", tokens.sub()])
}

/// The backup is a file.
mod sqlite {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn c234_an_erasure_that_was_killed_is_gone_on_with_and_outlives_a_restore() {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let file = binary.working_dir().join("guests.csv");
        let lines = (1..=250)
            .map(|sub| format!("{sub},919108f7-52d1-4320-9bac-{sub:012},2026-01-02T03:04:05Z,x"));
        let csv: Vec<_> = std::iter::once("sub,subn,created_at,customer".to_owned())
            .chain(lines)
            .collect();
        std::fs::write(&file, csv.join("\n")).unwrap();
        let file = file.to_str().unwrap();
        let import = ["profile", "import", file, "--client", SHOP];
        let problem = binary.failure(&import);
        assert!(problem.contains("guestpass serve"), "{problem}");
        drop(binary.serve());
        binary.json(&import);
        let backup = std::fs::read(binary.data_dir().join("guestpass.db")).unwrap();
        let left = || {
            let shown = binary.json(&["customer", "show", "x"]);
            shown["guests"].as_array().unwrap().len()
        };
        assert_eq!(left(), 250);

        let journal = binary.data_dir().join("guestpass.journal");
        let erased = || {
            let text = std::fs::read_to_string(&journal).unwrap_or_default();
            text.matches("guest_erased").count()
        };
        let mut command = binary.command(&["customer", "erase", "x"]);
        let mut erasing = command.stdout(Stdio::null()).spawn().unwrap();
        while erased() < 20 && erasing.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        erasing.kill().unwrap();
        erasing.wait().unwrap();
        let before = left();
        assert!(before <= 231, "{before}");
        let rest = binary.json(&["customer", "erase", "x"]);
        assert_eq!(rest["erased"], before);
        assert_eq!(left(), 0);

        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(binary.data_dir().join(format!("guestpass.db{suffix}")));
        }
        std::fs::write(binary.data_dir().join("guestpass.db"), backup).unwrap();
        assert_eq!(left(), 250, "the backup has them");
        drop(binary.serve());
        assert_eq!(left(), 0);
        assert_eq!(binary.json(&["db", "check"])["profiles"], 0);
    }
}
