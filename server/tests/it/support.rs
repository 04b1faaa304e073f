//! A server in the test's own process: the real router on a real SQLite file, with a clock that the test turns.
//!
//! [`TestApp::send`] is the only way to the router. It checks there, for every answer, what every answer must have, so
//! that a test states only what is special to its case.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass::app::App;
use guestpass::clock::Clock;
use guestpass::config::Config;
use guestpass::keys::{Keys, MasterKey};
use guestpass::metrics::Metrics;
use guestpass::random::Random;
use guestpass::registry::{self, Clients};
use guestpass::store::sqlite::SqliteStore;
use guestpass::store::{Change, ClientSettings, Registry};
use guestpass_core::policy::Policy;
use guestpass_core::time::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tower::ServiceExt;

pub(crate) mod binary;
pub(crate) mod connection;
mod log;
mod stored;

pub(crate) use connection::Connection;
pub(crate) use log::{TextLog, lines_of};
pub(crate) use stored::Stored;

/// The API's own example of a verifier and its challenge.
pub(crate) const VERIFIER: &str = "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY";
pub(crate) const CHALLENGE: &str = "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ";
/// Well-formed, and behind no challenge used here.
pub(crate) const WRONG_VERIFIER: &str = "wrong-wrong-wrong-wrong-wrong-wrong-wrong-w";
pub(crate) const REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:oob:auto";
pub(crate) const ISSUER: &str = "https://id.example";

/// The public client that every [`TestApp`] has.
pub(crate) const SHOP: &str = "shop";

pub(crate) struct TestApp {
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    directory: TempDir,
}

impl TestApp {
    /// A server with the default policy and the public client [`SHOP`].
    pub(crate) async fn new() -> Self {
        Self::with_policy(Policy::default()).await
    }

    /// A server with another policy.
    pub(crate) async fn with_policy(policy: Policy) -> Self {
        log::start();
        let directory = TempDir::new().unwrap();
        let clock = Arc::new(FakeClock::new());
        let random = Arc::new(SeededRandom::new());
        let file = directory.path().join("guestpass.db");
        SqliteStore::migrate(&file, &*random).unwrap();
        let config = Config::from_sources(&[], Vec::new(), None).unwrap();
        let store = Arc::new(SqliteStore::open(&file, config.synchronous).unwrap());
        let master_key = MasterKey::generate(&*random);
        let keys = Keys::load(
            &*store,
            Some(master_key),
            || unreachable!(),
            &*random,
            clock.now(),
        );
        let app = Arc::new(App {
            grants: store.clone(),
            clients: Clients::load(store.clone()).await.unwrap(),
            keys: Arc::new(keys.await.unwrap()),
            policy,
            issuer: ISSUER.parse().unwrap(),
            audience: None,
            base_paths: config.base_paths,
            metrics: Metrics::new(store.batches()),
            clock: clock.clone(),
            random: random.clone(),
        });
        let router = guestpass::http::router(app.clone());
        let test = Self {
            clock,
            random,
            store,
            app,
            router,
            directory,
        };
        test.add_client(SHOP, ClientSettings::default()).await;
        test
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

    /// Adds a confidential client and answers its API key.
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
        let added = registry::add_api_key(&*self.store, id, expires_at, &*self.random, now).await;
        let secret = added.unwrap();
        self.app.clients.refresh().await.unwrap();
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

    /// Does what an operator would, and lets the server see it.
    pub(crate) async fn change(&self, change: Change) {
        self.store.change(change).await.unwrap();
        self.app.clients.refresh().await.unwrap();
    }

    /// Sends a request through the whole router.
    pub(crate) async fn send(&self, request: Sent) -> Answer {
        let log_start = log::length();
        let secrets = request.secrets();
        let request = request.into_request();
        let method = request.method().clone();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let answer = Answer::read(response).await;
        answer.check(&method);
        log::assert_free_of(log_start, secrets.iter().chain(&answer.secrets()));
        answer
    }

    /// Sends a request, and is gone before there is an answer.
    pub(crate) async fn abandon(&self, request: Sent) {
        let answer = self.router.clone().oneshot(request.into_request());
        tokio::select! {
            biased;
            _ = answer => {}
            () = std::future::ready(()) => {}
        }
    }

    /// Sends all requests at the same time, each from a task of its own, and answers in their order.
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
        let (row, before) = (format!("{request:?}"), self.rows());
        let answer = self.send(request).await;
        assert_eq!(
            (answer.status, answer.error()),
            (StatusCode::BAD_REQUEST, error),
            "{row} {answer:?}"
        );
        assert_eq!(
            self.rows(),
            before,
            "{row} a refused request must change nothing"
        );
        answer
    }

