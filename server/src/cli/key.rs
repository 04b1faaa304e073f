//! `guestpass key`: lists, rotates, removes and exports keys.

use clap::{Subcommand, ValueEnum};
use guestpass_core::time::words_of;
use serde_json::{Value, json};

use super::database::{self, Opened};
use super::master_key::open_keys;
use super::{Failure, Output, rfc3339, table};
use crate::config::{Config, Database};
use crate::keys::{
    Key, KeyRing, KeyState, KeyUse, RemovalRefused, RemoveError, RotateError, RotationRefused,
};
use crate::terminal;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List all keys, without their secrets
    List,
    /// Have servers sign, or seal, with a new key; the old one goes on verifying, or opening
    #[command(
        after_help = "Examples:\n  guestpass key rotate\n  guestpass key rotate --use credential"
    )]
    Rotate {
        /// What the key is for
        #[arg(long = "use", value_name = "USE", default_value = "access-token")]
        key_use: RotatedUse,
        /// Don't wait, even if verifiers don't know the new key yet, or guests are logged out
        #[arg(long)]
        force: bool,
    },
    /// Forget a retiring key that has leaked: servers refuse what it signed or sealed within a second or two; those who
    /// verify offline trust a signing key until they fetch the keys again, so restart them
    Remove {
        /// The key, as `key list` shows it
        #[arg(value_name = "KEY", allow_hyphen_values = true)]
        kid: String,
    },
    /// Print the keys that verify access tokens as a JWK set; with HS256, that is the secret itself
    Export,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum RotatedUse {
    /// Signs access tokens
    AccessToken,
    /// Seals codes and refresh tokens
    Credential,
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    let keys = open_keys(config, &opened).await?;
    match command {
        Command::List => list(&keys, output)?,
        Command::Rotate { key_use, force } => {
            let key_use = match key_use {
                RotatedUse::AccessToken => KeyUse::AccessToken,
                RotatedUse::Credential => KeyUse::Credential,
            };
            if force && matches!(config.database, Database::Postgres(_)) {
                // The other nodes must be able to verify, or open, what one node makes with the key.
                tokio::time::sleep(keys.until_seen(key_use, opened.clock.now())).await;
            }
            rotate(&keys, &opened, key_use, force, output).await?;
        }
        Command::Remove { kid } => remove(&keys, &opened, &kid, output).await?,
        Command::Export => export(&keys, output)?,
    }
    Ok(())
}

fn list(keys: &KeyRing, output: Output) -> Result<(), Failure> {
    let keys = keys.now();
    let all: Vec<Value> = keys.list().iter().map(described).collect();
    output.print(&all, || {
        let rows = keys.list().iter().map(|key| {
            vec![
                key.kid.clone(),
                key.key_use.name().to_owned(),
                key.algorithm.name().to_owned(),
                key.state().name().to_owned(),
                rfc3339(key.created_at),
                key.needed_until().map(rfc3339).unwrap_or_default(),
            ]
        });
        let header = ["KEY", "USE", "ALGORITHM", "STATE", "CREATED", "GOES"];
        table(&header, rows)
    })
}

async fn rotate(
    keys: &KeyRing,
    opened: &Opened,
    key_use: KeyUse,
    force: bool,
    output: Output,
) -> Result<(), Failure> {
    let now = opened.trusted_now()?;
    match keys.rotate(key_use, now, force).await {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure(CHANGING.into()));
        }
        Err(RotateError::Keys(error)) => return Err(error.into()),
        Err(RotateError::Refused(refused)) => {
            let oldest = match refused {
                RotationRefused::TooManyOpen(retired) => {
                    opened.store.live_grants_idle_since(retired, now).await?
                }
                _ => 0,
            };
            return Err(Failure(explained(refused, oldest)));
        }
    }
    let keys = keys.now();
    let with = |state| {
        keys.list()
            .iter()
            .find(|key| key.key_use == key_use && key.state() == state)
    };
    let (current, next) = (with(KeyState::Current), with(KeyState::Next));
    let printed = json!({"current": current.map(described), "next": next.map(described)});
    output.print(&printed, || match (key_use, current, next) {
        (KeyUse::Credential, _, Some(next)) => format!(
            "made the sealing key {}. Servers begin to use it in a few seconds, when all of them know it",
            next.kid
        ),
        (_, Some(current), _) => format!(
            "{} {} is current; servers use it within a second or two",
            current.algorithm.name(),
            current.kid
        ),
        (_, None, _) => "rotated".to_owned(),
    })?;
    Ok(())
}

