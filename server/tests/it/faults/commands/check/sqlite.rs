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
