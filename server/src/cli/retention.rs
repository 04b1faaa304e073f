//! `guestpass retention`: who would be forgotten because nobody has come back.

use std::collections::BTreeMap;

use clap::Args as ClapArgs;
use serde_json::json;

use super::{Failure, Output, database, rfc3339, table, terminal};
use crate::config::Config;

#[derive(ClapArgs)]
#[command(after_help = "\
A running server forgets guests by itself, a week and more after their last grant has ended, if retention.idle or \
retention.idle_linked say so.

Example:
  guestpass retention --dry-run --config /etc/guestpass/guestpass.toml")]
pub(super) struct Args {
    /// Count the guests that a server would forget now, and change nothing
    #[arg(long, required = true)]
    dry_run: bool,
}

pub(super) async fn run(_args: Args, config: &Config, output: Output) -> Result<(), Failure> {
    let retention = config.keep.guests;
    if retention.is_off() {
        return Err(Failure(
            "guests are kept for ever: neither retention.idle nor retention.idle_linked is set. To see who would go, set one for this \
             command, for example GUESTPASS_RETENTION__IDLE=365d guestpass retention --dry-run"
                .to_owned(),
        ));
    }
    let opened = database::open(config).await?;
    let now = opened.trusted_now()?;
    let before = retention.before(now);
    // Whether linked, and the month when last seen.
    let mut counted: BTreeMap<(bool, String), u64> = BTreeMap::new();
    let (mut after, mut seen) = (None, 0_u64);
    loop {
        let part = opened.store.scan_guests(after, before, AT_ONCE).await?;
        for guest in part.idle {
            let month = rfc3339(guest.seen_at)[..MONTH].to_owned();
            *counted.entry((guest.is_linked, month)).or_default() += 1;
        }
        seen += part.scanned as u64;
        if terminal::has_terminal() {
            terminal::replace_line(&format!("{seen} guests looked at"), part.next.is_none());
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let all: u64 = counted.values().sum();
    let months: Vec<_> = counted
        .iter()
        .map(|((linked, month), guests)| json!({"linked": linked, "last_seen": month, "guests": guests}))
        .collect();
    output.print(&json!({"guests": all, "months": months}), || {
        let rows = counted.iter().map(|((linked, month), guests)| {
            let linked = if *linked { "linked" } else { "not linked" };
            vec![month.clone(), linked.to_owned(), guests.to_string()]
        });
        let mut lines = vec![format!("{all} guests would be forgotten now")];
        if all > 0 {
            lines.push(String::new());
            lines.extend(table(&["LAST SEEN", "", "GUESTS"], rows));
        }
        lines
    })
}

/// The length of a month in RFC 3339: `2026-11`.
const MONTH: usize = 7;

const AT_ONCE: usize = 1_000;
