//! Measurements other than load: memory, file sizes, starts, cleaning.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Demand, HOT, Kind, Measured, Stage, measure, read_through, target};
use crate::failure::Failure;
use crate::floor;
use crate::generator::{Load, Outcome, Pace, Workload, histogram};
use crate::guests::{self, Guests};
use crate::process::{Process, Server, Used, settle};
use crate::workload::{Fixed, Refresh};

impl Stage {
    /// Measures the memory of a server after a million refreshes, in MiB.
    pub(super) fn memory(&mut self, kind: Kind) -> Result<Measured, Failure> {
        let enough = self
            .plan
            .guests
            .map_or(1_000_000, |guests| guests.min(1_000_000));
        while self.served(kind)?.refreshed < enough {
            let demand = Demand::closed(64, Duration::from_secs(5));
            let measured = self.refresh(kind, demand, usize::MAX)?;
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

    /// Measures the bytes on disk for each of ten million guests.
    pub(super) fn size(&mut self) -> Result<Measured, Failure> {
        let (directory, _) = self.seeded(Kind::TenMillion)?;
        let (guests, _) = Kind::TenMillion.seed();
        let guests = self.plan.guests.map_or(guests, |most| guests.min(most));
        Ok(Measured::value(
            guests::size(&directory) as f64 / guests as f64,
        ))
    }

    /// Compares the file after a thousand refreshes of each guest with that after one.
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

    /// Measures the time from the start of an empty server to its first answer.
    pub(super) fn start_empty(&mut self) -> Result<Measured, Failure> {
        let mut latency = histogram();
        for _ in 0..STARTS {
            rest()?;
            let start = Instant::now();
            let server = Server::floor(&["empty"])?;
            let mut workload = Fixed::refresh(&target(&server));
            measure_first(&server, &mut workload, start, &mut latency)?;
        }
        Ok(started(latency))
    }

    /// Measures the time from the start of the server to its first token, after a graceful stop.
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

    /// Measures the removal of ended grants without the cleaner's pauses.
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

    /// Refreshes at half of the highest rate on a new server, half of whose guests have ended. With `start_after` it cleans
    /// meanwhile.
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
                live: left - left / 2,
                left,
            });
        }
        let HalfEnded {
            directory,
            guests,
            live,
            left,
        } = self.half_ended.as_mut().expect("it was just made");
        let setting = start_after.map(|delay| ("GUESTPASS_CLEANING__START_AFTER", delay));
        read_through(directory)?;
        let program = &self.plan.program;
        let mut server = Server::guestpass(program, directory, setting.as_slice())?;
        let mut workload = Refresh::new(&target(&server), guests, usize::MAX);
        // Twice the time, so that each round has a checkpoint and not only some: it costs more than cleaning.
        let measured = measure(&server, Demand::open(256, rate, 2 * time), &mut workload)?;
        server.process.stop()?;
        let before = std::mem::replace(left, guests::count_grants(directory)?);
        if start_after.is_some() && before == *left && before > *live {
            return Err(Failure("nothing was cleaned".into()));
        }
        Ok(Measured {
            value: (before - *left) as f64,
            ..measured
        })
    }
}

/// Holds an installation that loses ended grants from round to round.
pub(super) struct HalfEnded {
    directory: PathBuf,
    guests: Guests,
    /// Grants that have not ended.
    live: u64,
    /// Grants that are left.
    left: u64,
}

/// Starts in a round.
const STARTS: usize = 5;

/// Pauses before a start: right after another one it would be a sixth faster.
fn rest() -> Result<(), Failure> {
    settle()?;
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// Loads of a millisecond until the first request counts as missing.
const TRIES: usize = 100;

fn measure_first(
    server: &Server,
    workload: &mut dyn Workload,
    start: Instant,
    latency: &mut Histogram<u64>,
) -> Result<(), Failure> {
    let mut first = None;
    // The millisecond may pass before the generator is scheduled.
    for _ in 0..TRIES {
        let load = Load {
            address: server.address,
            connections: 1,
            pace: Pace::Closed,
            time: Duration::from_millis(1),
            fresh_tls: None,
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
