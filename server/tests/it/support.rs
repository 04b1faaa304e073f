//! A server in the test's own process: the real router on a real database, with a clock that the test sets.
//!
//! [`TestApp::send`] is the way to the router. It checks, for every answer, what every answer must have, so that a test
//! states only what is special to its case.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass::app::App;
use guestpass::clients;
use guestpass::clock::{Clock, SteadyClock};
use guestpass::config::{Admin, Config};
use guestpass::events::EventRecorder;
use guestpass::journal::{Entry, Journal};
use guestpass::keys::{KeyRing, MasterKey, MasterKeySource};
use guestpass::listen::{self, Settings};
use guestpass::start::{Parts, start};
use guestpass::store::{Store, Write};
use guestpass::timekeeper::Timekeeper;
use guestpass::upkeep::Cleaner;
use guestpass_core::client::{Change, ClientSettings};
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tower::ServiceExt;

mod answer;
pub(crate) mod binary;
pub(crate) mod certified;
pub(crate) mod connection;
mod damage;
mod database;
mod described;
mod fakes;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) mod faults;
mod forge;
mod live;
mod log;
mod overheard;
pub(crate) mod receiver;
mod request;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod shim;
mod stored;

use binary::PATIENCE;

pub(crate) use answer::{Answer, Tokens};
pub(crate) use connection::Connection;
pub(crate) use damage::GrantsInFile;
pub(crate) use database::{Alone, Backend, Database, Row};
pub(crate) use fakes::{FakeClock, SeededRandom};
pub(crate) use forge::{Forged, forms_of};
pub(crate) use log::{TextLog, lines_of};
pub(crate) use overheard::{Overheard, Statement};
pub(crate) use request::{
    Sent, attributes, authorize, exchange, introspect, link, percent, profile, refresh, request,
    revoke, session, ticket, verify,
};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use shim::shim;
pub(crate) use stored::Stored;

/// The API's own example of a verifier and its challenge.
pub(crate) const VERIFIER: &str = "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY";
pub(crate) const CHALLENGE: &str = "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ";
/// A well-formed verifier that no challenge here was made of.
pub(crate) const WRONG_VERIFIER: &str = "wrong-wrong-wrong-wrong-wrong-wrong-wrong-w";
pub(crate) const REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:oob:auto";
pub(crate) const ISSUER: &str = "https://id.example";

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The public client that every [`TestApp`] has.
pub(crate) const SHOP: &str = "shop";

const JOURNAL: &str = "guestpass.journal";

pub(crate) struct TestApp {
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) database: Database,
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    config: Arc<Config>,
    master_key: MasterKey,
    /// The directory of the journal.
    directory: Arc<TempDir>,
}

impl TestApp {
    /// Starts a server with the default policy and the public client [`SHOP`].
    pub(crate) async fn new() -> Self {
        Self::with_policy(Policy::default()).await
    }

    /// Starts a server with another policy.
    pub(crate) async fn with_policy(policy: Policy) -> Self {
        Self::with_config(Config {
            policy,
            ..config(&[])
        })
        .await
    }

    /// Starts a server with this configuration, as far as it matters to a router.
    pub(crate) async fn with_config(config: Config) -> Self {
        Self::on(Backend::of_this_run(), config).await
    }

    /// Starts a server with this configuration on a backend that isn't this run's.
    pub(crate) async fn on(backend: Backend, config: Config) -> Self {
        let random = Arc::new(SeededRandom::new());
        let database = Database::new(backend, &*random).await;
        Self::with_database(database, random, config).await
    }

    /// Starts a server on PostgreSQL behind a proxy that records its statements.
    pub(crate) async fn overheard(config: Config) -> (Self, Overheard) {
        let random = Arc::new(SeededRandom::new());
        let database = Database::new(Backend::Postgres, &*random).await;
        let (database, overheard) = database.overheard();
        let test = Self::with_database(database, random, config).await;
        (test, overheard)
    }

    async fn with_database(database: Database, random: Arc<SeededRandom>, config: Config) -> Self {
        log::start();
        let directory = Arc::new(TempDir::new().unwrap());
        let master_key = MasterKey::generate(&*random);
        let clock = Arc::new(FakeClock::new());
        let test = Self::start(config, database, directory, master_key, clock, random).await;
        test.add_client(SHOP, ClientSettings::default()).await;
        test
    }

    /// Starts another server on the same database, journal and clock: as in another process, or after a restart.
    pub(crate) async fn beside(&self, config: Config) -> Self {
        let (database, directory) = (self.database.clone(), self.directory.clone());
        let (clock, random) = (self.clock.clone(), self.random.clone());
        let master_key = self.master_key.clone();
        Self::start(config, database, directory, master_key, clock, random).await
    }

