//! The operations that are counted: requests to the server's own router in this process, one after the other.
//!
//! Nothing but the operation changes from run to run: the clock goes on by a millisecond with each request, each comes from
//! another address, and randomness repeats itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN as ORIGIN_HEADER, SET_COOKIE,
};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use guestpass::clock::{Clock, SteadyClock};
use guestpass::config::Config;
use guestpass::keys::{KeyRing, MasterKey, MasterKeySource};
use guestpass::listen::Peer;
use guestpass::random::Random;
use guestpass::start::{Parts, start};
use guestpass::store::sqlite::SqliteStore;
use guestpass::store::{Registry, Store};
use guestpass::timekeeper::Timekeeper;
use guestpass::{http, telemetry};
use guestpass_core::client::{Change, ClientSettings};
use guestpass_core::pkce::{EXAMPLE_CHALLENGE, EXAMPLE_VERIFIER};
use guestpass_core::time::Timestamp;
use tower::ServiceExt;

use crate::answer::member;
use crate::failure::Failure;
use crate::guests::CLIENT_ID;
use crate::process;

/// Counted repetitions. Rare events, such as a new page of a table, are averaged out over so many.
pub(crate) const TIMES: usize = 500;

/// Guests that take turns, so that they fill several pages of a table.
const GUESTS: usize = 250;

#[derive(clap::Args)]
pub(crate) struct Repeat {
    operation: Operation,
    times: usize,
    directory: PathBuf,
    /// Run without rate limits
    #[arg(long)]
    unlimited: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Operation {
    Authorize,
    Exchange,
    Refresh,
    Verify,
    /// An authorization that a rate limit refuses.
    RateLimited,
    /// A session of a browser that has dropped its access token, which has expired.
    SessionRenewing,
    /// A session that makes a guest.
    SessionCreating,
    /// A gateway's question about a browser.
    VerifyCookie,
}

impl Operation {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Exchange => "exchange",
            Self::Refresh => "refresh",
            Self::Verify => "verify",
            Self::RateLimited => "rate-limited",
            Self::SessionRenewing => "session-renewing",
            Self::SessionCreating => "session-creating",
            Self::VerifyCookie => "verify-cookie",
        }
    }
}

/// Starts a server on a new directory, carries out the operation and ends the process.
pub(crate) fn run(repeat: &Repeat) -> Result<(), Failure> {
    // One thread for reads, so that it isn't left to chance how many connections a start opens, each at some 700,000
    // instructions.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    runtime.block_on(async {
        let codes = match repeat.operation {
            Operation::Exchange => 2 * TIMES,
            _ => 0,
        };
        let server = Server::start(&repeat.directory, repeat.unlimited).await?;
        let mut guests = Guests::sign_up(server, codes).await?;
        match repeat.operation {
            Operation::SessionRenewing | Operation::VerifyCookie => guests.begin_sessions().await?,
            Operation::SessionCreating => guests.fetch_seeds(2 * TIMES).await?,
            _ => {}
        }
        if let Operation::RateLimited = repeat.operation {
            guests.server.empty_bucket(FLOODER).await?;
        }
        for _ in 0..repeat.times {
            guests.carry_out(repeat.operation).await?;
        }
        // Closing the store would checkpoint, at a cost that grows with the number of operations.
        std::process::exit(0)
    })
}

/// Holds guests that are signed up, and codes of others; or browsers, by the cookie that each sends.
struct Guests {
    server: Server,
    codes: Vec<String>,
    tokens: Vec<Tokens>,
    cookies: Vec<String>,
    /// The same browsers, each with the cookie of its access token.
    jars: Vec<String>,
    next: usize,
}

struct Tokens {
    access: String,
    refresh: String,
}

impl Guests {
    async fn sign_up(server: Server, codes_left: usize) -> Result<Self, Failure> {
        let mut codes = Vec::new();
        for _ in 0..GUESTS + codes_left {
            codes.push(server.authorize().await?);
        }
        let mut tokens = Vec::new();
        for code in codes.drain(..GUESTS) {
            tokens.push(server.exchange(&code).await?);
        }
        Ok(Self {
            server,
            codes,
            tokens,
            cookies: Vec::new(),
            jars: Vec::new(),
            next: 0,
        })
    }

