//! The servers, floors and data directories of a run. They are made on first use and kept for later rounds.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guestpass::keys::KeyAlgorithm;
use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::generator::{Load, Outcome, Pace, Workload, histogram};
use crate::guests::{self, CLIENT_ID, Guests, Said, Seed};
use crate::process::{Memory, Process, Server, Used, measure_sync, settle};
use crate::scenario::Scenario;
use crate::versions::{Kept, Version};
use crate::workload::{Fixed, Refresh, Retry, SignUp, Target};

mod life;
mod page;
mod postgres;
mod shop;
mod tls;

use life::HalfEnded;
use page::{Page, Shown};
use postgres::Postgres;
use shop::{Shop, ShopKind};

pub(crate) use page::ORIGIN;

/// Holds the measurement of one scenario in one round.
pub(crate) struct Measured {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Operations begun per second.
    pub(crate) offered: f64,
    /// Operations that succeeded.
    pub(crate) done: u64,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) latency_of_failed: Histogram<u64>,
    /// Failures by status.
    pub(crate) failed: Vec<(u16, u64)>,
    pub(crate) first_failure: Option<String>,
    /// Resources that the server used for it.
    pub(crate) used: Used,
    /// Memory of the server after it.
    pub(crate) memory: Option<Memory>,
    /// A figure that is neither a rate nor a latency, such as a size, or the highest rate just before an overload.
    pub(crate) value: f64,
}

impl Measured {
    /// Makes a measurement that is nothing but a value.
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

    /// Returns the server's CPU time per operation in microseconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.per_operation(self.used.cpu.as_secs_f64() * 1e6)
    }

    pub(crate) fn per_operation(&self, used: f64) -> f64 {
        used / self.done.max(1) as f64
    }
}

/// Names the servers, each with an installation of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Million,
    Ended,
    HalfEnded,
    Tls,
    HundredThousand,
    Unsynced,
    EdDsa,
    Es256,
    /// All guests have a customer and attributes, and the client is told both.
    Linked,
    /// All guests have a customer, and nothing more.
    HundredThousandCustomers,
    TenThousand,
    TenMillion,
}

impl Kind {
    const fn seed(self) -> (u64, KeyAlgorithm) {
        match self {
            Self::Million | Self::Unsynced | Self::Ended | Self::Tls | Self::Linked => {
                (1_000_000, KeyAlgorithm::Hs256)
            }
            Self::HalfEnded => (2_000_000, KeyAlgorithm::Hs256),
            Self::HundredThousand | Self::HundredThousandCustomers => {
                (100_000, KeyAlgorithm::Hs256)
            }
            Self::EdDsa => (1_000_000, KeyAlgorithm::EdDsa),
            Self::Es256 => (1_000_000, KeyAlgorithm::Es256),
            Self::TenThousand => (10_000, KeyAlgorithm::Hs256),
            Self::TenMillion => (10_000_000, KeyAlgorithm::Hs256),
        }
    }

    fn directory(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Holds a running server and its guests.
struct Served {
    server: Server,
    guests: Guests,
    target: Target,
    /// Refreshes since its start.
    refreshed: u64,
}

/// Holds the settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Binary of the server.
    pub(crate) program: PathBuf,
    /// Directory for all data; it is removed at the end.
    pub(crate) directory: PathBuf,
    /// Duration of each scenario in each round.
    pub(crate) time: Duration,
    /// Upper bound of the guests of an installation, for tests.
    pub(crate) guests: Option<u64>,
}

/// Holds the processes and data of a run; dropping it ends and removes all of them.
pub(crate) struct Stage {
    plan: Plan,
    served: HashMap<Kind, Served>,
    /// Installations as they were seeded, with the tokens that are valid in a copy.
    seeded: HashMap<String, (PathBuf, Guests)>,
    empty: Option<Server>,
    /// With TLS.
    empty_tls: Option<Server>,
    rate_limited: Option<Server>,
    signing: Option<Server>,
    writing: Option<Process>,
    postgres: Option<Postgres>,
    shops: HashMap<ShopKind, Shop>,
    page: Option<Page>,
    half_ended: Option<HalfEnded>,
    /// Measured once; it is the same in every round.
    growth: Option<f64>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.served.clear();
        self.shops.clear();
        (self.empty, self.empty_tls, self.signing) = (None, None, None);
        self.rate_limited = None;
        self.writing = None;
        self.postgres = None;
        let _ = fs::remove_dir_all(&self.plan.directory);
    }
}

