//! The attackers: a process of its own, so that it can be of the lowest priority, and its memory is none of the server's.
//!
//! It says what it has done whenever it reads a line, and ends with its input, or when its time is over.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, ClientConnection};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::attack::{
    BETWEEN_BYTES, FLOODS, Flood, HELD, Held, Kind, REOPENED_AFTER, Scale, descriptors,
};
use super::client::{Answered, Client};
use crate::answer::member;
use crate::certificate;
use crate::failure::Failure;
use crate::guests::Token;
use crate::workload::Target;

/// The arguments of the process.
#[derive(clap::Args)]
pub(crate) struct Attackers {
    /// Address of the server in the clear
    server: SocketAddr,
    /// Address of the server that speaks TLS
    tls_server: SocketAddr,
    /// Directory with the certificate of that server
    certificate: std::path::PathBuf,
    /// Seconds after which it ends by itself
    seconds: u64,
    scale: f64,
    /// Kinds of attack; without one, all of them
    kinds: Vec<Kind>,
}

impl Attackers {
    fn are_of(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// Counts what became of one kind of attack.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Tally {
    /// Connections that were opened.
    pub(crate) opened: u64,
    /// Connections that couldn't be.
    pub(crate) refused: u64,
    /// Connections that the server has ended.
    pub(crate) ended: u64,
    /// Answers by status.
    pub(crate) answers: BTreeMap<u16, u64>,
}

impl Tally {
    pub(crate) fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Counts what became of each kind, in the order of [`Kind::ALL`].
type Tallies = Arc<[Mutex<Tally>; Kind::ALL.len()]>;

pub(crate) fn run(arguments: &Attackers) -> Result<(), Failure> {
    let scale = Scale(arguments.scale);
    raise_descriptors(descriptors(scale))?;
    let tls = certificate::client(&arguments.certificate)?;
    let tallies = Tallies::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let time = Duration::from_secs(arguments.seconds);
    runtime.spawn(async move {
        sleep(time).await;
        std::process::exit(0);
    });
    let target = target(arguments.server);
    let floods = FLOODS.map(|flood| flood.scaled(scale));
    for flood in floods.iter().filter(|flood| arguments.are_of(flood.kind)) {
        let all = flood.addresses * flood.connections;
        for number in 0..all {
            let flooder = Flooder {
                flood: *flood,
                from: flood.address(number / flood.connections),
                to: arguments.server,
                after: flood.interval().mul_f64(number as f64 / all as f64),
                target: target.clone(),
                tallies: Arc::clone(&tallies),
            };
            runtime.spawn(flooder.run());
        }
    }
    for held in HELD.iter().filter(|held| arguments.are_of(held.kind)) {
        for number in 0..scale.of(held.connections) {
            let holder = Holder {
                held: *held,
                number,
                from: held.address(number),
                to: match held.kind {
                    Kind::Handshakes => arguments.tls_server,
                    _ => arguments.server,
                },
                tls: Arc::clone(&tls),
                tallies: Arc::clone(&tallies),
            };
            runtime.spawn(holder.run());
        }
    }
    println!("attacking");
    for _ in io::stdin().lock().lines() {
        println!("{}", serde_json::to_string(&*tallies)?);
    }
    runtime.shutdown_background();
    Ok(())
}

/// Returns the target of all requests.
pub(super) fn target(server: SocketAddr) -> Target {
    Target {
        host: server.to_string(),
        base_path: String::new(),
        client_id: crate::guests::CLIENT_ID.to_owned(),
    }
}

/// Raises the limit of open files, or says that it is too low.
pub(super) fn raise_descriptors(needed: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        return Err(Failure(format!(
            "the attackers need {needed} open files, and a process may have {maximum}: raise the hard limit, as with \
             ulimit -Hn {needed}"
        )));
    }
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?)
}

fn note(tallies: &Tallies, kind: Kind, count: impl FnOnce(&mut Tally)) {
    let mut tally = tallies[kind as usize]
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    count(&mut tally);
}

/// Holds one connection, again and again.
struct Holder {
    held: Held,
    number: usize,
    from: Ipv4Addr,
    to: SocketAddr,
    tls: Arc<ClientConfig>,
    tallies: Tallies,
}

impl Holder {
    async fn run(self) {
        loop {
            let opened = match self.held.kind {
                Kind::Unread => Client::connect_with_little_room(self.from, self.to).await,
                _ => Client::connect(self.from, self.to).await,
            };
            match opened {
                Ok(client) => {
                    note(&self.tallies, self.held.kind, |tally| tally.opened += 1);
                    // An error is an end, too.
                    let _ = self.hold(&client).await;
                    note(&self.tallies, self.held.kind, |tally| tally.ended += 1);
                }
                Err(_) => note(&self.tallies, self.held.kind, |tally| tally.refused += 1),
            }
            sleep(REOPENED_AFTER).await;
        }
    }

