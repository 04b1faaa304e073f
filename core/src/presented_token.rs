//! The parameters of a request about a token: to revoke it (RFC 7009 §2.1) or to introspect it (RFC 7662 §2.1), or to say
//! something of its guest.

use crate::attributes::MAX_CHANGES_BYTES;
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
    GUEST_TOKEN,
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

/// Lists the parameters of a request about the attributes of a token's guest.
pub const ATTRIBUTES_PARAMETERS: &[Parameter] = &[
    GUEST_TOKEN,
    Parameter {
        name: "attributes",
        max_bytes: MAX_CHANGES_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Text {
            example: r#"{"segment":"vip","visits":3}"#,
        },
        about: "A JSON object, as text. `null` removes a name. Texts have at most 64 printable ASCII characters.",
    },
    OWN_CLIENT_ID,
    CLIENT_SECRET,
];

const GUEST_TOKEN: Parameter = Parameter {
    name: "token",
    max_bytes: 11264,
    presence: Presence::Required,
    accepts: Accepts::Text {
        example: "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJIUzI1NiJ9.e30.AA",
    },
    about: "An access token of the guest, of which the client is the audience.",
};

const OWN_CLIENT_ID: Parameter = Parameter {
    name: "client_id",
    max_bytes: MAX_CLIENT_ID_BYTES,
    presence: Presence::Optional,
    accepts: CLIENT_ID,
    about: "The id of the client. It is required together with `x-api-key` or `client_secret`.",
};
