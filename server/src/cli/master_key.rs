//! Reads or makes the master key, and opens the keys with it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::database::Opened;
use super::{Failure, places};
use crate::config::{Config, Database};
use crate::files::is_unknown_to_file_system;
use crate::keys::{KeyRing, KeysError, MasterKey, MasterKeySource};
use crate::progress::waiting;
use crate::random::{Random, SecureGenerator};
use crate::setting_file;

/// Opens the keys of the store, making the first ones if the installation is new. A master key is made only for an
/// embedded store: where there are many nodes, each is given the same.
pub(super) async fn open_or_make_keys(
    config: &Config,
    opened: &Opened,
) -> Result<KeyRing, Failure> {
    let file = &config.master_key_file;
    let make = || {
        let key = MasterKey::generate(&SecureGenerator::new());
        places::require_makeable(config, file)
            .and_then(|()| keep(file, &key))
            .map_err(|error| cannot_keep(file, &error))?;
        Ok(key)
    };
    load(config, opened, Some(&make)).await
}

fn cannot_keep(file: &Path, error: &io::Error) -> String {
    format!(
        "{}: {error}. Mend that; or make the key elsewhere, with (umask 077; head -c 32 /dev/urandom | base64 > FILE), and \
         name the file: master_key_file",
        file.display()
    )
}

/// Opens the keys of the store. Never makes a master key.
pub(super) async fn open_keys(config: &Config, opened: &Opened) -> Result<KeyRing, Failure> {
    load(config, opened, None).await
}

async fn load(
    config: &Config,
    Opened { store, clock }: &Opened,
    make: Option<&(dyn Fn() -> Result<MasterKey, String> + Sync)>,
) -> Result<KeyRing, Failure> {
    let file = &config.master_key_file;
    let present = match &config.master_key {
        Some(key) => Some(key.clone()),
        None => wait_for_master_key(file).await?,
    };
    if present.is_none() && matches!(config.database, Database::Postgres(_)) {
        return Err(missing(file));
    }
    let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
    let none_yet = || Err(String::new());
    let source = MasterKeySource {
        present,
        make: make.unwrap_or(&none_yet),
    };
    KeyRing::load(
        store.clone(),
        source,
        random,
        config.schedule.clone(),
        clock.now(),
    )
    .await
    .map_err(|error| match (error, &config.master_key) {
        (KeysError::CannotKeep(_), _) if make.is_none() => {
            Failure("there are no keys yet: `guestpass serve` makes them".to_owned())
        }
        (error @ KeysError::MasterKeyMissing, _) => Failure(format!(
            "{error}. Bring back the file {} from where this database comes, or set GUESTPASS_MASTER_KEY",
            file.display()
        )),
        (error @ KeysError::MasterKeyWrong, Some(_)) => Failure(format!(
            "{error}: GUESTPASS_MASTER_KEY. Set it to the master key that belongs to the database {}; or unset it, if \
             that key is in the file {}",
            config.database,
            file.display()
        )),
        (error @ KeysError::MasterKeyWrong, None) => Failure(format!(
            "{error}: {0}. Bring the master key that belongs to the database {1}, usually the file {0} of the same \
             backup",
            file.display(),
            config.database,
        )),
        (other, _) => Failure(other.to_string()),
    })
}

/// Checks that there is a master key, where none is made.
pub(super) async fn require_master_key(config: &Config) -> Result<(), Failure> {
    let file = &config.master_key_file;
    if config.master_key.is_none() && wait_for_master_key(file).await?.is_none() {
        return Err(missing(file));
    }
    Ok(())
}

/// Checks that a start would have the first master key of an installation: it is there, or could be made; with PostgreSQL
/// it must be there.
pub(super) async fn require_first_key(config: &Config) -> Result<(), Failure> {
    let file = &config.master_key_file;
    match config.database {
        Database::Postgres(_) => require_master_key(config).await,
        Database::Sqlite(_) if config.master_key.is_some() => Ok(()),
        Database::Sqlite(_) => match wait_for_master_key(file).await? {
            Some(_) => Ok(()),
            None => places::require_makeable(config, file)
                .map_err(|error| KeysError::CannotKeep(cannot_keep(file, &error)).into()),
        },
    }
}

fn missing(file: &Path) -> Failure {
    Failure(format!(
        "there is no master key, {0}. With PostgreSQL every node is given the same one. Bring it from another node or \
         from a backup; or, for a new installation, make it once: (umask 077; head -c 32 /dev/urandom | base64 > {0})",
        file.display()
    ))
}

/// Reads the master key, which may come through a pipe that says nothing yet.
async fn wait_for_master_key(file: &Path) -> Result<Option<MasterKey>, Failure> {
    let what = format!("waiting for the master key {}", file.display());
    let file = file.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_master_key(&file));
    waiting(&what, reading).await?
}

/// Reads the master key. `None` if there is no such file.
fn read_master_key(file: &Path) -> Result<Option<MasterKey>, Failure> {
    let is_missing = |error: io::Error| error.kind() == ErrorKind::NotFound;
    if std::fs::metadata(file).is_err_and(is_missing) {
        return Ok(None);
    }
    let text = setting_file::wait_for_text(file)
        .map_err(|problem| Failure(format!("the master key {}: {problem}", file.display())))?;
    MasterKey::parse(&text).map(Some).ok_or_else(|| {
        Failure(format!(
            "{} is not a master key, which is 32 bytes as base64: 44 characters. Bring back the right file",
            file.display()
        ))
    })
}

/// Writes a new master key durably and, where the file system can do it, atomically; never over another one.
fn keep(file: &Path, key: &MasterKey) -> io::Result<()> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let text = Zeroizing::new(format!("{}\n", *key.expose()));
    // A name of its own, which nobody can have prepared.
    let part = tempfile::Builder::new()
        .prefix(".master.key.")
        .tempfile_in(directory)?;
    write_private(part.as_file(), &text)?;
    match std::fs::hard_link(part.path(), file) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        // A file system without hard links, as those of many networks, containers and memory cards.
        Err(_) => write_in_place(file, &text)?,
    }
    sync_directory(directory)
}

/// Writes a file under its own name. If that fails, nothing is left of it.
fn write_in_place(file: &Path, text: &str) -> io::Result<()> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    write_private(&opened, text).inspect_err(|_| {
        let _ = std::fs::remove_file(file);
    })
}

fn write_private(mut file: &File, text: &str) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Syncs a directory, if its file system knows such a thing: some network file systems don't.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        Err(error) if is_unknown_to_file_system(&error) => Ok(()),
        synced => synced,
    }
}
