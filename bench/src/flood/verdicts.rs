//! Compares what was found in a flood with what is wanted.

use std::time::Duration;

use serde_json::{Value, json};

use super::attack::{AUTHORIZE_AT_LEAST, FLOODS, Kind, Scale};
use super::attackers::Tally;
use super::guests::{Both, Heard};
use super::watch::Sockets;
use crate::report::Table;

/// Holds all that was measured.
pub(super) struct Figures {
    pub(super) scale: Scale,
    /// Duration of the flood in seconds.
    pub(super) seconds: f64,
    /// Number of known guests.
    pub(super) known: usize,
    pub(super) before: Both,
    pub(super) during: Both,
    pub(super) after: Both,
    /// New guests of the server that speaks TLS, during the flood.
    pub(super) over_tls: Heard,
    /// Counts what became of each kind of attack, in the order of [`Kind::ALL`].
    pub(super) tallies: Vec<Tally>,
    /// The server in the clear.
    pub(super) server: Held,
    /// The server that speaks TLS.
    pub(super) tls_server: Held,
    /// The time after the end at which everything was as before, or what wasn't.
    pub(super) back: Result<Duration, String>,
}

/// Holds what a server held at most, in bytes, and what it still held after all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) memory: u64,
    pub(super) sockets: Sockets,
    /// Growth of the data directory.
    pub(super) disk: u64,
    /// Growth of the log of requests.
    pub(super) log: u64,
    pub(super) memory_after: u64,
    pub(super) sockets_after: Sockets,
}

/// Says of one thing that is wanted whether it was found.
pub(super) struct Verdict {
    pub(super) what: &'static str,
    pub(super) found: String,
    pub(super) wanted: String,
    pub(super) is_met: bool,
}

impl Verdict {
    fn in_time(what: &'static str, heard: &Heard) -> Self {
        Self {
            what,
            found: format!(
                "p99 {:.0} ms, {} of {} failed",
                heard.millis(0.99),
                heard.failed.values().sum::<u64>(),
                heard.latency.len()
            ),
            wanted: format!("p99 ≤ {LATE:.0} ms"),
            is_met: heard.good > 0 && heard.millis(0.99) <= LATE,
        }
    }

    fn memory(what: &'static str, held: &Held) -> Self {
        let [memory, sockets] = [held.memory, held.sockets.bytes];
        Self {
            what,
            found: format!("{} and {} MiB", memory.div_ceil(MIB), sockets.div_ceil(MIB)),
            wanted: format!("< {} MiB", MEMORY / MIB),
            is_met: memory + sockets < MEMORY,
        }
    }

    fn at_most(what: &'static str, found: u64, most: f64) -> Self {
        Self {
            what,
            found: found.to_string(),
            wanted: format!("≤ {most:.0}"),
            is_met: found as f64 <= most,
        }
    }

    fn mib_at_most(what: &'static str, found: u64, most: f64) -> Self {
        Self {
            found: format!("{} MiB", found.div_ceil(MIB)),
            wanted: format!("≤ {:.0} MiB", most / MIB as f64),
            ..Self::at_most(what, found, most)
        }
    }
}

/// The longest of 99 in a hundred new guests, in milliseconds.
const LATE: f64 = 100.0;
/// The memory of a server and of its sockets.
const MEMORY: u64 = 256 * MIB;
const MIB: u64 = 1024 * 1024;
/// The time after which everything must be back.
pub(super) const BACK_AFTER: Duration = Duration::from_secs(90);

/// The bytes that a guest takes on the disk at most, with the code that was issued for it.
const GUEST: f64 = 512.0;
/// The bytes that an erased guest leaves, tombstone and line of the journal.
const ERASED: f64 = 512.0;
/// The bytes that the log beside the embedded database may take.
const WRITE_AHEAD: f64 = 300e6;
/// The bytes of a line in the log of requests.
const LINE: f64 = 400.0;
/// The lines in a second that are written of what repeats: 100 of a kind, of the kinds that a flood makes.
const REPEATED_LINES: f64 = 100.0 * 12.0;

impl Figures {
    pub(super) fn tally(&self, kind: Kind) -> &Tally {
        &self.tallies[kind as usize]
    }

    /// Returns the requests of a kind that were answered in a second.
    pub(super) fn rate(&self, kind: Kind) -> f64 {
        self.tally(kind).answered() as f64 / self.seconds
    }

