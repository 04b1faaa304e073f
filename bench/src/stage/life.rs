//! What is measured apart from load: memory, files, starting, cleaning.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{HOT, Kind, Measured, Stage, measure, read_through, target, unwatched};
use crate::failure::Failure;
use crate::floor;
use crate::generator::{Load, Outcome, Pace, Workload, histogram};
use crate::guests::{self, Guests};
use crate::process::{Process, Server, Used, settle};
use crate::workload::{Refresh, Same};

impl Stage {
    /// Memory of a server after a million refreshes, in MiB.
    pub(super) fn memory(&mut self, kind: Kind) -> Result<Measured, Failure> {
        let enough = self
            .plan
            .guests
            .map_or(1_000_000, |guests| guests.min(1_000_000));
        while self.served(kind)?.refreshed < enough {
            let load = (64, Pace::Closed, Duration::from_secs(5));
            let measured = self.refresh(kind, load, usize::MAX)?;
            if measured.done == 0 {
                return Ok(measured);
            }
        }
        let memory = self.served(kind)?.server.process.memory()?;
        Ok(Measured {
            memory: Some(memory),
            ..Measured::value(memory.resident as f64 / 1024.0)
        })
    }

    /// Bytes for each of ten million guests.
    pub(super) fn size(&mut self) -> Result<Measured, Failure> {
        let (directory, _) = self.seeded(Kind::TenMillion)?;
        let (guests, _) = Kind::TenMillion.seed();
        let guests = self.plan.guests.map_or(guests, |most| guests.min(most));
        Ok(Measured::value(
            guests::size(&directory) as f64 / guests as f64,
        ))
    }

    /// How much larger the file is after a thousand refreshes of each guest than after one.
    pub(super) fn growth(&mut self) -> Result<Measured, Failure> {
        if let Some(found) = self.growth {
            return Ok(Measured::value(found));
        }
        let (from, _) = self.seeded(Kind::TenThousand)?;
        let own = self.plan.directory.join("growth");
        guests::copy(&from, &own)?;
        floor::refresh_all(&own, 1)?;
        let once = guests::size(&own);
        floor::refresh_all(&own, 999)?;
        let found = guests::size(&own) as f64 / once as f64;
        self.growth = Some(found);
        Ok(Measured::value(found))
    }

    /// The time from starting a process that does nothing to its first answer.
    pub(super) fn start_empty(&mut self) -> Result<Measured, Failure> {
        let mut latency = histogram();
        for _ in 0..STARTS {
            rest()?;
            let start = Instant::now();
            let server = Server::floor(&["empty"])?;
            let mut workload = Same::refresh(&target(&server));
            measure_first(&server, &mut workload, start, &mut latency)?;
        }
        Ok(started(latency))
    }

    /// The time from starting the server to its first token. It has ended in order before.
    pub(super) fn start(&mut self, kind: Kind) -> Result<Measured, Failure> {
        let mut latency = histogram();
        for _ in 0..STARTS {
            self.served(kind)?.server.process.stop()?;
            let (program, directory) = (
                self.plan.program.clone(),
                self.plan.directory.join(kind.directory()),
            );
            let served = self.served(kind)?;
            rest()?;
            let start = Instant::now();
            served.server = Server::guestpass(&program, &directory, &[])?;
            (served.target, served.refreshed) = (target(&served.server), 0);
            let mut workload = Refresh::new(&served.target, &mut served.guests, HOT);
            measure_first(&served.server, &mut workload, start, &mut latency)?;
        }
        Ok(started(latency))
    }

    /// Removes ended grants as the cleaner does, but without its pauses.
    pub(super) fn cleaning(&mut self) -> Result<Measured, Failure> {
        let (from, _) = self.seeded(Kind::Ended)?;
        let own = self.plan.directory.join(Kind::Ended.directory());
        guests::copy(&from, &own)?;
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = Process::start(command.args(["floor", "clean"]).arg(&own))?;
        process.line()?;
        settle()?;
        let before = process.cpu()?;
        let done = process.ask("go")?.parse()?;
        let used = Used {
            cpu: process.cpu()?.saturating_sub(before),
            ..Used::default()
        };
        drop(process);
        std::fs::remove_dir_all(&own)?;
        let outcome = Outcome {
            done,
            ..Outcome::default()
        };
        Ok(Measured::of(outcome, used))
    }

    /// Refreshes at half of the highest rate where half of the guests have ended, on a server that has just been started and
    /// cleans from the start, or not.
    pub(super) fn beside_cleaning(
        &mut self,
        start_after: Option<&str>,
        time: Duration,
    ) -> Result<Measured, Failure> {
        let rate = self.highest(time)? / 2.0;
        if self.half_ended.is_none() {
            let (directory, guests) = self.seeded(Kind::HalfEnded)?;
            let left = guests::count_grants(&directory)?;
            self.half_ended = Some(HalfEnded {
                directory,
                guests,
                living: left - left / 2,
                left,
            });
        }
        let HalfEnded {
            directory,
            guests,
            living,
            left,
        } = self.half_ended.as_mut().expect("it was just made");
        let setting = start_after.map(|delay| ("GUESTPASS_CLEANING__START_AFTER", delay));
        read_through(directory)?;
        let program = &self.plan.program;
        let mut server = Server::guestpass(program, directory, setting.as_slice())?;
        let mut workload = Refresh::new(&target(&server), guests, usize::MAX);
        // As long as it takes for the log to be moved in every round, and not just in some: that costs more than cleaning.
        let load = (256, Pace::Open(rate), 2 * time);
        let measured = measure(&server, load, &mut workload, &mut unwatched)?;
        server.process.stop()?;
        let before = std::mem::replace(left, guests::count_grants(directory)?);
        if start_after.is_some() && before == *left && before > *living {
            return Err(Failure("nothing was cleaned".into()));
        }
        Ok(Measured {
            value: (before - *left) as f64,
            ..measured
        })
    }
}

/// An installation that becomes cleaner from round to round.
pub(super) struct HalfEnded {
    directory: PathBuf,
    guests: Guests,
    /// How many guests live.
    living: u64,
    /// How many there are.
    left: u64,
}

/// How many starts make a round.
const STARTS: usize = 5;

/// Has every start begin alike: right after another one, the disk and the processor are a sixth faster than after a pause.
fn rest() -> Result<(), Failure> {
    settle()?;
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// How often the first request may come too late.
const TRIES: usize = 100;

fn measure_first(
    server: &Server,
    workload: &mut dyn Workload,
    start: Instant,
    latency: &mut Histogram<u64>,
) -> Result<(), Failure> {
    let mut first = None;
    // A millisecond may be over before the generator has a core and asks at all.
    for _ in 0..TRIES {
        let load = Load {
            address: server.address,
            connections: 1,
            pace: Pace::Closed,
            time: Duration::from_millis(1),
            fresh: None,
        };
        let outcome = load.run(workload, &mut |_, done| {
            if done > 0 {
                first.get_or_insert_with(|| start.elapsed());
            }
        })?;
        if let Some(failure) = outcome.first_failure {
            return Err(Failure(failure));
        }
        if first.is_some() {
            break;
        }
    }
    let first = first.ok_or_else(|| Failure("nothing was asked in time".into()))?;
    latency.saturating_record(u64::try_from(first.as_micros()).unwrap_or(u64::MAX));
    Ok(())
}

fn started(latency: Histogram<u64>) -> Measured {
    let outcome = Outcome {
        done: latency.len(),
        latency,
        ..Outcome::default()
    };
    Measured::of(outcome, Used::default())
}
