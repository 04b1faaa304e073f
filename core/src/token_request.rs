//! The token request (RFC 6749 §4.1.3, §6; RFC 7636 §4.5).

use crate::authorize::REDIRECT_URI;
use crate::params::{Parameter, Params};
use crate::pkce::Verifier;
use crate::refusal::Refusal;

/// The grant types there are.
pub const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];

/// The parameters of the token endpoint.
pub const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "grant_type",
        max_bytes: 16384,
    },
    Parameter {
        name: "client_id",
        max_bytes: 128,
    },
    Parameter {
        name: "redirect_uri",
        max_bytes: 16384,
    },
    Parameter {
        name: "code",
        max_bytes: 512,
    },
    Parameter {
        name: "code_verifier",
        max_bytes: 16384,
    },
    Parameter {
        name: "refresh_token",
        max_bytes: 512,
    },
    Parameter {
        name: "scope",
        max_bytes: 16384,
    },
];

/// What a client must say to get tokens: one variant for each supported grant type.
pub enum TokenRequest<'a> {
    /// `grant_type=authorization_code`.
    AuthorizationCode {
        /// The code, not yet opened.
        code: &'a str,
        /// The verifier behind the code's challenge.
        verifier: Verifier<'a>,
    },
    /// `grant_type=refresh_token`.
    RefreshToken {
        /// The refresh token, not yet opened.
        refresh_token: &'a str,
    },
}

impl<'a> TokenRequest<'a> {
    /// # Errors
    /// The first rule that the request breaks. Presence comes before content, so that a missing parameter is named
    /// whatever else is wrong.
    pub fn parse(params: &'a Params<'_>) -> Result<Self, Refusal> {
        match params.required("grant_type")? {
            "authorization_code" => {
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
            "refresh_token" => {
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

/// There are no scopes, so a scope is an error rather than silently dropped (RFC 6749 §3.3).
fn refuse_scope(params: &Params<'_>) -> Result<(), Refusal> {
    match params.get("scope") {
        Some(_) => Err(Refusal::ScopeUnsupported),
        None => Ok(()),
    }
}
