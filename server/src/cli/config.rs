//! `guestpass config`: prints the settings with their sources, and checks them.

use std::time::Duration;

use clap::Subcommand;
use guestpass_core::answer_size;
use guestpass_core::client::{ClaimName, Client, OnEnded};
use guestpass_core::policy::{LateRetry, Policy, PolicyError};
use guestpass_core::time::words_of;
use serde::Serialize;
use serde_json::json;

use super::client::names_a_guest;
use super::database::Opened;
use super::lock::Lock;
use super::master_key::{open_keys, require_first_key};
use super::serve::{require_settings, taken_addresses};
use super::{Failure, Output, database, exposure, issuer, rfc3339, table};
use crate::clients::{self, remedy};
use crate::clock::{Clock, SystemClock};
use crate::config::{Certificate, Config, Database, Listen};
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
            })?;
            Ok(())
        }
        Command::Check => check(config, output).await,
    }
}

async fn check(config: &Config, output: Output) -> Result<(), Failure> {
    let certificate = require_settings(config)?.certificate;
    let taken = taken_addresses(config)?;
    // Before the database is opened: what SQLite makes beside it then is gone when this ends. And to look at the lock opens
    // and closes the file, which takes the locks that SQLite has on it.
    let exposed = exposure::exposed(config);
    let is_served = match &config.database {
        Database::Sqlite(file) if file.exists() => Lock::look(file)?,
        Database::Sqlite(_) | Database::Postgres(_) => false,
    };
    let opened = match database::open(config).await {
        Ok(opened) => Some(opened),
        Err(SchemaError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    database::require_nothing_lost(config, opened.as_ref()).await?;
    require_keys(config, opened.as_ref()).await?;
    if let Some(opened) = &opened {
        issuer::require_agreement(config, &*opened.store).await?;
    }
    let clients = match &opened {
        Some(opened) => opened.store.clients().await?.1,
        None => Vec::new(),
    };
    let issuer = match &opened {
        Some(opened) => issuer::expected(config, &*opened.store).await?,
        None => String::new(),
    };
    let (mut errors, mut advice) = (Vec::new(), Vec::new());
    advice.extend(exposed.into_iter().map(Finding::of_all));
    if !is_served {
        advice.extend(taken.iter().map(advice_on_taken).map(Finding::of_all));
    }
    let of_settings = [
        advice_on_tls(config),
        certificate.and_then(|certificate| advice_on_expiry(&certificate)),
        advice_on_issuer(config),
    ];
    advice.extend(of_settings.into_iter().flatten().map(Finding::of_all));
    for client in &clients {
        let (wrong, mut careless) = findings_about(client, config, &issuer);
        careless.extend(advice_on_tickets(client, &clients, config));
        errors.extend(wrong.into_iter().map(Finding::of(client)));
        advice.extend(careless.into_iter().map(Finding::of(client)));
        if let Some(opened) = &opened
            && let Some(text) = names_a_guest(&*opened.store, &client.id).await?
        {
            advice.push(Finding::of(client)(text));
        }
    }
    let described = json!({"ok": errors.is_empty(), "errors": errors, "advice": advice});
    output.print(&described, || {
        let line = |kind, finding: &Finding<'_>| match finding.client_id {
            Some(client) => format!("{kind}: {client}: {}", finding.text),
            None => format!("{kind}: {}", finding.text),
        };
        let mut lines: Vec<String> = errors
            .iter()
            .map(|finding| line("error", finding))
            .collect();
        lines.extend(advice.iter().map(|finding| line("advice", finding)));
        if errors.is_empty() {
            lines.push("the configuration is good".to_owned());
        }
        lines
    })?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure(
            "some clients can't be served as they are set".into(),
        ))
    }
}

/// Returns what is wrong with a client, and what to take care of.
fn findings_about(client: &Client, config: &Config, issuer: &str) -> (Vec<String>, Vec<String>) {
    let (mut errors, mut advice) = (Vec::new(), Vec::new());
    let policy = config.policy.with(&client.overrides);
    match policy.check() {
        Err(problem) => errors.push(invalid(client, problem)),
        Ok(()) if is_exposed_by_logs(client, &policy) => advice.push(advice_on_logs(client)),
        Ok(()) => {}
    }
    if let Some(bytes) = answer_size::beyond(client, &policy, issuer) {
        errors.push(clients::too_long(&client.id, bytes));
    }
    if !client.confidential && client.is_told(ClaimName::CUSTOMER) {
        advice.push(advice_on_customer(client));
    }
    if client.on_ended == OnEnded::NewGuest {
        advice.push(advice_on_new_guests());
    }
    if client.cookies.is_some() {
        advice.extend(advice_on_cookies(client, &policy, issuer));
    }
    if !client.unknown_choices.is_empty() {
        advice.push(unknown(client));
    }
    (errors, advice)
}

