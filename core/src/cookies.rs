//! The cookies in which a browser keeps a guest: their names, how they are read from a request, and how they are set.
//!
//! There are three for each client, all `HttpOnly`: the access token, the refresh token, and for the first minute of a guest's
//! life a seed. The prefix `__Host-` (RFC 6265bis §4.1.3) keeps sibling hosts from planting them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::client::Origin;

/// The name of a client's cookies: 1 to 32 ASCII letters, digits, `_` and `-`.
///
/// It doesn't begin with `__`, as the prefixes of browsers do, nor end in `-r` or `-s`, by which the cookies are told apart.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CookieName(Box<str>);

impl CookieName {
    /// Returns the name as text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CookieName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        let is_name = (1..=32).contains(&text.len()) && text.bytes().all(allowed);
        let is_taken = text.starts_with("__") || text.ends_with("-r") || text.ends_with("-s");
        if is_name && !is_taken {
            Ok(Self(text.into()))
        } else {
            Err(
                "the name of cookies is 1 to 32 letters, digits, `_` and `-`, without `__` before or `-r` or `-s` behind, for \
                 example `guest`",
            )
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The host below which all hosts get the cookie of the access token (RFC 6265bis §4.1.2.3), in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieDomain(Box<str>);

impl CookieDomain {
    /// Returns the host as text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a page of that origin gets the cookie: its host is this one, or below it.
    #[must_use]
    pub fn covers(&self, origin: &Origin) -> bool {
        let above = origin.host().strip_suffix(&*self.0);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }
}

impl FromStr for CookieDomain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_label = |label: &str| {
            let allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty() && label.bytes().all(allowed)
        };
        // Browsers refuse a single label, and an address has no hosts below it.
        let is_host = text.len() <= 253
            && text.contains('.')
            && text.split('.').all(is_label)
            && !text.ends_with(|last: char| last.is_ascii_digit());
        match is_host {
            true => Ok(Self(text.into())),
            false => {
                Err("the domain of a cookie is a host in lower case, for example `shop.example`")
            }
        }
    }
}

impl fmt::Display for CookieDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Tells the three cookies of a client apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cookie {
    /// The access token.
    AccessToken,
    /// The refresh token.
    RefreshToken,
    /// The seed of a guest who isn't made yet.
    Seed,
}

/// Names a client's cookies, and says how they are set.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// The name that the client has chosen.
    pub name: &'a CookieName,
    /// The domain of the access token, if it isn't for this host alone.
    pub domain: Option<&'a CookieDomain>,
    /// Tells whether the issuer has TLS. Without, as only one on loopback is, browsers would refuse the prefix and `Secure`.
    pub is_secure: bool,
}

impl Naming<'_> {
    /// Returns the name of one of the cookies.
    #[must_use]
    pub fn name_of(&self, cookie: Cookie) -> String {
        let prefix = match (self.is_secure, self.domain_of(cookie)) {
            (false, _) => "",
            (true, Some(_)) => "__Secure-",
            (true, None) => "__Host-",
        };
        let suffix = match cookie {
            Cookie::AccessToken => "",
            Cookie::RefreshToken => "-r",
            Cookie::Seed => "-s",
        };
        [prefix, self.name.as_str(), suffix].concat()
    }

    /// Renders a field `Set-Cookie`.
    #[must_use]
    pub fn set(&self, cookie: Cookie, value: &str, max_age: Duration) -> String {
        let (attribute, domain) = match self.domain_of(cookie) {
            Some(domain) => ("; Domain=", domain.as_str()),
            None => ("", ""),
        };
        [
            self.name_of(cookie).as_str(),
            "=",
            value,
            "; Path=/",
            attribute,
            domain,
            "; Max-Age=",
            &max_age.as_secs().to_string(),
            if self.is_secure { "; Secure" } else { "" },
            "; HttpOnly; SameSite=Lax",
            // Where a jar is full, Chromium evicts what is less important first.
            match cookie {
                Cookie::RefreshToken => "; Priority=High",
                Cookie::AccessToken | Cookie::Seed => "",
            },
        ]
        .concat()
    }

    /// Renders a field `Set-Cookie` that deletes the cookie: with the attributes that it was set with, or browsers keep it.
    #[must_use]
    pub fn clear(&self, cookie: Cookie) -> String {
        self.set(cookie, "", Duration::ZERO)
    }

    fn domain_of(&self, cookie: Cookie) -> Option<&CookieDomain> {
        self.domain.filter(|_| cookie == Cookie::AccessToken)
    }
}

/// A cookie of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found<'a> {
    /// It isn't there.
    Absent,
    /// It has this value.
    Value(&'a [u8]),
    /// It is there with two values. Neither is chosen: one of them may have been planted.
    Different,
}

/// Finds a cookie in the fields `Cookie` of a request, byte for byte: nothing is decoded, quoted or normalised, or a name that a
/// browser doesn't protect could stand for one that it does.
pub fn find<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Found<'a> {
    let mut found = Found::Absent;
    for pair in fields.into_iter().flat_map(pairs) {
        let behind_name = trimmed(pair).strip_prefix(name.as_bytes());
        let Some([b'=', value @ ..]) = behind_name else {
            continue;
        };
        match found {
            Found::Absent => found = Found::Value(value),
            Found::Value(other) if other == value => {}
            Found::Value(_) | Found::Different => return Found::Different,
        }
    }
    found
}

