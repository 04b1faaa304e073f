//! Tests the crate from outside, by the cases of docs/conformance/cases.md that need no server.

#![cfg(test)]

mod claims;
mod forged;
#[cfg(feature = "tower")]
mod layer;
mod random;
#[cfg(feature = "fetch")]
mod remote;
mod support;
mod wycheproof;
