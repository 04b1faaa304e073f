//! Runs the whole program on few guests and for moments: checks that it measures, not the figures. The server is in the same
//! binary.

#![cfg(test)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_guestpass-bench");

#[test]
fn every_headline_scenario_does_something_and_nothing_fails() {
    let rows = measure(&[]);
    assert!(rows >= 9, "{rows}");
}

#[test]
fn scenarios_with_servers_of_their_own_do_something_and_nothing_fails() {
    assert_eq!(measure(&["fresh", "cleaning-latency"]), 2);
}

/// Measures these rows, or the headline ones, and returns their number. A moment is enough for each scenario, unless the
/// machine is so busy that nothing is done in it: then longer.
fn measure(only: &[&str]) -> usize {
    let rows = ["0.1", "1", "10"]
        .iter()
        .find_map(|seconds| measure_for(seconds, only));
    rows.expect("every scenario does something")
}

/// Returns the number of rows, or `None` if a scenario did nothing.
fn measure_for(seconds: &str, only: &[&str]) -> Option<usize> {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("report.json");
    let status = Command::new(PROGRAM)
        .args(["--rounds", "1", "--seconds", seconds, "--guests", "600"])
        .args(["--server", PROGRAM, "--directory"])
        .arg(directory.path().join("data"))
        .arg("--json")
        .arg(&json)
        .args(only.iter().flat_map(|row| ["--only", row]))
        .status();
    assert!(status.unwrap().success());
    let report = read(&json);
    assert!(!directory.path().join("data").exists());
    let scenarios = report["scenarios"].as_array().unwrap();
    let has_done = |scenario: &Value| scenario["rounds"][0]["done"].as_u64().unwrap() > 0;
    if !scenarios.iter().all(has_done) {
        return None;
    }
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        assert_eq!(row["failed"], 0, "{row}");
        assert!(row["median"].as_f64().unwrap() >= 0.0, "{row}");
    }
    Some(rows.len())
}

/// Asks only that something is found: it depends on how busy the machine is.
#[test]
fn a_flood_ends_with_a_verdict_on_everything() {
    let directory = TempDir::new().unwrap();
    let json = directory.path().join("report.json");
    let status = Command::new(PROGRAM)
        .args(["flood", "--seconds", "2", "--scale", "0.01"])
        .args(["--server", PROGRAM, "--directory"])
        .arg(directory.path().join("data"))
        .arg("--json")
        .arg(&json)
        .status();
    let found = read(&json);
    let verdicts = found["verdicts"].as_array().unwrap();
    assert_eq!(verdicts.len(), 13, "{verdicts:#?}");
    let all_are_met = verdicts.iter().all(|verdict| verdict["met"] == true);
    assert_eq!(status.unwrap().success(), all_are_met);
    assert_eq!(found["attack"].as_array().unwrap().len(), 7);
    assert!(found["server"]["memory"].as_u64().unwrap() > 0);
    assert!(!directory.path().join("data").exists());
}

#[test]
fn a_running_installation_is_driven() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let json = directory.path().join("report.json");
    let status = Command::new(PROGRAM)
        .args(["--target", &server.url, "--client-id", "shop"])
        .args(["--guests", "30", "--connections", "8", "--rate", "100"])
        .args(["--seconds", "0.3", "--json"])
        .arg(&json)
        .status();
    assert!(status.unwrap().success());
    let report = read(&json);
    let done = |at: usize| (&report[at]["done"], &report[at]["failed"]);
    let nothing = Value::Array(Vec::new());
    assert_eq!(done(0), (&30.into(), &nothing));
    // An open loop of 100/s over 0.3 s, however fast the server is.
    assert_eq!(done(1), (&30.into(), &nothing));
}

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let guestpass = || {
            let mut command = Command::new(PROGRAM);
            command.env("GUESTPASS_DATA_DIR", data);
            command
        };
        for arguments in [&["db", "migrate"][..], &["client", "add", "shop"]] {
            let done = guestpass().args(arguments).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        let mut child = guestpass()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}
