//! `guestpass customer`: the guests that are one customer of the shop.

use clap::Subcommand;
use guestpass_core::client::Client;
use guestpass_core::customer::{CustomerId, Link};
use guestpass_core::profile::Profile;
use serde_json::{Value, json};

use super::database::{self, Opened};
use super::{Failure, Output, rfc3339, table};
use crate::config::Config;
use crate::store::Store;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the guests that are linked to a customer
    #[command(
        after_help = "Examples:\n  guestpass customer show c-4711\n  guestpass customer show a:1001 --json"
    )]
    Show {
        /// The customer, as the shop's back end names it at /oauth/link; - reads a line of standard input
        #[arg(value_name = "CUSTOMER")]
        customer: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let Opened { store, .. } = database::open(config).await?;
    match command {
        Command::Show { customer } => show(&*store, &named(customer)?, output).await,
    }
}

/// Reads the id of a customer. On the command line everybody who may list processes sees it.
fn named(mut text: String) -> Result<CustomerId, Failure> {
    if text == "-" {
        text.clear();
        std::io::stdin().read_line(&mut text)?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
    }
    text.parse()
        .map_err(|problem: &str| Failure(problem.to_owned()))
}

async fn show(store: &dyn Store, customer: &CustomerId, output: Output) -> Result<(), Failure> {
    let (_, clients) = store.clients().await?;
    let guests = guests(store, customer).await?;
    let described: Vec<_> = guests
        .iter()
        .map(|guest| described(guest, &clients))
        .collect();
    output.print(
        &json!({"customer": customer.as_str(), "guests": described}),
        || {
            if guests.is_empty() {
                return vec![format!("no guest is linked to {customer}")];
            }
            let rows = guests.iter().map(|guest| {
                let by = linked(guest).and_then(|link| by(link, &clients));
                vec![
                    guest.id.to_string(),
                    guest.network_id.to_string(),
                    linked(guest).map_or_else(String::new, |link| rfc3339(link.at)),
                    by.unwrap_or("(import)").to_owned(),
                ]
            });
            table(&["GUEST", "SUBN", "LINKED", "BY"], rows)
        },
    )?;
    Ok(())
}

/// Reads all guests of a customer, in parts that are small enough for a store that serves meanwhile.
async fn guests(store: &dyn Store, customer: &CustomerId) -> Result<Vec<Profile>, Failure> {
    let mut guests: Vec<Profile> = Vec::new();
    loop {
        let after = guests.last().map(|guest| guest.id);
        let part = store.guests_of(customer, after, AT_ONCE).await?;
        let is_last = part.len() < AT_ONCE;
        guests.extend(part);
        if is_last {
            return Ok(guests);
        }
    }
}

/// The guests that are read at once.
const AT_ONCE: usize = 100;

fn described(guest: &Profile, clients: &[Client]) -> Value {
    let link = linked(guest);
    json!({
        "sub": guest.id.to_string(),
        "subn": guest.network_id.to_string(),
        "linked_at": link.map(|link| rfc3339(link.at)),
        "linked_by": link.and_then(|link| by(link, clients)),
    })
}

fn linked(guest: &Profile) -> Option<&Link> {
    guest.link.as_ref()
}

/// Names the client that linked a guest; `None` if it was an import.
fn by<'a>(link: &Link, clients: &'a [Client]) -> Option<&'a str> {
    let number = link.by?;
    let client = clients.iter().find(|client| client.number == number);
    Some(client.map_or("(removed)", |client| client.id.as_str()))
}
