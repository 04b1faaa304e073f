//! Client authentication, by exactly one method (RFC 6749 §2.3): `x-api-key`, `Authorization: Basic`, `client_secret` in
//! the body, or none.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass_core::client::{CLIENT_SECRET, Client};
use guestpass_core::params::{Params, form_decode};
use guestpass_core::refusal::Refusal;

use crate::app::App;
use crate::error::Error;

/// The header of a client's key.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Holds the client id and the credentials of a request, not yet checked.
#[derive(Debug)]
pub struct Presented {
    /// The client that the request names.
    pub client_id: String,
    /// The key, if it isn't empty in Basic or in the body.
    pub api_key: Option<Vec<u8>>,
}

impl Presented {
    /// Reads the parameters `client_id` and `client_secret`, and the headers. A scheme other than Basic in `Authorization` is ignored: a
    /// guest's expired token there must not break the refresh that replaces it.
    ///
    /// # Errors
    /// Returns the refusal of credentials that aren't well-formed or stand twice, and of a request without a client.
    pub fn read(headers: &HeaderMap, params: &Params<'_>) -> Result<Self, Refusal> {
        let parameter = params.get("client_id");
        let api_keys = headers.get_all(API_KEY).iter().map(HeaderValue::as_bytes);
        let secret = params.get(CLIENT_SECRET.name).map(str::as_bytes);
        let mut keys = api_keys.chain(secret);
        let key = keys.next();
        let basic = basic(headers)?;
        if keys.next().is_some() || (key.is_some() && basic.is_some()) {
            return Err(Refusal::AuthenticationRepeated);
        }
        let Some((user, password)) = basic else {
            let client_id = params.required("client_id")?.to_owned();
            return Ok(Self {
                client_id,
                api_key: key.map(<[u8]>::to_vec),
            });
        };
        if parameter.is_some_and(|client_id| client_id != user) {
            return Err(Refusal::ClientIdMismatch);
        }
        // Basic has no other way to send no password.
        let api_key = (!password.is_empty()).then(|| password.into_bytes());
        Ok(Self {
            client_id: user,
            api_key,
        })
    }

    /// Does the same as [`Presented::read`] for a page, but that Basic authentication isn't read: a browser adds that of the
    /// shop's own host to every request.
    pub(super) fn of_page(headers: &HeaderMap, params: &Params<'_>) -> Result<Self, Refusal> {
        let api_keys = headers.get_all(API_KEY).iter().map(HeaderValue::as_bytes);
        let secret = params.get(CLIENT_SECRET.name).map(str::as_bytes);
        let mut keys = api_keys.chain(secret);
        let key = keys.next();
        if keys.next().is_some() {
            return Err(Refusal::AuthenticationRepeated);
        }
        Ok(Self {
            client_id: params.required("client_id")?.to_owned(),
            api_key: key.map(<[u8]>::to_vec),
        })
    }

    /// Does the same as [`Presented::read`] where a request need not name a client. `None` if it doesn't.
    pub(super) fn read_if_any(
        headers: &HeaderMap,
        params: &Params<'_>,
    ) -> Result<Option<Self>, Refusal> {
        let says_nothing = params.get("client_id").is_none()
            && params.get(CLIENT_SECRET.name).is_none()
            && !headers.contains_key(API_KEY)
            && !tries_basic(headers);
        if says_nothing {
            Ok(None)
        } else {
            Self::read(headers, params).map(Some)
        }
    }

    /// Looks up the client that the request names.
    pub(super) fn client(&self, app: &App) -> Option<Arc<Client>> {
        app.clients.by_id(&self.client_id)
    }

    /// Authenticates the caller as `client`, which [`Presented::client`] has looked up.
    pub(super) fn authenticate<'a>(
        &self,
        app: &App,
        client: Option<&'a Client>,
    ) -> Result<&'a Client, Error> {
        let key = self.api_key.as_deref();
        let client = app.clock.reading().decide(
            |now| Client::authenticate(client, key, now),
            |now, earlier| now.as_ref().err() == earlier.as_ref().err(),
        )?;
        Ok(client?)
    }
}

/// Tells if the request tries Basic authentication: then its failure is a 401 (RFC 6749 §5.2).
pub(super) fn tries_basic(headers: &HeaderMap) -> bool {
    basic_fields(headers).next().is_some()
}

/// Yields the credentials of every `Authorization: Basic` field, still encoded and possibly empty.
fn basic_fields(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|field| {
        let (scheme, rest) = field.as_bytes().split_at_checked(b"basic".len())?;
        let is_basic = scheme.eq_ignore_ascii_case(b"basic") && matches!(rest, [] | [b' ', ..]);
        is_basic.then_some(rest)
    })
}

/// Reads user and password of Basic authentication, each form-encoded before the base64 (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refusal> {
    let mut fields = basic_fields(headers);
    let Some(encoded) = fields.next() else {
        return Ok(None);
    };
    if fields.next().is_some() {
        return Err(Refusal::AuthenticationRepeated);
    }
    let decoded = STANDARD
        .decode(encoded.trim_ascii())
        .ok()
        .and_then(|decoded| String::from_utf8(decoded).ok())
        .ok_or(Refusal::BasicMalformed)?;
    let (user, password) = decoded.split_once(':').ok_or(Refusal::BasicMalformed)?;
    // RFC 7617 §2 forbids control characters in both.
    let part = |text: &str| match form_decode(text) {
        Ok(text) if !text.contains(char::is_control) => Ok(text.into_owned()),
        _ => Err(Refusal::BasicMalformed),
    };
    Ok(Some((part(user)?, part(password)?)))
}
