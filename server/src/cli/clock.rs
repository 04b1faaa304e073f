//! `guestpass clock`: shows the time that an installation goes by, and says which one is right.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, Output, database, rfc3339};
use crate::config::Config;
use crate::store::Write;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Compare the clock with the time at which the installation was last served
    Show,
    /// Say that the clock is right, so that servers which doubt it believe it at once
    #[command(after_help = AFTER_ACCEPT)]
    Accept,
}

const AFTER_ACCEPT: &str = "\
The clock is this machine's, or the database's if that is PostgreSQL. Look at it first: guests whose tokens have expired by
it are refused for good.

Example:
  guestpass clock show
  guestpass clock accept";

pub(super) async fn run(command: &Command, config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    let clock = opened.clock.reference();
    match command {
        Command::Show => {
            let seen = opened.store.seen().await?.at;
            let is_trusted = !opened.clock.is_doubted();
            let printed = json!({
                "clock": rfc3339(clock),
                "last_served_at": seen.map(rfc3339),
                "trusted": is_trusted,
            });
            output.print(&printed, || {
                let seen = seen.map_or("never".to_owned(), rfc3339);
                let verdict = match is_trusted {
                    true => "A server that started now would trust the clock",
                    false => {
                        "A server that started now would not trust the clock. If it is right, say so: guestpass clock accept"
                    }
                };
                vec![
                    format!("the clock says  {}", rfc3339(clock)),
                    format!("last served at  {seen}"),
                    verdict.to_owned(),
                ]
            })?;
        }
        Command::Accept => {
            opened.store.write(Write::ResetTime(clock)).await?;
            let clock = rfc3339(clock);
            output.print(&json!({"clock": clock}), || {
                format!(
                    "the clock is taken for right: it is {clock}. Servers follow within a second"
                )
            })?;
        }
    }
    Ok(())
}
