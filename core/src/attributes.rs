//! Holds the attributes of a guest: a few small values that the shop remembers under names of its own (custom claims), told as
//! `attrs` to those who may know.
//!
//! They stand in one member of a token, so that no name can ever collide with a registered claim, and are bounded as they
//! are written there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::claims::push_string;
use crate::client::ClaimName;
use crate::refusal::Refusal;

/// The attributes of a guest, of which there is at least one: a JSON object in ASCII, with its names in order, as in the payload
/// of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attributes {
    json: Box<str>,
    /// The same, so that nothing is read twice.
    values: BTreeMap<String, Value>,
}

/// Changes to the attributes of a guest, by name. Names that it doesn't have stay as they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttributeChanges(BTreeMap<String, Option<Value>>);

/// The value of an attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    /// At most [`MAX_TEXT`] printable ASCII characters.
    Text(String),
    /// Exact wherever numbers are doubles.
    Number(i64),
    Flag(bool),
}

/// The most names that a guest has.
pub const MAX_NAMES: usize = 16;
/// The most bytes of all together, as they are written in a token.
pub const MAX_BYTES: usize = 256;
/// The most characters of a text.
pub const MAX_TEXT: usize = 64;
/// The most bytes of changes, which may be written more generously.
pub const MAX_CHANGES_BYTES: usize = 4096;
/// The greatest number that a double holds exactly, with all below it.
const MAX_NUMBER: i64 = (1 << f64::MANTISSA_DIGITS) - 1;

impl Attributes {
    /// Returns them as JSON: ASCII that stands in a token as it is.
    #[must_use]
    pub const fn as_json(&self) -> &str {
        &self.json
    }

    /// Returns them as a JSON object, for an answer that has no bound.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }

    /// Returns some that are as long as they can be.
    #[must_use]
    pub(crate) fn longest() -> Self {
        let text = |length| Value::Text("x".repeat(length));
        let texts = [("a", 64), ("b", 64), ("c", 64), ("d", 35)];
        let values = texts.map(|(name, length)| (name.to_owned(), text(length)));
        Self::of(values.into()).expect("there are some")
    }

    /// Returns those that a client is told. `None` if there is none.
    #[must_use]
    pub fn told(&self, claims: &[ClaimName]) -> Option<Self> {
        let is_told = |name: &str| claims.iter().any(|claim| claim.as_str() == name);
        let told = self.values.iter().filter(|(name, _)| is_told(name));
        Self::of(
            told.map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// Applies changes. `None` if none are left.
    ///
    /// # Errors
    /// [`Refusal::AttributesTooLong`] if there would be too many, or more than fit into a token.
    pub fn changed(
        before: Option<&Self>,
        changes: &AttributeChanges,
    ) -> Result<Option<Self>, Refusal> {
        let mut values = before.map_or_else(BTreeMap::new, |before| before.values.clone());
        for (name, value) in &changes.0 {
            match value {
                Some(value) => values.insert(name.clone(), value.clone()),
                None => values.remove(name),
            };
        }
        let after = Self::of(values);
        let fits = |after: &Self| after.values.len() <= MAX_NAMES && after.json.len() <= MAX_BYTES;
        if after.as_ref().is_none_or(fits) {
            Ok(after)
        } else {
            Err(Refusal::AttributesTooLong)
        }
    }

    fn of(values: BTreeMap<String, Value>) -> Option<Self> {
        let mut json = String::with_capacity(MAX_BYTES);
        for (name, value) in &values {
            json.push(if json.is_empty() { '{' } else { ',' });
            push_string(&mut json, name);
            json.push(':');
            match value {
                Value::Text(text) => push_string(&mut json, text),
                Value::Number(number) => json.push_str(&number.to_string()),
                Value::Flag(flag) => json.push_str(if *flag { "true" } else { "false" }),
            }
        }
        (!values.is_empty()).then(|| Self {
            json: (json + "}").into(),
            values,
        })
    }
}

/// Reads attributes as they are stored.
impl FromStr for Attributes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let changes = text.parse::<AttributeChanges>()?;
        let canonical = Self::changed(None, &changes).ok().flatten();
        canonical
            .filter(|canonical| *canonical.json == *text)
            .ok_or("attributes are an object as in a token")
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.json)
    }
}

/// Reads changes: a JSON object of texts, whole numbers, booleans and `null`, which removes a name.
impl FromStr for AttributeChanges {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PROBLEM: &str = "attributes are a JSON object: names of a-z, 0-9 and _ that begin with a letter; texts of at most \
                               64 printable ASCII characters, whole numbers up to 2^53 - 1, true, false, or null";
        serde_json::from_str(text).map_err(|_| PROBLEM)
    }
}

/// Returns whether an attribute may have that name: a lower-case letter, then at most 31 more, digits or underscores; and not that of a
/// claim that clients are told beside them.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && bytes.all(allowed)
        && text.len() <= 32
        && text != ClaimName::CUSTOMER
}

