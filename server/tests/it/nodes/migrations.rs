//! Only `guestpass db migrate` creates and changes a schema, and nodes keep running while it does.

use std::path::Path;
use std::sync::Barrier;

use axum::http::StatusCode;
use serde_json::json;

use super::clients::Clients;
use super::installation::{Installation, MASTER_KEY, Node};
use crate::support::{SHOP, authorize, refresh, request};

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];
const MIGRATE: &[&str] = &["db", "migrate"];
/// Counts the tables of a database.
const TABLES: &str = "select count(*) from pg_tables where schemaname = 'public'";

#[test]
fn no_node_makes_a_database_or_a_master_key() {
    let installation = Installation::unmade();
    let node = installation.node("a");
    let problem = node.failure(SERVE);
    assert!(problem.contains("`guestpass db migrate`"), "{problem}");

    let keyless = Installation::keyless("a", &installation.url());
    let problem = keyless.failure(MIGRATE);
    for named in [
        "no master key",
        "head -c 32 /dev/urandom | base64",
        "master.key",
    ] {
        assert!(problem.contains(named), "{problem}");
    }
    let planned = keyless.json(&["db", "migrate", "--dry-run"]);
    assert_eq!(planned["dry_run"], true);
    assert_eq!((&planned["from"], &planned["to"]), (&json!(0), &json!(1)));
    assert_eq!(installation.number(TABLES), 0);
    assert_eq!(files_in(&keyless.data_dir()), [""; 0]);

    node.json(MIGRATE);
    let problem = keyless.failure(SERVE);
    assert!(problem.contains("no master key"), "{problem}");
    assert_eq!(files_in(&keyless.data_dir()), [""; 0]);
    let mut other = Installation::keyless("other", &installation.url());
    other.set_variable("GUESTPASS_MASTER_KEY", &MASTER_KEY.replace("AAEC", "BBBB"));
    let problem = other.failure(SERVE);
    assert!(problem.contains("GUESTPASS_MASTER_KEY"), "{problem}");
    assert!(problem.contains("belongs to the database"), "{problem}");
    node.json(&["client", "add", SHOP]);
    Node::start(node).server.guest();
}

#[test]
fn of_many_migrations_at_once_one_does_it() {
    const PROGRAMS: usize = 4;
    for _ in 0..3 {
        let installation = Installation::unmade();
        let programs: [_; PROGRAMS] = std::array::from_fn(|_| installation.node("a"));
        let start = Barrier::new(PROGRAMS);
        let mut from = std::thread::scope(|scope| {
            let migrate = |program| {
                let start = &start;
                let program: &crate::support::binary::Binary = program;
                scope.spawn(move || {
                    start.wait();
                    program.json(MIGRATE)["from"].as_i64().unwrap()
                })
            };
            let running = programs.each_ref().map(migrate);
            running.map(|program| program.join().unwrap())
        });
        from.sort_unstable();
        assert_eq!(from, [0, 1, 1, 1]);
        programs[0].json(&["client", "add", SHOP]);
        let [first, second, ..] = programs.map(Node::start);
        let tokens = first.server.guest();
        second.server.send(&refresh(&tokens.refresh_token)).tokens();
    }
}

/// The expanding step of the next version's migration, which runs before that version's nodes start.
const EXPAND: &str = "
    alter table grants add column note text;
    alter table clients add column note text;
    update schema_version set version = 2, serves_since = 1";

#[test]
fn nodes_go_on_while_the_next_version_adds_what_it_needs() {
    let installation = Installation::new();
    let running = installation.start("running");
    let clients = Clients::start(4, &[running.server.address]);
    let mut busy = running.server.guest();
    for round in 0..50 {
        (0..4).for_each(|at| clients.send(at, refresh(&busy.refresh_token)));
        if round == 25 {
            installation.sql(EXPAND);
        }
        for _ in 0..4 {
            busy = clients.answer().1.tokens();
        }
    }
    for node in [&running, &installation.start("restarted")] {
        let guest = node.server.guest();
        let tokens = running.server.send(&refresh(&guest.refresh_token)).tokens();
        running
            .server
            .send(&refresh(&tokens.refresh_token))
            .tokens();
        let ready = node.server.send(&request("GET", "/readyz"));
        assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
    }
    let operator = installation.node("operator");
    operator.json(&["client", "add", "another"]);
    operator.json(&["client", "set", "another", "--access-ttl", "1h"]);
    let nothing = json!({"from": 2, "to": 2, "steps": [], "dry_run": false});
    assert_eq!(operator.json(MIGRATE), nothing);
    assert_eq!(operator.json(&["db", "check"])["ok"], true);

    // The contracting step after that may remove what this version needs.
    installation.sql("update schema_version set version = 3, serves_since = 2");
    for command in [SERVE, MIGRATE, &["client", "list"]] {
        let problem = operator.failure(command);
        assert!(problem.contains("newer version of guestpass"), "{problem}");
    }
    let answer = running.server.send(&authorize());
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(running.server.log(), "");
}

#[test]
fn a_database_of_another_first_schema_is_refused() {
    let installation = Installation::unmade();
    let node = installation.node("a");
    node.json(MIGRATE);
    for (change, difference, undo) in [
        (
            "alter table profiles add column name text",
            "profiles.name",
            "alter table profiles drop column name",
        ),
        (
            "alter table client_choices rename to choices",
            "client_choices.client_number",
            "alter table choices rename to client_choices",
        ),
    ] {
        installation.sql(change);
        for command in [SERVE, MIGRATE, &["client", "list"]] {
            let problem = node.failure(command);
            assert!(problem.contains("unreleased version"), "{problem}");
            assert!(problem.contains(difference), "{problem}");
        }
        installation.sql(undo);
    }
    node.json(&["client", "list"]);
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}
