//! `make flood`: everything that strangers can do at once, and whether guests notice.
//!
//! There are two servers. The floods go to one in the clear, since attackers of the lowest priority on the same cores could not
//! begin so many requests with TLS; a handshake can only be begun with the other. Both have the limits that they have by
//! default, and guests of both are watched.
//!
//! Everybody is on this machine, each at an address of its own in 127.0.0.0/8. So verdicts are about this machine, with nothing
//! else on it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use guestpass::keys::KeyAlgorithm;

use self::attack::{FLOODS, HELD, Kind, Scale};
use self::attackers::{Tally, target};
use self::guests::{Both, Heard, Visitors};
use self::verdicts::{BACK_AFTER, Figures, Held};
use self::watch::Sockets;
use crate::failure::Failure;
use crate::generator::{Load, Pace};
use crate::guests::{self as seeding, Guests, Said, Seed};
use crate::machine::Machine;
use crate::process::{Process, Server};
use crate::workload::Fixed;
use crate::{certificate, print, stage};

pub(crate) mod attack;
pub(crate) mod attackers;
mod client;
mod guests;
mod verdicts;
mod watch;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Duration of the flood; every known guest is refreshed once in twenty seconds
    #[arg(long, value_name = "S", default_value_t = 300)]
    seconds: u64,
    /// Write all figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// So much of the attack, and of the guests
    #[arg(long, default_value_t = 1.0, hide = true)]
    scale: f64,
    /// Attack in this way only, to find out what it costs; may be repeated
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// Priority of the attackers: 19 is the lowest, and leaves them nothing on a machine that is busy otherwise
    #[arg(long, value_name = "N", default_value_t = 19, hide = true)]
    nice: u8,
    /// Binary of the server [default: beside this one]
    #[arg(long, value_name = "FILE", hide = true)]
    server: Option<PathBuf>,
    /// Directory for the data
    #[arg(long, value_name = "DIR", default_value = "target/flood", hide = true)]
    directory: PathBuf,
}

/// Floods, reports, and returns whether every verdict is good.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let program = match &arguments.server {
        Some(program) => program.clone(),
        None => stage::default_program()?,
    };
    // A run that was killed leaves its data.
    let _ = std::fs::remove_dir_all(&arguments.directory);
    std::fs::create_dir_all(&arguments.directory)?;
    let scale = Scale(arguments.scale);
    attackers::raise_descriptors(attack::descriptors(scale))?;
    println!("{}", announced(scale, arguments.nice));
    let figures = Arena::prepare(&program, arguments, scale)
        .and_then(|mut arena| arena.flood(Duration::from_secs(arguments.seconds)));
    std::fs::remove_dir_all(&arguments.directory)?;
    let figures = figures?;
    for table in [figures.attack(), figures.guests(), figures.held()] {
        println!();
        print(&table);
    }
    println!("\n{EXPLAINED}\n");
    let verdicts = figures.verdicts();
    print(&verdicts::table(&verdicts));
    if let Some(file) = &arguments.json {
        let mut value = figures.json();
        value["machine"] = Machine::look().json();
        std::fs::write(file, format!("{value:#}\n"))?;
    }
    Ok(verdicts.iter().all(|verdict| verdict.is_met))
}

const EXPLAINED: &str = "Memory is the highest of the process (VmHWM), and that of the sockets on the server's side: what the \
    kernel charges\nto them, and 4 KiB for each. The client's side is on this machine, too, and isn't counted. Disk and log are \
    what was\ntaken at most beyond what was there before.";

/// Says what is about to happen.
fn announced(scale: Scale, nice: u8) -> String {
    let held = HELD.map(|held| format!("{} {}", scale.of(held.connections), held.kind.name()));
    let mut lines = vec![format!(
        "Attackers, at nice {nice}, hold connections: {}. They open what is ended a second later.",
        held.join(", ")
    )];
    for flood in FLOODS.map(|flood| flood.scaled(scale)) {
        lines.push(format!(
            "They ask for {}: {:.0} times a second from {} addresses.",
            flood.kind.name(),
            flood.rate,
            flood.addresses
        ));
    }
    lines.push(format!(
        "New guests come {:.0} times a second, each from an address of its own; {} known ones refresh every {:.0} s.",
        guests::NEW_IN_A_SECOND,
        scale.of(KNOWN),
        guests::REFRESHED_EVERY
    ));
    lines.push(
        "All but the handshakes is for a server in the clear, as TLS would be too dear for attackers of that priority; \
         those are for one with TLS."
            .to_owned(),
    );
    lines.join("\n")
}

