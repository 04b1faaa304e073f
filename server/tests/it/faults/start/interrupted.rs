//! A start that waits for something that may never come says so, and ends when it is asked to.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use crate::support::binary::{Binary, free_address};
use crate::support::{ISSUER, SHOP};

/// Starts a server that must say that line and not be reachable then, and ends it by each of the signals.
fn ends_while_it_says(binary: &Binary, line: &str) {
    for signal in ["TERM", "INT"] {
        let address = free_address();
        let listen = address.to_string();
        let start = binary.start(&["serve", "--listen", &listen, "--issuer", ISSUER]);
        start.says_within(line);
        assert!(TcpStream::connect(address).is_err(), "the port is open");
        let (status, said) = start.ends_with(signal);
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn f16_a_start_that_waits_for_a_file_can_be_interrupted() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let pipe = binary.working_dir().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", pipe.to_str().unwrap());
    ends_while_it_says(&binary, "waiting for the master key");
    for command in [&["config", "check"][..], &["key", "list"]] {
        let waits = binary.start(command);
        waits.says_within("waiting for the master key");
        waits.kill();
    }
}

#[test]
fn f16_a_start_that_waits_for_a_silent_database_can_be_interrupted() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut binary = Binary::new();
    let url = format!(
        "postgres://guest@{}/guestpass?connect_timeout=600",
        silent.local_addr().unwrap()
    );
    binary.set_variable("GUESTPASS_DATABASE", &url);
    binary.set_variable(
        "GUESTPASS_MASTER_KEY",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    );
    ends_while_it_says(&binary, "waiting for the database");
}

mod sqlite {
    use super::*;

    #[test]
    fn f16_a_start_that_waits_for_a_lock_can_be_interrupted() {
        let binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let database = binary.data_dir().join("guestpass.db");
        let other = rusqlite::Connection::open(database).unwrap();
        other.execute_batch("begin immediate").unwrap();
        ends_while_it_says(&binary, "moving the log");
        other.execute_batch("rollback").unwrap();
        // Nothing was left half done.
        assert!(binary.serve().stop().success());
    }
}