    /// Serves the router on a loopback socket, for what only a connection can show, until the test ends.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone();
        tokio::spawn(guestpass::listen::serve(
            listener,
            router,
            std::future::pending(),
        ));
        address
    }

    /// Takes a new guest of the client through authorize, and answers the code.
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

    /// Whether the refresh token works, found out on a copy of the store: asking must not change what is asked about.
    pub(crate) async fn is_live(&self, refresh_token: &str) -> bool {
        let copy = self.directory.path().join("copy.db");
        let _ = std::fs::remove_file(&copy);
        self.sql()
            .execute("vacuum into ?", [copy.to_str().unwrap()])
            .unwrap();
        let opened = rusqlite::Connection::open(&copy).unwrap();
        opened.pragma_update(None, "journal_mode", "wal").unwrap();
        drop(opened);
        let store =
            Arc::new(SqliteStore::open(&copy, guestpass::store::sqlite::Synchronous::Off).unwrap());
        let app = App {
            grants: store.clone(),
            clients: Clients::load(store.clone()).await.unwrap(),
            keys: self.app.keys.clone(),
            policy: self.app.policy.clone(),
            issuer: self.app.issuer.clone(),
            audience: None,
            base_paths: self.app.base_paths.clone(),
            metrics: Metrics::new(store.batches()),
            clock: self.clock.clone(),
            random: self.random.clone(),
        };
        let request = refresh(refresh_token).into_request();
        let response = guestpass::http::router(Arc::new(app))
            .oneshot(request)
            .await
            .unwrap();
        match response.status() {
            StatusCode::OK => true,
            StatusCode::BAD_REQUEST => false,
            status => panic!("the copy answers {status}"),
        }
    }

    /// Every row of guests and grants, as text: for comparing before with after.
    pub(crate) fn rows(&self) -> Vec<String> {
        let sql = self.sql();
        let mut rows = Vec::new();
        for table in ["profiles", "grants"] {
            let mut statement = sql.prepare(&format!("select * from {table}")).unwrap();
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                let values = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap()));
                rows.push(format!("{table}: {}", values.collect::<Vec<_>>().join(" ")));
            }
        }
        rows
    }

    /// How many rows a table has.
    pub(crate) fn count(&self, table: &str) -> u64 {
        self.sql()
            .query_row(&format!("select count(*) from {table}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    }

    /// A look at the database, beside the server.
    pub(crate) fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).unwrap()
    }

    /// The database file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("guestpass.db")
    }

    /// Ends the server, its threads and its connections, and keeps its files.
    pub(crate) fn stop(self) -> TempDir {
        self.directory
    }
}

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    method: Method,
    path: String,
    /// Names and values as they are meant; encoded when sent.
    parameters: Vec<(String, String)>,
    /// Stands behind the encoded parameters as it is.
    raw: String,
    headers: Vec<(String, Vec<u8>)>,
    form: Form,
}

/// Where the parameters go.
#[derive(Clone, Debug)]
enum Form {
    Query,
    Body,
    Json,
    Raw(Vec<u8>),
}

