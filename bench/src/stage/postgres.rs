//! The server on PostgreSQL: one node with group commit, one with a statement for each refresh.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Demand, Kind, Measured, Stage, measure, target};
use crate::failure::Failure;
use crate::guests::Guests;
use crate::process::{Process, Server};
use crate::workload::Refresh;

/// Holds two nodes on one database, which are under load in turn.
pub(super) struct Postgres {
    batched: Server,
    single: Server,
    guests: Guests,
    _database: Process,
}

impl Stage {
    pub(super) fn postgres(&mut self, batched: bool, time: Duration) -> Result<Measured, Failure> {
        if self.postgres.is_none() {
            let (from, guests) = self.seeded(Kind::HundredThousand)?;
            let started = Postgres::start(&self.plan.program, &from, guests)?;
            self.postgres = Some(started);
        }
        let postgres = self.postgres.as_mut().expect("it was just started");
        let server = match batched {
            true => &postgres.batched,
            false => &postgres.single,
        };
        let mut workload = Refresh::new(&target(server), &mut postgres.guests, usize::MAX);
        measure(server, Demand::closed(256, time), &mut workload)
    }
}

impl Postgres {
    /// Starts a database server and copies an installation there.
    fn start(program: &Path, from: &Path, guests: Guests) -> Result<Self, Failure> {
        let directory = from.parent().unwrap_or(from);
        let mut command = Command::new("tests/postgres");
        // On the same disk as everything else.
        command
            .arg("durable")
            .env("TMPDIR", std::path::absolute(directory)?);
        let mut database = Process::start(&mut command)?;
        let url = database.line()?;
        let copied = Command::new(program)
            .args(["db", "copy", "--to", &url])
            .env("GUESTPASS_DATA_DIR", from)
            .output()?;
        if !copied.status.success() {
            let said = String::from_utf8_lossy(&copied.stderr).into_owned();
            return Err(Failure(format!("guestpass db copy: {said}")));
        }
        let key = from.join("master.key").display().to_string();
        let node = |name: &str, batch: &str| {
            let settings = [
                ("GUESTPASS_DATABASE", url.as_str()),
                ("GUESTPASS_MASTER_KEY_FILE", &key),
                ("GUESTPASS_NODE", name),
                ("GUESTPASS_ISSUER", "https://id.example"),
                ("GUESTPASS_POSTGRES__BATCH", batch),
            ];
            let own = directory.join(name);
            std::fs::create_dir_all(&own)?;
            Server::guestpass(program, &own, &settings)
        };
        Ok(Self {
            batched: node("batched", "64")?,
            single: node("single", "1")?,
            guests,
            _database: database,
        })
    }
}
