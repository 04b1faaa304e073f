//! The machine, time and commit of a run.

use std::fs;
use std::process::Command;

use guestpass::clock::{Clock, SystemClock};
use serde_json::{Value, json};

/// Describes the environment of a run.
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// Date and time, UTC (RFC 3339).
    pub(crate) at: String,
    /// Output of `git describe --always --dirty`.
    pub(crate) commit: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let processor = model.map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']));
        let millis = u64::try_from(SystemClock::new().now().as_millis()).unwrap_or_default();
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis);
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            at: humantime::format_rfc3339_seconds(at).to_string(),
            commit: git(&["describe", "--always", "--dirty", "--abbrev=10"]),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "processor": self.processor,
            "kernel": self.kernel,
            "at": self.at,
            "commit": self.commit,
        })
    }
}

fn git(arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
