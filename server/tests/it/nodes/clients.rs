//! Clients as they are in production: each keeps its connection, and retries at another node after a 503 or a lost
//! connection.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use crate::support::binary::PATIENCE;
use crate::support::{Answer, Connection, Sent};

/// A client that knows several nodes.
pub(super) struct Client {
    nodes: Vec<SocketAddr>,
    at: usize,
    connection: Option<Connection>,
}

impl Client {
    /// Makes a client that asks the node at that index first.
    pub(super) fn new(nodes: &[SocketAddr], at: usize) -> Self {
        Self {
            nodes: nodes.to_vec(),
            at: at % nodes.len(),
            connection: None,
        }
    }

    /// Sends a request once, to the present node.
    pub(super) fn ask(&mut self, request: &Sent) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.nodes[self.at])?,
        };
        let answer = connection.send(request)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Sends a request until the answer is something else than a 503, at one node after another.
    pub(super) fn insist(&mut self, request: &Sent) -> Answer {
        let start = Instant::now();
        loop {
            match self.ask(request) {
                Ok(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE => return answer,
                _ => self.connection = None,
            }
            assert!(start.elapsed() < PATIENCE, "nobody answers {request:?}");
            self.at = (self.at + 1) % self.nodes.len();
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Clients in threads of their own, each with a queue of requests. The threads end when this is dropped.
pub(super) struct Clients {
    requests: Vec<mpsc::Sender<Sent>>,
    answers: mpsc::Receiver<(usize, Answer)>,
}

impl Clients {
    /// Starts clients, and spreads them over the nodes in turn.
    pub(super) fn start(count: usize, nodes: &[SocketAddr]) -> Self {
        let (answered, answers) = mpsc::channel();
        let start = |at| {
            let (sender, requests) = mpsc::channel::<Sent>();
            let (mut client, answered) = (Client::new(nodes, at), answered.clone());
            std::thread::spawn(move || {
                for request in requests {
                    let _ = answered.send((at, client.insist(&request)));
                }
            });
            sender
        };
        Self {
            requests: (0..count).map(start).collect(),
            answers,
        }
    }

    /// Queues a request for the client at that index.
    pub(super) fn send(&self, at: usize, request: Sent) {
        self.requests[at].send(request).unwrap();
    }

    /// Waits for the next answer, and returns it with the index of its client.
    pub(super) fn answer(&self) -> (usize, Answer) {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }
}
