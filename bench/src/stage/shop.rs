//! Guests who become customers: a back end that links them, a receiver that is told, and what that costs others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Demand, Kind, Measured, Stage, measure, target};
use crate::answer::member;
use crate::failure::Failure;
use crate::generator::{Load, Outcome, Pace, histogram};
use crate::guests::{self, Guests};
use crate::process::{Server, Used};
use crate::workload::{BackEnd, Refresh, SignUp, Succession, Target};

/// Names the shops, each with an installation of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum ShopKind {
    /// Records no events.
    Silent,
    /// Records them.
    Recording,
    /// Records them and tells a receiver.
    Telling,
}

/// A running server with a back end that may link guests.
pub(super) struct Shop {
    server: Server,
    target: Target,
    api_key: String,
    guests: Guests,
    /// Access tokens of guests that are linked.
    linked: Vec<String>,
    receiver: Receiver,
}

const BACK_END: &str = "bench-shop";
/// A client whose grants end after a second, and whose apps go on with a new guest.
const SHORT: &str = "bench-short";

impl Stage {
    fn shop(&mut self, kind: ShopKind) -> Result<&mut Shop, Failure> {
        if !self.shops.contains_key(&kind) {
            let (from, guests) = self.seeded(Kind::TenThousand)?;
            let directory = self.plan.directory.join(format!("{kind:?}").to_lowercase());
            guests::copy(&from, &directory)?;
            let api_key = add_clients(&self.plan.program, &directory)?;
            let receiver = Receiver::start()?;
            let (url, secret) = (receiver.url(), directory.join("webhook.secret"));
            std::fs::write(&secret, SECRET)?;
            let secret = secret.display().to_string();
            let settings = match kind {
                ShopKind::Silent => vec![],
                ShopKind::Recording => vec![("GUESTPASS_EVENTS__RECORD", "true")],
                ShopKind::Telling => vec![
                    ("GUESTPASS_EVENTS__URL", &*url),
                    ("GUESTPASS_EVENTS__SECRET_FILE", &*secret),
                ],
            };
            let server = Server::guestpass(&self.plan.program, &directory, &settings)?;
            let shop = Shop {
                target: target(&server),
                server,
                api_key,
                guests,
                linked: Vec::new(),
                receiver,
            };
            self.shops.insert(kind, shop);
        }
        Ok(self.shops.get_mut(&kind).expect("it is there by now"))
    }

    /// Links new guests, each once.
    pub(super) fn link(&mut self, kind: ShopKind, time: Duration) -> Result<Measured, Failure> {
        let most = self
            .plan
            .guests
            .map_or(LINKED, |most| usize::try_from(most).unwrap_or(LINKED));
        let shop = self.shop(kind)?;
        let tokens = shop.sign_up(most)?;
        let mut workload = shop.links(tokens.clone(), true);
        let measured = measure(&shop.server, Demand::closed(64, time), &mut workload)?;
        shop.linked = tokens;
        Ok(measured)
    }

    /// Links guests who are linked, again and again.
    pub(super) fn link_again(&mut self, time: Duration) -> Result<Measured, Failure> {
        let shop = self.linked_shop()?;
        let mut workload = shop.links(shop.linked.clone(), false);
        measure(&shop.server, Demand::closed(64, time), &mut workload)
    }

    /// Introspects their tokens.
    pub(super) fn introspect(&mut self, time: Duration) -> Result<Measured, Failure> {
        let shop = self.linked_shop()?;
        let (host, key) = (&shop.target.host, &shop.api_key);
        let mut workload = BackEnd::introspect(host, BACK_END, key, shop.linked.clone());
        measure(&shop.server, Demand::closed(64, time), &mut workload)
    }

    fn linked_shop(&mut self) -> Result<&mut Shop, Failure> {
        if self.shop(ShopKind::Silent)?.linked.is_empty() {
            self.link(ShopKind::Silent, Duration::from_millis(1))?;
        }
        self.shop(ShopKind::Silent)
    }

    /// Refreshes dead tokens, each of which is answered with a new guest.
    pub(super) fn succession(&mut self, time: Duration) -> Result<Measured, Failure> {
        let most = self
            .plan
            .guests
            .map_or(LINKED, |most| usize::try_from(most).unwrap_or(LINKED));
        let shop = self.shop(ShopKind::Silent)?;
        let short = Target {
            client_id: SHORT.to_owned(),
            ..shop.target.clone()
        };
        let mut workload = SignUp::new(&short);
        (workload.tokens, workload.limit) = (Some(Vec::new()), most);
        shop.load(&mut workload)?;
        // Until they are dead.
        thread::sleep(Duration::from_millis(1500));
        let dead = workload.tokens.unwrap_or_default();
        let mut workload = Succession::new(&short, dead);
        measure(&shop.server, Demand::closed(64, time), &mut workload)
    }

    /// Refreshes while the receiver is told 200 events in a second, or while there is none.
    pub(super) fn beside_delivery(
        &mut self,
        tells: bool,
        time: Duration,
    ) -> Result<Measured, Failure> {
        let kind = match tells {
            true => ShopKind::Telling,
            false => ShopKind::Recording,
        };
        let shop = self.shop(kind)?;
        shop.receiver.take_time(Duration::from_millis(40));
        if tells {
            let events = 200 * (usize::try_from(time.as_secs())? + 5);
            let tokens = shop.sign_up(events)?;
            let mut workload = shop.links(tokens, true);
            shop.load(&mut workload)?;
        }
        let before = shop.receiver.taken();
        let mut workload = Refresh::new(&shop.target, &mut shop.guests, usize::MAX);
        let measured = measure(&shop.server, Demand::closed(64, time), &mut workload)?;
        Ok(Measured {
            value: (shop.receiver.taken() - before) as f64,
            ..measured
        })
    }

