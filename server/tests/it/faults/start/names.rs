//! One database under several names.

mod sqlite {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::support::binary::{Binary, Ended, Server, run};
    use crate::support::{SHOP, refresh};

    /// Every way in which a command opens a database.
    const COMMANDS: [&[&str]; 7] = [
        &["client", "add", "another"],
        &["client", "list"],
        &["db", "check"],
        &["db", "migrate"],
        &["db", "migrate", "--dry-run"],
        &["key", "rotate", "--force"],
        &["config", "check"],
    ];

    /// An installation, and another directory that has the same database and the same key as hard links.
    fn two_names() -> (Binary, PathBuf) {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let other = binary.working_dir().join("other");
        fs::create_dir(&other).unwrap();
        assert!(binary.serve().stop().success());
        for name in ["guestpass.db", "master.key", "guestpass.journal"] {
            fs::hard_link(binary.data_dir().join(name), other.join(name)).unwrap();
        }
        (binary, other)
    }

    fn run_in(binary: &Binary, directory: &Path, args: &[&str]) -> Ended {
        let data_dir = ["--data-dir", directory.to_str().unwrap()];
        run(binary.bare_command(&[&data_dir, args].concat()))
    }

    /// Every command fails in a directory, with these words, and leaves no log there.
    fn refused_in(binary: &Binary, directory: &Path, parts: &[&str]) {
        for command in COMMANDS {
            let ended = run_in(binary, directory, command);
            assert_eq!(ended.code, Some(1), "{command:?}: {ended:?}");
            for part in parts {
                assert!(ended.stderr.contains(part), "{command:?}: {ended:?}");
            }
            assert!(!directory.join("guestpass.db-wal").exists(), "{command:?}");
        }
    }

    fn sound(binary: &Binary, directory: &Path) {
        let ended = run_in(binary, directory, &["--json", "db", "check"]);
        assert_eq!(ended.json()["ok"], true);
    }

    #[test]
    fn f13_a_command_goes_by_the_name_that_the_server_goes_by() {
        let (binary, other) = two_names();
        let of_server = fs::canonicalize(binary.data_dir().join("guestpass.db")).unwrap();
        let server = binary.serve();
        let guest = server.guest();
        refused_in(&binary, &other, &[of_server.to_str().unwrap(), "in use"]);
        sound(&binary, &binary.data_dir());
        server.send(&refresh(&guest.refresh_token)).tokens();

        // After a crash the log is beside the one name, and what is in it must not be missed.
        server.kill();
        refused_in(&binary, &other, &["not closed", "-samefile"]);
        sound(&binary, &binary.data_dir());
        let server = binary.serve();
        server.send(&refresh(&guest.refresh_token)).tokens();
        assert!(server.stop().success());

        // Nobody has it now, and it was closed.
        sound(&binary, &other);
        sound(&binary, &binary.data_dir());
    }

    #[test]
    fn f13_a_server_may_have_come_by_the_other_name() {
        let (mut binary, other) = two_names();
        let named = format!("sqlite:{}", other.join("guestpass.db").display());
        let original = binary.data_dir();
        let server: Server = {
            binary.set_variable("GUESTPASS_DATABASE", &named);
            let server = binary.serve();
            binary.clear_variable("GUESTPASS_DATABASE");
            server
        };
        let guest = server.guest();
        let of_server = fs::canonicalize(other.join("guestpass.db")).unwrap();
        refused_in(&binary, &original, &[of_server.to_str().unwrap(), "in use"]);
        sound(&binary, &other);
        server.send(&refresh(&guest.refresh_token)).tokens();
        server.kill();
        refused_in(&binary, &original, &["not closed"]);
        sound(&binary, &other);
    }

    #[test]
    fn f13_two_commands_go_by_one_name() {
        let (binary, other) = two_names();
        // One that has the database open, as a long import has.
        let first = rusqlite::Connection::open(binary.data_dir().join("guestpass.db")).unwrap();
        first
            .execute_batch("begin immediate; update probe set writes = writes + 1; commit")
            .unwrap();
        refused_in(&binary, &other, &["in use"]);
        sound(&binary, &binary.data_dir());
        drop(first);
        sound(&binary, &other);
    }
}
