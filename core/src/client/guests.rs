//! Names what a client may do to guests, what it is told of them, and what it gets when one is over.

use std::fmt;
use std::str::FromStr;

use crate::attributes;

/// Something that a confidential client may do to guests, if an operator allows it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Permission {
    /// Say which customer a guest is, and take it back.
    Link,
    /// Set a guest's attributes.
    Attributes,
}

impl Permission {
    /// Returns the stable name, in flags and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Attributes => "attributes",
        }
    }
}

impl FromStr for Permission {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "link" => Ok(Self::Link),
            "attributes" => Ok(Self::Attributes),
            _ => Err("write link, attributes, or both with a comma between them"),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Says what a client gets when it refreshes and the grant is over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnEnded {
    /// A refusal, after which it authorizes anew.
    #[default]
    Refuse,
    /// Tokens of a new guest: for apps that were shipped and never authorize a second time.
    NewGuest,
}

impl OnEnded {
    /// Returns the stable name, in flags and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::NewGuest => "new_guest",
        }
    }
}

impl FromStr for OnEnded {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "new_guest" => Ok(Self::NewGuest),
            _ => Err("write refuse or new_guest"),
        }
    }
}

/// The name of a claim that clients are told by choice: `customer`, or an attribute's.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClaimName(String);

impl ClaimName {
    /// The claim that says which customer a guest is.
    pub const CUSTOMER: &str = "customer";

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClaimName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == Self::CUSTOMER || attributes::is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("write customer, or names of attributes: a-z, 0-9 and _, beginning with a letter")
        }
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
