//! Each call of the process that changes a file fails once, with each error that a disk gives, while something is asked of
//! the server: the answer is 503 or durable, the server is ready again soon, and a kill loses nothing, be it at once or
//! after the server has gone on.
//!
//! `make faults` runs all of it, `make test` a fixed tenth.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::{
    SOON, becomes_ready, becomes_unready, every, installation, is_ready, lengthen, was_given_up,
};
use crate::support::binary::{Binary, Server, eventually};
use crate::support::faults::{Call, Errno, Faults, log_of};
use crate::support::{Answer, Sent, Tokens, authorize, exchange, profile, refresh, revoke};

/// A request that is sent while a call fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Authorize,
    Exchange,
    Refresh,
    Revoke,
    Erase,
    RotateKey,
    /// A start, which replaces a journal that is too long, and the first pass of the cleaner.
    StartAndTidy,
}

const STEPS: [Step; 7] = [
    Step::Authorize,
    Step::Exchange,
    Step::Refresh,
    Step::Revoke,
    Step::Erase,
    Step::RotateKey,
    Step::StartAndTidy,
];

/// One call that fails once.
#[derive(Clone, Copy, Debug)]
struct Fault {
    step: Step,
    call: Call,
    nth: u32,
    errno: Errno,
    /// The server is killed as soon as it has answered, and has no time to make up for anything.
    is_killed_at_once: bool,
}

/// An installation with a server on a disk that can fail, and a guest whose tokens were answered.
struct Bench {
    binary: Binary,
    faults: Faults,
    server: Option<Server>,
    /// A guest that lives through all of it.
    witness: Tokens,
}

#[test]
fn f06_to_f09_each_call_that_changes_a_file_may_fail() {
    let mut bench = Bench::new();
    let mut all = Vec::new();
    for step in STEPS {
        let calls = bench.count(step);
        for is_killed_at_once in [false, true] {
            for (call, calls) in &calls {
                for nth in 1..=*calls {
                    let faults = Errno::ALL.map(|errno| Fault {
                        step,
                        call: *call,
                        nth,
                        errno,
                        is_killed_at_once,
                    });
                    all.extend(faults);
                }
            }
        }
    }
    let renames = all.iter().filter(|fault| fault.call == Call::Rename);
    assert!(renames.count() > 0, "the journal is replaced by a rename");
    let chosen: Vec<_> = all.iter().step_by(every()).collect();
    println!("{} of {} faults", chosen.len(), all.len());
    for fault in chosen {
        bench.survives(*fault);
    }
    let report = bench.binary.json(&["db", "check"]);
    assert_eq!(report["ok"], true, "{report}");
}

#[test]
fn f06_while_a_kind_of_call_fails_the_server_is_not_ready_and_soon_after_it_is() {
    let (mut unready, mut ready) = (Duration::ZERO, Duration::ZERO);
    for (call, ending) in [
        (Call::Write, ""),
        (Call::Write, "-wal"),
        (Call::Sync, "-wal"),
        (Call::Write, "-room (deleted)"),
        (Call::Sync, "-room (deleted)"),
    ] {
        for errno in Errno::ALL {
            let (binary, faults) = installation();
            let server = binary.serve();
            becomes_ready(&server);
            faults.fail(&[call], errno, ending);
            unready = unready.max(becomes_unready(&server));
            faults.heal();
            ready = ready.max(becomes_ready(&server));
            drop(server);
            drop(binary);
        }
    }
    println!("not ready after {unready:?} at most, and ready again after {ready:?}");
}

/// The answer that a step has had.
enum Answered {
    Code(String),
    Tokens(Tokens),
    Done,
    Unavailable,
}

