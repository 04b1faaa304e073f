//! `guestpass quickstart`: shows a guest's whole life over HTTP, against a server of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::authorize::REDIRECT_URI;
use guestpass_core::client::{
    Change, ChangeError, ClaimName, ClientId, ClientSettings, Permission,
};
use guestpass_core::rate_limit::RateLimit;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use self::hook::{Heard, Hook};
use super::client::explain;
use super::database::{self, Opened};
use super::serve::{Server, StopSignals};
use super::{Failure, Output};
use crate::clients;
use crate::config::{Config, Listen};
use crate::listen::Reserved;
use crate::random::{Random, SecureGenerator};
use crate::store::ChangeFailed;
use crate::telemetry::{self, LogFormat, LogLevel};

mod hook;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Stop when the guest's life has been shown, instead of serving on
    #[arg(long)]
    once: bool,
}

impl Args {
    /// Overrides the settings that would touch the real installation, whatever the environment or a file says.
    pub(super) fn add_flags(flags: &mut Vec<(&'static str, String)>) {
        const OWN: [(&str, &str); 17] = [
            ("data_dir", "./guestpass-quickstart"),
            ("database", ""),
            ("journal", ""),
            ("master_key", ""),
            ("master_key_file", ""),
            ("issuer", ""),
            ("base_paths", "/,/api"),
            ("admin_listen", ""),
            ("admin.hosts", ""),
            ("admin.token_file", ""),
            ("admin.tls", "off"),
            ("public_health", "true"),
            ("tls.certificate_file", ""),
            ("tls.key_file", ""),
            ("events.record", ""),
            ("events.url", ""),
            ("events.secret_file", ""),
        ];
        for (name, value) in OWN {
            if flags.iter().all(|(named, _)| *named != name) {
                flags.push((name, value.to_owned()));
            }
        }
    }
}

pub(super) async fn run(args: &Args, mut config: Config, output: Output) -> Result<(), Failure> {
    let _log = telemetry::start(LogLevel::ERROR, LogFormat::Text, RateLimit::OFF);
    let is_free = |listen: &Listen| Reserved::take(listen).is_ok();
    if !matches!(&config.listen, Listen::Address(address) if address.ip().is_loopback())
        || !is_free(&config.listen)
    {
        config.listen = Listen::Address((Ipv4Addr::LOCALHOST, 0).into());
    }
    let api_key = add_clients(&config).await?;
    let hook = Hook::start(&config.data_dir).await?;
    config.events = hook.settings();
    let server = Server::start(&config).await?;
    let Listen::Address(address) = server.place else {
        return Err(Failure("it doesn't listen on an address".to_owned()));
    };
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(server.run(stopped));

    output.tell(|| {
        vec![
            format!(
                "A server listens on http://{address}, its data is in {}, and it knows two clients: {CLIENT}, a page, and \
                 {BACK_END}, the shop behind it.",
                config.data_dir.display()
            ),
            "A guest comes by.".to_owned(),
        ]
    })?;
    let story = Story {
        address,
        output,
        api_key,
        hook,
        steps: Vec::new(),
        is_over: false,
    };
    let (steps, another) = story.tell().await?;
    output.print(&steps, || match args.once {
        true => vec![
            String::new(),
            "That was a guest's life. Without --once the server goes on, for you to try it with curl."
                .to_owned(),
        ],
        false => what_next(address, &another),
    })?;
    if !args.once {
        StopSignals::new()?.next().await;
    }
    let _ = stop.send(());
    let _ = serving.await;
    Ok(())
}

/// The client of the page.
const CLIENT: &str = "quickstart";
/// The client of the shop behind it, which knows its customers.
const BACK_END: &str = "quickstart-shop";
/// The customer who logs in.
const CUSTOMER: &str = "c-4711";

/// Adds the clients, unless an earlier run has left them. Returns an API key of the back end.
async fn add_clients(config: &Config) -> Result<String, Failure> {
    let (Opened { store, clock }, _) = database::open_or_make(config).await?;
    let (random, now) = (SecureGenerator::new(), clock.now());
    let page = ClientSettings {
        claims: Some(vec![parsed(ClaimName::CUSTOMER)?]),
        ..ClientSettings::default()
    };
    let back_end = ClientSettings {
        confidential: Some(true),
        may: Some(vec![Permission::Link]),
        ..ClientSettings::default()
    };
    for (id, settings) in [(CLIENT, page), (BACK_END, back_end)] {
        let id: ClientId = parsed(id)?;
        let added = clients::add_client(&*store, id.clone(), settings.clone(), &random, now).await;
        match added {
            Ok(_) => Ok(()),
            Err(ChangeFailed::Refused(ChangeError::ClientExists)) => {
                let id = id.clone();
                store.change(Change::SetClient { id, settings }).await
            }
            Err(error) => Err(error),
        }
        .map_err(|error| explain(error, &id))?;
    }
    let id: ClientId = parsed(BACK_END)?;
    let until = Some(now + API_KEY_FOR);
    let secret = clients::add_api_key(&*store, id.clone(), until, &random, now).await;
    let secret = secret.map_err(|error| explain(error, &id))?;
    Ok(secret.expose().to_owned())
}

/// The time for which the key of one run is good.
const API_KEY_FOR: Duration = Duration::from_secs(86_400);

fn parsed<T: FromStr<Err = &'static str>>(text: &str) -> Result<T, Failure> {
    text.parse()
        .map_err(|problem: &str| Failure(problem.to_owned()))
}

