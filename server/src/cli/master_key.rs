//! Reads or makes the master key, and opens the keys with it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Failure;
use super::database::Opened;
use crate::config::{Config, Database};
use crate::keys::{KeyRing, KeysError, MasterKey, MasterKeySource};
use crate::random::{Random, SecureGenerator};

/// Opens the keys of the store, making the first ones if the installation is new. A master key is made only for an
/// embedded store: where there are many nodes, each is given the same.
pub(super) async fn open_or_make_keys(
    config: &Config,
    opened: &Opened,
) -> Result<KeyRing, Failure> {
    let file = &config.master_key_file;
    let make = || {
        let key = MasterKey::generate(&SecureGenerator::new());
        keep(file, &key).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(key)
    };
    load(config, opened, &make).await
}

/// Opens the keys of the store. Never makes a master key.
pub(super) async fn open_keys(config: &Config, opened: &Opened) -> Result<KeyRing, Failure> {
    let none_yet = || Err("there are no keys yet: `guestpass serve` makes them".to_owned());
    load(config, opened, &none_yet).await
}

async fn load(
    config: &Config,
    Opened { store, clock }: &Opened,
    make: &(dyn Fn() -> Result<MasterKey, String> + Sync),
) -> Result<KeyRing, Failure> {
    let file = &config.master_key_file;
    let (place, present) = match &config.master_key {
        Some(key) => ("GUESTPASS_MASTER_KEY".to_owned(), Some(key.clone())),
        None => (file.display().to_string(), read_master_key(file)?),
    };
    if present.is_none() && matches!(config.database, Database::Postgres(_)) {
        return Err(missing(file));
    }
    let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
    let source = MasterKeySource { present, make };
    KeyRing::load(
        store.clone(),
        source,
        random,
        config.schedule.clone(),
        clock.now(),
    )
    .await
    .map_err(|error| match error {
        KeysError::MasterKeyMissing => Failure(format!(
            "{error}. Bring back the file {} from where this database comes, or set GUESTPASS_MASTER_KEY",
            file.display()
        )),
        KeysError::MasterKeyWrong => Failure(format!(
            "{error}: {place}. Bring the master key that belongs to the database {}, usually the file {} of the same \
             backup",
            config.database,
            file.display()
        )),
        other => Failure(other.to_string()),
    })
}

/// Checks that there is a master key, where none is made.
pub(super) fn require_master_key(config: &Config) -> Result<(), Failure> {
    match (
        &config.master_key,
        read_master_key(&config.master_key_file)?,
    ) {
        (None, None) => Err(missing(&config.master_key_file)),
        _ => Ok(()),
    }
}

fn missing(file: &Path) -> Failure {
    Failure(format!(
        "there is no master key, {0}. With PostgreSQL every node is given the same one. Bring it from another node or \
         from a backup; or, for a new installation, make it once: (umask 077; head -c 32 /dev/urandom | base64 > {0})",
        file.display()
    ))
}

/// Reads the master key. `None` if there is no such file.
fn read_master_key(file: &Path) -> Result<Option<MasterKey>, Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure(format!(
                "the master key {}: {error}",
                file.display()
            )));
        }
    };
    warn_if_readable(file);
    MasterKey::parse(&text).map(Some).ok_or_else(|| {
        Failure(format!(
            "{} is not a master key, which is 32 bytes as base64: 44 characters. Bring back the right file",
            file.display()
        ))
    })
}

/// Writes a new master key durably and atomically, and never over another one.
fn keep(file: &Path, key: &MasterKey) -> std::io::Result<()> {
    let part = file.with_extension("part");
    let mut opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    writeln!(opened, "{}", key.expose())?;
    opened.sync_all()?;
    std::fs::hard_link(&part, file)?;
    std::fs::remove_file(&part)?;
    match file.parent() {
        Some(directory) if directory.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn warn_if_readable(file: &Path) {
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(
            "others can read the master key {0}. Run: chmod 600 {0}",
            file.display()
        );
    }
}
