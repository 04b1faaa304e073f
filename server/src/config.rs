//! The configuration: flags over environment over file over defaults, read and checked once, at start.
//!
//! Only this module reads the environment. A name that no setting has is an error, wherever it stands, because a typing
//! error must not become a default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guestpass_core::choice::{self, Choice};
use guestpass_core::policy::Policy;
use guestpass_core::rate_limit::RateLimit;

use crate::keys::{MasterKey, Schedule};
use crate::listen;
use crate::rate_limits;
use crate::store::postgres::may_hold_password;
use crate::store::sqlite::Synchronous;
use crate::telemetry::{LogFormat, LogLevel};

mod admin;
mod cleaning;
mod connections;
mod database;
mod events;
mod files;
mod issuer;
mod keys;
mod listening;
mod paths;
mod settings;
mod tls;
mod values;
mod verification;

pub use admin::{Admin, AdminTls, Host, OperatorToken};
pub use cleaning::{Keep, Retention};
pub use connections::TrustedProxies;
pub use database::{Database, Postgres};
pub use events::{Events, Webhook};
pub use files::lock_of;
pub use issuer::Issuer;
pub use listening::Listen;
pub use tls::{Certificate, Tls};
pub use values::{ConfigError, ShownSetting};
use values::{Origin, PREFIX, Values};
pub use verification::Verification;

/// Holds every setting, parsed. `config/settings.rs` lists them; which of them a client may override is in `Policy`.
#[derive(Clone)]
pub struct Config {
    /// The directory of the embedded store, the master key and the journal, unless other settings name files of their
    /// own.
    pub data_dir: PathBuf,
    /// The place at which the public API listens.
    pub listen: Listen,
    /// The settings of connections to the public API; the certificate isn't read yet.
    pub connections: listen::Settings,
    /// The certificate and key of the public API. Without them it doesn't speak TLS.
    pub tls: Option<Tls>,
    /// The configured issuer. Without one it follows from the listening address, on loopback only.
    pub issuer: Option<Issuer>,
    /// The prefixes under which `/oauth/…` is served; `""` is the root.
    pub base_paths: Vec<String>,
    /// The operators' listener, if there is one.
    pub admin: Option<Admin>,
    /// The health checks are answered on the public listener as well.
    pub public_health: bool,
    /// The database.
    pub database: Database,
    /// The settings of PostgreSQL, whichever database it is.
    pub postgres: Postgres,
    /// The durability of SQLite's commits.
    pub synchronous: Synchronous,
    /// The master key itself, if the environment gives it.
    pub master_key: Option<MasterKey>,
    /// The file of the master key otherwise.
    pub master_key_file: PathBuf,
    /// The lifetimes and choices of tokens, for clients that have none of their own.
    pub policy: Policy,
    /// The treatment of requests beyond the rate limits, which are part of the policy.
    pub limits_mode: rate_limits::Mode,
    /// The least important level that is logged.
    pub log_level: LogLevel,
    /// The lines of one kind that are logged, if there is a limit.
    pub log_repeats: RateLimit,
    /// The format of the log.
    pub log_format: LogFormat,
    /// The schedule of key rotation.
    pub schedule: Schedule,
    /// The settings of `/oauth/verify`.
    pub verification: Verification,
    /// The file of the journal.
    pub journal: PathBuf,
    /// The times for which the cleaner keeps what it removes in the end.
    pub keep: Keep,
    /// The time from a node's start until it begins to clean.
    pub clean_after: Duration,
    /// The settings of events.
    pub events: Events,
    /// The name of this node.
    pub node: String,
    /// Allows the process to leave a core dump, and to be traced.
    pub core_dumps: bool,
    /// The configuration file, if it has a password in the database's URL.
    pub file_with_password: Option<PathBuf>,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// The settings as `config show` prints them.
    pub shown: Vec<ShownSetting>,
}

