//! Many nodes on one PostgreSQL, whatever backend this run is about: what one has answered holds at all of them.

mod changes;
mod cleaning;
mod clients;
mod clocks;
mod installation;
mod lost_answers;
mod migrations;
mod primary;
mod proxy;
mod races;
mod reaching;
