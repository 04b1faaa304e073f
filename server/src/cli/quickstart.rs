//! `guestpass quickstart`: a guest's whole life, to look at.

use super::{Failure, Output};
use crate::config::Config;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Stop after the guest's life instead of serving on
    #[arg(long)]
    once: bool,
}

impl Args {
    pub(super) fn add_flags(&self, flags: &mut Vec<(&'static str, String)>, has_data_dir: bool) {
        if !has_data_dir {
            flags.push(("data_dir", "./guestpass-quickstart".to_owned()));
        }
    }
}

pub(super) async fn run(_args: &Args, _config: Config, _output: Output) -> Result<(), Failure> {
    Ok(())
}
