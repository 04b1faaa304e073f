//! `guestpass db`: checks, migrates and copies the database.

use clap::Subcommand;
use serde_json::json;

use super::lock::Lock;
use super::{Failure, Output, copy, database};
use crate::config::{Config, Database, Issuer};

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
        /// Begin anew, without the guests that the journal or the master key say there were
        #[arg(long, conflicts_with = "dry_run")]
        new: bool,
    },
    /// Change the issuer that is kept with the installation
    #[command(
        after_help = "Stop all servers first, and start them with the new issuer. Access tokens of the old one are refused from then on; a refresh brings a new one."
    )]
    SetIssuer {
        /// The new `iss` of every token
        #[arg(value_name = "URL")]
        issuer: Issuer,
    },
    /// Copy an embedded installation to PostgreSQL: guests, grants, clients, keys, all of it
    #[command(after_help = AFTER_COPY)]
    Copy {
        /// The database to fill: empty, or the beginning of the same copy. Leave its password out, which any user of this
        /// machine could read in the list of processes, and put it into the file that the setting postgres.password_file
        /// names
        #[arg(long, value_name = "URL")]
        to: String,
    },
}

const AFTER_COPY: &str = "\
Stop the server first. A copy that was interrupted goes on when it is started again; nobody is served from it until it is
finished. Every code and token works afterwards, with the same master key.

Example:
  guestpass db copy --to postgres://guestpass@db.example/guestpass";

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
                    vec![format!("{name} is sound: {counts}")]
                } else {
                    report.problems.clone()
                }
            })?;
            if sound {
                Ok(())
            } else {
                Err(Failure(format!(
                    "{name} is damaged. Stop the server and restore a backup"
                )))
            }
        }
        Command::SetIssuer { issuer } => {
            if let Database::Sqlite(file) = &config.database
                && Lock::is_taken(file)
            {
                return Err(Failure(format!(
                    "a server runs on {name} and would go on with the old issuer. Stop it first"
                )));
            }
            let opened = database::open(config).await?;
            let before = super::issuer::change(&*opened.store, issuer).await?;
            let printed = json!({"issuer": issuer.as_str(), "before": before});
            output.print(&printed, || format!("the issuer is {}", issuer.as_str()))?;
            Ok(())
        }
        Command::Copy { to } => copy::run(to, config, output).await,
        Command::Migrate { dry_run, new } => {
            let migration = if *dry_run {
                database::pending(config).await?
            } else {
                database::migrate(config, *new).await?
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
            })?;
            Ok(())
        }
    }
}
