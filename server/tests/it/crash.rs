//! Tests that what has been answered stays, whatever becomes of the process; and it is on the disk before it is answered, so that
//! it stays whatever becomes of the machine.

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use guestpass::random::Random;

use crate::support::binary::{Binary, PATIENCE, Server};
use crate::support::connection::Connection;
use crate::support::{Answer, SHOP, SeededRandom, Sent, authorize, exchange, refresh, request};

const CLIENTS: usize = 32;

#[test]
fn what_was_answered_outlives_a_kill_at_any_moment() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.set_variable("GUESTPASS_LOG__LEVEL", "error");
    let random: &dyn Random = &SeededRandom::new();
    let (mut server, mut slowest) = start(&binary);
    let mut guests = Vec::new();
    for _ in 0..kills() {
        let answers = 100 + u16::from_le_bytes(random.bytes()) % 1000;
        guests = kill_under_load(server, guests, answers);
        let (restarted, ready_after) = start(&binary);
        slowest = slowest.max(ready_after);
        guests = still_served(&restarted, guests);
        let report = binary.json(&["db", "check"]);
        assert_eq!(
            (&report["ok"], &report["problems"]),
            (&true.into(), &serde_json::json!([]))
        );
        server = restarted;
    }
    println!("{} kills, ready again after {slowest:?} at most", kills());
}

/// Five, or as many as the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how thorough this run is, which is nothing of the program's"
)]
fn kills() -> u32 {
    match std::env::var("GUESTPASS_TEST_KILLS") {
        Ok(kills) => kills.parse().expect("GUESTPASS_TEST_KILLS is a number"),
        Err(_) => 5,
    }
}

/// Holds what a client knows of a guest.
struct Guest {
    code: String,
    /// The newest that was answered. `None` if not even the exchange of the code was.
    refresh_token: Option<String>,
}

/// Starts a server, and says how long it took to be ready: some 50 ms, and more on a busy machine, so nothing hangs on it.
fn start(binary: &Binary) -> (Server, Duration) {
    let start = Instant::now();
    let server = binary.serve();
    let ready = server.send(&request("GET", "/readyz"));
    let ready_after = start.elapsed();
    assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
    (server, ready_after)
}

/// Keeps all clients busy until that many requests have been answered, then kills the server with those under way.
/// Answers all that the clients know by then.
fn kill_under_load(server: Server, guests: Vec<Guest>, answers: u16) -> Vec<Guest> {
    let (answered, acknowledged) = mpsc::channel();
    let mut shares: Vec<Vec<Guest>> = (0..CLIENTS).map(|_| Vec::new()).collect();
    for (at, guest) in guests.into_iter().enumerate() {
        shares[at % CLIENTS].push(guest);
    }
    let start = |mut guests: Vec<Guest>| {
        let (mut connection, answered) = (server.connect(), answered.clone());
        std::thread::spawn(move || {
            // The one error that ends this is the kill.
            let _ = act(&mut connection, &mut guests, &answered);
            guests
        })
    };
    let clients: Vec<_> = shares.into_iter().map(start).collect();
    for _ in 0..answers {
        acknowledged
            .recv_timeout(PATIENCE)
            .expect("the clients are served");
    }
    server.kill();
    clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect()
}

/// One new guest after the other, and refreshes of those that are known.
fn act(
    connection: &mut Connection,
    guests: &mut Vec<Guest>,
    answered: &mpsc::Sender<()>,
) -> io::Result<()> {
    let mut granted = |request: Sent| -> io::Result<Answer> {
        let answer = connection.send(&request)?;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let _ = answered.send(());
        Ok(answer)
    };
    for turn in 0.. {
        let code = granted(authorize())?.text("code");
        guests.push(Guest {
            code,
            refresh_token: None,
        });
        let newest = guests.len() - 1;
        let tokens = granted(exchange(&guests[newest].code))?;
        guests[newest].refresh_token = Some(tokens.text("refresh_token"));
        for at in [newest, turn % guests.len()] {
            if let Some(refresh_token) = &guests[at].refresh_token {
                let tokens = granted(refresh(refresh_token))?;
                guests[at].refresh_token = Some(tokens.text("refresh_token"));
            }
        }
    }
    Ok(())
}