/// `AZ`: an authorization request that is right in every way.
pub(crate) fn authorize() -> Sent {
    Sent::new(Method::GET, "/oauth/authorize", Form::Query).with(&[
        ("redirect_uri", REDIRECT_URI),
        ("response_type", "code"),
        ("client_id", SHOP),
        ("state", "a1F5Kdf5Dhn123"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ])
}

/// `TC`: a token request for a code that is right in every way.
pub(crate) fn exchange(code: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/token", Form::Body).with(&[
        ("grant_type", "authorization_code"),
        ("client_id", SHOP),
        ("redirect_uri", REDIRECT_URI),
        ("code", code),
        ("code_verifier", VERIFIER),
    ])
}

/// `TR`: a refresh that is right in every way.
pub(crate) fn refresh(refresh_token: &str) -> Sent {
    Sent::new(Method::POST, "/oauth/token", Form::Body).with(&[
        ("grant_type", "refresh_token"),
        ("client_id", SHOP),
        ("redirect_uri", REDIRECT_URI),
        ("refresh_token", refresh_token),
    ])
}

/// Any other request.
pub(crate) fn request(method: &str, path: &str) -> Sent {
    Sent::new(
        Method::from_bytes(method.as_bytes()).unwrap(),
        path,
        Form::Query,
    )
}

impl Sent {
    fn new(method: Method, path: &str, form: Form) -> Self {
        let (parameters, headers) = (Vec::new(), Vec::new());
        Self {
            method,
            path: path.to_owned(),
            parameters,
            raw: String::new(),
            headers,
            form,
        }
    }

    fn with(mut self, parameters: &[(&str, &str)]) -> Self {
        self.parameters.extend(
            parameters
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        );
        self
    }

