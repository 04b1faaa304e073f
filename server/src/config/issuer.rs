//! The issuer of tokens.

use std::net::IpAddr;
use std::str::FromStr;

/// The issuer of every token (RFC 8414 §2): https, or http on loopback; no query, fragment or trailing slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer(String);

impl Issuer {
    /// Makes an issuer of the URL of a server on loopback, which nobody else can reach.
    pub(super) fn on_loopback(url: String) -> Self {
        Self(url)
    }

    /// Returns the issuer, byte for byte as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns its scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0[..self.0.len() - self.path().len()]
    }

    /// Returns its path without a trailing slash, or nothing.
    #[must_use]
    pub fn path(&self) -> &str {
        let authority = self.0.find("://").map_or(0, |scheme| scheme + 3);
        self.0[authority..]
            .find('/')
            .map_or("", |path| &self.0[authority + path..])
    }
}

impl FromStr for Issuer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))
            .map(|rest| rest.split('/').next().unwrap_or_default())
            .unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        };
        let address = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/[]".contains(&byte);
        if host.is_empty() || !text.bytes().all(allowed) {
            return Err(
                "it must be a URL without query, fragment or user, for example https://id.example"
                    .into(),
            );
        }
        if text.starts_with("http://") && !loopback {
            return Err(format!(
                "tokens must not travel in clear: write https://{}",
                &text["http://".len()..]
            ));
        }
        if text.ends_with('/') {
            return Err(format!(
                "leave the last slash out: {}",
                text.trim_end_matches('/')
            ));
        }
        let is_plain = |segment: &str| {
            !["", ".", ".."].contains(&segment) && !segment.contains([':', '[', ']'])
        };
        let mut path = text
            .splitn(4, '/')
            .nth(3)
            .into_iter()
            .flat_map(|path| path.split('/'));
        if !path.all(is_plain) {
            return Err(
                "its path must be the same to every library: write letters, digits and -._ between single slashes, \
                 for example https://id.example/shop"
                    .into(),
            );
        }
        if text.len() > 128 {
            return Err("it has more than 128 bytes, and every token carries it twice".into());
        }
        Ok(Self(text.to_owned()))
    }
}
