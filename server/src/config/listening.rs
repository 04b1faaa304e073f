//! Says where the public API listens, and what follows from that.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{AdminTls, Config, ConfigError, Database, Issuer, files};

/// The place at which the public API listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listen {
    /// An address and a port, for TCP.
    Address(SocketAddr),
    /// The path of a Unix socket, on which proxies of this machine connect.
    Unix(PathBuf),
    /// The socket that the service manager hands over, of whichever kind it is.
    HandedOver,
}

impl Listen {
    /// Returns whether only one of two listeners could have its place. Port 0 is any that is free.
    #[must_use]
    pub fn excludes(&self, other: SocketAddr) -> bool {
        let Self::Address(one) = self else {
            return false;
        };
        // `::ffff:127.0.0.1` is an address of IPv4.
        let [host, other_host] = [*one, other].map(|address| address.ip().to_canonical());
        let is_same_host =
            host == other_host || host.is_unspecified() || other_host.is_unspecified();
        one.port() != 0 && one.port() == other.port() && is_same_host
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == SYSTEMD {
            return Ok(Self::HandedOver);
        }
        if let Some(path) = text.strip_prefix(UNIX) {
            return unix(path).map(Self::Unix);
        }
        text.parse().map(Self::Address).map_err(|_| {
            format!(
                "write an IP address and a port, for example 127.0.0.1:8080; the path of a Unix socket, for example \
                 {EXAMPLE}; or {SYSTEMD}, for the socket of a socket unit"
            )
        })
    }
}

/// Parses the path of a Unix socket.
fn unix(path: &str) -> Result<PathBuf, String> {
    if path.is_empty() || path.ends_with('/') {
        return Err(format!("name the socket, for example {EXAMPLE}"));
    }
    if path.starts_with('@') {
        return Err(format!(
            "an abstract socket has no permissions, so that everybody could connect. Write a path, for example {EXAMPLE}"
        ));
    }
    if path.len() > LONGEST_PATH {
        return Err(format!(
            "the path has {} bytes, and that of a socket has {LONGEST_PATH} at most. Write a shorter one, for example {EXAMPLE}",
            path.len()
        ));
    }
    files::path(path)
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::HandedOver => f.write_str(SYSTEMD),
        }
    }
}

impl Config {
    /// Returns the issuer for a server that listens on `bound`.
    ///
    /// # Errors
    /// [`ConfigError`] if none is configured and `bound` isn't loopback, or there may be other nodes: no token may name an
    /// issuer by chance.
    pub fn issuer_on(&self, bound: &Listen) -> Result<Issuer, ConfigError> {
        match (&self.issuer, bound) {
            (Some(issuer), _) => Ok(issuer.clone()),
            _ if matches!(self.database, Database::Postgres(_)) => Err(ConfigError(
                "with PostgreSQL every node names the same issuer, so it must be set. Say which: \
                 `guestpass serve --issuer https://id.example`, or `issuer = \"https://id.example\"` in the file"
                    .to_owned(),
            )),
            (None, Listen::Address(address)) if address.ip().is_loopback() => {
                Ok(Issuer::on_loopback(self.url_of(bound)))
            }
            (None, Listen::Address(_)) => Err(ConfigError(format!(
                "the server listens on {bound}, which others can reach, so it needs a fixed issuer. Say which: \
                 `guestpass serve --issuer https://id.example`, or `issuer = \"https://id.example\"` in the file"
            ))),
            (None, Listen::Unix(_) | Listen::HandedOver) => Err(ConfigError(format!(
                "listen = {bound}: that says nothing of the URL at which clients find the server, so it needs a fixed issuer. \
                 Say which: `guestpass serve --issuer https://id.example`, or `issuer = \"https://id.example\"` in the file"
            ))),
        }
    }

    /// Returns the URL of the public API if the server listens on `bound`; `unix:` and the path, if that is a Unix socket.
    #[must_use]
    pub fn url_of(&self, bound: &Listen) -> String {
        match (bound, &self.tls) {
            (Listen::Address(address), Some(_)) => format!("https://{address}"),
            (Listen::Address(address), None) => format!("http://{address}"),
            (Listen::Unix(_) | Listen::HandedOver, _) => bound.to_string(),
        }
    }

    /// Checks that TLS can be spoken on `bound`, if it is to be, and not on the operators' listener alone.
    ///
    /// # Errors
    /// [`ConfigError`] if it is a Unix socket.
    pub fn check_tls_on(&self, bound: &Listen) -> Result<(), ConfigError> {
        let is_for_operators = self
            .admin
            .as_ref()
            .is_some_and(|admin| admin.tls == AdminTls::On);
        match (bound, &self.tls) {
            (Listen::Unix(_), Some(_)) if !is_for_operators => Err(ConfigError(format!(
                "tls.certificate_file: TLS isn't spoken on {bound}: on a Unix socket the proxy in front has the certificate. \
                 Leave out tls.certificate_file and tls.key_file, or listen on an address: listen = \"0.0.0.0:443\""
            ))),
            _ => Ok(()),
        }
    }
}

const UNIX: &str = "unix:";
const SYSTEMD: &str = "systemd";
const EXAMPLE: &str = "unix:/run/guestpass/guestpass.sock";

/// The room that the operating system has for a path and the NUL behind it: 108 bytes on Linux, 104 on the BSDs.
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
