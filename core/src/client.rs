//! The calling application: what it may do and how it proves who it is (RFC 6749 §2.1, §2.3).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::claims::Typ;
use crate::cookies::{CookieDomain, CookieName, Naming};
use crate::limits::MAX_BODY_BYTES;
use crate::params::{Accepts, Parameter, Presence};
use crate::policy::{Audience, PolicyOverrides};
use crate::refusal::Refusal;
use crate::time::Timestamp;

mod change;
mod guests;

pub use change::{Change, ChangeError, ClientSettings, Defaults};
pub use guests::{ClaimName, OnEnded, Permission};

/// An application that acts for guests.
#[derive(Clone, Debug)]
pub struct Client {
    /// The number that grants refer to. Never reused, so that removing a client ends its grants.
    pub number: ClientNumber,
    /// The public `client_id`.
    pub id: ClientId,
    /// Every request needs an API key. A public client has none to keep (RFC 6749 §2.1).
    pub confidential: bool,
    /// The client is answered as if it didn't exist; its grants wait.
    pub disabled: bool,
    /// Its own choices for its tokens.
    pub overrides: PolicyOverrides,
    /// Its own audience stands alone in `aud`, without the issuer (RFC 9700 §2.3).
    pub audience_restricted: bool,
    /// A guest's access token may stand for the guest at authorize.
    pub resume_with_jwt: bool,
    /// Web origins that may read answers to this client (CORS).
    pub origins: Vec<Origin>,
    /// Lists the permissions that it has beside recognising guests.
    pub may: Vec<Permission>,
    /// Decides what a refresh gets when its grant is over.
    pub on_ended: OnEnded,
    /// The `typ` of its access tokens, if it has chosen one: then tokens of either are taken.
    pub typ: Option<Typ>,
    /// The claims that it is told of a guest beside those of every token.
    pub claims: Vec<ClaimName>,
    /// The name of the cookies in which its pages may keep a guest.
    pub cookies: Option<CookieName>,
    /// The host below which all hosts get the cookie of the access token, instead of the server's own alone.
    pub cookie_domain: Option<CookieDomain>,
    /// Its pages are told the access token, too, which the cookie hides from scripts.
    pub page_token: bool,
    /// The clients that it may hand its guests over to.
    pub ticket_to: Vec<ClientId>,
    /// Names and texts of choices that were made with a newer version, and have no effect here.
    pub unknown_choices: BTreeMap<String, String>,
    /// The keys it may authenticate with; several, so that one can replace another without a gap.
    pub api_keys: Vec<ApiKey>,
    /// The time at which it was added.
    pub created_at: Timestamp,
}

impl Client {
    /// Makes a public client that has chosen nothing.
    #[must_use]
    pub fn new(number: ClientNumber, id: ClientId, created_at: Timestamp) -> Self {
        Self {
            number,
            id,
            confidential: false,
            disabled: false,
            overrides: PolicyOverrides::default(),
            audience_restricted: false,
            resume_with_jwt: false,
            on_ended: OnEnded::Refuse,
            typ: None,
            origins: Vec::new(),
            may: Vec::new(),
            claims: Vec::new(),
            cookies: None,
            cookie_domain: None,
            page_token: false,
            ticket_to: Vec::new(),
            unknown_choices: BTreeMap::new(),
            api_keys: Vec::new(),
            created_at,
        }
    }

    /// Returns its own audience, if that stands alone in `aud`.
    #[must_use]
    pub fn sole_audience(&self) -> Option<&Audience> {
        let audience = self.overrides.audience.as_ref();
        audience.filter(|_| self.audience_restricted)
    }

    /// Returns whether it is told that claim.
    #[must_use]
    pub fn is_told(&self, claim: &str) -> bool {
        self.claims.iter().any(|name| name.as_str() == claim)
    }

    /// Returns whether it is told any attribute.
    #[must_use]
    pub fn is_told_attributes(&self) -> bool {
        self.claims
            .iter()
            .any(|name| name.as_str() != ClaimName::CUSTOMER)
    }

    /// Returns whether its pages are on that origin, as a browser writes it.
    #[must_use]
    pub fn has_origin(&self, origin: &[u8]) -> bool {
        self.origins
            .iter()
            .any(|known| known.as_str().as_bytes() == origin)
    }