    /// Fetches the seeds of so many browsers.
    async fn fetch_seeds(&mut self, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            let answer = self.server.session(None).await?;
            self.cookies.push(cookie_of(&answer, SEED)?);
        }
        Ok(())
    }

    /// Makes the guests of some browsers.
    async fn begin_sessions(&mut self) -> Result<(), Failure> {
        self.fetch_seeds(GUESTS).await?;
        for cookie in &mut self.cookies {
            let answer = self.server.session(Some(cookie)).await?;
            *cookie = cookie_of(&answer, REFRESH_TOKEN)?;
            self.jars
                .push(format!("{}; {cookie}", cookie_of(&answer, ACCESS_TOKEN)?));
        }
        Ok(())
    }

    async fn carry_out(&mut self, operation: Operation) -> Result<(), Failure> {
        let at = self.next;
        self.next += 1;
        let tokens = &mut self.tokens[at % GUESTS];
        match operation {
            Operation::Authorize => self.server.authorize().await.map(drop),
            Operation::Exchange => self.server.exchange(&self.codes[at]).await.map(drop),
            Operation::Refresh => {
                *tokens = self.server.refresh(&tokens.refresh).await?;
                Ok(())
            }
            Operation::Verify => self.server.verify(&tokens.access).await,
            Operation::RateLimited => self.server.refused(FLOODER).await,
            Operation::SessionRenewing => {
                let cookie = &mut self.cookies[at % GUESTS];
                let answer = self.server.session(Some(cookie)).await?;
                *cookie = cookie_of(&answer, REFRESH_TOKEN)?;
                Ok(())
            }
            Operation::SessionCreating => {
                let answer = self.server.session(Some(&self.cookies[at])).await?;
                cookie_of(&answer, REFRESH_TOKEN).map(drop)
            }
            Operation::VerifyCookie => {
                let cookies = &self.jars[at % GUESTS];
                self.server.verify_cookies(cookies).await
            }
        }
    }
}

struct Server {
    router: Router,
    clock: Arc<StepClock>,
    /// Requests so far.
    sent: AtomicU32,
    _log: telemetry::Running,
}

impl Server {
    /// Starts a server as `guestpass serve` does it, with a clock and randomness of its own.
    async fn start(directory: &Path, unlimited: bool) -> Result<Self, Failure> {
        let journal = directory.join("journal").display().to_string();
        let settings = [
            ("issuer", "https://id.example".to_owned()),
            ("journal", journal),
            (
                "limits.mode",
                if unlimited { "off" } else { "enforce" }.to_owned(),
            ),
        ];
        let config = Config::from_sources(&settings, Vec::new(), None)?;
        let log = telemetry::start(config.log_level, config.log_format, config.log_repeats);
        std::fs::create_dir_all(directory)?;
        let file = process::database(directory);
        let random: Arc<dyn Random> = Arc::new(RepeatedRandom::default());
        let clock = Arc::new(StepClock::default());
        SqliteStore::migrate(&file, &*random)?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&file, config.synchronous)?);
        add_client(&*store, CLIENT_ID, ClientSettings::default(), clock.now()).await?;
        let of_page = ClientSettings {
            add_origins: vec![ORIGIN.parse().expect("this is an origin")],
            cookies: Some("guest".parse().expect("this is a name")),
            ..ClientSettings::default()
        };
        add_client(&*store, PAGE, of_page, clock.now()).await?;
        let source = MasterKeySource {
            present: None,
            make: &|| Ok(MasterKey::generate(&*random)),
        };
        let (schedule, now) = (config.schedule.clone(), clock.now());
        let steady_clock = Arc::new(SteadyClock::new(clock.clone()));
        Timekeeper::begin(&*store, &steady_clock).await?;
        let parts = Parts {
            keys: KeyRing::load(store.clone(), source, random.clone(), schedule, now).await?,
            store,
            issuer: config.issuer_on(&config.listen)?,
            clock: steady_clock,
            random: random.clone(),
        };
        let app = start(&config, parts).await?;
        app.follow().await;
        Ok(Self {
            router: http::router(app),
            clock,
            sent: AtomicU32::new(0),
            _log: log,
        })
    }

    /// Returns the code.
    async fn authorize(&self) -> Result<String, Failure> {
        let answer = self.send(authorization()?).await?;
        text(&answer, "code")
    }

    /// Signs up guests from one address until no more are let in.
    async fn empty_bucket(&self, address: Ipv4Addr) -> Result<(), Failure> {
        while self.send_from(address, authorization()?).await?.status() == StatusCode::OK {}
        Ok(())
    }

    /// Asks for a guest from an address that has had enough of them.
    async fn refused(&self, address: Ipv4Addr) -> Result<(), Failure> {
        self.send_from(address, authorization()?).await.map(drop)
    }

    async fn exchange(&self, code: &str) -> Result<Tokens, Failure> {
        self.token(format!(
            "client_id={CLIENT_ID}&grant_type=authorization_code&redirect_uri={REDIRECT_URI}\
             &code_verifier={EXAMPLE_VERIFIER}&code={code}"
        ))
        .await
    }

    async fn refresh(&self, token: &str) -> Result<Tokens, Failure> {
        self.token(format!(
            "client_id={CLIENT_ID}&grant_type=refresh_token&refresh_token={token}"
        ))
        .await
    }

    async fn token(&self, form: String) -> Result<Tokens, Failure> {
        let request = Request::post("/oauth/token")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into())?;
        let answer = self.send(request).await?;
        Ok(Tokens {
            access: text(&answer, "access_token")?,
            refresh: text(&answer, "refresh_token")?,
        })
    }

    async fn verify(&self, token: &str) -> Result<(), Failure> {
        let request =
            Request::get("/oauth/verify").header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(request.body(Body::empty())?).await.map(drop)
    }

    async fn verify_cookies(&self, cookies: &str) -> Result<(), Failure> {
        let path = format!("/oauth/verify?client_id={PAGE}");
        let request = Request::get(path).header(COOKIE, cookies);
        self.send(request.body(Body::empty())?).await.map(drop)
    }

    /// Asks for the session of a browser that sends this cookie, and returns the headers of the answer.
    async fn session(&self, cookie: Option<&str>) -> Result<HeaderMap, Failure> {
        let mut request = Request::post("/oauth/session")
            .header(ORIGIN_HEADER, ORIGIN)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        let answer = self.answered(request.body(format!("client_id={PAGE}").into())?);
        Ok(answer.await?.into_parts().0.headers)
    }

    /// Sends a request that must succeed and returns the body of the answer.
    async fn send(&self, request: Request<Body>) -> Result<Bytes, Failure> {
        Ok(self.answered(request).await?.into_body())
    }

    async fn answered(&self, request: Request<Body>) -> Result<Response<Bytes>, Failure> {
        let address = Ipv4Addr::from_bits(NETWORK + self.sent.fetch_add(1, Ordering::Relaxed));
        let answer = self.send_from(address, request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let said = String::from_utf8_lossy(answer.body());
        Err(Failure(format!("{}: {said}", answer.status())))
    }

    async fn send_from(
        &self,
        address: Ipv4Addr,
        mut request: Request<Body>,
    ) -> Result<Response<Bytes>, Failure> {
        self.clock.step();
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("id.example"));
        request
            .extensions_mut()
            .insert(Peer::from(SocketAddr::new(IpAddr::V4(address), 443)));
        let (head, body) = self.router.clone().oneshot(request).await?.into_parts();
        let body = to_bytes(body, usize::MAX).await?;
        Ok(Response::from_parts(head, body))
    }
}

