//! `guestpass serve`: one server per data directory, its keys, its database and its end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::binary::{Binary, PATIENCE, Server, eventually};
use crate::support::{SHOP, Tokens, exchange, refresh, request};

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[test]
fn a_server_says_where_it_listens_and_is_ready() {
    let binary = Binary::new();
    let server = binary.serve();
    assert!(server.address.ip().is_loopback() && server.address.port() != 0);
    assert_eq!(
        server.send(&request("GET", "/readyz")).json(),
        json!({"status": "ready"})
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
fn a_data_directory_has_one_server() {
    let binary = Binary::new();
    let first = binary.serve();
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    for named in [
        format!("process {} on http://{}", first.process_id(), first.address),
        binary.data_dir().display().to_string(),
    ] {
        assert!(problem.contains(&named), "{problem}");
    }
    assert_eq!(
        first.send(&request("GET", "/readyz")).status,
        StatusCode::OK
    );
    // However the first one ends, the next one starts.
    first.kill();
    let second = binary.serve();
    assert!(second.stop().success());
    binary.serve();
}

#[test]
fn a_master_key_is_made_once_and_for_its_owner_alone() {
    let binary = Binary::new();
    let tokens = guest(&binary);
    let file = binary.data_dir().join("master.key");
    let made = std::fs::read_to_string(&file).unwrap();
    assert_eq!(
        (made.len(), made.lines().count()),
        (45, 1),
        "base64 of 32 bytes, and a line's end"
    );
    for (path, mode) in [("master.key", 0o600), ("guestpass.db", 0o600), ("", 0o700)] {
        let permissions = std::fs::metadata(binary.data_dir().join(path))
            .unwrap()
            .permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{path}");
    }
    still_served(&binary, &tokens);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made);
}

#[test]
fn a_prepared_master_key_is_taken_and_a_lost_database_is_noticed() {
    let binary = Binary::new();
    std::fs::create_dir(binary.data_dir()).unwrap();
    let file = binary.data_dir().join("master.key");
    std::fs::write(&file, MASTER_KEY).unwrap();
    // It could be what is left of an installation, whose guests would be refused for good.
    for command in [&["serve"][..], &["client", "add", "shop"]] {
        assert!(binary.failure(command).contains("guestpass db migrate"));
        assert!(!binary.data_dir().join("guestpass.db").exists());
    }
    binary.json(&["db", "migrate"]);
    let tokens = guest(&binary);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), MASTER_KEY);

    // It is the one that counts, wherever it comes from.
    let mut binary = binary;
    std::fs::remove_file(&file).unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY", MASTER_KEY);
    still_served(&binary, &tokens);
    assert!(!file.exists());
}

#[test]
fn a_new_installation_takes_the_master_key_that_it_is_given() {
    let mut binary = Binary::new();
    let file = binary.working_dir().join("given.key");
    std::fs::write(&file, MASTER_KEY).unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", file.to_str().unwrap());
    let tokens = guest(&binary);
    still_served(&binary, &tokens);
    assert!(!binary.data_dir().join("master.key").exists());
}

