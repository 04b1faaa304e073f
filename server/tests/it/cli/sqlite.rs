//! Commands without an installation create an embedded store; and damage that only an embedded store can have.

use super::*;

#[test]
fn a_database_is_made_once() {
    let binary = Binary::new();
    let made = binary.json(&["db", "migrate"]);
    assert_eq!(made["from"], 0);
    let again = binary.json(&["db", "migrate"]);
    let nothing = json!({"from": made["to"], "to": made["to"], "steps": [], "dry_run": false});
    assert_eq!(again, nothing);
}

#[test]
fn a_command_that_only_looks_makes_no_database() {
    let binary = Binary::new();
    for args in [
        &["client", "list"][..],
        &["profile", "show", "1"],
        &["db", "check"],
    ] {
        let problem = binary.failure(args);
        assert!(
            problem.contains("guestpass db migrate"),
            "{args:?}: {problem}"
        );
    }
    assert!(!binary.data_dir().exists());
}

#[test]
fn the_data_directory_is_here_unless_it_is_named() {
    let binary = Binary::new();
    run(binary.bare_command(&["client", "add", SHOP, "--json"])).json();
    assert!(
        binary
            .working_dir()
            .join("guestpass-data/guestpass.db")
            .exists()
    );
}

#[test]
fn a_check_that_finds_something_prints_it_and_exits_with_1() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.serve().guest();
    binary.sql("delete from profiles");
    let ended = binary.run(&["db", "check", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("restore a backup"), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        report,
        json!({"ok": false, "problems": ["1 grants belong to no guest"], "profiles": 0, "grants": 1})
    );
}