/// Checks that every guest is where it was, then tries to redeem every second code again, which ends those guests.
/// Answers the others.
fn still_served(server: &Server, mut guests: Vec<Guest>) -> Vec<Guest> {
    let mut connection = server.connect();
    for guest in &mut guests {
        if let Some(refresh_token) = &guest.refresh_token {
            let tokens = connection.send(&refresh(refresh_token)).unwrap().tokens();
            guest.refresh_token = Some(tokens.refresh_token);
        }
    }
    // A guest whose last write was lost is served all the same, and the loss is logged as an error.
    assert_eq!(server.log(), "");
    let mut others = Vec::new();
    for (at, guest) in guests.into_iter().enumerate() {
        if at % 2 == 1 {
            others.push(guest);
            continue;
        }
        let mut redeemed = || connection.send(&exchange(&guest.code)).unwrap().status;
        let unanswered = guest.refresh_token.is_none();
        let first = redeemed();
        assert!(first == StatusCode::BAD_REQUEST || unanswered && first == StatusCode::OK);
        assert_eq!(redeemed(), StatusCode::BAD_REQUEST);
    }
    others
}

/// The embedded store writes its own files.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod sqlite {
    use super::*;
    use crate::support::faults::{Call, Errno, Faults};
    use crate::support::shim;

    #[test]
    fn a_grant_is_on_the_disk_before_it_is_answered() {
        for (name, events) in events_of_requests("full") {
            assert!(is_synced(&events), "{name}: {events:?}");
        }
    }

    /// The check above sees what it claims to see.
    #[test]
    fn without_syncing_a_grant_is_answered_before_it_is_on_the_disk() {
        for (name, events) in events_of_requests("off") {
            assert!(!is_synced(&events), "{name}: {events:?}");
            assert_eq!(events.last().map(String::as_str), Some("answer"), "{name}");
        }
    }

    #[test]
    fn on_a_full_disk_nothing_that_was_answered_is_lost_and_writes_go_on_once_there_is_room() {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP, "--grace", "300s"]);
        let faults = Faults::under(&mut binary);
        let server = binary.serve();
        let first = server.guest();
        let second = server.send(&refresh(&first.refresh_token)).tokens();
        let code = server.send(&authorize()).text("code");

        faults.fail(&[Call::Write], Errno::Enospc, "-wal");
        for request in [authorize(), exchange(&code), refresh(&second.refresh_token)] {
            let answer = server.send(&request);
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        }
        let log = server.log();
        let reasons = log.matches("database or disk is full").count();
        assert!(reasons >= 3, "{log}");
        // What needs no write is answered.
        let again = server.send(&refresh(&first.refresh_token)).tokens();
        assert_eq!(again.refresh_token, second.refresh_token);

        faults.heal();
        server.send(&exchange(&code)).tokens();
        let third = server.send(&refresh(&second.refresh_token)).tokens();
        server.guest();
        server.kill();
        let server = binary.serve();
        server.send(&refresh(&third.refresh_token)).tokens();
        let report = binary.json(&["db", "check"]);
        assert_eq!(
            (&report["ok"], &report["grants"]),
            (&true.into(), &3.into())
        );
    }

    /// The last write to the log is followed by a sync of it that has ended, and only then the answer leaves.
    fn is_synced(events: &[String]) -> bool {
        events.ends_with(&["write", "sync", "synced", "answer"].map(ToOwned::to_owned))
    }

    /// Lists what a server's process does for each kind of request that writes, in order.
    fn events_of_requests(synchronous: &str) -> [(&'static str, Vec<String>); 3] {
        let mut binary = Binary::new();
        binary.json(&["client", "add", SHOP]);
        let events = binary.working_dir().join("events");
        let shim = shim(binary.working_dir(), include_str!("sync_shim.c"));
        binary.set_variable("LD_PRELOAD", shim.to_str().unwrap());
        binary.set_variable("SYNC_SHIM_FILE", events.to_str().unwrap());
        binary.set_variable("GUESTPASS_SQLITE__SYNCHRONOUS", synchronous);
        let server = binary.serve();
        let mut connection = server.connect();
        let mut send = |request: Sent| {
            std::fs::write(&events, "").unwrap();
            let answer = connection.send(&request).unwrap();
            let written = std::fs::read_to_string(&events).unwrap();
            (answer, written.lines().map(ToOwned::to_owned).collect())
        };
        let (authorized, authorize) = send(authorize());
        let (exchanged, exchange) = send(exchange(&authorized.text("code")));
        let (_, refresh) = send(refresh(&exchanged.tokens().refresh_token));
        [
            ("authorize", authorize),
            ("exchange", exchange),
            ("refresh", refresh),
        ]
    }
}
