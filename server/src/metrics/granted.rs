//! Granted token requests, by grant type and decision.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Holds the counters, each found once: every refresh counts.
pub(super) struct GrantedCounters([[Counter; DECISIONS.len()]; GrantType::ALL.len()]);

/// The grant type of a token request.
#[derive(Clone, Copy, Debug)]
pub enum GrantType {
    /// RFC 6749 §4.1.3.
    AuthorizationCode,
    /// RFC 6749 §6.
    RefreshToken,
}

impl GrantType {
    /// In the order of the variants.
    const ALL: [Self; 2] = [Self::AuthorizationCode, Self::RefreshToken];

    const fn name(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// The names of decisions, the most frequent first.
const DECISIONS: [&str; 5] = ["advance", "repeat", "reissue", "recover", "new_guest"];

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Labels {
    grant_type: &'static str,
    decision: &'static str,
}

impl GrantedCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let tokens = Family::<Labels, Counter>::default();
        registry.register(
            "tokens",
            "Granted token requests by decision",
            tokens.clone(),
        );
        Self(GrantType::ALL.map(|grant_type| {
            DECISIONS.map(|decision| {
                let grant_type = grant_type.name();
                let labels = Labels {
                    grant_type,
                    decision,
                };
                Counter::clone(&tokens.get_or_create(&labels))
            })
        }))
    }

    pub(super) fn count(&self, grant_type: GrantType, decision: &str) {
        let of_type = &self.0[grant_type as usize];
        let mut known = DECISIONS.iter().zip(of_type);
        match known.find(|(name, _)| **name == decision) {
            Some((_, counter)) => {
                counter.inc();
            }
            None => debug_assert!(false, "{decision} is not among the decisions"),
        }
    }
}
