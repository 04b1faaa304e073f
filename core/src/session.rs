//! The parameters of a page's requests for its session.

use crate::authorize::CLIENT_ID;
use crate::client::CLIENT_SECRET;
use crate::limits::{MAX_CLIENT_ID_BYTES, MAX_CREDENTIAL_BYTES};
use crate::params::{Accepts, Parameter, Presence};
use crate::ticket::{EXAMPLE_TICKET, Ticket};
use crate::token_request::EXAMPLE_REFRESH_TOKEN;

/// Lists the parameters of a request for a page's session.
pub const PARAMETERS: &[Parameter] = &[
    OWN_CLIENT_ID,
    Parameter {
        name: "refresh_token",
        max_bytes: MAX_CREDENTIAL_BYTES,
        presence: Presence::Optional,
        accepts: Accepts::Text {
            example: EXAMPLE_REFRESH_TOKEN,
        },
        about: "A refresh token that the page has kept so far. Its guest moves into the cookies, if they have none and come back.",
    },
    Parameter {
        name: "ticket",
        max_bytes: MAX_CREDENTIAL_BYTES,
        presence: Presence::Optional,
        accepts: TICKET,
        about: "A ticket for this client. Its guest moves into the cookies, if they have none. Not beside `refresh_token`.",
    },
    CLIENT_SECRET,
];

/// Lists the parameters of a request to end a page's session, in the query.
pub const END_PARAMETERS: &[Parameter] = &[
    OWN_CLIENT_ID,
    Parameter {
        name: "erase",
        max_bytes: 8,
        presence: Presence::Optional,
        accepts: Accepts::OneOf(&[YES]),
        about: "`yes` erases the guest, with all grants of all clients.",
    },
];

/// The only value of `erase`.
pub const YES: &str = "yes";

const TICKET: Accepts = Accepts::Match {
    pattern: Ticket::PATTERN,
    example: EXAMPLE_TICKET,
};

/// The client of the request, which must be named.
pub(crate) const OWN_CLIENT_ID: Parameter = Parameter {
    name: "client_id",
    max_bytes: MAX_CLIENT_ID_BYTES,
    presence: Presence::Required,
    accepts: CLIENT_ID,
    about: "The id of the client.",
};
