//! The `guestpass` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    guestpass::cli::run()
}