/// Runs the requests of a guest, and records them.
struct Story {
    address: SocketAddr,
    output: Output,
    api_key: String,
    hook: Hook,
    steps: Vec<Step>,
    /// Keeps what follows from being told.
    is_over: bool,
}

/// A guest that is known now: its challenge, and its refresh token.
struct Known {
    challenge: String,
    refresh_token: String,
}

/// Proves something of a request, beside its parameters.
enum Shown<'a> {
    Nothing,
    /// The API key of the back end.
    ApiKey,
    AccessToken(&'a str),
}

/// One request and its answer.
#[derive(Serialize)]
struct Step {
    title: &'static str,
    method: &'static str,
    path: &'static str,
    /// The header by which it proves anything.
    shows: Option<&'static str>,
    parameters: Vec<(&'static str, String)>,
    /// The body, if it is JSON.
    body: Option<Value>,
    status: u16,
    answer: Value,
    /// The claims of the access token.
    claims: Option<Value>,
}

impl Story {
    /// Tells a guest's life. Returns its steps, and another guest, who lives on.
    async fn tell(mut self) -> Result<(Vec<Step>, Known), Failure> {
        let mut token = self.arrive().await?.refresh_token;
        for title in [
            "Refresh: the next day, for the same guest",
            "Refresh again: each answer replaces the last",
        ] {
            token = self.refresh(title, &token).await?.text("refresh_token")?;
        }
        let access_token = self.last().text("access_token")?;
        let title = "The guest logs in: the shop's back end, which has checked the password, says which customer it is";
        let link = [
            ("client_id", BACK_END),
            ("token", access_token.as_str()),
            ("customer", CUSTOMER),
        ];
        self.step(title, "POST", "/oauth/link", &link, Shown::ApiKey)
            .await?
            .text("outcome")?;
        let title = "Refresh: now the access token says so. A label, and never a login";
        token = self.refresh(title, &token).await?.text("refresh_token")?;
        let access_token = self.last().text("access_token")?;
        let claims = self.last().claims.as_ref();
        let sub = claims
            .and_then(|claims| claims["sub"].as_str())
            .unwrap_or_default()
            .to_owned();
        self.hear(
            "An event: the shop's receiver, which this program plays, is told of the link",
            &sub,
        )
        .await?;
        let title = "The guest asks to be forgotten. For a customer with all devices: guestpass customer erase c-4711";
        let shown = Shown::AccessToken(&access_token);
        self.step(title, "DELETE", "/oauth/profile", &[], shown)
            .await?;
        self.refresh("Refresh: nobody is there any more", &token)
            .await?;
        let steps = std::mem::take(&mut self.steps);
        self.is_over = true;
        Ok((steps, self.arrive().await?))
    }

    fn last(&self) -> &Step {
        &self.steps[self.steps.len() - 1]
    }

    /// Lets a guest authorize, and exchanges the code.
    async fn arrive(&mut self) -> Result<Known, Failure> {
        let random = SecureGenerator::new();
        let random: &dyn Random = &random;
        let verifier = URL_SAFE_NO_PAD.encode(random.bytes::<32>());
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let state = URL_SAFE_NO_PAD.encode(random.bytes::<9>());
        let authorize = [
            ("redirect_uri", REDIRECT_URI),
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let title = "Authorize: a new guest, and a code for it";
        let code = self
            .step(title, "GET", "/oauth/authorize", &authorize, Shown::Nothing)
            .await?
            .text("code")?;
        let exchange = [
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT),
            ("redirect_uri", REDIRECT_URI),
            ("code", &code),
            ("code_verifier", &verifier),
        ];
        let title = "Exchange: the code, with the verifier behind its challenge, for tokens";
        let refresh_token = self
            .step(title, "POST", TOKEN, &exchange, Shown::Nothing)
            .await?
            .text("refresh_token")?;
        Ok(Known {
            challenge,
            refresh_token,
        })
    }

