//! Lines that repeat are written some times, and then counted.

use std::fs;

use crate::support::binary::Binary;
use crate::support::{exchange, refresh, request, revoke};

/// A server that writes three lines of a kind, and whose period doesn't end before the test.
fn binary(format: &str) -> Binary {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_LOG__REPEATS", "3/1h");
    binary.set_variable("GUESTPASS_LOG__FORMAT", format);
    binary
}

#[test]
fn f53_refusals_of_strangers_are_counted_and_nothing_else_is_left_out() {
    let binary = binary("text");
    binary.json(&["client", "add", "shop"]);
    let server = binary.serve();
    let mut connection = server.connect();
    for _ in 0..10 {
        connection.send(&refresh("forged")).unwrap();
    }
    // Of another kind.
    connection.send(&exchange("forged")).unwrap();
    let guests: Vec<_> = (0..5).map(|_| server.guest()).collect();
    for guest in &guests {
        connection.send(&refresh(&guest.refresh_token)).unwrap();
        connection.send(&revoke(&guest.refresh_token)).unwrap();
    }
    // Strangers can ask for this without being refused.
    for _ in 0..7 {
        connection.send(&request("GET", "/livez")).unwrap();
    }
    let log = server.log();
    let of = |text: &str, log: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(of(r#"refusal="credential_unknown""#, &log), 3, "{log}");
    assert!(!log.contains("more in"), "the period isn't over: {log}");
    assert!(server.stop().success());
    let log = binary.log();
    assert_eq!(of("guestpass::security: grant revoked", &log), 5, "{log}");
    let granted = |line: &&str| line.contains(r#""/oauth/token""#) && line.contains("status=200");
    assert_eq!(log.lines().filter(granted).count(), 10, "{log}");
    assert_eq!(of(r#"endpoint="/livez""#, &log), 3, "{log}");
    let counted = |line: &str| line.contains("more in");
    let counted: Vec<_> = log.lines().filter(|line| counted(line)).collect();
    assert_eq!(counted.len(), 2, "{counted:?}");
    let refused = counted.iter().find(|line| line.contains("refusal"));
    let refused = refused.unwrap();
    assert!(
        refused.contains("  INFO guestpass::request: answered: 8 more in "),
        "{refused}"
    );
    assert!(
        refused.ends_with(r#" s refusal="credential_unknown""#),
        "{refused}"
    );
}

#[test]
fn f53_an_outage_is_said_some_times_and_then_counted() {
    let binary = binary("json");
    let server = binary.serve();
    fs::remove_file(binary.data_dir().join("guestpass.journal")).unwrap();
    let mut connection = server.connect();
    for _ in 0..10 {
        let answer = connection.send(&request("GET", "/readyz")).unwrap();
        assert_eq!(answer.status, 503);
    }
    let _ = server.stop();
    let log = binary.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.contains("guestpass::request"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{log}");
    for line in &lines {
        assert_eq!(line["level"], "WARN", "{line}");
        assert_eq!(line["reason"], lines[0]["reason"]);
    }
    let last = lines[3]["message"].as_str().unwrap();
    assert!(last.starts_with("answered: 7 more in "), "{last}");
}
