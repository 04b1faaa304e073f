//! Keys that only an embedded installation can lack.

use std::fs;

use super::*;

#[test]
fn f21_the_check_opens_the_keys() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    // Before the first start there are none.
    binary.json(&["config", "check"]);
    assert!(!binary.data_dir().join("master.key").exists());
    assert!(binary.serve().stop().success());
    binary.json(&["config", "check"]);
    let file = binary.data_dir().join("master.key");
    fs::write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    assert_refused_alike(&binary, "the master key is not the one");
    fs::remove_file(&file).unwrap();
    assert_refused_alike(&binary, "the master key is missing");
    fs::write(&file, "short").unwrap();
    assert_refused_alike(&binary, "is not a master key");
}

/// With PostgreSQL it must be set in any case.
#[test]
fn f21_a_public_address_needs_an_issuer() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.set_variable("GUESTPASS_LISTEN", "0.0.0.0:0");
    assert_refused_alike(&binary, "--issuer https://");
}

/// Its own address is taken by itself.
#[test]
fn f21_the_check_may_run_beside_the_server() {
    let mut binary = Binary::new();
    binary.set_issuer_to_address("http");
    let server = binary.serve();
    binary.set_variable("GUESTPASS_LISTEN", &server.address.to_string());
    let text = advice(&binary).join("\n");
    assert!(!text.contains("in use"), "{text}");
    assert!(server.stop().success());
}

#[test]
fn f21_the_check_makes_no_database_and_no_key() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_JOURNAL", "journal");
    binary.set_variable("GUESTPASS_DATABASE", "sqlite:deep/er/guestpass.db");
    binary.json(&["config", "check"]);
    assert_eq!(fs::read_dir(binary.working_dir()).unwrap().count(), 0);
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", "absent/master.key");
    assert_refused_alike(&binary, "absent/master.key: No such file");
}
