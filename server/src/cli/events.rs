//! `guestpass events`: what has become of guests, and its delivery to the shop's receiver.

use clap::{Args as ClapArgs, Subcommand};
use guestpass_core::client::Client;
use guestpass_core::event::{Event, EventCursor, EventId};
use serde_json::{Value, json};

use super::database::{self, Opened};
use super::{Failure, Output, rfc3339, serve, table};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::random::{Random, SecureGenerator};
use crate::store::{Delivery, Outcome, StoredEvent, WhichEvents, Write};
use crate::timing::SETTLING;
use crate::webhooks::{NotDelivered, new_secret};

#[derive(ClapArgs)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Go on behind this place, as an earlier list ended with it
    #[arg(long, value_name = "CURSOR")]
    after: Option<EventCursor>,
    /// List at most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// List only those that could not be delivered and are not tried any more
    #[arg(long)]
    dead: bool,
}

const EXAMPLES: &str = "\
The list ends a minute ago, so that whoever goes on behind its last place misses nothing. Where a receiver is told, the word of an
erasure is gone as soon as it has it.

Examples:
  guestpass events
  guestpass events --json --after 1793491200000.evt_AAAAAAAAAAAAAAAAAAAAAA
  guestpass events --dead";

#[derive(Subcommand)]
enum Command {
    /// Have those delivered that could not be and are not tried any more
    #[command(after_help = "Example:\n  guestpass events retry")]
    Retry,
    /// Make a secret for the receiver and for events.secret_file
    #[command(
        after_help = "To change a secret, keep the old one as a second line until the receiver knows both.\n\nExample:\n  guestpass events secret > /etc/guestpass/webhook.secret"
    )]
    Secret,
    /// Send a message to the receiver, and say what it answers
    #[command(after_help = "Example:\n  guestpass events test")]
    Test,
}

pub(super) async fn run(args: Args, config: &Config, output: Output) -> Result<(), Failure> {
    match args.command {
        None => list(&args, config, output).await,
        Some(Command::Retry) => retry(config, output).await,
        Some(Command::Secret) => {
            let secret = new_secret(&SecureGenerator::new());
            output.print(&json!({"secret": *secret}), || (*secret).clone())
        }
        Some(Command::Test) => test(config, output).await,
    }
}

async fn list(args: &Args, config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    let which = match args.dead {
        true => WhichEvents::Dead,
        false => WhichEvents::All,
    };
    let after = args.after.unwrap_or(EventCursor::START);
    let before = opened.trusted_now()?.before(SETTLING);
    let limit = usize::from(args.limit);
    let events = opened
        .store
        .events_after(which, after, before, limit)
        .await?;
    let recorded = config.events.recorded || opened.store.records_events().await?;
    let (_, clients) = opened.store.clients().await?;
    let next = events.last().map(|stored| stored.event.cursor());
    let next = next.or(args.after).map(|cursor| cursor.to_string());
    let described: Vec<_> = events
        .iter()
        .map(|event| described(event, &clients))
        .collect();
    output.print(&json!({"events": described, "after": next}), || {
        if events.is_empty() {
            return vec![nothing(recorded, args)];
        }
        let rows = events.iter().map(
            |StoredEvent {
                 event, delivery, ..
             }| {
                vec![
                    event.at.to_rfc3339(),
                    event.event_type.name().to_owned(),
                    event.guest.to_string(),
                    state(*delivery).to_owned(),
                    event.id.to_string(),
                ]
            },
        );
        let mut lines = table(&["AT", "TYPE", "GUEST", "DELIVERY", "ID"], rows);
        if events.len() == limit
            && let Some(next) = &next
        {
            lines.push(format!("there may be more: --after {next}"));
        }
        lines
    })
}

fn nothing(recorded: bool, args: &Args) -> String {
    if !recorded {
        return "no events: they are not recorded. Set events.url, or events.record = true"
            .to_owned();
    }
    match args.dead {
        true => "no event is dead".to_owned(),
        false => "no events that are older than a minute".to_owned(),
    }
}

fn described(stored: &StoredEvent, clients: &[Client]) -> Value {
    let StoredEvent {
        event,
        attempts,
        delivery,
    } = stored;
    let (next_at, delivered_at) = match delivery {
        Delivery::Waiting(at) => (Some(rfc3339(*at)), None),
        Delivery::Delivered(at) => (None, Some(rfc3339(*at))),
        Delivery::Dead => (None, None),
    };
    let mut described = message(event, clients);
    described["id"] = json!(event.id.to_string());
    described["delivery"] = json!({
        "state": state(*delivery),
        "failed_attempts": attempts,
        "next_at": next_at,
        "delivered_at": delivered_at,
    });
    described
}

fn message(event: &Event, clients: &[Client]) -> Value {
    let client = clients
        .iter()
        .find(|client| Some(client.number) == event.client);
    let message = event.message(client.map(|client| &client.id));
    serde_json::from_str(&message).expect("a message is JSON")
}

const fn state(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Waiting(_) => "waiting",
        Delivery::Delivered(_) => "delivered",
        Delivery::Dead => "dead",
    }
}

async fn retry(config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    let retried = wake(&opened).await?;
    output.print(&json!({"retried": retried}), || {
        match config.events.webhook {
            Some(_) => format!("{retried} events are tried again"),
            None => {
                format!("{retried} events are tried again once there is a receiver: set events.url")
            }
        }
    })
}

/// Has all dead letters delivered again. Returns their number.
async fn wake(opened: &Opened) -> Result<u64, Failure> {
    let now = opened.trusted_now()?;
    let (mut after, mut retried) = (EventCursor::START, 0);
    loop {
        let dead = opened
            .store
            .events_after(WhichEvents::Dead, after, now, AT_ONCE)
            .await?;
        for stored in &dead {
            let key = (stored.event.guest, stored.event.id);
            let wake = Write::NoteDelivery(key, 0, Delivery::Waiting(now));
            retried += u64::from(opened.store.write(wake).await? == Outcome::Done);
        }
        match dead.last() {
            Some(last) => after = last.event.cursor(),
            None => return Ok(retried),
        }
    }
}

/// The dead letters that are read at once.
const AT_ONCE: usize = 500;

async fn test(config: &Config, output: Output) -> Result<(), Failure> {
    let Some(receiver) = serve::receiver_of(config)? else {
        return Err(Failure(
            "there is no receiver. Set events.url and events.secret_file, or give the server's configuration with --config"
                .to_owned(),
        ));
    };
    let random: &dyn Random = &SecureGenerator::new();
    let id = EventId::from_bytes(random.bytes());
    let now = SystemClock::new().now();
    let body = json!({"type": "guestpass.test", "timestamp": now.to_rfc3339(), "data": {}});
    let sent = receiver.send(id, now, body.to_string()).await;
    let status = sent.map_err(|NotDelivered { problem, .. }| {
        Failure(format!(
            "the receiver didn't take the message: {problem}. Is events.url right, does the receiver have the secret of \
             events.secret_file, and is its clock right?"
        ))
    })?;
    output.print(
        &json!({"id": id.to_string(), "status": status.as_u16()}),
        || format!("the receiver took {id}, of the type guestpass.test, and answered {status}"),
    )
}