    /// Adds a parameter, or replaces it.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        self.unset(name).also(name, value)
    }

    /// Adds a parameter, even if it is there already.
    pub(crate) fn also(self, name: &str, value: &str) -> Self {
        self.with(&[(name, value)])
    }

    /// Removes a parameter.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.parameters.retain(|(known, _)| known != name);
        self
    }

    /// Replaces a parameter by text that is encoded already, or broken on purpose.
    pub(crate) fn set_raw(mut self, name: &str, encoded: &str) -> Self {
        self = self.unset(name);
        self.raw = format!("{}&{name}={encoded}", self.raw);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        self.method = Method::from_bytes(method.as_bytes()).unwrap();
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sends the parameters in the query, with an empty body.
    pub(crate) fn in_query(mut self) -> Self {
        self.form = Form::Query;
        self
    }

    /// Sends the parameters as a JSON object.
    pub(crate) fn in_json(mut self) -> Self {
        self.form = Form::Json;
        self
    }

    /// Sends this body instead of the parameters, without a content type unless a header says one.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.form = Form::Raw(body.as_ref().to_vec());
        self
    }

    /// The value of a parameter.
    pub(crate) fn value(&self, name: &str) -> &str {
        let mut parameters = self.parameters.iter();
        &parameters.find(|(known, _)| known == name).unwrap().1
    }

    /// The parameters, encoded.
    pub(crate) fn encoded(&self) -> String {
        let pairs = self
            .parameters
            .iter()
            .map(|(n, v)| format!("{}={}", percent(n), percent(v)));
        let encoded = pairs.collect::<Vec<_>>().join("&");
        format!("{encoded}{}", self.raw)
            .trim_start_matches('&')
            .to_owned()
    }

    /// The request target.
    pub(crate) fn target(&self) -> String {
        match &self.form {
            Form::Query if self.encoded().is_empty() => self.path.clone(),
            Form::Query => format!("{}?{}", self.path, self.encoded()),
            Form::Body | Form::Json | Form::Raw(_) => self.path.clone(),
        }
    }

    fn into_request(self) -> Request<Body> {
        self.into_http().map(Body::from)
    }

    fn into_http(self) -> Request<Vec<u8>> {
        let (content_type, body) = match &self.form {
            Form::Query => (None, Vec::new()),
            Form::Body => (
                Some("application/x-www-form-urlencoded"),
                self.encoded().into_bytes(),
            ),
            Form::Json => {
                let object: serde_json::Map<_, _> = self
                    .parameters
                    .iter()
                    .map(|(n, v)| (n.clone(), Value::from(v.as_str())))
                    .collect();
                (
                    Some("application/json"),
                    Value::from(object).to_string().into_bytes(),
                )
            }
            Form::Raw(body) => (None, body.clone()),
        };
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(self.target());
        if !self.headers.iter().any(|(name, _)| name == "host") {
            builder = builder.header(header::HOST, "id.example");
        }
        if let Some(content_type) = content_type
            && !self.headers.iter().any(|(name, _)| name == "content-type")
        {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        for (name, value) in &self.headers {
            builder = builder.header(name, &value[..]);
        }
        builder.body(body).unwrap()
    }

    /// What of this request must never be logged.
    fn secrets(&self) -> Vec<String> {
        const SECRET: [&str; 6] = [
            "code",
            "code_verifier",
            "refresh_token",
            "code_challenge",
            "api_key",
            "x-api-key",
        ];
        const SECRET_HEADERS: [&str; 4] =
            ["x-api-key", "authorization", "x-dressipi-jwt", "cookie"];
        let parameters = self
            .parameters
            .iter()
            .filter(|(name, _)| SECRET.contains(&name.as_str()));
        let headers = self
            .headers
            .iter()
            .filter(|(name, _)| SECRET_HEADERS.contains(&name.as_str()));
        let headers = headers.filter_map(|(_, value)| String::from_utf8(value.clone()).ok());
        let secrets = parameters
            .map(|(_, value)| value.clone())
            .chain(headers)
            .chain([self.encoded()]);
        secrets.filter(|secret| secret.len() >= 20).collect()
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// A member that is a string.
    pub(crate) fn text(&self, member: &str) -> String {
        self.json()[member]
            .as_str()
            .unwrap_or_else(|| panic!("no {member}: {self:?}"))
            .to_owned()
    }

    /// The `error` code.
    pub(crate) fn error(&self) -> &'static str {
        const CODES: [&str; 9] = [
            "invalid_request",
            "invalid_client",
            "unauthorized_client",
            "invalid_grant",
            "invalid_scope",
            "unsupported_grant_type",
            "unsupported_response_type",
            "temporarily_unavailable",
            "server_error",
        ];
        let error = self.text("error");
        CODES
            .into_iter()
            .find(|code| *code == error)
            .unwrap_or_else(|| panic!("unknown error: {self:?}"))
    }

    /// The one value of a header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        Some(value.to_str().unwrap())
    }

    /// The answer of the token endpoint, which must be one, checked member by member.
    pub(crate) fn tokens(&self) -> Tokens {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        assert!(
            self.body.len() <= 1536,
            "clients' storage can't hold {} bytes",
            self.body.len()
        );
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
        assert_eq!(json["token_type"], "Bearer");
        let access_token = self.text("access_token");
        let (header, payload) = (segment(&access_token, 0), segment(&access_token, 1));
        assert_eq!(
            json["expires_in"].as_i64().unwrap(),
            int(&payload, "exp") - int(&payload, "iat")
        );
        Tokens {
            access_token,
            refresh_token: self.text("refresh_token"),
            header,
            claims: payload,
        }
    }

    async fn read(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX)
            .await
            .unwrap()
            .to_vec();
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// What every answer must have (C140, C141, C142, C145).
    pub(crate) fn check(&self, method: &Method) {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("pragma", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(self.header(name), Some(value), "{self:?}");
        }
        assert!(
            self.header("content-security-policy")
                .unwrap()
                .starts_with("default-src 'none'")
        );
        assert!(self.header("x-request-id").unwrap().len() >= 16, "{self:?}");
        assert_eq!(self.header("server"), None);
        assert_eq!(self.header("location"), None);
        assert_ne!(self.header("access-control-allow-origin"), Some("*"));
        assert_eq!(self.header("access-control-allow-credentials"), None);
        if self.status == StatusCode::NO_CONTENT || method == Method::HEAD {
            return;
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        if self.status.is_success() {
            return;
        }
        let json = self.json();
        assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
        self.error();
        let description = self.text("error_description");
        assert!(!description.is_empty());
        let allowed = |byte| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        assert!(description.bytes().all(allowed), "{description}");
        if self.status == StatusCode::SERVICE_UNAVAILABLE
            || self.status == StatusCode::TOO_MANY_REQUESTS
        {
            assert!(self.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
            assert_eq!(self.error(), "temporarily_unavailable");
        }
        let is_401 = self.status == StatusCode::UNAUTHORIZED;
        assert_eq!(
            self.header("www-authenticate").is_some(),
            is_401,
            "{self:?}"
        );
    }

    fn secrets(&self) -> Vec<String> {
        let Ok(json) = serde_json::from_slice::<Value>(&self.body) else {
            return Vec::new();
        };
        let members = ["code", "access_token", "refresh_token"].map(|member| json[member].as_str());
        members
            .into_iter()
            .flatten()
            .map(ToOwned::to_owned)
            .collect()
    }
}

/// What the token endpoint gave, its access token decoded.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl Tokens {
    pub(crate) fn sub(&self) -> &str {
        self.claims["sub"].as_str().unwrap()
    }
}