impl Bench {
    fn new() -> Self {
        let (binary, faults) = installation();
        let server = binary.serve();
        let witness = server.guest();
        Self {
            binary,
            faults,
            server: Some(server),
            witness,
        }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Counts the calls of a step when none fails.
    fn count(&mut self, step: Step) -> Vec<(Call, u32)> {
        self.restart();
        let (guest, code) = self.prepare(step);
        let before = Call::ALL.map(|call| self.faults.counted(call));
        self.take(step, &guest, &code);
        let after = Call::ALL.map(|call| (call, self.faults.counted(call)));
        let calls = after.into_iter().zip(before);
        calls
            .map(|((call, after), before)| (call, after - before))
            .collect()
    }

    /// Makes what a step needs: a guest, and a code of another.
    fn prepare(&mut self, step: Step) -> (Tokens, String) {
        let guest = self.server().guest();
        let code = self.server().send(&authorize()).text("code");
        if step == Step::StartAndTidy {
            self.server.take().unwrap().kill();
            lengthen(&self.journal());
            // The cleaner finds the code's grant, whose guest goes with it.
            self.binary.sql(
                "update grants set issued_at = 1, advanced_at = 1, expires_at = 2, ends_at = 2 where generation = 0",
            );
        }
        (guest, code)
    }

    /// Takes a step, and waits until what it has begun is over.
    fn take(&mut self, step: Step, guest: &Tokens, code: &str) -> Answered {
        let answered = |answer: Answer| match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => Err(Answered::Unavailable),
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(answer),
            _ => panic!("{answer:?}"),
        };
        let tried = match step {
            Step::Authorize => answered(self.server().send(&authorize()))
                .map(|answer| Answered::Code(answer.text("code"))),
            Step::Exchange => answered(self.server().send(&exchange(code)))
                .map(|answer| Answered::Tokens(answer.tokens())),
            Step::Refresh => answered(self.server().send(&refresh(&guest.refresh_token)))
                .map(|answer| Answered::Tokens(answer.tokens())),
            Step::Revoke => {
                answered(self.server().send(&revoke(&guest.refresh_token))).map(|_| Answered::Done)
            }
            Step::Erase => {
                let erased = profile(&guest.access_token).method("DELETE");
                let erased = answered(self.server().send(&erased)).map(|_| Answered::Done);
                let log = log_of(&self.binary);
                // It may have begun anew, with the one page that has its number.
                let is_empty = || log.metadata().map_or(0, |log| log.len()) <= 32 + 24 + 2048;
                let server = self.server.as_mut().unwrap();
                eventually("the log is emptied", || {
                    is_empty() || server.has_ended() || matches!(erased, Err(Answered::Unavailable))
                });
                erased
            }
            Step::RotateKey => {
                let ended = self.binary.run(&["key", "rotate", "--force"]);
                match ended.code {
                    Some(0) => Ok(Answered::Done),
                    Some(1) => Err(Answered::Unavailable),
                    _ => panic!("{ended:?}"),
                }
            }
            Step::StartAndTidy => match self.binary.try_serve() {
                Some(server) => {
                    self.server = Some(server);
                    eventually("the cleaner has been at work", || {
                        self.faults.failed() > 0 || self.ended_long_ago() == 0
                    });
                    Ok(Answered::Done)
                }
                None => Err(Answered::Unavailable),
            },
        };
        tried.unwrap_or_else(|unavailable| unavailable)
    }

    fn journal(&self) -> PathBuf {
        self.binary.data_dir().join("guestpass.journal")
    }

    /// Counts what the journal says of guests and may still be needed.
    fn needed(&self) -> usize {
        let journal = fs::read_to_string(self.journal()).unwrap();
        let endings = ["\"grant_revoked\"", "\"guest_erased\""];
        endings
            .iter()
            .map(|event| journal.matches(event).count())
            .sum()
    }

    /// Counts the keys that there have been.
    fn keys(&self) -> usize {
        let keys = self.binary.json(&["key", "list"]);
        keys.as_array().unwrap().len()
    }

    /// Checks that what could not be tidied up has been by now, by the next start and the next pass of the cleaner, and that
    /// nothing went that is needed.
    fn is_tidy(&self, fault: Fault, needed: usize) {
        eventually("the next pass of the cleaner", || {
            self.ended_long_ago() == 0
        });
        let length = fs::metadata(self.journal()).unwrap().len();
        assert!(
            length < 1 << 20,
            "{fault:?}: the journal has {length} bytes"
        );
        assert!(self.needed() >= needed, "{fault:?}");
        let files = fs::read_dir(self.binary.data_dir()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.starts_with('.')).collect();
        assert!(
            left.is_empty() || fault.call == Call::Unlink,
            "{fault:?} {left:?}"
        );
        for name in left {
            fs::remove_file(self.binary.data_dir().join(name)).unwrap();
        }
    }