    /// Returns the names of its cookies, if it has any, at a server with TLS or one without.
    #[must_use]
    pub fn naming(&self, is_secure: bool) -> Option<Naming<'_>> {
        let name = self.cookies.as_ref()?;
        Some(Naming {
            name,
            domain: self.cookie_domain.as_ref(),
            is_secure,
        })
    }

    /// Checks that it may do that.
    ///
    /// # Errors
    /// [`Refusal::PermissionMissing`], or [`Refusal::ClientPublic`]: a permission needs a key to prove who it is.
    pub fn check_may(&self, permission: Permission) -> Result<(), Refusal> {
        if !self.confidential {
            Err(Refusal::ClientPublic)
        } else if self.may.contains(&permission) {
            Ok(())
        } else {
            Err(Refusal::PermissionMissing)
        }
    }

    /// Decides whether the caller is the client that it names, which is `None` if there is no such client.
    ///
    /// A public client needs no key, but a presented one is always checked. Whoever presents one takes the same path, and
    /// keys are compared in constant time.
    ///
    /// # Errors
    /// A refusal that the caller can't tell from the others: unknown, disabled, key missing, wrong, expired or revoked.
    pub fn authenticate<'a>(
        client: Option<&'a Self>,
        key: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<&'a Self, Refusal> {
        let known = client.map_or(&[][..], |client| &client.api_keys);
        let matched = key.map(ApiKeyHash::of).and_then(|presented| {
            // `fold` rather than `find`: the time that it takes must not show which of the keys matched (CWE-208).
            known.iter().fold(None, |matched, known| {
                if known.hash.matches(&presented) {
                    Some(known)
                } else {
                    matched
                }
            })
        });
        let client = client.ok_or(Refusal::ClientUnknown)?;
        if client.disabled {
            return Err(Refusal::ClientDisabled);
        }
        match (key, matched) {
            (None, _) if client.confidential => Err(Refusal::ApiKeyMissing),
            (None, _) => Ok(client),
            (Some(_), None) => Err(Refusal::ApiKeyWrong),
            (Some(_), Some(key)) if key.revoked_at.is_some() => Err(Refusal::ApiKeyRevoked),
            (Some(_), Some(key)) if key.expires_at.is_some_and(|end| end <= now) => {
                Err(Refusal::ApiKeyExpired)
            }
            (Some(_), Some(_)) => Ok(client),
        }
    }
}

/// The internal number of a client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientNumber(pub i64);

/// The public id of a client: 1 to 128 ASCII letters, digits and `-._:@`.
///
/// A narrow choice from RFC 6749 appendix A.1: nothing in it needs escaping in a query, a header, a log or a JWT.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientId(String);

impl ClientId {
    /// The texts that are ids.
    pub const PATTERN: &str = "^[A-Za-z0-9._:@-]{1,128}$";

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@".contains(&byte);
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a client id is 1 to 128 letters, digits and `-._:@`, for example `shop-web`")
        }
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A web origin as browsers write it in `Origin`: scheme, host and port, without a path.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Origin(String);

impl Origin {
    /// Returns the origin as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "an origin is a scheme, a host and, unless it is the scheme's own, a port, all in lower \
                               case and with nothing behind them, for example `https://shop.example`";
        let (scheme, authority) = text.split_once("://").ok_or(PROBLEM)?;
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let host_ok = match host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(address) => address
                .parse::<std::net::Ipv6Addr>()
                .is_ok_and(|a| a.to_string() == address),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| {
                        b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b)
                    })
            }
        };
        let port_ok = port.is_none_or(|port| {
            let own = matches!((scheme, port), ("https", "443") | ("http", "80"));
            !own && port
                .parse::<u16>()
                .is_ok_and(|number| number.to_string() == port)
        });
        (scheme_ok && host_ok && port_ok)
            .then(|| Self(text.to_owned()))
            .ok_or(PROBLEM)
    }
}

impl Origin {
    /// Returns its host, without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// Returns whether what is sent there and comes from there can't be read on its way: it is https, or on this machine.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        if !self.0.starts_with("http://") {
            return self.0.starts_with("https://");
        }
        let host = self.host();
        host == "localhost"
            || host.ends_with(".localhost")
            || host == "[::1]"
            || host
                .parse::<std::net::Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The record of an API key; its text isn't kept.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The beginning of its text, which is no secret.
    pub id: ApiKeyId,
    /// The hash that a presented key's is compared with.
    pub hash: ApiKeyHash,
    /// The time at which it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Set when an operator ended it.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Tells by its beginning whether a text is an API key, of whichever client.
    #[must_use]
    pub fn is_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

/// The beginning of the text of every API key.
const PREFIX: &str = "gpk_";

/// Describes the parameter that may hold the API key in a body (RFC 6749 §2.3.1). Its limit is that of the body: any text
/// that isn't the key is a wrong one, however long.
pub const CLIENT_SECRET: Parameter = Parameter {
    name: "client_secret",
    max_bytes: MAX_BODY_BYTES,
    presence: Presence::Optional,
    accepts: Accepts::Match {
        pattern: "^(gpk_[A-Za-z0-9_-]{49})?$",
        example: "gpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    },
    about: "The API key of a confidential client, in place of `x-api-key` or HTTP Basic: two of them are refused. It is never \
            accepted in a query.",
};

/// The beginning of an API key's text: the prefix and eight characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKeyId(pub String);

impl ApiKeyId {
    /// Reads the id in the text of a whole key, or of the id itself.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(text.get(..12).unwrap_or(text).to_owned())
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The SHA-256 of an API key's text. The key has 256 random bits, so there is nothing for a slow hash to protect.
#[derive(Clone)]
pub struct ApiKeyHash([u8; 32]);

impl ApiKeyHash {
    /// Hashes a presented text.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(
            digest(&SHA256, text)
                .as_ref()
                .try_into()
                .expect("SHA-256 has 32 bytes"),
        )
    }

    /// Takes a hash out of the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the hash for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKeyHash(…)")
    }
}

