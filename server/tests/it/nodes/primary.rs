//! A database that takes no writes for a while, as during a failover: no client gets a final refusal, and no node needs
//! a restart.

use axum::http::StatusCode;

use super::installation::{Installation, Node};
use crate::support::binary::eventually;
use crate::support::{authorize, exchange, refresh, request};

#[test]
fn a_node_waits_for_a_database_that_takes_writes() {
    let installation = Installation::new();
    let node = installation.start("a");
    let guest = node.server.guest();
    read_only(&installation, true);
    // The change holds for new sessions, and the nodes don't accept those.
    installation.end_sessions();
    refused(&node, &guest.refresh_token);
    read_only(&installation, false);
    served(&node, &guest.refresh_token);
}

#[test]
fn a_session_that_became_read_only_is_given_up() {
    let installation = Installation::new();
    let node = installation.start("a");
    let guest = node.server.guest();
    // The error that a standby returns for each write.
    installation.sql(
        "create function refuse() returns trigger language plpgsql as $$
         begin raise exception using errcode = '25006'; end $$;
         create trigger refuse before insert or update on grants
         for each statement execute function refuse()",
    );
    let sessions = sessions(&installation);
    let answer = node.server.send(&refresh(&guest.refresh_token));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    let left = format!("select count(*) from pg_stat_activity where pid in ({sessions})");
    eventually("all sessions are given up", || {
        installation.number(&left) == 0
    });
    installation.sql("drop trigger refuse on grants");
    served(&node, &guest.refresh_token);
}

/// Lists the process ids of the node's sessions, separated by commas.
fn sessions(installation: &Installation) -> String {
    let found = installation.sql(
        "select pid from pg_stat_activity
          where datname = current_database() and application_name = 'guestpass a'",
    );
    let found: Vec<String> = found.into_iter().flatten().flatten().collect();
    found.join(",")
}

/// Makes new sessions read-only, or writable again.
fn read_only(installation: &Installation, only: bool) {
    let name = installation
        .sql("select current_database()")
        .remove(0)
        .remove(0);
    installation.sql(&format!(
        "alter database {} set default_transaction_read_only = {only}",
        name.unwrap()
    ));
}

fn refused(node: &Node, refresh_token: &str) {
    for request in [
        refresh(refresh_token),
        authorize(),
        request("GET", "/readyz"),
    ] {
        // Its `Retry-After` is checked for every answer.
        let answer = node.server.send(&request);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    }
    let alive = node.server.send(&request("GET", "/livez"));
    assert_eq!(alive.status, StatusCode::OK, "{alive:?}");
}

fn served(node: &Node, refresh_token: &str) {
    eventually("the node is ready", || {
        node.server.send(&request("GET", "/readyz")).status == StatusCode::OK
    });
    let tokens = node.server.send(&refresh(refresh_token)).tokens();
    node.server.send(&refresh(&tokens.refresh_token)).tokens();
    let code = node.server.send(&authorize()).text("code");
    node.server.send(&exchange(&code)).tokens();
}