impl Stage {
    pub(crate) fn new(plan: Plan) -> Result<Self, Failure> {
        // A run that was killed leaves its data.
        let _ = fs::remove_dir_all(&plan.directory);
        fs::create_dir_all(&plan.directory)?;
        Ok(Self {
            plan,
            served: HashMap::new(),
            seeded: HashMap::new(),
            empty: None,
            empty_tls: None,
            rate_limited: None,
            signing: None,
            writing: None,
            postgres: None,
            shops: HashMap::new(),
            page: None,
            half_ended: None,
            growth: None,
        })
    }

    /// Runs a scenario for that time.
    pub(crate) fn run(&mut self, scenario: Scenario, time: Duration) -> Result<Measured, Failure> {
        let closed = |connections| Demand::closed(connections, time);
        match scenario {
            Scenario::EmptyPost => fixed(empty(&mut self.empty)?, closed(64), Fixed::refresh),
            Scenario::EmptyPair => fixed(empty(&mut self.empty)?, closed(64), Fixed::sign_up),
            Scenario::SignOnly => fixed(self.signing()?, closed(64), Fixed::refresh),
            Scenario::BareWrites => self.bare_writes(time),
            Scenario::Sync => self.sync(time.min(Duration::from_secs(1))),
            Scenario::Refresh => self.refresh(Kind::Million, closed(64), usize::MAX),
            Scenario::HotRefresh => self.refresh(Kind::Million, closed(64), HOT),
            Scenario::Durable256 => self.refresh(Kind::Million, closed(256), usize::MAX),
            Scenario::Unsynced256 => self.refresh(Kind::Unsynced, closed(256), usize::MAX),
            Scenario::RefreshEdDsa => self.refresh(Kind::EdDsa, closed(64), usize::MAX),
            Scenario::RefreshEs256 => self.refresh(Kind::Es256, closed(64), usize::MAX),
            Scenario::RefreshLinked => self.refresh(Kind::Linked, closed(64), usize::MAX),
            Scenario::FreshEmpty => fixed(self.empty_tls()?, closed(64), Fixed::refresh),
            Scenario::FreshRefresh => self.refresh(Kind::Tls, closed(64), usize::MAX),
            Scenario::RefreshHttp1 => self.refresh_kept(Version::Http1, time),
            Scenario::RefreshHttp2 => self.refresh_kept(Version::Http2, time),
            Scenario::Refresh10Thousand => self.refresh(Kind::TenThousand, closed(64), usize::MAX),
            Scenario::Refresh10Million => self.refresh(Kind::TenMillion, closed(64), usize::MAX),
            Scenario::EmptyHalfLoad => {
                let server = empty(&mut self.empty)?;
                let rate = fixed(server, closed(64), Fixed::refresh)?.rate / 2.0;
                fixed(server, Demand::open(256, rate, time), Fixed::refresh)
            }
            Scenario::HalfLoad => {
                let rate = self.highest(time)? / 2.0;
                self.refresh(Kind::Million, Demand::open(256, rate, time), usize::MAX)
            }
            Scenario::Overload => self.overload(time),
            Scenario::SignUp => {
                let served = self.served(Kind::Million)?;
                let mut workload = SignUp::new(&served.target);
                measure(&served.server, closed(64), &mut workload)
            }
            Scenario::EmptyGet => fixed(empty(&mut self.empty)?, closed(64), Fixed::authorize),
            Scenario::RateLimited => fixed(self.rate_limited()?, closed(64), Fixed::rate_limited),
            Scenario::Retry => self.retry(time),
            Scenario::Memory10Thousand => self.memory(Kind::TenThousand),
            Scenario::Memory10Million => self.memory(Kind::TenMillion),
            Scenario::Size => self.size(),
            Scenario::Growth => self.growth(),
            Scenario::StartEmpty => self.start_empty(),
            Scenario::Start10Thousand => self.start(Kind::TenThousand),
            Scenario::Start10Million => self.start(Kind::TenMillion),
            Scenario::Refresh10ThousandRecorded => self.beside_delivery(false, time),
            Scenario::Delivering => self.beside_delivery(true, time),
            Scenario::Delivery => self.delivery(),
            Scenario::Link => self.link(ShopKind::Silent, time),
            Scenario::LinkRecorded => self.link(ShopKind::Recording, time),
            Scenario::LinkAgain => self.link_again(time),
            Scenario::Introspect => self.introspect(time),
            Scenario::Succession => self.succession(time),
            Scenario::VerifyHeader => self.verify(Shown::Header, time),
            Scenario::VerifyAccessCookie => self.verify(Shown::AccessCookie, time),
            Scenario::VerifyRefreshCookie => self.verify(Shown::RefreshCookie, time),
            Scenario::SessionCurrent => self.session_current(time),
            Scenario::SessionSeeding => self.session_seeding(time),
            Scenario::SessionCreating => self.session_creating(time),
            Scenario::SessionRenewing => self.session_renewing(time),
            Scenario::Authorize => self.authorize(time),
            Scenario::NotForgetting => self.beside_retention(false, time),
            Scenario::WhileForgetting => self.beside_retention(true, time),
            Scenario::SizeLinked => self.size_linked(),
            Scenario::Cleaning => self.cleaning(),
            Scenario::NotCleaning => self.beside_cleaning(None, time),
            Scenario::WhileCleaning => self.beside_cleaning(Some("0s"), time),
            Scenario::Postgres => self.postgres(true, time),
            Scenario::PostgresSingle => self.postgres(false, time),
        }
    }