    /// Measures the time from a link until an idle receiver is told.
    pub(super) fn delivery(&mut self) -> Result<Measured, Failure> {
        let shop = self.shop(ShopKind::Telling)?;
        shop.receiver.take_time(Duration::ZERO);
        shop.receiver.wait_until_idle();
        let mut latency = histogram();
        for token in shop.sign_up(TOLD)? {
            let before = shop.receiver.taken();
            let mut workload = shop.links(vec![token], true);
            let start = Instant::now();
            shop.load(&mut workload)?;
            while shop.receiver.taken() == before {
                if start.elapsed() > PATIENCE {
                    return Err(Failure("the receiver was told nothing".to_owned()));
                }
                thread::sleep(Duration::from_millis(1));
            }
            latency.saturating_record(u64::try_from(start.elapsed().as_micros())?);
        }
        let outcome = Outcome {
            done: latency.len(),
            latency,
            ..Outcome::default()
        };
        Ok(Measured::of(outcome, Used::default()))
    }

    /// Refreshes while the cleaner looks at all guests, or while it rests.
    pub(super) fn beside_retention(
        &mut self,
        walks: bool,
        time: Duration,
    ) -> Result<Measured, Failure> {
        let (from, mut guests) = self.seeded(Kind::HundredThousand)?;
        let directory = self.plan.directory.join("retention");
        // A server that was ended has left its log.
        let _ = std::fs::remove_dir_all(&directory);
        guests::copy(&from, &directory)?;
        let walk = [
            ("GUESTPASS_RETENTION__IDLE", "36500d"),
            ("GUESTPASS_CLEANING__START_AFTER", "0s"),
        ];
        let settings: &[_] = if walks { &walk } else { &[] };
        let server = Server::guestpass(&self.plan.program, &directory, settings)?;
        // First it looks at all grants.
        thread::sleep(WALK_OVER_GRANTS);
        let mut workload = Refresh::new(&target(&server), &mut guests, usize::MAX);
        measure(&server, Demand::closed(64, time), &mut workload)
    }

    /// Measures the bytes on disk for each linked guest, and for each that isn't.
    pub(super) fn size_linked(&mut self) -> Result<Measured, Failure> {
        let (plain, _) = self.seeded(Kind::HundredThousand)?;
        let (linked, _) = self.seeded(Kind::HundredThousandCustomers)?;
        let ratio = guests::size(&linked) as f64 / guests::size(&plain) as f64;
        Ok(Measured::value(ratio))
    }
}

/// The guests that are linked in a round, or followed.
const LINKED: usize = 40_000;
/// The events of a round whose delay is measured.
const TOLD: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// A thousand grants in each of its parts, with a pause of 50 ms behind each, and a little more.
const WALK_OVER_GRANTS: Duration = Duration::from_secs(6);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

impl Shop {
    /// Signs guests up, and returns their access tokens.
    fn sign_up(&self, guests: usize) -> Result<Vec<String>, Failure> {
        let mut workload = SignUp::new(&self.target);
        (workload.access_tokens, workload.limit) = (Some(Vec::new()), guests);
        self.load(&mut workload)?;
        Ok(workload.access_tokens.unwrap_or_default())
    }

    fn links(&self, tokens: Vec<String>, once: bool) -> BackEnd {
        BackEnd::link(&self.target.host, BACK_END, &self.api_key, tokens, once)
    }

    /// Runs a workload to its end, unmeasured.
    fn load(&self, workload: &mut dyn crate::generator::Workload) -> Result<(), Failure> {
        let load = Load {
            address: self.server.address,
            connections: 64,
            pace: Pace::Closed,
            time: PATIENCE,
            fresh_tls: None,
        };
        let outcome = load.run(workload, &mut |_, _| {})?;
        match outcome.first_failure {
            None => Ok(()),
            Some(failure) => Err(Failure(failure)),
        }
    }
}

/// Adds the clients of a shop, and returns the API key of its back end.
fn add_clients(program: &Path, directory: &Path) -> Result<String, Failure> {
    let run = |words: &[&str]| -> Result<Vec<u8>, Failure> {
        let mut command = Command::new(program);
        command.env("GUESTPASS_DATA_DIR", directory).args(words);
        let output = command.output()?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(Failure(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )),
        }
    };
    let added = run(&["client", "add", BACK_END, "--confidential", "--json"])?;
    run(&[
        "client", "set", BACK_END, "--may", "link", "--claims", "customer",
    ])?;
    run(&[
        "client",
        "add",
        SHORT,
        "--refresh-idle",
        "1s",
        "--on-ended",
        "new_guest",
    ])?;
    let key = member(&added, "api_key").map(String::from_utf8_lossy);
    let key = key.ok_or_else(|| Failure("client add printed no key".to_owned()))?;
    Ok(key.into_owned())
}

/// A receiver of webhooks that takes everything, with threads that sleep for most of the time.
struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    taken: AtomicU64,
    millis: AtomicU64,
}

impl Receiver {
    fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Ok(Self { address, state })
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Sets the time after which it answers.
    fn take_time(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or_default();
        self.state.millis.store(millis, Ordering::Relaxed);
    }

    fn taken(&self) -> u64 {
        self.state.taken.load(Ordering::Relaxed)
    }

    /// Waits until nothing has come for some seconds.
    fn wait_until_idle(&self) {
        loop {
            let before = self.taken();
            thread::sleep(Duration::from_secs(3));
            if self.taken() == before {
                return;
            }
        }
    }
}

/// Answers the requests of a connection until it ends.
fn serve(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            } else if line.is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        thread::sleep(Duration::from_millis(state.millis.load(Ordering::Relaxed)));
        state.taken.fetch_add(1, Ordering::Relaxed);
        let mut stream = stream;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}
