//! Files and secrets.

mod lacking;
mod memory;
mod sqlite;
