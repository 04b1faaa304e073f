//! `guestpass client`: the applications that act for guests.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use guestpass_core::claims::Typ;
use guestpass_core::client::{
    Change, ChangeError, ClaimName, Client, ClientId, ClientSettings, Defaults, Origin, Permission,
};
use guestpass_core::cookies::{CookieDomain, CookieName};
use guestpass_core::grant::GrantId;
use guestpass_core::policy::PolicyOverrides;
use guestpass_core::profile::ProfileId;
use serde::Serialize;
use serde_json::{Value, json};

use super::cookies::CookieArgs;
use super::database::{self, Opened};
use super::{Failure, Output, api_key, issuer, policy, rfc3339, table, unprinted};
use crate::clients::{self, remedy};
use crate::config::Config;
use crate::random::SecureGenerator;
use crate::store::{ChangeFailed, Store, Unavailable};
use crate::terminal;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Add a client; a confidential one gets an API key, which is shown once
    #[command(
        args_override_self = true,
        after_help = "Examples:\n  guestpass client add shop-web --origin https://shop.example\n  \
                            guestpass client add shop-backend --confidential --may link --claims customer\n  \
                            guestpass client add shop-app --access-ttl 1h --refresh-idle 90d"
    )]
    Add {
        /// 1 to 128 letters, digits and -._:@
        #[arg(value_name = "ID")]
        id: ClientId,
        /// Require an API key with every request
        #[arg(long)]
        confidential: bool,
        /// A web origin that may read answers to this client (repeatable)
        #[arg(long = "origin", value_name = "URL")]
        origins: Vec<Origin>,
        #[command(flatten)]
        guests: Guests,
        #[command(flatten)]
        cookies: CookieArgs,
        #[command(flatten)]
        policy: policy::Args,
    },
    /// Change a client
    #[command(
        args_override_self = true,
        after_help = "Examples:\n  guestpass client set shop-web --origin https://m.shop.example --no-query-params\n  \
                            guestpass client set shop-web --grace 0s --late-retry revoke\n  \
                            guestpass client set shop-web --grace default --late-retry default --query-params=default"
    )]
    Set {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
        /// Require an API key with every request
        #[arg(long, overrides_with = "no_confidential")]
        confidential: bool,
        /// Require no API key
        #[arg(long)]
        no_confidential: bool,
        /// Add a web origin (repeatable)
        #[arg(long = "origin", value_name = "URL")]
        origins: Vec<Origin>,
        /// Remove a web origin (repeatable)
        #[arg(long = "no-origin", value_name = "URL")]
        no_origins: Vec<Origin>,
        /// Give its cookies another name, although every browser then forgets its guest
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        guests: Guests,
        #[command(flatten)]
        cookies: CookieArgs,
        #[command(flatten)]
        policy: policy::Args,
    },
    /// List all clients
    List,
    /// Show a client
    Show {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
    },
    /// Answer a client as if it didn't exist, until it is enabled; its guests wait
    Disable {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
    },
    /// Answer a disabled client again
    Enable {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
    },
    /// Remove a client and end all its grants, for good
    Remove {
        /// The client
        #[arg(value_name = "ID")]
        id: ClientId,
    },
    /// API keys of a confidential client
    #[command(subcommand)]
    Key(api_key::Command),
}

/// Says how a client may change guests, and which claims it is told.
#[derive(clap::Args)]
pub(super) struct Guests {
    /// Allow it to link guests to customers (link) and to set their attributes (attributes), for confidential clients; none takes
    /// it back
    #[arg(long, value_name = "LIST", value_parser = elements::<Permission>)]
    may: Option<Elements<Permission>>,
    /// Tell it, in its tokens and at introspection, which customer a guest is (customer), and attributes by their names; none
    /// takes it back
    #[arg(long, value_name = "LIST", value_parser = elements::<ClaimName>)]
    claims: Option<Elements<ClaimName>>,
}

impl Guests {
    /// Adds what the flags ask for to settings.
    fn add_to(self, mut settings: ClientSettings) -> ClientSettings {
        settings.may = self.may.map(|Elements(may)| may);
        settings.claims = self.claims.map(|Elements(claims)| claims);
        settings
    }
}