#[test]
fn a_master_key_from_the_environment_is_kept_nowhere() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_MASTER_KEY", MASTER_KEY);
    binary.set_variable("GUESTPASS_LOG__LEVEL", "trace");
    let tokens = guest(&binary);
    still_served(&binary, &tokens);
    let raw: Vec<u8> = (0..32).collect();
    for path in files(binary.working_dir()) {
        let bytes = std::fs::read(&path).unwrap();
        for secret in [MASTER_KEY.as_bytes(), &raw] {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn a_systemd_credential_is_the_master_key_unless_another_file_is_named() {
    let mut binary = Binary::new();
    let credentials = binary.working_dir().join("credentials");
    let credential = credentials.join("guestpass.master_key");
    std::fs::create_dir(&credentials).unwrap();
    binary.set_variable("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap());
    // What else the unit is given is not ours.
    std::fs::write(credentials.join("tls.key"), "something else").unwrap();
    let usual = binary.data_dir().join("master.key");
    assert_eq!(master_key_file(&binary), of(&usual, "default"));
    std::fs::write(&credential, MASTER_KEY).unwrap();
    assert_eq!(
        master_key_file(&binary),
        of(&credential, "systemd credential")
    );

    // A new installation is made with it, and no other opens that.
    let tokens = guest(&binary);
    still_served(&binary, &tokens);
    assert!(!usual.exists());
    std::fs::write(&credential, MASTER_KEY.replace("AAEC", "AAED")).unwrap();
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(problem.contains(credential.to_str().unwrap()), "{problem}");

    // It stays the wrong one from here on, and doesn't count.
    let (named, file) = (
        binary.working_dir().join("named.key"),
        binary.working_dir().join("guestpass.toml"),
    );
    std::fs::write(&named, MASTER_KEY).unwrap();
    std::fs::write(&file, format!("master_key_file = {named:?}")).unwrap();
    binary.set_variable("GUESTPASS_CONFIG", file.to_str().unwrap());
    let origin = format!("file {}", file.display());
    assert_eq!(master_key_file(&binary), of(&named, &origin));
    still_served(&binary, &tokens);
    std::fs::write(&file, "").unwrap();
    binary.set_variable("GUESTPASS_MASTER_KEY_FILE", named.to_str().unwrap());
    let origin = "environment GUESTPASS_MASTER_KEY_FILE";
    assert_eq!(master_key_file(&binary), of(&named, origin));
    still_served(&binary, &tokens);
}

#[test]
fn a_missing_master_key_is_asked_for_and_not_replaced() {
    let binary = Binary::new();
    let tokens = guest(&binary);
    let (file, aside) = (
        binary.data_dir().join("master.key"),
        binary.data_dir().join("aside"),
    );
    std::fs::rename(&file, &aside).unwrap();
    let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(problem.contains(file.to_str().unwrap()), "{problem}");
    assert!(problem.contains("GUESTPASS_MASTER_KEY"), "{problem}");
    assert!(!file.exists());
    std::fs::rename(&aside, &file).unwrap();
    still_served(&binary, &tokens);
}

#[test]
fn a_wrong_master_key_is_refused_and_the_right_one_asked_for() {
    let mut binary = Binary::new();
    let tokens = guest(&binary);
    let file = binary.data_dir().join("master.key");
    let right = std::fs::read_to_string(&file).unwrap();
    let database = binary.data_dir().join("guestpass.db");
    let (file_name, database) = (file.to_str().unwrap(), database.to_str().unwrap());
    for (text, hints) in [
        (MASTER_KEY, [file_name, database]),
        ("not a key", [file_name, "44 characters"]),
        (&MASTER_KEY[..40], [file_name, "44 characters"]),
        ("", [file_name, "44 characters"]),
    ] {
        std::fs::write(&file, text).unwrap();
        let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(
            hints.iter().all(|hint| problem.contains(hint)),
            "{text}: {problem}"
        );
        assert!(text.is_empty() || !problem.contains(text), "{problem}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    std::fs::write(&file, right).unwrap();
    still_served(&binary, &tokens);
    for key in [MASTER_KEY, "not a key"] {
        binary.set_variable("GUESTPASS_MASTER_KEY", key);
        let problem = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(problem.contains("GUESTPASS_MASTER_KEY"), "{problem}");
        assert!(!problem.contains(key), "{problem}");
    }
}

#[test]
fn a_newer_database_is_left_alone() {
    let binary = Binary::new();
    binary.json(&["db", "migrate"]);
    let open = || rusqlite::Connection::open(binary.data_dir().join("guestpass.db")).unwrap();
    open().pragma_update(None, "user_version", 9999).unwrap();
    for command in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["client", "add", SHOP],
        &["client", "list"],
        &["profile", "show", "1"],
        &["db", "check"],
        &["db", "migrate"],
    ] {
        let problem = binary.failure(command);
        assert!(
            problem.contains("newer version of guestpass"),
            "{command:?}: {problem}"
        );
    }
    let version: i64 = open()
        .query_row("pragma user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 9999);
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