/// The known guests.
const KNOWN: usize = 2_000;
/// The time for which guests come before and after the flood, to compare.
const COMPARED: Duration = Duration::from_secs(10);
/// The interval at which memory and disk are looked at.
const LOOKED_EVERY: Duration = Duration::from_secs(2);
/// The time after the flood at which attackers end by themselves, should nobody end them.
const ATTACKERS_END_AFTER: Duration = Duration::from_secs(60);
/// The interval at which progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// New guests in a second over TLS: all have one address, whose limit is above that.
const OVER_TLS: f64 = 5.0;

/// Holds the two servers, with their guests.
struct Arena {
    scale: Scale,
    nice: u8,
    only: Vec<Kind>,
    known: usize,
    certificate: PathBuf,
    server: Watched,
    tls_server: Watched,
    visitors: Visitors,
}

/// Holds a server and what it has held at most.
struct Watched {
    server: Server,
    directory: PathBuf,
    before: (u64, u64),
    held: Held,
}

impl Arena {
    /// Makes both installations and starts the servers.
    fn prepare(program: &Path, arguments: &Arguments, scale: Scale) -> Result<Self, Failure> {
        let directory = &arguments.directory;
        let certificate = directory.join("certificate");
        certificate::make(&certificate)?;
        let files = certificate::server(&certificate);
        let [certificate_file, key_file] =
            [files.certificate_file, files.key_file].map(|file| file.display().to_string());
        let tls = [
            ("GUESTPASS_TLS__CERTIFICATE_FILE", &*certificate_file),
            ("GUESTPASS_TLS__KEY_FILE", &*key_file),
        ];
        let known = scale.of(KNOWN);
        let (server, guests) = Watched::start(program, directory.join("clear"), known, &[])?;
        let (tls_server, _) = Watched::start(program, directory.join("tls"), 1, &tls)?;
        Ok(Self {
            scale,
            nice: arguments.nice,
            only: arguments.only.clone(),
            known,
            visitors: Visitors::new(server.server.address, guests),
            certificate,
            server,
            tls_server,
        })
    }

    /// Floods the servers for so long, and waits until all is as before.
    fn flood(&mut self, time: Duration) -> Result<Figures, Failure> {
        let compared = COMPARED.min(time);
        let before = self.visitors.come_for(compared)?;
        let flooded = self.attack_for(time)?;
        eprintln!("the attackers have gone");
        let back = self.wait_until_back()?;
        let after = self.visitors.come_for(compared)?;
        for watched in [&mut self.server, &mut self.tls_server] {
            watched.held.memory_after = 1024 * watched.server.process.memory()?.resident;
            watched.held.sockets_after = watched.sockets()?;
            watched.server.process.stop()?;
        }
        Ok(Figures {
            scale: self.scale,
            seconds: flooded.seconds,
            known: self.known,
            before,
            during: flooded.heard,
            after,
            over_tls: flooded.over_tls,
            tallies: flooded.tallies,
            server: self.server.held,
            tls_server: self.tls_server.held,
            back,
        })
    }

    fn attack_for(&mut self, time: Duration) -> Result<Flooded, Failure> {
        let (server, tls_server) = (self.server.server.address, self.tls_server.server.address);
        let mut kinds = Vec::new();
        for kind in &self.only {
            kinds.extend(
                kind.to_possible_value()
                    .map(|value| value.get_name().to_owned()),
            );
        }
        let tls = certificate::client(&self.certificate)?;
        let mut attackers = Process::start(
            std::process::Command::new("nice")
                .args(["-n", &self.nice.to_string()])
                .arg(std::env::current_exe()?)
                .arg("flood-attackers")
                .args([server, tls_server].map(|address| address.to_string()))
                .arg(&self.certificate)
                .arg((time + ATTACKERS_END_AFTER).as_secs().to_string())
                .arg(self.scale.0.to_string())
                .args(kinds),
        )?;
        let start = Instant::now();
        let (visitors, watched) = (&mut self.visitors, [&mut self.server, &mut self.tls_server]);
        std::thread::scope(|scope| {
            let heard = scope.spawn(|| visitors.come_for(time));
            let over_tls = scope.spawn(|| {
                let load = Load {
                    address: tls_server,
                    connections: 16,
                    pace: Pace::Open(OVER_TLS),
                    time,
                    fresh_tls: Some(&tls),
                };
                load.run(&mut Fixed::authorize(&target(tls_server)), &mut |_, _| {})
            });
            attackers.line()?;
            let (seconds, tallies) = watch(watched, &mut attackers, start, time)?;
            attackers.stop()?;
            Ok(Flooded {
                seconds,
                tallies,
                heard: heard.join().expect("guests don't panic")?,
                over_tls: over_tls.join().expect("guests don't panic")?.into(),
            })
        })
    }

