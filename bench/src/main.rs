//! `guestpass-bench`: measures Guestpass against the floors of the same machine, in the same run.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "its reports and its progress are for the developer who has started it"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Uri;
use clap::Parser;
use serde_json::Value;

use count::Count;
use count::requests::{self, Repeat};
use failure::Failure;
use flood::attackers::Attackers;
use floor::Floor;
use machine::Machine;
use report::Report;
use rows::{ROWS, Round, Row};
use scenario::Scenario;
use stage::{Plan, Stage};

/// The server's allocator, lest the floors be slower for another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod answer;
mod certificate;
mod connection;
mod count;
mod document;
mod failure;
mod flood;
mod floor;
mod generator;
mod guests;
mod machine;
mod process;
mod progress;
mod report;
mod rows;
mod scenario;
mod stage;
mod target;
mod versions;
mod workload;

/// Measures Guestpass against the floors of the same machine, in the same run
#[derive(Parser)]
#[command(name = "guestpass-bench", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Measure all rows, not only the headline ones
    #[arg(long)]
    full: bool,
    /// Number of rounds; a spread needs at least five
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Seconds that each scenario runs in each round; in less than five there may be no checkpoint
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// Measure only this row; may be repeated
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Write all figures to a file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Binary of the server [default: beside this one]
    #[arg(long, value_name = "FILE", hide = true)]
    server: Option<PathBuf>,
    /// Directory for the data [default: target/bench]
    #[arg(long, value_name = "DIR", hide = true)]
    directory: Option<PathBuf>,
    /// Guests to sign up at the target [default: 1000]; without a target, an upper bound for seeded installations
    #[arg(long, value_name = "N")]
    guests: Option<u64>,
    /// Write the report into docs/performance.md
    #[arg(long)]
    write_docs: bool,
    #[command(flatten)]
    target: target::Remote,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Serves or writes as a floor
    #[command(subcommand, hide = true)]
    Floor(Floor),
    /// Counts the instructions of a request, and compares them with those that are written down
    Count(Count),
    /// Repeats one operation, to be counted
    #[command(hide = true)]
    Repeat(Repeat),
    /// Attacks a server from all sides, and measures whether guests notice
    Flood(flood::Arguments),
    /// Attacks two servers
    #[command(hide = true)]
    FloodAttackers(Attackers),
}

fn main() -> ExitCode {
    // Tests have no other binary, so this one has the server's commands too.
    if std::env::args()
        .nth(1)
        .is_some_and(|first| ["serve", "db", "client"].contains(&&*first))
    {
        return guestpass::cli::run();
    }
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Floor(floor)) => floor::run(floor).map(|()| true),
        Some(Command::Count(count)) => count::run(&count),
        Some(Command::Repeat(repeat)) => requests::run(&repeat).map(|()| true),
        Some(Command::Flood(arguments)) => flood::run(&arguments),
        Some(Command::FloodAttackers(attackers)) => {
            flood::attackers::run(&attackers).map(|()| true)
        }
        None => match &arguments.target.target {
            Some(url) => drive(&arguments, url),
            None => bench(&arguments),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure(problem)) => {
            eprintln!("guestpass-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; returns whether nothing failed.
fn bench(arguments: &Arguments) -> Result<bool, Failure> {
    let rows = chosen(arguments)?;
    let plan = Plan {
        program: match &arguments.server {
            Some(program) => program.clone(),
            None => stage::default_program()?,
        },
        directory: arguments
            .directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("target/bench")),
        time: Duration::try_from_secs_f64(arguments.seconds)?,
        guests: arguments.guests,
    };
    let machine = Machine::look();
    let rounds = measure(plan, &rows, arguments.rounds.max(1))?;
    let report = Report::new(machine, &rows, rounds, arguments.seconds);
    print(&report.ratios());
    println!();
    print(&report.scenarios());
    println!("\n{}", report::SHARED);
    write_json(arguments, &report.json())?;
    if arguments.write_docs {
        document::write(&report, Path::new("docs"))?;
    }
    Ok(report.found.iter().all(|found| found.failed == 0))
}

/// Drives another installation; returns whether nothing failed.
fn drive(arguments: &Arguments, url: &Uri) -> Result<bool, Failure> {
    let guests = usize::try_from(arguments.guests.unwrap_or(1000))?;
    let time = Duration::try_from_secs_f64(arguments.seconds)?;
    let outcomes = target::run(&arguments.target, url, guests, time)?;
    print(&target::table(&outcomes));
    write_json(arguments, &target::json(&outcomes))?;
    Ok(outcomes
        .iter()
        .all(|(_, outcome)| outcome.failed.is_empty()))
}

fn write_json(arguments: &Arguments, value: &Value) -> Result<(), Failure> {
    if let Some(file) = &arguments.json {
        std::fs::write(file, format!("{value:#}\n"))?;
    }
    Ok(())
}

fn chosen(arguments: &Arguments) -> Result<Vec<&'static Row>, Failure> {
    // Hidden from the optimiser, which would take minutes to unroll the comparison of all names.
    let all = std::hint::black_box(ROWS);
    let is_known = |key: &String| all.iter().any(|row| row.key == key);
    if let Some(key) = arguments.only.iter().find(|key| !is_known(key)) {
        let keys: Vec<_> = all.iter().map(|row| row.key).collect();
        let keys = keys.join(", ");
        return Err(Failure(format!("there is no row {key}, but {keys}")));
    }
    let rows = all.iter().filter(|row| match arguments.only.as_slice() {
        [] => row.headline || arguments.full,
        only => only.iter().any(|key| key == row.key),
    });
    Ok(rows.collect())
}

fn measure(plan: Plan, rows: &[&'static Row], rounds: usize) -> Result<Vec<Round>, Failure> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for scenario in rows.iter().flat_map(|row| row.needs) {
        if !scenarios.contains(scenario) {
            scenarios.push(*scenario);
        }
    }
    let time = plan.time;
    let mut stage = Stage::new(plan)?;
    for scenario in &scenarios {
        announce("warm-up", *scenario);
        stage.run(*scenario, time.min(WARM_UP))?;
    }
    let mut measured = Vec::new();
    for number in 1..=rounds {
        let mut round = Round::new();
        for scenario in &scenarios {
            announce(&format!("round {number} of {rounds}"), *scenario);
            let found = stage.run(*scenario, time)?;
            for (status, number) in &found.failed {
                let first = found.first_failure.as_deref().unwrap_or_default();
                eprintln!("  {number} failed with {status}; the first: {first}");
            }
            round.insert(*scenario, found);
        }
        measured.push(round);
        // Counterbalancing: no scenario always comes before the same other one.
        scenarios.reverse();
    }
    Ok(measured)
}

const WARM_UP: Duration = Duration::from_secs(2);

fn announce(when: &str, scenario: Scenario) {
    eprintln!("{when}: {}", scenario.name());
}

fn print(cells: &report::Table) {
    let mut table = comfy_table::Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_header(cells.header.iter().copied())
        .add_rows(&cells.rows);
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}