/// Explains a refused rotation. `oldest` is the number of guests that the oldest sealing key still recognises.
fn explained(refused: RotationRefused, oldest: u64) -> String {
    match refused {
        RotationRefused::TooSoon(wait) => format!(
            "verifiers that have fetched the key set before may not know the next key for another {}. Wait so long; or \
             rotate at once with --force, and they refuse new tokens until they fetch the keys again",
            words_of(wait)
        ),
        RotationRefused::NoNextKey => {
            "there is no next key yet. A running server makes one: start it with `guestpass serve`, then try again"
                .to_owned()
        }
        RotationRefused::UnderWay => {
            "the last rotation isn't over: a running server begins to use the new key in a few seconds. Wait for that; or \
             use it at once with --force"
                .to_owned()
        }
        RotationRefused::TooManyOpen(retired) => format!(
            "three sealing keys are in use, which is the most. The oldest, retired on {}, still recognises up to {oldest} \
             guests, who would be logged out without it. It goes by itself when their grants have ended (see `guestpass \
             key list`); or remove it now with --force",
            rfc3339(retired)
        ),
    }
}

async fn remove(
    keys: &KeyRing,
    Opened { store, clock }: &Opened,
    kid: &str,
    output: Output,
) -> Result<(), Failure> {
    let now = clock.now();
    let known = keys.now();
    let retired = known.list().iter().find(|key| key.kid == kid);
    let guests = match retired {
        Some(key) if key.key_use == KeyUse::Credential => {
            let retired_at = key.retiring_at.unwrap_or(now);
            store.live_grants_idle_since(retired_at, now).await?
        }
        _ => 0,
    };
    let signs = retired.is_some_and(|key| key.key_use == KeyUse::AccessToken);
    match keys.remove(kid, now).await {
        Ok(true) => {}
        Ok(false) => return Err(Failure(CHANGING.into())),
        Err(RemoveError::Keys(error)) => return Err(error.into()),
        Err(RemoveError::Refused(RemovalRefused::Unknown)) => {
            return Err(Failure(format!(
                "there is no key {kid}. See which there are: guestpass key list"
            )));
        }
        Err(RemoveError::Refused(RemovalRefused::InUse)) => {
            return Err(Failure(format!(
                "{kid} is in use, or about to be. Put another in its place first: guestpass key rotate --force, with \
                 --use credential for a sealing key"
            )));
        }
    }
    output.print(&json!({"kid": kid, "guests": guests}), || {
        let cost = if guests > 0 {
            format!("; up to {guests} guests have to authorize anew")
        } else {
            String::new()
        };
        let others = if signs {
            "Whoever verifies offline trusts it until they fetch the keys again, or are brought a new export: see \
             docs/verifying.md. Restart them if that is too long"
        } else {
            ""
        };
        let removed = format!(
            "removed {kid}: servers refuse what it signed or sealed within a second or two{cost}"
        );
        match others {
            "" => vec![removed],
            others => vec![removed, others.to_owned()],
        }
    })?;
    Ok(())
}

const CHANGING: &str = "another process was changing the keys at the same time. Try again";

fn export(keys: &KeyRing, output: Output) -> Result<(), Failure> {
    let keys = keys.now();
    let is_secret =
        |key: &Key| key.key_use == KeyUse::AccessToken && !key.algorithm.is_asymmetric();
    if !output.json && keys.list().iter().any(is_secret) {
        terminal::say(
            "this holds HS256 secrets. Whoever has one can make tokens, not only verify them: keep it like a \
             password. Verifiers that you don't trust so far need another tokens.algorithm, such as ES256.",
        );
    }
    output.print_json(keys.exported())
}

fn described(key: &Key) -> Value {
    json!({
        "kid": key.kid,
        "use": key.key_use.name(),
        "algorithm": key.algorithm.name(),
        "state": key.state().name(),
        "created_at": rfc3339(key.created_at),
        "current_at": key.current_at.map(rfc3339),
        "retiring_at": key.retiring_at.map(rfc3339),
        "needed_until": key.needed_until().map(rfc3339),
    })
}
