//! The metrics that the operators' `/metrics` exposes. No label holds anything that a client chose.

use std::sync::Arc;

use guestpass_core::time::Timestamp;
use guestpass_core::token_request::{AUTHORIZATION_CODE, REFRESH_TOKEN};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::BatchMetrics;

mod counters;
mod events;
mod pages;

pub use counters::Counters;
use events::EventMetrics;
pub(crate) use events::EventResult;
use pages::PageMetrics;
pub use pages::VerifiedBy;

/// Every metric of a process.
pub struct Metrics {
    registry: Registry,
    /// Answers by endpoint and status.
    pub answers: Counters<Answered>,
    /// Refusals by reason.
    pub refusals: Counters<Refused>,
    /// Granted token requests by grant type and decision.
    pub tokens: Counters<Granted>,
    /// Grants that were ended, by reason.
    pub revocations: Counters<Revoked>,
    /// Requests beyond a rate limit, by limit; in the mode `monitor` they are served.
    pub rate_limited: Arc<Counters<RateLimited>>,
    /// Links of guests to customers, by outcome.
    pub links: Counters<Linked>,
    /// Events, and what became of them.
    pub(crate) events: EventMetrics,
    /// Sessions of pages, tickets, and what gateways were told.
    pages: PageMetrics,
    clock_trusted: Gauge,
    /// Without labels; a family, so that it is absent where there is no certificate.
    certificate_expires: Family<Vec<(String, String)>, Gauge>,
}

/// Labels of an answer.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Answered {
    /// The path below the base path, empty where there is nothing.
    pub endpoint: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// Labels of a refusal.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Refused {
    /// Its stable name, as in docs/errors.md.
    pub refusal: &'static str,
}

/// Labels of a granted token request.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Granted {
    /// `authorization_code` or `refresh_token`.
    pub grant_type: &'static str,
    /// The name of the decision.
    pub decision: &'static str,
}

impl Granted {
    const USUAL: [Self; 3] = [
        Self::by(AUTHORIZATION_CODE, "advance"),
        Self::by(REFRESH_TOKEN, "advance"),
        Self::by(REFRESH_TOKEN, "repeat"),
    ];

    const fn by(grant_type: &'static str, decision: &'static str) -> Self {
        Self {
            grant_type,
            decision,
        }
    }
}

/// Labels of a request beyond a rate limit.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct RateLimited {
    /// The limit, by the name of its setting.
    pub limit: &'static str,
}

/// Labels of a link.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Linked {
    /// `linked`, `already`, `unlinked`, `not_linked` or `linked_to_another`.
    pub outcome: &'static str,
}

/// Labels of a revocation.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct Revoked {
    /// Its stable name.
    pub reason: &'static str,
}

impl Metrics {
    /// Registers all metrics: our counters and the store's histograms.
    #[must_use]
    pub fn new(batches: &BatchMetrics) -> Self {
        let mut registry = Registry::with_prefix("guestpass");
        let answers =
            Counters::register(&mut registry, "answers", "Answers by endpoint and status");
        let refusals = Counters::register(&mut registry, "refusals", "Refusals by reason");
        let tokens = Counters::register(
            &mut registry,
            "tokens",
            "Granted token requests by decision",
        )
        .at_zero(Granted::USUAL);
        let revocations = Counters::register(
            &mut registry,
            "revocations",
            "Grants that were ended, by reason",
        );
        let rate_limited = Counters::register(
            &mut registry,
            "rate_limited",
            "Requests beyond a rate limit, by limit",
        );
        let links = Counters::register(
            &mut registry,
            "links",
            "Links of guests to customers, by outcome",
        );
        let events = EventMetrics::register(&mut registry);
        let pages = PageMetrics::register(&mut registry);
        let clock_trusted = Gauge::default();
        clock_trusted.set(1);
        registry.register(
            "clock_trusted",
            "1 while the clock can be trusted, 0 while it is in doubt",
            clock_trusted.clone(),
        );
        let certificate_expires = Family::default();
        registry.register(
            "certificate_expires_seconds",
            "The time at which the certificate expires, in seconds since 1970",
            certificate_expires.clone(),
        );
        registry.register("batch_writes", "Writes in a batch", batches.writes.clone());
        registry.register(
            "batch_seconds",
            "Time to write and sync a batch",
            batches.seconds.clone(),
        );
        Self {
            registry,
            answers,
            refusals,
            tokens,
            revocations,
            rate_limited: Arc::new(rate_limited),
            links,
            events,
            pages,
            clock_trusted,
            certificate_expires,
        }
    }

    /// Counts a session of a page, by what became of it.
    pub(crate) fn count_session(&self, decision: &'static str) {
        self.pages.count_session(decision);
    }

    /// Counts a request of a guest that a gateway has asked about.
    pub(crate) fn count_verified(&self, by: VerifiedBy) {
        self.pages.count_verified(by);
    }

    /// Counts a ticket, `minted` or `redeemed`.
    pub(crate) fn count_ticket(&self, event: &'static str) {
        self.pages.count_ticket(event);
    }

    /// Says whether the clock is in doubt.
    pub fn note_clock(&self, is_doubted: bool) {
        self.clock_trusted.set(i64::from(!is_doubted));
    }

    /// Says when the certificate expires.
    pub fn note_certificate(&self, not_after: Timestamp) {
        self.certificate_expires
            .get_or_create(&Vec::new())
            .set(not_after.as_seconds());
    }

    /// Renders the metrics as OpenMetrics 1.0 text.
    #[must_use]
    pub fn expose(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string doesn't fail");
        text
    }
}
