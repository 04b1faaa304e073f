//! Parses a signed token (RFC 7515 §7.1): its three segments, its header, its claims. Nothing here is verified yet.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::attribute::Attributes;
use crate::json::{self, FromMembers};
use crate::rejection::Rejection;

/// The length of the longest token that is read. Guestpass keeps its own below 1 KiB, RS256 aside.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Holds the segments of a token, decoded from base64url but not parsed.
pub(crate) struct Segments<'a> {
    /// The JWS signing input (RFC 7515 §5.2): the first two segments as they were received.
    pub(crate) signing_input: &'a [u8],
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Segments<'a> {
    /// Splits and decodes a token. Padding and set bits after the last whole byte are errors, so that each token has
    /// one spelling.
    pub(crate) fn parse(token: &'a str) -> Result<Self, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLong);
        }
        let mut segments = token.splitn(4, '.');
        let mut decoded = || {
            segments
                .next()
                .filter(|segment| !segment.is_empty())
                .and_then(|segment| URL_SAFE_NO_PAD.decode(segment).ok())
        };
        let (Some(header), Some(payload), Some(signature)) = (decoded(), decoded(), decoded())
        else {
            return Err(Rejection::Malformed);
        };
        if segments.next().is_some() {
            return Err(Rejection::Malformed);
        }
        let (signing_input, _) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
        Ok(Self {
            signing_input: signing_input.as_bytes(),
            header,
            payload,
            signature,
        })
    }
}

/// Holds the members of a header that are used. Keys inside it (`jwk`, `jku`, `x5c`, `x5u`) are ignored.
#[derive(Default)]
pub(crate) struct Header<'a> {
    pub(crate) alg: Option<Cow<'a, str>>,
    pub(crate) kid: Option<Cow<'a, str>>,
    pub(crate) typ: Option<Cow<'a, str>>,
    /// Set if a member would change the meaning of the token; no such member is supported.
    has_unsupported: bool,
}

impl<'a> Header<'a> {
    pub(crate) fn parse(json: &'a [u8]) -> Result<Self, Rejection> {
        let header: Self = json::object(json).ok_or(Rejection::HeaderMalformed)?;
        if header.has_unsupported {
            return Err(Rejection::HeaderUnsupported);
        }
        Ok(header)
    }
}

impl<'a> FromMembers<'a> for Header<'a> {
    fn read_member<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "alg" => self.alg = Some(json::text(map)?),
            "kid" => self.kid = Some(json::text(map)?),
            "typ" => self.typ = Some(json::text(map)?),
            "crit" | "b64" | "zip" => {
                self.has_unsupported = true;
                return Ok(false);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Holds the claims of RFC 9068 §2.2 and those of Guestpass, each `None` if absent.
#[derive(Default)]
pub(crate) struct Claims<'a> {
    pub(crate) iss: Option<Cow<'a, str>>,
    pub(crate) sub: Option<Cow<'a, str>>,
    pub(crate) aud: Option<Audience>,
    pub(crate) client_id: Option<Cow<'a, str>>,
    pub(crate) jti: Option<Cow<'a, str>>,
    pub(crate) sid: Option<Cow<'a, str>>,
    pub(crate) subn: Option<Cow<'a, str>>,
    pub(crate) customer: Option<Cow<'a, str>>,
    pub(crate) attrs: Option<Attributes>,
    pub(crate) iat: Option<NumericDate>,
    pub(crate) nbf: Option<NumericDate>,
    pub(crate) exp: Option<NumericDate>,
}

impl<'a> Claims<'a> {
    pub(crate) fn parse(json: &'a [u8]) -> Result<Self, Rejection> {
        json::object(json).ok_or(Rejection::ClaimsMalformed)
    }
}

impl<'a> FromMembers<'a> for Claims<'a> {
    fn read_member<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "iss" => self.iss = Some(claim(map)?),
            "sub" => self.sub = Some(claim(map)?),
            "aud" => self.aud = Some(map.next_value()?),
            "client_id" => self.client_id = Some(claim(map)?),
            "jti" => self.jti = Some(claim(map)?),
            "sid" => self.sid = Some(claim(map)?),
            "subn" => self.subn = Some(claim(map)?),
            "customer" => self.customer = Some(claim(map)?),
            "attrs" => self.attrs = Some(map.next_value()?),
            "iat" => self.iat = Some(map.next_value()?),
            "nbf" => self.nbf = Some(map.next_value()?),
            "exp" => self.exp = Some(map.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads a string that isn't empty: an empty subject would make all guests the same.
fn claim<'a, A: MapAccess<'a>>(map: &mut A) -> Result<Cow<'a, str>, A::Error> {
    json::text(map).and_then(|text| {
        if text.is_empty() {
            return Err(A::Error::custom("empty"));
        }
        Ok(text)
    })
}

