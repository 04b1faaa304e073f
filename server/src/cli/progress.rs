//! Progress of a long command, on standard error: one line that changes on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use guestpass_core::time::words_of;

use crate::terminal;

/// Reports the progress of one step.
pub(super) struct Progress {
    what: String,
    total: u64,
    said: u64,
    started: Instant,
}

impl Progress {
    /// Starts a step named `what`, such as `copied, guests`, with `total` items.
    pub(super) fn new(what: String, total: u64) -> Self {
        Self {
            what,
            total,
            said: 0,
            started: Instant::now(),
        }
    }

    /// Reports that `done` items are done, unless the last line is too recent.
    pub(super) fn at(&mut self, done: u64) {
        let on_terminal = terminal::has_terminal();
        let worth_a_line = (self.total / LINES).max(LEAST);
        if done - self.said < if on_terminal { 1 } else { worth_a_line } {
            return;
        }
        self.said = done;
        let Self { what, total, .. } = &*self;
        let line = format!("{what}: {done} of {total}{}", self.left(done));
        match on_terminal {
            true => terminal::replace_line(&line, done >= *total),
            false => terminal::say(&line),
        }
    }

    /// Estimates the time for the rest, at the pace so far.
    fn left(&self, done: u64) -> String {
        let left = self.total.saturating_sub(done);
        let seconds = self.started.elapsed().as_secs() * left / done.max(1);
        match seconds {
            0 => String::new(),
            _ => format!(", {} to go", words_of(Duration::from_secs(seconds))),
        }
    }
}

/// Off a terminal: the number of lines, and the fewest items between two of them.
const LINES: u64 = 20;
const LEAST: u64 = 1_000;
