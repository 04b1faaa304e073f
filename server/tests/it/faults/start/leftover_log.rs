//! The log of a server that was killed: of its database and no other, and all of it.

mod sqlite {
    use std::fs;
    use std::path::{Path, PathBuf};

    use axum::http::StatusCode;

    use crate::support::binary::{Binary, Server};
    use crate::support::{SHOP, Tokens, profile, refresh};

    const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];

    fn installation() -> Binary {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        binary
    }

    fn beside(binary: &Binary, suffix: &str) -> PathBuf {
        binary.data_dir().join(format!("guestpass.db{suffix}"))
    }

    /// The backups that people make of a database, by the name of how they are made.
    fn backups(binary: &Binary) -> [PathBuf; 3] {
        let database = beside(binary, "");
        let made = ["copied", "vacuumed", "backed-up"].map(|how| binary.working_dir().join(how));
        let [copied, vacuumed, backed_up] = &made;
        fs::copy(&database, copied).unwrap();
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection
            .execute("vacuum into ?", [vacuumed.to_str().unwrap()])
            .unwrap();
        // Page by page, with what the log has, as `.backup` copies it.
        for suffix in ["", "-wal"] {
            let to = format!("{}{suffix}", backed_up.display());
            fs::copy(beside(binary, suffix), to).unwrap();
        }
        let pages = rusqlite::Connection::open(backed_up).unwrap();
        pages
            .execute_batch("pragma wal_checkpoint(truncate)")
            .unwrap();
        made
    }

    /// Has a server killed that was started after one that has ended in order. Returns a guest of that one.
    fn killed(binary: &Binary) -> Tokens {
        let server = binary.serve();
        let early = server.guest();
        assert!(server.stop().success());
        let server = binary.serve();
        server.guest();
        assert!(!server.log().contains("ERROR"), "{}", server.log());
        server.kill();
        early
    }

    fn erase(server: &Server, guest: &Tokens) {
        let erased = server.send(&profile(&guest.access_token).method("DELETE"));
        assert_eq!(erased.status, StatusCode::NO_CONTENT);
    }

    /// Waits until the log was emptied, and begun anew, since it had those bytes.
    fn wait_for_a_new_log(binary: &Binary, before: &[u8]) {
        let salt = |log: &[u8]| log.get(16..24).map(<[u8]>::to_vec);
        crate::support::binary::eventually("the log begins anew", || {
            let now = fs::read(beside(binary, "-wal")).unwrap();
            salt(&now).is_some() && salt(&now) != salt(before)
        });
    }

    fn put_back(kept: &[(PathBuf, Vec<u8>)]) {
        for (file, bytes) in kept {
            fs::write(file, bytes).unwrap();
        }
    }

    fn kept(binary: &Binary) -> Vec<(PathBuf, Vec<u8>)> {
        ["db", "db-wal", "db-shm", "journal"]
            .map(|ending| binary.data_dir().join(format!("guestpass.{ending}")))
            .map(|file| (file.clone(), fs::read(file).unwrap()))
            .into()
    }

    #[test]
    fn f11_a_backup_of_the_same_run_is_not_mixed_with_a_later_log() {
        let binary = installation();
        let server = binary.serve();
        let [early, erased] = [server.guest(), server.guest()];
        let backups = backups(&binary);
        let log = fs::read(beside(&binary, "-wal")).unwrap();
        // The erasure has the log moved into the file.
        erase(&server, &erased);
        wait_for_a_new_log(&binary, &log);
        server.guest();
        server.kill();
        let kept = kept(&binary);
        for backup in backups {
            put_back(&kept);
            fs::copy(&backup, beside(&binary, "")).unwrap();
            for command in [
                SERVE,
                &["db", "check"],
                &["client", "list"],
                &["db", "migrate"],
            ] {
                let problem = binary.failure(command);
                for suffix in ["", "-wal", "-shm"] {
                    let file = beside(&binary, suffix);
                    assert!(
                        problem.contains(file.to_str().unwrap()),
                        "{backup:?}: {problem}"
                    );
                }
            }
        }
        // As it says. The copy of the file alone is no backup, the last of the others is.
        for suffix in ["-wal", "-shm"] {
            fs::remove_file(beside(&binary, suffix)).unwrap();
        }
        let server = binary.serve();
        server.send(&refresh(&early.refresh_token)).tokens();
        let refused = server.send(&refresh(&erased.refresh_token));
        assert_eq!(refused.error(), "invalid_grant");
    }

    #[test]
    fn f11_a_restore_that_a_log_undoes_is_refused_or_told() {
        let binary = installation();
        let server = binary.serve();
        let backups = backups(&binary);
        let late = server.guest();
        server.kill();
        let kept = kept(&binary);
        let [copied, vacuumed, backed_up] = backups;
        let restore = |backup: &Path| {
            put_back(&kept);
            fs::copy(backup, beside(&binary, "")).unwrap();
        };
        restore(&vacuumed);
        for command in [SERVE, &["client", "list"]] {
            let log = beside(&binary, "-wal");
            assert!(binary.failure(command).contains(log.to_str().unwrap()));
        }
        for backup in [&copied, &backed_up] {
            restore(backup);
            let before = binary.log_length();
            let server = binary.serve();
            let said = server.log().split_off(before);
            assert!(said.contains("WARN"), "{said}");
            assert!(said.contains("that is undone"), "{said}");
            assert!(!said.contains("ERROR"), "{said}");
            server.send(&refresh(&late.refresh_token)).tokens();
            assert_eq!(binary.json(&["db", "check"])["ok"], true);
        }
        // A command that comes first says so as well; of what every crash leaves it says nothing.
        for (backup, is_told) in [(&copied, false), (&backed_up, true)] {
            restore(backup);
            let told = binary.run(&["client", "list"]);
            assert_eq!(told.code, Some(0), "{told:?}");
            assert_eq!(told.stderr.contains("that is undone"), is_told, "{told:?}");
        }
    }

    fn copy_directory(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for file in fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }

    #[test]
    fn f11_a_crashed_installation_that_is_copied_as_a_whole_goes_on() {
        let binary = installation();
        let server = binary.serve();
        let guest = server.guest();
        erase(&server, &server.guest());
        server.kill();
        let copy = binary.working_dir().join("copy");
        copy_directory(&binary.data_dir(), &copy);
        fs::remove_dir_all(binary.data_dir()).unwrap();
        copy_directory(&copy, &binary.data_dir());
        let server = binary.serve();
        assert!(!server.log().contains("ERROR"), "{}", server.log());
        server.send(&refresh(&guest.refresh_token)).tokens();
    }

    #[test]
    fn f10_a_log_that_lacks_its_end_says_since_when_guests_are_missing() {
        for how in ["cut off", "zeroed", "emptied", "removed"] {
            let binary = installation();
            let early = killed(&binary);
            let log = beside(&binary, "-wal");
            let length = fs::metadata(&log).unwrap().len();
            let frame = 24 + 2048;
            match how {
                "removed" => {
                    fs::remove_file(&log).unwrap();
                    fs::remove_file(beside(&binary, "-shm")).unwrap();
                }
                how => {
                    let cut = fs::OpenOptions::new().write(true).open(&log).unwrap();
                    let kept = (length - 32) / frame / 2 * frame + 32;
                    cut.set_len(if how == "emptied" { 0 } else { kept })
                        .unwrap();
                    if how == "zeroed" {
                        cut.set_len(length).unwrap();
                    }
                }
            }
            if how == "cut off" || how == "zeroed" {
                // No command takes away what the start is to say.
                for command in [&["client", "list"][..], &["config", "check"]] {
                    let problem = binary.failure(command);
                    assert!(problem.contains("start the server"), "{problem}");
                }
            }
            let server = binary.serve();
            let said = server.log();
            let lines: Vec<_> = said.lines().filter(|line| line.contains("ERROR")).collect();
            let [line, ..] = lines[..] else {
                panic!("{how}: {said}");
            };
            for part in [log.to_str().unwrap(), "who came since 2", "missing"] {
                assert!(line.contains(part), "{how}: {line}");
            }
            server.send(&refresh(&early.refresh_token)).tokens();
            // It is said once.
            assert!(server.stop().success());
            let before = binary.log_length();
            let said = binary.serve().log().split_off(before);
            assert!(!said.contains("ERROR"), "{how}: {said}");
        }
    }

    #[test]
    fn f10_a_log_that_is_damaged_in_its_middle_is_refused_and_can_be_cut_off_there() {
        let binary = installation();
        let early = killed(&binary);
        let log = beside(&binary, "-wal");
        let whole = fs::read(&log).unwrap();
        let damage = |at: usize| {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&log, damaged).unwrap();
        };
        let check = || binary.failure(&["config", "check"]);
        // The page size in the header.
        fs::write(
            &log,
            [&whole[..8], &4096_u32.to_be_bytes(), &whole[12..]].concat(),
        )
        .unwrap();
        assert!(check().contains("behind its first 0 bytes"), "{}", check());
        damage(whole.len() / 2);
        let mut cut_off = None;
        for command in [SERVE, &["db", "check"], &["config", "check"]] {
            let problem = binary.failure(command);
            for part in [
                log.to_str().unwrap(),
                "is damaged behind",
                "Restore a backup",
            ] {
                assert!(problem.contains(part), "{problem}");
            }
            cut_off = problem.split("truncate -s ").nth(1).map(str::to_owned);
        }
        let cut_off = cut_off.unwrap();
        let (length, _) = cut_off.split_once(' ').unwrap();
        let cut = fs::OpenOptions::new().write(true).open(&log).unwrap();
        cut.set_len(length.parse().unwrap()).unwrap();
        let server = binary.serve();
        assert!(
            server.log().contains("missing, cut off"),
            "{}",
            server.log()
        );
        server.send(&refresh(&early.refresh_token)).tokens();
    }

    #[test]
    fn f11_a_journal_of_another_mode_is_not_taken_back_into_the_database() {
        let binary = installation();
        let server = binary.serve();
        let guest = server.guest();
        assert!(server.stop().success());
        let journal = beside(&binary, "-journal");
        fs::write(&journal, [0xd9; 4096]).unwrap();
        for command in [
            &["client", "list"][..],
            &["serve", "--listen", "127.0.0.1:0"],
        ] {
            let problem = binary.failure(command);
            assert!(problem.contains("-journal"), "{problem}");
        }
        fs::remove_file(&journal).unwrap();
        binary.serve().send(&refresh(&guest.refresh_token)).tokens();
    }

    #[test]
    fn f10_a_database_that_was_closed_says_nothing() {
        let binary = installation();
        for _ in 0..3 {
            let server = binary.serve();
            erase(&server, &server.guest());
            assert!(server.stop().success());
            assert_eq!(binary.run(&["client", "list"]).stderr, "");
        }
        let log = binary.serve().log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
}
