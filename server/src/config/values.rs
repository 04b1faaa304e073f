//! The text of every setting, from the source that takes precedence.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guestpass_core::time::text_of;
use serde::Serialize;
use zeroize::Zeroize;

use super::settings::{SETTINGS, Setting};
use crate::keys::MasterKey;
use crate::setting_file;
use crate::store::postgres::may_hold_password;

/// Maps every setting to its text and origin. Later calls of [`Values::set`] take precedence.
pub(super) struct Values(BTreeMap<&'static str, (String, Origin)>);

impl Values {
    pub(super) fn defaults() -> Self {
        Self(
            SETTINGS
                .iter()
                .map(|s| (s.name, (s.default.to_owned(), Origin::Default)))
                .collect(),
        )
    }

    pub(super) fn set(
        &mut self,
        name: &str,
        text: String,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let nearest = SETTINGS
                .iter()
                .map(|setting| (strsim::jaro_winkler(setting.name, name), setting.name))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map_or("", |(_, nearest)| nearest);
            let nearest = match origin {
                Origin::Environment(_) => {
                    format!("{PREFIX}{}", nearest.replace('.', "__").to_uppercase())
                }
                _ => nearest.to_owned(),
            };
            return Err(ConfigError(format!(
                "there is no setting `{name}` ({origin}). Did you mean `{nearest}`? `guestpass config show` lists them \
                 all"
            )));
        };
        if setting.name == "master_key" && matches!(origin, Origin::File(_)) {
            return Err(ConfigError(
                "a master key doesn't belong into the configuration file. Put it into a file of its own, mode 0600, \
                 and name that: master_key_file = \"…\""
                    .into(),
            ));
        }
        if text.contains('\0') {
            return Err(ConfigError(format!(
                "{name} ({origin}): it holds a NUL character, which no name or address has"
            )));
        }
        self.0.insert(setting.name, (text, origin));
        Ok(())
    }

    pub(super) fn read_file(&mut self, file: &Path) -> Result<(), ConfigError> {
        let problem = |error: &dyn fmt::Display| {
            ConfigError(format!(
                "the configuration file {}: {error}",
                file.display()
            ))
        };
        let text = setting_file::read_text(file).map_err(|error| problem(&error))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // Not the error itself, which would quote the line, and that may hold a secret.
            let before = error
                .span()
                .and_then(|span| text.get(..span.start))
                .unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            problem(&format!(
                "line {line}: {}",
                error.message().replace('\n', ", ")
            ))
        })?;
        let mut settings = Vec::new();
        flatten("", &table, &mut settings).map_err(|error| problem(&error))?;
        for (name, text) in settings {
            self.set(&name, text, Origin::File(file.to_owned()))?;
        }
        Ok(())
    }

    pub(super) fn one<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let (text, origin) = &self.0[name];
        parse(text).map_err(|problem| {
            ConfigError(match quoted(name, text) {
                Some(text) => format!("{name} = {text} ({origin}): {problem}"),
                None => format!("{name} ({origin}): {problem}"),
            })
        })
    }

    /// Parses as [`Values::one`] does, but returns `None` for an empty text.
    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.one(name, |text| {
            if text.is_empty() {
                Ok(None)
            } else {
                parse(text).map(Some)
            }
        })
    }

    /// Parses a duration that lies within a range.
    pub(super) fn duration(
        &self,
        name: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        self.one(name, |text| {
            let value = humantime::parse_duration(text)
                .map_err(|_| "write a duration such as 2s, 10m, 24h or 365d".to_owned())?;
            if range.contains(&value) {
                return Ok(value);
            }
            Err(format!(
                "it must lie between {} and {}",
                text_of(*range.start()),
                text_of(*range.end())
            ))
        })
    }

    /// Returns the file that a setting comes from.
    pub(super) fn file_of(&self, name: &str) -> Option<PathBuf> {
        match &self.0[name].1 {
            Origin::File(file) => Some(file.clone()),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        &self.0[name].0
    }

    pub(super) fn shown(&self, computed: &[(&str, String)]) -> Vec<ShownSetting> {
        SETTINGS
            .iter()
            .map(|Setting { name, about, .. }| {
                let (text, origin) = &self.0[name];
                let computed = computed.iter().find(|(computed, _)| computed == name);
                let value = match computed {
                    Some((_, value)) if *name == "database" => value.clone(),
                    Some((_, value)) => quoted(name, value).unwrap_or("(secret)").to_owned(),
                    None if text.is_empty() => String::new(),
                    None => quoted(name, text).unwrap_or("(secret)").to_owned(),
                };
                ShownSetting {
                    name,
                    value,
                    origin: origin.to_string(),
                    about,
                }
            })
            .collect()
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Some((text, _)) = self.0.get_mut("master_key") {
            text.zeroize();
        }
    }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const CENTURY: Duration = Duration::from_secs(100 * 31_557_600);

/// The prefix of environment variables that are settings.
pub(super) const PREFIX: &str = "GUESTPASS_";

/// A setting as `config show` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct ShownSetting {
    /// Its name, as in the file.
    pub name: &'static str,
    /// Its value, redacted if that is a secret.
    pub value: String,
    /// The origin of the value.
    pub origin: String,
    /// Its purpose.
    pub about: &'static str,
}

/// A mistake in the configuration, with what to type instead.
#[derive(Debug)]
pub struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The origin of a value.
pub(super) enum Origin {
    Default,
    Credential,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Credential => f.write_str("systemd credential"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// Returns the text of a setting if nothing in it can be a secret, wherever the operator has written it: the master key
/// itself or a private key instead of the name of its file, a password in a URL or instead of a file. Of a database's URL
/// only what was parsed is shown, and that by whoever has parsed it.
pub(super) fn quoted<'a>(name: &str, text: &'a str) -> Option<&'a str> {
    let must_be_secret = match name {
        "master_key" => true,
        "database" => !text.starts_with("sqlite:"),
        // A secret of that form has a slash as often as not, but no directory before it.
        "postgres.password_file" | "admin.token_file" | "events.secret_file" => {
            !text.contains('/') || !Path::new(text).parent().is_some_and(Path::is_dir)
        }
        _ => false,
    };
    let may_be_secret = text.contains('@') && text.contains("://")
        || may_hold_password(text)
        || text.contains("PRIVATE KEY")
        || MasterKey::parse(text).is_some();
    (!must_be_secret && !may_be_secret).then_some(text)
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    settings: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            toml::Value::Table(table) => flatten(&name, table, settings)?,
            toml::Value::String(text) => settings.push((name, text.clone())),
            toml::Value::Integer(number) => settings.push((name, number.to_string())),
            toml::Value::Boolean(on) => settings.push((name, on.to_string())),
            toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => {
                let items: Vec<_> = items.iter().filter_map(toml::Value::as_str).collect();
                settings.push((name, items.join(",")));
            }
            _ => return Err(format!("{name} must be a text, for example {name} = \"…\"")),
        }
    }
    Ok(())
}
