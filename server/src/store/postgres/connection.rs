//! The settings of a connection to the database.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use deadpool_postgres::{ConfigConnectImpl, Connect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{DatabaseUrl, may_hold_password};
use crate::setting_file;
use crate::store::{BoxFuture, Unavailable};

/// Holds the settings of a connection, and the sizes of the pool and of a batch. Clones share what opens connections, so that a
/// running server can take over another password.
#[derive(Clone)]
pub struct Connection {
    /// The hosts, the database, the role and its password at the start.
    settings: tokio_postgres::Config,
    /// The file of the certificate authorities that the hosts' certificates are checked against; without it, those of
    /// the system.
    root_certificates: Option<PathBuf>,
    is_in_clear_by_default: bool,
    /// The size of the connection pool.
    pub(super) connections: usize,
    /// The most writes that share a statement.
    pub(super) batch: usize,
    opener: Arc<OnceLock<ArcSwap<Opener>>>,
}

/// Opens connections, with the password and the certificate authorities as they were last read.
pub struct Opener {
    settings: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    /// The file of the authorities.
    roots: Option<Vec<u8>>,
}

impl fmt::Display for Connection {
    /// Formats a URL of what was parsed, without secrets. A name with unusual characters may be a part of the password that
    /// was read otherwise than meant, so it isn't shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.settings.get_user() {
            write!(f, "{}@", usual(user).unwrap_or("(user)"))?;
        }
        let hosts = self.settings.get_hosts();
        let ports = self.settings.get_ports();
        for (at, host) in hosts.iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied();
            let name = match host {
                Host::Tcp(name) => match name.parse::<Ipv6Addr>() {
                    Ok(address) => format!("[{address}]"),
                    Err(_) => usual(name).unwrap_or("(host)").to_owned(),
                },
                Host::Unix(directory) => directory.display().to_string(),
            };
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{name}:{}", port.unwrap_or(5432))?;
        }
        let name = self.settings.get_dbname().unwrap_or_default();
        write!(f, "/{}", usual(name).unwrap_or("(name)"))
    }
}

/// Returns a name that has usual characters only.
fn usual(name: &str) -> Option<&str> {
    let is_usual = |character: char| character.is_alphanumeric() || "-_.".contains(character);
    name.chars().all(is_usual).then_some(name)
}

impl Connection {
    /// Parses a URL as libpq does (PostgreSQL's manual, 34.1.1.2), with two differences: encryption always includes
    /// checking the certificate, and replicas can't be chosen.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(url: &str, connections: usize, batch: usize) -> Result<Self, String> {
        let url = DatabaseUrl::parse(url)?;
        let Own {
            root_certificates,
            ssl_mode,
            rest,
        } = Own::of(&url)?;
        let mut settings: tokio_postgres::Config = url
            .with_query(&rest)
            .parse()
            .map_err(|error: tokio_postgres::Error| super::pool::causes(&error))?;
        let is_named = |host: &Host| !matches!(host, Host::Tcp(name) if name.is_empty());
        if settings.get_hosts().is_empty() || !settings.get_hosts().iter().all(is_named) {
            return Err("name a host: postgres://USER@HOST:PORT/NAME".to_owned());
        }
        match settings.get_target_session_attrs() {
            TargetSessionAttrs::Any | TargetSessionAttrs::ReadWrite => {}
            _ => {
                return Err(
                    "target_session_attrs is always read-write: what a replica says may \
                            be out of date"
                        .to_owned(),
                );
            }
        }
        // A socket in the file system leads nowhere else.
        let is_tcp = |host: &Host| matches!(host, Host::Tcp(_));
        let is_in_clear_by_default = ssl_mode.is_none()
            && settings.get_hosts().iter().all(is_local)
            && settings.get_hosts().iter().any(is_tcp);
        let ssl_mode = ssl_mode.unwrap_or(if settings.get_hosts().iter().all(is_local) {
            SslMode::Disable
        } else {
            SslMode::Require
        });
        settings
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .ssl_mode(ssl_mode);
        if !url.has("load_balance_hosts") {
            // A host that accepts connections but never answers must not always be tried first.
            settings.load_balance_hosts(LoadBalanceHosts::Random);
        }
        if settings.get_connect_timeout().is_none() {
            settings.connect_timeout(CONNECT_TIMEOUT);
        }
        if !url.has("keepalives_idle") {
            settings.keepalives_idle(KEEPALIVES_IDLE);
        }
        if settings.get_tcp_user_timeout().is_none() {
            settings.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        Ok(Self {
            settings,
            root_certificates,
            is_in_clear_by_default,
            connections,
            batch,
            opener: Arc::default(),
        })
    }

    /// Tells whether it isn't encrypted, and the URL doesn't say that it need not be.
    #[must_use]
    pub fn is_in_clear_by_default(&self) -> bool {
        self.is_in_clear_by_default
    }

