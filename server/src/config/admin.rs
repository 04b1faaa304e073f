//! The settings of the operators' listener.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::issuer::is_host_name;
use super::values::{ConfigError, Values};
use super::{address, choice, files};
use crate::setting_file;

/// The operators' listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address.
    pub listen: SocketAddr,
    /// The hosts by which it may be called, beside `localhost` and its address.
    pub hosts: Vec<Host>,
    /// The token that whoever asks for more than health must show. Without one the address is on loopback.
    pub token: Option<OperatorToken>,
    /// Says whether it speaks TLS.
    pub tls: AdminTls,
    /// The file that the token was read from.
    pub token_file: Option<PathBuf>,
}

/// Says how the operators' listener is kept from being read on its way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminTls {
    /// It isn't: it is on loopback.
    Off,
    /// It speaks TLS, with the certificate of the public listener.
    On,
    /// A proxy in front does.
    InFront,
}

/// The operators' bearer token (RFC 6750 §2.1). Clones share it, so that a running server can take over another.
#[derive(Clone)]
pub struct OperatorToken(Arc<RwLock<Zeroizing<String>>>);

impl Admin {
    /// Describes a listener on loopback without more.
    #[must_use]
    pub const fn on(listen: SocketAddr) -> Self {
        Self {
            listen,
            hosts: Vec::new(),
            token: None,
            tls: AdminTls::Off,
            token_file: None,
        }
    }

    pub(super) fn parse(values: &Values) -> Result<Option<Self>, ConfigError> {
        let Some(listen) = values.optional(LISTEN, address)? else {
            for name in [HOSTS, TOKEN_FILE, TLS] {
                values.optional(name, |text| match text {
                    "off" => Ok(()),
                    _ => Err(format!(
                        "it is of the operators' listener. Set {LISTEN} as well, or leave it out"
                    )),
                })?;
            }
            return Ok(None);
        };
        let token_file = values.optional(TOKEN_FILE, files::path)?;
        let token = values.optional(TOKEN_FILE, |file| OperatorToken::read(&files::path(file)?))?;
        let has_certificate = !values.text(super::tls::CERTIFICATE_FILE).is_empty();
        let tls = values.one(TLS, |text| match text {
            "off" => Ok(AdminTls::Off),
            "in-front" => Ok(AdminTls::InFront),
            "on" if has_certificate => Ok(AdminTls::On),
            "on" => Err(format!(
                "the listener has the certificate of the public one. Set {} as well",
                super::tls::CERTIFICATE_FILE
            )),
            _ => Err("write off, on or in-front".to_owned()),
        })?;
        if !listen.ip().to_canonical().is_loopback() {
            values.one(LISTEN, |_| match (&token, tls) {
                (None, _) => Err(format!(
                    "others can reach it. Set {TOKEN_FILE} to a file with a token, which whoever reads the metrics shows; or \
                     listen on 127.0.0.1"
                )),
                (Some(_), AdminTls::Off) => Err(format!(
                    "others can read the token on its way. Set {TLS} to on, or to in-front if a proxy speaks TLS; or listen \
                     on 127.0.0.1"
                )),
                (Some(_), AdminTls::On | AdminTls::InFront) => Ok(()),
            })?;
        }
        Ok(Some(Self {
            listen,
            hosts: values.one(HOSTS, hosts)?,
            token,
            tls,
            token_file,
        }))
    }
}

/// Reads whether the health checks are answered on the public listener.
pub(super) fn public_health(values: &Values) -> Result<bool, ConfigError> {
    values.one("public_health", |text| match choice::yes_or_no(text)? {
        false if values.text(LISTEN).is_empty() => Err(format!(
            "then nobody could ask whether the server is ready. Set {LISTEN} as well"
        )),
        is_public => Ok(is_public),
    })
}

fn hosts(text: &str) -> Result<Vec<Host>, String> {
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            // Its text isn't repeated: it may be a URL with a password.
            Host::of(name).ok_or_else(|| {
                "one of them is no host name. Write names or addresses without scheme and port, separated by commas".to_owned()
            })
        })
        .collect()
}

/// A host by which the operators' listener may be called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// An address; one of IPv4 as such, however it is written.
    Address(IpAddr),
    /// A name, in lower case and without a dot at its end.
    Name(String),
}

impl Host {
    /// Reads the host of an authority, without the port. `None` if it is none.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        is_host_name(name).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl OperatorToken {
    fn read(file: &Path) -> Result<Self, String> {
        let text = setting_file::read_text(file)
            .map_err(|problem| format!("{problem}. Name the file that holds the token"))?;
        Self::parse(text.trim()).ok_or_else(|| {
            "it holds no token: at least 32 letters, digits or -._~+/=. Make one: (umask 077; head -c 32 /dev/urandom | \
             base64 > FILE)"
                .to_owned()
        })
    }

    /// Reads a token: at least 32 of the characters that one may have. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let is_token = text.len() >= 32 && text.bytes().all(is_of_token);
        is_token.then(|| Self(Arc::new(RwLock::new(Zeroizing::new(text.to_owned())))))
    }

    /// Tells whether that is the token, in a time that doesn't depend on where they differ.
    #[must_use]
    pub fn is(&self, presented: &str) -> bool {
        verify_slices_are_equal(self.text().as_bytes(), presented.as_bytes()).is_ok()
    }

    /// Takes over another token, for all clones. Returns whether it is another.
    pub fn replace(&self, other: &Self) -> bool {
        let other = other.text().clone();
        let is_another = !self.is(&other);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
        is_another
    }

    fn text(&self) -> RwLockReadGuard<'_, Zeroizing<String>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken")
    }
}

const LISTEN: &str = "admin_listen";
const HOSTS: &str = "admin.hosts";
const TOKEN_FILE: &str = "admin.token_file";
const TLS: &str = "admin.tls";
