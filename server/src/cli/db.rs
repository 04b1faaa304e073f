//! `guestpass db`: the database as a whole.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Output, database};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Read the whole database and say whether it is sound
    Check,
    /// Make the database, or bring it up to date with this version
    #[command(
        after_help = "Run it before the servers of the new version start. Those of the present version may go on running."
    )]
    Migrate {
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(command: &Command, config: &Config, output: Output) -> Result<(), Failure> {
    let name = &config.database;
    match command {
        Command::Check => {
            let report = database::open(config).await?.store.check().await?;
            let sound = report.problems.is_empty();
            let described = json!({
                "ok": sound,
                "problems": report.problems,
                "profiles": report.profiles,
                "grants": report.grants,
            });
            output.print(&described, || {
                let counts = format!("{} guests, {} grants", report.profiles, report.grants);
                if sound {
                    format!("{name} is sound: {counts}")
                } else {
                    report.problems.join("\n")
                }
            });
            if sound {
                Ok(())
            } else {
                Err(Failure(format!(
                    "{name} is damaged. Stop the server and restore a backup"
                )))
            }
        }
        Command::Migrate { dry_run } => {
            let migration = if *dry_run {
                database::pending(config).await?
            } else {
                database::migrate(config).await?
            };
            let (from, to) = (migration.from, migration.to);
            let steps = &migration.steps;
            let printed = json!({"from": from, "to": to, "steps": steps, "dry_run": dry_run});
            output.print(&printed, || match (steps.is_empty(), dry_run) {
                (true, _) => format!("{name} is up to date (version {to})"),
                (false, false) => format!("{name} migrated from version {from} to {to}"),
                (false, true) => format!(
                    "{name} would migrate from version {from} to {to}: {}",
                    steps.join(", ")
                ),
            });
            Ok(())
        }
    }
}
