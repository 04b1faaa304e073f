//! Files that are the operator's: what they are counts, and not how they are spelled; and they stay what they are.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::SHOP;
use crate::support::binary::{Binary, run};

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

/// Appends so much to a journal, all of it about tokens that expired long ago, that it is worth a shorter one.
fn lengthen(journal: &Path) {
    let mut file = fs::OpenOptions::new().append(true).open(journal).unwrap();
    let line = "{\"event\":\"access_token_revoked\",\"at\":1,\"jti\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"expires_at\":2}\n";
    file.write_all(line.repeat(15_000).as_bytes()).unwrap();
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[test]
fn f12_a_prepared_journal_is_left_as_it_is() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let journal = binary.data_dir().join("guestpass.journal");
    fs::write(&journal, "").unwrap();
    fs::set_permissions(&journal, Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&journal).unwrap();
    for _ in 0..2 {
        assert!(binary.serve().stop().success());
    }
    let after = fs::metadata(&journal).unwrap();
    assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
    assert!(after.len() > 0);
}

#[test]
fn f12_a_long_journal_is_shortened_where_it_really_lies() {
    let mut binary = Binary::new();
    let elsewhere = binary.working_dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let [link, real] = [binary.working_dir().join("link"), elsewhere.join("real")];
    fs::write(&real, "").unwrap();
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&real, None, Some(fs::metadata(&real).unwrap().gid())).unwrap();
    symlink("elsewhere/real", &link).unwrap();
    binary.set_variable("GUESTPASS_JOURNAL", link.to_str().unwrap());
    binary.json(&["client", "add", SHOP]);
    assert!(binary.serve().stop().success());
    lengthen(&real);
    // A file of the operator's that has a name which a program might use.
    let others = ["real.part", "real.journal-part", "link.journal-part"];
    for name in others {
        fs::write(elsewhere.join(name), name).unwrap();
    }
    assert!(binary.serve().stop().success());
    assert!(length(&real) < 10_000, "{}", length(&real));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    for name in others {
        assert_eq!(fs::read_to_string(elsewhere.join(name)).unwrap(), name);
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1 + others.len());
}

#[test]
fn f12_a_journal_that_cannot_be_replaced_is_served_with() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    assert!(binary.serve().stop().success());
    let journal = binary.data_dir().join("guestpass.journal");
    let other = binary.working_dir().join("also");
    fs::hard_link(&journal, &other).unwrap();
    lengthen(&journal);
    let server = binary.serve();
    let log = server.log();
    assert!(log.contains("WARN"), "{log}");
    assert!(log.contains("can't be replaced"), "{log}");
    assert!(length(&journal) > 1_000_000);
    assert_eq!(
        fs::metadata(&journal).unwrap().ino(),
        fs::metadata(&other).unwrap().ino()
    );
}

#[test]
fn f12_a_journal_that_is_no_file_is_refused() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let pipe = binary.working_dir().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let directory = binary.working_dir().display().to_string();
    for path in [
        pipe.display().to_string(),
        directory,
        "/dev/null".to_owned(),
    ] {
        binary.set_variable("GUESTPASS_JOURNAL", &path);
        let problem = binary.failure(SERVE);
        assert!(problem.contains(&path), "{problem}");
        assert!(problem.contains("no file"), "{problem}");
    }
}

mod sqlite {
    use super::*;

    #[test]
    fn f13_a_database_has_one_server_by_whatever_name() {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let first = binary.serve();
        let [database, key] =
            ["guestpass.db", "master.key"].map(|name| binary.data_dir().join(name));
        let directories = ["soft", "hard", "linked"].map(|name| binary.working_dir().join(name));
        symlink(binary.data_dir(), &directories[2]).unwrap();
        for directory in &directories[..2] {
            fs::create_dir(directory).unwrap();
            fs::copy(&key, directory.join("master.key")).unwrap();
        }
        symlink(&database, directories[0].join("guestpass.db")).unwrap();
        fs::hard_link(&database, directories[1].join("guestpass.db")).unwrap();
        let process = format!("process {}", first.process_id());
        for directory in &directories {
            let args = ["--data-dir", directory.to_str().unwrap()];
            let ended = run(binary.bare_command(&[&args, SERVE].concat()));
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains(&process), "{ended:?}");
            assert!(!directory.join("guestpass.journal").exists() || directory == &directories[2]);
        }
        assert!(first.stop().success());

        // Two databases whose names differ in their ending alone are two.
        let mut servers = Vec::new();
        for name in ["one.db", "one.sqlite", "one"] {
            let path = binary.working_dir().join(name);
            let named = format!("sqlite:{}", path.display());
            binary.set_variable("GUESTPASS_DATABASE", &named);
            let journal = format!("{}.journal", path.display());
            binary.set_variable("GUESTPASS_JOURNAL", &journal);
            let key = format!("{}.key", path.display());
            binary.set_variable("GUESTPASS_MASTER_KEY_FILE", &key);
            servers.push(binary.serve());
        }
    }

    #[test]
    fn f13_a_file_beside_the_database_that_is_not_ours_stays() {
        let binary = Binary::new();
        let lock = binary.data_dir().join("guestpass.lock");
        fs::create_dir(binary.data_dir()).unwrap();
        fs::write(&lock, "notes of the operator").unwrap();
        binary.json(&["client", "add", SHOP]);
        let server = binary.serve();
        let problem = binary.failure(SERVE);
        assert!(
            problem.contains(&format!("process {}", server.process_id())),
            "{problem}"
        );
        assert_eq!(fs::read_to_string(&lock).unwrap(), "notes of the operator");
    }

    #[test]
    fn f14_no_two_settings_name_one_file() {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        assert!(binary.serve().stop().success());
        let data = binary.data_dir();
        let at = |name: &str| data.join(name).display().to_string();
        symlink("data/guestpass.db", binary.working_dir().join("soft")).unwrap();
        fs::hard_link(data.join("master.key"), binary.working_dir().join("hard")).unwrap();
        let [soft, hard] =
            ["soft", "hard"].map(|name| binary.working_dir().join(name).display().to_string());
        let config = binary.working_dir().join("guestpass.toml");
        fs::write(&config, "").unwrap();
        let config = config.to_str().unwrap();
        for (setting, value) in [
            ("GUESTPASS_JOURNAL", at("../data/guestpass.db")),
            ("GUESTPASS_JOURNAL", at("guestpass.db-wal")),
            ("GUESTPASS_JOURNAL", at("./guestpass.db-shm")),
            ("GUESTPASS_JOURNAL", at("guestpass.db-journal")),
            ("GUESTPASS_JOURNAL", at("guestpass.lock")),
            ("GUESTPASS_JOURNAL", soft.clone()),
            ("GUESTPASS_JOURNAL", hard.clone()),
            ("GUESTPASS_JOURNAL", config.to_owned()),
            ("GUESTPASS_MASTER_KEY_FILE", soft),
            ("GUESTPASS_MASTER_KEY_FILE", at("guestpass.journal")),
            ("GUESTPASS_DATABASE", format!("sqlite:{hard}")),
        ] {
            for command in [&["config", "check"][..], SERVE] {
                let data_dir = ["--data-dir", data.to_str().unwrap(), "--config", config];
                let mut command = binary.bare_command(&[&data_dir, command].concat());
                command.env(setting, &value);
                let ended = run(command);
                assert_eq!(ended.code, Some(1), "{setting}={value}: {ended:?}");
                assert!(ended.stderr.contains("a file of its own"), "{ended:?}");
            }
        }
        assert!(binary.serve().stop().success());
    }
}
