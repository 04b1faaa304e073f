//! Reads a request's parameters: from one source, each at most once, empty as absent, unknown ones ignored
//! (RFC 6749 §3.1, §3.2). Their values are checked by the requests that are parsed from them.

use std::borrow::Cow;
use std::fmt;
use std::iter;

use memchr::{memchr, memchr2};
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::refusal::Refusal;

/// A parameter that an endpoint knows. The parser reads its name and limit; the rest is what the request that is parsed
/// from it will ask, said for those who read the API's description.
#[derive(Debug)]
pub struct Parameter {
    /// The name on the wire.
    pub name: &'static str,
    /// The longest value, in bytes after decoding.
    pub max_bytes: usize,
    /// Tells for which grant types it is required.
    pub presence: Presence,
    /// Describes the values that are accepted.
    pub accepts: Accepts,
    /// Explains it to readers of the API's description.
    pub about: &'static str,
}

/// Tells for which grant types a parameter is required.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presence {
    /// Always.
    Required,
    /// Never.
    Optional,
    /// With this grant type; it may be there with the others.
    RequiredWith(&'static str),
    /// With this grant type; it means nothing with the others.
    OnlyWith(&'static str),
}

/// Describes the values of a parameter that are accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accepts {
    /// This one.
    Only(&'static str),
    /// These.
    OneOf(&'static [&'static str]),
    /// Those that match.
    Match {
        /// A regular expression (ECMA-262) for all of the value.
        pattern: &'static str,
        /// A value that matches.
        example: &'static str,
    },
    /// Any text without control characters.
    Text {
        /// An example of such a text.
        example: &'static str,
    },
    /// The empty one, which counts as absent.
    Nothing,
}