/// A list, with commas between its elements.
#[derive(Clone)]
struct Elements<T>(Vec<T>);

fn elements<T: FromStr<Err = &'static str>>(text: &str) -> Result<Elements<T>, String> {
    if text == "none" {
        return Ok(Elements(Vec::new()));
    }
    let elements = text.split(',').map(str::parse);
    elements
        .collect::<Result<_, _>>()
        .map(Elements)
        .map_err(|problem| format!("{problem}. Or write none"))
}

pub(super) async fn run(command: Command, config: &Config, output: Output) -> Result<(), Failure> {
    match command {
        Command::Add {
            id,
            confidential,
            origins,
            guests,
            cookies,
            policy,
        } => {
            let settings = ClientSettings {
                confidential: Some(confidential),
                add_origins: origins,
                ..cookies.add_to(guests.add_to(policy.settings()))
            };
            add(config, output, id, settings).await
        }
        Command::Set {
            id,
            confidential,
            no_confidential,
            origins,
            no_origins,
            force,
            guests,
            cookies,
            policy,
        } => {
            let settings = ClientSettings {
                confidential: switch(confidential, no_confidential),
                add_origins: origins,
                remove_origins: no_origins,
                ..cookies.add_to(guests.add_to(policy.settings()))
            };
            set(config, output, &id, settings, force).await
        }
        Command::List => list(config, output).await,
        Command::Show { id } => show(config, output, &id).await,
        Command::Disable { id } => disable(config, output, &id, true).await,
        Command::Enable { id } => disable(config, output, &id, false).await,
        Command::Remove { id } => {
            change(config, &id, Change::RemoveClient(id.clone())).await?;
            output.print(&json!({"client_id": id.as_str()}), || {
                format!("removed {id}; its grants have ended")
            })?;
            Ok(())
        }
        Command::Key(command) => api_key::run(command, config, output).await,
    }
}

async fn add(
    config: &Config,
    output: Output,
    id: ClientId,
    settings: ClientSettings,
) -> Result<(), Failure> {
    let (Opened { store, clock }, is_new) = database::open_or_make(config).await?;
    if is_new {
        terminal::say(&format!("made a new database, {}", config.database));
    }
    // Before anything is made: what may fail must not come between a secret and its being shown.
    let advice = names_a_guest(&*store, &id).await?;
    let (random, now) = (SecureGenerator::new(), clock.now());
    let settings = beside_defaults(settings, config, &*store).await?;
    let added = clients::add_client(&*store, id.clone(), settings, &random, now).await;
    let secret = added.map_err(|error| explain(error, &id))?;
    if let Some(advice) = advice {
        terminal::say(&format!("advice: {id}: {advice}"));
    }
    let added = Added {
        client_id: id.as_str(),
        api_key: secret.as_ref().map(|s| s.expose()),
    };
    let shown = output.show(&added, || match added.api_key {
        Some(key) => vec![
            format!("added {id}, a confidential client. Its API key, shown only now:"),
            key.to_owned(),
        ],
        None => vec![format!("added {id}, a public client")],
    });
    match &secret {
        None => shown.map(drop).map_err(unprinted),
        Some(secret) => {
            let undo = Change::RemoveClient(id.clone());
            api_key::require_shown(&*store, shown, &id, secret, undo).await
        }
    }
}

/// Adds the server's defaults to settings that must go together with them, if they choose anything.
async fn beside_defaults(
    settings: ClientSettings,
    config: &Config,
    store: &dyn Store,
) -> Result<ClientSettings, Failure> {
    let chooses = settings.overrides != PolicyOverrides::default()
        || !settings.unset.is_empty()
        || settings.claims.is_some()
        || settings.audience_restricted.is_some();
    let defaults = match chooses {
        true => Some(Defaults {
            policy: config.policy.clone(),
            issuer: issuer::expected(config, store).await?,
        }),
        false => None,
    };
    Ok(ClientSettings {
        defaults,
        ..settings
    })
}

