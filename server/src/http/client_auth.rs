//! Which client is calling, by exactly one method (RFC 6749 §2.3): `x-api-key`, `Authorization: Basic`, or none.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass_core::client::Client;
use guestpass_core::params::{Params, form_decode};
use guestpass_core::refusal::Refusal;

use crate::app::App;

pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a request says of the client, not yet believed.
pub(super) struct Presented {
    client_id: String,
    api_key: Option<Vec<u8>>,
}

impl Presented {
    /// Reads the parameter `client_id` and the headers. Another scheme than Basic in `Authorization` is no client
    /// authentication: a guest's expired token there must not break the refresh that replaces it.
    pub(super) fn read(headers: &HeaderMap, params: &Params<'_>) -> Result<Self, Refusal> {
        let parameter = params.get("client_id");
        let mut api_keys = headers.get_all(API_KEY).iter();
        let api_key = api_keys.next();
        let basic = basic(headers)?;
        if api_keys.next().is_some() || (api_key.is_some() && basic.is_some()) {
            return Err(Refusal::AuthenticationRepeated);
        }
        let Some((user, password)) = basic else {
            let client_id = params.required("client_id")?.to_owned();
            return Ok(Self {
                client_id,
                api_key: api_key.map(|key| key.as_bytes().to_vec()),
            });
        };
        if parameter.is_some_and(|client_id| client_id != user) {
            return Err(Refusal::ClientIdMismatch);
        }
        // An empty password is how the Basic scheme says that there is none.
        let api_key = (!password.is_empty()).then(|| password.into_bytes());
        Ok(Self {
            client_id: user,
            api_key,
        })
    }

    /// As [`Presented::read`], where a request may also say nothing at all of a client.
    pub(super) fn read_if_any(
        headers: &HeaderMap,
        params: &Params<'_>,
    ) -> Result<Option<Self>, Refusal> {
        let says_nothing = params.get("client_id").is_none()
            && !headers.contains_key(API_KEY)
            && !tries_basic(headers);
        if says_nothing {
            Ok(None)
        } else {
            Self::read(headers, params).map(Some)
        }
    }

    /// The client that the request names, if there is one.
    pub(super) fn client(&self, app: &App) -> Option<Arc<Client>> {
        app.clients.by_id(&self.client_id)
    }

    /// Whether the caller is that client.
    pub(super) fn authenticate<'a>(
        &self,
        app: &App,
        client: Option<&'a Client>,
    ) -> Result<&'a Client, Refusal> {
        Client::authenticate(client, self.api_key.as_deref(), app.clock.now())
    }
}

/// Whether the request tries Basic authentication, so that a failure is answered in its terms.
pub(super) fn tries_basic(headers: &HeaderMap) -> bool {
    basic_fields(headers).next().is_some()
}

/// What stands behind the scheme in every `Authorization: Basic`, be it nothing.
fn basic_fields(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(AUTHORIZATION).iter().filter_map(|field| {
        let (scheme, rest) = field.as_bytes().split_at_checked(b"basic".len())?;
        let is_basic = scheme.eq_ignore_ascii_case(b"basic") && matches!(rest, [] | [b' ', ..]);
        is_basic.then_some(rest)
    })
}

/// User and password of Basic authentication, both form-encoded inside it (RFC 6749 §2.3.1).
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
    let part = |text: &str| {
        form_decode(text)
            .map(Cow::into_owned)
            .map_err(|_| Refusal::BasicMalformed)
    };
    Ok(Some((part(user)?, part(password)?)))
}
