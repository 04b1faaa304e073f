//! What a run needs: data directories and processes, made when they are first wanted and kept for the rounds that follow.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guestpass::keys::KeyAlgorithm;
use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::generator::{Load, Outcome, Pace, Workload, histogram};
use crate::guests::{self, CLIENT_ID, Guests, Seed};
use crate::process::{Memory, Process, Server, Used, measure_sync, settle};
use crate::scenario::Scenario;
use crate::workload::{Refresh, Retry, Same, SignUp, Target};

mod fresh;
mod life;
mod postgres;

use life::HalfEnded;
use postgres::Postgres;

/// What one scenario did in one round.
pub(crate) struct Measured {
    /// Operations per second.
    pub(crate) rate: f64,
    /// How many were begun per second.
    pub(crate) offered: f64,
    /// How many there were.
    pub(crate) done: u64,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) latency_of_failed: Histogram<u64>,
    /// Answers that were none, by status.
    pub(crate) failed: Vec<(u16, u64)>,
    pub(crate) first_failure: Option<String>,
    /// What the server used for it; nothing, where there is no server.
    pub(crate) used: Used,
    /// What the server has in memory after it.
    pub(crate) memory: Option<Memory>,
    /// What is neither a rate nor a latency of it: a size, a ratio that was found in one go, what was measured just before.
    pub(crate) value: f64,
}

impl Measured {
    /// Of something that is only a value.
    fn value(value: f64) -> Self {
        Self {
            value,
            ..Self::of(Outcome::default(), Used::default())
        }
    }

    fn of(outcome: Outcome, used: Used) -> Self {
        Self {
            rate: outcome.rate,
            offered: outcome.offered,
            done: outcome.done,
            latency: outcome.latency,
            latency_of_failed: outcome.latency_of_failed,
            failed: outcome.failed.into_iter().collect(),
            first_failure: outcome.first_failure,
            used,
            memory: None,
            value: 0.0,
        }
    }

    /// Microseconds of server CPU per operation.
    pub(crate) fn cpu(&self) -> f64 {
        self.per_operation(self.used.cpu.as_secs_f64() * 1e6)
    }

    pub(crate) fn per_operation(&self, used: f64) -> f64 {
        used / self.done.max(1) as f64
    }
}

/// Servers, each with an installation of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Million,
    Ended,
    HalfEnded,
    Fresh,
    HundredThousand,
    Unsynced,
    EdDsa,
    Es256,
    TenThousand,
    TenMillion,
}

impl Kind {
    const fn seed(self) -> (u64, KeyAlgorithm) {
        match self {
            Self::Million | Self::Unsynced | Self::Ended | Self::Fresh => {
                (1_000_000, KeyAlgorithm::Hs256)
            }
            Self::HalfEnded => (2_000_000, KeyAlgorithm::Hs256),
            Self::HundredThousand => (100_000, KeyAlgorithm::Hs256),
            Self::EdDsa => (1_000_000, KeyAlgorithm::EdDsa),
            Self::Es256 => (1_000_000, KeyAlgorithm::Es256),
            Self::TenThousand => (10_000, KeyAlgorithm::Hs256),
            Self::TenMillion => (10_000_000, KeyAlgorithm::Hs256),
        }
    }

    const fn directory(self) -> &'static str {
        match self {
            Self::Million => "million",
            Self::Unsynced => "unsynced",
            Self::Ended => "ended",
            Self::HalfEnded => "half-ended",
            Self::Fresh => "fresh",
            Self::HundredThousand => "hundred-thousand",
            Self::EdDsa => "eddsa",
            Self::Es256 => "es256",
            Self::TenThousand => "ten-thousand",
            Self::TenMillion => "ten-million",
        }
    }
}

/// A server and its guests.
struct Served {
    server: Server,
    guests: Guests,
    target: Target,
    /// How many times a guest was refreshed since the start.
    refreshed: u64,
}

/// How a run is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The server's binary.
    pub(crate) program: PathBuf,
    /// Where everything is kept meanwhile.
    pub(crate) directory: PathBuf,
    /// How long each scenario is run in each round.
    pub(crate) time: Duration,
    /// Takes the place of a million guests, in tests.
    pub(crate) guests: Option<u64>,
}

