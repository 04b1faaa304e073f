//! Connections that are lost during a write, so that its outcome is unknown: a refresh is then answered with the right
//! successor or 503, and no fault of the database ever costs a guest its grant.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::http::StatusCode;

use super::clients::Client;
use super::installation::{Installation, Node};
use super::proxy::{Lost, Proxy};
use super::races::at_once;
use crate::deadlines::LOCK_TIMEOUT;
use crate::support::binary::eventually;
use crate::support::{authorize, exchange, refresh, request, revoke, verify};

/// A part of both statements that advance grants, for one and for a batch.
const ADVANCE: &str = "proven = ";
const ALWAYS: usize = usize::MAX;

#[test]
fn a_refresh_whose_write_was_lost_is_answered_all_the_same() {
    let (installation, proxy, node) = behind_a_proxy();
    for lost in [Lost::Answer, Lost::Request] {
        let guest = node.server.guest();
        proxy.lose(ADVANCE, &[Some(lost)], 1);
        let answered = node.server.send(&refresh(&guest.refresh_token)).tokens();
        assert_eq!(proxy.heal(), 1);
        // It was written once, and a retry gets the same.
        let again = node.server.send(&refresh(&guest.refresh_token)).tokens();
        assert_eq!(answered.refresh_token, again.refresh_token);
        let successor = node.server.send(&refresh(&answered.refresh_token));
        assert_ne!(successor.tokens().refresh_token, answered.refresh_token);
        assert_eq!(installation.number("select max(generation) from grants"), 3);
    }
    assert_eq!(installation.revoked(), 0);
}

#[test]
fn refreshes_whose_one_write_was_lost_are_answered_all_the_same() {
    let (installation, proxy, node) = behind_a_proxy();
    for lost in [Lost::Answer, Lost::Request] {
        // A write that waits for a lock for five seconds is refused. If the machine was busy for so long, nothing is known.
        while !lose_one_write_of_many(&installation, &proxy, &node, lost) {}
    }
    assert_eq!(installation.revoked(), 0);
}

/// Has many guests refresh at once, each from two tabs, and loses the one write of all of them. Returns whether the machine
/// was fast enough to tell what became of it.
fn lose_one_write_of_many(
    installation: &Installation,
    proxy: &Proxy,
    node: &Node,
    lost: Lost,
) -> bool {
    const GUESTS: usize = 16;
    installation.sql("delete from grants");
    let address = [node.server.address];
    let token = |()| node.server.guest().refresh_token;
    let (first, others) = ([(); 2].map(token), [(); GUESTS].map(token));
    // Both batches that may run at once wait for the lock, each with one guest; all others wait in the queue.
    let since = Instant::now();
    let held = installation.hold("lock table grants in exclusive mode");
    proxy.lose(ADVANCE, &[None, None, Some(lost)], 1);
    let tabs = others.each_ref().map(|token| refresh(token));
    let tabs = [tabs.clone(), tabs].concat();
    let (blocked, answers) = std::thread::scope(|scope| {
        let blocked = [0, 1].map(|at| {
            let token = &first[at];
            let blocked =
                scope.spawn(move || Client::new(&address, 0).ask(&refresh(token)).unwrap());
            let waiting = || installation.number(WAITING_FOR_LOCKS) > i64::try_from(at).unwrap();
            eventually("a write waits", || waiting() || blocked.is_finished());
            blocked
        });
        let answers = scope.spawn(|| at_once(&address, &tabs));
        for _ in 0..20 {
            node.server.send(&request("GET", "/oauth/jwks"));
        }
        drop(held);
        let blocked = blocked.map(|blocked| blocked.join().unwrap());
        (blocked, answers.join().unwrap())
    });
    let losses = proxy.heal();
    if since.elapsed() > LOCK_TIMEOUT {
        return false;
    }
    assert_eq!(losses, 1);
    for answer in blocked {
        answer.tokens();
    }
    let answers: Vec<_> = answers
        .iter()
        .map(|answer| answer.tokens().refresh_token)
        .collect();
    let (tabs, other_tabs) = answers.split_at(GUESTS);
    assert_eq!(tabs, other_tabs);
    let all = installation.number("select count(*) from grants where generation = 2");
    assert_eq!(usize::try_from(all).unwrap(), GUESTS + 2);
    true
}

const WAITING_FOR_LOCKS: &str = "
    select count(*) from pg_locks join pg_database on database = pg_database.oid
     where datname = current_database() and not granted";

