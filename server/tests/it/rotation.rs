//! Keys that change while the real binary is busy: every token that it gives is good, for itself and for those who
//! verify with the published keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use guestpass_verify::{KeySet, Rejection, RemoteKeySet, Unverified, Verifier, system_time};
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};

use crate::support::binary::{Binary, PATIENCE, Server, eventually};
use crate::support::{Connection, SHOP, Tokens, authorize, exchange, refresh, request, verify};

const ISSUER: &str = "https://id.example";

/// The number of concurrent clients.
const CLIENTS: usize = 3;

/// The number of tokens of a key that are verified before the next rotation.
const TOKENS: usize = 50;

const ROTATE: &[&str] = &["key", "rotate"];
const ROTATE_SEALING: &[&str] = &["key", "rotate", "--use", "credential"];

/// An operator who waits until the command agrees breaks no verifier, not even one that caches the key set as long as
/// it may.
#[test]
fn a_rotation_refuses_no_fresh_token() {
    let busy = Busy::start();
    for rotation in 0..rotations() {
        // Three sealing keys are the most: the first, and two that replace it.
        if rotation < 2 {
            eventually("the sealing key may be rotated", || {
                busy.binary.run(ROTATE_SEALING).code == Some(0)
            });
        }
        busy.rotate(ROTATE);
    }
    let seen = busy.stop();
    assert_eq!((seen.keys.len(), seen.late), (rotations() + 1, 0));
}

/// An operator who forces a rotation breaks only verifiers that have fetched the key set within the last seconds, until
/// they fetch it again.
#[test]
fn a_forced_rotation_refuses_no_fresh_token_here() {
    let busy = Busy::start();
    for _ in 0..3 * rotations() {
        busy.rotate(&["key", "rotate", "--force"]);
    }
    let seen = busy.stop();
    assert_eq!(seen.keys.len(), 3 * rotations() + 1);
}

#[test]
fn another_algorithm_is_announced_before_it_is_used() {
    let runtime = Runtime::new().unwrap();
    let mut binary = installation("HS256");
    let mut server = binary.serve();
    let mut issued = vec![server.guest()];
    for algorithm in ["ES256", "EdDSA"] {
        assert_eq!(server.stop().code(), Some(0));
        binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", algorithm);
        server = binary.serve();
        let mut published = Vec::new();
        eventually("it announces a key of the new algorithm", || {
            published = server.send(&request("GET", "/oauth/jwks")).body;
            String::from_utf8_lossy(&published).contains(algorithm)
        });
        eventually("it signs with the new algorithm", || {
            let last = refresh(&issued.last().unwrap().refresh_token);
            issued.push(server.send(&last).tokens());
            issued.last().unwrap().header["alg"] == algorithm
        });
        // A verifier that fetched the key set when it was announced may keep it for as long as allowed, and by then
        // every node knew the key too.
        let first = issued.last().unwrap();
        let keys = KeySet::from_jwks(&published).unwrap();
        let verified = Verifier::new(ISSUER).verify(&first.access_token, &keys, system_time());
        assert_eq!(verified.unwrap().subject, first.sub());
        let listed = binary.json(&["key", "list"]);
        let mut keys = listed.as_array().unwrap().iter();
        let key = keys.find(|key| key["kid"] == first.header["kid"]).unwrap();
        let waited = time(&key["current_at"]).duration_since(time(&key["created_at"]));
        assert!(waited.unwrap() >= Duration::from_secs(6), "{key}");
        // All that was issued until now is good: for the server, and for others if the key may be shown to them.
        let offline = Offline::new(&server, runtime.handle());
        for tokens in &issued {
            let answer = server.send(&verify(&tokens.access_token));
            assert_eq!(answer.status, StatusCode::OK, "{:?}", tokens.header);
            if tokens.header["alg"] != "HS256" {
                assert!(!offline.is_late(tokens));
            }
        }
    }
}

/// Returns the number of rotations: two, or as many as the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how thorough this run is, which is nothing of the program's"
)]
fn rotations() -> usize {
    match std::env::var("GUESTPASS_TEST_ROTATIONS") {
        Ok(rotations) => rotations
            .parse()
            .expect("GUESTPASS_TEST_ROTATIONS is a number"),
        Err(_) => 2,
    }
}

/// An installation that signs so, and whose key set may be kept for a second.
fn installation(algorithm: &str) -> Binary {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", algorithm);
    binary.set_variable("GUESTPASS_ISSUER", ISSUER);
    binary.set_variable("GUESTPASS_KEYS__JWKS_MAX_AGE", "1s");
    binary.set_variable("GUESTPASS_LOG__LEVEL", "error");
    binary.json(&["client", "add", SHOP]);
    binary
}

