//! Guestpass: OAuth 2.0 for guests. The library behind the `guestpass` binary and its tests.
//!
//! [`app::App`] holds what a request needs; [`http::router`] is the public API over it; [`grants`] is the loop that
//! loads a grant, lets [`guestpass_core`] decide, and writes once; [`store`] is the contract with the database.

pub mod access_tokens;
pub mod app;
mod attributes;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
mod endings;
pub mod error;
pub mod events;
pub mod files;
pub mod grants;
pub mod http;
pub mod introspection;
pub mod journal;
pub mod keys;
mod lease;
mod leaving;
pub mod links;
pub mod listen;
pub mod marks;
pub mod metrics;
pub mod progress;
pub mod random;
pub mod rate_limits;
mod readiness;
pub mod request_context;
pub mod request_id;
pub mod restore;
pub mod resumption;
pub mod revocation;
pub mod revocation_filter;
pub mod sessions;
mod setting_file;
pub mod source;
pub mod start;
pub mod store;
mod succession;
pub mod telemetry;
mod terminal;
pub mod tickets;
pub mod timekeeper;
mod timing;
pub mod upkeep;
pub mod webhooks;
