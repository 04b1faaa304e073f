//! The settings of a connection to the database.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::Unavailable;

/// Holds the settings of a connection, and the sizes of the pool and of a batch.
#[derive(Clone)]
pub struct Connection {
    /// The hosts, the database, the role and its password.
    pub(super) settings: tokio_postgres::Config,
    /// The file of the certificate authorities that the hosts' certificates are checked against; without it, those of
    /// the system.
    root_certificates: Option<PathBuf>,
    /// The size of the connection pool.
    pub(super) connections: usize,
    /// The most writes that share a statement.
    pub(super) batch: usize,
}

impl fmt::Display for Connection {
    /// Formats a URL without secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.settings.get_user() {
            write!(f, "{user}@")?;
        }
        let hosts = self.settings.get_hosts();
        let ports = self.settings.get_ports();
        for (at, host) in hosts.iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied();
            let name = match host {
                Host::Tcp(name) => name.clone(),
                Host::Unix(directory) => directory.display().to_string(),
            };
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{name}:{}", port.unwrap_or(5432))?;
        }
        write!(f, "/{}", self.settings.get_dbname().unwrap_or_default())
    }
}

impl Connection {
    /// Parses a URL as libpq does (PostgreSQL's manual, 34.1.1.2), with two differences: encryption always includes
    /// checking the certificate, and replicas can't be chosen.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(url: &str, connections: usize, batch: usize) -> Result<Self, String> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut root_certificates, mut ssl_mode) = (None, None);
        let mut rest = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("sslrootcert", file) => root_certificates = Some(PathBuf::from(file)),
                ("sslmode", "require" | "verify-ca" | "verify-full") => {
                    ssl_mode = Some(SslMode::Require);
                }
                ("sslmode", "disable") => ssl_mode = Some(SslMode::Disable),
                ("sslmode", _) => {
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
                _ => rest.push(parameter),
            }
        }
        let parsed = format!("{address}?{}", rest.join("&")).parse();
        let mut settings: tokio_postgres::Config =
            parsed.map_err(|error: tokio_postgres::Error| super::pool::causes(&error))?;
        if settings.get_hosts().is_empty() {
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
        let ssl_mode = ssl_mode.unwrap_or(if settings.get_hosts().iter().all(is_local) {
            SslMode::Disable
        } else {
            SslMode::Require
        });
        settings
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .ssl_mode(ssl_mode);
        if !query.contains("load_balance_hosts=") {
            // A host that accepts connections but never answers must not always be tried first.
            settings.load_balance_hosts(LoadBalanceHosts::Random);
        }
        if settings.get_connect_timeout().is_none() {
            settings.connect_timeout(CONNECT_TIMEOUT);
        }
        if !query.contains("keepalives_idle=") {
            settings.keepalives_idle(KEEPALIVES_IDLE);
        }
        if settings.get_tcp_user_timeout().is_none() {
            settings.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        Ok(Self {
            settings,
            root_certificates,
            connections,
            batch,
        })
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

    /// Builds the TLS configuration, with the certificate authorities to check the hosts' certificates against.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, Unavailable> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = &self.root_certificates {
            let problem =
                |error: &dyn fmt::Display| Unavailable(format!("{}: {error}", file.display()));
            let certificates = CertificateDer::pem_file_iter(file).map_err(|e| problem(&e))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|e| problem(&e))?;
                roots.add(certificate).map_err(|e| problem(&e))?;
            }
            if roots.is_empty() {
                return Err(problem(&"it holds no certificate; write PEM"));
            }
        } else if self.settings.get_ssl_mode() != SslMode::Disable {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unavailable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

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
