//! A request about a token: to revoke it (RFC 7009 §2.1), or to learn whether it works (RFC 7662 §2.1).

use crate::params::Parameter;

/// The parameters of both. The hint is only a hint: a token shows by itself what it is.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "token",
        max_bytes: 16384,
    },
    Parameter {
        name: "token_type_hint",
        max_bytes: 16384,
    },
    Parameter {
        name: "client_id",
        max_bytes: 128,
    },
];