/// The values of the parameters in an endpoint's table.
pub struct Params<'a> {
    table: &'static [Parameter],
    /// One place for each row of `table`; a parameter that came empty holds its place, so that it can't come again.
    values: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Params<'a> {
    /// Reads a query string or an `application/x-www-form-urlencoded` body: percent-decoded once, `+` as a space.
    ///
    /// # Errors
    /// [`Refusal::EncodingMalformed`] for a broken percent-encoding or text that isn't UTF-8, else as the module says.
    pub fn from_form(table: &'static [Parameter], text: &'a [u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(text).map_err(|_| Refusal::EncodingMalformed)?;
        let mut params = Self::empty(table);
        for (index, (name, value)) in pairs(text).enumerate() {
            if index == MAX_COUNT {
                return Err(Refusal::ParametersTooMany);
            }
            // Hardly anyone encodes a name.
            match params.place(name) {
                Some(place) => params.put(place, form_decode(value)?)?,
                None => params.insert(&form_decode(name)?, form_decode(value)?)?,
            }
        }
        Ok(params)
    }

    /// Reads a JSON object whose members are all strings.
    ///
    /// # Errors
    /// [`Refusal::BodyNotJson`] for any other JSON and for what isn't JSON, else as the module says.
    pub fn from_json(table: &'static [Parameter], text: &'a [u8]) -> Result<Self, Refusal> {
        let mut params = Self::empty(table);
        let mut refusal = Refusal::BodyNotJson;
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        Members {
            params: &mut params,
            refusal: &mut refusal,
        }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|_| refusal)?;
        Ok(params)
    }

    /// The value of a parameter in the table. `None` if absent or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.place(name)?;
        self.values[place]
            .as_deref()
            .filter(|value| !value.is_empty())
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// [`Refusal::ParameterMissing`] if absent or empty.
    pub fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::ParameterMissing(name))
    }

    /// The value of a parameter in the table, also if that is empty. `None` if absent.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<&str> {
        self.values[self.place(name)?].as_deref()
    }

    /// Checks that a query gives no parameter of the table a value, whatever else is wrong with the query.
    ///
    /// # Errors
    /// [`Refusal::ParameterInQuery`] for the first that it gives one; [`Refusal::UnknownParameterMalformed`].
    pub fn check_absent(table: &[Parameter], query: &str) -> Result<(), Refusal> {
        for (name, value) in pairs(query) {
            let decoded = form_decode(name);
            let known = table.iter().find(|known| decoded == Ok(known.name.into()));
            match known {
                Some(known) if !value.is_empty() => {
                    return Err(Refusal::ParameterInQuery(known.name));
                }
                _ if encodes_control_characters(name) || encodes_control_characters(value) => {
                    return Err(Refusal::UnknownParameterMalformed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that a query gives one parameter no value, whatever else is wrong with the query.
    ///
    /// # Errors
    /// [`Refusal::ParameterInQuery`] if it does.
    pub fn check_lacks(query: &str, name: &'static str) -> Result<(), Refusal> {
        if pairs(query)
            .any(|(known, value)| !value.is_empty() && form_decode(known) == Ok(name.into()))
        {
            Err(Refusal::ParameterInQuery(name))
        } else {
            Ok(())
        }
    }

    /// Returns the first value that a query gives a parameter, both written as they are: without percent-encoding. Nothing else
    /// of the query is looked at.
    #[must_use]
    pub fn peek<'q>(query: &'q str, name: &str) -> Option<&'q str> {
        query.split('&').find_map(|pair| {
            let value = pair.strip_prefix(name)?;
            if value.is_empty() {
                return Some(value);
            }
            value.strip_prefix('=')
        })
    }

    fn empty(table: &'static [Parameter]) -> Self {
        Self {
            table,
            values: vec![None; table.len()],
        }
    }

    fn insert(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Refusal> {
        if name.len() > MAX_NAME_CHARS && name.chars().nth(MAX_NAME_CHARS).is_some() {
            return Err(Refusal::ParametersTooMany);
        }
        match self.place(name) {
            Some(place) => self.put(place, value),
            // Another program, such as a proxy, may take it for something else: a name for a shorter one.
            None if has_control_characters(name) || has_control_characters(&value) => {
                Err(Refusal::UnknownParameterMalformed)
            }
            None => Ok(()),
        }
    }

    fn put(&mut self, place: usize, value: Cow<'a, str>) -> Result<(), Refusal> {
        let Parameter {
            name, max_bytes, ..
        } = self.table[place];
        if self.values[place].is_some() {
            return Err(Refusal::ParameterRepeated(name));
        }
        if value.len() > max_bytes {
            return Err(Refusal::ParameterTooLong(name));
        }
        // No parameter of this API has a use for them, and neither has a log line or a header that would show one.
        if has_control_characters(&value) {
            return Err(Refusal::ParameterMalformed(name));
        }
        self.values[place] = Some(value);
        Ok(())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.table
            .iter()
            .position(|parameter| parameter.name == name)
    }
}

/// Finds control characters behind the percent-encoding, even if that is broken elsewhere: others read on.
fn encodes_control_characters(encoded: &str) -> bool {
    let is_control = |escaped: &str| {
        let digits = escaped.get(..2).map(|hex| u8::from_str_radix(hex, 16));
        digits.is_some_and(|byte| byte.is_ok_and(|byte| byte.is_ascii_control()))
    };
    match form_decode(encoded) {
        Ok(text) => has_control_characters(&text),
        Err(_) => encoded.split('%').skip(1).any(is_control),
    }
}

/// Looks first whether the text is printable ASCII, as almost every one is, and that with `fold` rather than `all`:
/// without an early exit, the compiler can vectorise the loop.
fn has_control_characters(text: &str) -> bool {
    let is_printable_ascii = text
        .bytes()
        .fold(true, |all, byte| all & (b' '..=b'~').contains(&byte));
    !is_printable_ascii && text.chars().any(char::is_control)
}

/// Names and values, still encoded.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let (pair, next) = cut(rest?, b'&');
        rest = next;
        let (name, value) = cut(pair, b'=');
        Some((name, value.unwrap_or_default()))
    })
}

