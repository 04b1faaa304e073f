//! Tests one grant with everything that may happen to it.
//!
//! - `tables`: the rules, cell by cell.
//! - `random`: invariants on random histories, in which anybody may do anything.
//! - `honest`: every history of an honest client, within bounds; it must keep its grant.
//! - `theft`: random thefts, which must be found out.
//!
//! Random tests have a fixed seed, so that every run is the same, and a failure is shrunk before it is shown.

#![cfg(test)]

mod honest;
mod random;
mod server;
mod tables;
mod theft;