/// Splits a field at its semicolons.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ends = memchr::memchr_iter(b';', field).chain([field.len()]);
    let mut begin = 0;
    std::iter::from_fn(move || {
        let end = ends.next()?;
        let pair = &field[begin..end];
        begin = end + 1;
        Some(pair)
    })
}

/// Trims space and tab, and no other character that some take for a space.
fn trimmed(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The longest life that browsers give to a cookie (RFC 6265bis §5.5).
const LONGEST: Duration = Duration::from_secs(400 * 86_400);

/// The time for which a seed is good before and after the time in it, for the clocks of nodes differ.
pub const SEED_TTL: Duration = Duration::from_secs(60);

/// Returns the life of the cookie that holds an access token: it never outlives its token, whatever the way to the browser takes.
#[must_use]
pub fn access_max_age(expires_in: Duration) -> Duration {
    let margin = Duration::from_secs(60).min(expires_in / 10);
    expires_in.saturating_sub(margin)
}

/// Returns the life of the cookie that holds a refresh token which is good for so long.
#[must_use]
pub fn refresh_max_age(left: Duration) -> Duration {
    left.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leaves_room_for_what_is_put_around_it() {
        for name in ["guest", "a", "A_b-1", &"g".repeat(32), "r", "s-"] {
            assert!(name.parse::<CookieName>().is_ok(), "{name}");
        }
        for name in [
            "",
            "a b",
            "a=b",
            "a;b",
            "é",
            "__Host-a",
            "guest-r",
            "guest-s",
            &"g".repeat(33),
        ] {
            assert!(name.parse::<CookieName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_domain_is_a_host_with_others_below_it() {
        for domain in ["shop.example", "a-b.shop.example", "shop.localhost"] {
            assert!(domain.parse::<CookieDomain>().is_ok(), "{domain}");
        }
        for domain in [
            "",
            "example",
            ".shop.example",
            "shop.example.",
            "Shop.example",
            "a;b.example",
            "127.0.0.1",
            "0.0.1",
        ] {
            assert!(domain.parse::<CookieDomain>().is_err(), "{domain}");
        }
        let domain: CookieDomain = "shop.example".parse().unwrap();
        for (origin, expected) in [
            ("https://shop.example", true),
            ("https://www.shop.example:8443", true),
            ("https://notshop.example", false),
            ("https://example", false),
        ] {
            assert_eq!(
                domain.covers(&origin.parse().unwrap()),
                expected,
                "{origin}"
            );
        }
    }

    #[test]
    fn c334_a_cookie_is_found_byte_for_byte() {
        let name = "__Host-guest-r";
        for (fields, expected) in [
            (&["__Host-guest-r=a"][..], Found::Value(b"a")),
            (&["x=1; __Host-guest-r=a=b;y=2"], Found::Value(b"a=b")),
            (&["x=1", " \t__Host-guest-r=a\t "], Found::Value(b"a")),
            (&["__Host-guest-r=a; __Host-guest-r=a"], Found::Value(b"a")),
            (&["__Host-guest-r=a", "__Host-guest-r=b"], Found::Different),
            (&["__Host-guest-r="], Found::Value(b"")),
            (&["__Host-guest-r"], Found::Absent),
            (
                &["__host-guest-r=a", "__Host-guest=a", "__Host-guest-rr=a"],
                Found::Absent,
            ),
            (
                &["\u{2000}__Host-guest-r=a", "\u{a0}__Host-guest-r=a"],
                Found::Absent,
            ),
            (
                &["%5F%5FHost-guest-r=a", "\"__Host-guest-r\"=a"],
                Found::Absent,
            ),
            (
                &["$Version=1, __Host-guest-r=a", "\x0b__Host-guest-r=a"],
                Found::Absent,
            ),
            (&["__Host-guest-r =a"], Found::Absent),
            (&["__Host-guest-r=\"a\""], Found::Value(b"\"a\"")),
        ] {
            let fields = fields.iter().map(|field| field.as_bytes());
            assert_eq!(
                find(fields.clone(), name),
                expected,
                "{:?}",
                Vec::from_iter(fields)
            );
        }
    }

    #[test]
    fn c317_an_access_tokens_cookie_ends_before_its_token() {
        let seconds = Duration::from_secs;
        for (expires_in, expected) in [(86_400, 86_340), (300, 270), (10, 9), (0, 0)] {
            assert_eq!(access_max_age(seconds(expires_in)), seconds(expected));
        }
    }

    #[test]
    fn a_cookie_is_set_for_this_host_alone_unless_a_domain_says_otherwise() {
        let (name, domain) = ("n".parse().unwrap(), "shop.example".parse().unwrap());
        let naming = |domain, is_secure| Naming {
            name: &name,
            domain,
            is_secure,
        };
        let nine = Duration::from_secs(9);
        assert_eq!(
            naming(Some(&domain), true).set(Cookie::RefreshToken, "v", nine),
            "__Host-n-r=v; Path=/; Max-Age=9; Secure; HttpOnly; SameSite=Lax; Priority=High"
        );
        assert_eq!(
            naming(None, true).set(Cookie::AccessToken, "v", nine),
            "__Host-n=v; Path=/; Max-Age=9; Secure; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            naming(Some(&domain), true).clear(Cookie::AccessToken),
            "__Secure-n=; Path=/; Domain=shop.example; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            naming(None, false).set(Cookie::Seed, "v", nine),
            "n-s=v; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"
        );
    }
}