    fn answered(&self, kind: Kind, status: u16) -> u64 {
        let answers = &self.tally(kind).answers;
        answers.get(&status).copied().unwrap_or(0)
    }

    /// Returns how many requests of a kind the limits by address let pass at most.
    fn admitted_at_most(&self, kind: Kind) -> f64 {
        let floods = FLOODS.iter().filter(|flood| flood.kind == kind);
        floods
            .map(|flood| flood.scaled(self.scale).admitted_at_most(self.seconds))
            .sum()
    }

    /// Returns the bytes by which the data directory may grow.
    fn disk_at_most(&self) -> f64 {
        let erased = self.admitted_at_most(Kind::Erasures);
        let made = self.admitted_at_most(Kind::Authorize) + erased + self.during.new.good as f64;
        GUEST * made + ERASED * erased + WRITE_AHEAD
    }

    /// Returns the bytes by which the log may grow: what is answered to a client or a guest that limits let pass has its line.
    fn log_at_most(&self) -> f64 {
        let erased = self.admitted_at_most(Kind::Erasures);
        let heard = self.during.new.good + self.during.known.good;
        // A guest that is erased was made and signed in before, and has a line among security events.
        let passed = self.admitted_at_most(Kind::Authorize) + 4.0 * erased + heard as f64;
        LINE * (passed + REPEATED_LINES * self.seconds)
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::from(self.about_guests());
        verdicts.extend(self.about_the_server());
        verdicts.extend(self.about_afterwards());
        verdicts
    }

    fn about_guests(&self) -> [Verdict; 3] {
        let known = &self.during.known;
        let refused: u64 = known.failed.values().sum();
        [
            Verdict::in_time(
                "answer to a new guest, of new connections",
                &self.during.new,
            ),
            Verdict::in_time("the same over TLS", &self.over_tls),
            Verdict {
                what: "refreshes of known guests",
                found: format!("{} with 200, {refused} without", known.good),
                wanted: "all with 200".to_owned(),
                is_met: refused == 0 && known.good > 0,
            },
        ]
    }

    fn about_the_server(&self) -> [Verdict; 7] {
        let rate = self.rate(Kind::Authorize);
        let rate_at_least = AUTHORIZE_AT_LEAST * self.scale.0;
        [
            Verdict::memory("memory of the process and of its sockets", &self.server),
            Verdict::memory("the same of the server with TLS", &self.tls_server),
            Verdict {
                what: "rate of authorize that the attackers reach",
                found: format!("{rate:.0}/s"),
                wanted: format!("≥ {rate_at_least:.0}/s"),
                is_met: rate >= rate_at_least,
            },
            Verdict::at_most(
                "guests that the attackers made",
                self.answered(Kind::Authorize, 200),
                self.admitted_at_most(Kind::Authorize),
            ),
            Verdict::at_most(
                "guests that the attackers erased",
                self.answered(Kind::Erasures, 204),
                self.admitted_at_most(Kind::Erasures),
            ),
            Verdict::mib_at_most(
                "growth of the data directory",
                self.server.disk,
                self.disk_at_most(),
            ),
            Verdict::mib_at_most(
                "growth of the log of requests",
                self.server.log,
                self.log_at_most(),
            ),
        ]
    }

    fn about_afterwards(&self) -> [Verdict; 3] {
        let failed = failures(&self.after);
        [
            Verdict {
                what: "all is back: connections, sockets' memory, readiness",
                found: match &self.back {
                    Ok(after) => format!("after {:.0} s", after.as_secs_f64()),
                    Err(what) => what.clone(),
                },
                wanted: format!("within {:.0} s", BACK_AFTER.as_secs_f64()),
                is_met: self.back.is_ok(),
            },
            Verdict::in_time("answer to a new guest, afterwards", &self.after.new),
            Verdict {
                what: "requests that failed afterwards",
                found: failed.to_string(),
                wanted: "0".to_owned(),
                is_met: failed == 0,
            },
        ]
    }

    /// Lists what the attackers did.
    pub(super) fn attack(&self) -> Table {
        let header = vec![
            "attack",
            "opened",
            "not opened",
            "ended",
            "answers",
            "per s",
        ];
        let rows = Kind::ALL.iter().map(|kind| {
            let tally = self.tally(*kind);
            let answers = tally.answers.iter();
            let answers = answers.map(|(status, number)| format!("{number} with {status}"));
            vec![
                kind.name().to_owned(),
                tally.opened.to_string(),
                tally.refused.to_string(),
                tally.ended.to_string(),
                answers.collect::<Vec<_>>().join(", "),
                match tally.answered() {
                    0 => String::new(),
                    _ => format!("{:.0}", self.rate(*kind)),
                },
            ]
        });
        Table {
            header,
            rows: rows.collect(),
        }
    }

