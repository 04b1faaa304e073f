//! The data directory of an embedded store: its one server, its database and the master key that the first server
//! makes.

use super::*;

#[test]
fn a_data_directory_has_one_server() {
    let binary = Binary::new();
    let first = binary.serve();
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    for named in [
        format!("process {} on http://{}", first.process_id(), first.address),
        binary.data_dir().display().to_string(),
    ] {
        assert!(problem.contains(&named), "{problem}");
    }
    assert_eq!(
        first.send(&request("GET", "/readyz")).status,
        StatusCode::OK
    );
    // However the first one ends, the next one starts, and nothing is left of what the file said.
    first.kill();
    let left = "process 4194304 on http://127.0.0.1:65535, and whatever else it did";
    std::fs::write(binary.data_dir().join("guestpass.lock"), left).unwrap();
    let second = binary.serve();
    let holder = format!(
        "process {} on http://{}",
        second.process_id(),
        second.address
    );
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(problem.contains(&format!("by {holder}. Stop")), "{problem}");
    assert!(second.stop().success());
    binary.serve();
}

#[test]
fn a_master_key_is_made_once_and_for_its_owner_alone() {
    let binary = Binary::new();
    let tokens = guest(&binary);
    let file = binary.data_dir().join("master.key");
    let made = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        (made.len(), made.lines().count()),
        (45, 1),
        "base64 of 32 bytes, and a line's end"
    );
    for (path, mode) in [("master.key", 0o600), ("guestpass.db", 0o600), ("", 0o700)] {
        let permissions = std::fs::metadata(binary.data_dir().join(path))
            .unwrap()
            .permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{path}");
    }
    still_served(&binary, &tokens);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made);
}

#[test]
fn a_prepared_master_key_is_taken_and_a_lost_database_is_noticed() {
    let binary = Binary::new();
    std::fs::create_dir(binary.data_dir()).unwrap();
    let file = binary.data_dir().join("master.key");
    std::fs::write(&file, MASTER_KEY).unwrap();
    // It could be what is left of an installation, whose guests would be refused for good.
    for command in [&["serve"][..], &["client", "add", "shop"]] {
        assert!(binary.failure(command).contains("guestpass db migrate"));
        assert!(!binary.data_dir().join("guestpass.db").exists());
    }
    binary.json(&["db", "migrate"]);
    let tokens = guest(&binary);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), MASTER_KEY);

    // It is the one that counts, wherever it comes from.
    let mut binary = binary;
    std::fs::remove_file(&file).unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY", MASTER_KEY);
    still_served(&binary, &tokens);
    assert!(!file.exists());
}

#[test]
fn a_new_installation_takes_the_master_key_that_it_is_given() {
    let mut binary = Binary::new();
    let file = binary.working_dir().join("given.key");
    std::fs::write(&file, MASTER_KEY).unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", file.to_str().unwrap());
    let tokens = guest(&binary);
    still_served(&binary, &tokens);
    assert!(!binary.data_dir().join("master.key").exists());
}