/// The processes and data of a run. Everything ends and goes with it.
pub(crate) struct Stage {
    plan: Plan,
    served: HashMap<Kind, Served>,
    /// The installations as they were made, with the tokens that hold in a copy.
    seeded: HashMap<String, (PathBuf, Guests)>,
    empty: Option<Server>,
    fresh: Option<Server>,
    signing: Option<Server>,
    writing: Option<Process>,
    postgres: Option<Postgres>,
    half_ended: Option<HalfEnded>,
    /// What was found once and doesn't change.
    growth: Option<f64>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.served.clear();
        (self.empty, self.fresh, self.signing) = (None, None, None);
        self.writing = None;
        self.postgres = None;
        let _ = fs::remove_dir_all(&self.plan.directory);
    }
}

impl Stage {
    pub(crate) fn new(plan: Plan) -> Result<Self, Failure> {
        // What a run that was killed has left.
        let _ = fs::remove_dir_all(&plan.directory);
        fs::create_dir_all(&plan.directory)?;
        Ok(Self {
            plan,
            served: HashMap::new(),
            seeded: HashMap::new(),
            empty: None,
            fresh: None,
            signing: None,
            writing: None,
            postgres: None,
            half_ended: None,
            growth: None,
        })
    }

    /// Runs a scenario for so long.
    pub(crate) fn run(&mut self, scenario: Scenario, time: Duration) -> Result<Measured, Failure> {
        let closed = |connections| (connections, Pace::Closed, time);
        match scenario {
            Scenario::EmptyPost => same(empty(&mut self.empty)?, closed(64), Same::refresh),
            Scenario::EmptyPair => same(empty(&mut self.empty)?, closed(64), Same::sign_up),
            Scenario::SignOnly => same(self.signing()?, closed(64), Same::refresh),
            Scenario::BareWrites => self.bare_writes(time),
            Scenario::Sync => self.sync(time.min(Duration::from_secs(1))),
            Scenario::Refresh => self.refresh(Kind::Million, closed(64), usize::MAX),
            Scenario::HotRefresh => self.refresh(Kind::Million, closed(64), HOT),
            Scenario::Durable256 => self.refresh(Kind::Million, closed(256), usize::MAX),
            Scenario::Unsynced256 => self.refresh(Kind::Unsynced, closed(256), usize::MAX),
            Scenario::RefreshEdDsa => self.refresh(Kind::EdDsa, closed(64), usize::MAX),
            Scenario::RefreshEs256 => self.refresh(Kind::Es256, closed(64), usize::MAX),
            Scenario::FreshEmpty => same(self.fresh()?, closed(64), Same::refresh),
            Scenario::FreshRefresh => self.refresh(Kind::Fresh, closed(64), usize::MAX),
            Scenario::Refresh10Thousand => self.refresh(Kind::TenThousand, closed(64), usize::MAX),
            Scenario::Refresh10Million => self.refresh(Kind::TenMillion, closed(64), usize::MAX),
            Scenario::EmptyHalfLoad => {
                let server = empty(&mut self.empty)?;
                let rate = same(server, closed(64), Same::refresh)?.rate / 2.0;
                same(server, (256, Pace::Open(rate), time), Same::refresh)
            }
            Scenario::HalfLoad => {
                let rate = self.highest(time)? / 2.0;
                self.refresh(Kind::Million, (256, Pace::Open(rate), time), usize::MAX)
            }
            Scenario::Overload => self.overload(time),
            Scenario::SignUp => {
                let served = self.served(Kind::Million)?;
                let mut workload = SignUp::new(&served.target);
                measure(&served.server, closed(64), &mut workload, &mut unwatched)
            }
            Scenario::Retry => self.retry(time),
            Scenario::Memory10Thousand => self.memory(Kind::TenThousand),
            Scenario::Memory10Million => self.memory(Kind::TenMillion),
            Scenario::Size => self.size(),
            Scenario::Growth => self.growth(),
            Scenario::StartEmpty => self.start_empty(),
            Scenario::Start10Thousand => self.start(Kind::TenThousand),
            Scenario::Start10Million => self.start(Kind::TenMillion),
            Scenario::Cleaning => self.cleaning(),
            Scenario::NotCleaning => self.beside_cleaning(None, time),
            Scenario::WhileCleaning => self.beside_cleaning(Some("0s"), time),
            Scenario::Postgres => self.postgres(true, time),
            Scenario::PostgresSingle => self.postgres(false, time),
        }
    }

