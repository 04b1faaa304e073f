//! What is counted of pages: their sessions, tickets, and what gateways were told of their requests.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Holds the metrics of pages.
pub(super) struct PageMetrics {
    sessions: Family<SessionLabels, Counter>,
    tickets: Family<TicketLabels, Counter>,
    /// Found once, for each request of a gateway counts.
    verified: [Counter; VerifiedBy::ALL.len()],
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
        let sessions = Family::default();
        registry.register(
            "sessions",
            "Sessions of pages, by what became of them",
            sessions.clone(),
        );
        let tickets = Family::default();
        registry.register(
            "tickets",
            "Tickets that were minted, and those that were redeemed for cookies",
            tickets.clone(),
        );
        let verified = Family::default();
        registry.register(
            "verified",
            "Requests of guests that a gateway has asked about, by what said whose",
            verified.clone(),
        );
        let verified = VerifiedBy::ALL.map(|by| {
            let labels = VerifiedLabels { by: by.name() };
            Counter::clone(&verified.get_or_create(&labels))
        });
        Self {
            sessions,
            tickets,
            verified,
        }
    }

    pub(super) fn count_session(&self, decision: &'static str) {
        self.sessions
            .get_or_create(&SessionLabels { decision })
            .inc();
    }

    pub(super) fn count_ticket(&self, event: &'static str) {
        self.tickets.get_or_create(&TicketLabels { event }).inc();
    }

    pub(super) fn count_verified(&self, by: VerifiedBy) {
        self.verified[by as usize].inc();
    }
}
