//! File systems that lack a call: the server does without, or says what it can't do without.

use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::support::SHOP;
use crate::support::binary::Binary;
use crate::support::shim;

/// Numbers of errors: no locks are left (ENOLCK), there are none (EOPNOTSUPP), nor such a call (ENOSYS).
const WITHOUT_LOCKS: [&str; 3] = ["37", "95", "38"];

/// Puts files with that ending on a file system without locks, and all on one that can't sync directories.
fn installation_without_locks(ending: &str, errno: &str) -> Binary {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let library = shim(binary.working_dir(), include_str!("lock_shim.c"));
    binary.set_variable("LD_PRELOAD", library.to_str().unwrap());
    binary.set_variable("LOCK_SHIM_ENDING", ending);
    binary.set_variable("LOCK_SHIM_ERRNO", errno);
    binary
}

/// Makes a journal so long that a start would shorten it: all of it is about tokens that expired long ago.
fn lengthen_journal(binary: &Binary) {
    let path = binary.data_dir().join("guestpass.journal");
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    let line = "{\"event\":\"access_token_revoked\",\"at\":1,\"jti\":\"AAAAAAAAAAAAAAAAAAAAAA\",\"expires_at\":2}\n";
    file.write_all(line.repeat(15_000).as_bytes()).unwrap();
}

fn journal_length(binary: &Binary) -> u64 {
    let journal = binary.data_dir().join("guestpass.journal");
    fs::metadata(journal).unwrap().len()
}

#[test]
fn f28_a_journal_needs_no_locks() {
    for errno in WITHOUT_LOCKS {
        let binary = installation_without_locks(".journal", errno);
        let server = binary.serve();
        server.guest();
        assert!(server.stop().success());
        lengthen_journal(&binary);
        let server = binary.serve();
        let log = server.log();
        assert!(log.contains("its file system can't lock files"), "{log}");
        assert!(server.stop().success());
        assert!(journal_length(&binary) > 1_000_000);
    }
}

#[test]
fn f28_a_journal_is_shortened_where_directories_cannot_be_synced() {
    let binary = installation_without_locks("nothing", "0");
    assert!(binary.serve().stop().success());
    lengthen_journal(&binary);
    let server = binary.serve();
    assert!(
        !server.log().contains("can't be replaced"),
        "{}",
        server.log()
    );
    assert!(server.stop().success());
    assert!(journal_length(&binary) < 10_000);
}

mod sqlite {
    use super::*;

    #[test]
    fn f28_a_database_needs_locks() {
        for errno in WITHOUT_LOCKS {
            let binary = installation_without_locks("guestpass.db", errno);
            for command in [&["serve"][..], &["config", "check"]] {
                let problem = binary.failure(command);
                let database = binary.data_dir().join("guestpass.db");
                for hint in [
                    database.to_str().unwrap(),
                    "Its file system can't lock files",
                    "local disk",
                ] {
                    assert!(problem.contains(hint), "{command:?}: {problem}");
                }
            }
        }
    }
}