impl<'de> Deserialize<'de> for AttributeChanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = AttributeChanges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut changes = BTreeMap::new();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    let value = map.next_value()?;
                    if !is_name(&name) || changes.insert(name.into_owned(), value).is_some() {
                        return Err(de::Error::custom("a name that can't be, or comes twice"));
                    }
                }
                Ok(AttributeChanges(changes))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl Visitor<'_> for Scalar {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of an attribute")
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Flag(flag))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                let is_exact = number.unsigned_abs() <= MAX_NUMBER.unsigned_abs();
                is_exact
                    .then_some(Value::Number(number))
                    .ok_or_else(|| E::custom("a number that not every program keeps exactly"))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                let is_printable = |byte: u8| matches!(byte, b' '..=b'~');
                (text.len() <= MAX_TEXT && text.bytes().all(is_printable))
                    .then(|| Value::Text(text.to_owned()))
                    .ok_or_else(|| E::custom("a text that is too long or not printable ASCII"))
            }
        }

        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(before: Option<&Attributes>, changes: &str) -> Option<Attributes> {
        Attributes::changed(before, &changes.parse().unwrap()).unwrap()
    }

    #[test]
    fn changes_leave_what_they_do_not_name() {
        let first = changed(None, r#" {"segment": "vip", "n": 1, "beta": true} "#).unwrap();
        assert_eq!(first.as_json(), r#"{"beta":true,"n":1,"segment":"vip"}"#);
        assert_eq!(first.as_json().parse(), Ok(first.clone()));
        let second = changed(Some(&first), r#"{"n":null,"none":null,"beta":false}"#).unwrap();
        assert_eq!(second.as_json(), r#"{"beta":false,"segment":"vip"}"#);
        assert_eq!(
            changed(Some(&second), r#"{"beta":null,"segment":null}"#),
            None
        );
        assert_eq!(changed(Some(&second), "{}"), Some(second));
    }

    #[test]
    fn a_client_is_told_the_names_that_it_has_chosen() {
        let all = changed(None, r#"{"a":"x","b":-2,"c":"~"}"#).unwrap();
        let told = |names: &[&str]| {
            let claims: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
            all.told(&claims).map(|told| told.as_json().to_owned())
        };
        assert_eq!(
            told(&["c", "a"]),
            Some(r#"{"a":"x","c":"\u007e"}"#.to_owned())
        );
        assert_eq!(told(&["d", "customer"]), None);
    }

    #[test]
    fn malformed_changes_are_refused_whole() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(65));
        let long_name = format!(r#"{{"{}":1}}"#, "n".repeat(33));
        for bad in [
            "",
            "1",
            "[]",
            "null",
            r#"{"a":1"#,
            r#"{"a":1}x"#,
            r#"{"a":{}}"#,
            r#"{"a":[]}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":-9007199254740992}"#,
            r#"{"a":99999999999999999999}"#,
            r#"{"a":"é"}"#,
            r#"{"a":"\u0007"}"#,
            r#"{"a":"\u007f"}"#,
            r#"{"customer":"x"}"#,
            r#"{"Sub":1}"#,
            r#"{"1a":1}"#,
            r#"{"_a":1}"#,
            r#"{"":1}"#,
            r#"{"a-b":1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":null}"#,
            &long,
            &long_name,
        ] {
            assert!(bad.parse::<AttributeChanges>().is_err(), "{bad}");
        }
        for good in [
            r#"{"a":9007199254740991}"#,
            r#"{"a":-9007199254740991}"#,
            r#"{"a":" ~"}"#,
            r#"{"a_1":""}"#,
        ] {
            assert!(good.parse::<AttributeChanges>().is_ok(), "{good}");
        }
    }

    #[test]
    fn they_fit_into_a_token() {
        assert_eq!(Attributes::longest().as_json().len(), MAX_BYTES);
        let of = |names: usize| {
            let members: Vec<_> = (0..names).map(|n| format!(r#""a{n}":{n}"#)).collect();
            Attributes::changed(None, &format!("{{{}}}", members.join(",")).parse().unwrap())
        };
        assert!(of(16).is_ok());
        assert_eq!(of(17), Err(Refusal::AttributesTooLong));
        // A character that a plain base64 decoder can't take costs six bytes.
        let tildes = |count: usize, rest: usize| {
            let text = format!(
                r#"{{"a":"{}","b":"{}"}}"#,
                "~".repeat(count),
                "x".repeat(rest)
            );
            Attributes::changed(None, &text.parse().unwrap())
        };
        let exact = tildes(39, 7).unwrap().unwrap();
        assert_eq!(exact.as_json().len(), MAX_BYTES);
        assert_eq!(tildes(39, 8), Err(Refusal::AttributesTooLong));
        assert_eq!(tildes(40, 7), Err(Refusal::AttributesTooLong));
    }
}
