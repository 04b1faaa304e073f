//! Files and settings of operators.

use std::path::PathBuf;
use std::time::Duration;

use guestpass::config::Config;
use guestpass::journal::{Entry, Journal};
use guestpass::store::postgres::Connection;
use guestpass_core::time::Timestamp;

/// Reads a journal, and compacts it: what is young stays, in its order.
pub fn journal(data: &[u8]) {
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("guestpass.journal");
    std::fs::write(&file, data).expect("there is room");
    let (Ok(before), now) = (Journal::read(&file), Timestamp::from_millis(0)) else {
        return;
    };
    let lifetime = Duration::from_secs(86_400);
    Journal::compact(&file, lifetime, now).expect("what could be read can be compacted");
    let after = Journal::read(&file).expect("what was compacted can be read");
    let young = |entries: &[Entry]| -> Vec<Entry> {
        let is_young = |entry: &&Entry| match entry {
            Entry::GuestErased(tombstone) | Entry::LinkUndone(tombstone) => tombstone.at >= now,
            Entry::GrantRevoked(..)
            | Entry::AccessTokenRevoked(_)
            | Entry::Mark(_)
            | Entry::MarkStored(_) => false,
        };
        entries.iter().filter(is_young).copied().collect()
    };
    assert_eq!(young(&before), young(&after));
    let reopened = Journal::open(&file).map(drop);
    assert!(reopened.is_ok(), "{reopened:?}");
}

/// Reads a configuration file. What is accepted makes an issuer and routes.
pub fn config(data: &[u8]) {
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("guestpass.toml");
    std::fs::write(&file, data).expect("there is room");
    match Config::from_sources(&[], Vec::new(), Some(&file)) {
        Ok(config) => {
            let _ = config.issuer_on(&config.listen);
            let _ = config.url_of(&config.listen);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Reads the URL of a PostgreSQL database. Nothing shows its password.
pub fn postgres_url(data: &[u8]) {
    const SECRET: &str = "S3cretpw";
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for url in [
        text.to_owned(),
        text.replacen('@', &format!(":{SECRET}@"), 1),
    ] {
        let shown = match Connection::parse(&url, 8, 64) {
            Ok(connection) => connection.to_string(),
            Err(error) => error,
        };
        let is_hidden = !shown.contains(SECRET) || text.contains(SECRET);
        assert!(is_hidden, "{url} is shown as {shown}");
    }
    // The same as a setting.
    let flags = [("database", text.replacen('@', &format!(":{SECRET}@"), 1))];
    if let Err(error) = Config::from_sources(&flags, Vec::new(), None::<PathBuf>.as_deref()) {
        let is_hidden = !error.to_string().contains(SECRET) || text.contains(SECRET);
        assert!(is_hidden, "{error}");
    }
}