    fn refresh(&mut self, kind: Kind, demand: Demand, among: usize) -> Result<Measured, Failure> {
        let served = self.served(kind)?;
        let mut workload = Refresh::new(&served.target, &mut served.guests, among);
        let measured = measure(&served.server, demand, &mut workload)?;
        served.refreshed += measured.done;
        Ok(measured)
    }

    /// Refreshes over TLS connections that are kept.
    fn refresh_kept(&mut self, version: Version, time: Duration) -> Result<Measured, Failure> {
        let served = self.served(Kind::Tls)?;
        let mut workload = Refresh::new(&served.target, &mut served.guests, usize::MAX);
        let kept = Kept {
            address: served.server.address,
            tls: served.server.tls.as_ref().expect("it was started with TLS"),
            version,
            in_flight: 64,
        };
        let measured = measure_by(&served.server, time, &mut |time| {
            kept.run(&mut workload, time)
        })?;
        served.refreshed += measured.done;
        Ok(measured)
    }

    /// Repeats refreshes within the grace window.
    fn retry(&mut self, time: Duration) -> Result<Measured, Failure> {
        let served = self.served(Kind::Million)?;
        let mut workload = Retry::new(&served.target, &mut served.guests, 64);
        // The grace window begins with the warm-up.
        let load = Demand::closed(64, time.min(Duration::from_secs(25)));
        measure(&served.server, load, &mut workload)
    }

    /// Offers three times the highest rate.
    fn overload(&mut self, time: Duration) -> Result<Measured, Failure> {
        let highest = self.highest(time)?;
        let load = Demand::open(OVERLOADING, highest * 3.0, time);
        let measured = self.refresh(Kind::Million, load, usize::MAX)?;
        Ok(Measured {
            value: highest,
            ..measured
        })
    }

