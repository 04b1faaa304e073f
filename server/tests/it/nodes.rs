//! Tests of several nodes on one PostgreSQL, whichever backend the run is for: an answer of one node holds at all of
//! them.

mod changes;
mod cleaning;
mod clients;
mod clocks;
mod customers;
mod installation;
mod lost_answers;
mod migrations;
mod primary;
mod proxy;
mod races;
mod reaching;
