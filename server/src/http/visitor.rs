//! Who is calling: the address for which a request counts.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::FORWARDED;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use guestpass_core::client::Client;
use guestpass_core::refusal::Refusal;

use crate::app::App;
use crate::config::TrustedProxies;
use crate::listen::Peer;
use crate::source::Source;

/// The addresses that a request names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor {
    /// The one that it came from, or that the trusted proxies in front say.
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
        let named = headers.get(VISITOR).map(|value| {
            let text = value.to_str().map_err(|_| Refusal::VisitorMalformed)?;
            text.trim().parse().map_err(|_| Refusal::VisitorMalformed)
        });
        let is_trusted = peer.is_some_and(|peer| trusted.contains(peer.address()));
        Self {
            seen: peer.map(|peer| seen(headers, peer.address(), trusted)),
            is_forwarded: !is_trusted
                && (headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED)),
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

/// Returns the right-most address that isn't a trusted proxy's: what stands before it, anyone could have written. Where
/// `Forwarded` (RFC 7239) and `X-Forwarded-For` say otherwise than each other, one of them comes from the visitor, so that
/// neither counts.
fn seen(headers: &HeaderMap, peer: IpAddr, trusted: &TrustedProxies) -> IpAddr {
    if !trusted.contains(peer) {
        return peer;
    }
    let right_most = |name, address: fn(&str) -> Option<IpAddr>| {
        let values = headers.get_all(name).iter().collect::<Vec<_>>();
        let hops = values.iter().rev().flat_map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.rsplit(',').map(str::trim)
        });
        let mut nearest = None;
        for hop in hops {
            // A hop without an address hides what is behind it.
            let address = address(hop)?;
            nearest = Some(address);
            if !trusted.contains(address) {
                break;
            }
        }
        nearest
    };
    let forwarded = right_most(FORWARDED, of_forwarded);
    let for_header = right_most(X_FORWARDED_FOR, of_node);
    match (forwarded, for_header) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(address), _) | (None, Some(address)) => address,
        (None, None) => peer,
    }
}

/// Reads the address in an element of `Forwarded`: `for=192.0.2.1;proto=https`.
fn of_forwarded(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    of_node(node.trim().trim_matches('"'))
}

/// Reads an address, with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`.
fn of_node(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare
        .parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

const VISITOR: HeaderName = HeaderName::from_static("x-guestpass-visitor");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
