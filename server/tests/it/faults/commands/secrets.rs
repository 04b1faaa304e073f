//! Secrets that an operator has written where they are quoted.

use crate::support::binary::{Binary, Ended, run};
use crate::support::{ISSUER, SHOP};

const SECRET: &str = "S3cretpw";

fn assert_quiet(ended: &Ended, of: &str) {
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!all.contains(SECRET), "{of}: {ended:?}");
}

/// Ways to write the URL of a database with a password, right and wrong ones.
fn urls() -> Vec<String> {
    [
        "postgres:/guest:S3cretpw@db.invalid/x",
        "postgres//guest:S3cretpw@db.invalid/x",
        "postgress://guest:S3cretpw@db.invalid/x",
        "postgres:guest:S3cretpw@db.invalid/x",
        "guest:S3cretpw@db.invalid/x",
        "host=db.invalid password=S3cretpw",
        "postgres://guest:S3cretpw@db.invalid:x/y",
        "postgres://guest:S3cretpw@/y",
        "postgres://guest:a@S3cretpw@127.0.0.1:1/x",
        "postgres://guest:a/S3cretpw@127.0.0.1:1/x",
        "postgres://guest:1/S3cretpw@127.0.0.1:1/x",
        "postgres://guest:a?S3cretpw@127.0.0.1:1/x",
        "postgres://guest:a%S3cretpw@127.0.0.1:1/x",
        "postgres://guest%3AS3cretpw@127.0.0.1:1/x",
        "postgres://127.0.0.1:1/guest%3AS3cretpw@x",
        "postgres://guest@127.0.0.1:1/x?password=S3cretpw",
        "postgres://guest@127.0.0.1:1/x?passwd=S3cretpw",
        "postgres://guest@127.0.0.1:1/x?S3cretpw",
        "postgres://guest@127.0.0.1:1/x?S3cretpw=",
        "postgres://guest@127.0.0.1:1/x?connect_timeout=S3cretpw",
        "postgres://guest:S3cretpw@127.0.0.1:1/x",
        " postgres://guest:S3cretpw@127.0.0.1:1/x",
        "POSTGRES://guest:S3cretpw@127.0.0.1:1/x",
        "sqlite:guest:S3cretpw@db.invalid",
        "sqlite:postgres://guest:S3cretpw@127.0.0.1:1/x",
        "sqlite:file:guest:S3cretpw@db.invalid",
        "sqlite: postgres://guest:a/S3cretpw@127.0.0.1:1/x",
    ]
    .map(ToOwned::to_owned)
    .to_vec()
}

#[test]
fn f24_no_message_shows_the_password_of_a_database() {
    for url in urls() {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_DATABASE", &url);
        binary.set_variable("GUESTPASS_ISSUER", ISSUER);
        for command in [
            "db check",
            "config show",
            "config check",
            "serve",
            "client list",
        ] {
            let words: Vec<_> = command.split(' ').collect();
            let ended = run(binary.bare_command(&words));
            assert_quiet(&ended, &url);
            if ended.code == Some(1) {
                assert!(ended.stderr.contains("database"), "{url}: {ended:?}");
            }
        }
        let source = Binary::new();
        for args in [
            &["db", "copy", "--to", &url][..],
            &["db", "copy", &url],
            &["db", "check", &url],
            &["serve", "--issuer", &url],
            &["--database", &url, "db", "check"],
            &["--data-dir", &url, "client", "list"],
            &["--data-dir", &url, "serve"],
            &["--config", &url, "client", "list"],
            &[
                "--data-dir",
                "data",
                "profile",
                "import",
                &url,
                "--client",
                SHOP,
            ],
            &["client", "show", &url],
            &["client", "add", SHOP, "--origin", &url],
        ] {
            assert_quiet(&run(source.bare_command(args)), &url);
        }
    }
}

#[test]
fn f24_no_path_is_the_url_of_a_database() {
    for setting in [
        "DATA_DIR",
        "JOURNAL",
        "MASTER_KEY_FILE",
        "POSTGRES__PASSWORD_FILE",
        "TLS__KEY_FILE",
        "TLS__CERTIFICATE_FILE",
        "CONFIG",
        "NODE",
    ] {
        for url in urls().iter().filter(|url| !url.starts_with("host=")) {
            let mut binary = Binary::new();
            for tls in ["CERTIFICATE_FILE", "KEY_FILE"] {
                binary.set_variable(&format!("GUESTPASS_TLS__{tls}"), "absent");
            }
            binary.set_variable(&format!("GUESTPASS_{setting}"), url);
            let ended = run(binary.bare_command(&["config", "show"]));
            assert_quiet(&ended, &format!("{setting}={url}"));
            if setting != "NODE" {
                assert_eq!(ended.code, Some(1), "{setting}={url} {ended:?}");
            }
            assert_eq!(std::fs::read_dir(binary.working_dir()).unwrap().count(), 0);
        }
    }
}

#[test]
fn f24_a_secret_in_the_place_of_a_file_is_not_shown() {
    let key = "UzNjcmV0cHctUzNjcmV0cHctUzNjcmV0cHctUzNjcmU=";
    let private_key = "-----BEGIN PRIVATE KEY-----\nS3cretpw\n-----END PRIVATE KEY-----";
    for (variable, value) in [
        ("MASTER_KEY_FILE", key),
        ("POSTGRES__PASSWORD_FILE", SECRET),
        ("TLS__KEY_FILE", private_key),
    ] {
        let mut binary = Binary::new();
        binary.set_variable(&format!("GUESTPASS_{variable}"), value);
        binary.set_variable("GUESTPASS_TLS__CERTIFICATE_FILE", "certificate.pem");
        if variable != "TLS__KEY_FILE" {
            binary.set_variable("GUESTPASS_TLS__KEY_FILE", "key.pem");
        }
        for command in [&["config", "show"][..], &["config", "check"], &["serve"]] {
            let ended = run(binary.bare_command(command));
            let all = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!all.contains(SECRET) && !all.contains(key), "{ended:?}");
        }
    }
}

#[test]
fn f24_a_token_or_key_on_the_command_line_is_not_quoted() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let tokens = binary.serve().guest();
    let key = "gpk_S3cretpw-S3cretpw-S3cretpw-S3cretpw-S3cretpw-S3cretp";
    // One of 64 begins with a hyphen. (Were the next one h, it would ask for help.)
    let like_flag = format!("-k{}", &tokens.refresh_token[2..]);
    for secret in [
        tokens.refresh_token.as_str(),
        tokens.access_token.as_str(),
        key,
        &like_flag,
    ] {
        for args in [
            &["explain", secret][..],
            &["explain", "--token", secret],
            &["client", "key", "revoke", SHOP, secret],
            &["profile", "show", secret],
            &["client", "show", secret],
            &["client", "disable", secret],
            &["profile", "import", secret],
            &["key", "remove", secret],
            &[secret],
        ] {
            let ended = binary.run(args);
            let all = format!("{}{}", ended.stdout, ended.stderr);
            assert_ne!(ended.code, Some(0), "{ended:?}");
            assert!(!all.contains(secret), "{ended:?}");
        }
    }
}

#[test]
fn f24_a_password_in_the_list_of_processes_is_warned_of() {
    let binary = Binary::new();
    let help = binary.run(&["db", "copy", "--help"]);
    for hint in ["list of processes", "postgres.password_file"] {
        assert!(
            help.stdout.replace("\n          ", " ").contains(hint),
            "{help:?}"
        );
    }
}
