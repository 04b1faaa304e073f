//! The files that the settings name, and those that lie beside them without a setting: each must be a file, and one of its
//! own.

use std::path::{Path, PathBuf};

use super::{Config, ConfigError, Database, Listen};
use crate::files::{Identity, kind, resolved, with_suffix};
use crate::store::postgres::may_hold_password;

/// Parses the path of a file or a directory. The URL of a database is none, however it is spelled, and may hold a password
/// that no message must show.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    let lower = text.trim_start().to_ascii_lowercase();
    let is_url = ["postgres:", "postgresql:"]
        .iter()
        .any(|scheme| lower.starts_with(scheme));
    if is_url || text.contains("://") || may_hold_password(text) {
        return Err(
            "that looks like a URL, perhaps with a password, and not like a path. Name a file; a database in PostgreSQL is \
             named by the setting database alone"
                .to_owned(),
        );
    }
    Ok(PathBuf::from(text))
}

/// A file, and what it is for.
struct Named {
    what: &'static str,
    path: PathBuf,
    /// The setting that names it, or the file beside which it lies.
    setting: &'static str,
    /// It is written, so nothing else may be in it. Two that are only read may well be one, as a certificate with its
    /// key.
    is_written: bool,
}

impl Config {
    /// Checks that all files are different ones, by what they are and not by how they are spelled, and that those of the
    /// database are files: to open a pipe may block for ever, and to open a device may do anything. `read` are more files
    /// that are only read, each with its setting.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that is something else, or the first two that are the same.
    pub(super) fn check_files(
        &self,
        read: &[(&'static str, Option<&Path>)],
    ) -> Result<(), ConfigError> {
        if let Some(kind) = kind(&self.data_dir).filter(|kind| *kind != "a directory") {
            return Err(ConfigError(format!(
                "data_dir = {}: it is {kind}, not a directory",
                self.data_dir.display()
            )));
        }
        let files = self.files(read);
        let of_database = files.iter().filter(|file| file.setting == "database");
        for file in of_database {
            if let Some(kind) = kind(&file.path).filter(|kind| *kind != "a file") {
                return Err(ConfigError(format!(
                    "{}, {}: it is {kind}, not a file. Name a file: sqlite:PATH, with the setting database, or --data-dir",
                    file.what,
                    file.path.display()
                )));
            }
        }
        let identities: Vec<_> = files.iter().map(|file| Identity::of(&file.path)).collect();
        for (at, file) in files.iter().enumerate() {
            for (before, other) in files[..at].iter().enumerate() {
                let may_be_one = !file.is_written && !other.is_written;
                if !may_be_one && identities[at] == identities[before] {
                    return Err(ConfigError(format!(
                        "{} = {}: that is {} already ({}); name a file of its own",
                        file.setting,
                        file.path.display(),
                        other.what,
                        other.path.display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// Lists the files, those that nobody would move first.
    fn files(&self, read: &[(&'static str, Option<&Path>)]) -> Vec<Named> {
        let mut files = Vec::new();
        let mut add = |what, path: &Path, setting, is_written| {
            files.push(Named {
                what,
                path: path.to_owned(),
                setting,
                is_written,
            });
        };
        if let Database::Sqlite(file) = &self.database {
            // SQLite names them after the file that a link leads to.
            let file = resolved(file).unwrap_or_else(|_| file.clone());
            add("the database", &file, "database", true);
            for suffix in ["-wal", "-shm", "-journal"] {
                let beside = with_suffix(&file, suffix);
                add("a file of the database", &beside, "database", true);
            }
            add("the database's lock", &lock_of(&file), "database", true);
        }
        if self.master_key.is_none() {
            add(
                "the master key",
                &self.master_key_file,
                "master_key_file",
                true,
            );
        }
        add("the journal", &self.journal, "journal", true);
        if let Listen::Unix(socket) = &self.listen {
            add("the socket", socket, "listen", true);
        }
        if let Some(tls) = &self.tls {
            let (certificate, key) = (&tls.certificate_file, &tls.key_file);
            add(
                "the certificate",
                certificate,
                "tls.certificate_file",
                false,
            );
            add("the certificate's key", key, "tls.key_file", false);
        }
        for (setting, path) in read {
            let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
                continue;
            };
            add("a file that is only read", path, setting, false);
        }
        files
    }
}

/// Returns the file that says which process has a database, whose path must be resolved.
#[must_use]
pub fn lock_of(database: &Path) -> PathBuf {
    match database.extension() {
        Some(extension) if extension == "db" => database.with_extension("lock"),
        _ => with_suffix(database, ".lock"),
    }
}