/// Advises against an id that is also the `sub` or the `sid` of a guest.
pub(super) async fn names_a_guest(
    store: &dyn Store,
    id: &ClientId,
) -> Result<Option<String>, Unavailable> {
    let claim = if let Ok(sub) = id.as_str().parse::<ProfileId>()
        && store.profile(sub).await?.is_some()
    {
        "sub"
    } else if let Some(sid) = grant_of(id)
        && store.load(sid).await?.is_some()
    {
        "sid"
    } else {
        return Ok(None);
    };
    Ok(Some(format!(
        "its id is also the `{claim}` of a guest, so whoever reads a log or a token may take one for the other. Add it \
         under another id: guestpass client add ID, and remove this one: guestpass client remove {id}"
    )))
}

/// Reads an id as the `sid` of a grant.
fn grant_of(id: &ClientId) -> Option<GrantId> {
    let bytes = URL_SAFE_NO_PAD.decode(id.as_str()).ok()?;
    GrantId::from_bytes(bytes.try_into().ok()?)
}

/// The output of `client add --json`, in this order.
#[derive(Serialize)]
struct Added<'a> {
    client_id: &'a str,
    api_key: Option<&'a str>,
}

async fn set(
    config: &Config,
    output: Output,
    id: &ClientId,
    settings: ClientSettings,
    force: bool,
) -> Result<(), Failure> {
    let store = database::open(config).await?.store;
    if !force {
        require_same_cookies(&find(&*store, id).await?, &settings)?;
    }
    let change = Change::SetClient {
        id: id.clone(),
        settings: beside_defaults(settings, config, &*store).await?,
    };
    let changed = store.change(change).await;
    changed.map_err(|error| explain(error, id))?;
    let client = find(&*store, id).await?;
    output.print(&described(&client, config), || {
        let keyless = client.confidential && client.api_keys.is_empty();
        let hint = keyless.then(|| {
            format!(
                "It has no API key yet, so every request of it is refused. Make one: guestpass client key add {id}"
            )
        });
        Vec::from_iter([format!("changed {id}")].into_iter().chain(hint))
    })?;
    Ok(())
}

