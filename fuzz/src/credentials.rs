//! The credentials in a request's headers: who reads them must find what any other program would.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use guestpass::http::client_auth::{API_KEY, Presented};
use guestpass_core::params::{Accepts, Parameter, Params, Presence};
use guestpass_verify::bearer::{self, USER_JWT};
use url::form_urlencoded;

/// Reads the client, its key and the guest's token of a request: a line with the form, then lines `name: value`.
pub fn credentials(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let form = lines.next().unwrap_or_default();
    let Ok(params) = Params::from_form(TABLE, form) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(field) {
        headers.append(name, value);
    }
    check_client(&headers, &params);
    check_token(&headers);
}

const TABLE: &[Parameter] = &[Parameter {
    name: "client_id",
    max_bytes: 128,
    presence: Presence::Optional,
    accepts: Accepts::Text { example: "a" },
    about: "",
}];

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let at = line.windows(2).position(|bytes| bytes == b": ")?;
    let name = HeaderName::from_bytes(&line[..at]).ok()?;
    let value = HeaderValue::from_bytes(&line[at + 2..]).ok()?;
    Some((name, value))
}

fn check_client(headers: &HeaderMap, params: &Params<'_>) {
    let found = read(headers, params);
    // A scheme that isn't for clients changes nothing.
    let mut more = headers.clone();
    more.append(AUTHORIZATION, HeaderValue::from_static("Bearer a.b.c"));
    more.append(USER_JWT, HeaderValue::from_static("d.e.f"));
    assert_eq!(found, read(&more, params));
    let Some((client_id, api_key)) = found else {
        return;
    };
    let keys: Vec<_> = headers.get_all(API_KEY).iter().collect();
    let basics = of_scheme(headers, "basic");
    assert!(keys.len() + basics.len() <= 1, "{client_id} comes twice");
    assert!(!client_id.chars().any(char::is_control), "{client_id:?}");
    let parameter = params.get("client_id");
    let Some(basic) = basics.first() else {
        assert_eq!(Some(&*client_id), parameter);
        assert_eq!(api_key.as_deref(), keys.first().map(|key| key.as_bytes()));
        return;
    };
    let decoded = STANDARD.decode(basic).expect("what was accepted is base64");
    let decoded = String::from_utf8(decoded).expect("what was accepted is text");
    let (user, password) = decoded.split_once(':').expect("what was accepted has both");
    let key = api_key.clone().unwrap_or_default();
    assert_eq!(form_decoded(user), client_id);
    assert_eq!(form_decoded(password).as_bytes(), key);
    assert!(parameter.is_none_or(|parameter| parameter == client_id));
    // The same, as a library writes it.
    let key = String::from_utf8(key).expect("it was text");
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = STANDARD.encode(format!("{}:{}", encoded(&client_id), encoded(&key)));
    let mut anew = HeaderMap::new();
    let field = HeaderValue::try_from(format!("Basic {basic}"));
    anew.append(AUTHORIZATION, field.expect("base64 is ASCII"));
    assert_eq!(read(&anew, params), Some((client_id, api_key)));
}

/// The client and the key of a request. `None` if it is refused.
fn read(headers: &HeaderMap, params: &Params<'_>) -> Option<(String, Option<Vec<u8>>)> {
    let Presented { client_id, api_key } = Presented::read(headers, params).ok()?;
    Some((client_id, api_key))
}

fn check_token(headers: &HeaderMap) {
    let of_jwt = headers.get_all(USER_JWT).iter();
    let of_jwt = of_jwt.map(|value| value.as_bytes().trim_ascii());
    let mut tokens: Vec<_> = of_scheme(headers, "bearer")
        .into_iter()
        .chain(of_jwt)
        .collect();
    tokens.retain(|token| !token.is_empty());
    tokens.dedup();
    let expected = match *tokens {
        [] => Ok(None),
        [token] if token.is_ascii() => Ok(std::str::from_utf8(token).ok()),
        [_, ..] => Err(()),
    };
    assert_eq!(bearer::token_of(headers).map_err(drop), expected);
}

/// The credentials of each `Authorization` of a scheme: what follows on the first space (RFC 9110 §11.4).
fn of_scheme<'a>(headers: &'a HeaderMap, scheme: &str) -> Vec<&'a [u8]> {
    let fields = headers.get_all(AUTHORIZATION).iter();
    fields
        .map(HeaderValue::as_bytes)
        .filter_map(|field| {
            let mut parts = field.splitn(2, |byte| *byte == b' ');
            let is_asked = parts.next()?.eq_ignore_ascii_case(scheme.as_bytes());
            is_asked.then(|| parts.next().unwrap_or_default().trim_ascii())
        })
        .collect()
}

fn form_decoded(text: &str) -> String {
    let pair = format!("text={}", text.replace('&', "%26"));
    let decoded = form_urlencoded::parse(pair.as_bytes()).next();
    decoded.expect("there is one pair").1.into_owned()
}
