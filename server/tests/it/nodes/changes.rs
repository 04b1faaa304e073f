//! Every node follows a change that an operator makes, through another node or on the command line.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::installation::{GATEWAY, Installation, Node, add_gateway, kids};
use crate::support::binary::{Binary, PATIENCE, eventually};
use crate::support::{Answer, Connection, Sent, authorize, exchange, refresh, verify};

/// Waits until every node's answer to a request meets a condition.
fn all_answer(nodes: &[Node], request: &Sent, what: &str, condition: impl Fn(&Answer) -> bool) {
    for node in nodes {
        eventually(what, || condition(&node.server.send(request)));
    }
}

#[test]
fn every_node_follows_what_becomes_of_a_client() {
    let installation = Installation::new();
    let nodes = [installation.start("a"), installation.start("b")];
    let operator = installation.node("operator");
    let is_ok = |answer: &Answer| answer.status == StatusCode::OK;
    let is_refused = |answer: &Answer| answer.status == StatusCode::BAD_REQUEST;

    operator.json(&["client", "add", "app"]);
    let of_app = |request: Sent| request.set("client_id", "app");
    all_answer(&nodes, &of_app(authorize()), "a client is known", is_ok);

    operator.json(&["client", "set", "app", "--access-ttl", "1h"]);
    for (at, node) in nodes.iter().enumerate() {
        eventually("a policy is followed", || {
            let code = node.server.send(&of_app(authorize())).text("code");
            // A code of one node is redeemed at the other.
            let tokens = nodes[1 - at].server.send(&of_app(exchange(&code))).tokens();
            let life = ["exp", "iat"].map(|claim| tokens.claims[claim].as_i64().unwrap());
            life[0] - life[1] == 3600
        });
    }

    operator.json(&["client", "disable", "app"]);
    all_answer(
        &nodes,
        &of_app(authorize()),
        "a client is disabled",
        is_refused,
    );
    operator.json(&["client", "enable", "app"]);
    all_answer(&nodes, &of_app(authorize()), "a client is enabled", is_ok);
    operator.json(&["client", "remove", "app"]);
    all_answer(&nodes, &of_app(authorize()), "a client is gone", is_refused);

    let first = add_gateway(&operator);
    let of_gateway = |key: &str| {
        let request = authorize().set("client_id", GATEWAY);
        request.header("x-api-key", key)
    };
    all_answer(&nodes, &of_gateway(&first), "a key is known", is_ok);
    let added = operator.json(&["client", "key", "add", GATEWAY]);
    let second = added["api_key"].as_str().unwrap();
    all_answer(&nodes, &of_gateway(second), "a second key is known", is_ok);
    operator.json(&["client", "key", "revoke", GATEWAY, &first]);
    all_answer(&nodes, &of_gateway(&first), "a key is revoked", |answer| {
        !is_ok(answer)
    });
    all_answer(&nodes, &of_gateway(second), "the other key stays", is_ok);
}

/// The number of rotations of each kind.
const ROTATIONS: usize = 2;

#[test]
fn what_one_node_has_signed_or_sealed_all_others_take_at_once() {
    let busy = Busy::start();
    for _ in 0..ROTATIONS {
        busy.rotate(&["key", "rotate"]);
    }
    for _ in 0..ROTATIONS {
        busy.rotate(&["key", "rotate", "--force"]);
    }
    busy.rotate_sealing(&["key", "rotate", "--use", "credential"]);
    // The first run adds a key; the second promotes it early.
    busy.rotate_sealing(&["key", "rotate", "--use", "credential", "--force"]);
    busy.stop();
}

