//! The command line and the configuration.

mod input;
mod messages;
mod output;
mod secrets;
mod settings;