    /// Measures the saturation throughput of refreshes just now, as the speed of the machine drifts.
    fn highest(&mut self, time: Duration) -> Result<f64, Failure> {
        let load = Demand::closed(64, time);
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

    /// Returns a server that refuses nearly every new guest.
    fn rate_limited(&mut self) -> Result<&Server, Failure> {
        if self.rate_limited.is_none() {
            let (from, _) = self.seeded(Kind::TenThousand)?;
            let directory = self.plan.directory.join("rate-limited");
            guests::copy(&from, &directory)?;
            let settings = [
                ("GUESTPASS_LIMITS__MODE", "enforce"),
                ("GUESTPASS_LIMITS__GUESTS_PER_ADDRESS", "1/1h"),
            ];
            let server = Server::guestpass(&self.plan.program, &directory, &settings)?;
            // The one that is not refused.
            let load = Load {
                address: server.address,
                connections: 1,
                pace: Pace::Closed,
                time: Duration::from_millis(1),
                fresh_tls: None,
            };
            load.run(&mut Fixed::authorize(&target(&server)), &mut |_, _| {})?;
            self.rate_limited = Some(server);
        }
        Ok(self.rate_limited.as_ref().expect("it was just started"))
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
                Kind::Tls => self.certified(&directory, &settings)?,
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

    /// Returns the seeded installation of a kind of server.
    fn seeded(&mut self, kind: Kind) -> Result<(PathBuf, Guests), Failure> {
        let (guests, algorithm) = kind.seed();
        let guests = self.plan.guests.map_or(guests, |most| guests.min(most));
        let ended = match kind {
            Kind::Ended => guests,
            Kind::HalfEnded => guests / 2,
            _ => 0,
        };
        let said = match kind {
            Kind::Linked => Said::All,
            Kind::HundredThousandCustomers => Said::Customer,
            _ => Said::Nothing,
        };
        let key = format!("seed-{guests}-{ended}-{said:?}-{}", algorithm.name());
        if !self.seeded.contains_key(&key) {
            let directory = self.plan.directory.join(&key);
            let sample = usize::try_from(guests - ended)?.min(SAMPLE);
            let seed = Seed {
                guests,
                algorithm,
                sample,
                ended,
                said,
            };
            let made = guests::seed(&directory, seed)?;
            self.seeded.insert(key.clone(), (directory, made));
        }
        Ok(self.seeded[&key].clone())
    }
}

/// Guests whose tokens are kept, at most.
const SAMPLE: usize = 1_000_000;
/// Size of the hot set, which fits into SQLite's cache.
const HOT: usize = 10_000;
/// Connections of an overload: the server's queue is full, and as many requests are shed meanwhile.
const OVERLOADING: usize = 2048;
/// Duration for which a load runs unmeasured, to warm the caches.
const WARM_UP: Duration = Duration::from_millis(500);

/// Reads the files of an installation into the page cache. Some kernels reclaim pages that were idle for minutes, and even a
/// write must read such a page first.
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

/// Measures a floor under fixed requests.
fn fixed(
    server: &Server,
    demand: Demand,
    workload: fn(&Target) -> Fixed,
) -> Result<Measured, Failure> {
    measure(server, demand, &mut workload(&target(server)))
}

/// Says how much load there is, whatever it consists of.
#[derive(Clone, Copy, Debug)]
struct Demand {
    connections: usize,
    pace: Pace,
    time: Duration,
}

impl Demand {
    fn closed(connections: usize, time: Duration) -> Self {
        Self {
            connections,
            pace: Pace::Closed,
            time,
        }
    }

    fn open(connections: usize, rate: f64, time: Duration) -> Self {
        Self {
            connections,
            pace: Pace::Open(rate),
            time,
        }
    }
}

/// Warms up, runs a load and reads the resources that the server used for it.
fn measure(
    server: &Server,
    demand: Demand,
    workload: &mut dyn Workload,
) -> Result<Measured, Failure> {
    let load = Load {
        address: server.address,
        connections: demand.connections,
        pace: demand.pace,
        time: demand.time,
        fresh_tls: server.tls.as_ref(),
    };
    measure_by(server, demand.time, &mut |time| {
        Ok(Load { time, ..load }.run(workload, &mut |_, _| {})?)
    })
}

/// Does the same with a load of another kind, which runs for the time that it is given.
fn measure_by(
    server: &Server,
    time: Duration,
    load: &mut dyn FnMut(Duration) -> Result<Outcome, Failure>,
) -> Result<Measured, Failure> {
    settle()?;
    load(time.min(WARM_UP))?;
    let before = server.used()?;
    let outcome = load(time)?;
    let mut used = server.used()? - before;
    // Without the answers, what was written went to files.
    used.written = used.written.saturating_sub(outcome.received);
    Ok(Measured {
        memory: Some(server.process.memory()?),
        ..Measured::of(outcome, used)
    })
}

/// Returns the path of the server that was built with this program.
pub(crate) fn default_program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let directory = own.parent().unwrap_or(Path::new("."));
    Ok(directory.join("guestpass"))
}