    /// Holds a connection until the server ends it.
    async fn hold(&self, client: &Client) -> io::Result<()> {
        match self.held.kind {
            Kind::SlowHeaders => {
                client.send(b"GET /livez HTTP/1.1\r\nhost: ").await?;
                loop {
                    if tokio::time::timeout(BETWEEN_BYTES, client.ended())
                        .await
                        .is_ok()
                    {
                        return Ok(());
                    }
                    client.send(b"a").await?;
                }
            }
            // The longest answer that there is, more often than anybody has room for. Asking on finds out when it has ended.
            Kind::Unread => {
                client.send(&UNREAD.repeat(UNREAD_AT_ONCE)).await?;
                loop {
                    sleep(BETWEEN_BYTES).await;
                    client.send(UNREAD).await?;
                }
            }
            Kind::Handshakes => {
                let hello = self.hello()?;
                // The server answers a whole one with its part of the handshake, and waits for the rest of the other.
                let sent = if self.is_odd() {
                    hello.len()
                } else {
                    hello.len() / 2
                };
                client.send(&hello[..sent]).await?;
                client.ended().await;
                Ok(())
            }
            // Some have asked for something, so that they may be idle for longer.
            _ => {
                if self.is_odd() {
                    client
                        .send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
                        .await?;
                }
                client.ended().await;
                Ok(())
            }
        }
    }

    const fn is_odd(&self) -> bool {
        !self.number.is_multiple_of(2)
    }

    /// Returns the first message of a handshake.
    fn hello(&self) -> io::Result<Vec<u8>> {
        let mut session = ClientConnection::new(Arc::clone(&self.tls), self.to.ip().into())
            .map_err(io::Error::other)?;
        let mut hello = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut hello)?;
        }
        Ok(hello)
    }
}

/// The request for the longest answer.
const UNREAD: &[u8] = b"GET /oauth/openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// The requests that are sent at once to a connection that takes no answer: for some megabytes.
const UNREAD_AT_ONCE: usize = 64;

/// Sends the requests of one connection of a flood.
struct Flooder {
    flood: Flood,
    from: Ipv4Addr,
    to: SocketAddr,
    /// Time until the first, so that not all come at once.
    after: Duration,
    target: Target,
    tallies: Tallies,
}

impl Flooder {
    async fn run(self) {
        let interval = self.flood.interval();
        let mut due = Instant::now() + self.after;
        let mut client = None;
        let mut token = None;
        loop {
            sleep_until(due).await;
            // It doesn't make up for what a busy server has kept it from.
            due = (due + interval).max(Instant::now());
            let opened = match client.take() {
                Some(client) => Ok(client),
                None => self.connect().await,
            };
            match opened {
                Ok(mut opened) => match self.ask(&mut opened, &mut token).await {
                    Ok(status) => {
                        self.note(|tally| *tally.answers.entry(status).or_default() += 1);
                        client = Some(opened);
                    }
                    Err(_) => self.note(|tally| tally.ended += 1),
                },
                Err(_) => {
                    self.note(|tally| tally.refused += 1);
                    sleep(REOPENED_AFTER).await;
                }
            }
        }
    }

    fn note(&self, count: impl FnOnce(&mut Tally)) {
        note(&self.tallies, self.flood.kind, count);
    }

    async fn connect(&self) -> io::Result<Client> {
        let client = Client::connect(self.from, self.to).await?;
        self.note(|tally| tally.opened += 1);
        Ok(client)
    }

    /// Sends one request and returns the status of its answer.
    async fn ask(&self, client: &mut Client, token: &mut Option<String>) -> io::Result<u16> {
        let answered = match self.flood.kind {
            Kind::Readyz => {
                client
                    .ask(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
                    .await?
            }
            Kind::Erasures => {
                if let Some(of_new_guest) = self.sign_up(client).await? {
                    *token = Some(of_new_guest);
                }
                let token = token.as_deref().unwrap_or_default();
                let request = format!(
                    "DELETE /oauth/profile HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
                );
                client.ask(request.as_bytes()).await?
            }
            _ => client.ask(&self.target.authorize()).await?,
        };
        Ok(answered.status)
    }

    /// Makes a guest and returns its access token; `None` if that is refused.
    async fn sign_up(&self, client: &mut Client) -> io::Result<Option<String>> {
        let Answered { body, .. } = client.ask(&self.target.authorize()).await?;
        let Some(code) = member(&body, "code").and_then(Token::parse) else {
            return Ok(None);
        };
        let request = [&self.target.exchange()[..], &code.0].concat();
        let Answered { body, .. } = client.ask(&request).await?;
        let token = member(&body, "access_token");
        Ok(token.map(|token| String::from_utf8_lossy(token).into_owned()))
    }
}
