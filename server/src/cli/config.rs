//! `guestpass config`: what the configuration says, and where it says so.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Output, table};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print every setting with its value and where that comes from; secrets are not shown
    Show,
    /// Check the configuration as `serve` would
    Check,
}

pub(super) fn run(command: &Command, config: &Config, output: Output) -> Result<(), Failure> {
    match command {
        Command::Show => output.print(&config.shown, || {
            let rows = config.shown.iter().map(|setting| {
                vec![
                    setting.name.to_owned(),
                    setting.value.clone(),
                    setting.origin.clone(),
                    setting.about.to_owned(),
                ]
            });
            table(&["SETTING", "VALUE", "FROM", "WHAT IT IS FOR"], rows)
        }),
        Command::Check => {
            config.issuer_on(config.listen)?;
            output.print(&json!({"ok": true}), || {
                "the configuration is good".to_owned()
            });
        }
    }
    Ok(())
}
