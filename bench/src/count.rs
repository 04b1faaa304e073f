//! Counts the instructions of a request under valgrind's callgrind, and compares them with `bench/instructions.json`.
//!
//! The time of a request depends on the machine and its load, the number of its instructions hardly does. So a busy machine
//! finds a growth of a few per cent, too.
//!
//! Each operation is carried out [`TIMES`] times and, in another process, twice as often. The difference leaves out the
//! start of the server and all that was prepared.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;

use crate::failure::Failure;
use crate::report::Table;
use callgrind::Profile;
use figures::{Compiler, Counts, Figures};
use requests::{Operation, TIMES};
use stages::Stage;

mod callgrind;
mod figures;
pub(crate) mod requests;
mod stages;

#[derive(clap::Args)]
pub(crate) struct Count {
    /// Write the figures down instead of comparing them
    #[arg(long)]
    write: bool,
    /// File that has the figures
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.json")]
    figures: PathBuf,
    /// Directory for the data; it is removed
    #[arg(long, value_name = "DIR", default_value = "target/count")]
    directory: PathBuf,
}

/// Counts all operations, prints them and returns whether none has grown.
pub(crate) fn run(count: &Count) -> Result<bool, Failure> {
    let compiler = Compiler::installed()?;
    let mut figures = Figures::read(&count.figures)?;
    let mut counted = Vec::new();
    for operation in Operation::value_variants() {
        counted.push((
            operation.name(),
            count_one(*operation, false, &count.directory)?,
        ));
    }
    let mut costs = Vec::new();
    for &(operation, most) in COST_OF_LIMITS {
        let unlimited = count_one(operation, true, &count.directory)?;
        let limited = counted.iter().find(|(name, _)| *name == operation.name());
        let (_, limited) = limited.expect("all were counted");
        costs.push((
            operation,
            growth_beside_the_store(&unlimited, limited),
            most,
        ));
    }
    fs::remove_dir_all(&count.directory)?;
    super::print(&table(&counted));
    for (operation, cost, most) in &costs {
        println!(
            "Rate limits cost {} {cost:.1} % of its instructions; {most:.1} % are allowed.",
            operation.name()
        );
    }
    if count.write {
        figures.set(compiler, counted);
        figures.write(&count.figures)?;
        return Ok(true);
    }
    let changes = figures.compare(&compiler, &counted)?;
    for line in changes.shrunken.iter().chain(&changes.grown) {
        println!("{line}");
    }
    if !changes.is_empty() {
        println!("If this is meant, write it down: make count WRITE=1");
    }
    let limits_are_cheap = costs.iter().all(|(_, cost, most)| cost <= most);
    Ok(changes.grown.is_empty() && limits_are_cheap)
}

/// Limits the cost of rate limits, in per cent of the instructions of an operation.
const COST_OF_LIMITS: &[(Operation, f64)] =
    &[(Operation::Authorize, 3.0), (Operation::Refresh, 1.0)];

/// Returns the growth in per cent of the whole, but for that of the store: a page more or less there is chance, and more than
/// what is looked for.
fn growth_beside_the_store(before: &Counts, now: &Counts) -> f64 {
    let store = Stage::Store.name();
    let beside = |counts: &Counts| counts.total() - counts.of(store);
    100.0 * (beside(now) - beside(before)) as f64 / before.total() as f64
}

/// Counts the instructions of one operation, with rate limits or without.
fn count_one(operation: Operation, unlimited: bool, directory: &Path) -> Result<Counts, Failure> {
    let once = Run::start(operation, TIMES, unlimited, directory.join("once"))?;
    let twice = Run::start(operation, 2 * TIMES, unlimited, directory.join("twice"))?;
    let (once, twice) = (once.finish()?, twice.finish()?);
    let mut counts = Counts::default();
    for stage in Stage::ALL {
        let difference = twice.instructions_of(stage) - once.instructions_of(stage);
        let each = difference / i64::try_from(TIMES)?;
        counts.insert(stage.name(), each.max(0));
    }
    Ok(counts)
}

/// Runs this program under callgrind.
struct Run {
    valgrind: Child,
    directory: PathBuf,
}

impl Run {
    fn start(
        operation: Operation,
        times: usize,
        unlimited: bool,
        directory: PathBuf,
    ) -> Result<Self, Failure> {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let valgrind = Command::new("valgrind")
            .args(["--tool=callgrind", "--dump-line=no"])
            .arg(format!(
                "--callgrind-out-file={}",
                directory.join(PROFILE).display()
            ))
            .arg(format!(
                "--log-file={}",
                directory.join("valgrind").display()
            ))
            .arg(std::env::current_exe()?)
            .args(["repeat", operation.name(), &times.to_string()])
            .arg(directory.join("data"))
            .args(unlimited.then_some("--unlimited"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join(LOG))?)
            .spawn()
            .map_err(|error| {
                Failure(format!(
                    "valgrind can't be started: {error}. Install it: apt-get install -y valgrind"
                ))
            })?;
        Ok(Self {
            valgrind,
            directory,
        })
    }

    fn finish(mut self) -> Result<Profile, Failure> {
        let status = self.valgrind.wait()?;
        if !status.success() {
            return Err(Failure(format!(
                "the run under valgrind ended with {status}; {} says why",
                self.directory.join(LOG).display()
            )));
        }
        Profile::parse(&fs::read_to_string(self.directory.join(PROFILE))?)
    }
}

const PROFILE: &str = "callgrind.out";
const LOG: &str = "log";

/// Returns a row for each stage and a column for each operation.
fn table(counted: &[(&'static str, Counts)]) -> Table {
    let mut header = vec!["instructions"];
    header.extend(counted.iter().map(|(operation, _)| operation));
    let row = |name: &str, of: &dyn Fn(&Counts) -> i64| {
        let cells = counted.iter().map(|(_, counts)| thousands(of(counts)));
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    let mut rows: Vec<Vec<String>> = Stage::ALL
        .iter()
        .map(|stage| row(stage.name(), &|counts| counts.of(stage.name())))
        .collect();
    rows.push(row("total", &Counts::total));
    Table { header, rows }
}

/// Formats a number with commas between thousands.
fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
