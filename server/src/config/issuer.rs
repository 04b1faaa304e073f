//! The issuer of tokens.

use std::str::FromStr;

use url::{Host, Url};

use super::paths::{WELL_KNOWN, is_plain_path, is_well_known};

/// The issuer of every token (RFC 8414 §2): https, or http on loopback; no user, query, fragment or trailing slash.
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

    /// Returns whether it is https: one that isn't is on loopback.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
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
        const SHAPE: &str =
            "it must be a URL without query, fragment or user, for example https://id.example";
        let url = Url::parse(text).map_err(|error| format!("{SHAPE}: {error}"))?;
        let is_web = matches!(url.scheme(), "https" | "http");
        let is_bare = url.query().is_none() && url.fragment().is_none();
        let Some(host) = url
            .host()
            .filter(|_| is_web && is_bare && !text.contains('@'))
        else {
            return Err(SHAPE.to_owned());
        };
        if matches!(host, Host::Domain(name) if !is_host_name(name)) {
            return Err(
                "its host must be made of labels between dots: letters, digits and hyphens, a hyphen neither first nor last, \
                 for example https://id.example"
                    .to_owned(),
            );
        }
        if url.scheme() == "http" && !is_loopback(&host) {
            return Err(format!(
                "tokens must not travel in clear: write https://{}",
                without_slash(&url).trim_start_matches("http://")
            ));
        }
        if url.port() == Some(0) {
            return Err("nobody can listen on port 0; write one between 1 and 65535".to_owned());
        }
        if text.ends_with('/') {
            return Err(format!("leave the last slash out: {}", without_slash(&url)));
        }
        let issuer = Self(text.to_owned());
        if !is_plain_path(issuer.path()) {
            return Err(
                "its path must be made of letters, digits and -._~ between slashes, for example https://id.example/shop"
                    .to_owned(),
            );
        }
        // Verifiers compare it byte for byte, and browsers and libraries write a URL in one way only.
        if without_slash(&url) != text {
            return Err(format!(
                "write it as URLs are written: {}",
                without_slash(&url)
            ));
        }
        if is_well_known(issuer.path()) {
            return Err(format!(
                "its path must not lie under {WELL_KNOWN}, where clients look for the metadata; write another, for example \
                 https://id.example/shop"
            ));
        }
        if text.len() > 128 {
            return Err("it has more than 128 bytes, and every token carries it twice".into());
        }
        Ok(issuer)
    }
}

/// Returns whether a name can be one of a host (RFC 1123 §2.1). URLs have others, too.
pub(super) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty()
            && label.bytes().all(is_of_name)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(is_label)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        // RFC 6761 §6.3: so are the names below it.
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn without_slash(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f22_an_issuer_is_a_url_that_can_be_served() {
        for text in [
            "https://id.example",
            "https://id.example:8443",
            "https://id.example/shop/v1.2_~x",
            "https://xn--bcher-kva.example",
            "https://id_1.example",
            "https://192.0.2.1",
            "https://[2001:db8::1]:8443/x",
            "http://localhost:8080",
            "http://www.shop.localhost:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
        ] {
            let issuer: Issuer = text.parse().unwrap();
            assert_eq!(format!("{}{}", issuer.origin(), issuer.path()), text);
        }
        for (text, hint) in [
            ("", "for example https://id.example"),
            ("id.example", "for example https://id.example"),
            ("https://", "for example https://id.example"),
            ("ftp://id.example", "for example https://id.example"),
            ("urn:x", "for example https://id.example"),
            ("https://u@id.example", "without query, fragment or user"),
            ("https://@id.example", "without query, fragment or user"),
            ("https://id.example?x", "without query, fragment or user"),
            ("https://id.example#x", "without query, fragment or user"),
            ("https://id.example:99999", "invalid port number"),
            ("https://id.example:0", "between 1 and 65535"),
            ("https://id.example:x", "invalid port number"),
            (
                "https://id.example:",
                "write it as URLs are written: https://id.example",
            ),
            (
                "https://id.example:443",
                "write it as URLs are written: https://id.example",
            ),
            (
                "https://ID.example",
                "write it as URLs are written: https://id.example",
            ),
            (
                "HTTPS://id.example",
                "write it as URLs are written: https://id.example",
            ),
            (
                "https:id.example",
                "write it as URLs are written: https://id.example",
            ),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://1", "write it as URLs are written: https://0.0.0.1"),
            (
                "https://[0:0::1]",
                "write it as URLs are written: https://[::1]",
            ),
            (
                " https://id.example",
                "write it as URLs are written: https://id.example",
            ),
            ("https://id.example/:t", "letters, digits and -._~"),
            ("https://id.example/*t", "letters, digits and -._~"),
            ("https://id.example/{t}", "letters, digits and -._~"),
            ("https://id.example/%74", "letters, digits and -._~"),
            ("https://id.example/a//b", "letters, digits and -._~"),
            ("https://id.example/./b", "letters, digits and -._~"),
            ("https://id.example/a/..", "letters, digits and -._~"),
            ("https://id.example/a\\b", "letters, digits and -._~"),
            (
                "https://id.example/",
                "leave the last slash out: https://id.example",
            ),
            ("http://id.example/x", "write https://id.example/x"),
            (
                "http://localhost.example",
                "write https://localhost.example",
            ),
        ] {
            let problem = text.parse::<Issuer>().unwrap_err();
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }

    #[test]
    fn f22_the_host_of_an_issuer_is_a_host_name() {
        for text in [
            "https://id..example",
            "https://.example",
            "https://id.example.",
            "https://-x.example",
            "https://x-.example",
            "https://id.ex*mple",
        ] {
            let problem = text.parse::<Issuer>().unwrap_err();
            assert!(problem.contains("labels between dots"), "{text}: {problem}");
        }
    }
}