/// The text of a new API key: shown once, never stored. It has no `Debug`, so it can't end in a log.
pub struct ApiKeySecret(String);

impl ApiKeySecret {
    /// Makes a key from 32 random bytes: `gpk_`, 43 characters of base64url, and six more that are a checksum of them,
    /// so that a scanner of leaked secrets can tell a key from chance.
    #[must_use]
    pub fn new(random: &[u8; 32]) -> Self {
        let mut text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let checksum = URL_SAFE_NO_PAD.encode(&digest(&SHA256, text.as_bytes()).as_ref()[..4]);
        text.push_str(&checksum);
        Self(text)
    }

    /// Returns the part that names the key in lists and logs.
    #[must_use]
    pub fn id(&self) -> ApiKeyId {
        ApiKeyId::of(&self.0)
    }

    /// Returns the hash that is stored.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        ApiKeyHash::of(self.0.as_bytes())
    }

    /// Returns the secret itself, to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn client(confidential: bool, keys: &[&ApiKeySecret]) -> Client {
        let mut client = Client::new(ClientNumber(1), "shop".parse().unwrap(), NOW);
        client.confidential = confidential;
        client.api_keys = keys
            .iter()
            .map(|key| ApiKey {
                id: key.id(),
                hash: key.hash(),
                created_at: NOW,
                expires_at: None,
                revoked_at: None,
            })
            .collect();
        client
    }

    #[test]
    fn who_may_act() {
        let (right, other) = (ApiKeySecret::new(&[1; 32]), ApiKeySecret::new(&[2; 32]));
        let key = |secret: &ApiKeySecret| Some(secret.expose().as_bytes().to_vec());
        let check = |client: &Client, key: Option<Vec<u8>>| {
            Client::authenticate(Some(client), key.as_deref(), NOW).map(|_| ())
        };

        let public = client(false, &[]);
        assert_eq!(check(&public, None), Ok(()));
        assert_eq!(check(&public, key(&right)), Err(Refusal::ApiKeyWrong));
        assert_eq!(check(&public, Some(Vec::new())), Err(Refusal::ApiKeyWrong));

        let mut confidential = client(true, &[&other, &right]);
        assert_eq!(check(&confidential, None), Err(Refusal::ApiKeyMissing));
        assert_eq!(check(&confidential, key(&right)), Ok(()));
        assert_eq!(check(&confidential, key(&other)), Ok(()));
        confidential.api_keys[0].revoked_at = Some(NOW);
        confidential.api_keys[1].expires_at = Some(NOW);
        assert_eq!(
            check(&confidential, key(&other)),
            Err(Refusal::ApiKeyRevoked)
        );
        assert_eq!(
            check(&confidential, key(&right)),
            Err(Refusal::ApiKeyExpired)
        );
        confidential.disabled = true;
        assert_eq!(
            check(&confidential, key(&right)),
            Err(Refusal::ClientDisabled)
        );

        assert_eq!(
            Client::authenticate(None, None, NOW).err(),
            Some(Refusal::ClientUnknown)
        );
    }

    #[test]
    fn the_text_of_an_api_key() {
        let key = ApiKeySecret::new(&[9; 32]);
        assert_eq!(key.expose().len(), 4 + 43 + 6);
        assert!(key.expose().starts_with(&key.id().0));
    }

    #[test]
    fn origins_are_what_a_browser_sends() {
        for good in [
            "https://shop.example",
            "http://localhost:3000",
            "https://shop.example:8443",
            "http://[::1]:8080",
            "capacitor://localhost",
        ] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "*",
            "null",
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/path",
            "https://Shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://shop.example:0443",
            "https://shop.example:x",
            "https://user@shop.example",
            "https://*.shop.example",
            "https://[::01]",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn client_ids() {
        assert!("shop-web.1:a@b_c".parse::<ClientId>().is_ok());
        assert!("a".repeat(128).parse::<ClientId>().is_ok());
        for bad in [
            String::new(),
            "a".repeat(129),
            "a b".into(),
            "é".into(),
            "a\n".into(),
            "a%".into(),
        ] {
            assert!(bad.parse::<ClientId>().is_err(), "{bad}");
        }
    }
}
