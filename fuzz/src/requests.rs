//! Whole requests against the router.

use std::cell::RefCell;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response, StatusCode};
use guestpass::app::App;
use guestpass::clock::{SteadyClock, SystemClock};
use guestpass::config::Config;
use guestpass::http;
use guestpass::keys::{KeyRing, MasterKey, MasterKeySource};
use guestpass::random::{Random, SecureGenerator};
use guestpass::start::{Parts, start};
use guestpass::store::Store;
use guestpass::store::sqlite::{SqliteStore, Synchronous};
use guestpass::timekeeper::Timekeeper;
use guestpass_core::client::{Change, ClientSettings};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Sends a request, written as in HTTP/1.1: a line `METHOD TARGET`, lines `name: value`, an empty line, the body. In all of
/// them `{code}`, `{refresh}` and `{access}` stand for what a guest has just got.
pub fn request(data: &[u8]) {
    thread_local!(static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) });
    SERVER.with_borrow_mut(|server| {
        let server = server.get_or_insert_with(Server::start);
        server.runtime.block_on(server.check(data));
    });
}

/// A server with one client, on a store that is never synced.
struct Server {
    runtime: Arc<Runtime>,
    router: Router,
    app: Arc<App>,
    store: Arc<dyn Store>,
    _directory: TempDir,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = Arc::new(runtime.expect("a runtime needs nothing"));
        let directory = TempDir::new().expect("there is room");
        let (app, store) = runtime.block_on(assemble(&directory));
        Self {
            runtime,
            router: http::router(Arc::clone(&app)),
            app,
            store,
            _directory: directory,
        }
    }

    async fn check(&self, data: &[u8]) {
        let Some(request) = self.read(data).await else {
            return;
        };
        let guests = self.guests().await;
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let (status, headers, body) = self.send(request).await;
        let context = format!(
            "{method} {path} {status} {}",
            String::from_utf8_lossy(&body)
        );
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{context}");
        assert_ne!(status, StatusCode::SERVICE_UNAVAILABLE, "{context}");
        assert!(headers.contains_key("x-content-type-options"), "{context}");
        if status.is_client_error() || status.is_server_error() {
            let is_told = method == "HEAD" || is_error(&body);
            assert!(is_told, "{context}");
            assert_eq!(
                self.guests().await,
                guests,
                "a refusal made or ended a guest: {context}"
            );
        }
        // Nothing that isn't ours may be handed on.
        assert!(
            !headers
                .values()
                .any(|value| value.as_bytes().contains(&b'\n')),
            "{context}"
        );
    }

    /// Reads a request. `None` if it can't be one.
    async fn read(&self, data: &[u8]) -> Option<Request<Body>> {
        let text = self.filled(std::str::from_utf8(data).ok()?).await;
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let mut request = Request::builder().method(method).uri(target);
        for line in lines {
            let (name, value) = line.split_once(": ")?;
            request = request.header(name, value);
        }
        request
            .header("host", HOST)
            .body(Body::from(body.to_owned()))
            .ok()
    }

    /// Puts in what a guest has just got.
    async fn filled(&self, text: &str) -> String {
        if !["{code}", "{refresh}", "{access}"]
            .iter()
            .any(|name| text.contains(name))
        {
            return text.to_owned();
        }
        let (code, spent) = (self.code().await, self.code().await);
        let body = format!(
            "grant_type=authorization_code&client_id=shop&redirect_uri={REDIRECT_URI}&code={spent}&code_verifier={VERIFIER}"
        );
        let exchange = Request::post("/oauth/token")
            .header("host", HOST)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body));
        let tokens = self.granted(exchange.expect("this is a request")).await;
        text.replace("{code}", &code)
            .replace(
                "{refresh}",
                tokens["refresh_token"].as_str().unwrap_or_default(),
            )
            .replace(
                "{access}",
                tokens["access_token"].as_str().unwrap_or_default(),
            )
    }

    async fn code(&self) -> String {
        let target = format!(
            "/oauth/authorize?response_type=code&client_id=shop&state=s&redirect_uri={REDIRECT_URI}\
             &code_challenge={CHALLENGE}&code_challenge_method=S256"
        );
        let request = Request::get(target)
            .header("host", HOST)
            .body(Body::empty());
        let answer = self.granted(request.expect("this is a request")).await;
        answer["code"].as_str().expect("a code is text").to_owned()
    }

    async fn granted(&self, request: Request<Body>) -> Value {
        let (status, _, body) = self.send(request).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("an answer is JSON")
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, Bytes) {
        // As a server does twice a second: nothing grows old.
        self.app.follow().await;
        let answer: Response<Body> = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX)
            .await
            .expect("an answer has an end");
        (parts.status, parts.headers, body)
    }

    async fn guests(&self) -> u64 {
        self.store
            .check()
            .await
            .expect("the store answers")
            .profiles
    }
}

fn is_error(body: &[u8]) -> bool {
    let Ok(error) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    error["error"].is_string() && error["error_description"].is_string()
}

async fn assemble(directory: &TempDir) -> (Arc<App>, Arc<dyn Store>) {
    let file = directory.path().join("guestpass.db");
    let settings = [
        ("issuer", "https://id.example".to_owned()),
        (
            "journal",
            directory.path().join("journal").display().to_string(),
        ),
    ];
    let config = Config::from_sources(&settings, Vec::new(), None).expect("these are good");
    let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
    SqliteStore::migrate(&file, &*random).expect("there is room");
    let store = SqliteStore::open(&file, Synchronous::Off).expect("there is room");
    let store: Arc<dyn Store> = Arc::new(store);
    let clock = Arc::new(SteadyClock::new(Arc::new(SystemClock::new())));
    Timekeeper::begin(&*store, &clock)
        .await
        .expect("the store answers");
    let change = Change::AddClient {
        id: "shop".parse().expect("this is an id"),
        settings: ClientSettings::default(),
        api_key: None,
        now: clock.now(),
    };
    store
        .change(change)
        .await
        .expect("there is no other client");
    let source = MasterKeySource {
        present: None,
        make: &|| Ok(MasterKey::generate(&*random)),
    };
    let schedule = config.schedule.clone();
    let keys = KeyRing::load(store.clone(), source, random.clone(), schedule, clock.now());
    let parts = Parts {
        store: store.clone(),
        keys: keys.await.expect("the installation is new"),
        issuer: config.issuer_on(&config.listen).expect("it is set"),
        clock,
        random: random.clone(),
    };
    let app = start(&config, parts).await.expect("nothing is wrong");
    (app, store)
}

const HOST: &str = "id.example";
const REDIRECT_URI: &str = "urn%3Aietf%3Awg%3Aoauth%3A2.0%3Aoob%3Aauto";
const VERIFIER: &str = "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY";
const CHALLENGE: &str = "p7CN1Zi4o5ARn1mYNvNFvj2r5cKkr2k6y7a573eHJXQ";
