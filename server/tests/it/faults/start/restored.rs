//! A backup that comes back, over whatever there is.

mod sqlite {
    use std::fs;
    use std::path::PathBuf;

    use crate::support::binary::{Binary, Server};
    use crate::support::{GrantsInFile, SHOP, authorize, refresh, revoke};

    const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

    fn installation() -> (Binary, PathBuf, PathBuf) {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let database = binary.data_dir().join("guestpass.db");
        let backup = binary.working_dir().join("backup.db");
        (binary, database, backup)
    }

    fn many_guests(server: &Server) {
        let mut connection = server.connect();
        for _ in 0..100 {
            connection.send(&authorize()).unwrap();
        }
    }

    /// Returns the one line of the log that is an error.
    fn only_error(log: &str) -> &str {
        let errors: Vec<_> = log.lines().filter(|line| line.contains("ERROR")).collect();
        let [line] = errors[..] else {
            panic!("{log}");
        };
        line
    }

    #[test]
    fn f10_a_database_that_went_back_says_since_when_guests_are_missing() {
        let (binary, database, backup) = installation();
        let server = binary.serve();
        let early = server.guest();
        assert!(server.stop().success());
        fs::copy(&database, &backup).unwrap();
        // Nothing is revoked, and so nothing in the journal is about a guest.
        let server = binary.serve();
        let late = server.guest();
        assert!(!server.log().contains("ERROR"), "{}", server.log());
        assert!(server.stop().success());
        fs::copy(&backup, &database).unwrap();

        let server = binary.serve();
        let log = server.log();
        let line = only_error(&log);
        assert!(line.contains("as it was at 2"), "{line}");
        assert!(line.contains("missing"), "{line}");
        server.send(&refresh(&early.refresh_token)).tokens();
        let refused = server.send(&refresh(&late.refresh_token));
        assert_eq!(refused.error(), "invalid_grant");
        assert!(server.stop().success());
        // It is said once.
        let log = binary.serve().log();
        assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    }

    #[test]
    fn f10_a_backup_of_the_last_minute_says_that_guests_are_missing() {
        for is_killed in [false, true] {
            let (binary, database, backup) = installation();
            let server = binary.serve();
            let early = server.guest();
            let connection = rusqlite::Connection::open(&database).unwrap();
            connection
                .execute("vacuum into ?", [backup.to_str().unwrap()])
                .unwrap();
            drop(connection);
            let late = server.guest();
            // Of what a crash has left, the journal must know of something.
            let revoked = server.send(&revoke(&late.refresh_token));
            assert_eq!(revoked.status, 200);
            match is_killed {
                true => server.kill(),
                false => assert!(server.stop().success()),
            }
            for suffix in ["-wal", "-shm"] {
                let _ = fs::remove_file(format!("{}{suffix}", database.display()));
            }
            fs::copy(&backup, &database).unwrap();
            let server = binary.serve();
            let log = server.log();
            let line = only_error(&log);
            assert!(line.contains("missing"), "{line}");
            server.send(&refresh(&early.refresh_token)).tokens();
            assert!(server.stop().success());
            let log = binary.serve().log();
            assert_eq!(log.matches("ERROR").count(), 1, "{log}");
        }
    }

    #[test]
    fn f11_a_log_of_another_database_is_refused() {
        for has_started_between in [true, false] {
            let (binary, database, backup) = installation();
            let server = binary.serve();
            let guest = server.guest();
            many_guests(&server);
            assert!(server.stop().success());
            fs::copy(&database, &backup).unwrap();
            let mut server = binary.serve();
            many_guests(&server);
            if has_started_between {
                assert!(server.stop().success());
                server = binary.serve();
                many_guests(&server);
            }
            server.kill();
            fs::copy(&backup, &database).unwrap();

            let beside = |suffix| PathBuf::from(format!("{}{suffix}", database.display()));
            let before = [&database, &beside("-wal")].map(|file| fs::read(file).unwrap());
            for command in [
                SERVE,
                &["db", "check"],
                &["client", "list"],
                &["db", "migrate"],
            ] {
                let problem = binary.failure(command);
                for part in [beside("-wal"), beside("-shm"), database.clone()] {
                    assert!(problem.contains(part.to_str().unwrap()), "{problem}");
                }
            }
            let after = [&database, &beside("-wal")].map(|file| fs::read(file).unwrap());
            assert!(before == after, "a refusal changes nothing");

            // As it says.
            for suffix in ["-wal", "-shm"] {
                fs::remove_file(beside(suffix)).unwrap();
            }
            let server = binary.serve();
            server.send(&refresh(&guest.refresh_token)).tokens();
            assert_eq!(binary.json(&["db", "check"])["ok"], true);
        }
    }

    #[test]
    fn f11_the_log_of_a_crash_is_taken_wherever_it_came() {
        let (binary, _, _) = installation();
        let mut guests = Vec::new();
        for _ in 0..3 {
            let server = binary.serve();
            guests.push(server.guest());
            server.kill();
            // Beside no server, and with one.
            assert_eq!(binary.json(&["db", "check"])["ok"], true);
            let server = binary.serve();
            assert_eq!(binary.json(&["db", "check"])["ok"], true);
            for guest in &guests {
                server.send(&refresh(&guest.refresh_token)).tokens();
            }
            server.kill();
        }
    }

    #[test]
    fn f11_what_a_crash_has_damaged_is_refused() {
        let (binary, database, _) = installation();
        let server = binary.serve();
        many_guests(&server);
        assert!(server.stop().success());
        let grants = GrantsInFile::find(&database);
        let server = binary.serve();
        server.guest();
        server.kill();
        // Nothing that a start would read.
        grants.damage(&database);
        let problem = binary.failure(SERVE);
        assert!(problem.contains("damaged"), "{problem}");
        assert!(problem.contains("backup"), "{problem}");
    }
}
