//! One grant, and everything that may happen to it.
//!
//! First the rules as tables, cell by cell. Then random histories, for what holds whoever does what. Then every history
//! of an honest client, within bounds: it must keep its grant. Last, random thefts: they must come out. What is random
//! is the same in every run, and what fails is shrunk before it is shown.

#![cfg(test)]

mod honest;
mod random;
mod server;
mod tables;
mod theft;
