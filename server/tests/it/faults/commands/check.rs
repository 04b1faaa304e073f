//! `config check` finds what `serve` would refuse.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::support::SHOP;
use crate::support::binary::{Binary, run, without_rights};

mod sqlite;

/// Checks that `config check` and `serve` refuse with the same sentence, which holds `hint`.
fn assert_refused_alike(binary: &Binary, hint: &str) {
    let checked = binary.failure(&["config", "check"]);
    let served = binary.failure(&["serve"]);
    assert!(checked.contains(hint), "{hint}: {checked}");
    // Lines of the log may stand before it.
    assert!(served.ends_with(&checked), "{checked}{served}");
}

/// Checks the same of commands that another user may have to run, and that the check makes nothing.
fn assert_refused_alike_as(binary: &Binary, of: impl Fn(Command) -> Command, hints: &[&str]) {
    let [checked, served] = [&["config", "check"][..], &["serve"]].map(|args| {
        let ended = run(of(binary.command(args)));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.stderr
    });
    for hint in hints {
        assert!(checked.contains(hint), "{hint}: {checked}");
    }
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
                ("LISTEN", "127.0.0.1:1"),
                ("ADMIN_LISTEN", "[::ffff:127.0.0.1]:1"),
            ],
            "admin_listen = [::ffff:127.0.0.1]:1",
        ),
        // An address for documentation, which nobody has (RFC 5737).
        (
            &[("LISTEN", "192.0.2.1:0"), ("ISSUER", "https://id.example")],
            "can't listen on 192.0.2.1:0",
        ),
        (
            &[
                ("LISTEN", "127.0.0.1:0"),
                ("ADMIN_LISTEN", "192.0.2.1:0"),
                ("ADMIN__TOKEN_FILE", "./token"),
                ("ADMIN__TLS", "in-front"),
            ],
            "with admin_listen",
        ),
        (&[("LISTEN", "localhost:80")], "write an IP address"),
        (
            &[("JOURNAL", "absent/guestpass.journal")],
            "the journal absent/guestpass.journal can't be used: No such file",
        ),
        (
            &[("JOURNAL", "/proc/version/guestpass.journal")],
            "can't be used: Not a directory",
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
        (
            &[("MASTER_KEY_FILE", "/dev/null")],
            "the master key /dev/null: it is a device",
        ),
        (&[("JOURNAL", "/")], "the journal / can't be used"),
    ] {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        assert!(binary.serve().stop().success());
        fs::write(binary.working_dir().join("token"), "t".repeat(32)).unwrap();
        for (name, value) in variables {
            binary.set_variable(&format!("GUESTPASS_{name}"), value);
        }
        assert_refused_alike(&binary, hint);
    }
}

#[test]
fn f21_the_check_finds_a_data_directory_that_cannot_be_made() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let file = binary.working_dir().join("file");
    fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink("nowhere", binary.working_dir().join("link")).unwrap();
    for (directory, hint) in [
        ("file", "data_dir = file: it is a file, not a directory"),
        ("file/data", "file/data can't be made: Not a directory"),
        ("link", "link can't be made: File exists"),
    ] {
        binary.set_variable("GUESTPASS_DATA_DIR", directory);
        let bare = |command: Command| {
            let args = command.get_args().skip(2);
            let args: Vec<_> = args.map(|argument| argument.to_str().unwrap()).collect();
            binary.bare_command(&args)
        };
        assert_refused_alike_as(&binary, bare, &[hint]);
    }
}

#[test]
fn f21_the_check_finds_a_journal_that_may_not_be_written() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let locked = binary.working_dir().join("locked");
    fs::create_dir(&locked).unwrap();
    let journal = locked.join("guestpass.journal");
    binary.set_variable("GUESTPASS_JOURNAL", journal.to_str().unwrap());
    let data = binary.data_dir();
    let open_to_all = "chmod -R a+rwX \"$0\" && chmod 555 \"$1\"";
    let prepared = Command::new("sh")
        .args(["-c", open_to_all])
        .args([&data, &locked])
        .status();
    assert!(prepared.unwrap().success());
    let as_nobody = |command| without_rights(command, &binary);
    let hints = [
        journal.to_str().unwrap(),
        "can't be used: Permission denied",
    ];
    assert_refused_alike_as(&binary, as_nobody, &hints);
    assert!(!journal.exists());
}

#[test]
fn f21_the_check_makes_nothing() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let files = || {
        let files = fs::read_dir(binary.data_dir()).unwrap();
        let read = |path: &std::path::Path| (path.to_owned(), fs::read(path).unwrap());
        let mut files: Vec<_> = files.map(|file| read(&file.unwrap().path())).collect();
        files.sort();
        files
    };
    for _ in 0..2 {
        let before = files();
        binary.json(&["config", "check"]);
        assert!(before == files());
        assert!(binary.serve().stop().success());
    }
}

#[test]
fn f21_the_check_advises_on_an_address_that_is_taken() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    binary.set_variable("GUESTPASS_LISTEN", &address);
    let text = advice(&binary).join("\n");
    assert!(text.contains(&format!("{address} is in use")), "{text}");
    // It is free again at once, and was never listened on.
    drop(listener);
    let text = advice(&binary).join("\n");
    assert!(!text.contains("in use"), "{text}");
    assert!(TcpListener::bind(&address).is_ok());
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
