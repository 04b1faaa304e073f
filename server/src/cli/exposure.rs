//! Finds what others on this machine can do to the files of an installation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, Database, Listen, lock_of};
use crate::files::{resolved, with_suffix};

/// Warns in the log of what others can read or write and shouldn't.
pub(super) fn warn_of(config: &Config) {
    for exposed in exposed(config) {
        tracing::warn!("{exposed}");
    }
}

/// Lists the files with secrets that others can read, those that others can change though the installation relies on them,
/// and the directories in which they can put other files in the place of these, each as a sentence with the command that
/// ends it.
pub(super) fn exposed(config: &Config) -> Vec<String> {
    let files = secret_files(config)
        .into_iter()
        .chain(trusted_files(config));
    let files = files.filter_map(|file| {
        let exposed = mode(&file.path)? & file.kept_from;
        let can = match (exposed & READ != 0, exposed & WRITE != 0) {
            (true, true) => "read and write",
            (true, false) => "read",
            (false, true) => "write",
            (false, false) => return None,
        };
        let path = file.path.display();
        Some(format!(
            "others can {can} {path}, {}. Run: chmod {} {path}",
            file.about, file.command
        ))
    });
    let directories = directories(config).into_iter().filter_map(|directory| {
        let exposed = mode(&directory)? & WRITE != 0;
        exposed.then(|| {
            let path = directory.display();
            format!(
                "others can write to {path}, and so put files of theirs in the place of the installation's. Run: chmod \
                 go-w {path}"
            )
        })
    });
    files.chain(directories).collect()
}

/// Says that everybody can connect to a Unix socket, as to one that systemd has made without `SocketMode=`, with what ends it.
pub(super) fn of_socket(place: &Listen) -> Option<String> {
    let Listen::Unix(path) = place else {
        return None;
    };
    // To connect is to write.
    let is_exposed = fs::metadata(path).ok()?.permissions().mode() & WRITE & ACCESS_OF_OTHERS != 0;
    let path = path.display();
    is_exposed.then(|| {
        format!(
            "others can connect to {path}, and are believed when they say for whom they ask. Say SocketMode=0660 in the socket \
             unit, or run: chmod o= {path}"
        )
    })
}

/// A file that isn't for everybody.
struct PrivateFile {
    path: PathBuf,
    about: &'static str,
    /// The bits of its mode that let in who should stay out.
    kept_from: u32,
    /// The mode that mends it, for `chmod`.
    command: &'static str,
}

/// The bits of a mode that let the group or others read or write.
const ACCESS: u32 = 0o066;
/// Those that let others, but not the group, which a certificate is often shared with.
const ACCESS_OF_OTHERS: u32 = 0o006;
/// Those that let the group or others read.
const READ: u32 = 0o044;
/// Those that let the group or others write.
const WRITE: u32 = 0o022;

fn secret_files(config: &Config) -> Vec<PrivateFile> {
    let own = |path: &Path, about| PrivateFile {
        path: path.to_owned(),
        about,
        kept_from: ACCESS,
        command: "600",
    };
    let of_operator = |path: &Path, about| PrivateFile {
        kept_from: ACCESS_OF_OTHERS,
        command: "o=",
        ..own(path, about)
    };
    let mut files = Vec::new();
    if config.master_key.is_none() {
        files.push(own(
            &config.master_key_file,
            "the master key, which opens every other key",
        ));
    }
    if let Database::Sqlite(file) = &config.database {
        let file = resolved(file).unwrap_or_else(|_| file.clone());
        files.push(own(
            &file,
            "the database, which knows every guest, and whose mode SQLite gives to what it makes beside it (-wal, -shm)",
        ));
        // But not to what is there already.
        for suffix in ["-wal", "-shm"] {
            files.push(own(
                &with_suffix(&file, suffix),
                "a part of the database, which knows every guest",
            ));
        }
    }
    files.push(own(
        &config.journal,
        "the journal, which names guests that came by",
    ));
    if let Some(tls) = &config.tls {
        files.push(of_operator(
            &tls.key_file,
            "the private key of the certificate",
        ));
    }
    if let Some(file) = config
        .admin
        .as_ref()
        .and_then(|admin| admin.token_file.as_deref())
    {
        files.push(of_operator(file, "the token of the operators"));
    }
    if let Some(webhook) = &config.events.webhook {
        files.push(of_operator(
            &webhook.secret_file,
            "the secret by which the receiver of events knows who sends",
        ));
    }
    if let Some(file) = config.postgres.password_file() {
        files.push(of_operator(file, "the password of the database"));
    }
    if let Some(file) = &config.file_with_password {
        files.push(of_operator(
            file,
            "which has the password of the database in its URL",
        ));
    }
    files
}

/// Lists the files that hold no secrets, and that nobody else may change.
fn trusted_files(config: &Config) -> Vec<PrivateFile> {
    let own = |path: PathBuf, about| PrivateFile {
        path,
        about,
        kept_from: WRITE,
        command: "go-w",
    };
    let of_operator = |path: &Path, about| PrivateFile {
        kept_from: WRITE & ACCESS_OF_OTHERS,
        command: "o-w",
        ..own(path.to_owned(), about)
    };
    let mut files = Vec::new();
    if let Database::Sqlite(file) = &config.database {
        let file = resolved(file).unwrap_or_else(|_| file.clone());
        files.push(own(
            lock_of(&file),
            "which tells a second server who runs the first",
        ));
    }
    if let Some(file) = &config.file {
        files.push(of_operator(file, "the configuration"));
    }
    if let Some(tls) = &config.tls {
        files.push(of_operator(&tls.certificate_file, "the certificate"));
    }
    files
}

/// The directories of the database, the journal and the keys, each once.
fn directories(config: &Config) -> Vec<PathBuf> {
    let files = [
        config.data_dir.join("."),
        config.journal.clone(),
        config.master_key_file.clone(),
    ];
    let database = match &config.database {
        Database::Sqlite(file) => Some(file.clone()),
        Database::Postgres(_) => None,
    };
    let parent = |file: &PathBuf| match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut directories: Vec<_> = files.iter().chain(&database).map(parent).collect();
    directories.sort();
    directories.dedup();
    directories
}

/// Returns the mode of a regular file or a directory. A pipe or a device has no secrets of its own.
fn mode(path: &Path) -> Option<u32> {
    let found = fs::metadata(path).ok()?;
    (found.is_file() || found.is_dir()).then(|| found.permissions().mode())
}