    fn refresh(
        &mut self,
        kind: Kind,
        load: (usize, Pace, Duration),
        among: usize,
    ) -> Result<Measured, Failure> {
        let served = self.served(kind)?;
        let mut workload = Refresh::new(&served.target, &mut served.guests, among);
        let measured = measure(&served.server, load, &mut workload, &mut unwatched)?;
        served.refreshed += measured.done;
        Ok(measured)
    }

    /// Sends the tokens of before the last refresh. The first request of each connection is that refresh.
    fn retry(&mut self, time: Duration) -> Result<Measured, Failure> {
        let served = self.served(Kind::Million)?;
        let mut workload = Retry::new(&served.target, &mut served.guests, 64);
        // Well within the window, which begins with the warm-up.
        let load = (64, Pace::Closed, time.min(Duration::from_secs(25)));
        measure(&served.server, load, &mut workload, &mut unwatched)
    }

    /// Three times what the server can do.
    fn overload(&mut self, time: Duration) -> Result<Measured, Failure> {
        let highest = self.highest(time)?;
        let load = (OVERLOADING, Pace::Open(highest * 3.0), time);
        let measured = self.refresh(Kind::Million, load, usize::MAX)?;
        Ok(Measured {
            value: highest,
            ..measured
        })
    }

    /// Refreshes per second that the server can do at this moment: the machine is not always equally fast.
    fn highest(&mut self, time: Duration) -> Result<f64, Failure> {
        let load = (64, Pace::Closed, time);
        Ok(self.refresh(Kind::Million, load, usize::MAX)?.rate)
    }

    fn bare_writes(&mut self, time: Duration) -> Result<Measured, Failure> {
        let (directory, _) = self.seeded(Kind::Million)?;
        let own = self.plan.directory.join("writes");
        let process = match &mut self.writing {
            Some(process) => process,
            none => {
                guests::copy(&directory, &own)?;
                let mut command = std::process::Command::new(std::env::current_exe()?);
                command.args(["floor", "writes"]).arg(&own);
                let mut process = Process::start(&mut command)?;
                process.line()?;
                none.insert(process)
            }
        };
        read_through(&own)?;
        settle()?;
        process.ask(&time.min(WARM_UP).as_millis().to_string())?;
        let before = process.cpu()?;
        let said = process.ask(&time.as_millis().to_string())?;
        let (done, seconds) = said.split_once(' ').unwrap_or((&said, ""));
        let (done, seconds): (u64, f64) = (done.parse()?, seconds.parse()?);
        let used = Used {
            cpu: process.cpu()?.saturating_sub(before),
            ..Used::default()
        };
        let outcome = Outcome {
            done,
            rate: done as f64 / seconds,
            ..Outcome::default()
        };
        Ok(Measured::of(outcome, used))
    }

    fn sync(&self, time: Duration) -> Result<Measured, Failure> {
        settle()?;
        let mut latency = histogram();
        measure_sync(&self.plan.directory, time, |took| {
            latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        })?;
        let outcome = Outcome {
            done: latency.len(),
            rate: latency.len() as f64 / time.as_secs_f64(),
            latency,
            ..Outcome::default()
        };
        Ok(Measured::of(outcome, Used::default()))
    }

    fn signing(&mut self) -> Result<&Server, Failure> {
        if self.signing.is_none() {
            let directory = self.plan.directory.join("sign");
            let directory = directory.display().to_string();
            self.signing = Some(Server::floor(&["sign", &directory, "HS256"])?);
        }
        Ok(self.signing.as_ref().expect("it was just started"))
    }