/// Refuses to rename the cookies of a client unasked.
fn require_same_cookies(client: &Client, settings: &ClientSettings) -> Result<(), Failure> {
    match (&client.cookies, &settings.cookies) {
        (Some(old), Some(new)) if old != new => Err(Failure(format!(
            "the cookies of {id} are named {old}: under another name every browser forgets its guest, for good. If you mean it, \
             type: guestpass client set {id} --cookies {new} --force",
            id = client.id
        ))),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

async fn disable(
    config: &Config,
    output: Output,
    id: &ClientId,
    disabled: bool,
) -> Result<(), Failure> {
    let settings = ClientSettings {
        disabled: Some(disabled),
        ..ClientSettings::default()
    };
    change(
        config,
        id,
        Change::SetClient {
            id: id.clone(),
            settings,
        },
    )
    .await?;
    output.print(
        &json!({"client_id": id.as_str(), "disabled": disabled}),
        || format!("{} {id}", if disabled { "disabled" } else { "enabled" }),
    )?;
    Ok(())
}

async fn list(config: &Config, output: Output) -> Result<(), Failure> {
    let (_, clients) = database::open(config).await?.store.clients().await?;
    let all: Vec<Value> = clients
        .iter()
        .map(|client| described(client, config))
        .collect();
    output.print(&all, || {
        if clients.is_empty() {
            return vec!["no clients yet. Add one: guestpass client add ID".to_owned()];
        }
        let rows = clients.iter().map(|client| {
            vec![
                client.id.to_string(),
                kind(client).to_owned(),
                if client.disabled {
                    "disabled"
                } else {
                    "enabled"
                }
                .to_owned(),
                client
                    .api_keys
                    .iter()
                    .filter(|key| key.revoked_at.is_none())
                    .count()
                    .to_string(),
                joined(&client.origins),
                rfc3339(client.created_at),
            ]
        });
        table(
            &["CLIENT", "KIND", "STATE", "KEYS", "ORIGINS", "CREATED"],
            rows,
        )
    })?;
    Ok(())
}

async fn show(config: &Config, output: Output, id: &ClientId) -> Result<(), Failure> {
    let store = database::open(config).await?.store;
    let client = find(&*store, id).await?;
    output.print(&described(&client, config), || {
        let lines = [
            ("client", client.id.to_string()),
            ("kind", kind(&client).to_owned()),
            (
                "state",
                if client.disabled {
                    "disabled"
                } else {
                    "enabled"
                }
                .to_owned(),
            ),
            ("origins", joined(&client.origins)),
            (
                "keys",
                client
                    .api_keys
                    .iter()
                    .map(|key| key.id.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
            ("created", rfc3339(client.created_at)),
            (
                "audience_restricted",
                client.audience_restricted.to_string(),
            ),
            ("resume_with_jwt", client.resume_with_jwt.to_string()),
            ("on_ended", client.on_ended.name().to_owned()),
            ("typ", typ(&client)),
            ("may", joined(&client.may)),
            ("claims", joined(&client.claims)),
            ("cookies", joined(client.cookies.as_slice())),
            ("cookie_domain", joined(client.cookie_domain.as_slice())),
            ("page_token", client.page_token.to_string()),
            ("ticket_to", joined(&client.ticket_to)),
        ];
        let policy = policy::shown(&client, config).into_iter().map(|choice| {
            let value = match choice.value.as_str() {
                "" => "none",
                value => value,
            };
            (choice.name, format!("{value} ({})", choice.origin))
        });
        let unknown = client.unknown_choices.iter().map(|(name, value)| {
            let note = "of a newer version; no effect in this one";
            (name.as_str(), format!("{value} ({note})"))
        });
        let lines = lines.into_iter().chain(policy).chain(unknown);
        lines
            .map(|(name, value)| format!("{name:<21}{value}").trim_end().to_owned())
            .collect::<Vec<_>>()
    })?;
    Ok(())
}

pub(super) async fn find(store: &dyn Store, id: &ClientId) -> Result<Client, Failure> {
    let (_, clients) = store.clients().await?;
    clients
        .into_iter()
        .find(|client| client.id == *id)
        .ok_or_else(|| explain(ChangeError::ClientUnknown.into(), id))
}

async fn change(config: &Config, id: &ClientId, change: Change) -> Result<(), Failure> {
    database::open(config)
        .await?
        .store
        .change(change)
        .await
        .map_err(|error| explain(error, id))
}

#[expect(clippy::too_many_lines, reason = "each error has its sentence")]
pub(super) fn explain(error: ChangeFailed, id: &ClientId) -> Failure {
    let refused = match error {
        ChangeFailed::Refused(refused) => refused,
        ChangeFailed::Unavailable(error) => {
            return Failure(format!("the database can't be changed: {error}"));
        }
    };
    Failure(match refused {
        ChangeError::ClientExists => {
            format!("there is a client {id} already. To change it: guestpass client set {id} …")
        }
        ChangeError::ClientUnknown => {
            format!("there is no client {id}. See which there are: guestpass client list")
        }
        ChangeError::ClientPublic => format!(
            "{id} is a public client, which has no keys. Make it confidential first: guestpass client set {id} \
             --confidential"
        ),
        ChangeError::ApiKeyUnknown => {
            format!("{id} has no such key. See which it has: guestpass client key list {id}")
        }
        ChangeError::OriginUnknown(origin) => {
            format!(
                "{id} doesn't have the origin {origin}. See which it has: guestpass client show {id}"
            )
        }
        ChangeError::RestrictedToNothing => format!(
            "{id} can't be audience_restricted without an audience of its own. Add --audience TEXT, or \
             --no-audience-restricted"
        ),
        ChangeError::ResumePublic => format!(
            "{id} can't be public and have resume_with_jwt: an access token would become a refresh token by itself. \
             Add --confidential, or --no-resume-with-jwt"
        ),
        ChangeError::ResumeWithOrigin => format!(
            "{id} can't have a web origin and resume_with_jwt: a page can't keep an API key. Leave its origins out \
             (--no-origin URL removes one), or add --no-resume-with-jwt"
        ),
        ChangeError::MayPublic => format!(
            "{id} can't be public and be allowed anything: its requests prove nothing. Add --confidential, or --may none"
        ),
        ChangeError::CookiesConfidential => format!(
            "{id} can't be confidential and keep guests in cookies: a page can't keep an API key. Add a public client for the page"
        ),
        ChangeError::CookiesWithoutOrigin => format!(
            "{id} can't have cookies without an origin: they are set for its pages alone. Add --origin https://shop.example"
        ),
        ChangeError::CookiesInsecure(origin) => format!(
            "{id} can't have cookies and the origin {origin}: others could read them on their way. Leave it out (--no-origin {origin}), \
             or serve that page by https"
        ),
        ChangeError::CookieDomainElsewhere(domain, origin) => format!(
            "a page on {origin} wouldn't get the cookie of {id} with the domain {domain}. Choose a host that all its origins are \
             below, or leave it out: --no-cookie-domain"
        ),
        ChangeError::TicketToItself => {
            format!(
                "{id} has its guests already: it can't hand them over to itself. Name another client: --ticket-to ID"
            )
        }
        ChangeError::TicketTargetUnknown(target) => {
            format!("there is no client {target} to hand guests over to. See guestpass client list")
        }
        ChangeError::TicketTargetAbsent(target) => {
            format!("{id} doesn't hand guests over to {target}. See guestpass client show {id}")
        }
        ChangeError::TicketTargetPublic(from, target) => format!(
            "{from} keeps guests in cookies, and {target} is public: with a ticket, a script in a page of {from} would get the refresh \
             token that the cookie hides from it. Hand over to a confidential client, or take it back: guestpass client set {from} \
             --no-ticket-to {target}"
        ),
        ChangeError::CookiesTaken(one, another) => format!(
            "{} has cookies of that name already, and in a browser they would be the same. Choose another name",
            if one == *id { another } else { one }
        ),
        ChangeError::PolicyInvalid(problem) => format!(
            "{id} can't have what comes of this and the defaults: {problem}. Add {}",
            remedy(problem)
        ),
        ChangeError::AnswerTooLong(bytes) => {
            format!("{id} can't be told that: {}", clients::too_long(id, bytes))
        }
    })
}

/// Says what the access tokens of a client say they are, and whether those that said otherwise are still taken.
fn typ(client: &Client) -> String {
    match client.typ {
        None => format!("{} (default)", Typ::default().as_str()),
        Some(typ) => format!(
            "{} (this client; tokens of the other are taken as well)",
            typ.as_str()
        ),
    }
}

fn described(client: &Client, config: &Config) -> Value {
    json!({
        "client_id": client.id.as_str(),
        "confidential": client.confidential,
        "disabled": client.disabled,
        "audience_restricted": client.audience_restricted,
        "resume_with_jwt": client.resume_with_jwt,
        "on_ended": client.on_ended.name(),
        "typ": client.typ.map(Typ::as_str),
        "may": client.may.iter().map(|may| may.name()).collect::<Vec<_>>(),
        "cookies": client.cookies.as_ref().map(CookieName::as_str),
        "cookie_domain": client.cookie_domain.as_ref().map(CookieDomain::as_str),
        "page_token": client.page_token,
        "ticket_to": client.ticket_to.iter().map(ClientId::as_str).collect::<Vec<_>>(),
        "claims": client.claims.iter().map(ClaimName::as_str).collect::<Vec<_>>(),
        "policy": policy::shown(client, config),
        "unknown_choices": client.unknown_choices,
        "origins": client.origins.iter().map(Origin::as_str).collect::<Vec<_>>(),
        "key_ids": client.api_keys.iter().map(|key| key.id.0.as_str()).collect::<Vec<_>>(),
        "created_at": rfc3339(client.created_at),
    })
}

fn kind(client: &Client) -> &'static str {
    if client.confidential {
        "confidential"
    } else {
        "public"
    }
}

fn joined(elements: &[impl ToString]) -> String {
    let elements: Vec<_> = elements.iter().map(ToString::to_string).collect();
    elements.join(" ")
}

/// Reads a pair of flags: on, off, or neither.
pub(super) fn switch(on: bool, off: bool) -> Option<bool> {
    match (on, off) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}