fn segment(token: &str, at: usize) -> Value {
    let bytes = URL_SAFE_NO_PAD
        .decode(token.split('.').nth(at).unwrap())
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn int(claims: &Value, name: &str) -> i64 {
    claims[name]
        .as_i64()
        .unwrap_or_else(|| panic!("no {name}: {claims}"))
}

/// The S256 challenge of a verifier (RFC 7636 §4.2).
pub(crate) fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes()))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

/// Encodes all but unreserved characters, byte for byte.
pub(crate) fn percent(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A clock that stands still until it is turned.
pub(crate) struct FakeClock {
    millis: AtomicI64,
    monotonic_millis: AtomicU64,
}

impl FakeClock {
    fn new() -> Self {
        Self {
            millis: AtomicI64::new(1_800_000_000_000),
            monotonic_millis: AtomicU64::new(0),
        }
    }

    /// Time passes.
    pub(crate) fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap();
        self.monotonic_millis.fetch_add(millis, Ordering::SeqCst);
        self.jump(i64::try_from(millis).unwrap());
    }

    /// Time passes.
    pub(crate) fn advance_secs(&self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// Someone sets the clock.
    pub(crate) fn jump(&self, millis: i64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst))
    }
}

/// Randomness that is the same in every run and another in every test, so that a request's id finds its lines in the
/// log that all tests share: SHA-256 of the test's name and a counter.
pub(crate) struct SeededRandom {
    seed: String,
    counter: AtomicU64,
    panics: AtomicBool,
}

impl SeededRandom {
    pub(crate) fn new() -> Self {
        thread_local!(static MADE: Cell<u64> = const { Cell::new(0) });
        let thread = std::thread::current();
        Self {
            seed: format!(
                "{} {}",
                thread.name().unwrap(),
                MADE.replace(MADE.get() + 1)
            ),
            counter: AtomicU64::new(0),
            panics: AtomicBool::new(false),
        }
    }

    /// All that was drawn so far: each time, the beginning of such a block or the whole.
    pub(crate) fn drawn(&self) -> Vec<[u8; 32]> {
        let drawn = self.counter.load(Ordering::SeqCst);
        (0..drawn).map(|counter| self.block(counter)).collect()
    }

    fn block(&self, counter: u64) -> [u8; 32] {
        sha256(format!("{} {counter}", self.seed).as_bytes())
    }

    /// Makes the next draw for a guest or a token panic, as a defect in a handler would.
    pub(crate) fn panic_next(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Twelve bytes are a request id, which is drawn outside the handlers.
        assert!(
            bytes.len() == 12 || !self.panics.swap(false, Ordering::SeqCst),
            "a test asked for this panic"
        );
        for chunk in bytes.chunks_mut(32) {
            let block = self.block(self.counter.fetch_add(1, Ordering::SeqCst));
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}