    fn served(&mut self, kind: Kind) -> Result<&mut Served, Failure> {
        if !self.served.contains_key(&kind) {
            let (from, guests) = self.seeded(kind)?;
            let directory = self.plan.directory.join(kind.directory());
            guests::copy(&from, &directory)?;
            let (_, algorithm) = kind.seed();
            let mut settings = vec![("GUESTPASS_TOKENS__ALGORITHM", algorithm.name())];
            if kind == Kind::Unsynced {
                settings.push(("GUESTPASS_SQLITE__SYNCHRONOUS", "off"));
            }
            let server = match kind {
                Kind::Fresh => self.certified(&directory, &settings)?,
                _ => Server::guestpass(&self.plan.program, &directory, &settings)?,
            };
            let target = target(&server);
            let served = Served {
                server,
                guests,
                target,
                refreshed: 0,
            };
            self.served.insert(kind, served);
        }
        read_through(&self.plan.directory.join(kind.directory()))?;
        Ok(self.served.get_mut(&kind).expect("it is there by now"))
    }

    /// The installation that a kind of server begins with.
    fn seeded(&mut self, kind: Kind) -> Result<(PathBuf, Guests), Failure> {
        let (guests, algorithm) = kind.seed();
        let guests = self.plan.guests.map_or(guests, |most| guests.min(most));
        let ended = match kind {
            Kind::Ended => guests,
            Kind::HalfEnded => guests / 2,
            _ => 0,
        };
        let key = format!("seed-{guests}-{ended}-{}", algorithm.name());
        if !self.seeded.contains_key(&key) {
            let directory = self.plan.directory.join(&key);
            let sample = usize::try_from(guests - ended)?.min(SAMPLE);
            let seed = Seed {
                guests,
                algorithm,
                sample,
                ended,
            };
            let made = guests::seed(&directory, seed)?;
            self.seeded.insert(key.clone(), (directory, made));
        }
        Ok(self.seeded[&key].clone())
    }
}

/// So many guests take part, if there are more.
const SAMPLE: usize = 1_000_000;
const HOT: usize = 10_000;
/// Enough for those that wait their turn and as many that are refused meanwhile.
const OVERLOADING: usize = 2048;
/// How long a load runs before it is measured: until caches hold what it needs.
const WARM_UP: Duration = Duration::from_millis(500);

/// Has the operating system keep the files of an installation in memory, the log too, as it would under use: some take away
/// what was idle for minutes, and of a page that isn't there even a write reads the rest first.
fn read_through(directory: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            std::io::copy(&mut fs::File::open(path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

fn empty(server: &mut Option<Server>) -> Result<&Server, Failure> {
    match server {
        Some(server) => Ok(server),
        none => Ok(none.insert(Server::floor(&["empty"])?)),
    }
}

fn target(server: &Server) -> Target {
    Target {
        host: server.address.to_string(),
        base_path: String::new(),
        client_id: CLIENT_ID.to_owned(),
    }
}

/// A floor, asked the same again and again.
fn same(
    server: &Server,
    load: (usize, Pace, Duration),
    workload: fn(&Target) -> Same,
) -> Result<Measured, Failure> {
    measure(server, load, &mut workload(&target(server)), &mut unwatched)
}

/// Runs a load, first for a moment that doesn't count, and says what the server used for it.
fn measure(
    server: &Server,
    (connections, pace, time): (usize, Pace, Duration),
    workload: &mut dyn Workload,
    watch: &mut dyn FnMut(Duration, u64),
) -> Result<Measured, Failure> {
    let load = Load {
        address: server.address,
        connections,
        pace,
        time,
        fresh: server.tls.as_ref(),
    };
    settle()?;
    let warm_up = Load {
        time: time.min(WARM_UP),
        ..load
    };
    warm_up.run(workload, &mut unwatched)?;
    let before = server.used()?;
    let outcome = load.run(workload, watch)?;
    let mut used = server.used()? - before;
    // What is left was written to files.
    used.written = used.written.saturating_sub(outcome.received);
    Ok(Measured {
        memory: Some(server.process.memory()?),
        ..Measured::of(outcome, used)
    })
}

/// Hears how far a load is, and doesn't care.
fn unwatched(_: Duration, _: u64) {}

/// The server that was built with this program.
pub(crate) fn default_program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let directory = own.parent().unwrap_or(Path::new("."));
    Ok(directory.join("guestpass"))
}
