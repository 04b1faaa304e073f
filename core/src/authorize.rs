//! The authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).

use crate::params::{Parameter, Params};
use crate::pkce::Challenge;
use crate::refusal::Refusal;

/// The one redirect URI there is: nobody is redirected, the answer is the response body.
pub const REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:oob:auto";

/// The one response type there is.
pub const RESPONSE_TYPE: &str = "code";

/// The parameters of the authorization endpoint.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "redirect_uri",
        max_bytes: 8192,
    },
    Parameter {
        name: "response_type",
        max_bytes: 8192,
    },
    Parameter {
        name: "client_id",
        max_bytes: 128,
    },
    Parameter {
        name: "state",
        max_bytes: 1024,
    },
    Parameter {
        name: "code_challenge",
        max_bytes: 8192,
    },
    Parameter {
        name: "code_challenge_method",
        max_bytes: 8192,
    },
    Parameter {
        name: "scope",
        max_bytes: 8192,
    },
];

/// What a client must say to get a code.
pub struct AuthorizeRequest<'a> {
    /// Echoed, code point for code point.
    pub state: &'a str,
    /// Not an `Option`: no code exists without a challenge (RFC 9700 §2.1.1).
    pub challenge: Challenge,
}

impl<'a> AuthorizeRequest<'a> {
    /// # Errors
    /// The first rule that the request breaks. Presence comes before content, so that a missing parameter is named
    /// whatever else is wrong.
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
        if method != "S256" {
            return Err(Refusal::ChallengeMethodUnsupported);
        }
        let challenge = Challenge::parse(challenge).ok_or(Refusal::ChallengeMalformed)?;
        Ok(Self { state, challenge })
    }
}
