//! Reads JSON objects strictly: UTF-8, no repeated members, nothing after the end. Text without escapes is borrowed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Builds a value from the members of an object.
pub(crate) trait FromMembers<'a>: Default {
    /// Reads the value of a known member from `map`. `false` for an unknown one, whose value the caller then skips.
    fn read_member<A: MapAccess<'a>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads an object. `None` if the text isn't one, if it repeats a member or has too many, or if `T` rejects a value.
pub(crate) fn object<'a, T: FromMembers<'a>>(json: &'a [u8]) -> Option<T> {
    // Checked here for the whole text, since serde_json doesn't validate strings that it skips.
    let text = std::str::from_utf8(json).ok()?;
    let mut members = T::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    ObjectReader(&mut members)
        .deserialize(&mut deserializer)
        .ok()?;
    deserializer.end().ok()?;
    Some(members)
}

/// Reads the value of a member that must be a string.
pub(crate) fn text<'a, A: MapAccess<'a>>(map: &mut A) -> Result<Cow<'a, str>, A::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    map.next_value::<Text<'a>>().map(|Text(text)| text)
}

/// The most members of an object, more than any token has. It bounds the linear search for repeated ones.
const MAX_MEMBERS: usize = 64;

struct ObjectReader<'m, T>(&'m mut T);

impl<'a, T: FromMembers<'a>> DeserializeSeed<'a> for ObjectReader<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, T: FromMembers<'a>> Visitor<'a> for ObjectReader<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut seen: Vec<Cow<'a, str>> = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            if seen.len() == MAX_MEMBERS || seen.contains(&name) {
                return Err(A::Error::custom("repeated, or too many"));
            }
            if !self.0.read_member(&name, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
            seen.push(name);
        }
        Ok(())
    }
}