    /// Counts the grants that the cleaner is to remove.
    fn ended_long_ago(&self) -> u64 {
        let file = self.binary.data_dir().join("guestpass.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        let ended = "select count(*) from grants where ends_at = 2";
        connection.query_row(ended, [], |row| row.get(0)).unwrap()
    }

    /// Takes a step while a call fails, and checks what became of it.
    fn survives(&mut self, fault: Fault) {
        self.restart();
        let (guest, code) = self.prepare(fault.step);
        let needed = self.needed();
        let keys = match fault.step {
            Step::RotateKey => self.keys(),
            _ => 0,
        };
        self.faults
            .fail_once(&[fault.call], fault.nth, fault.errno, "");
        let mut answered = self.take(fault.step, &guest, &code);
        self.faults.heal();
        let is_done = matches!(answered, Answered::Done);
        if !fault.is_killed_at_once {
            self.recovers();
            answered = self.holds(fault, &answered, &guest, &code);
        }
        if let Some(server) = self.server.take() {
            server.kill();
        }
        self.restart();
        self.holds(fault, &answered, &guest, &code);
        match fault.step {
            Step::RotateKey => assert!(!is_done || self.keys() > keys, "{fault:?}"),
            Step::StartAndTidy => self.is_tidy(fault, needed),
            _ => {}
        }
    }

    /// Waits until the server is ready, as it is soon. One that no longer trusts its files ends instead, and whoever runs it
    /// starts it again.
    fn recovers(&mut self) {
        let mut since = Instant::now();
        loop {
            if self.server.as_mut().is_none_or(Server::has_ended) {
                self.server = Some(self.binary.serve());
                since = Instant::now();
            }
            let asked = Instant::now();
            let after = asked - since;
            if is_ready(self.server()) {
                return;
            }
            if after > SOON && !was_given_up(asked) {
                let log = self.server().log();
                let ended = self.server.take().unwrap().ended();
                assert_eq!(ended.code(), Some(1), "{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Checks that what was answered is so, and that what was not can be had. Returns what has been answered by then.
    fn holds(&mut self, fault: Fault, answered: &Answered, guest: &Tokens, code: &str) -> Answered {
        let server = self.server.as_ref().unwrap();
        let granted = |request: Sent| {
            let answer = server.send(&request);
            let log = server.log();
            assert_eq!(answer.status, StatusCode::OK, "{fault:?} {answer:?} {log}");
            Answered::Tokens(answer.tokens())
        };
        let held = match (fault.step, answered) {
            (_, Answered::Tokens(tokens)) => granted(refresh(&tokens.refresh_token)),
            (Step::Authorize, Answered::Code(code)) => granted(exchange(code)),
            (Step::Authorize, _) => {
                let code = server.send(&authorize()).text("code");
                granted(exchange(&code))
            }
            // The log may have what its sync failed for, and nobody was there to take it back. A client that has had a 503 for
            // its code authorizes anew.
            (Step::Exchange, _) if fault.is_killed_at_once => match server.send(&exchange(code)) {
                answer if answer.status == StatusCode::OK => Answered::Tokens(answer.tokens()),
                answer => {
                    assert_eq!(answer.error(), "invalid_grant", "{fault:?}");
                    granted(exchange(&server.send(&authorize()).text("code")))
                }
            },
            (Step::Exchange, _) => granted(exchange(code)),
            (Step::Revoke | Step::Erase, answered) => {
                let has_ended = || {
                    let answer = server.send(&refresh(&guest.refresh_token));
                    answer.status == StatusCode::BAD_REQUEST
                };
                match answered {
                    Answered::Done => assert!(has_ended(), "{fault:?}"),
                    // The client asks again; the journal may have had it done.
                    _ if fault.is_killed_at_once => {
                        server.send(&match fault.step {
                            Step::Revoke => revoke(&guest.refresh_token),
                            _ => profile(&guest.access_token).method("DELETE"),
                        });
                        assert!(has_ended(), "{fault:?}");
                    }
                    // Whatever was answered, it is done by and by.
                    _ => eventually("the grant has ended", has_ended),
                }
                Answered::Done
            }
            (Step::Refresh | Step::RotateKey | Step::StartAndTidy, _) => {
                granted(refresh(&guest.refresh_token))
            }
        };
        self.witness = server.send(&refresh(&self.witness.refresh_token)).tokens();
        held
    }

    /// Starts a server if there is none that runs.
    fn restart(&mut self) {
        if self.server.as_mut().is_none_or(Server::has_ended) {
            self.server = Some(self.binary.serve());
        }
        self.recovers();
    }
}
