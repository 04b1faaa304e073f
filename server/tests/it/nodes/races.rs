//! Race conditions: simultaneous requests for one grant at two nodes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Barrier;

use axum::http::StatusCode;

use super::clients::{Client, Clients};
use super::installation::{GATEWAY, Installation, Node, add_gateway};
use crate::support::binary::eventually;
use crate::support::{Answer, Sent, authorize, exchange, introspect, refresh, revoke, verify};

#[test]
fn c063_of_fifty_redemptions_over_two_nodes_one_is_granted() {
    let installation = Installation::new();
    let nodes = [installation.start("a"), installation.start("b")];
    for round in 1..=5 {
        let code = nodes[round % 2].server.send(&authorize());
        let answers = at_once(&addresses(&nodes), &vec![exchange(&code.text("code")); 50]);
        let (granted, refused): (Vec<_>, Vec<_>) = answers
            .iter()
            .partition(|answer| answer.status == StatusCode::OK);
        assert_eq!((granted.len(), refused.len()), (1, 49), "round {round}");
        for answer in refused {
            let outcome = (answer.status.as_u16(), answer.error());
            assert_eq!(outcome, (400, "invalid_grant"), "{answer:?}");
        }
        // The grant is revoked: the losers had every proof right, so they were replays.
        let families = installation.number("select count(*) from grants where generation = 1");
        assert_eq!(families, i64::try_from(round).unwrap());
        assert_eq!(installation.revoked(), families);
        for node in &nodes {
            let refreshed = node
                .server
                .send(&refresh(&granted[0].tokens().refresh_token));
            assert_eq!(refreshed.status, StatusCode::BAD_REQUEST, "{refreshed:?}");
        }
    }
    for node in &nodes {
        assert_eq!(node.server.log(), "");
    }
}

#[test]
fn tabs_that_share_a_token_outlive_a_node() {
    let installation = Installation::new();
    let (doomed, other) = (installation.start("doomed"), installation.start("other"));
    share(&installation, doomed, &other);
}

/// Has tabs refresh with the token that they share, all at once, round after round; each stores the token that it gets.
/// Halfway a node is killed. In each round, all tabs must get the same token.
pub(super) fn share(installation: &Installation, doomed: Node, other: &Node) {
    const TABS: usize = 64;
    const ROUNDS: usize = 12;
    let mut stored = other.server.guest();
    let tabs = Clients::start(TABS, &[doomed.server.address, other.server.address]);
    let mut doomed = Some(doomed);
    for round in 1..=ROUNDS {
        for tab in 0..TABS {
            tabs.send(tab, refresh(&stored.refresh_token));
        }
        let mut leaves = HashSet::new();
        for answered in 0..TABS {
            if round == ROUNDS / 2
                && answered == TABS / 8
                && let Some(Node { server, .. }) = doomed.take()
            {
                server.kill();
            }
            stored = tabs.answer().1.tokens();
            leaves.insert(stored.refresh_token.clone());
        }
        assert_eq!(leaves.len(), 1, "round {round}");
    }
    assert_eq!(installation.revoked(), 0);
    let generation = installation.number("select generation from grants");
    assert_eq!(generation, 1 + i64::try_from(ROUNDS).unwrap());
    let passed = other.server.send(&verify(&stored.access_token));
    assert_eq!(passed.status, StatusCode::OK, "{passed:?}");
}

#[test]
fn whoever_is_first_nothing_of_a_revoked_grant_lives() {
    const ROUNDS: usize = 500;
    let installation = Installation::new();
    let api_key = add_gateway(&installation.node("operator"));
    let nodes = [installation.start("a"), installation.start("b")];
    let both = Clients::start(2, &addresses(&nodes));
    let mut askers = [0, 1].map(|at| Client::new(&[nodes[at].server.address], 0));
    let (mut refreshed, mut ended) = (0, Vec::new());
    for round in 0..ROUNDS {
        let code = askers[0].ask(&authorize()).unwrap().text("code");
        let guest = askers[0].ask(&exchange(&code)).unwrap().tokens();
        both.send(round % 2, refresh(&guest.refresh_token));
        both.send(1 - round % 2, revoke(&guest.refresh_token));
        let mut newest = None;
        for _ in 0..2 {
            let (at, answer) = both.answer();
            if at == round % 2 && answer.status == StatusCode::BAD_REQUEST {
                assert_eq!(answer.error(), "invalid_grant");
            } else if at == round % 2 {
                newest = Some(answer.tokens());
            } else {
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            }
        }
        refreshed += usize::from(newest.is_some());
        let family: Vec<_> = [Some(guest), newest].into_iter().flatten().collect();
        for asker in &mut askers {
            for tokens in &family {
                let answer = asker.ask(&refresh(&tokens.refresh_token)).unwrap();
                let outcome = (answer.status.as_u16(), answer.error());
                assert_eq!(outcome, (400, "invalid_grant"), "round {round} {answer:?}");
                let asked = introspect(&tokens.access_token).set("client_id", GATEWAY);
                let answer = asker.ask(&asked.header("x-api-key", &api_key)).unwrap();
                assert_eq!(answer.json()["active"], false, "round {round}");
            }
        }
        ended.extend(family.into_iter().map(|tokens| tokens.access_token));
    }
    // Forward-auth follows within a second in production; this test doesn't depend on the time.
    for asker in &mut askers {
        for token in &ended {
            eventually("forward-auth refuses what was revoked", || {
                let answer = asker.ask(&verify(token)).unwrap();
                answer.status == StatusCode::UNAUTHORIZED
            });
        }
    }
    println!("of {ROUNDS} refreshes {refreshed} came before the revocation");
}

fn addresses(nodes: &[Node]) -> Vec<SocketAddr> {
    nodes.iter().map(|node| node.server.address).collect()
}

/// Sends all requests simultaneously, each on a connection of its own, to the nodes in turn.
pub(super) fn at_once(nodes: &[SocketAddr], requests: &[Sent]) -> Vec<Answer> {
    let start = Barrier::new(requests.len());
    std::thread::scope(|scope| {
        let send = |(at, request)| {
            let (start, mut client) = (&start, Client::new(nodes, at));
            scope.spawn(move || {
                start.wait();
                client.ask(request).unwrap()
            })
        };
        let sent: Vec<_> = requests.iter().enumerate().map(send).collect();
        sent.into_iter().map(|sent| sent.join().unwrap()).collect()
    })
}
