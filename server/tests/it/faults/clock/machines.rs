//! The same with the real binary, on a machine whose clock is set.

use std::fs;
use std::path::PathBuf;

use crate::support::binary::{Binary, Server, eventually};
use crate::support::{SHOP, refresh, request, shim, verify};

const TEN_YEARS: i64 = 315_576_000;

/// A machine whose clock can be set, with an installation.
struct Machine {
    binary: Binary,
    clock: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let mut binary = Binary::new();
        let clock = binary.working_dir().join("clock");
        let library = shim(
            binary.working_dir(),
            include_str!("../../nodes/clock_shim.c"),
        );
        binary.set_variable("LD_PRELOAD", library.to_str().unwrap());
        binary.set_variable("CLOCK_SHIM_FILE", clock.to_str().unwrap());
        let machine = Self { binary, clock };
        machine.set(0);
        machine.binary.json(&["client", "add", SHOP]);
        machine
    }

    /// Sets the clock to so many seconds ahead of the right time. It is replaced as a whole: a reader sees one or the other.
    fn set(&self, seconds: i64) {
        let part = self.clock.with_extension("part");
        fs::write(&part, seconds.to_string()).unwrap();
        fs::rename(&part, &self.clock).unwrap();
    }
}

#[test]
fn f05_no_later_start_speaks_of_a_start_at_a_wrong_clock() {
    let machine = Machine::new();
    machine.binary.serve().stop();
    for wrong in [TEN_YEARS, -TEN_YEARS] {
        machine.set(wrong);
        machine.binary.serve().stop();
        machine.set(0);
        let before = machine.binary.serve().log().len();
        for _ in 0..2 {
            let server = machine.binary.serve();
            server.guest();
            let log = server.log();
            assert!(!log[before..].contains("ERROR"), "{log}");
            server.stop();
        }
    }
}

#[test]
fn f03_guests_outlive_a_clock_that_is_set_while_they_refresh() {
    let machine = Machine::new();
    let server = machine.binary.serve();
    let mut tokens = server.guest();
    for wrong in [TEN_YEARS, -TEN_YEARS, 3_600, -3_600] {
        machine.set(wrong);
        for _ in 0..50 {
            tokens = server.send(&refresh(&tokens.refresh_token)).tokens();
            let passed = server.send(&verify(&tokens.access_token));
            assert_eq!(passed.status, 200, "{passed:?}");
        }
        assert_eq!(server.send(&request("GET", "/readyz")).status, 200);
        machine.set(0);
        tokens = server.send(&refresh(&tokens.refresh_token)).tokens();
    }
}

mod sqlite {
    use super::*;

    #[test]
    fn f03_a_jump_is_one_error_and_its_end_a_warning() {
        let machine = Machine::new();
        let server = machine.binary.serve();
        machine.set(TEN_YEARS);
        eventually("the jump is noticed", || {
            server.log().contains("the clock has jumped")
        });
        let clock = |server: &Server| {
            let ready = server.send(&request("GET", "/readyz"));
            assert_eq!(ready.status, 200, "{ready:?}");
            ready.text("clock")
        };
        assert_eq!(clock(&server), "doubted");
        let mut tokens = server.guest();
        tokens = server.send(&refresh(&tokens.refresh_token)).tokens();
        machine.set(0);
        eventually("the end of the jump is noticed", || {
            server.log().contains("the clock is trusted again")
        });
        server.send(&refresh(&tokens.refresh_token)).tokens();
        assert_eq!(clock(&server), "trusted");
        let errors = server.log().matches("ERROR").count();
        assert_eq!(errors, 1, "{}", server.log());
    }

    #[test]
    fn f03_an_operator_says_that_the_clock_is_right() {
        let machine = Machine::new();
        machine.binary.serve().stop();
        machine.set(30 * 86_400);
        let shown = machine.binary.json(&["clock", "show"]);
        assert_eq!(shown["trusted"], false, "{shown}");
        let problem = machine.binary.failure(&["key", "rotate", "--force"]);
        assert!(problem.contains("guestpass clock accept"), "{problem}");
        let server = machine.binary.serve();
        eventually("the clock is in doubt", || {
            server.log().contains("so it isn't trusted")
        });
        machine.binary.run(&["clock", "accept"]);
        eventually("the clock is trusted", || {
            server.log().contains("the clock is trusted again")
        });
        let shown = machine.binary.json(&["clock", "show"]);
        assert_eq!(shown["trusted"], true, "{shown}");
        machine.binary.json(&["key", "rotate", "--force"]);
    }
}