/// Splits at the first such byte.
fn cut(text: &str, ascii: u8) -> (&str, Option<&str>) {
    match memchr(ascii, text.as_bytes()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// More parameters than any client of this API sends, known or not.
pub const MAX_COUNT: usize = 64;
/// A longer name than any parameter has, in characters: what the API's description can say.
pub const MAX_NAME_CHARS: usize = 256;

/// Decodes `application/x-www-form-urlencoded` text strictly: unlike the URL standard's decoder, it doesn't let `%zz`
/// stand.
///
/// # Errors
/// [`Refusal::EncodingMalformed`] for a broken percent-encoding or text that isn't UTF-8.
pub fn form_decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    if memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit(), digit());
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(Refusal::EncodingMalformed);
                };
                u8::try_from(high * 16 + low).expect("two hexadecimal digits make one byte")
            }
            other => other,
        });
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| Refusal::EncodingMalformed)
}

/// Fills `params` from a JSON object while it is read: a map type would swallow repeated members.
struct Members<'p, 'a> {
    params: &'p mut Params<'a>,
    refusal: &'p mut Refusal,
}

impl<'de> DeserializeSeed<'de> for Members<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with string members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut count = 0;
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            count += 1;
            let inserted = if count > MAX_COUNT {
                Err(Refusal::ParametersTooMany)
            } else {
                self.params.insert(&name, value)
            };
            if let Err(refusal) = inserted {
                *self.refusal = refusal;
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Parameter] = &[text("state"), text("code")];

    const fn text(name: &'static str) -> Parameter {
        Parameter {
            name,
            max_bytes: 8,
            presence: Presence::Optional,
            accepts: Accepts::Text { example: "x" },
            about: "",
        }
    }

    fn form(text: &str) -> Result<Option<String>, Refusal> {
        Params::from_form(TABLE, text.as_bytes()).map(|p| p.get("state").map(ToOwned::to_owned))
    }

    fn json(text: &str) -> Result<Option<String>, Refusal> {
        Params::from_json(TABLE, text.as_bytes()).map(|p| p.get("state").map(ToOwned::to_owned))
    }

    #[test]
    fn forms() {
        for (text, value) in [
            ("", None),
            ("state", None),
            ("state=", None),
            ("&&state=x&", Some("x")),
            ("state=a=b", Some("a=b")),
            ("state=a%2Bb+c%20d", Some("a+b c d")),
            ("%73tate=x", Some("x")),
            ("state=%C3%A9", Some("é")),
            ("foo&foo=1&state=x", Some("x")),
        ] {
            assert_eq!(form(text), Ok(value.map(ToOwned::to_owned)), "{text}");
        }
        for text in [
            "state=%",
            "state=%4",
            "state=%zz",
            "%=x",
            "state=%ff",
            "foo=%C3",
        ] {
            assert_eq!(form(text), Err(Refusal::EncodingMalformed), "{text}");
        }
        for text in [
            "state=a&state=a",
            "state=&state=a",
            "state=a&state",
            "state=a&%73tate=b",
        ] {
            assert_eq!(
                form(text),
                Err(Refusal::ParameterRepeated("state")),
                "{text}"
            );
        }
        assert_eq!(
            form("state=123456789"),
            Err(Refusal::ParameterTooLong("state"))
        );
        for text in ["state=%00", "state=%0A", "state=%7F", "state=%C2%80"] {
            assert_eq!(
                form(text),
                Err(Refusal::ParameterMalformed("state")),
                "{text}"
            );
        }
        assert_eq!(
            form(&"a&".repeat(MAX_COUNT)),
            Err(Refusal::ParametersTooMany)
        );
        assert_eq!(
            form(&"é".repeat(MAX_NAME_CHARS + 1)),
            Err(Refusal::ParametersTooMany)
        );
        assert_eq!(form(&"é".repeat(MAX_NAME_CHARS)), Ok(None));
    }

    #[test]
    fn a_name_is_found_in_a_broken_query() {
        let found = |name| Err(Refusal::ParameterInQuery(name));
        for (query, expected) in [
            ("", Ok(())),
            ("foo=1&state", Ok(())),
            ("state=&code=", Ok(())),
            ("%zz=1&foo=%zz", Ok(())),
            ("foo=%zz&%63ode=%zz", found("code")),
            ("state=a&state=b", found("state")),
            ("foo%00", Err(Refusal::UnknownParameterMalformed)),
            ("foo=%0a", Err(Refusal::UnknownParameterMalformed)),
            ("%zz%00=1", Err(Refusal::UnknownParameterMalformed)),
            ("foo=%ff%7F", Err(Refusal::UnknownParameterMalformed)),
            ("foo=%C2%80", Err(Refusal::UnknownParameterMalformed)),
        ] {
            assert_eq!(Params::check_absent(TABLE, query), expected, "{query}");
        }
        for (query, expected) in [
            ("code=1&state=", Ok(())),
            ("foo=%zz&%73tate=%zz", found("state")),
            ("state=&state=x", found("state")),
        ] {
            assert_eq!(Params::check_lacks(query, "state"), expected, "{query}");
        }
    }

    #[test]
    fn a_peek_finds_what_is_written_as_it_is() {
        for (query, expected) in [
            ("", None),
            ("code=1", None),
            ("state", Some("")),
            ("%zz&state=a%20b&state=c", Some("a%20b")),
            ("%73tate=a", None),
        ] {
            assert_eq!(Params::peek(query, "state"), expected, "{query}");
        }
    }

    #[test]
    fn values_of_unknown_parameters_without_control_characters() {
        for value in ["%00", "a%0Ab", "%7F", "%C2%85", "\u{1b}"] {
            assert_eq!(
                form(&format!("state=x&foo={value}")),
                Err(Refusal::UnknownParameterMalformed),
                "{value}"
            );
        }
        for value in ["\\u0000", "\\n", "\u{7f}"] {
            assert_eq!(
                json(&format!(r#"{{"foo":"{value}"}}"#)),
                Err(Refusal::UnknownParameterMalformed),
                "{value}"
            );
        }
        assert_eq!(form("foo=caf%C3%A9+%25"), Ok(None));
    }

    #[test]
    fn names_without_control_characters() {
        for name in ["code%00", "%00", "foo%0A", "f%7Foo", "foo%C2%85", "\u{1b}"] {
            for query in [format!("{name}=x"), format!("state=x&{name}")] {
                assert_eq!(
                    form(&query),
                    Err(Refusal::UnknownParameterMalformed),
                    "{query}"
                );
            }
        }
        for name in ["code\\u0000", "\\u001f", "\u{7f}", "foo\u{80}"] {
            let object = format!(r#"{{"state":"x","{name}":"y"}}"#);
            assert_eq!(
                json(&object),
                Err(Refusal::UnknownParameterMalformed),
                "{name}"
            );
        }
        assert_eq!(form("caf%C3%A9=x"), Ok(None));
    }

    #[test]
    fn json_objects() {
        for (text, value) in [
            ("{}", None),
            (r#"{"state":""}"#, None),
            (
                r#" {"state":"a+b%20","foo":"1","foo":"2"} "#,
                Some("a+b%20"),
            ),
            (r#"{"st\u0061te":"\ud83d\ude00"}"#, Some("😀")),
        ] {
            assert_eq!(json(text), Ok(value.map(ToOwned::to_owned)), "{text}");
        }
        for text in [
            "",
            "[]",
            "null",
            r#""state""#,
            r#"{"state":1}"#,
            r#"{"foo":null}"#,
            r#"{"foo":{}}"#,
            r#"{"state":"x"} {}"#,
            r#"{"state":"\ud83d"}"#,
            r#"{"state":"x""#,
        ] {
            assert_eq!(json(text), Err(Refusal::BodyNotJson), "{text}");
        }
        let repeated = r#"{"state":"x","st\u0061te":"x"}"#;
        assert_eq!(json(repeated), Err(Refusal::ParameterRepeated("state")));
        let many = format!("{{{}}}", vec![r#""a":"""#; MAX_COUNT + 1].join(","));
        assert_eq!(json(&many), Err(Refusal::ParametersTooMany));
    }
}
