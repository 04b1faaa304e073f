//! Progress on standard error.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Shows the progress of one task: a line that changes on a terminal, a line every ten seconds elsewhere.
pub(crate) struct Progress {
    what: String,
    total: u64,
    started: Instant,
    said: Option<Instant>,
    between: Duration,
}

#[expect(clippy::disallowed_methods, reason = "asks what kind of output it is")]
impl Progress {
    pub(crate) fn new(what: String, total: u64) -> Self {
        let between = match io::stderr().is_terminal() {
            true => Duration::from_millis(200),
            false => Duration::from_secs(10),
        };
        Self {
            what,
            total,
            started: Instant::now(),
            said: None,
            between,
        }
    }

    /// Prints the progress, unless it did so a moment ago.
    pub(crate) fn at(&mut self, done: u64) {
        let is_done = done >= self.total;
        if !is_done && self.said.is_some_and(|said| said.elapsed() < self.between) {
            return;
        }
        self.said = Some(Instant::now());
        let percent = 100 * done / self.total.max(1);
        let took = self.started.elapsed().as_secs_f64();
        let line = format!("{}: {percent} %, {took:.0} s", self.what);
        match (io::stderr().is_terminal(), is_done) {
            (true, true) => eprintln!("\r{line}\x1b[K"),
            (true, false) => eprint!("\r{line}\x1b[K"),
            (false, _) => eprintln!("{line}"),
        }
    }
}
