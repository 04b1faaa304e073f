//! The committed figures, and the comparison with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Holds the instructions of one operation by stage.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, i64>);

impl Counts {
    pub(crate) fn insert(&mut self, stage: &str, instructions: i64) {
        self.0.insert(stage.to_owned(), instructions);
    }

    pub(crate) fn of(&self, stage: &str) -> i64 {
        self.0.get(stage).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> i64 {
        self.0.values().sum()
    }
}

/// Holds the version of the compiler, as `rustc --version` prints it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Compiler(String);

impl Compiler {
    pub(crate) fn installed() -> Result<Self, Failure> {
        let output = Command::new("rustc").arg("--version").output()?;
        Ok(Self(String::from_utf8(output.stdout)?.trim().to_owned()))
    }
}

/// Mirrors the file `bench/instructions.json`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Figures {
    about: String,
    /// By architecture and profile: `x86_64 release`.
    builds: BTreeMap<String, Build>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Build {
    compiler: Compiler,
    operations: BTreeMap<String, Counts>,
}

/// Names the build of this program.
fn this_build() -> String {
    let profile = match cfg!(debug_assertions) {
        true => "dev",
        false => "release",
    };
    format!("{} {profile}", std::env::consts::ARCH)
}

impl Figures {
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(file)
            .map_err(|error| Failure(format!("{}: {error}", file.display())))?;
        serde_json::from_str(&text).map_err(|error| Failure(format!("{}: {error}", file.display())))
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), Failure> {
        Ok(fs::write(
            file,
            format!("{}\n", serde_json::to_string_pretty(self)?),
        )?)
    }

    pub(crate) fn set(&mut self, compiler: Compiler, counted: Vec<(&'static str, Counts)>) {
        let operations = counted
            .into_iter()
            .map(|(operation, counts)| (operation.to_owned(), counts))
            .collect();
        let build = Build {
            compiler,
            operations,
        };
        self.builds.insert(this_build(), build);
    }

    /// Compares what was counted now with what is written down for the same build.
    pub(crate) fn compare(
        &self,
        compiler: &Compiler,
        counted: &[(&'static str, Counts)],
    ) -> Result<Changes, Failure> {
        let name = this_build();
        let build = self.builds.get(&name).ok_or_else(|| {
            Failure(format!(
                "no figures are written down for {name}: make count WRITE=1"
            ))
        })?;
        let tolerance = match build.compiler == *compiler {
            true => TOLERANCE,
            false => TOLERANCE_OF_ANOTHER_COMPILER,
        };
        let mut changes = Changes::default();
        for (operation, now) in counted {
            match build.operations.get(*operation) {
                Some(before) => changes.add(operation, before, now, tolerance),
                None => changes
                    .grown
                    .push(format!("{operation}: no figures are written down")),
            }
        }
        Ok(changes)
    }
}

/// Limits the growth of a figure, in per cent.
const TOLERANCE: f64 = 2.0;
const TOLERANCE_OF_ANOTHER_COMPILER: f64 = 10.0;

/// Has a line for each change beyond the tolerance.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) grown: Vec<String>,
    pub(crate) shrunken: Vec<String>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.grown.is_empty() && self.shrunken.is_empty()
    }

    /// Compares one operation.
    ///
    /// The growth of a stage counts in per cent of the whole operation, so a stage that is nearly nothing can't fail. And at
    /// least half of it must be growth of the whole: a function that is inlined elsewhere moves from one stage to another,
    /// and costs nothing.
    fn add(&mut self, operation: &str, before: &Counts, now: &Counts, tolerance: f64) {
        let per_cent = |instructions: i64| 100.0 * instructions as f64 / before.total() as f64;
        let growth = now.total() - before.total();
        let mut stages: Vec<(&str, i64)> = now
            .0
            .iter()
            .map(|(stage, instructions)| (stage.as_str(), instructions - before.of(stage)))
            .collect();
        stages.sort_by_key(|(_, growth)| -growth);
        let has_grown = per_cent(growth) > tolerance
            || stages
                .iter()
                .any(|(_, stage)| per_cent(*stage) > tolerance && 2 * growth >= *stage);
        let has_shrunken = per_cent(growth) < -tolerance;
        if !has_grown && !has_shrunken {
            return;
        }
        let parts: Vec<_> = stages
            .iter()
            .filter(|(_, growth)| per_cent(*growth).abs() >= WORTH_TELLING)
            .map(|(stage, growth)| format!("{stage} {growth:+} ({:+.1} %)", per_cent(*growth)))
            .collect();
        let line = format!(
            "{operation}: {} instructions instead of {}, {:+.1} %. By stage, of the whole: {}",
            now.total(),
            before.total(),
            per_cent(growth),
            parts.join(", ")
        );
        match has_grown {
            true => self.grown.push(line),
            false => self.shrunken.push(line),
        }
    }
}

/// Limits what a line names, in per cent of the operation.
const WORTH_TELLING: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(http: i64, store: i64, log: i64) -> Counts {
        let mut counts = Counts::default();
        counts.insert("http", http);
        counts.insert("store", store);
        counts.insert("log", log);
        counts
    }

    #[test]
    fn what_has_grown_fails_and_names_the_operation_and_the_stage() {
        let before = counts(400, 590, 10);
        let cases = [
            ("nothing", counts(400, 590, 10), (0, 0)),
            ("within the tolerance", counts(420, 590, 10), (0, 0)),
            ("the whole", counts(410, 601, 10), (1, 0)),
            ("a small stage by much", counts(400, 590, 20), (0, 0)),
            (
                "a stage, though another shrank",
                counts(400, 578, 40),
                (1, 0),
            ),
            ("moved from stage to stage", counts(500, 490, 10), (0, 0)),
            ("shrunken", counts(400, 500, 10), (0, 1)),
        ];
        for (case, now, expected) in cases {
            let mut changes = Changes::default();
            changes.add("refresh", &before, &now, TOLERANCE);
            let found = (changes.grown.len(), changes.shrunken.len());
            assert_eq!(found, expected, "{case}: {changes:?}");
        }
    }

    #[test]
    fn a_change_says_by_how_much() {
        let mut changes = Changes::default();
        changes.add(
            "refresh",
            &counts(400, 590, 10),
            &counts(400, 650, 10),
            TOLERANCE,
        );
        assert_eq!(
            changes.grown,
            [
                "refresh: 1060 instructions instead of 1000, +6.0 %. By stage, of the whole: store +60 (+6.0 %)"
            ]
        );
    }
}
