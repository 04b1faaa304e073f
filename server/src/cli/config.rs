//! `guestpass config`: what the configuration says, and where it says so.

use clap::Subcommand;
use guestpass_core::client::Client;
use guestpass_core::policy::{LateRetry, Policy, PolicyError};
use serde::Serialize;
use serde_json::json;

use super::{Failure, Output, database, table};
use crate::clients::remedy;
use crate::config::{Config, Tls};
use crate::store::SchemaError;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print every setting with its value and where that comes from; secrets are not shown
    Show,
    /// Check the configuration as `serve` would, and what it makes of every client
    Check,
}

pub(super) async fn run(command: &Command, config: &Config, output: Output) -> Result<(), Failure> {
    match command {
        Command::Show => {
            output.print(&config.shown, || {
                let rows = config.shown.iter().map(|setting| {
                    vec![
                        setting.name.to_owned(),
                        setting.value.clone(),
                        setting.origin.clone(),
                        setting.about.to_owned(),
                    ]
                });
                table(&["SETTING", "VALUE", "FROM", "WHAT IT IS FOR"], rows)
            });
            Ok(())
        }
        Command::Check => check(config, output).await,
    }
}

async fn check(config: &Config, output: Output) -> Result<(), Failure> {
    config.issuer_on(config.listen)?;
    config.tls.as_ref().map(Tls::read).transpose()?;
    let clients = match database::open(config).await {
        Ok(opened) => opened.store.clients().await?.1,
        Err(SchemaError::Missing(_)) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let (mut errors, mut advice) = (Vec::new(), Vec::new());
    for client in &clients {
        let policy = config.policy.with(&client.overrides);
        let found = |text| Found {
            client_id: client.id.as_str(),
            text,
        };
        match policy.check() {
            Err(problem) => errors.push(found(invalid(client, problem))),
            Ok(()) if deserves_care(client, &policy) => advice.push(found(care(client))),
            Ok(()) => {}
        }
        if !client.unknown_choices.is_empty() {
            advice.push(found(unknown(client)));
        }
    }
    let described = json!({"ok": errors.is_empty(), "errors": errors, "advice": advice});
    output.print(&described, || {
        let line = |kind, found: &Found<'_>| format!("{kind}: {}: {}", found.client_id, found.text);
        let mut lines: Vec<String> = errors.iter().map(|found| line("error", found)).collect();
        lines.extend(advice.iter().map(|found| line("advice", found)));
        if errors.is_empty() {
            lines.push("the configuration is good".to_owned());
        }
        lines.join("\n")
    });
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure(
            "some clients can't be served as they are set. Until they are changed, late_retry = revoke holds for them"
                .into(),
        ))
    }
}

/// What is to be said of one client.
#[derive(Serialize)]
struct Found<'a> {
    client_id: &'a str,
    text: String,
}

/// What can't be served, and the command that changes it.
fn invalid(client: &Client, problem: PolicyError) -> String {
    let (id, flag) = (&client.id, remedy(problem));
    format!("{problem}. Type: guestpass client set {id} {flag}")
}

fn unknown(client: &Client) -> String {
    let names: Vec<_> = client.unknown_choices.keys().map(String::as_str).collect();
    format!(
        "a newer version of guestpass has chosen {} for it, which this version keeps and ignores. Upgrade, or let the newer \
         version take it back",
        names.join(", ")
    )
}

/// Whether a token in a log would be of use to whoever reads it. Nobody redeems one of a confidential client without its
/// API key.
fn deserves_care(client: &Client, policy: &Policy) -> bool {
    policy.query_params && policy.late_retry == LateRetry::Reissue && !client.confidential
}

fn care(client: &Client) -> String {
    let id = &client.id;
    format!(
        "it may send tokens in the query, which proxies like to log, and with late_retry = reissue a refresh token from \
         such a log works until its successor has been used. Keep query strings out of the log of every proxy, or type: \
         guestpass client set {id} --no-query-params, or: guestpass client set {id} --late-retry revoke"
    )
}