impl Config {
    /// Reads all sources. `flags` are settings from the command line, `file` is what `--config` names.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that can't be right.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the environment is read"
    )]
    pub fn load(
        flags: &[(&'static str, String)],
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut ours = Vec::new();
        for (name, value) in std::env::vars_os() {
            // A variable whose name isn't UTF-8 is none of ours; the value of one that is must be.
            let Some(name) = name
                .into_string()
                .ok()
                .filter(|name| name.starts_with(PREFIX) || name == CREDENTIALS_VARIABLE)
            else {
                continue;
            };
            let value = value
                .into_string()
                .map_err(|_| ConfigError(format!("{name}: its value is not UTF-8")))?;
            ours.push((name, value));
        }
        Self::from_sources(flags, ours, file)
    }

    /// Loads as [`Config::load`] does, with the environment as an argument.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that can't be right.
    pub fn from_sources(
        flags: &[(&'static str, String)],
        environment: Vec<(String, String)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut values = Values::defaults();
        if let Some(credential) = environment
            .iter()
            .find(|(name, directory)| name == CREDENTIALS_VARIABLE && !directory.is_empty())
            .map(|(_, directory)| Path::new(directory).join(CREDENTIAL))
            .filter(|file| file.exists())
        {
            let file = credential.display().to_string();
            values.set("master_key_file", file, Origin::Credential)?;
        }
        let (config_variables, variables): (Vec<_>, Vec<_>) = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .partition(|(name, _)| name == CONFIG_VARIABLE);
        let from_environment = config_variables
            .first()
            .filter(|(_, path)| !path.is_empty())
            .map(|(_, path)| PathBuf::from(path));
        let file = file.or(from_environment.as_deref());
        if let Some(file) = file {
            files::path(&file.to_string_lossy())
                .map_err(|problem| ConfigError(format!("the configuration file: {problem}")))?;
            values.read_file(file)?;
        }
        for (variable, text) in variables {
            let name = variable[PREFIX.len()..]
                .to_ascii_lowercase()
                .replace("__", ".");
            values.set(&name, text, Origin::Environment(variable))?;
        }
        for (name, text) in flags {
            values.set(name, text.clone(), Origin::Flag)?;
        }
        let mut config = Self::parse(&values)?;
        config.file = file.map(Path::to_owned);
        let named = |setting| (setting, Some(Path::new(values.text(setting))));
        let read = [
            ("--config", file),
            named("postgres.password_file"),
            named("admin.token_file"),
            named("events.secret_file"),
        ];
        config.check_files(&read)?;
        Ok(config)
    }

    fn parse(values: &Values) -> Result<Self, ConfigError> {
        let data_dir = values.one("data_dir", |text| match text {
            "" => Err("name a directory".to_owned()),
            _ => files::path(text),
        })?;
        let in_data_dir = |text: &str, name: &str| match text {
            "" => Ok(data_dir.join(name)),
            _ => files::path(text),
        };
        let node = values.one("node", |name| match name {
            "" => Ok(host_name()),
            name if may_hold_password(name) => Err("write a name that anybody may read".to_owned()),
            name => Ok(name.to_owned()),
        })?;
        let postgres = Postgres::parse(values, &node)?;
        let database = Database::parse(values, &data_dir, &postgres)?;
        let master_key_file =
            values.one("master_key_file", |text| match MasterKey::parse(text) {
                Some(_) => {
                    Err("that is a master key itself. Name the file that holds it".to_owned())
                }
                None => in_data_dir(text, "master.key"),
            })?;
        let journal = values.one("journal", |text| in_data_dir(text, "guestpass.journal"))?;
        let policy = policy(values)?;
        let shown = values.shown(&[
            ("database", database.to_string()),
            ("master_key_file", master_key_file.display().to_string()),
            ("journal", journal.display().to_string()),
            ("node", node.clone()),
        ]);
        Ok(Self {
            listen: values.one("listen", str::parse)?,
            connections: connections::connections(values)?,
            tls: Tls::parse(values)?,
            issuer: values.optional("issuer", str::parse)?,
            base_paths: values.one("base_paths", paths::base_paths)?,
            admin: Admin::parse(values)?,
            public_health: admin::public_health(values)?,
            synchronous: values.one("sqlite.synchronous", |text| match text {
                "full" => Ok(Synchronous::Full),
                "off" => Ok(Synchronous::Off),
                _ => Err("write full or off".to_owned()),
            })?,
            master_key: values.optional("master_key", |text| {
                MasterKey::parse(text)
                    .ok_or_else(|| "write 32 bytes as base64: 44 characters".to_owned())
            })?,
            master_key_file,
            limits_mode: values.one("limits.mode", str::parse)?,
            log_level: values.one("log.level", log_level)?,
            log_repeats: values.one("log.repeats", choice::rate_limit)?,
            log_format: values.one("log.format", |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("write text or json".to_owned()),
            })?,
            schedule: keys::schedule(values)?,
            verification: verification::verification(values)?,
            journal,
            keep: Keep::parse(values, policy.refresh_max)?,
            clean_after: cleaning::clean_after(values)?,
            events: Events::parse(values)?,
            core_dumps: values.one("core_dumps", choice::yes_or_no)?,
            file_with_password: database
                .password_in_url(values.text("database"))
                .then(|| values.file_of("database"))
                .flatten(),
            file: None,
            node,
            policy,
            data_dir,
            database,
            postgres,
            shown,
        })
    }
}

/// The variable in which systemd names the directory of a service's credentials, and the credential that is a master
/// key.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "guestpass.master_key";

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "GUESTPASS_CONFIG";

/// Returns the host name of this machine.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "node".to_owned(), |name| name.trim().to_owned())
}

fn policy(values: &Values) -> Result<Policy, ConfigError> {
    let policy = Policy {
        access_ttl: values.one("tokens.access_ttl", choice::lifetime(Choice::AccessTtl))?,
        code_ttl: values.one("tokens.code_ttl", choice::lifetime(Choice::CodeTtl))?,
        grace: values.one("tokens.grace", choice::lifetime(Choice::Grace))?,
        late_retry: values.one("tokens.late_retry", choice::late_retry)?,
        max_unproven: values.one("tokens.max_unproven", choice::max_unproven)?,
        refresh_idle: values.one("tokens.refresh_idle", choice::lifetime(Choice::RefreshIdle))?,
        refresh_max: values.one("tokens.refresh_max", choice::lifetime(Choice::RefreshMax))?,
        audience: values.optional("tokens.audience", choice::audience)?,
        query_params: values.one("tokens.query_params", choice::yes_or_no)?,
        guests_per_address: values.one("limits.guests_per_address", choice::rate_limit)?,
        guests_per_client: values.one("limits.guests_per_client", choice::rate_limit)?,
        failures_per_address: values.one("limits.failures_per_address", choice::rate_limit)?,
        endings_per_address: values.one("limits.endings_per_address", choice::rate_limit)?,
        endings_per_grant: values.one("limits.endings_per_grant", choice::rate_limit)?,
        introspections_per_client: values
            .one("limits.introspections_per_client", choice::rate_limit)?,
    };
    policy.check().map_err(|problem| {
        ConfigError(format!(
            "the settings tokens.… don't go together: {problem}"
        ))
    })?;
    Ok(policy)
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    match text {
        "error" => Ok(LogLevel::ERROR),
        "warn" => Ok(LogLevel::WARN),
        "info" => Ok(LogLevel::INFO),
        "debug" => Ok(LogLevel::DEBUG),
        "trace" => Ok(LogLevel::TRACE),
        _ => Err("write error, warn, info, debug or trace".to_owned()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port, for example 127.0.0.1:8080".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Config::from_sources(&[], environment, None)
    }

    #[test]
    fn the_default_policy_is_the_one_of_the_core() {
        let policy = config(&[]).unwrap().policy;
        assert_eq!(format!("{policy:?}"), format!("{:?}", Policy::default()));
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            &file,
            "[tokens]\ngrace = \"3s\"\ncode_ttl = \"3s\"\naccess_ttl = \"3s\"",
        )
        .unwrap();
        let environment = vec![
            ("GUESTPASS_TOKENS__GRACE".into(), "2s".into()),
            ("GUESTPASS_TOKENS__CODE_TTL".into(), "2s".into()),
            ("UNRELATED".into(), "x".into()),
        ];
        let flags = [("tokens.grace", "1s".to_owned())];
        let policy = Config::from_sources(&flags, environment, Some(file.path()))
            .unwrap()
            .policy;
        assert_eq!(
            (
                policy.grace.as_secs(),
                policy.code_ttl.as_secs(),
                policy.access_ttl.as_secs()
            ),
            (1, 2, 3)
        );
    }

    #[test]
    fn mistakes_say_what_to_type_instead() {
        for (name, value, hint) in [
            ("GUESTPASS_TOKENS__GRAC", "2s", "GUESTPASS_TOKENS__GRACE"),
            ("GUESTPASS_LISTN", "x", "GUESTPASS_LISTEN"),
            ("GUESTPASS_LISTEN", "x", "unix:/run/"),
            ("GUESTPASS_LISTEN", "unix:", "name the socket"),
            (
                "GUESTPASS_LISTEN",
                "unix:/run/guestpass/",
                "name the socket",
            ),
            ("GUESTPASS_LISTEN", "unix:@guestpass", "no permissions"),
            ("GUESTPASS_TOKENS__GRACE", "2", "a duration such as 2s"),
            ("GUESTPASS_TOKENS__GRACE", "6m", "between 0s and 5m"),
            ("GUESTPASS_TOKENS__GRACE", "0s", "late_retry"),
            ("GUESTPASS_TOKENS__CODE_TTL", "11m", "10m"),
            ("GUESTPASS_LOG__REPEATS", "100", "how many in what time"),
            ("GUESTPASS_CLEANING__ORPHANS", "59m", "between 1h and 30d"),
            ("GUESTPASS_TOKENS__ACCESS_TTL", "1500ms", "whole seconds"),
            ("GUESTPASS_TOKENS__MAX_UNPROVEN", "0", "between 1 and 1000"),
            ("GUESTPASS_TOKENS__QUERY_PARAMS", "yes", "true or false"),
            ("GUESTPASS_TOKENS__AUDIENCE", "a b", "https://api.example"),
            (
                "GUESTPASS_ISSUER",
                "http://id.example",
                "https://id.example",
            ),
            (
                "GUESTPASS_ISSUER",
                "https://id.example/",
                "https://id.example",
            ),
            ("GUESTPASS_ISSUER", "https://id.example?x", "without query"),
            ("GUESTPASS_DATABASE", "mysql://x", "postgres://USER"),
            (
                "GUESTPASS_DATABASE",
                "postgres://db/x?target_session_attrs=any-replica",
                "target_session_attrs",
            ),
            (
                "GUESTPASS_DATABASE",
                "postgres://db/x?sslmode=prefer",
                "verify-full",
            ),
            ("GUESTPASS_POSTGRES__BATCH", "0", "between 1 and 1000"),
            ("GUESTPASS_TLS__CERTIFICATE_FILE", "x", "Set tls.key_file"),
            ("GUESTPASS_TLS__KEY_FILE", "x", "Set tls.certificate_file"),
            ("GUESTPASS_TOKENS__ALGORITHM", "none", "HS256"),
            ("GUESTPASS_KEYS__ROTATE_EVERY", "5m", "between 1h"),
            ("GUESTPASS_VERIFY__WHEN_STALE", "open", "signature-only"),
            ("GUESTPASS_ERASURE__KEEP", "1y", "between 5y"),
            ("GUESTPASS_CLEANING__START_AFTER", "2d", "and 1d"),
            ("GUESTPASS_BASE_PATHS", "api", "start with a slash"),
            (
                "GUESTPASS_JOURNAL",
                "./guestpass-data/guestpass.db",
                "a file of its own",
            ),
        ] {
            let error = config(&[(name, value)]).err().unwrap().to_string();
            assert!(error.contains(hint), "{name}={value}: {error}");
        }
    }

    #[test]
    fn the_issuer_is_fixed_unless_on_loopback() {
        let tls = [
            ("GUESTPASS_TLS__CERTIFICATE_FILE", "x"),
            ("GUESTPASS_TLS__KEY_FILE", "y"),
        ];
        for (environment, issuer) in [
            (&[][..], "http://127.0.0.1:80"),
            (&tls, "https://127.0.0.1:80"),
        ] {
            let config = config(environment).unwrap();
            let issuer_on = |listen: &str| config.issuer_on(&listen.parse().unwrap());
            assert_eq!(issuer_on("127.0.0.1:80").unwrap().as_str(), issuer);
            for listen in ["0.0.0.0:80", "unix:/run/guestpass.sock", "systemd"] {
                assert!(issuer_on(listen).is_err(), "{listen}");
            }
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = "aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaGh1c2g=";
        let shown = config(&[("GUESTPASS_MASTER_KEY", key)]).unwrap().shown;
        assert!(!format!("{shown:?}").contains(key));
        let database = [("GUESTPASS_DATABASE", "postgres://guest:hush@db/x")];
        let shown = config(&database).unwrap().shown;
        assert!(!format!("{shown:?}").contains("hush"));
        for (name, value) in [
            ("GUESTPASS_MASTER_KEY", "hush"),
            (
                "GUESTPASS_DATABASE",
                "postgres://guest:hush@db/x?sslmode=prefer",
            ),
            ("GUESTPASS_DATABASE", "postgres://guest@db/x?password=hush"),
            ("GUESTPASS_DATABASE", "postgres://guest:hush@db:x/y"),
        ] {
            let error = config(&[(name, value)]).err().unwrap().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        for broken in ["[log]\nmaster_key = \"hush", "master_key = \"hush\""] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, broken).unwrap();
            let error = Config::from_sources(&[], Vec::new(), Some(file.path()))
                .err()
                .unwrap();
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
