//! Mistakes are reported before an embedded store is created.

use super::*;
use crate::support::certified::Certified;

#[test]
fn a_misspelt_setting_is_refused_and_the_right_one_named() {
    for (variable, file, hint) in [
        (Some("GUESTPASS_LISTN"), "", "GUESTPASS_LISTEN"),
        (
            Some("GUESTPASS_SQLITE_SYNCHRONOUS"),
            "",
            "GUESTPASS_SQLITE__SYNCHRONOUS",
        ),
        (None, "listne = \"127.0.0.1:0\"", "listen"),
        (None, "[tokens]\ngrase = \"10s\"", "tokens.grace"),
        (None, "master_key = \"x\"", "master_key_file"),
        (None, "listen = ", "guestpass.toml"),
    ] {
        let mut binary = Binary::new();
        if let Some(variable) = variable {
            binary.set_variable(variable, "x");
        }
        std::fs::write(binary.working_dir().join("guestpass.toml"), file).unwrap();
        for command in [
            &["serve"][..],
            &["client", "list"],
            &["config", "check"],
            &["db", "migrate"],
        ] {
            let problem = binary.failure(&[&["--config", "guestpass.toml"], command].concat());
            assert!(
                problem.contains(hint),
                "{command:?} should say {hint}: {problem}"
            );
        }
        assert!(!binary.data_dir().exists());
    }
}

#[test]
fn an_address_that_others_can_reach_needs_an_issuer() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let mut binary = Binary::new();
        let problem = binary.failure(&["serve", "--listen", listen]);
        assert!(problem.contains("--issuer https://"), "{problem}");
        assert!(!binary.data_dir().exists(), "nothing is made before");

        binary.set_variable("GUESTPASS_LISTEN", listen);
        binary.failure(&["config", "check"]);
        binary.set_variable("GUESTPASS_ISSUER", "https://id.example");
        if listen != "0.0.0.0:0" {
            // Not every machine has such an address.
            continue;
        }
        let good = json!({"ok": true, "errors": [], "advice": []});
        assert_eq!(binary.json(&["config", "check"]), good);
    }
    let ended = Binary::new().run(&["serve", "--issuer", "http://id.example"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("https://id.example"), "{ended:?}");
}

#[test]
fn the_check_names_every_client_that_is_unsafe_or_deserves_care() {
    let mut binary = Binary::new();
    // Somebody may use the default.
    binary.set_variable("GUESTPASS_LISTEN", "127.0.0.1:0");
    let names = |list: &Value| {
        let names = list.as_array().unwrap().iter();
        names
            .map(|entry| entry["client_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(binary.run(&["config", "check"]).stdout.contains("good"));
    assert!(!binary.data_dir().exists(), "a check makes nothing");
    for client in [
        "body --no-query-params",
        "query",
        "strict --late-retry revoke",
        "back-end --confidential",
    ] {
        let args: Vec<&str> = client.split(' ').collect();
        binary.json(&[&["client", "add"], &args[..]].concat());
    }
    let checked = binary.json(&["config", "check"]);
    assert_eq!(
        (&checked["ok"], &checked["errors"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(names(&checked["advice"]), ["query"]);
    let text = binary.run(&["config", "check"]);
    for hint in [
        "the configuration is good",
        "guestpass client set query --no-query-params",
        "guestpass client set query --late-retry revoke",
    ] {
        assert!(text.stdout.contains(hint), "should say {hint}: {text:?}");
    }
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""));

    binary.json(&["client", "set", "strict", "--grace", "0s"]);
    binary.set_variable("GUESTPASS_TOKENS__LATE_RETRY", "revoke");
    binary.json(&["client", "set", "strict", "--late-retry", "default"]);
    binary.set_variable("GUESTPASS_TOKENS__LATE_RETRY", "reissue");
    let hint = "guestpass client set strict --late-retry revoke";
    let text = binary.run(&["config", "check"]);
    assert_eq!(text.code, Some(1), "{text:?}");
    assert!(
        text.stdout.contains(hint) && !text.stdout.contains("good"),
        "{text:?}"
    );
    let ended = binary.run(&["config", "check", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.starts_with("guestpass: "), "{ended:?}");
    let checked: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(checked["ok"], false);
    assert_eq!(names(&checked["errors"]), ["strict"]);
    assert_eq!(names(&checked["advice"]), ["query"]);
    assert!(
        checked["errors"][0]["text"]
            .as_str()
            .unwrap()
            .contains(hint)
    );
}

#[test]
fn files_that_tls_can_not_be_spoken_with_are_named() {
    let certified = with_mistakes();
    for (certificate_file, key_file, wrong, hint) in [
        ("chain.pem", "", 0, "Set tls.key_file as well"),
        ("", "server.key", 1, "Set tls.certificate_file as well"),
        ("absent.pem", "server.key", 0, "No such file"),
        ("chain.pem", "absent.key", 1, "No such file"),
        ("server.key", "server.key", 0, "there is no certificate"),
        ("chain.pem", "chain.pem", 1, "there is no private key"),
        ("chain.pem", "encrypted.key", 1, "not encrypted"),
        ("cut off.pem", "server.key", 0, "damaged"),
        ("no x509.pem", "server.key", 0, "X.509 certificate"),
        ("chain.pem", "x25519.key", 1, "RSA, ECDSA or Ed25519"),
        ("chain.pem", "issuing.key", 1, "Name the file with the key"),
        ("wrong order.pem", "server.key", 1, "stand first"),
    ] {
        let mut binary = Binary::new();
        let files = [certificate_file, key_file].map(|name| match name {
            "" => String::new(),
            name => certified.file(name).display().to_string(),
        });
        binary.set_variable("GUESTPASS_TLS__CERTIFICATE_FILE", &files[0]);
        binary.set_variable("GUESTPASS_TLS__KEY_FILE", &files[1]);
        let setting = ["tls.certificate_file", "tls.key_file"][wrong];
        let named = format!("{setting} = {}", files[wrong]);
        for args in [&["config", "check"][..], &["serve"]] {
            let problem = binary.failure(args);
            assert!(problem.contains(&named), "{named}: {problem}");
            assert!(problem.contains(hint), "{hint}: {problem}");
        }
        assert!(!binary.data_dir().exists(), "{named}");
    }
}

/// A certificate and its key, and beside them what isn't either.
fn with_mistakes() -> Certified {
    let certified = Certified::new();
    let read = |name| std::fs::read_to_string(certified.file(name)).unwrap();
    let chain = read("chain.pem");
    let wrong_order = read("issuing.crt") + &read("server.crt");
    let no_x509 = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    for (name, text) in [
        ("wrong order.pem", wrong_order.as_str()),
        ("cut off.pem", &chain[..chain.len() - 30]),
        ("no x509.pem", no_x509),
    ] {
        std::fs::write(certified.file(name), text).unwrap();
    }
    certified.openssl("pkey -in server.key -aes256 -passout pass:hush -out encrypted.key");
    certified.openssl("genpkey -algorithm X25519 -out x25519.key");
    certified
}
