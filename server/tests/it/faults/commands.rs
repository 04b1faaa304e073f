//! The command line and the configuration.

mod check;
mod input;
mod messages;
mod output;
mod secrets;
mod settings;
