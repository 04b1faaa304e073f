//! The command line: parses it, loads the configuration, runs the command, prints its result.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use guestpass_core::time::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::hardening::CoreDumps;
use crate::config::Config;
use crate::terminal::{self, Reader};

mod api_key;
mod client;
mod clock;
mod config;
mod cookies;
mod copy;
mod customer;
mod database;
mod db;
mod descriptors;
mod events;
mod explain;
mod exposure;
mod hardening;
pub mod import;
mod input;
mod inventory;
mod issuer;
mod journaled_store;
mod key;
mod lock;
mod master_key;
mod places;
mod policy;
mod profile;
mod progress;
mod quickstart;
mod renewal;
mod retention;
mod serve;
mod starting;
mod usage;

/// OAuth 2.0 for guests: profiles, codes and tokens for visitors without an account.
#[derive(Parser)]
#[command(name = "guestpass", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    /// Directory of the embedded store and the master key [default: ./guestpass-data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Configuration file, in TOML
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON for scripts instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  guestpass quickstart                    a server, a client and a guest, to look at
  guestpass client add shop-web --origin https://shop.example
  guestpass client add shop-backend --confidential
  guestpass serve --listen 127.0.0.1:8080
  guestpass serve --listen 0.0.0.0:8080 --issuer https://id.shop.example";

#[derive(Subcommand)]
enum Command {
    /// Serve the API
    Serve(serve::Args),
    /// Add, change and remove clients, the applications that act for guests
    #[command(subcommand)]
    Client(Box<client::Command>),
    /// Look at a guest, erase one, or import those of another system
    #[command(subcommand)]
    Profile(profile::Command),
    /// Look at the guests of a customer, unlink or erase them
    #[command(subcommand)]
    Customer(customer::Command),
    /// List what has become of guests, and look after its delivery
    Events(Box<events::Args>),
    /// Count the guests that would be forgotten because nobody has come back
    Retention(retention::Args),
    /// List, rotate and export keys
    #[command(subcommand)]
    Key(key::Command),
    /// Say in plain words why a request or token was refused, and what would help
    Explain(explain::Args),
    /// Look at the clock, and say that it is right
    #[command(subcommand)]
    Clock(clock::Command),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Check the database, bring it up to date, or move to PostgreSQL
    #[command(subcommand)]
    Db(db::Command),
    /// Show a guest's whole life against a server of its own
    Quickstart(quickstart::Args),
}

/// Runs the command that the process was started with. Exits with 0 when it is done, 1 when it failed; clap exits with
/// 2 when it wasn't understood.
pub fn run() -> ExitCode {
    let core_dumps = CoreDumps::forbid();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::exit(&error),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(execute(cli, core_dumps));
            // A start that was interrupted may still wait for something that never comes.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure(format!(
            "the program can't start its threads: {error}"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(problem)) => {
            terminal::say(&usage::without_secrets(problem));
            ExitCode::FAILURE
        }
    }
}

/// The threads for work that blocks: readers of the store, which are fewer, the start, keys and certificates. Where the processor
/// is busy, a thread that is done isn't idle yet when the next work comes, and without a bound that starts another one, up to
/// hundreds, each with memory of its own.
const BLOCKING_THREADS: usize = 16;

