//! `config check` finds what `serve` would refuse.

use serde_json::Value;

use crate::support::SHOP;
use crate::support::binary::Binary;

mod sqlite;

/// Checks that `config check` and `serve` refuse with the same sentence, which holds `hint`.
fn assert_refused_alike(binary: &Binary, hint: &str) {
    let checked = binary.failure(&["config", "check"]);
    let served = binary.failure(&["serve"]);
    assert!(checked.contains(hint), "{hint}: {checked}");
    // Lines of the log may stand before it.
    assert!(served.ends_with(&checked), "{checked}{served}");
}

/// Returns the texts of the advice that is about no client.
fn advice(binary: &Binary) -> Vec<String> {
    let checked = binary.json(&["config", "check"]);
    let advice = checked["advice"].as_array().unwrap().iter();
    let advice = advice.filter(|advice| advice["client_id"] == Value::Null);
    let texts = advice.map(|advice| advice["text"].as_str().unwrap().to_owned());
    texts.collect()
}

#[test]
fn f21_the_check_refuses_settings_that_a_start_refuses() {
    let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    for (variables, hint) in [
        (
            &[("LISTEN", "0.0.0.0:0"), ("ISSUER", "http://id.example")][..],
            "tokens must not travel in clear",
        ),
        (
            &[("LISTEN", "127.0.0.1:1"), ("ADMIN_LISTEN", "127.0.0.1:1")],
            "admin_listen = 127.0.0.1:1",
        ),
        (
            &[("LISTEN", "127.0.0.1:1"), ("ADMIN_LISTEN", "0.0.0.0:1")],
            "admin_listen = 0.0.0.0:1",
        ),
        (
            &[
                ("TLS__CERTIFICATE_FILE", "absent"),
                ("TLS__KEY_FILE", "absent"),
            ],
            "tls.certificate_file",
        ),
        (&[("MASTER_KEY", other)], "GUESTPASS_MASTER_KEY. Set it to"),
        (
            &[("MASTER_KEY_FILE", "/")],
            "the master key /: it is a directory",
        ),
        (&[("MASTER_KEY_FILE", "/dev/null")], "is not a master key"),
        (&[("JOURNAL", "/")], "the journal / can't be used"),
    ] {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        assert!(binary.serve().stop().success());
        for (name, value) in variables {
            binary.set_variable(&format!("GUESTPASS_{name}"), value);
        }
        assert_refused_alike(&binary, hint);
    }
}

#[test]
fn f21_the_check_advises_on_an_issuer_under_which_nothing_is_served() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.set_variable("GUESTPASS_ISSUER", "https://id.example/shop");
    let text = advice(&binary).join("\n");
    assert!(text.contains("base_paths = \"/,/api,/shop\""), "{text}");
    binary.set_variable("GUESTPASS_BASE_PATHS", "/,/api,/shop");
    let text = advice(&binary).join("\n");
    assert!(!text.contains("base_paths"), "{text}");
}
