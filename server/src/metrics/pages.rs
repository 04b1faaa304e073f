//! Counts what pages do: their sessions, tickets, and what gateways were told of their requests.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;

use super::Counters;

/// Holds the metrics of pages.
pub(super) struct PageMetrics {
    sessions: Counters<SessionLabels>,
    tickets: Counters<TicketLabels>,
    verified: Counters<VerifiedLabels>,
}

/// `seed`, `create`, `current`, `advance`, `repeat`, `reissue` or `recover`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SessionLabels {
    decision: &'static str,
}

/// `minted` or `redeemed`.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct TicketLabels {
    event: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct VerifiedLabels {
    by: &'static str,
}

/// Says what told whose a request is that a gateway has asked about.
#[derive(Clone, Copy, Debug)]
pub enum VerifiedBy {
    /// An access token in a header.
    Header,
    /// The access token in a cookie.
    AccessCookie,
    /// The refresh token in a cookie.
    RefreshCookie,
}

impl VerifiedBy {
    const ALL: [Self; 3] = [Self::Header, Self::AccessCookie, Self::RefreshCookie];

    const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::AccessCookie => "access_cookie",
            Self::RefreshCookie => "refresh_cookie",
        }
    }
}

impl PageMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            sessions: Counters::register(
                registry,
                "sessions",
                "Sessions of pages, by what became of them",
            ),
            tickets: Counters::register(
                registry,
                "tickets",
                "Tickets that were minted, and those that were redeemed for cookies",
            ),
            verified: Counters::register(
                registry,
                "verified",
                "Requests of guests that a gateway has asked about, by what said whose",
            )
            .at_zero(VerifiedBy::ALL.map(|by| VerifiedLabels { by: by.name() })),
        }
    }

    pub(super) fn count_session(&self, decision: &'static str) {
        self.sessions.inc(&SessionLabels { decision });
    }

    pub(super) fn count_ticket(&self, event: &'static str) {
        self.tickets.inc(&TicketLabels { event });
    }

    pub(super) fn count_verified(&self, by: VerifiedBy) {
        self.verified.inc(&VerifiedLabels { by: by.name() });
    }
}