/// Holds `aud`, which is a string or an array of strings (RFC 7519 §4.1.3).
pub(crate) struct Audience(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E>(self, one: &str) -> Result<Vec<String>, E> {
                Ok(vec![one.to_owned()])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<Vec<String>, A::Error> {
                let mut audience = Vec::new();
                while let Some(one) = many.next_element()? {
                    audience.push(one);
                }
                Ok(audience)
            }
        }

        deserializer.deserialize_any(OneOrMany).map(Self)
    }
}

/// Holds seconds since the Unix epoch. A fraction is rounded down, as that of the current time is.
#[derive(Clone, Copy)]
pub(crate) struct NumericDate(pub(crate) i64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Above it, JSON implementations don't agree on the exact value (RFC 8259 §6).
        const MAX: f64 = 9_007_199_254_740_991.0;

        // Accepts numbers only: a JSON `null` or `"1"` is an error.
        let seconds = f64::deserialize(deserializer)?;
        if seconds.abs() > MAX {
            return Err(D::Error::custom("out of range"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and within 53 bits: see above"
        )]
        Ok(Self(seconds.floor() as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_segments_each_in_its_one_spelling() {
        let segments = Segments::parse("YQ.YWI.YWJj").unwrap();
        assert_eq!(segments.signing_input, b"YQ.YWI");
        assert_eq!(
            (
                &segments.header[..],
                &segments.payload[..],
                &segments.signature[..]
            ),
            (&b"a"[..], &b"ab"[..], &b"abc"[..])
        );
        for wrong in [
            "",
            ".",
            "..",
            "...",
            "YQ",
            "YQ.YQ",
            "YQ.YQ.",
            "YQ..YQ",
            ".YQ.YQ",
            "YQ.YQ.YQ.",
            "YQ.YQ.YQ.YQ",
            "YQ.YQ.YQ.YQ.YQ",
            ".YQ.YQ.YQ",
            "YQ==.YQ.YQ",
            "YQ.YQ.YQ=",
            "YR.YQ.YQ",
            "YQ.YWJ.YQ",
            "Y.YQ.YQ",
            "YQ.+/+/.YQ",
            "YQ.YQ.YQ\n",
            " YQ.YQ.YQ",
            "YQ.Y Q.YQ",
            "YQ.é.YQ",
            "YQ.YQ\0.YQ",
            r#"{"payload":"YQ","protected":"YQ","signature":"YQ"}"#,
        ] {
            assert_eq!(
                Segments::parse(wrong).err(),
                Some(Rejection::Malformed),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_length_is_looked_at_first() {
        let longest = format!("{}.YWJj.YWJj", "YWJj".repeat(2045) + "YQ");
        assert_eq!(longest.len(), MAX_TOKEN_BYTES);
        assert!(Segments::parse(&longest).is_ok());
        let longer = format!("{longest}.");
        assert_eq!(Segments::parse(&longer).err(), Some(Rejection::TooLong));
    }

    #[test]
    fn a_header() {
        let json = br#"{ "alg":"ES256","\u006bid":"a\u002fb", "typ":"JWT","jwk":{"a":1,"a":[2]},"x":null}"#;
        let header = Header::parse(json).unwrap();
        assert_eq!(header.alg.as_deref(), Some("ES256"));
        assert_eq!(header.kid.as_deref(), Some("a/b"));
        assert_eq!(header.typ.as_deref(), Some("JWT"));
        for (json, rejection) in [
            (r#"{"crit":["exp"]}"#, Rejection::HeaderUnsupported),
            (r#"{"crit":[]}"#, Rejection::HeaderUnsupported),
            (r#"{"b64":true}"#, Rejection::HeaderUnsupported),
            (r#"{"\u007aip":"DEF"}"#, Rejection::HeaderUnsupported),
            (r#"{"alg":null}"#, Rejection::HeaderMalformed),
            (r#"{"alg":256}"#, Rejection::HeaderMalformed),
            (r#"{"alg":["HS256"]}"#, Rejection::HeaderMalformed),
            (r#"{"kid":1}"#, Rejection::HeaderMalformed),
            (r#"{"typ":{}}"#, Rejection::HeaderMalformed),
        ] {
            assert_eq!(
                Header::parse(json.as_bytes()).err(),
                Some(rejection),
                "{json}"
            );
        }
    }

    #[test]
    fn json_that_is_not_an_object_without_repeated_members() {
        let many = format!(
            "{{{}}}",
            (0..65)
                .map(|n| format!(r#""{n}":0"#))
                .collect::<Vec<_>>()
                .join(",")
        );
        let deep = format!(r#"{{"x":{}"#, "[".repeat(8000));
        for json in [
            "",
            " ",
            "null",
            "[]",
            "\"alg\"",
            "{",
            "{}}",
            "{} {}",
            "{}\0",
            "\u{feff}{}",
            r#"{"a":1,}"#,
            "{'a':1}",
            r#"{"a":1,"a":1}"#,
            r#"{"alg":"x","alg":"x"}"#,
            r#"{"alg":"x","\u0061lg":"x"}"#,
            r#"{"a":01}"#,
            r#"{"a":NaN}"#,
            "{\"a\":\"\n\"}",
            r#"{"alg":"\ud800"}"#,
            &many,
            &deep,
        ] {
            assert_eq!(
                Header::parse(json.as_bytes()).err(),
                Some(Rejection::HeaderMalformed),
                "{json}"
            );
        }
        let not_utf8 = b"{\"a\":\"\xff\"}";
        assert_eq!(
            Header::parse(not_utf8).err(),
            Some(Rejection::HeaderMalformed)
        );
    }

    #[test]
    fn claims_have_their_types() {
        for (json, seconds) in [
            ("1800000000", 1_800_000_000),
            ("1800000000.999", 1_800_000_000),
            ("1.8e9", 1_800_000_000),
            ("0", 0),
            ("-0.5", -1),
            ("9007199254740991", 9_007_199_254_740_991),
        ] {
            let json = format!(r#"{{"exp":{json}}}"#);
            let claims = Claims::parse(json.as_bytes()).unwrap();
            assert_eq!(
                claims.exp.map(|NumericDate(seconds)| seconds),
                Some(seconds),
                "{json}"
            );
        }
        for json in [
            r#"{"exp":"1800000000"}"#,
            r#"{"exp":null}"#,
            r#"{"exp":true}"#,
            r#"{"exp":[1]}"#,
            r#"{"exp":1e999}"#,
            r#"{"exp":9007199254740993}"#,
            r#"{"exp":-1e18}"#,
            r#"{"iat":{}}"#,
            r#"{"nbf":"0"}"#,
            r#"{"iss":1}"#,
            r#"{"sub":94173}"#,
            r#"{"sub":""}"#,
            r#"{"sub":null}"#,
            r#"{"aud":1}"#,
            r#"{"aud":["a",1]}"#,
            r#"{"aud":{"a":1}}"#,
            r#"{"aud":null}"#,
            r#"{"aud":[["a"]]}"#,
            r#"{"client_id":[]}"#,
            r#"{"jti":0}"#,
            r#"{"sid":false}"#,
            r#"{"subn":null}"#,
            r#"{"customer":""}"#,
            r#"{"customer":1}"#,
            r#"{"attrs":null}"#,
            r#"{"attrs":[]}"#,
            r#"{"attrs":{"a":null}}"#,
            r#"{"attrs":{"a":{}}}"#,
            r#"{"attrs":{"a":1.5}}"#,
            r#"{"attrs":{"a":1,"a":2}}"#,
        ] {
            assert_eq!(
                Claims::parse(json.as_bytes()).err(),
                Some(Rejection::ClaimsMalformed),
                "{json}"
            );
        }
        for (json, audience) in [
            (r#"{"aud":"a"}"#, &["a"][..]),
            (r#"{"aud":["a","\u0062"]}"#, &["a", "b"]),
            (r#"{"aud":[]}"#, &[]),
        ] {
            assert_eq!(
                Claims::parse(json.as_bytes()).unwrap().aud.unwrap().0,
                audience
            );
        }
    }
}
