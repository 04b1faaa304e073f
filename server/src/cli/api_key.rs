//! `guestpass client key`: the API keys of a confidential client.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use clap::Subcommand;
use guestpass_core::client::{ApiKey, ApiKeyId, ApiKeySecret, Change, ClientId};
use guestpass_core::time::Timestamp;
use serde_json::{Value, json};

use super::client::{explain, find};
use super::database::{self, Opened};
use super::{Failure, Output, rfc3339, table};
use crate::clients;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::random::SecureGenerator;
use crate::store::Store;
use crate::terminal::{self, Reader};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Add a key, which is shown once; the others go on working
    #[command(
        after_help = "Examples:\n  guestpass client key add shop-backend --expires 90d\n  \
                            guestpass client key add shop-backend --expires 2027-06-30"
    )]
    Add {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
        /// When the key ends: a date, a time as RFC 3339 writes it, or how long from now (90d)
        #[arg(long, value_name = "WHEN", value_parser = parse_when)]
        expires: Option<When>,
    },
    /// List the keys of a client
    List {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
    },
    /// End a key; servers refuse it within a second or two
    Revoke {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
        /// The key, or its beginning as `client key list` shows it
        #[arg(value_name = "KEY")]
        key: String,
    },
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    match command {
        Command::Add { id, expires } => add(config, output, &id, expires).await,
        Command::List { id } => list(config, output, &id).await,
        Command::Revoke { id, key } => {
            let Opened { store, clock } = database::open(config).await?;
            let key = ApiKeyId::of(&key);
            let revoke = Change::RevokeApiKey(id.clone(), key.clone(), clock.now());
            store
                .change(revoke)
                .await
                .map_err(|error| explain(error, &id))?;
            output.print(&json!({"client_id": id.as_str(), "key_id": key.0}), || {
                format!("revoked {key} of {id}")
            })?;
            Ok(())
        }
    }
}

async fn add(
    config: &Config,
    output: Output,
    id: &ClientId,
    expires: Option<When>,
) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    let now = match expires {
        Some(_) => opened.trusted_now()?,
        None => opened.clock.now(),
    };
    let expires_at = expires.map(|when| match when {
        When::At(at) => at,
        When::In(duration) => now + duration,
    });
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Failure(
            "--expires lies in the past. Give a date to come, or a duration such as 90d".into(),
        ));
    }
    let random = SecureGenerator::new();
    let added = clients::add_api_key(&*opened.store, id.clone(), expires_at, &random, now).await;
    let secret = added.map_err(|error| explain(error, id))?;
    let printed = json!({
        "client_id": id.as_str(),
        "key_id": secret.id().0,
        "api_key": secret.expose(),
        "expires_at": expires_at.map(rfc3339),
    });
    let shown = output.show(&printed, || {
        vec![
            format!(
                "added {} to {id}. The API key, shown only now:",
                secret.id()
            ),
            secret.expose().to_owned(),
        ]
    });
    let undo = Change::RevokeApiKey(id.clone(), secret.id(), now);
    require_shown(&*opened.store, shown, id, &secret, undo).await
}

/// Takes back what made an API key that nobody could see, by `undo`. If its reader has gone away, that may have seen it or
/// not, so the key stays, and the operator hears how to replace it.
pub(super) async fn require_shown(
    store: &dyn Store,
    shown: io::Result<Reader>,
    id: &ClientId,
    secret: &ApiKeySecret,
    undo: Change,
) -> Result<(), Failure> {
    let replace = format!(
        "guestpass client key add {id}, then guestpass client key revoke {id} {}",
        secret.id()
    );
    match shown {
        Ok(Reader::There) => Ok(()),
        Ok(Reader::Gone) => {
            terminal::say(&format!(
                "nobody reads standard output, so the API key may be lost. To replace it: {replace}"
            ));
            Ok(())
        }
        Err(error) => Err(Failure(match store.change(undo).await {
            Ok(()) => format!(
                "the API key can't be printed, so nothing was added: standard output: {error}"
            ),
            Err(_) => format!(
                "the API key can't be printed and is lost: standard output: {error}. To replace it: {replace}"
            ),
        })),
    }
}

async fn list(config: &Config, output: Output, id: &ClientId) -> Result<(), Failure> {
    let store = database::open(config).await?.store;
    let client = find(&*store, id).await?;
    let now = SystemClock::new().now();
    let all: Vec<Value> = client
        .api_keys
        .iter()
        .map(|key| described(key, now))
        .collect();
    output.print(&all, || {
        let rows = client.api_keys.iter().map(|key| {
            vec![
                key.id.to_string(),
                state(key, now).to_owned(),
                rfc3339(key.created_at),
                key.expires_at.map(rfc3339).unwrap_or_default(),
            ]
        });
        table(&["KEY", "STATE", "CREATED", "EXPIRES"], rows)
    })?;
    Ok(())
}

fn described(key: &ApiKey, now: Timestamp) -> Value {
    json!({
        "key_id": key.id.0,
        "state": state(key, now),
        "created_at": rfc3339(key.created_at),
        "expires_at": key.expires_at.map(rfc3339),
        "revoked_at": key.revoked_at.map(rfc3339),
    })
}

fn state(key: &ApiKey, now: Timestamp) -> &'static str {
    match key {
        ApiKey {
            revoked_at: Some(_),
            ..
        } => "revoked",
        ApiKey {
            expires_at: Some(end),
            ..
        } if *end <= now => "expired",
        _ => "active",
    }
}

/// The end of a key.
#[derive(Clone, Copy)]
pub(super) enum When {
    At(Timestamp),
    In(Duration),
}

const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

fn parse_when(text: &str) -> Result<When, &'static str> {
    if let Ok(duration) = humantime::parse_duration(text) {
        let longest = "a key may live for 100 years at most";
        return (duration <= CENTURY)
            .then_some(When::In(duration))
            .ok_or(longest);
    }
    let whole_day = format!("{text}T00:00:00Z");
    let time = humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339(&whole_day))
        .map_err(
            |_| "write a date (2027-06-30), a time (2027-06-30T12:00:00Z) or a duration (90d)",
        )?;
    let since_epoch = time
        .duration_since(UNIX_EPOCH)
        .map_err(|_| "write a date after 1970")?;
    Ok(When::At(Timestamp::from_millis(0) + since_epoch))
}