    async fn refresh(&mut self, title: &'static str, token: &str) -> Result<&Step, Failure> {
        let refresh = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT),
            ("refresh_token", token),
        ];
        self.step(title, "POST", TOKEN, &refresh, Shown::Nothing)
            .await
    }

    async fn step(
        &mut self,
        title: &'static str,
        method: &'static str,
        path: &'static str,
        parameters: &[(&'static str, &str)],
        shown: Shown<'_>,
    ) -> Result<&Step, Failure> {
        let header = match shown {
            Shown::Nothing => None,
            Shown::ApiKey => Some(("x-api-key", self.api_key.clone())),
            Shown::AccessToken(token) => Some(("authorization", format!("Bearer {token}"))),
        };
        let (status, answer) =
            send(self.address, method, path, parameters, header.as_ref()).await?;
        let claims = answer["access_token"].as_str().and_then(decoded);
        let parameters = parameters
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        self.steps.push(Step {
            title,
            method,
            path,
            shows: match shown {
                Shown::Nothing => None,
                Shown::ApiKey => Some("x-api-key: the API key of the back end"),
                Shown::AccessToken(_) => Some("authorization: Bearer, and the access token"),
            },
            parameters,
            body: None,
            status: status.as_u16(),
            answer,
            claims,
        });
        self.tell_last()
    }

    /// Waits until the shop's receiver is told of the guest.
    async fn hear(&mut self, title: &'static str, sub: &str) -> Result<(), Failure> {
        let Heard { id, event } = self.hook.hear(sub).await?;
        self.steps.push(Step {
            title,
            method: "POST",
            path: hook::PATH,
            shows: Some("webhook-signature: by which the receiver knows who sends"),
            parameters: vec![("webhook-id", id)],
            body: Some(event),
            status: StatusCode::OK.as_u16(),
            answer: Value::Null,
            claims: None,
        });
        self.tell_last().map(drop)
    }

    fn tell_last(&self) -> Result<&Step, Failure> {
        let step = self.last();
        if !self.is_over {
            self.output.tell(|| step.described(self.steps.len()))?;
        }
        Ok(step)
    }
}

const TOKEN: &str = "/oauth/token";

impl Step {
    fn text(&self, member: &str) -> Result<String, Failure> {
        self.answer[member]
            .as_str()
            .map(ToOwned::to_owned)
            .ok_or_else(|| {
                Failure(format!(
                    "the server answered {}: {}",
                    self.status, self.answer
                ))
            })
    }

    fn described(&self, number: usize) -> Vec<String> {
        let mut lines = vec![
            String::new(),
            format!("{number}. {}", self.title),
            String::new(),
            format!("   {} {}", self.method, self.path),
        ];
        lines.extend(self.shows.map(|header| format!("       {header}")));
        lines.extend(
            self.parameters
                .iter()
                .map(|(name, value)| format!("       {name} = {value}")),
        );
        lines.extend(self.body.iter().flat_map(indented));
        lines.push(format!("   {}", self.status));
        if !self.answer.is_null() {
            lines.extend(indented(&self.answer));
        }
        if let Some(claims) = &self.claims {
            lines.push("   the access token says".to_owned());
            lines.extend(indented(claims));
        }
        lines
    }
}

fn indented(json: &Value) -> Vec<String> {
    let text = serde_json::to_string_pretty(json).unwrap_or_default();
    text.lines().map(|line| format!("       {line}")).collect()
}

/// Decodes the payload of a JWT. Its signature is not checked: this server has just made it.
fn decoded(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Sends a request on a connection of its own, with the parameters in the query of a GET or the body of a POST.
async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    parameters: &[(&str, &str)],
    header: Option<&(&'static str, String)>,
) -> Result<(StatusCode, Value), Failure> {
    // None of these values holds a character that needs encoding.
    let encoded = parameters
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect::<Vec<_>>()
        .join("&");
    let (target, body) = match method {
        "GET" => (format!("{path}?{encoded}"), String::new()),
        _ => (path.to_owned(), encoded),
    };
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes())?)
        .uri(target)
        .header("host", address.to_string())
        .header("content-type", "application/x-www-form-urlencoded");
    if let Some((name, value)) = header {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let answer = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body)?,
    };
    Ok((status, answer))
}

fn what_next(address: SocketAddr, another: &Known) -> Vec<String> {
    let Known {
        challenge,
        refresh_token,
    } = another;
    let text = format!(
        "
Another guest has come meanwhile. What to try next, in another terminal:

  a third guest
    curl 'http://{address}/oauth/authorize?client_id={CLIENT}&response_type=code&state=xyz\
         &redirect_uri={REDIRECT_URI}&code_challenge_method=S256&code_challenge={challenge}'

  refresh the second, and then again within 30 seconds: the same answer, because the first may have been lost
    curl http://{address}/oauth/token -d grant_type=refresh_token -d client_id={CLIENT} \\
         -d refresh_token={refresh_token}

  see why something is refused
    curl -i http://{address}/oauth/token -d grant_type=password -d client_id={CLIENT}

Serving on. Ctrl-C ends it."
    );
    text.split('\n').map(ToOwned::to_owned).collect()
}
