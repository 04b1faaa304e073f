//! `guestpass profile`: one guest.

use std::sync::Arc;

use clap::Subcommand;
use guestpass_core::client::Client;
use guestpass_core::grant::{Generation, Grant};
use guestpass_core::profile::ProfileId;
use guestpass_core::time::Timestamp;
use serde_json::json;

use super::master_key::open_keys;
use super::{Failure, Output, open_store, rfc3339, table};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::journal::{Entry, Journal};
use crate::store::sqlite::SqliteStore;
use crate::store::{Grants, Guest, Registry, Tombstone, Upkeep, Write};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what is known of a guest
    Show {
        /// The `sub` of the guest's tokens
        #[arg(value_name = "SUB")]
        sub: ProfileId,
    },
    /// Erase a guest and end all its grants, for good
    Erase {
        /// The `sub` of the guest's tokens
        #[arg(value_name = "SUB")]
        sub: ProfileId,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let store = open_store(config)?;
    match command {
        Command::Show { sub } => {
            let Guest { profile, grants } =
                store.profile(sub).await?.ok_or_else(|| unknown(sub))?;
            let (_, clients) = store.clients().await?;
            let client = |number| clients.iter().find(|client| client.number == number);
            let name = |number| client(number).map_or("(removed)", |client| client.id.as_str());
            let now = SystemClock::new().now();
            let described = json!({
                "sub": sub.to_string(),
                "subn": profile.network_id.to_string(),
                "client_id": name(profile.client),
                "created_at": rfc3339(profile.created_at),
                "grants": grants.iter().map(|grant| json!({
                    "sid": grant.id.to_string(),
                    "client_id": name(grant.client),
                    "state": state(grant, client(grant.client), now),
                    "generation": grant.generation.as_u64(),
                    "issued_at": rfc3339(grant.issued_at),
                    "advanced_at": rfc3339(grant.advanced_at),
                    "expires_at": rfc3339(grant.expires_at),
                })).collect::<Vec<_>>(),
            });
            output.print(&described, || {
                let rows = grants.iter().map(|grant| {
                    vec![
                        grant.id.to_string(),
                        name(grant.client).to_owned(),
                        state(grant, client(grant.client), now),
                        rfc3339(grant.issued_at),
                        rfc3339(grant.advanced_at),
                        rfc3339(grant.expires_at),
                    ]
                });
                format!(
                    "sub      {sub}\nsubn     {}\nclient   {}\ncreated  {}\n\n{}",
                    profile.network_id,
                    name(profile.client),
                    rfc3339(profile.created_at),
                    table(
                        &["GRANT", "CLIENT", "STATE", "ISSUED", "ADVANCED", "EXPIRES"],
                        rows
                    )
                )
            });
        }
        Command::Erase { sub } => {
            erase(config, &store, sub).await?;
            output.print(&json!({"sub": sub.to_string()}), || format!("erased {sub}"));
        }
    }
    Ok(())
}

/// As `App::erase` does it, beside a server that may run. What a request that is under way there leaves behind is a grant
/// without its guest, which the cleaner removes.
async fn erase(config: &Config, store: &Arc<SqliteStore>, sub: ProfileId) -> Result<(), Failure> {
    store.profile(sub).await?.ok_or_else(|| unknown(sub))?;
    let hash = open_keys(config, store.clone()).await?.now().tombstone(sub);
    let at = SystemClock::new().now();
    let tombstone = Tombstone { hash, at };
    Journal::open(&config.journal)?
        .append(Entry::GuestErased(tombstone))
        .await?;
    for write in [Write::InsertTombstone(tombstone), Write::RemoveProfile(sub)] {
        store.write(write).await?;
    }
    Ok(())
}

fn unknown(sub: ProfileId) -> Failure {
    Failure(format!(
        "there is no guest {sub}. The `sub` stands in the guest's access tokens"
    ))
}

fn state(grant: &Grant, client: Option<&Client>, now: Timestamp) -> String {
    match grant.revoked {
        _ if client.is_none() => "ended (client removed)".to_owned(),
        Some(revocation) => format!("revoked ({})", revocation.reason.name()),
        None if grant.ended_at() <= now => "expired".to_owned(),
        None if grant.generation == Generation::CODE => "pending".to_owned(),
        None => "active".to_owned(),
    }
}