    /// Lists what guests heard.
    pub(super) fn guests(&self) -> Table {
        let header = vec![
            "guests", "good", "p50 ms", "p90 ms", "p99 ms", "max ms", "failed",
        ];
        let rows = self.all_heard().map(|(name, heard)| {
            let failed = heard.failed.iter().map(|(status, number)| match status {
                0 => format!("{number} without an answer"),
                status => format!("{number} with {status}"),
            });
            let quantiles = [0.5, 0.9, 0.99, 1.0].map(|at| format!("{:.1}", heard.millis(at)));
            [name.to_owned(), heard.good.to_string()]
                .into_iter()
                .chain(quantiles)
                .chain([failed.collect::<Vec<_>>().join(", ")])
                .collect()
        });
        Table {
            header,
            rows: rows.collect(),
        }
    }

    fn all_heard(&self) -> impl Iterator<Item = (&'static str, &Heard)> {
        [
            ("new, before", &self.before.new),
            ("new", &self.during.new),
            ("new, over TLS", &self.over_tls),
            ("new, afterwards", &self.after.new),
            ("known, before", &self.before.known),
            ("known", &self.during.known),
            ("known, afterwards", &self.after.known),
        ]
        .into_iter()
    }

    /// Lists what the servers held.
    pub(super) fn held(&self) -> Table {
        let header = vec![
            "server",
            "memory MiB",
            "sockets MiB",
            "connections",
            "disk MiB",
            "log MiB",
            "memory afterwards",
            "connections afterwards",
        ];
        let rows = [("in the clear", self.server), ("with TLS", self.tls_server)];
        let rows = rows.map(|(name, held)| {
            vec![
                name.to_owned(),
                held.memory.div_ceil(MIB).to_string(),
                held.sockets.bytes.div_ceil(MIB).to_string(),
                held.sockets.connections.to_string(),
                held.disk.div_ceil(MIB).to_string(),
                held.log.div_ceil(MIB).to_string(),
                held.memory_after.div_ceil(MIB).to_string(),
                held.sockets_after.connections.to_string(),
            ]
        });
        Table {
            header,
            rows: rows.into(),
        }
    }

    /// Returns all figures for programs.
    pub(super) fn json(&self) -> Value {
        let verdicts = self.verdicts().into_iter().map(|verdict| {
            json!({
                "what": verdict.what,
                "found": verdict.found,
                "wanted": verdict.wanted,
                "met": verdict.is_met,
            })
        });
        let attack = Kind::ALL.iter().map(|kind| {
            let tally = self.tally(*kind);
            json!({"kind": kind.name(), "tally": tally, "per_second": self.rate(*kind)})
        });
        let heard = self.all_heard();
        let heard = heard.map(|(name, heard)| json!({"guests": name, "heard": heard.json()}));
        let held = |held: &Held| {
            json!({
                "memory": held.memory,
                "sockets": held.sockets.bytes,
                "connections": held.sockets.connections,
                "disk": held.disk,
                "log": held.log,
                "memory_after": held.memory_after,
                "connections_after": held.sockets_after.connections,
            })
        };
        json!({
            "seconds": self.seconds,
            "known_guests": self.known,
            "verdicts": verdicts.collect::<Vec<_>>(),
            "attack": attack.collect::<Vec<_>>(),
            "guests": heard.collect::<Vec<_>>(),
            "server": held(&self.server),
            "tls_server": held(&self.tls_server),
        })
    }
}

fn failures(heard: &Both) -> u64 {
    let all = [&heard.new, &heard.known];
    all.iter().flat_map(|heard| heard.failed.values()).sum()
}

/// Lists verdicts.
pub(super) fn table(verdicts: &[Verdict]) -> Table {
    let rows = verdicts.iter().map(|verdict| {
        vec![
            verdict.what.to_owned(),
            verdict.found.clone(),
            verdict.wanted.clone(),
            match verdict.is_met {
                true => "met",
                false => "missed",
            }
            .to_owned(),
        ]
    });
    Table {
        header: vec!["", "found", "wanted", ""],
        rows: rows.collect(),
    }
}
