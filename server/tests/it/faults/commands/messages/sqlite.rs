//! Mistakes with the files of an embedded store.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::support::binary::without_rights;
use crate::support::faults::{Call, Errno, Faults};

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
        ("sqlite:?mode=memory", "Name a file"),
        ("sqlite:guests?mode=memory&cache=shared", "Name a file"),
        ("sqlite://:memory:", "Name a file"),
        ("sqlite:///:memory:", "Name a file"),
        ("sqlite::MEMORY:", "Name a file"),
        ("sqlite:FILE:x", "./FILE:x"),
        ("sqlite:file:///x", "named by the setting database"),
        ("sqlite:x.db?journal_mode=off", "leave out the ?"),
        ("sqlite://guests.db", "sqlite:/PATH"),
    ] {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_DATABASE", value);
        for command in [&["serve"][..], &["config", "check"], &["client", "list"]] {
            let ended = run(binary.bare_command(command));
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("database"), "{ended:?}");
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
        for hint in [file.to_str().unwrap(), "it is a directory"] {
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

#[test]
fn f27_a_disk_that_is_full_when_the_database_is_opened_is_named() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    assert!(binary.serve().stop().success());
    let file = binary.data_dir().join("guestpass.db");
    let faults = Faults::under(&mut binary);
    // SQLite lengthens the index, and only ever shortens the log.
    for (ending, calls) in [
        ("-shm", &[Call::Write, Call::Truncate][..]),
        ("-shm", &[Call::Write]),
        ("-wal", &[Call::Write]),
    ] {
        faults.fail(calls, Errno::Enospc, ending);
        let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
        for hint in [file.to_str().unwrap(), "full", "room"] {
            assert!(problem.contains(hint), "{ending}: {problem}");
        }
        faults.heal();
    }
    assert!(binary.serve().stop().success());
}

#[test]
fn f27_a_database_that_may_not_be_read_is_named_with_who_may_not() {
    let commands = [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["client", "list"],
        &["config", "check"],
        &["db", "migrate"],
    ];
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let file = binary.data_dir().join("guestpass.db");
    for (data, database) in [(0o000, 0o600), (0o755, 0o000)] {
        for (path, mode) in [(&file, database), (&binary.data_dir(), data)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        for command in commands {
            let ended = run(without_rights(binary.command(command), &binary));
            assert_eq!(ended.code, Some(1), "{command:?} {ended:?}");
            for hint in [
                file.to_str().unwrap(),
                "Permission denied",
                "The user that guestpass runs as, number ",
            ] {
                assert!(ended.stderr.contains(hint), "{hint} {command:?} {ended:?}");
            }
        }
        fs::set_permissions(binary.data_dir(), Permissions::from_mode(0o700)).unwrap();
    }
}