/// A server of which clients get one token after the other. They verify each at once, by asking the server and with the
/// published keys.
struct Busy {
    binary: Binary,
    server: Server,
    clients: Vec<JoinHandle<Seen>>,
    stopping: Arc<AtomicBool>,
    /// The key of each token that was good.
    verified: mpsc::Receiver<Value>,
    _runtime: Runtime,
}

/// The observations of the clients.
#[derive(Debug, Default)]
struct Seen {
    tokens: usize,
    /// The tokens whose key was not in the set that was fetched last, but in the published one.
    late: usize,
    keys: HashSet<Value>,
}

impl Busy {
    fn start() -> Self {
        let binary = installation("ES256");
        let (server, runtime) = (binary.serve(), Runtime::new().unwrap());
        let offline = Offline::new(&server, runtime.handle());
        let stopping = Arc::new(AtomicBool::new(false));
        let (sender, verified) = mpsc::channel();
        let clients = (0..CLIENTS).map(|_| {
            let (connection, offline) = (server.connect(), offline.clone());
            let (stopping, sender) = (Arc::clone(&stopping), sender.clone());
            std::thread::spawn(move || act(connection, &offline, &stopping, &sender))
        });
        let busy = Self {
            clients: clients.collect(),
            binary,
            server,
            stopping,
            verified,
            _runtime: runtime,
        };
        let listed = busy.binary.json(&["key", "list"]);
        let mut keys = listed.as_array().unwrap().iter();
        let first = keys.find(|key| key["use"] == "access-token" && key["state"] == "current");
        busy.wait_for(&first.unwrap()["kid"]);
        busy
    }

    /// Rotates the signing key as soon as the command does it, and waits until the new one is well used.
    fn rotate(&self, command: &[&str]) {
        let mut rotated = Value::Null;
        eventually("the key may be rotated", || {
            let ended = self.binary.run(&[&["--json"], command].concat());
            if ended.code == Some(0) {
                rotated = ended.json();
            }
            ended.code == Some(0)
        });
        self.wait_for(&rotated["current"]["kid"]);
    }

    fn wait_for(&self, kid: &Value) {
        for _ in 0..TOKENS {
            while self.verified.recv_timeout(PATIENCE).unwrap() != *kid {}
        }
    }

    fn stop(self) -> Seen {
        self.stopping.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let seen = client.join().unwrap();
            all.tokens += seen.tokens;
            all.late += seen.late;
            all.keys.extend(seen.keys);
        }
        assert_eq!(self.server.log(), "");
        println!(
            "{} tokens of {} keys, {} too early for those who had the keys of before",
            all.tokens,
            all.keys.len(),
            all.late
        );
        all
    }
}

/// A client: one new guest after the other, who comes back some times.
fn act(
    mut connection: Connection,
    offline: &Offline,
    stopping: &AtomicBool,
    verified: &mpsc::Sender<Value>,
) -> Seen {
    let mut seen = Seen::default();
    while !stopping.load(Ordering::Relaxed) {
        let code = connection.send(&authorize()).unwrap().text("code");
        let mut request = exchange(&code);
        for _ in 0..5 {
            let tokens = connection.send(&request).unwrap().tokens();
            let answer = connection.send(&verify(&tokens.access_token)).unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            seen.late += usize::from(offline.is_late(&tokens));
            seen.tokens += 1;
            seen.keys.insert(tokens.header["kid"].clone());
            let _ = verified.send(tokens.header["kid"].clone());
            request = refresh(&tokens.refresh_token);
        }
    }
    seen
}

/// Verifies with the published keys, as a resource server does.
#[derive(Clone)]
struct Offline {
    url: String,
    keys: RemoteKeySet,
    verifier: Verifier,
    runtime: Handle,
}

impl Offline {
    fn new(server: &Server, runtime: &Handle) -> Self {
        let url = format!("http://{}/oauth/jwks", server.address);
        Self {
            keys: RemoteKeySet::new(&url, PATIENCE).unwrap(),
            url,
            verifier: Verifier::new(ISSUER),
            runtime: runtime.clone(),
        }
    }

    /// Returns whether these keys are too old for a token, which must verify with the keys that are published now.
    fn is_late(&self, tokens: &Tokens) -> bool {
        let verified = |keys: &RemoteKeySet| {
            let verifying = keys.verify(&self.verifier, &tokens.access_token, system_time());
            self.runtime.block_on(verifying)
        };
        match verified(&self.keys) {
            Ok(token) => assert_eq!(token.subject, tokens.sub()),
            Err(Unverified::Rejected(Rejection::KeyUnknown)) => {
                verified(&RemoteKeySet::new(&self.url, PATIENCE).unwrap()).unwrap();
                return true;
            }
            Err(unverified) => panic!("{unverified:?}"),
        }
        false
    }
}

fn time(shown: &Value) -> SystemTime {
    humantime::parse_rfc3339(shown.as_str().unwrap()).unwrap()
}
