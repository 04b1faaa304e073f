//! Mistakes with the files of an embedded store.

use std::fs;

use super::*;

#[test]
fn f27_a_new_installation_has_no_keys_yet() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    for command in ["list", "export", "rotate"] {
        let problem = binary.failure(&["key", command]);
        assert_eq!(
            problem,
            "guestpass: there are no keys yet: `guestpass serve` makes them\n"
        );
    }
}

#[test]
fn f27_a_wrong_master_key_is_named_by_where_it_comes_from() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    let other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let file = binary.data_dir().join("master.key");
    let own = fs::read_to_string(&file).unwrap();
    fs::write(&file, other).unwrap();
    let problem = binary.failure(&["serve"]);
    let hint = format!("{}. Bring the master key", file.display());
    assert!(problem.contains(&hint), "{problem}");
    fs::write(&file, own).unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY", other);
    for command in [&["serve"][..], &["key", "list"]] {
        let problem = binary.failure(command);
        assert!(
            problem.contains("GUESTPASS_MASTER_KEY. Set it to"),
            "{problem}"
        );
        assert!(!problem.contains(other), "{problem}");
    }
}

#[test]
fn f27_no_database_in_memory() {
    for (value, hint) in [
        ("sqlite::memory:", "Name a file"),
        ("sqlite:file:x?mode=memory", "./file:x"),
        ("sqlite:file::memory:", "./file:"),
        ("sqlite::x", "./:x"),
    ] {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_DATABASE", value);
        for command in [&["serve"][..], &["config", "check"], &["client", "list"]] {
            let ended = run(binary.bare_command(command));
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("database = sqlite:"), "{ended:?}");
            assert!(ended.stderr.contains(hint), "{ended:?}");
        }
        assert_eq!(fs::read_dir(binary.working_dir()).unwrap().count(), 0);
    }
}

#[test]
fn f27_a_database_that_cannot_be_used_is_named_with_the_reason() {
    let commands = [
        &["client", "list"][..],
        &["serve", "--listen", "127.0.0.1:0"],
    ];
    let with_file = |content: Option<&[u8]>| {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        drop(binary.serve());
        let file = binary.data_dir().join("guestpass.db");
        match content {
            Some(content) => fs::write(&file, content).unwrap(),
            None => {
                fs::remove_file(&file).unwrap();
                fs::create_dir(&file).unwrap();
            }
        }
        (binary, file)
    };
    // Not a database at all.
    let (binary, file) = with_file(Some(&[b'x'; 8192]));
    for command in commands {
        let problem = binary.failure(command);
        for hint in [
            file.to_str().unwrap(),
            "file is not a database",
            "restore a backup",
        ] {
            assert!(problem.contains(hint), "{problem}");
        }
    }
    // A directory in its place.
    let (binary, file) = with_file(None);
    for command in commands {
        let problem = binary.failure(command);
        for hint in [file.to_str().unwrap(), "Is a directory"] {
            assert!(problem.contains(hint), "{problem}");
        }
    }
    // Damaged pages behind a sound header.
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    drop(binary.serve());
    binary.sql("pragma wal_checkpoint(truncate)");
    let file = binary.data_dir().join("guestpass.db");
    let mut bytes = fs::read(&file).unwrap();
    let damaged = bytes.len() / 2;
    bytes[2048..damaged.max(8192)].fill(0xaa);
    fs::write(&file, bytes).unwrap();
    for command in commands {
        let problem = binary.failure(command);
        for hint in [file.to_str().unwrap(), "malformed", "restore a backup"] {
            assert!(problem.contains(hint), "{command:?}: {problem}");
        }
    }
}
