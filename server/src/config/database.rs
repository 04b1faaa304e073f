//! The database that the configuration names.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files;
use super::values::{ConfigError, Values};
use crate::setting_file;
use crate::store::postgres::Connection;

/// The database.
#[derive(Clone)]
pub enum Database {
    /// The embedded store, in this file.
    Sqlite(PathBuf),
    /// PostgreSQL, or a database that speaks its protocol.
    Postgres(Box<Connection>),
}

/// The settings of PostgreSQL, whichever database it is.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) connections: usize,
    batch: usize,
    password: Option<Zeroizing<String>>,
    password_file: Option<PathBuf>,
    node: String,
}

impl Postgres {
    pub(super) fn parse(values: &Values, node: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            connections: values.one("postgres.connections", number(2, 1_000))?,
            batch: values.one("postgres.batch", number(1, 1_000))?,
            password: values.optional("postgres.password_file", |file| {
                let text = setting_file::read_text(&files::path(file)?).map_err(|problem| {
                    format!("{problem}. Name the file that holds the password")
                })?;
                Ok(Zeroizing::new(
                    text.trim_end_matches(['\r', '\n']).to_owned(),
                ))
            })?,
            password_file: values.optional("postgres.password_file", files::path)?,
            node: node.to_owned(),
        })
    }

    /// Returns the file that the password was read from.
    #[must_use]
    pub fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    /// Parses the URL of a database and adds the settings of [`Postgres`].
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn connection(&self, url: &str) -> Result<Connection, String> {
        let connection =
            Connection::parse(url, self.connections, self.batch)?.with_node(&self.node);
        Ok(match &self.password {
            Some(password) => connection.with_password(password),
            None => connection,
        })
    }
}

impl Database {
    pub(super) fn parse(
        values: &Values,
        data_dir: &Path,
        postgres: &Postgres,
    ) -> Result<Self, ConfigError> {
        values.one("database", |text| match text.split_once(':') {
            None if text.is_empty() => Ok(Self::Sqlite(data_dir.join("guestpass.db"))),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(sqlite(path)?)),
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self::Postgres(Box::new(postgres.connection(text)?)))
            }
            _ => Err("write sqlite:PATH or postgres://USER@HOST:PORT/NAME".to_owned()),
        })
    }
}

impl Database {
    /// Tells whether `url`, of which it was parsed, has a password.
    pub(super) fn password_in_url(&self, url: &str) -> bool {
        matches!(self, Self::Postgres(_))
            && Connection::parse(url, 2, 1).is_ok_and(|given| given.has_password())
    }
}

impl fmt::Display for Database {
    /// Writes the value of the setting `database`, without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres(connection) => write!(f, "{connection}"),
        }
    }
}

/// Parses the path behind `sqlite:`. Refuses what SQLite or others take for something else than a path (SQLite, "Uniform
/// Resource Identifiers" and "In-Memory Databases"): here it would be the name of a file that nobody meant.
fn sqlite(path: &str) -> Result<PathBuf, String> {
    let file = files::path(path)?;
    let lower = path.to_ascii_lowercase();
    let is_misread = lower.starts_with(':') || lower.starts_with("file:");
    if is_misread && lower != ":memory:" {
        return Err(format!(
            "SQLite doesn't take {path} for a path. If it is one, write ./{path}"
        ));
    }
    if lower.contains(":memory:") || lower.contains("mode=memory") {
        return Err(
            "a database in memory would be lost with the process. Name a file: sqlite:PATH"
                .to_owned(),
        );
    }
    if path.contains('?') {
        return Err(
            "behind sqlite: stands a path alone; leave out the ? and the parameters behind it"
                .to_owned(),
        );
    }
    if path.starts_with("//") && !path.starts_with("///") {
        return Err(
            "behind sqlite: stands a path, and no host. Write sqlite:/PATH, or sqlite:PATH for one that begins in the \
             working directory"
                .to_owned(),
        );
    }
    if path.ends_with('/') {
        return Err("that is a directory. Name a file in it: sqlite:PATH".to_owned());
    }
    Ok(file)
}

fn number(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("write a number between {least} and {most}"))
    }
}
