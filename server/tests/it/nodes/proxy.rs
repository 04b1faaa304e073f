//! A fault-injecting proxy between a node and PostgreSQL. It parses as much of the protocol (PostgreSQL's manual, 54.7)
//! as it takes to know which statement a message belongs to.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The message about a statement that is dropped, and the connection with it.
#[derive(Clone, Copy)]
pub(super) enum Lost {
    /// The request: the statement never reaches the database.
    Request,
    /// The answer: the statement is committed, and the node isn't told.
    Answer,
}

/// A running proxy. It runs until the test's process ends.
pub(super) struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
}

/// The faults to inject.
#[derive(Default)]
struct Plan {
    /// A part of the text of the statements concerned.
    statement: &'static str,
    /// The fault for each such statement in turn; `None` lets it through.
    turns: Vec<Option<Lost>>,
    /// The number of times that `turns` is repeated.
    rounds: usize,
    seen: usize,
    broken: usize,
}

impl Proxy {
    /// Starts a proxy to the host of a URL, without faults.
    pub(super) fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            plan: Arc::default(),
        };
        let (host, plan) = (host(url).to_owned(), Arc::clone(&proxy.plan));
        std::thread::spawn(move || {
            for node in listener.incoming() {
                let (host, plan) = (host.clone(), Arc::clone(&plan));
                std::thread::spawn(move || drop(forward(&node.unwrap(), &host, &plan)));
            }
        });
        proxy
    }

    /// Returns the URL with the proxy as its host.
    pub(super) fn url(&self, url: &str) -> String {
        url.replace(host(url), &self.address.to_string())
    }

    /// Injects faults into the next statements that contain a text: those of `turns`, in order, `rounds` times.
    pub(super) fn lose(&self, statement: &'static str, turns: &[Option<Lost>], rounds: usize) {
        *self.plan.lock().unwrap() = Plan {
            statement,
            turns: turns.to_vec(),
            rounds,
            ..Plan::default()
        };
    }

    /// Ends the faults, and returns the number of those that were injected.
    pub(super) fn heal(&self) -> usize {
        std::mem::take(&mut *self.plan.lock().unwrap()).broken
    }
}

impl Plan {
    /// Decides on the fault for a statement.
    fn next(&mut self, statement: &str) -> Option<Lost> {
        if self.turns.is_empty() || !statement.contains(self.statement) {
            return None;
        }
        let (round, turn) = (self.seen / self.turns.len(), self.seen % self.turns.len());
        self.seen += 1;
        let lost = self.turns[turn].filter(|_| round < self.rounds);
        self.broken += usize::from(lost.is_some());
        lost
    }
}

fn host(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap().0
}

/// Forwards a connection of a node, until either side closes it or a fault does.
fn forward(mut node: &TcpStream, host: &str, plan: &Mutex<Plan>) -> io::Result<()> {
    let mut server = TcpStream::connect(host)?;
    node.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let is_last = Arc::new(AtomicBool::new(false));
    let answers = {
        let (server, node, is_last) = (server.try_clone()?, node.try_clone()?, is_last.clone());
        std::thread::spawn(move || {
            let _ = forward_answers(&server, &node, &is_last);
            let _ = server.shutdown(Shutdown::Both);
            let _ = node.shutdown(Shutdown::Both);
        })
    };
    // The first message has no type.
    let mut length = [0; 4];
    node.read_exact(&mut length)?;
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    node.read_exact(&mut rest)?;
    server.write_all(&[&length[..], &rest].concat())?;
    let mut statements: HashMap<Vec<u8>, String> = HashMap::new();
    while let Ok((kind, body)) = message(node) {
        let mut strings = body.split(|byte| *byte == 0);
        let (first, second) = (strings.next(), strings.next());
        let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
        if kind == b'P' {
            let sql = String::from_utf8_lossy(second).into_owned();
            statements.insert(first.to_vec(), sql);
        }
        let bound = statements.get(second).filter(|_| kind == b'B');
        match bound.and_then(|statement| plan.lock().unwrap().next(statement)) {
            None => {}
            Some(Lost::Request) => break,
            Some(Lost::Answer) => is_last.store(true, Ordering::SeqCst),
        }
        write_message(&server, kind, &body)?;
    }
    if !is_last.load(Ordering::SeqCst) {
        server.shutdown(Shutdown::Both)?;
        node.shutdown(Shutdown::Both)?;
    }
    let _ = answers.join();
    Ok(())
}

/// Forwards the server's messages. Once `is_last` is set it drops them, and ends when that statement is committed.
fn forward_answers(
    mut server: &TcpStream,
    node: &TcpStream,
    is_last: &AtomicBool,
) -> io::Result<()> {
    loop {
        let (kind, body) = message(server)?;
        if !is_last.load(Ordering::SeqCst) {
            write_message(node, kind, &body)?;
        } else if kind == b'Z' {
            // ReadyForQuery: the transaction is committed.
            return server.flush();
        }
    }
}

fn message(mut from: &TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    from.read_exact(&mut body)?;
    Ok((kind, body))
}

fn write_message(mut to: &TcpStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    to.write_all(&[&[kind], &length[..], body].concat())
}
