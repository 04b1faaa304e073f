//! The tests of the server: through its router, its listener or its binary, on a real store. A test that carries a
//! case's number (`c058_…`) checks all that docs/conformance/cases.md says of it.

#![cfg(test)]

mod access_token;
mod admin;
mod authorize;
mod cli;
mod client_auth;
mod code;
mod connections;
mod cors_and_headers;
mod crash;
mod customers;
mod deadlines;
mod docs;
mod erasure;
mod faults;
mod fuzz;
mod growth;
mod http2;
mod http_layer;
mod ids;
mod introspect;
mod keys;
mod metadata;
mod nodes;
mod openapi;
mod policies;
mod profile;
mod races;
mod rate_limits;
mod refresh;
mod reload;
mod restore;
mod resumption;
mod revoke;
mod rotation;
mod sessions;
mod sharding;
mod sockets;
mod store_contract;
mod succession;
mod support;
mod tickets;
mod tls;
mod upkeep;
mod verifiers;
mod verify;