    /// Tells whether there is a password already.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.settings.get_password().is_some()
    }

    /// Sets the password, unless the URL has one.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        if self.settings.get_password().is_none() {
            self.settings.password(password);
        }
        self
    }

    /// Sets the session's `application_name` to the name of the node, unless the URL has one.
    #[must_use]
    pub fn with_node(mut self, node: &str) -> Self {
        if self.settings.get_application_name().is_none() {
            self.settings.application_name(format!("guestpass {node}"));
        }
        self
    }

    /// Returns what opens connections. Reads the certificate authorities when it is first asked.
    pub(super) fn opener(&self) -> Result<Arc<Opener>, Unavailable> {
        if let Some(opener) = self.opener.get() {
            return Ok(opener.load_full());
        }
        let read = Arc::new(self.read_opener(self.settings.clone())?);
        Ok(self.opener.get_or_init(|| ArcSwap::new(read)).load_full())
    }

    /// Reads what is to open connections from now on: the certificate authorities anew, and the password of `read`. `None` if
    /// that leads elsewhere, or nothing has changed.
    ///
    /// # Errors
    /// [`Unavailable`] if the file of the authorities won't do.
    pub fn renewed(&self, read: &Self) -> Result<Option<Opener>, Unavailable> {
        let leads_elsewhere = self.to_string() != read.to_string()
            || self.root_certificates != read.root_certificates;
        if leads_elsewhere {
            return Ok(None);
        }
        let mut settings = self.settings.clone();
        if let Some(password) = read.settings.get_password() {
            settings.password(password);
        }
        let (now, renewed) = (self.opener()?, self.read_opener(settings)?);
        let is_another = now.settings != renewed.settings || now.roots != renewed.roots;
        Ok(is_another.then_some(renewed))
    }

    /// Opens connections this way from now on, in all clones. Those that are open stay.
    pub fn take_over(&self, opener: Opener) {
        if let Some(now) = self.opener.get() {
            now.store(Arc::new(opener));
        }
    }

    fn read_opener(&self, settings: tokio_postgres::Config) -> Result<Opener, Unavailable> {
        let mut authorities = RootCertStore::empty();
        let mut roots = None;
        if let Some(file) = &self.root_certificates {
            let problem = |error: &dyn fmt::Display| {
                Unavailable(format!("sslrootcert = {}: {error}", file.display()))
            };
            let bytes = setting_file::read(file).map_err(|e| problem(&e))?;
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let certificate = certificate.map_err(|e| problem(&e))?;
                authorities.add(certificate).map_err(|e| problem(&e))?;
            }
            if authorities.is_empty() {
                return Err(problem(&"it holds no certificate; write PEM"));
            }
            roots = Some(bytes.to_vec());
        } else if settings.get_ssl_mode() != SslMode::Disable {
            authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unavailable(error.to_string()))?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        Ok(Opener {
            settings,
            tls: MakeRustlsConnect::new(config),
            roots,
        })
    }
}

impl Connect for Connection {
    fn connect(
        &self,
        _: &tokio_postgres::Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        let opener = self
            .opener()
            .expect("it was asked for before the pool was made");
        Box::pin(async move {
            let tls = opener.tls.clone();
            ConfigConnectImpl { tls }.connect(&opener.settings).await
        })
    }
}

/// The parameters of a URL's query that aren't left to the library, and those that are.
struct Own {
    root_certificates: Option<PathBuf>,
    ssl_mode: Option<SslMode>,
    rest: Vec<(String, String)>,
}

impl Own {
    fn of(url: &DatabaseUrl<'_>) -> Result<Self, String> {
        let (mut root_certificates, mut ssl_mode) = (None, None);
        let mut rest = Vec::new();
        for (name, value) in &url.parameters {
            match (name.as_str(), value.as_str()) {
                ("sslrootcert", file) if may_hold_password(file) => {
                    return Err("sslrootcert names a file with certificates".to_owned());
                }
                ("sslrootcert", file) => root_certificates = Some(PathBuf::from(file)),
                ("sslmode", "require" | "verify-ca" | "verify-full") | ("ssl", "true") => {
                    ssl_mode = Some(SslMode::Require);
                }
                ("sslmode", "disable") => ssl_mode = Some(SslMode::Disable),
                ("sslmode" | "ssl", _) => {
                    return Err(
                        "sslmode is verify-full or disable: what lies between protects \
                                nobody"
                            .to_owned(),
                    );
                }
                ("password", _) => {
                    return Err(
                        "write the password before the host, or into a file and name that: \
                                postgres.password_file"
                            .to_owned(),
                    );
                }
                (known, _) if PASSED_ON.contains(&known) => {
                    rest.push((name.clone(), value.clone()))
                }
                _ => {
                    return Err(format!(
                        "the query has a parameter that isn't known here. Those that are: sslmode, sslrootcert, {}",
                        PASSED_ON.join(", ")
                    ));
                }
            }
        }
        Ok(Self {
            root_certificates,
            ssl_mode,
            rest,
        })
    }
}

/// The parameters of the query that the library knows and that are left to it.
const PASSED_ON: [&str; 17] = [
    "user",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

/// The time that a host has to accept a connection before the next is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The time that sent data may stay unacknowledged before the connection counts as lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// The idle time after which TCP probes whether the host is still there. It may be idle during a long statement.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) if name == "localhost" => true,
        Host::Tcp(name) => {
            let address = name.parse::<std::net::IpAddr>();
            address.is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}
