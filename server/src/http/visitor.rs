//! Finds out who is calling: the address for which a request counts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::header::FORWARDED;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use guestpass_core::client::Client;
use guestpass_core::refusal::Refusal;

use crate::app::App;
use crate::config::TrustedProxies;
use crate::listen::Peer;
use crate::source::Source;

/// The addresses that a request names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor {
    /// The one that it came from, or that the trusted proxies in front say. `None` if a proxy on a Unix socket says nothing.
    seen: Option<IpAddr>,
    /// Someone who isn't a trusted proxy says for whom it asks.
    is_forwarded: bool,
    /// The one that a back end names.
    named: Option<Result<IpAddr, Refusal>>,
}

impl Visitor {
    /// Reads the addresses of a request, in a handler.
    pub(super) fn of_request(app: &App, parts: &Parts) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self::of(&parts.headers, peer, &app.trusted_proxies)
    }

    /// Reads them. Without a peer, as in tests of the router, nobody is seen.
    pub(super) fn of(headers: &HeaderMap, peer: Option<&Peer>, trusted: &TrustedProxies) -> Self {
        let (mut named, mut is_forwarded) = (None, false);
        // Each field once: most requests have few, and none of these.
        for (name, value) in headers {
            match name.as_str() {
                "x-guestpass-visitor" => {
                    let text = value.to_str().unwrap_or_default();
                    named = Some(text.trim().parse().map_err(|_| Refusal::VisitorMalformed));
                }
                "x-forwarded-for" | "forwarded" => is_forwarded = true,
                _ => {}
            }
        }
        let address = peer.and_then(Peer::address);
        // A peer without an address can connect to a Unix socket, and so is trusted.
        let is_trusted = is_forwarded
            && peer.is_some()
            && address.is_none_or(|address| trusted.contains(address));
        Self {
            seen: match is_trusted {
                true => Some(seen(headers, address.unwrap_or(WITHOUT_ADDRESS), trusted)),
                false => address,
            },
            is_forwarded: is_forwarded && !is_trusted,
            named,
        }
    }

    /// Tells whether someone who isn't a trusted proxy says for whom it asks: a stranger, or a proxy that was forgotten.
    pub(super) const fn is_forwarded(self) -> bool {
        self.is_forwarded
    }

    /// Returns the source that a request counts for. A back end that shows its key speaks for a visitor, if it names one,
    /// and its own address never counts.
    pub(super) fn source(self, shows_key: Option<&Client>) -> Result<Option<Source>, Refusal> {
        let address = match shows_key {
            Some(client) if client.confidential => self.named.transpose()?,
            _ => self.seen,
        };
        Ok(address.map(Source::from))
    }
}

/// Returns, for a request of a trusted proxy, the right-most address that isn't one's: what stands before it, anyone could have written. A field
/// that can't be read so far says nothing, and `Forwarded` (RFC 7239) and `X-Forwarded-For` say nothing where they disagree:
/// one of them comes from the visitor. Then the proxy's own address counts.
fn seen(headers: &HeaderMap, peer: IpAddr, trusted: &TrustedProxies) -> IpAddr {
    let nearest = |hops: Vec<&[u8]>, address: fn(&[u8]) -> Option<IpAddr>| {
        let mut nearest = None;
        for hop in hops.into_iter().rev() {
            let address = address(hop.trim_ascii())?;
            nearest = Some(address);
            if !trusted.contains(address) {
                break;
            }
        }
        nearest
    };
    let forwarded = all_of(headers, &FORWARDED)
        .map(|field| nearest(outside_quotes(&field, b',')?, of_forwarded));
    let for_header = all_of(headers, &X_FORWARDED_FOR)
        .map(|field| nearest(field.split(|byte| *byte == b',').collect(), of_node));
    match (forwarded, for_header) {
        (Some(Some(one)), Some(Some(other))) if one == other => one,
        (Some(Some(address)), None) | (None, Some(Some(address))) => address,
        _ => peer,
    }
}

/// Returns the value of a field, which may come in parts (RFC 9110 §5.3). `None` if it is absent.
fn all_of(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    (!values.is_empty()).then(|| values.join(&b','))
}

/// Splits a text, but not within its quoted strings (RFC 9110 §5.6.4). `None` if one of them has no end.
fn outside_quotes(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// Reads the address in an element of `Forwarded`: `for=192.0.2.1;proto=https`.
fn of_forwarded(element: &[u8]) -> Option<IpAddr> {
    let mut of = outside_quotes(element, b';')?
        .into_iter()
        .filter_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (&pair[..at], &pair[at + 1..]);
            name.trim_ascii()
                .eq_ignore_ascii_case(b"for")
                .then_some(value)
        });
    let node = of.next()?.trim_ascii();
    let bare = node
        .strip_prefix(b"\"")
        .and_then(|node| node.strip_suffix(b"\""));
    of_node(bare.unwrap_or(node))
}

/// Reads an address, with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`.
fn of_node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare
        .unwrap_or(text)
        .parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Stands for the address of a proxy on a Unix socket, when what it says can't be believed: that must not count for nobody.
const WITHOUT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