async fn execute(cli: Cli, core_dumps: CoreDumps) -> Result<(), Failure> {
    let mut flags = Vec::new();
    if let Some(data_dir) = cli.data_dir.clone() {
        flags.push(("data_dir", data_dir));
    }
    match &cli.command {
        Command::Serve(args) => args.add_flags(&mut flags),
        Command::Quickstart(_) => quickstart::Args::add_flags(&mut flags),
        Command::Client(_)
        | Command::Profile(_)
        | Command::Customer(_)
        | Command::Events(_)
        | Command::Retention(_)
        | Command::Key(_)
        | Command::Explain(_)
        | Command::Clock(_)
        | Command::Config(_)
        | Command::Db(_) => {}
    }
    // From here on it ends no server; one that comes before there is a server is heard once there is.
    let hangup = match cli.command {
        Command::Serve(_) => Some(signal(SignalKind::hangup())?),
        _ => None,
    };
    let file = cli.config.clone();
    let load = move || Config::load(&flags, file.as_deref());
    let config = load()?;
    match config.core_dumps {
        true => core_dumps.allow()?,
        false => core_dumps.keep_forbidden(),
    }
    let output = Output { json: cli.json };
    if !matches!(cli.command, Command::Serve(_)) {
        crate::progress::has_no_log();
    }
    match cli.command {
        Command::Serve(_) => {
            let checked = move || {
                let config = load()?;
                serve::require_settings(&config)?;
                Ok(config)
            };
            let hangup = hangup.expect("a server listens for it");
            serve::run(config, Arc::new(checked), hangup, output).await
        }
        Command::Client(command) => client::run(*command, &config, output).await,
        Command::Profile(command) => profile::run(command, &config, output).await,
        Command::Customer(command) => customer::run(command, &config, output).await,
        Command::Events(args) => events::run(*args, &config, output).await,
        Command::Retention(args) => retention::run(args, &config, output).await,
        Command::Key(command) => key::run(command, &config, output).await,
        Command::Explain(args) => explain::run(args, &config, output).await,
        Command::Clock(command) => clock::run(&command, &config, output).await,
        Command::Config(command) => config::run(&command, &config, output).await,
        Command::Db(command) => db::run(&command, &config, output).await,
        Command::Quickstart(args) => quickstart::run(&args, config, output).await,
    }
}

/// A failed command: a sentence for the operator.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Prints results to standard output, for people or for scripts.
#[derive(Clone, Copy)]
struct Output {
    json: bool,
}

impl Output {
    /// Prints `value` with `--json`, and otherwise `text`. A reader that has gone away is no failure.
    fn print<T: Into<Text>>(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> T,
    ) -> Result<(), Failure> {
        self.show(value, text).map(drop).map_err(unprinted)
    }

    /// Prints what is JSON for people as well.
    fn print_json(self, json: &str) -> Result<(), Failure> {
        terminal::print_json(json).map(drop).map_err(unprinted)
    }

    /// Prints `text` unless `--json` is given, on the way to the result.
    fn tell<T: Into<Text>>(self, text: impl FnOnce() -> T) -> Result<(), Failure> {
        match self.json {
            true => Ok(()),
            false => text().into().print().map(drop).map_err(unprinted),
        }
    }

    /// Prints as [`Output::print`] does, where it matters whether somebody has read it.
    fn show<T: Into<Text>>(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> T,
    ) -> io::Result<Reader> {
        if self.json {
            terminal::print_json(&serde_json::to_string(value).map_err(io::Error::from)?)
        } else {
            text().into().print()
        }
    }
}

/// Text for people, line by line: what a line quotes begins no other.
struct Text(Vec<String>);

impl Text {
    fn print(&self) -> io::Result<Reader> {
        terminal::print(self.0.iter().map(String::as_str))
    }
}

impl From<String> for Text {
    fn from(line: String) -> Self {
        Self(vec![line])
    }
}

impl From<Vec<String>> for Text {
    fn from(lines: Vec<String>) -> Self {
        Self(lines)
    }
}

/// Explains that a command has done its work, but its result is lost.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unprinted(error: io::Error) -> Failure {
    Failure(format!(
        "the command has done its work, but the result can't be printed: standard output: {error}"
    ))
}

/// Renders a table as wide as its content.
fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| terminal::escaped_line(cell)));
    }
    table.lines().map(|line| line.trim().to_owned()).collect()
}

/// Formats a time as RFC 3339, to the second.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let exact = at.to_rfc3339();
    let whole = exact.split_once('.').map_or(&*exact, |(whole, _)| whole);
    format!("{whole}Z")
}