#[test]
fn a_refresh_that_nobody_can_write_is_tried_again_later() {
    let (installation, proxy, node) = behind_a_proxy();
    let guest = node.server.guest();
    proxy.lose(ADVANCE, &[Some(Lost::Request)], ALWAYS);
    for _ in 0..3 {
        let answer = node.server.send(&refresh(&guest.refresh_token));
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    }
    assert!(proxy.heal() >= 6);
    node.server.send(&refresh(&guest.refresh_token)).tokens();
    assert_eq!(
        (
            installation.number("select generation from grants"),
            installation.revoked()
        ),
        (2, 0)
    );
}

#[test]
fn an_exchange_whose_write_was_lost_ends_nothing() {
    let (installation, proxy, node) = behind_a_proxy();
    let code = || node.server.send(&authorize()).text("code");
    let (first, second) = (code(), code());
    proxy.lose(ADVANCE, &[Some(Lost::Request)], 1);
    node.server.send(&exchange(&first)).tokens();
    assert_eq!(proxy.heal(), 1);
    proxy.lose(ADVANCE, &[Some(Lost::Answer)], 1);
    let answer = node.server.send(&exchange(&second));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(proxy.heal(), 1);
    let redeemed = installation.number("select count(*) from grants where generation = 1");
    assert_eq!((redeemed, installation.revoked()), (2, 0));
}

#[test]
fn a_strict_client_loses_nothing_either() {
    let (installation, proxy, node) = behind_a_proxy();
    let strict = ["--grace", "0s", "--late-retry", "revoke"];
    node.binary
        .json(&[&["client", "add", "strict"], &strict[..]].concat());
    let node = Node::start(node.binary);
    let of_strict = |request: crate::support::Sent| request.set("client_id", "strict");
    let code = node.server.send(&of_strict(authorize())).text("code");
    let guest = node.server.send(&of_strict(exchange(&code))).tokens();
    proxy.lose(ADVANCE, &[Some(Lost::Answer)], 1);
    let answer = node.server.send(&of_strict(refresh(&guest.refresh_token)));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!((proxy.heal(), installation.revoked()), (1, 0));
}

#[test]
fn a_revocation_whose_answer_was_lost_is_made_once_more() {
    let (installation, proxy, node) = behind_a_proxy();
    for lost in [Lost::Answer, Lost::Request] {
        let guest = node.server.guest();
        proxy.lose("set revoked_at = ", &[Some(lost)], 1);
        let answer = node.server.send(&revoke(&guest.refresh_token));
        assert_eq!((answer.status, proxy.heal()), (StatusCode::OK, 1));
        let answer = node.server.send(&verify(&guest.access_token));
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(installation.revoked(), 2);
}

#[test]
fn guests_outlive_answers_that_are_lost_all_the_time() {
    let (installation, proxy, node) = behind_a_proxy();
    let turns = [
        None,
        None,
        Some(Lost::Answer),
        None,
        None,
        Some(Lost::Request),
    ];
    proxy.lose(ADVANCE, &turns, ALWAYS);
    crowd(&[node.server.address], || {});
    assert!(proxy.heal() >= 30);
    assert_eq!(installation.revoked(), 0);
}

#[test]
fn guests_outlive_sessions_that_are_ended_all_the_time() {
    let installation = Installation::new();
    let nodes = [installation.start("a"), installation.start("b")];
    let addresses = nodes.each_ref().map(|node| node.server.address);
    crowd(&addresses, || installation.end_sessions());
    assert_eq!(installation.revoked(), 0);
    for node in &nodes {
        let ready = node.server.send(&request("GET", "/readyz"));
        assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
    }
}

/// Runs clients to their end, and calls `meanwhile` every 20 ms until then.
fn crowd(nodes: &[SocketAddr], mut meanwhile: impl FnMut()) {
    const CLIENTS: usize = 8;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|at| scope.spawn(move || act(&mut Client::new(nodes, at))))
            .collect();
        scope.spawn(|| {
            for client in clients {
                let ended = client.join();
                is_over.store(ended.is_err(), Ordering::Relaxed);
                ended.unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            meanwhile();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}

/// Runs a client: one new guest after another, each of whom refreshes a few times with the newest token that was
/// answered.
fn act(client: &mut Client) {
    for _ in 0..15 {
        let code = client.insist(&authorize()).text("code");
        // After a 503 to an exchange, a client authorizes anew.
        let mut tokens = match client.ask(&exchange(&code)) {
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => continue,
            answer => answer.unwrap().tokens(),
        };
        for _ in 0..5 {
            tokens = client.insist(&refresh(&tokens.refresh_token)).tokens();
        }
    }
}

/// Starts a node that reaches its database through a fault-injecting proxy.
fn behind_a_proxy() -> (Installation, Proxy, Node) {
    let installation = Installation::new();
    let proxy = Proxy::start(&installation.url());
    let url = proxy.url(&installation.url());
    let node = Node::start(installation.node_on("a", &url));
    (installation, proxy, node)
}