    /// Returns the time after which all is as before; or what isn't, when it has had the time.
    fn wait_until_back(&self) -> Result<Result<Duration, String>, Failure> {
        let start = Instant::now();
        loop {
            let waited = start.elapsed();
            let left = [self.server.sockets()?, self.tls_server.sockets()?];
            let connections: u64 = left.iter().map(|sockets| sockets.connections).sum();
            let is_ready = self.visitors.is_ready()?;
            if connections == 0 && is_ready {
                return Ok(Ok(waited));
            }
            if waited > BACK_AFTER {
                let readiness = if is_ready { "ready" } else { "not ready" };
                return Ok(Err(format!("{connections} connections, {readiness}")));
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Holds what was found while the attackers were there.
struct Flooded {
    seconds: f64,
    tallies: Vec<Tally>,
    heard: Both,
    over_tls: Heard,
}

/// Looks at the servers again and again. Returns the seconds for which the attackers were there, and what they did.
fn watch(
    mut watched: [&mut Watched; 2],
    attackers: &mut Process,
    start: Instant,
    time: Duration,
) -> Result<(f64, Vec<Tally>), Failure> {
    let (mut told, mut answered) = (start, 0);
    loop {
        std::thread::sleep(LOOKED_EVERY.min(time.saturating_sub(start.elapsed())));
        for watched in &mut watched {
            watched.look()?;
        }
        let is_over = start.elapsed() >= time;
        if !is_over && told.elapsed() < TOLD_EVERY {
            continue;
        }
        let tallies: Vec<Tally> = serde_json::from_str(&attackers.ask("tell")?)?;
        let so_far = tallies[Kind::Authorize as usize].answered();
        let held = watched[0].held;
        eprintln!(
            "{:.0} s: authorize {:.0}/s; at most so far {} connections, memory {} MiB, sockets {} MiB, disk {} MiB",
            start.elapsed().as_secs_f64(),
            (so_far - answered) as f64 / told.elapsed().as_secs_f64(),
            held.sockets.connections,
            held.memory >> 20,
            held.sockets.bytes >> 20,
            held.disk >> 20,
        );
        (told, answered) = (Instant::now(), so_far);
        if is_over {
            return Ok((start.elapsed().as_secs_f64(), tallies));
        }
    }
}

impl Watched {
    /// Makes an installation and starts its server, with the limits that it has by default.
    fn start(
        program: &Path,
        directory: PathBuf,
        guests: usize,
        settings: &[(&str, &str)],
    ) -> Result<(Self, Guests), Failure> {
        let seed = Seed {
            guests: guests as u64,
            algorithm: KeyAlgorithm::Hs256,
            sample: guests,
            ended: 0,
            said: Said::Nothing,
        };
        let tokens = seeding::seed(&directory, seed)?;
        let server = Server::limited(program, &directory, settings)?;
        let mut watched = Self {
            server,
            directory,
            before: (0, 0),
            held: Held::default(),
        };
        watched.before = watched.files()?;
        Ok((watched, tokens))
    }

    fn sockets(&self) -> Result<Sockets, Failure> {
        Sockets::of(self.server.address.port())
    }

    /// Returns the bytes of the data directory and of the log.
    fn files(&self) -> Result<(u64, u64), Failure> {
        Ok((watch::disk(&self.directory)?, self.server.logged()))
    }

    /// Looks at what it holds just now.
    fn look(&mut self) -> Result<(), Failure> {
        let (disk, log) = self.files()?;
        let sockets = self.sockets()?;
        let held = &mut self.held;
        held.memory = 1024 * self.server.process.memory()?.peak;
        held.sockets.bytes = held.sockets.bytes.max(sockets.bytes);
        held.sockets.connections = held.sockets.connections.max(sockets.connections);
        held.disk = held.disk.max(disk.saturating_sub(self.before.0));
        held.log = held.log.max(log.saturating_sub(self.before.1));
        Ok(())
    }
}
