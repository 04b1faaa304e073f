//! Installations of several nodes: one database, one master key, and a data directory for each node.

use std::any::Any;

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::binary::{Binary, Server};
use crate::support::{Backend, Database, ISSUER, Row, SHOP, SeededRandom, Tokens};

pub(super) const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The database that all nodes share.
pub(super) struct Installation {
    database: Database,
    runtime: Runtime,
}

/// A running server with the binary and the directory that it was started from.
pub(super) struct Node {
    pub(super) server: Server,
    pub(super) binary: Binary,
}

impl Installation {
    /// Makes an installation with a schema, keys and the client [`SHOP`].
    pub(super) fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let random = SeededRandom::new();
        let database = runtime.block_on(Database::new(Backend::Postgres, &random));
        let installation = Self { database, runtime };
        let operator = installation.node("operator");
        operator.json(&["db", "migrate"]);
        operator.json(&["client", "add", SHOP]);
        installation
    }

    /// Makes an installation with an empty database.
    pub(super) fn unmade() -> Self {
        let runtime = Runtime::new().unwrap();
        let database = runtime.block_on(Database::unmade());
        Self { database, runtime }
    }

    /// Returns the value of the setting `database`.
    pub(super) fn url(&self) -> String {
        self.database.url()
    }

    /// Configures a node, without starting it.
    pub(super) fn node(&self, name: &str) -> Binary {
        self.node_on(name, &self.url())
    }

    /// Configures a node that reaches the database by another URL.
    pub(super) fn node_on(&self, name: &str, url: &str) -> Binary {
        let mut binary = Self::keyless(name, url);
        binary.set_variable("GUESTPASS_MASTER_KEY", MASTER_KEY);
        binary
    }

    /// Configures a node without the master key.
    pub(super) fn keyless(name: &str, url: &str) -> Binary {
        let mut binary = Binary::new();
        binary.set_variable("GUESTPASS_DATABASE", url);
        binary.set_variable("GUESTPASS_NODE", name);
        binary.set_variable("GUESTPASS_ISSUER", ISSUER);
        binary.set_variable("GUESTPASS_LOG__LEVEL", "error");
        binary
    }

    /// Configures a node and starts it.
    pub(super) fn start(&self, name: &str) -> Node {
        Node::start(self.node(name))
    }

    /// Runs SQL beside the nodes.
    pub(super) fn sql(&self, sql: &str) -> Vec<Row> {
        self.runtime.block_on(self.database.sql(sql))
    }

    /// Runs a query whose result is one number.
    pub(super) fn number(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.database.number(sql))
    }

    /// Runs SQL in a transaction that stays open, and is rolled back when the returned value is dropped.
    pub(super) fn hold(&self, sql: &str) -> Box<dyn Any + Send> {
        self.runtime.block_on(self.database.hold(sql))
    }

    /// Counts the revoked grants.
    pub(super) fn revoked(&self) -> i64 {
        self.number("select count(*) from grants where revoked_at is not null")
    }

    /// Terminates all sessions of nodes.
    pub(super) fn end_sessions(&self) {
        self.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name like 'guestpass %'",
        );
    }
}

impl Node {
    pub(super) fn start(binary: Binary) -> Self {
        let server = binary.serve();
        Self { server, binary }
    }
}

/// A confidential client, which some tests add.
pub(super) const GATEWAY: &str = "gateway";

/// Adds [`GATEWAY`] and returns its API key.
pub(super) fn add_gateway(operator: &Binary) -> String {
    let added = operator.json(&["client", "add", GATEWAY, "--confidential"]);
    added["api_key"].as_str().unwrap().to_owned()
}

/// Returns the claim `iat` of an access token.
pub(super) fn issued_at(tokens: &Tokens) -> i64 {
    tokens.claims["iat"].as_i64().unwrap()
}

/// Lists the `kid`s of the keys of a use that are in a state.
pub(super) fn kids(operator: &Binary, key_use: &str, state: &str) -> Vec<String> {
    let listed = operator.json(&["key", "list"]);
    listed
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["use"] == key_use && key["state"] == state)
        .map(|key: &Value| key["kid"].as_str().unwrap().to_owned())
        .collect()
}
