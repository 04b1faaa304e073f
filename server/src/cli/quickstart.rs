//! `guestpass quickstart`: shows a guest's whole life over HTTP, against a server of its own.

use std::net::{Ipv4Addr, SocketAddr};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass_core::authorize::REDIRECT_URI;
use guestpass_core::client::{ChangeError, ClientId, ClientSettings};
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

use super::client::explain;
use super::database::{self, Opened};
use super::serve::{Server, stop_signal};
use super::{Failure, Output};
use crate::clients;
use crate::config::{Config, Listen};
use crate::listen::Reserved;
use crate::random::{Random, SecureGenerator};
use crate::store::ChangeFailed;
use crate::telemetry::{self, LogFormat, LogLevel};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Stop when the guest's life has been shown, instead of serving on
    #[arg(long)]
    once: bool,
}

impl Args {
    /// Overrides the settings that would touch the real installation, whatever the environment or a file says.
    pub(super) fn add_flags(flags: &mut Vec<(&'static str, String)>) {
        const OWN: [(&str, &str); 14] = [
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
    add_client(&config).await?;
    let server = Server::start(&config).await?;
    let Listen::Address(address) = server.place else {
        return Err(Failure("it doesn't listen on an address".to_owned()));
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await;
    };
    let serving = tokio::spawn(server.run(stopped));

    output.tell(|| {
        vec![
            format!(
                "A server listens on http://{address}, its data is in {}, and it knows a client: {CLIENT}.",
                config.data_dir.display()
            ),
            "A guest comes by.".to_owned(),
        ]
    })?;
    let steps = Story {
        address,
        output,
        steps: Vec::new(),
    }
    .tell()
    .await?;
    output.print(&steps, || match args.once {
        true => vec![
            String::new(),
            "That was a guest. Without --once the server goes on, for you to try it with curl."
                .to_owned(),
        ],
        false => what_next(address, &steps),
    })?;
    if !args.once {
        stop_signal(1)?.await;
    }
    let _ = stop.send(());
    let _ = serving.await;
    Ok(())
}

const CLIENT: &str = "quickstart";

/// Adds the client, unless an earlier run has left it.
async fn add_client(config: &Config) -> Result<(), Failure> {
    let id: ClientId = CLIENT
        .parse()
        .map_err(|problem: &str| Failure(problem.to_owned()))?;
    let (Opened { store, clock }, _) = database::open_or_make(config).await?;
    let (random, now) = (SecureGenerator::new(), clock.now());
    let settings = ClientSettings::default();
    match clients::add_client(&*store, id.clone(), settings, &random, now).await {
        Ok(_) | Err(ChangeFailed::Refused(ChangeError::ClientExists)) => Ok(()),
        Err(error) => Err(explain(error, &id)),
    }
}

/// Runs the requests of a guest, and records them.
struct Story {
    address: SocketAddr,
    output: Output,
    steps: Vec<Step>,
}

/// One request and its answer.
#[derive(Serialize)]
struct Step {
    title: &'static str,
    method: &'static str,
    path: &'static str,
    parameters: Vec<(&'static str, String)>,
    status: u16,
    answer: Value,
    /// The claims of the access token.
    claims: Option<Value>,
}

impl Story {
    async fn tell(mut self) -> Result<Vec<Step>, Failure> {
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
            .step(title, "GET", "/oauth/authorize", &authorize)
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
        let mut token = self
            .step(title, "POST", TOKEN, &exchange)
            .await?
            .text("refresh_token")?;
        for title in [
            "Refresh: the next day, for the same guest",
            "Refresh again: each answer replaces the last",
        ] {
            let refresh = [
                ("grant_type", "refresh_token"),
                ("client_id", CLIENT),
                ("refresh_token", token.as_str()),
            ];
            token = self
                .step(title, "POST", TOKEN, &refresh)
                .await?
                .text("refresh_token")?;
        }
        Ok(self.steps)
    }

    async fn step(
        &mut self,
        title: &'static str,
        method: &'static str,
        path: &'static str,
        parameters: &[(&'static str, &str)],
    ) -> Result<&Step, Failure> {
        let (status, answer) = send(self.address, method, path, parameters).await?;
        let claims = answer["access_token"].as_str().and_then(decoded);
        let parameters = parameters
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        self.steps.push(Step {
            title,
            method,
            path,
            parameters,
            status: status.as_u16(),
            answer,
            claims,
        });
        let step = &self.steps[self.steps.len() - 1];
        self.output.tell(|| step.described(self.steps.len()))?;
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
        lines.extend(
            self.parameters
                .iter()
                .map(|(name, value)| format!("       {name} = {value}")),
        );
        lines.push(format!("   {}", self.status));
        lines.extend(indented(&self.answer));
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
    let request = Request::builder()
        .method(Method::from_bytes(method.as_bytes())?)
        .uri(target)
        .header("host", address.to_string())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

fn what_next(address: SocketAddr, steps: &[Step]) -> Vec<String> {
    let challenge = steps
        .first()
        .and_then(|step| {
            step.parameters
                .iter()
                .find(|(name, _)| *name == "code_challenge")
        })
        .map_or("", |(_, challenge)| challenge);
    let refresh_token = steps
        .last()
        .and_then(|step| step.answer["refresh_token"].as_str())
        .unwrap_or_default();
    let text = format!(
        "
The guest is known now. What to try next, in another terminal:

  another guest
    curl 'http://{address}/oauth/authorize?client_id={CLIENT}&response_type=code&state=xyz\
         &redirect_uri={REDIRECT_URI}&code_challenge_method=S256&code_challenge={challenge}'

  refresh the one above, and then again within 30 seconds: the same answer, because the first may have been lost
    curl http://{address}/oauth/token -d grant_type=refresh_token -d client_id={CLIENT} \\
         -d refresh_token={refresh_token}

  see why something is refused
    curl -i http://{address}/oauth/token -d grant_type=password -d client_id={CLIENT}

Serving on. Ctrl-C ends it."
    );
    text.split('\n').map(ToOwned::to_owned).collect()
}
