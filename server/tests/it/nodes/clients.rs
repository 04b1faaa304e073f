//! Clients as they are: each keeps a connection, and who gets a 503 or no answer asks again, at another node.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use crate::support::binary::PATIENCE;
use crate::support::{Answer, Connection, Sent};

/// A client of many nodes.
pub(super) struct Client {
    nodes: Vec<SocketAddr>,
    at: usize,
    connection: Option<Connection>,
}

impl Client {
    /// A client that asks the node at that place first.
    pub(super) fn new(nodes: &[SocketAddr], at: usize) -> Self {
        Self {
            nodes: nodes.to_vec(),
            at: at % nodes.len(),
            connection: None,
        }
    }

    /// Asks once.
    pub(super) fn ask(&mut self, request: &Sent) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.nodes[self.at])?,
        };
        let answer = connection.send(request)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Asks until there is an answer, which isn't a 503.
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

/// Clients that wait for what they are to ask, each in a thread of its own. They end with this.
pub(super) struct Clients {
    requests: Vec<mpsc::Sender<Sent>>,
    answers: mpsc::Receiver<(usize, Answer)>,
}

impl Clients {
    /// Clients that begin at one node after the other.
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

    /// Lets a client ask.
    pub(super) fn send(&self, at: usize, request: Sent) {
        self.requests[at].send(request).unwrap();
    }

    /// The next answer, and whose it is.
    pub(super) fn answer(&self) -> (usize, Answer) {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }
}
