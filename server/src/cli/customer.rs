//! `guestpass customer`: the guests that are one customer of the shop.

use clap::Subcommand;
use guestpass_core::client::Client;
use guestpass_core::customer::{CustomerId, Link};
use guestpass_core::event::ErasureReason;
use guestpass_core::profile::{Profile, ProfileId};
use serde_json::{Value, json};

use super::database::{self, Opened};
use super::journaled_store::JournaledStore;
use super::profile::GuestReport;
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
    /// Print all that is known of the guests of a customer, as JSON
    #[command(after_help = "Example:\n  guestpass customer export c-4711 > customer.json")]
    Export {
        /// The customer; - reads a line of standard input
        #[arg(value_name = "CUSTOMER")]
        customer: String,
    },
    /// Undo the links of all guests of a customer; nothing else of them changes
    #[command(after_help = "Example:\n  guestpass customer unlink undefined-4711")]
    Unlink {
        /// The customer; - reads a line of standard input
        #[arg(value_name = "CUSTOMER")]
        customer: String,
    },
    /// Erase all guests of a customer and their grants, for good
    #[command(after_help = "Example:\n  guestpass customer erase c-4711")]
    Erase {
        /// The customer; - reads a line of standard input
        #[arg(value_name = "CUSTOMER")]
        customer: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    match command {
        Command::Show { customer } => show(&*opened.store, &named(customer)?, output).await,
        Command::Export { customer } => export(&opened, &named(customer)?, output).await,
        Command::Unlink { customer } => {
            let customer = named(customer)?;
            let unlinked = end_all(config, &opened, &customer, End::Unlink).await?;
            output.print(
                &json!({"customer": customer.as_str(), "unlinked": unlinked}),
                || format!("unlinked {unlinked} guests from {customer}"),
            )
        }
        Command::Erase { customer } => {
            let customer = named(customer)?;
            let erased = end_all(config, &opened, &customer, End::Erase).await?;
            output.print(
                &json!({"customer": customer.as_str(), "erased": erased}),
                || format!("erased {erased} guests of {customer}"),
            )
        }
    }
}

/// Names what becomes of the guests of a customer.
#[derive(Clone, Copy)]
enum End {
    Erase,
    Unlink,
}

/// Erases or unlinks guests of a customer until there is none, those too that are linked meanwhile. Returns their number.
async fn end_all(
    config: &Config,
    opened: &Opened,
    customer: &CustomerId,
    end: End,
) -> Result<u64, Failure> {
    let (mut ended, mut journaled) = (0, None);
    for _ in 0..PASSES {
        let guests = guests(&*opened.store, customer).await?;
        if guests.is_empty() {
            return Ok(ended);
        }
        let store = match &mut journaled {
            Some(store) => store,
            none => none.insert(JournaledStore::open(config, opened).await?),
        };
        for guest in guests {
            // Somebody else may have unlinked it since, and linked it to another.
            let Some((guest, link)) = still_of(opened, customer, guest.id).await? else {
                continue;
            };
            ended += match end {
                End::Erase => store
                    .erase(guest, ErasureReason::Customer)
                    .await
                    .map(|()| 1)?,
                End::Unlink => u64::from(store.unlink(guest, &link).await?),
            };
        }
    }
    Err(Failure(format!(
        "{ended} guests of {customer} are done, and more are linked all the time. See which client does that: guestpass customer \
         show {customer}; take it back: guestpass client set ID --may none; and run the same command again"
    )))
}

/// The walks over the guests of a customer. One that finds some leaves none that was linked before it began.
const PASSES: usize = 10;

/// Returns a guest that is linked to the customer now.
async fn still_of(
    opened: &Opened,
    customer: &CustomerId,
    guest: ProfileId,
) -> Result<Option<(ProfileId, Link)>, Failure> {
    let found = opened.store.load_profile(guest).await?;
    let link = found.and_then(|guest| guest.link);
    let link = link.filter(|link| link.customer == *customer);
    Ok(link.map(|link| (guest, link)))
}

async fn export(opened: &Opened, customer: &CustomerId, output: Output) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for guest in guests(&*opened.store, customer).await? {
        // It may be gone since, or another's.
        if let Some(report) = GuestReport::find(opened, guest.id).await?
            && report.customer() == Some(customer)
        {
            reports.push(report.described());
        }
    }
    let described = json!({"customer": customer.as_str(), "guests": reports});
    match output.json {
        true => output.print_json(&described.to_string()),
        false => output.print_json(&format!("{described:#}")),
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
