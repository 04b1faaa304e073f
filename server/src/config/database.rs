//! The database that the configuration names.

use std::fmt;
use std::path::{Path, PathBuf};

use super::values::{ConfigError, Values};
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
    connections: usize,
    batch: usize,
    password: Option<String>,
    node: String,
}

impl Postgres {
    pub(super) fn parse(values: &Values, node: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            connections: values.one("postgres.connections", number(2, 1_000))?,
            batch: values.one("postgres.batch", number(1, 1_000))?,
            password: values.optional("postgres.password_file", |file| {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("it can't be read: {error}"))?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            })?,
            node: node.to_owned(),
        })
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
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("postgres" | "postgresql", _)) => {
                Ok(Self::Postgres(Box::new(postgres.connection(text)?)))
            }
            _ => Err("write sqlite:PATH or postgres://USER@HOST:PORT/NAME".to_owned()),
        })
    }
}

impl Database {
    /// Returns whether that file is the database.
    pub(super) fn is_in(&self, file: &Path) -> bool {
        matches!(self, Self::Sqlite(own) if own == file)
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

fn number(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("write a number between {least} and {most}"))
    }
}
