//! Parses the authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).

use crate::client::ClientId;
use crate::limits::{MAX_CLIENT_ID_BYTES, MAX_STATE_BYTES, MAX_TARGET_BYTES};
use crate::params::{Accepts, Parameter, Params, Presence};
use crate::pkce::{Challenge, EXAMPLE_CHALLENGE};
use crate::refusal::Refusal;

/// The only redirect URI that is accepted: nobody is redirected, the answer is the response body.
pub const REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:oob:auto";

/// The only response type that is accepted.
pub const RESPONSE_TYPE: &str = "code";

/// Lists the parameters of the authorization endpoint, for the parser and for the API's description.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "redirect_uri",
        max_bytes: MAX_TARGET_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Only(REDIRECT_URI),
        about: "There is no other: nobody is redirected, the answer is the body of the response.",
    },
    Parameter {
        name: "response_type",
        max_bytes: MAX_TARGET_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Only(RESPONSE_TYPE),
        about: "Only the authorization code grant is supported.",
    },
    Parameter {
        name: "client_id",
        max_bytes: MAX_CLIENT_ID_BYTES,
        presence: Presence::Required,
        accepts: CLIENT_ID,
        about: "The id of the client. It may be left out if HTTP Basic names the client.",
    },
    Parameter {
        name: "state",
        max_bytes: MAX_STATE_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Text {
            example: EXAMPLE_STATE,
        },
        about: "Random text. The client compares it with the `state` of the answer.",
    },
    Parameter {
        name: "code_challenge",
        max_bytes: MAX_TARGET_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Match {
            pattern: Challenge::PATTERN,
            example: EXAMPLE_CHALLENGE,
        },
        about: "The SHA-256 of a new random `code_verifier`, in unpadded base64url (RFC 7636).",
    },
    Parameter {
        name: "code_challenge_method",
        max_bytes: MAX_TARGET_BYTES,
        presence: Presence::Required,
        accepts: Accepts::Only(CHALLENGE_METHOD),
        about: "The method that made the `code_challenge`. `plain` is refused.",
    },
    Parameter {
        name: "scope",
        max_bytes: MAX_TARGET_BYTES,
        presence: Presence::Optional,
        accepts: Accepts::Nothing,
        about: "There are no scopes: leave it out or empty. Any other value is refused.",
    },
];

/// Describes the syntax of a client id.
pub const CLIENT_ID: Accepts = Accepts::Match {
    pattern: ClientId::PATTERN,
    example: "shop-web",
};

/// The example of a state in the API's own documentation.
pub const EXAMPLE_STATE: &str = "a1F5Kdf5Dhn123";

/// The only challenge method that is accepted (RFC 7636 §4.2).
pub const CHALLENGE_METHOD: &str = "S256";

/// Holds an authorization request whose parameters are all there and well-formed.
pub struct AuthorizeRequest<'a> {
    /// Returned to the client unchanged, code point for code point.
    pub state: &'a str,
    /// Not an `Option`: no code exists without a challenge (RFC 9700 §2.1.1).
    pub challenge: Challenge,
}

impl<'a> AuthorizeRequest<'a> {
    /// Checks the parameters of the authorization endpoint.
    ///
    /// # Errors
    /// Returns the first rule that the request breaks. Presence is checked before content, so that a missing parameter
    /// is named whatever else is wrong.
    pub fn parse(params: &'a Params<'_>) -> Result<Self, Refusal> {
        let redirect_uri = params.required("redirect_uri")?;
        let response_type = params.required("response_type")?;
        let state = params.required("state")?;
        let challenge = params.required("code_challenge")?;
        // Absent would mean `plain` (RFC 7636 §4.3), which is refused.
        let method = params.required("code_challenge_method")?;

        if redirect_uri != REDIRECT_URI {
            return Err(Refusal::RedirectUriUnsupported);
        }
        if response_type != RESPONSE_TYPE {
            return Err(Refusal::ResponseTypeUnsupported);
        }
        if params.get("scope").is_some() {
            return Err(Refusal::ScopeUnsupported);
        }
        if method != CHALLENGE_METHOD {
            return Err(Refusal::ChallengeMethodUnsupported);
        }
        let challenge = Challenge::parse(challenge).ok_or(Refusal::ChallengeMalformed)?;
        Ok(Self { state, challenge })
    }
}
