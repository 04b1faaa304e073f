//! The customer that a guest has become, by the word of the shop: a label on a guest, and never a login.
//!
//! A link is set once, by a client that shows an access token of the guest. It changes neither `sub` nor what a token is good
//! for (decision 18).

use std::fmt;
use std::str::FromStr;

use crate::client::ClientNumber;
use crate::profile::Profile;
use crate::refusal::Refusal;
use crate::time::Timestamp;

/// Names a customer of the shop: 1 to 128 of ASCII letters, digits and `-._:|/+=`, compared byte for byte.
///
/// Nothing in it needs escaping, and it has no `@`: an address would be personal data in every token. A word with which a
/// program says that it has no value is no customer, or a defect would make one of all guests.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CustomerId(Box<str>);

impl CustomerId {
    /// The texts that are ids, as a regular expression (ECMA-262).
    pub const PATTERN: &str = concat!(
        "^(?!([Nn][Uu][Ll][Ll]|[Uu][Nn][Dd][Ee][Ff][Ii][Nn][Ee][Dd]|[Nn][Oo][Nn][Ee]|[Nn][Ii][Ll]|[Nn][Aa][Nn]|",
        "[Gg][Uu][Ee][Ss][Tt]|[Aa][Nn][Oo][Nn][Yy][Mm][Oo][Uu][Ss]|[Uu][Nn][Kk][Nn][Oo][Ww][Nn]|[Tt][Rr][Uu][Ee]|",
        "[Ff][Aa][Ll][Ss][Ee]|0|-1)$)[A-Za-z0-9._:|/+=-]{1,128}$"
    );

    /// Returns the id as text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

/// The most bytes that an id has.
pub const MAX_BYTES: usize = 128;

/// Words that say that there is no customer, in any mixture of upper and lower case.
const NOBODY: &[&str] = &[
    "null",
    "undefined",
    "none",
    "nil",
    "nan",
    "guest",
    "anonymous",
    "unknown",
    "true",
    "false",
    "0",
    "-1",
];

impl FromStr for CustomerId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:|/+=".contains(&byte);
        let length = text.len();
        if length == 0 || length > MAX_BYTES || !text.bytes().all(allowed) {
            return Err(
                "a customer's id is 1 to 128 letters, digits and `-._:|/+=`; hash an address before you use it as one",
            );
        }
        if NOBODY.iter().any(|word| word.eq_ignore_ascii_case(text)) {
            return Err("this word is no customer's id: a program writes it when it has no value");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Says which customer a guest is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// The customer.
    pub customer: CustomerId,
    /// The time at which the shop said so.
    pub at: Timestamp,
    /// The client that said so; `None` for an import.
    pub by: Option<ClientNumber>,
}

/// Says what becomes of a guest that is to be linked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Linking {
    /// Write this profile.
    Link(Profile),
    /// It is linked to that customer: there is nothing to write.
    Already,
}

impl Profile {
    /// Decides about a link to `customer`, asked for by the client `by`, which has proved that it holds the guest.
    ///
    /// # Errors
    /// [`Refusal::LinkedToAnother`]: the link of a guest is never changed to another customer, whose history would mix with
    /// the first one's on a device that both use.
    pub fn link_to(
        &self,
        customer: &CustomerId,
        by: ClientNumber,
        now: Timestamp,
    ) -> Result<Linking, Refusal> {
        match &self.link {
            Some(link) if link.customer == *customer => Ok(Linking::Already),
            Some(_) => Err(Refusal::LinkedToAnother),
            None => Ok(Linking::Link(self.changed(Some(Link {
                customer: customer.clone(),
                at: now,
                by: Some(by),
            })))),
        }
    }

    /// Decides about the end of the link to `customer`. `None` if the guest is linked to nobody: there is nothing to write.
    ///
    /// # Errors
    /// [`Refusal::LinkedToAnother`].
    pub fn unlink_from(&self, customer: &CustomerId) -> Result<Option<Self>, Refusal> {
        match &self.link {
            None => Ok(None),
            Some(link) if link.customer == *customer => Ok(Some(self.unlinked())),
            Some(_) => Err(Refusal::LinkedToAnother),
        }
    }

    /// Returns the guest, linked to nobody.
    #[must_use]
    pub fn unlinked(&self) -> Self {
        self.changed(None)
    }

    fn changed(&self, link: Option<Link>) -> Self {
        Self {
            link,
            version: self.version + 1,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{NetworkId, ProfileId};

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    #[test]
    fn ids_of_customers() {
        for good in [
            "1",
            "00",
            "null1",
            "919108f7-52d1-4320-9bac-f847db4148a8",
            "a:1001",
            "sha256|Zm9v+/=",
            "A_b.c",
            &"x".repeat(128),
        ] {
            assert_eq!(good.parse::<CustomerId>().unwrap().as_str(), good);
        }
        let long = "x".repeat(129);
        for bad in ["", "a b", "a@b.example", "é", "\"", "a\0", "a,b", &long] {
            assert!(bad.parse::<CustomerId>().is_err(), "{bad:?}");
        }
        for word in NOBODY {
            assert!(word.parse::<CustomerId>().is_err(), "{word}");
            let upper = word.to_uppercase();
            assert!(upper.parse::<CustomerId>().is_err(), "{upper}");
        }
        assert!("uNdefined".parse::<CustomerId>().is_err());
    }

    #[test]
    fn the_pattern_leaves_out_the_same_words() {
        let in_any_case = |letter: char| match letter.is_ascii_lowercase() {
            true => format!("[{}{letter}]", letter.to_ascii_uppercase()),
            false => letter.to_string(),
        };
        let word = |word: &&str| word.chars().map(in_any_case).collect::<String>();
        let words: Vec<_> = NOBODY.iter().map(word).collect();
        let excluded = format!("^(?!({})$)", words.join("|"));
        assert!(CustomerId::PATTERN.starts_with(&excluded), "{excluded}");
    }

    #[test]
    fn a_guest_is_linked_once() {
        let [x, y] = ["x", "y"].map(|id| id.parse::<CustomerId>().unwrap());
        let by = ClientNumber(7);
        let guest = Profile::new(
            ProfileId::first_at(NOW),
            NetworkId::new([1; 16]),
            ClientNumber(1),
            NOW,
        );
        let Linking::Link(linked) = guest.link_to(&x, by, NOW).unwrap() else {
            panic!("it was linked to nobody");
        };
        let expected = Link {
            customer: x.clone(),
            at: NOW,
            by: Some(by),
        };
        assert_eq!((&linked.link, linked.version), (&Some(expected), 1));
        assert_eq!(linked.link_to(&x, by, NOW), Ok(Linking::Already));
        assert_eq!(linked.link_to(&y, by, NOW), Err(Refusal::LinkedToAnother));

        assert_eq!(linked.unlink_from(&y), Err(Refusal::LinkedToAnother));
        let unlinked = linked.unlink_from(&x).unwrap().unwrap();
        assert_eq!((&unlinked.link, unlinked.version), (&None, 2));
        assert_eq!(unlinked.unlink_from(&x), Ok(None));
    }
}
