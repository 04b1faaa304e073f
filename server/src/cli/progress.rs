//! How far a long command is, on standard error: one line that changes on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use guestpass_core::time::text_of;

/// How far one thing is.
pub(super) struct Progress {
    what: String,
    total: u64,
    said: u64,
    started: Instant,
}

impl Progress {
    /// Begins with `what`, such as `copied, guests`, of which there are so many.
    pub(super) fn new(what: String, total: u64) -> Self {
        Self {
            what,
            total,
            said: 0,
            started: Instant::now(),
        }
    }

    /// Says that so many are done, if that is worth a line.
    pub(super) fn at(&mut self, done: u64) {
        let on_terminal = io::stderr().is_terminal();
        let worth_a_line = (self.total / LINES).max(LEAST);
        if done - self.said < if on_terminal { 1 } else { worth_a_line } {
            return;
        }
        self.said = done;
        let Self { what, total, .. } = &*self;
        let line = format!("guestpass: {what}: {done} of {total}{}", self.left(done));
        match on_terminal {
            true if done >= *total => eprintln!("\r{line}\x1b[K"),
            true => eprint!("\r{line}\x1b[K"),
            false => eprintln!("{line}"),
        }
    }

    /// How long the rest takes if it goes on like this.
    fn left(&self, done: u64) -> String {
        let left = self.total.saturating_sub(done);
        let seconds = self.started.elapsed().as_secs() * left / done.max(1);
        match seconds {
            0 => String::new(),
            _ => format!(", {} to go", text_of(Duration::from_secs(seconds))),
        }
    }
}

/// So many lines, if it isn't a terminal, and none for so few things.
const LINES: u64 = 20;
const LEAST: u64 = 1_000;
