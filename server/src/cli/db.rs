//! `guestpass db`: the database as a whole.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Output, make_directories, open_store};
use crate::config::Config;
use crate::random::SecureGenerator;
use crate::store::sqlite::SqliteStore;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Read the whole database and say whether it is sound
    Check,
    /// Make the database, or bring it up to date with this version
    Migrate,
}

pub(super) async fn run(command: &Command, config: &Config, output: Output) -> Result<(), Failure> {
    let file = config.database.display();
    match command {
        Command::Check => {
            let report = open_store(config)?.check().await?;
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
                    format!("{file} is sound: {counts}")
                } else {
                    report.problems.join("\n")
                }
            });
            if sound {
                Ok(())
            } else {
                Err(Failure(format!(
                    "{file} is damaged. Stop the server and restore a backup"
                )))
            }
        }
        Command::Migrate => {
            make_directories(config)?;
            let migration = SqliteStore::migrate(&config.database, &SecureGenerator::new())?;
            output.print(&json!({"from": migration.from, "to": migration.to}), || {
                if migration.from == migration.to {
                    format!("{file} is up to date (version {})", migration.to)
                } else {
                    format!(
                        "{file} migrated from version {} to {}",
                        migration.from, migration.to
                    )
                }
            });
            Ok(())
        }
    }
}