/// The client of a page, with the cookies of its guests.
const PAGE: &str = "page";
const ORIGIN: &str = "https://id.example";
const SEED: &str = "__Host-guest-s";
const ACCESS_TOKEN: &str = "__Host-guest";
const REFRESH_TOKEN: &str = "__Host-guest-r";

/// Returns a cookie of an answer as the browser sends it.
fn cookie_of(answer: &HeaderMap, name: &str) -> Result<String, Failure> {
    let fields = answer.get_all(SET_COOKIE).iter();
    let mut texts = fields.filter_map(|field| field.to_str().ok()?.split(';').next());
    let found = texts.find(|text| {
        let value = text.strip_prefix(name);
        value.is_some_and(|value| value.starts_with('='))
    });
    found
        .map(ToOwned::to_owned)
        .ok_or_else(|| Failure(format!("an answer sets no {name}")))
}

/// 10.0.0.0, from which the addresses of callers count up.
const NETWORK: u32 = 10 << 24;

/// The address of whoever is refused.
const FLOODER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const REDIRECT_URI: &str = "urn%3Aietf%3Awg%3Aoauth%3A2.0%3Aoob%3Aauto";

fn authorization() -> Result<Request<Body>, Failure> {
    let request = Request::get(format!(
        "/oauth/authorize?redirect_uri={REDIRECT_URI}&response_type=code&client_id={CLIENT_ID}\
         &state=0123456789abcdef&code_challenge={EXAMPLE_CHALLENGE}&code_challenge_method=S256"
    ));
    Ok(request.body(Body::empty())?)
}

async fn add_client(
    store: &dyn Registry,
    id: &str,
    settings: ClientSettings,
    now: Timestamp,
) -> Result<(), Failure> {
    let change = Change::AddClient {
        id: id.parse().expect("this is an id"),
        settings,
        api_key: None,
        now,
    };
    store
        .change(change)
        .await
        .map_err(|error| Failure(format!("{error:?}")))
}

fn text(answer: &[u8], name: &str) -> Result<String, Failure> {
    let text = member(answer, name).ok_or_else(|| Failure(format!("an answer has no {name}")))?;
    Ok(String::from_utf8(text.to_vec())?)
}

/// Advances by a millisecond with each request: few enough that nothing becomes stale.
#[derive(Default)]
struct StepClock(AtomicU64);

impl StepClock {
    fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + self.monotonic()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Yields the same bytes in every run (SplitMix64).
#[derive(Default)]
struct RepeatedRandom(AtomicU64);

impl Random for RepeatedRandom {
    fn fill(&self, bytes: &mut [u8]) {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks_mut(8) {
            let mut mixed = self
                .0
                .fetch_add(GAMMA, Ordering::Relaxed)
                .wrapping_add(GAMMA);
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}
