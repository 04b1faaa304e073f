//! A proxy that records the statements that a store sends to PostgreSQL (PostgreSQL's manual, "Message Formats").

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A statement as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// Its text, with one space between words.
    pub(crate) sql: String,
    /// The values of its parameters, in the binary format; `None` is null.
    pub(crate) values: Vec<Option<Vec<u8>>>,
    /// Tells whether it shares a transaction with another statement.
    pub(crate) in_transaction: bool,
}

impl Statement {
    /// Decodes the parameter `$number`, a `bigint`.
    pub(crate) fn number(&self, number: usize) -> i64 {
        let value = self.values[number - 1].as_deref().unwrap();
        i64::from_be_bytes(value.try_into().unwrap())
    }

    /// Decodes the number of elements of the parameter `$number`, an array. Its format begins with four 32-bit
    /// integers: the number of dimensions, a flag, the type of the elements, and the length of the first dimension.
    pub(crate) fn length(&self, number: usize) -> usize {
        let value = self.values[number - 1].as_deref().unwrap();
        match value.get(12..16) {
            Some(length) => i32::from_be_bytes(length.try_into().unwrap())
                .try_into()
                .unwrap(),
            None => 0,
        }
    }
}

/// A recording proxy between a store and the database. It forwards everything unchanged.
#[derive(Clone)]
pub(crate) struct Overheard {
    address: SocketAddr,
    statements: Arc<Mutex<Vec<Statement>>>,
}

impl Overheard {
    /// Starts a proxy to the server at an address.
    pub(super) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let statements = Arc::default();
        let heard = Arc::clone(&statements);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                forward(client, server, &heard).unwrap();
            }
        });
        Self {
            address,
            statements,
        }
    }

    /// Returns the address to connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns whether all transactions that were recorded since the last [`Overheard::take`] have ended. A read-only
    /// one is rolled back in the background, after its answer.
    pub(crate) fn is_settled(&self) -> bool {
        let statements = self.statements.lock().unwrap();
        let count = |words: [&str; 2]| {
            let of = |statement: &&Statement| {
                let sql = statement.sql.to_lowercase();
                words.iter().any(|word| sql.starts_with(word))
            };
            statements.iter().filter(of).count()
        };
        count(["start", "begin"]) == count(["rollback", "commit"])
    }

    /// Returns the statements since the last call, without those that each new connection begins with.
    pub(crate) fn take(&self) -> Vec<Statement> {
        let mut statements = std::mem::take(&mut *self.statements.lock().unwrap());
        statements.retain(|statement| !begins_a_session(&statement.sql));
        statements
    }
}

/// Returns whether a statement is one that each connection begins with: the settings of its session, or the check that
/// the host takes writes.
fn begins_a_session(sql: &str) -> bool {
    sql.starts_with("set statement_timeout = ")
        || sql.eq_ignore_ascii_case("show transaction_read_only")
}

fn forward(
    client: TcpStream,
    server: SocketAddr,
    statements: &Arc<Mutex<Vec<Statement>>>,
) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // The transaction status of the last ReadyForQuery: idle at first.
    let status = Arc::new(AtomicU8::new(b'I'));
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    let said = Arc::clone(&status);
    // Each thread ends with the connection.
    thread::spawn(move || answers(from, to, &said));
    let statements = Arc::clone(statements);
    thread::spawn(move || requests(client, server, &status, &statements));
    Ok(())
}

fn requests(
    mut from: TcpStream,
    mut to: TcpStream,
    status: &AtomicU8,
    statements: &Mutex<Vec<Statement>>,
) -> io::Result<()> {
    let mut prepared = HashMap::new();
    let mut bound = None;
    let mut is_alone = true;
    // The first message has no type.
    let first = body(&mut from)?;
    to.write_all(&first)?;
    loop {
        let (kind, message) = message(&mut from)?;
        let mut rest = &message[4..];
        let statement = match kind {
            b'Q' => Some((text(&mut rest), Vec::new())),
            b'P' => {
                let name = text(&mut rest);
                prepared.insert(name, text(&mut rest));
                None
            }
            b'B' => {
                text(&mut rest);
                let sql = prepared[&text(&mut rest)].clone();
                bound = Some((sql, values(rest)));
                None
            }
            b'E' => bound.take(),
            _ => None,
        };
        if let Some((sql, values)) = statement {
            statements.lock().unwrap().push(Statement {
                sql: sql.split_whitespace().collect::<Vec<_>>().join(" "),
                values,
                in_transaction: status.load(Ordering::SeqCst) != b'I' || !is_alone,
            });
            is_alone = false;
        }
        // Sync or Query: the statements between two of these share a transaction.
        if matches!(kind, b'S' | b'Q') {
            is_alone = true;
        }
        to.write_all(&[kind])?;
        to.write_all(&message)?;
    }
}

fn answers(mut from: TcpStream, mut to: TcpStream, status: &AtomicU8) -> io::Result<()> {
    loop {
        let (kind, message) = message(&mut from)?;
        if kind == b'Z' {
            status.store(message[4], Ordering::SeqCst);
        }
        to.write_all(&[kind])?;
        to.write_all(&message)?;
    }
}

/// Reads a message: its type, and the rest including its length.
fn message(from: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    Ok((kind[0], body(from)?))
}

fn body(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut message = length.to_vec();
    message.resize(u32::from_be_bytes(length).try_into().unwrap(), 0);
    from.read_exact(&mut message[4..])?;
    Ok(message)
}

/// Takes a null-terminated string from the front.
fn text(rest: &mut &[u8]) -> String {
    let end = rest.iter().position(|byte| *byte == 0).unwrap();
    let text = String::from_utf8(rest[..end].to_vec()).unwrap();
    *rest = &rest[end + 1..];
    text
}

/// Decodes the parameters of a Bind message, from behind the names of the portal and the statement.
fn values(mut rest: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut take = |bytes: usize| {
        let (taken, behind) = rest.split_at(bytes);
        rest = behind;
        taken
    };
    let mut count = || usize::from(u16::from_be_bytes(take(2).try_into().unwrap()));
    let formats = count();
    for _ in 0..formats {
        count();
    }
    let values = count();
    let value = |_| {
        let length = i32::from_be_bytes(take(4).try_into().unwrap());
        usize::try_from(length)
            .ok()
            .map(|length| take(length).to_vec())
    };
    (0..values).map(value).collect()
}
