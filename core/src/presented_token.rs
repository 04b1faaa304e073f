//! The parameters of a request about a token: to revoke it (RFC 7009 §2.1) or to introspect it (RFC 7662 §2.1), or to say
//! which customer its guest is.

use crate::authorize::CLIENT_ID;
use crate::client::CLIENT_SECRET;
use crate::customer::{CustomerId, MAX_BYTES};
use crate::limits::MAX_CLIENT_ID_BYTES;
use crate::params::{Accepts, Parameter, Presence};
use crate::token_request::EXAMPLE_REFRESH_TOKEN;

/// Lists the parameters of both endpoints. The limits of all but the secret, together with a real secret, stay below the
/// limit of a body. `token_type_hint` is never needed, since a token shows by itself which kind it is.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "token",
        max_bytes: 12288,
        presence: Presence::Required,
        accepts: Accepts::Text {
            example: EXAMPLE_REFRESH_TOKEN,
        },
        about: "A refresh token or an access token.",
    },
    Parameter {
        name: "token_type_hint",
        max_bytes: 256,
        presence: Presence::Optional,
        accepts: Accepts::Text {
            example: "refresh_token",
        },
        about: "`refresh_token` or `access_token`, if the client knows which it is. The answer doesn't depend on it.",
    },
    OWN_CLIENT_ID,
    CLIENT_SECRET,
];

/// Lists the parameters of a request about the guest of a token and a customer.
pub const CUSTOMER_PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "token",
        max_bytes: 12288,
        presence: Presence::Required,
        accepts: Accepts::Text {
            example: "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJIUzI1NiJ9.e30.AA",
        },
        about: "An access token of the guest, of which the client is the audience.",
    },
    Parameter {
        name: "customer",
        max_bytes: MAX_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Match {
            pattern: CustomerId::PATTERN,
            example: "c-4711",
        },
        about: "The customer, by an id of the shop that never changes. It is compared byte for byte.",
    },
    OWN_CLIENT_ID,
    CLIENT_SECRET,
];

const OWN_CLIENT_ID: Parameter = Parameter {
    name: "client_id",
    max_bytes: MAX_CLIENT_ID_BYTES,
    presence: Presence::Optional,
    accepts: CLIENT_ID,
    about: "The id of the client. It is required together with `x-api-key` or `client_secret`.",
};