    /// Starts a server on an existing database and journal, as `serve` does.
    async fn start(
        config: Config,
        database: Database,
        directory: Arc<TempDir>,
        master_key: MasterKey,
        clock: Arc<FakeClock>,
        random: Arc<SeededRandom>,
    ) -> Self {
        let config = Config {
            journal: directory.path().join(JOURNAL),
            ..config
        };
        let store = database.open(&config).await;
        let source = MasterKeySource {
            present: Some(master_key.clone()),
            make: &|| unreachable!(),
        };
        let (schedule, now) = (config.schedule.clone(), clock.now());
        let keys = KeyRing::load(store.clone(), source, random.clone(), schedule, now);
        let steady_clock = Arc::new(SteadyClock::new(clock.clone()));
        if !clock.has_jumped() {
            // As a server that ran until now would have.
            store.write(Write::NoteTime(clock.now())).await.unwrap();
        }
        Timekeeper::begin(&*store, &steady_clock).await.unwrap();
        let parts = Parts {
            store: store.clone(),
            keys: keys.await.unwrap(),
            issuer: config
                .issuer
                .clone()
                .unwrap_or_else(|| ISSUER.parse().unwrap()),
            clock: steady_clock,
            random: random.clone(),
        };
        let app = start(&config, parts).await.unwrap();
        app.follow().await;
        let router = guestpass::http::router(app.clone());
        Self {
            clock,
            random,
            store,
            database,
            app,
            router,
            config: Arc::new(config),
            master_key,
            directory,
        }
    }

    /// Returns a recorder of events by this server's configuration.
    pub(crate) fn recorder(&self) -> EventRecorder {
        let clock = Arc::new(SteadyClock::new(self.clock.clone()));
        EventRecorder::new(self.config.events.recorded, clock, self.random.clone())
    }

    /// Adds a client and lets the server see it.
    pub(crate) async fn add_client(&self, id: &str, settings: ClientSettings) {
        let id = id.parse().unwrap();
        self.change(Change::AddClient {
            id,
            settings,
            api_key: None,
            now: self.clock.now(),
        })
        .await;
    }

    /// Adds a confidential client and returns its API key.
    pub(crate) async fn add_confidential_client(&self, id: &str) -> String {
        let confidential = ClientSettings {
            confidential: Some(true),
            ..ClientSettings::default()
        };
        self.add_client(id, confidential).await;
        self.add_api_key(id, None).await
    }

    /// Gives a client one more API key.
    pub(crate) async fn add_api_key(&self, id: &str, expires_at: Option<Timestamp>) -> String {
        let (id, now) = (id.parse().unwrap(), self.clock.now());
        let added = clients::add_api_key(&*self.store, id, expires_at, &*self.random, now).await;
        let secret = added.unwrap();
        self.app.clients().refresh().await.unwrap();
        secret.expose().to_owned()
    }

    /// Changes a client's settings.
    pub(crate) async fn set_client(&self, id: &str, settings: ClientSettings) {
        self.change(Change::SetClient {
            id: id.parse().unwrap(),
            settings,
        })
        .await;
    }

    /// Disables a client, or enables it again.
    pub(crate) async fn disable_client(&self, id: &str, disabled: bool) {
        let settings = ClientSettings {
            disabled: Some(disabled),
            ..ClientSettings::default()
        };
        self.set_client(id, settings).await;
    }

    /// Makes a change of an operator, and lets the server follow it.
    pub(crate) async fn change(&self, change: Change) {
        self.store.change(change).await.unwrap();
        self.app.clients().refresh().await.unwrap();
    }

    /// Sends a request through the whole router.
    pub(crate) async fn send(&self, request: Sent) -> Answer {
        let log_start = log::length();
        let secrets = request.secrets();
        let request = request.into_request();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = self.send_http(request).await;
        answer.check(&method);
        let reads_cookies = path.ends_with("/session") || path.ends_with("/ticket");
        let allows_them = answer.header("access-control-allow-credentials").is_some();
        assert!(reads_cookies || !allows_them, "{answer:?}");
        described::check(&self.router, &method, &path, &answer).await;
        log::assert_free_of(log_start, secrets.iter().chain(&answer.secrets()));
        answer
    }

    /// Sends a request that [`Sent`] can't make.
    pub(crate) async fn send_http(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        Answer::read(response).await
    }

    /// Sends a request, and disconnects before there is an answer.
    pub(crate) async fn abandon(&self, request: Sent) {
        let answer = self.router.clone().oneshot(request.into_request());
        tokio::select! {
            biased;
            _ = answer => {}
            () = std::future::ready(()) => {}
        }
    }

    /// Sends all requests concurrently, each from a task of its own, and returns the answers in their order.
    pub(crate) async fn at_once(self: &Arc<Self>, requests: Vec<Sent>) -> Vec<Answer> {
        let start = Arc::new(Barrier::new(requests.len()));
        let send = |request| {
            let (test, start) = (Arc::clone(self), Arc::clone(&start));
            tokio::spawn(async move {
                start.wait().await;
                test.send(request).await
            })
        };
        let sent: Vec<_> = requests.into_iter().map(send).collect();
        let mut answers = Vec::new();
        for answer in sent {
            answers.push(answer.await.unwrap());
        }
        answers
    }

