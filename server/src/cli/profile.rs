//! `guestpass profile`: shows, exports, imports and erases guests.

use clap::Subcommand;
use guestpass_core::attributes::Attributes;
use guestpass_core::client::{Client, ClientNumber};
use guestpass_core::customer::CustomerId;
use guestpass_core::event::ErasureReason;
use guestpass_core::grant::{Generation, Grant};
use guestpass_core::profile::ProfileId;
use guestpass_core::time::Timestamp;
use serde_json::{Value, json};

use super::database::{self, Opened};
use super::journaled_store::JournaledStore;
use super::{Failure, Output, import, rfc3339, table, unprinted};
use crate::config::Config;
use crate::store::{Guest, Store};
use crate::terminal::{self, Lines, Reader};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what is known of a guest
    Show {
        /// The `sub` of the guest's tokens
        #[arg(value_name = "SUB")]
        sub: ProfileId,
    },
    /// Print all that is known of a guest as JSON; or, without SUB, every guest as CSV
    #[command(
        after_help = "Examples:\n  guestpass profile export 1160815301981244 > guest.json\n  \
                            guestpass profile export > guests.csv"
    )]
    Export {
        /// The `sub` of the guest's tokens
        #[arg(value_name = "SUB")]
        sub: Option<ProfileId>,
    },
    /// Add guests that another system knows already, from CSV
    #[command(after_help = import::AFTER_HELP)]
    Import(import::Args),
    /// Erase a guest and end all its grants, for good
    Erase {
        /// The `sub` of the guest's tokens
        #[arg(value_name = "SUB")]
        sub: ProfileId,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    match command {
        Command::Show { sub } => {
            let report = GuestReport::read(&opened, sub).await?;
            output.print(&report.described(), || report.text())?;
        }
        Command::Export { sub: Some(sub) } => {
            let report = GuestReport::read(&opened, sub).await?;
            let described = report.described();
            match output.json {
                true => output.print_json(&described.to_string())?,
                false => output.print_json(&format!("{described:#}"))?,
            }
        }
        Command::Export { sub: None } => export_all(&*opened.store).await?,
        Command::Import(args) => import::run(&args, config, &opened, output).await?,
        Command::Erase { sub } => {
            erase(config, &opened, sub).await?;
            output.print(&json!({"sub": sub.to_string()}), || format!("erased {sub}"))?;
        }
    }
    Ok(())
}

/// A guest as an operator sees it, with the clients that its grants name.
pub(super) struct GuestReport {
    guest: Guest,
    clients: Vec<Client>,
    now: Timestamp,
}

impl GuestReport {
    async fn read(opened: &Opened, sub: ProfileId) -> Result<Self, Failure> {
        let found = Self::find(opened, sub).await?;
        found.ok_or_else(|| unknown(sub))
    }

