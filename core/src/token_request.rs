//! Parses the token request (RFC 6749 §4.1.3, §6; RFC 7636 §4.5).

use crate::authorize::{CLIENT_ID, REDIRECT_URI};
use crate::client::CLIENT_SECRET;
use crate::limits::{MAX_BODY_BYTES, MAX_CLIENT_ID_BYTES, MAX_CREDENTIAL_BYTES};
use crate::params::{Accepts, Parameter, Params, Presence};
use crate::pkce::{EXAMPLE_VERIFIER, Verifier};
use crate::refusal::Refusal;

/// The grant type that exchanges a code for the first tokens (RFC 6749 §4.1.3).
pub const AUTHORIZATION_CODE: &str = "authorization_code";

/// The grant type that exchanges a refresh token for the next ones (RFC 6749 §6).
pub const REFRESH_TOKEN: &str = "refresh_token";

/// Lists the grant types that are accepted.
pub const GRANT_TYPES: [&str; 2] = [AUTHORIZATION_CODE, REFRESH_TOKEN];

/// Lists the parameters of the token endpoint, for the parser and for the API's description.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "grant_type",
        max_bytes: MAX_BODY_BYTES,
        presence: Presence::Required,
        accepts: Accepts::OneOf(&GRANT_TYPES),
        about: "What is exchanged for the tokens.",
    },
    Parameter {
        name: "client_id",
        max_bytes: MAX_CLIENT_ID_BYTES,
        presence: Presence::Required,
        accepts: CLIENT_ID,
        about: "The id of the client. It may be left out if HTTP Basic names the client.",
    },
    Parameter {
        name: "redirect_uri",
        max_bytes: MAX_BODY_BYTES,
        presence: Presence::RequiredWith(AUTHORIZATION_CODE),
        accepts: Accepts::Only(REDIRECT_URI),
        about: "The `redirect_uri` of the authorization request.",
    },
    Parameter {
        name: "code",
        max_bytes: MAX_CREDENTIAL_BYTES,
        presence: Presence::OnlyWith(AUTHORIZATION_CODE),
        accepts: Accepts::Text {
            example: EXAMPLE_CODE,
        },
        about: "The code that `authorize` issued. It works once.",
    },
    Parameter {
        name: "code_verifier",
        max_bytes: MAX_BODY_BYTES,
        presence: Presence::OnlyWith(AUTHORIZATION_CODE),
        accepts: Accepts::Match {
            pattern: Verifier::PATTERN,
            example: EXAMPLE_VERIFIER,
        },
        about: "The random text behind the `code_challenge` of the authorization request.",
    },
    Parameter {
        name: "refresh_token",
        max_bytes: MAX_CREDENTIAL_BYTES,
        presence: Presence::OnlyWith(REFRESH_TOKEN),
        accepts: Accepts::Text {
            example: EXAMPLE_REFRESH_TOKEN,
        },
        about: "The refresh token that was received last. The answer contains its successor.",
    },
    CLIENT_SECRET,
    Parameter {
        name: "scope",
        max_bytes: MAX_BODY_BYTES,
        presence: Presence::Optional,
        accepts: Accepts::Nothing,
        about: "There are no scopes: leave it out or empty. Any other value is refused.",
    },
];

/// The example of a code in the API's own documentation.
pub const EXAMPLE_CODE: &str = "pEcnKwHD0yF3pfu1U56EBo-QbBwPMcqOYtBr5LnYTjKdNzYUGIgzied-ux-vyul7";

/// An example of a refresh token, for the API's description.
pub const EXAMPLE_REFRESH_TOKEN: &str =
    "OLTmUuRNp_I3DZ4mDicTZVCko6bQf1wMMy-LEiQIP9IrkC-JEegYGPjJnV1dmDGV";

/// Holds a token request whose parameters are all there and well-formed, by its grant type.
pub enum TokenRequest<'a> {
    /// `grant_type=authorization_code`.
    AuthorizationCode {
        /// The code, not yet opened.
        code: &'a str,
        /// Proves that the client is the one that asked for the code.
        verifier: Verifier,
    },
    /// `grant_type=refresh_token`.
    RefreshToken {
        /// The refresh token, not yet opened.
        refresh_token: &'a str,
    },
}

impl<'a> TokenRequest<'a> {
    /// Checks the parameters of the token endpoint.
    ///
    /// # Errors
    /// Returns the first rule that the request breaks. Presence is checked before content, so that a missing parameter
    /// is named whatever else is wrong.
    pub fn parse(params: &'a Params<'_>) -> Result<Self, Refusal> {
        match params.required("grant_type")? {
            AUTHORIZATION_CODE => {
                let code = params.required("code")?;
                let redirect_uri = params.required("redirect_uri")?;
                let verifier = params.required("code_verifier")?;
                if redirect_uri != REDIRECT_URI {
                    return Err(Refusal::RedirectUriMismatch);
                }
                refuse_scope(params)?;
                let verifier = Verifier::parse(verifier).ok_or(Refusal::VerifierMalformed)?;
                Ok(Self::AuthorizationCode { code, verifier })
            }
            REFRESH_TOKEN => {
                let refresh_token = params.required("refresh_token")?;
                // Standard libraries leave it out here, the API's own clients don't (RFC 6749 §6).
                if params
                    .get("redirect_uri")
                    .is_some_and(|uri| uri != REDIRECT_URI)
                {
                    return Err(Refusal::RedirectUriMismatch);
                }
                refuse_scope(params)?;
                Ok(Self::RefreshToken { refresh_token })
            }
            _ => Err(Refusal::GrantTypeUnsupported),
        }
    }
}

/// Refuses every scope: there are none, and one that is dropped silently would mislead the client (RFC 6749 §3.3).
fn refuse_scope(params: &Params<'_>) -> Result<(), Refusal> {
    match params.get("scope") {
        Some(_) => Err(Refusal::ScopeUnsupported),
        None => Ok(()),
    }
}