/// Checks that a start would have the master key that it needs. Where there are no keys yet, it makes them, and this doesn't.
async fn require_keys(config: &Config, opened: Option<&Opened>) -> Result<(), Failure> {
    match opened {
        Some(opened) if !opened.store.installation().await?.keys.is_empty() => {
            open_keys(config, opened).await.map(drop)
        }
        _ => require_first_key(config).await,
    }
}

fn advice_on_expiry(certificate: &Certificate) -> Option<String> {
    let not_after = certificate.not_after()?;
    let at = rfc3339(not_after);
    match not_after.since(SystemClock::new().now()) {
        Duration::ZERO => Some(format!(
            "the certificate in tls.certificate_file has expired, at {at}: no client connects. Renew it, and let the server \
             read it again: kill -HUP"
        )),
        left if left < SOON => Some(format!(
            "the certificate in tls.certificate_file expires in {}, at {at}. Renew it; a running server reads it again by itself",
            words_of(left)
        )),
        _ => None,
    }
}

/// The time before its end at which a certificate should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 86_400);

fn advice_on_taken(place: &Listen) -> String {
    format!(
        "{place} is in use already. If that isn't the server of this installation, a start can't listen there: stop what \
         does, or choose another address"
    )
}

/// Advises on a connection to the database that is in clear because it leads to this machine, as far as can be seen.
fn advice_on_tls(config: &Config) -> Option<String> {
    match &config.database {
        Database::Postgres(connection) if connection.is_in_clear_by_default() => Some(format!(
            "the connection to the database {connection} isn't encrypted, because it goes no further than this machine. If a \
             proxy leads on from there, add sslmode=verify-full to the URL; if not, sslmode=disable says so"
        )),
        _ => None,
    }
}

/// Advises on an issuer under whose path nothing is served.
fn advice_on_issuer(config: &Config) -> Option<String> {
    let path = config.issuer.as_ref()?.path();
    if path.is_empty() || config.base_paths.iter().any(|base| base == path) {
        return None;
    }
    Some(format!(
        "the issuer has the path {path}, but nothing is served under it. Add it to base_paths, unless a proxy takes it away: \
         base_paths = \"{},{path}\"",
        config
            .base_paths
            .iter()
            .map(|base| if base.is_empty() { "/" } else { base })
            .collect::<Vec<_>>()
            .join(",")
    ))
}

/// An error or a piece of advice, about one client or about all of the installation.
#[derive(Serialize)]
struct Finding<'a> {
    client_id: Option<&'a str>,
    text: String,
}

impl<'a> Finding<'a> {
    const fn of_all(text: String) -> Self {
        Self {
            client_id: None,
            text,
        }
    }

    fn of(client: &'a Client) -> impl Fn(String) -> Self {
        let client_id = Some(client.id.as_str());
        move |text| Self { client_id, text }
    }
}

/// Describes a policy that contradicts itself, with the command that mends it.
fn invalid(client: &Client, problem: PolicyError) -> String {
    let (id, flag) = (&client.id, remedy(problem));
    format!("{problem}. Type: guestpass client set {id} {flag}")
}

/// Names the choices that only a newer version knows.
fn unknown(client: &Client) -> String {
    let names: Vec<_> = client.unknown_choices.keys().map(String::as_str).collect();
    format!(
        "a newer version of guestpass has chosen {} for it, which this version keeps and ignores. Upgrade, or let the newer \
         version take it back",
        names.join(", ")
    )
}

/// Returns whether a refresh token that ends up in a log could be redeemed by a reader of that log. One of a confidential
/// client can't, without the API key.
fn is_exposed_by_logs(client: &Client, policy: &Policy) -> bool {
    policy.query_params && policy.late_retry == LateRetry::Reissue && !client.confidential
}