#[test]
fn a_node_that_slept_knows_what_was_sealed_meanwhile() {
    let installation = Installation::new();
    let nodes = [installation.start("awake"), installation.start("asleep")];
    let operator = installation.node("operator");
    let asleep = nodes[1].server.process_id().to_string();
    let signal = |name: &str| {
        let sent = Command::new("sh")
            .args(["-c", "kill -$0 $1", name, &asleep])
            .status();
        assert!(sent.unwrap().success());
    };
    let before = kids(&operator, "credential", "current");
    signal("STOP");
    operator.json(&["key", "rotate", "--use", "credential"]);
    eventually("the sealing key is used", || {
        kids(&operator, "credential", "current") != before
    });
    // The node that is awake has promoted it, and seals with it.
    let sealed: Vec<_> = (0..8)
        .map(|_| nodes[0].server.guest().refresh_token)
        .collect();
    let sent: Vec<_> = sealed
        .iter()
        .map(|token| {
            let mut connection = nodes[1].server.connect();
            connection.write(refresh(token).wire()).unwrap();
            connection
        })
        .collect();
    signal("CONT");
    for mut connection in sent {
        connection.answer_to(&Method::POST).unwrap().tokens();
    }
}

/// Two nodes under load: clients get tokens from one and have each verified by the other at once.
struct Busy {
    operator: Binary,
    nodes: [Node; 2],
    _installation: Installation,
    clients: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    /// The `kid` of each token that was verified.
    verified: mpsc::Receiver<Value>,
}

impl Busy {
    fn start() -> Self {
        let installation = Installation::new();
        let operator = signing(&installation, "operator");
        let nodes = ["a", "b"].map(|name| Node::start(signing(&installation, name)));
        let stopping = Arc::new(AtomicBool::new(false));
        let (sender, verified) = mpsc::channel();
        let clients = (0..3).map(|at| {
            let connections = [at, at + 1].map(|at| nodes[at % 2].server.connect());
            let (stopping, sender) = (Arc::clone(&stopping), sender.clone());
            std::thread::spawn(move || act(connections, &stopping, &sender))
        });
        Self {
            clients: clients.collect(),
            operator,
            nodes,
            _installation: installation,
            stopping,
            verified,
        }
    }

    /// Rotates the signing key as soon as that is allowed, and waits until 50 tokens of the new one were verified.
    fn rotate(&self, command: &[&str]) {
        let rotated = self.once_allowed(command);
        for _ in 0..50 {
            while self.verified.recv_timeout(PATIENCE).unwrap() != rotated["current"]["kid"] {}
        }
    }

    /// Rotates the sealing key, and waits until 50 tokens were verified after the new one is current.
    fn rotate_sealing(&self, command: &[&str]) {
        let before = kids(&self.operator, "credential", "current");
        self.once_allowed(command);
        eventually("the sealing key is used", || {
            if command.contains(&"--force") {
                self.operator.run(command);
            }
            kids(&self.operator, "credential", "current") != before
        });
        self.verified.try_iter().for_each(drop);
        for _ in 0..50 {
            self.verified.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn once_allowed(&self, command: &[&str]) -> Value {
        let mut rotated = Value::Null;
        eventually("the key may be rotated", || {
            let ended = self.operator.run(&[&["--json"], command].concat());
            if ended.code == Some(0) {
                rotated = ended.json();
            }
            ended.code == Some(0)
        });
        rotated
    }

    fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        for node in &self.nodes {
            assert_eq!(node.server.log(), "");
        }
    }
}

/// Configures a node that signs with ES256 and lets others cache its published keys for a second.
fn signing(installation: &Installation, name: &str) -> Binary {
    let mut binary = installation.node(name);
    binary.set_variable("GUESTPASS_TOKENS__ALGORITHM", "ES256");
    binary.set_variable("GUESTPASS_KEYS__JWKS_MAX_AGE", "1s");
    binary
}

/// Runs a client: one new guest after another, each of whom refreshes a few times, at alternating nodes.
fn act(mut nodes: [Connection; 2], stopping: &AtomicBool, verified: &mpsc::Sender<Value>) {
    while !stopping.load(Ordering::Relaxed) {
        let code = nodes[0].send(&authorize()).unwrap().text("code");
        let mut request = exchange(&code);
        for _ in 0..5 {
            nodes.reverse();
            let tokens = nodes[0].send(&request).unwrap().tokens();
            let answer = nodes[1].send(&verify(&tokens.access_token)).unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            let _ = verified.send(tokens.header["kid"].clone());
            request = refresh(&tokens.refresh_token);
        }
    }
}
