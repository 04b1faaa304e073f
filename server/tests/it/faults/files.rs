//! Files and secrets.

mod memory;
mod sqlite;