/// Advises on a public client whose tokens name the customer: they lie in pages and apps.
fn advice_on_customer(client: &Client) -> String {
    let id = &client.id;
    format!(
        "it is public, and its tokens say which customer a guest is: whoever finds one in a page, an app or a log reads that \
         id. If only back ends need it, let them ask by introspection, and type: guestpass client set {id} --claims none"
    )
}

/// Advises on choices with which a client's cookies lose guests, are read by others or are written too often.
fn advice_on_cookies(client: &Client, policy: &Policy, issuer: &str) -> Vec<String> {
    let id = &client.id;
    let mut advice = Vec::new();
    if let Some(domain) = &client.cookie_domain {
        advice.push(format!(
            "its access tokens are sent to every host below {domain}, one that somebody has taken over included, and each of them can \
             plant one. Where the server that renders pages and Guestpass share a host, type: guestpass client set {id} \
             --no-cookie-domain"
        ));
    }
    if let (Some(domain), Ok(own)) = (&client.cookie_domain, origin_of(issuer).parse())
        && !domain.covers(&own)
    {
        advice.push(format!(
            "browsers don't keep its access tokens: the issuer {issuer} is no host of {domain}, and each load of a page is written to \
             the database. Serve Guestpass on a host below it, or type: guestpass client set {id} --no-cookie-domain"
        ));
    }
    if policy.grace.is_zero() || policy.late_retry == LateRetry::Revoke {
        advice.push(format!(
            "it keeps guests in cookies, and an answer whose Set-Cookie is lost ends the guest (grace = 0s or late_retry = revoke). \
             Type: guestpass client set {id} --grace default --late-retry default"
        ));
    }
    if policy.access_ttl < SHORTEST_IN_COOKIES {
        advice.push(format!(
            "it keeps guests in cookies, which are written again whenever three quarters of access_ttl are over: {} is short. Type: \
             guestpass client set {id} --access-ttl default",
            words_of(policy.access_ttl)
        ));
    }
    advice
}

/// Returns scheme, host and port of an issuer.
fn origin_of(issuer: &str) -> &str {
    let authority = issuer.find("://").map_or(0, |scheme| scheme + 3);
    let end = issuer[authority..]
        .find('/')
        .map_or(issuer.len(), |path| authority + path);
    &issuer[..end]
}

/// The access_ttl below which the cookies of a page are written often.
const SHORTEST_IN_COOKIES: Duration = Duration::from_secs(300);

/// Advises on public clients that a public client hands its guests over to: a refresh token that was stolen becomes a second one,
/// without a trace in its own grant.
fn advice_on_tickets(client: &Client, clients: &[Client], config: &Config) -> Vec<String> {
    let is_lasting = |target: &&Client| {
        let policy = config.policy.with(&target.overrides);
        client.ticket_to.contains(&target.id)
            && !client.confidential
            && !target.confidential
            && policy.refresh_max > LONGEST_BY_TICKET
    };
    let advice = |target: &Client| {
        format!(
            "it is public and hands its guests over to {0}, which is public, too: whoever steals a refresh token of the one has one of \
             the other, that outlives it. The app mints a ticket again anyway, so if nobody else comes by {0}, type: guestpass \
             client set {0} --refresh-max 30d --refresh-idle 30d; if pages are to keep guests for longer, give web views a client \
             of their own",
            target.id
        )
    };
    clients.iter().filter(is_lasting).map(advice).collect()
}

/// The refresh_max above which a grant that came of a public client's ticket lasts long.
const LONGEST_BY_TICKET: Duration = Duration::from_secs(30 * 86_400);

fn advice_on_new_guests() -> String {
    "its apps get a new guest in place of one that is over, also of one that was erased (on_ended = new_guest). Where an erasure \
     is a consent that was withdrawn, the app must delete its refresh token"
        .to_owned()
}

fn advice_on_logs(client: &Client) -> String {
    let id = &client.id;
    // With cookies, it would end guests whose answers are lost.
    let otherwise = match client.cookies {
        None => format!(", or: guestpass client set {id} --late-retry revoke"),
        Some(_) => String::new(),
    };
    format!(
        "it may send tokens in the query, which proxies like to log, and with late_retry = reissue a refresh token from \
         such a log works until its successor has been used. Keep query strings out of the log of every proxy, or type: \
         guestpass client set {id} --no-query-params{otherwise}"
    )
}