    /// Sends a request that must be refused with a `400`, that `error`, and no change to any row.
    pub(crate) async fn refused(&self, request: Sent, error: &str) -> Answer {
        let (row, before) = (format!("{request:?}"), self.rows().await);
        let answer = self.send(request).await;
        assert_eq!(
            (answer.status, answer.error()),
            (StatusCode::BAD_REQUEST, error),
            "{row} {answer:?}"
        );
        assert_eq!(
            self.rows().await,
            before,
            "{row} a refused request must change nothing"
        );
        answer
    }

    /// Serves the router on a loopback socket, for what only a connection can show, until the test ends.
    pub(crate) async fn listen(&self) -> SocketAddr {
        self.listen_with(Settings::default()).await
    }

    /// Does the same with other settings than a server has by default.
    pub(crate) async fn listen_with(&self, settings: Settings) -> SocketAddr {
        self.serve_until(settings, std::future::pending()).await.0
    }

    /// Does the same until `stop` is done and the connections have drained, which the returned task waits for.
    pub(crate) async fn serve_until(
        &self,
        settings: Settings,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone();
        (
            address,
            tokio::spawn(listen::serve(listener, settings, router, stop)),
        )
    }

    /// Lets a cleaner that trusts the clock take a step.
    pub(crate) async fn clean(&self) {
        let mut cleaner = Cleaner::new(&self.app, config(&[]).keep, false);
        cleaner.step().await.unwrap();
    }

    /// Takes a new guest of the client through authorize, and returns the code.
    pub(crate) async fn code(&self, client_id: &str) -> String {
        let answer = self.send(authorize().set("client_id", client_id)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.text("code")
    }

    /// Takes a new guest of [`SHOP`] through authorize and exchange.
    pub(crate) async fn guest(&self) -> Tokens {
        let code = self.code(SHOP).await;
        self.granted(exchange(&code)).await
    }

    /// Sends a token request that must be granted.
    pub(crate) async fn granted(&self, request: Sent) -> Tokens {
        self.send(request).await.tokens()
    }

    /// Returns every row of guests and grants as text, in the order of their keys: for comparing before with after.
    pub(crate) async fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for table in ["profiles", "grants"] {
            let all = format!("select * from {table} order by 1, 2");
            let all = self.sql(&all).await;
            rows.extend(all.iter().map(|row| format!("{table}: {row:?}")));
        }
        rows
    }

    /// Counts the rows of a table.
    pub(crate) async fn count(&self, table: &str) -> u64 {
        let count = format!("select count(*) from {table}");
        self.database.number(&count).await.try_into().unwrap()
    }

    /// Returns the only number that a query answers with.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.database.number(sql).await
    }

    /// Returns what the operators' `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let admin = Admin::on((Ipv4Addr::LOCALHOST, 9090).into());
        let asked = request("GET", "/metrics").header("host", "localhost");
        let answer = self.ask_operators(admin, asked).await;
        String::from_utf8(answer.body).unwrap()
    }

    /// Sends a request to the operators' API.
    pub(crate) async fn ask_operators(&self, admin: Admin, request: Sent) -> Answer {
        let router = guestpass::http::admin::router(self.app.clone(), admin);
        Answer::read(router.oneshot(request.into_request()).await.unwrap()).await
    }

    /// Counts guests and grants.
    pub(crate) async fn counts(&self) -> (u64, u64) {
        (self.count("profiles").await, self.count("grants").await)
    }

    /// Runs SQL beside the server: [`Database::sql`].
    pub(crate) async fn sql(&self, sql: &str) -> Vec<Row> {
        self.database.sql(sql).await
    }

    /// Returns the bytes of the database and the journal.
    pub(crate) async fn stored(&self) -> Stored {
        let journal = std::fs::read(self.journal()).unwrap();
        let bytes = self.database.bytes().await;
        Stored::in_all(bytes.into_iter().chain([journal]))
    }

    /// Returns the path of the journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.directory.path().join(JOURNAL)
    }

    /// Returns the entries of the journal, without its marks.
    pub(crate) fn journaled(&self) -> Vec<Entry> {
        let mut entries = Journal::read(&self.journal()).unwrap();
        entries.retain(|entry| !entry.is_mark());
        entries
    }

    /// Stops the server with its threads and connections, and returns its database.
    pub(crate) fn stop(self) -> Database {
        self.database
    }
}

/// Polls until a condition holds. The deadline ends a test that would hang, and decides nothing else.
pub(crate) async fn until(done: impl AsyncFn() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("what was waited for didn't come");
}

/// Returns the configuration with these settings, each a name and a value.
pub(crate) fn config(settings: &[(&'static str, &str)]) -> Config {
    let settings = settings
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Config::from_sources(&settings.collect::<Vec<_>>(), Vec::new(), None).unwrap()
}

/// Returns a tenth of the rounds that a case asks for, or all of them if the environment has `GUESTPASS_TEST_FULL`.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how thorough this run is, which is nothing of the program's"
)]
pub(crate) fn thorough(rounds: usize) -> usize {
    match std::env::var_os("GUESTPASS_TEST_FULL") {
        Some(_) => rounds,
        None => rounds / 10,
    }
}

/// Returns the S256 challenge of a verifier (RFC 7636 §4.2).
pub(crate) fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}