    /// Reads a guest; `None` if there is none.
    pub(super) async fn find(
        Opened { store, clock }: &Opened,
        sub: ProfileId,
    ) -> Result<Option<Self>, Failure> {
        let Some(guest) = store.profile(sub).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            guest,
            clients: store.clients().await?.1,
            now: clock.now(),
        }))
    }

    /// Returns the customer that the guest is.
    pub(super) fn customer(&self) -> Option<&CustomerId> {
        let link = self.guest.profile.link.as_ref();
        link.map(|link| &link.customer)
    }

    pub(super) fn described(&self) -> Value {
        let Guest { profile, grants } = &self.guest;
        json!({
            "sub": profile.id.to_string(),
            "subn": profile.network_id.to_string(),
            "client_id": self.name(profile.client),
            "created_at": rfc3339(profile.created_at),
            "seen_at": self.seen_at().map(rfc3339),
            "customer": profile.link.as_ref().map(|link| link.customer.as_str()),
            "linked_at": profile.link.as_ref().map(|link| rfc3339(link.at)),
            "attributes": profile.attributes.as_ref().map(Attributes::to_value),
            "grants": grants.iter().map(|grant| json!({
                "sid": grant.id.to_string(),
                "client_id": self.name(grant.client),
                "state": self.state(grant),
                "generation": grant.generation.as_u64(),
                "issued_at": rfc3339(grant.issued_at),
                "advanced_at": rfc3339(grant.advanced_at),
                "expires_at": rfc3339(grant.expires_at),
            })).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> Vec<String> {
        let Guest { profile, grants } = &self.guest;
        let rows = grants.iter().map(|grant| {
            vec![
                grant.id.to_string(),
                self.name(grant.client).to_owned(),
                self.state(grant),
                rfc3339(grant.issued_at),
                rfc3339(grant.advanced_at),
                rfc3339(grant.expires_at),
            ]
        });
        let header = ["GRANT", "CLIENT", "STATE", "ISSUED", "ADVANCED", "EXPIRES"];
        let mut lines = vec![
            format!("sub      {}", profile.id),
            format!("subn     {}", profile.network_id),
            format!("client   {}", self.name(profile.client)),
            format!("created  {}", rfc3339(profile.created_at)),
        ];
        if let Some(seen_at) = self.seen_at() {
            lines.push(format!("seen     {}", rfc3339(seen_at)));
        }
        if let Some(link) = &profile.link {
            lines.push(format!("customer {}", link.customer));
            lines.push(format!("linked   {}", rfc3339(link.at)));
        }
        if let Some(attributes) = &profile.attributes {
            lines.push(format!("attrs    {attributes}"));
        }
        lines.push(String::new());
        lines.extend(table(&header, rows));
        lines
    }

    /// Returns the time when the guest was last here, by its row and its grants. `None` if it never had a token.
    fn seen_at(&self) -> Option<Timestamp> {
        let redeemed = |grant: &&Grant| grant.generation > Generation::CODE;
        let grants = self.guest.grants.iter().filter(redeemed);
        let by_grants = grants.map(|grant| grant.advanced_at).max();
        by_grants.max(self.guest.profile.seen_at)
    }

    fn client(&self, number: ClientNumber) -> Option<&Client> {
        self.clients.iter().find(|client| client.number == number)
    }

    fn name(&self, number: ClientNumber) -> &str {
        self.client(number)
            .map_or("(removed)", |client| client.id.as_str())
    }

    fn state(&self, grant: &Grant) -> String {
        state(grant, self.client(grant.client), self.now)
    }
}

/// Writes every guest as a line of CSV, and shows progress on a terminal.
async fn export_all(store: &dyn Store) -> Result<(), Failure> {
    let (_, clients) = store.clients().await?;
    let mut out = Lines::new().map_err(unprinted)?;
    out.print(import::HEADER).map_err(unprinted)?;
    let (mut after, mut seen) = (None, 0_u64);
    loop {
        let part = store
            .profiles_and_when_seen(after, EXPORTED_AT_ONCE)
            .await?;
        for profile in &part {
            let client_id = clients
                .iter()
                .find(|client| client.number == profile.client)
                .map_or("", |client| client.id.as_str());
            if out
                .print(&import::line_of(profile, client_id))
                .map_err(unprinted)?
                == Reader::Gone
            {
                return Ok(());
            }
        }
        seen += part.len() as u64;
        let is_last = part.len() < EXPORTED_AT_ONCE;
        if terminal::has_terminal() {
            terminal::replace_line(&format!("{seen} guests"), is_last);
        }
        match part.last() {
            Some(last) if !is_last => after = Some(last.id),
            _ => return out.finish().map(drop).map_err(unprinted),
        }
    }
}

const EXPORTED_AT_ONCE: usize = 10_000;

async fn erase(config: &Config, opened: &Opened, sub: ProfileId) -> Result<(), Failure> {
    let guest = opened.store.profile(sub).await?;
    guest.ok_or_else(|| unknown(sub))?;
    let store = JournaledStore::open(config, opened).await?;
    store.erase(sub, ErasureReason::Operator).await
}

fn unknown(sub: ProfileId) -> Failure {
    Failure(format!(
        "there is no guest {sub}. The `sub` stands in the guest's access tokens"
    ))
}

pub(super) fn state(grant: &Grant, client: Option<&Client>, now: Timestamp) -> String {
    match grant.revoked {
        _ if client.is_none() => "ended (client removed)".to_owned(),
        Some(revocation) => format!("revoked ({})", revocation.reason.name()),
        None if grant.ended_at() <= now => "expired".to_owned(),
        None if grant.generation == Generation::CODE => "pending".to_owned(),
        None => "active".to_owned(),
    }
}