#[test]
fn a_master_key_from_the_environment_is_kept_nowhere() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_MASTER_KEY", MASTER_KEY);
    binary.set_variable("GUESTPASS_LOG__LEVEL", "trace");
    let tokens = guest(&binary);
    still_served(&binary, &tokens);
    let raw: Vec<u8> = (0..32).collect();
    for path in files(binary.working_dir()) {
        let bytes = std::fs::read(&path).unwrap();
        for secret in [MASTER_KEY.as_bytes(), &raw] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_systemd_credential_is_the_master_key_unless_another_file_is_named() {
    let mut binary = Binary::new();
    let credentials = binary.working_dir().join("credentials");
    let credential = credentials.join("guestpass.master_key");
    std::fs::create_dir(&credentials).unwrap();
    binary.set_variable("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    // The unit's other credentials are not ours.
    std::fs::write(credentials.join("tls.key"), "something else").unwrap();
    let usual = binary.data_dir().join("master.key");
    assert_eq!(master_key_file(&binary), of(&usual, "default"));
    std::fs::write(&credential, MASTER_KEY).unwrap();
    assert_eq!(
        master_key_file(&binary),
        of(&credential, "systemd credential")
    );

    // A new installation is made with it, and no other opens that.
    let tokens = guest(&binary);
    still_served(&binary, &tokens);
    assert!(!usual.exists());
    std::fs::write(&credential, MASTER_KEY.replace("AAEC", "AAED")).unwrap();
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(problem.contains(credential.to_str().unwrap()), "{problem}");

    // It stays the wrong one from here on, and doesn't count.
    let (named, file) = (
        binary.working_dir().join("named.key"),
        binary.working_dir().join("guestpass.toml"),
    );
    std::fs::write(&named, MASTER_KEY).unwrap();
    std::fs::write(&file, format!("master_key_file = {named:?}")).unwrap();
    binary.set_variable("GUESTPASS_CONFIG", file.to_str().unwrap());
    let origin = format!("file {}", file.display());
    assert_eq!(master_key_file(&binary), of(&named, &origin));
    still_served(&binary, &tokens);
    std::fs::write(&file, "").unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", named.to_str().unwrap());
    let origin = "environment GUESTPASS_MASTER_KEY_FILE";
    assert_eq!(master_key_file(&binary), of(&named, origin));
    still_served(&binary, &tokens);
}

#[test]
fn a_missing_master_key_is_asked_for_and_not_replaced() {
    let binary = Binary::new();
    let tokens = guest(&binary);
    let (file, aside) = (
        binary.data_dir().join("master.key"),
        binary.data_dir().join("aside"),
    );
    std::fs::rename(&file, &aside).unwrap();
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(problem.contains(file.to_str().unwrap()), "{problem}");
    assert!(problem.contains("GUESTPASS_MASTER_KEY"), "{problem}");
    assert!(!file.exists());
    std::fs::rename(&aside, &file).unwrap();
    still_served(&binary, &tokens);
}

#[test]
fn a_wrong_master_key_is_refused_and_the_right_one_asked_for() {
    let mut binary = Binary::new();
    let tokens = guest(&binary);
    let file = binary.data_dir().join("master.key");
    let right = std::fs::read_to_string(&file).unwrap();
    let database = binary.data_dir().join("guestpass.db");
    let (file_name, database) = (file.to_str().unwrap(), database.to_str().unwrap());
    for (text, hints) in [
        (MASTER_KEY, [file_name, database]),
        ("not a key", [file_name, "44 characters"]),
        (&MASTER_KEY[..40], [file_name, "44 characters"]),
        ("", [file_name, "44 characters"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(
            hints.iter().all(|hint| problem.contains(hint)),
            "{text}: {problem}"
        );
        assert!(text.is_empty() || !problem.contains(text), "{problem}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    std::fs::write(&file, right).unwrap();
    still_served(&binary, &tokens);
    for key in [MASTER_KEY, "not a key"] {
        binary.set_variable("GUESTPASS_MASTER_KEY", key);
        let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(problem.contains("GUESTPASS_MASTER_KEY"), "{problem}");
        assert!(!problem.contains(key), "{problem}");
    }
}

#[test]
fn a_database_of_another_first_schema_is_refused() {
    for (change, difference) in [
        (
            "alter table api_keys drop column revoked_at",
            "api_keys.revoked_at",
        ),
        ("drop table client_choices", "client_choices.client_number"),
        ("alter table profiles add column name text", "profiles.name"),
    ] {
        let binary = Binary::new();
        binary.json(&["db", "migrate"]);
        let file = binary.data_dir().join("guestpass.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.execute_batch(change).unwrap();
        for command in [
            &["serve", "--listen", "127.0.0.1:0"][..],
            &["client", "list"],
            &["db", "migrate"],
            &["db", "migrate", "--dry-run"],
        ] {
            let problem = binary.failure(command);
            assert!(problem.contains("unreleased version"), "{problem}");
            assert!(problem.contains(difference), "{command:?}: {problem}");
        }
    }
}

#[test]
fn a_newer_database_is_left_alone() {
    let binary = Binary::new();
    binary.json(&["db", "migrate"]);
    let open = || rusqlite::Connection::open(binary.data_dir().join("guestpass.db")).unwrap();
    open().pragma_update(None, "user_version", 9999).unwrap();
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["client", "add", SHOP],
        &["client", "list"],
        &["profile", "show", "1"],
        &["db", "check"],
        &["db", "migrate"],
    ] {
        let problem = binary.failure(command);
        assert!(
            problem.contains("newer version of guestpass"),
            "{command:?}: {problem}"
        );
    }
    let version: i64 = open()
        .query_row("pragma user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 9999);
}
