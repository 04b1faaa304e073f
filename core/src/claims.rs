//! Encodes the claims of an access token (RFC 9068 §2.2).
//!
//! To add one, or an optional or custom claim that a client chooses, follow the checklist in CONTRIBUTING.md: it also takes
//! the place that mints the token, the crate that verifies it, introspection and the API's description.

use std::fmt::Write;
use std::str::FromStr;

use base64::Engine;

use crate::attributes::Attributes;
use crate::base64url::BASE64URL;
use crate::customer::CustomerId;
use crate::grant::GrantId;
use crate::profile::{NetworkId, ProfileId};
use crate::time::Timestamp;

/// The `typ` of an access token, in its header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Typ {
    /// `at+jwt` (RFC 9068 §2.1), by which nobody takes a JWT of another kind for one.
    #[default]
    AtJwt,
    /// `JWT`, for libraries that refuse the other. Our keys sign nothing else, so that it can't be taken for anything.
    Jwt,
}

impl Typ {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::AtJwt, Self::Jwt];

    /// Returns the text in the header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtJwt => "at+jwt",
            Self::Jwt => "JWT",
        }
    }
}

impl FromStr for Typ {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.into_iter();
        all.find(|typ| typ.as_str() == text)
            .ok_or("write at+jwt or JWT")
    }
}

/// Holds the claims of one access token.
#[derive(Debug)]
pub struct Claims<'a> {
    /// `iss`: the issuer, byte for byte as configured.
    pub issuer: &'a str,
    /// `aud`: the audience, followed by the issuer unless that is left out; `None` for the issuer alone.
    pub audience: Option<&'a str>,
    /// Leaves the issuer out of `aud`, if there is an audience.
    pub audience_restricted: bool,
    /// `client_id`: the client's public id.
    pub client_id: &'a str,
    /// `sub`, as a decimal string.
    pub profile: ProfileId,
    /// `subn`: the guest's network id, as existing clients call it.
    pub network_id: NetworkId,
    /// `sid`: the grant that the token was issued from.
    pub grant: GrantId,
    /// `jti`: random, so that no two tokens share it.
    pub token_id: [u8; 16],
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `customer`: the customer that the guest has become. A label, and never a login.
    pub customer: Option<&'a CustomerId>,
    /// `attrs`: what the shop remembers of the guest.
    pub attributes: Option<&'a Attributes>,
}

impl Claims<'_> {
    /// Appends the payload segment of the JWT.
    ///
    /// The segment contains neither `-` nor `_`, because existing clients decode it with a plain base64 decoder. In
    /// ASCII, only the bytes `>`, `?`, `~` and DEL can produce those characters, so the four are escaped inside the
    /// JSON, as is everything else that isn't printable ASCII.
    pub fn write_payload_segment(&self, token: &mut String) {
        BASE64URL.encode_string(self.to_json(), token);
    }

    fn to_json(&self) -> String {
        let mut json = String::with_capacity(512);
        json.push_str(r#"{"iss":"#);
        push_string(&mut json, self.issuer);
        json.push_str(r#","sub":""#);
        push_display(&mut json, self.profile);
        json.push_str(r#"","aud":"#);
        match self.audience {
            Some(audience) if self.audience_restricted => push_string(&mut json, audience),
            Some(audience) => {
                json.push('[');
                push_string(&mut json, audience);
                json.push(',');
                push_string(&mut json, self.issuer);
                json.push(']');
            }
            None => push_string(&mut json, self.issuer),
        }
        json.push_str(r#","client_id":"#);
        push_string(&mut json, self.client_id);
        json.push_str(r#","iat":"#);
        push_display(&mut json, self.issued_at.as_seconds());
        json.push_str(r#","exp":"#);
        push_display(&mut json, self.expires_at.as_seconds());
        json.push_str(r#","jti":""#);
        BASE64URL.encode_string(self.token_id, &mut json);
        json.push_str(r#"","sid":""#);
        push_display(&mut json, self.grant);
        json.push_str(r#"","subn":""#);
        push_display(&mut json, self.network_id);
        json.push('"');
        if let Some(customer) = self.customer {
            // Nothing in it needs escaping.
            json.push_str(r#","customer":""#);
            json.push_str(customer.as_str());
            json.push('"');
        }
        if let Some(attributes) = self.attributes {
            json.push_str(r#","attrs":"#);
            json.push_str(attributes.as_json());
        }
        json.push('}');
        json
    }
}

fn push_display(json: &mut String, value: impl std::fmt::Display) {
    write!(json, "{value}").expect("writing to a string doesn't fail");
}

pub(crate) fn push_string(json: &mut String, text: &str) {
    let is_plain = |byte: u8| {
        matches!(byte, b' '..=b'}')
            & (byte != b'"')
            & (byte != b'\\')
            & (byte != b'>')
            & (byte != b'?')
    };
    json.push('"');
    // `fold` rather than `all`: without an early exit, the compiler can vectorise the loop.
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        json.push_str(text);
    } else {
        for character in text.chars() {
            match u8::try_from(character) {
                Ok(byte) if is_plain(byte) => json.push(character),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(json, "\\u{unit:04x}").expect("writing to a string doesn't fail");
                    }
                }
            }
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_survives_a_plain_base64_decoder() {
        let nasty = "~>?\x7f\"\\é😀\n a>b?c~d";
        for pad in 0..3 {
            let issuer = format!("{}{nasty}{nasty}{nasty}", "x".repeat(pad));
            let mut segment = String::new();
            claims(&issuer, Some("a")).write_payload_segment(&mut segment);
            assert!(
                segment.bytes().all(|b| b.is_ascii_alphanumeric()),
                "{segment}"
            );
            let json = BASE64URL.decode(segment).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(value["iss"], *issuer);
            assert_eq!(value["aud"], serde_json::json!(["a", issuer]));
        }
    }

    #[test]
    fn without_an_audience_the_issuer_stands_alone() {
        let json = claims("https://id.example", None).to_json();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["aud"], "https://id.example");
        assert_eq!(value["sub"], "94173");
    }

    #[test]
    fn a_restricted_audience_stands_alone() {
        for (audience, expected) in [(Some("api"), "api"), (None, "https://id.example")] {
            let claims = Claims {
                audience_restricted: true,
                ..claims("https://id.example", audience)
            };
            let value: serde_json::Value = serde_json::from_str(&claims.to_json()).unwrap();
            assert_eq!(value["aud"], expected);
        }
    }

    fn claims<'a>(issuer: &'a str, audience: Option<&'a str>) -> Claims<'a> {
        let profile = "94173".parse().unwrap();
        Claims {
            issuer,
            audience,
            audience_restricted: false,
            client_id: "shop",
            profile,
            network_id: NetworkId::new([7; 16]),
            grant: GrantId::new(profile, [255; 8]),
            token_id: [255; 16],
            issued_at: Timestamp::from_millis(1_571_908_272_999),
            expires_at: Timestamp::from_millis(1_571_994_672_999),
            customer: None,
            attributes: None,
        }
    }
}
