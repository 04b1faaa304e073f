//! The command line and the configuration.

mod check;
mod input;
mod messages;
mod mistaken;
mod output;
mod secrets;
mod settings;
