//! A ticket hands a guest over to another client: a code together with its verifier, in one text.
//!
//! It is redeemed as any code is (RFC 6749 §4.1.3), so it lives as long, works once, and ends what came of it if it is used twice.

use crate::authorize::CLIENT_ID;
use crate::client::CLIENT_SECRET;
use crate::limits::{MAX_CLIENT_ID_BYTES, MAX_CREDENTIAL_BYTES};
use crate::params::{Accepts, Parameter, Presence};
use crate::pkce::Verifier;
use crate::refusal::Refusal;
use crate::session::OWN_CLIENT_ID;
use crate::token_request::EXAMPLE_REFRESH_TOKEN;

/// The two halves of a ticket.
#[derive(Clone, Copy)]
pub struct Ticket<'a> {
    /// The text of the code.
    pub code: &'a str,
    /// Its verifier.
    pub verifier: Verifier,
}

/// The example of a ticket in the API's own documentation.
pub const EXAMPLE_TICKET: &str = "u3J0bGVzIGFsbCB0aGUgd2F5IGRvd24sIHdpdGggb25lIGtleSBmb3IgZWFjaCBs.\
                                  1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY";

impl<'a> Ticket<'a> {
    /// A regular expression for the texts of tickets.
    pub const PATTERN: &'static str = r"^[A-Za-z0-9_-]{64}\.[A-Za-z0-9_-]{43}$";

    /// Puts the halves together.
    #[must_use]
    pub fn text(code: &str, verifier: &str) -> String {
        [code, ".", verifier].concat()
    }

    /// Takes a ticket apart.
    ///
    /// # Errors
    /// [`Refusal::TicketMalformed`] for any other text.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        let (code, verifier) = text.split_once('.').ok_or(Refusal::TicketMalformed)?;
        let verifier = Verifier::parse(verifier).ok_or(Refusal::TicketMalformed)?;
        Ok(Self { code, verifier })
    }
}

/// Lists the parameters of a request for a ticket.
pub const PARAMETERS: &[Parameter] = &[
    OWN_CLIENT_ID,
    Parameter {
        name: "target",
        max_bytes: MAX_CLIENT_ID_BYTES,
        presence: Presence::Required,
        accepts: CLIENT_ID,
        about: "The client that will redeem the ticket.",
    },
    Parameter {
        name: "refresh_token",
        max_bytes: MAX_CREDENTIAL_BYTES,
        presence: Presence::Optional,
        accepts: Accepts::Text {
            example: EXAMPLE_REFRESH_TOKEN,
        },
        about: "The guest's refresh token; it stays as it is. Required, but for a client with cookies, whose cookie counts instead.",
    },
    CLIENT_SECRET,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_two_halves() {
        let ticket = Ticket::parse(EXAMPLE_TICKET).unwrap_or_else(|_| panic!("it is one"));
        assert_eq!((ticket.code.len(), EXAMPLE_TICKET.len()), (64, 108));
        for text in [
            "",
            ".",
            "code",
            "code.verifier",
            "code.1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDl\u{e9}",
        ] {
            assert!(Ticket::parse(text).is_err(), "{text}");
        }
    }
}
