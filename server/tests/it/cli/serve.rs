//! `guestpass serve`: one server per data directory, its keys, its database and its end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::binary::{Binary, PATIENCE, Server, eventually};
use crate::support::{SHOP, Tokens, exchange, refresh, request};

mod sqlite;

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn a_server_says_where_it_listens_and_is_ready() {
    let binary = Binary::new();
    let server = binary.serve();
    assert!(server.address.ip().is_loopback() && server.address.port() != 0);
    assert_eq!(
        server.send(&request("GET", "/readyz")).json(),
        json!({"status": "ready", "clock": "trusted"})
    );
}

#[test]
fn tokens_name_the_issuer_that_was_configured() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve_with(&["--issuer", "https://id.example", "--json"]);
    let announced: Value = serde_json::from_str(&server.announced).unwrap();
    let listening = format!("http://{}", server.address);
    assert_eq!(
        announced,
        json!({"listening": listening, "issuer": "https://id.example"})
    );
    assert_eq!(server.guest().claims["iss"], "https://id.example");
}

#[test]
fn a_server_that_is_asked_to_end_answers_what_is_under_way() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let address = server.address;
    let _idle = server.connect();
    let body = exchange("nonsense").encoded();
    let head = [
        "POST /oauth/token HTTP/1.1".to_owned(),
        "host: id.example".to_owned(),
        "content-type: application/x-www-form-urlencoded".to_owned(),
        format!("content-length: {}", body.len()),
        "connection: close".to_owned(),
        "expect: 100-continue\r\n\r\n".to_owned(),
    ];
    let mut begun = TcpStream::connect(address).unwrap();
    begun.set_read_timeout(Some(PATIENCE)).unwrap();
    begun.write_all(head.join("\r\n").as_bytes()).unwrap();
    // The server waits for the rest of the request, and says so.
    let mut goes_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    begun.read_exact(&mut goes_on).unwrap();
    assert!(goes_on.starts_with(b"HTTP/1.1 100 "));

    let stopping = std::thread::spawn(move || server.stop());
    eventually("nobody listens any more", || {
        TcpStream::connect(address).is_err()
    });
    begun.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    begun.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_grant"),
        "{answer}"
    );
    assert_eq!(stopping.join().unwrap().code(), Some(0));
}

/// A new installation with a guest, its server gone again.
fn guest(binary: &Binary) -> Tokens {
    binary.json(&["client", "add", SHOP]);
    let server = binary.serve();
    let tokens = server.guest();
    ended(server);
    tokens
}

/// Starts a server, which must know the guest.
fn still_served(binary: &Binary, tokens: &Tokens) {
    let server = binary.serve();
    server.send(&refresh(&tokens.refresh_token)).tokens();
    ended(server);
}

/// The setting as `config show` has it: its value, and where that comes from.
fn master_key_file(binary: &Binary) -> (String, String) {
    let shown = binary.json(&["config", "show"]);
    let mut settings = shown.as_array().unwrap().iter();
    let setting = settings.find(|setting| setting["name"] == "master_key_file");
    let text = |member| setting.unwrap()[member].as_str().unwrap().to_owned();
    (text("value"), text("origin"))
}

fn of(file: &Path, origin: &str) -> (String, String) {
    (file.display().to_string(), origin.to_owned())
}

fn ended(server: Server) {
    assert_eq!(server.stop().code(), Some(0));
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_journal_that_is_not_the_databases_own_is_pointed_out() {
    let binary = Binary::new();
    let alarms = |server: &Server| server.log().matches("not the journal").count();
    let mut server = binary.serve();
    assert!(server.stop().success());
    server = binary.serve();
    assert_eq!(alarms(&server), 0, "{}", server.log());
    assert!(server.stop().success());
    std::fs::remove_file(binary.data_dir().join("guestpass.journal")).unwrap();
    server = binary.serve();
    assert_eq!(alarms(&server), 1, "{}", server.log());
    assert!(server.stop().success());
    server = binary.serve();
    assert_eq!(alarms(&server), 1, "{}", server.log());
}
