//! The rows of the report: each is a figure of one round, mostly a ratio, with a target.

use std::collections::BTreeMap;

use crate::scenario::Scenario;
use crate::stage::Measured;

/// Holds the measurements of one round.
pub(crate) type Round = BTreeMap<Scenario, Measured>;

/// Describes a row of the report.
pub(crate) struct Row {
    /// Name on the command line.
    pub(crate) key: &'static str,
    /// Description for people.
    pub(crate) about: &'static str,
    pub(crate) wanted: Wanted,
    /// A stricter target, which isn't checked.
    pub(crate) aim: Option<f64>,
    /// `make bench` measures it.
    pub(crate) headline: bool,
    /// The scenarios that it needs, in this order.
    pub(crate) needs: &'static [Scenario],
    pub(crate) ratio: fn(&Round) -> f64,
}

/// Holds a threshold, and says on which side of it a figure is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Wanted {
    pub(crate) const fn threshold(self) -> f64 {
        match self {
            Self::AtLeast(threshold) | Self::AtMost(threshold) => threshold,
        }
    }

    pub(crate) fn is_met_by(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(threshold) => ratio >= threshold,
            Self::AtMost(threshold) => ratio <= threshold,
        }
    }
}

use Scenario as S;

/// Lists all rows in the order in which they are measured. The speed of a machine drifts, so scenarios that are compared stand
/// side by side where possible.
pub(crate) const ROWS: &[Row] = &[
    Row {
        key: "refresh",
        about: "refresh / empty POST handler",
        wanted: Wanted::AtLeast(0.40),
        aim: Some(0.55),
        headline: true,
        needs: &[S::EmptyPost, S::Refresh],
        ratio: |round| rate(round, S::Refresh) / rate(round, S::EmptyPost),
    },
    Row {
        key: "retry",
        about: "CPU of a retry in the grace window / of a refresh",
        wanted: Wanted::AtMost(0.75),
        aim: None,
        headline: true,
        needs: &[S::Refresh, S::Retry],
        ratio: |round| round[&S::Retry].cpu() / round[&S::Refresh].cpu(),
    },
    Row {
        key: "retry-writes",
        about: "writes of a retry in the grace window",
        wanted: Wanted::AtMost(0.0),
        aim: None,
        headline: true,
        needs: &[S::Retry],
        ratio: |round| {
            let retry = &round[&S::Retry];
            retry.per_operation(retry.used.writes as f64)
        },
    },
    Row {
        key: "hot",
        about: "refresh of 10,000 hot guests / empty POST handler",
        wanted: Wanted::AtLeast(0.45),
        aim: Some(0.60),
        headline: true,
        needs: &[S::EmptyPost, S::HotRefresh],
        ratio: |round| rate(round, S::HotRefresh) / rate(round, S::EmptyPost),
    },
    Row {
        key: "eddsa",
        about: "refresh with EdDSA / empty POST handler",
        wanted: Wanted::AtLeast(0.30),
        aim: None,
        headline: false,
        needs: &[S::EmptyPost, S::RefreshEdDsa],
        ratio: |round| rate(round, S::RefreshEdDsa) / rate(round, S::EmptyPost),
    },
    Row {
        key: "es256",
        about: "refresh with ES256 / empty POST handler",
        wanted: Wanted::AtLeast(0.22),
        aim: None,
        headline: false,
        needs: &[S::EmptyPost, S::RefreshEs256],
        ratio: |round| rate(round, S::RefreshEs256) / rate(round, S::EmptyPost),
    },
    Row {
        key: "linked",
        about: "refresh of guests with a customer and 256 bytes of attributes / of others",
        wanted: Wanted::AtLeast(0.85),
        aim: None,
        headline: false,
        needs: &[S::Refresh, S::RefreshLinked],
        ratio: |round| rate(round, S::RefreshLinked) / rate(round, S::Refresh),
    },
    Row {
        key: "link",
        about: "link of a guest to a customer / refresh, 10,000 guests",
        wanted: Wanted::AtLeast(0.25),
        aim: None,
        headline: false,
        needs: &[S::Refresh10Thousand, S::Link],
        ratio: |round| rate(round, S::Link) / rate(round, S::Refresh10Thousand),
    },
    Row {
        key: "link-recorded",
        about: "link that is recorded as an event / that isn't",
        wanted: Wanted::AtLeast(0.70),
        aim: None,
        headline: false,
        needs: &[S::Link, S::LinkRecorded],
        ratio: |round| rate(round, S::LinkRecorded) / rate(round, S::Link),
    },
    Row {
        key: "link-again",
        about: "link of a guest who is linked / introspection",
        wanted: Wanted::AtLeast(0.50),
        aim: None,
        headline: false,
        needs: &[S::LinkAgain, S::Introspect],
        ratio: |round| rate(round, S::LinkAgain) / rate(round, S::Introspect),
    },
    Row {
        key: "new-guest",
        about: "refresh that a new guest answers / sign-up",
        wanted: Wanted::AtLeast(0.40),
        aim: None,
        headline: false,
        needs: &[S::SignUp, S::Succession],
        ratio: |round| rate(round, S::Succession) / rate(round, S::SignUp),
    },
    Row {
        key: "delivering",
        about: "refresh beside 200 deliveries a second / beside none",
        wanted: Wanted::AtLeast(0.97),
        aim: None,
        headline: false,
        needs: &[S::Refresh10ThousandRecorded, S::Delivering],
        ratio: |round| rate(round, S::Delivering) / rate(round, S::Refresh10ThousandRecorded),
    },
    Row {
        key: "delivery",
        about: "p99 of an event's delay, the receiver idle, s",
        wanted: Wanted::AtMost(2.5),
        aim: None,
        headline: false,
        needs: &[S::Delivery],
        ratio: |round| quantile(round, S::Delivery, 0.99) / 1e6,
    },
    Row {
        key: "retention",
        about: "refresh while all guests are looked at / without",
        wanted: Wanted::AtLeast(0.97),
        aim: None,
        headline: false,
        needs: &[S::NotForgetting, S::WhileForgetting],
        ratio: |round| rate(round, S::WhileForgetting) / rate(round, S::NotForgetting),
    },
    Row {
        key: "retention-latency",
        about: "p99 of a refresh while all guests are looked at / without",
        wanted: Wanted::AtMost(1.2),
        aim: None,
        headline: false,
        needs: &[S::NotForgetting, S::WhileForgetting],
        ratio: |round| {
            quantile(round, S::WhileForgetting, 0.99) / quantile(round, S::NotForgetting, 0.99)
        },
    },
    Row {
        key: "size-linked",
        about: "bytes on disk for a guest with a customer / without",
        wanted: Wanted::AtMost(1.8),
        aim: None,
        headline: false,
        needs: &[S::SizeLinked],
        ratio: |round| round[&S::SizeLinked].value,
    },
    Row {
        key: "session-current",
        about: "session that is current / forward-auth by header",
        wanted: Wanted::AtLeast(0.80),
        aim: None,
        headline: false,
        needs: &[S::VerifyHeader, S::SessionCurrent],
        ratio: |round| rate(round, S::SessionCurrent) / rate(round, S::VerifyHeader),
    },
    Row {
        key: "session-renewing",
        about: "session that is renewed / refresh, 10,000 guests",
        wanted: Wanted::AtLeast(0.90),
        aim: None,
        headline: false,
        needs: &[S::Refresh10Thousand, S::SessionRenewing],
        ratio: |round| rate(round, S::SessionRenewing) / rate(round, S::Refresh10Thousand),
    },
    Row {
        key: "session-creating",
        about: "session that makes a guest / authorize",
        wanted: Wanted::AtLeast(0.90),
        aim: None,
        headline: false,
        needs: &[S::Authorize, S::SessionCreating],
        ratio: |round| rate(round, S::SessionCreating) / rate(round, S::Authorize),
    },
    Row {
        key: "session-seeding",
        about: "session of a browser without cookies / forward-auth by header",
        wanted: Wanted::AtLeast(0.80),
        aim: None,
        headline: false,
        needs: &[S::VerifyHeader, S::SessionSeeding],
        ratio: |round| rate(round, S::SessionSeeding) / rate(round, S::VerifyHeader),
    },
    Row {
        key: "verify-access-cookie",
        about: "forward-auth by the access token in a cookie / by header",
        wanted: Wanted::AtLeast(0.90),
        aim: None,
        headline: false,
        needs: &[S::VerifyHeader, S::VerifyAccessCookie],
        ratio: |round| rate(round, S::VerifyAccessCookie) / rate(round, S::VerifyHeader),
    },
    Row {
        key: "verify-refresh-cookie",
        about: "forward-auth by the refresh token in a cookie / introspection",
        wanted: Wanted::AtLeast(0.80),
        aim: None,
        headline: false,
        needs: &[S::Introspect, S::VerifyRefreshCookie],
        ratio: |round| rate(round, S::VerifyRefreshCookie) / rate(round, S::Introspect),
    },
    Row {
        key: "sign-up",
        about: "sign-up / empty GET and POST handlers",
        wanted: Wanted::AtLeast(0.40),
        aim: Some(0.50),
        headline: true,
        needs: &[S::EmptyPair, S::SignUp],
        ratio: |round| rate(round, S::SignUp) / rate(round, S::EmptyPair),
    },
    Row {
        key: "rate-limited",
        about: "CPU of a 429 / of an empty GET handler",
        wanted: Wanted::AtMost(1.4),
        aim: None,
        headline: false,
        needs: &[S::EmptyGet, S::RateLimited],
        ratio: |round| round[&S::RateLimited].cpu() / round[&S::EmptyGet].cpu(),
    },
    Row {
        key: "cleaning",
        about: "CPU of cleaning an ended grant / of a sign-up",
        wanted: Wanted::AtMost(0.10),
        aim: None,
        headline: false,
        needs: &[S::SignUp, S::Cleaning],
        ratio: |round| round[&S::Cleaning].cpu() / round[&S::SignUp].cpu(),
    },
    Row {
        key: "additive",
        about: "refresh / signing and writing, one after the other",
        wanted: Wanted::AtLeast(0.75),
        aim: None,
        headline: true,
        needs: &[S::Refresh, S::SignOnly, S::BareWrites],
        ratio: |round| {
            let floor = 1.0 / rate(round, S::SignOnly) + 1.0 / rate(round, S::BareWrites);
            rate(round, S::Refresh) * floor
        },
    },
    Row {
        key: "durable",
        about: "durable / fsync off, 256 in flight",
        wanted: Wanted::AtLeast(0.85),
        aim: None,
        headline: true,
        needs: &[S::Durable256, S::Unsynced256],
        ratio: |round| rate(round, S::Durable256) / rate(round, S::Unsynced256),
    },
    Row {
        key: "latency-p50",
        about: "p50 at half load / p50 of an fsync",
        wanted: Wanted::AtMost(3.0),
        aim: None,
        headline: true,
        needs: &[S::Sync, S::HalfLoad],
        ratio: |round| quantile(round, S::HalfLoad, 0.5) / quantile(round, S::Sync, 0.5),
    },
    Row {
        key: "latency-p99",
        about: "p99 at half load / p99 of an fsync",
        wanted: Wanted::AtMost(4.0),
        aim: None,
        headline: true,
        // The empty handler is in the table only: its p99 shows the part of the scheduler.
        needs: &[S::Sync, S::EmptyHalfLoad, S::HalfLoad],
        ratio: |round| quantile(round, S::HalfLoad, 0.99) / quantile(round, S::Sync, 0.99),
    },
    Row {
        key: "fresh",
        about: "refresh on a fresh TLS 1.3 connection / empty POST handler",
        wanted: Wanted::AtLeast(0.80),
        aim: None,
        headline: false,
        needs: &[S::FreshEmpty, S::FreshRefresh],
        ratio: |round| rate(round, S::FreshRefresh) / rate(round, S::FreshEmpty),
    },
    Row {
        key: "http2",
        about: "refresh by HTTP/2, 64 streams / by HTTP/1.1, 64 connections, over TLS",
        wanted: Wanted::AtLeast(0.90),
        aim: None,
        headline: false,
        needs: &[S::RefreshHttp1, S::RefreshHttp2],
        ratio: |round| rate(round, S::RefreshHttp2) / rate(round, S::RefreshHttp1),
    },
    Row {
        key: "overload",
        about: "throughput at three times the highest load / the highest",
        wanted: Wanted::AtLeast(0.90),
        aim: None,
        headline: false,
        needs: &[S::Overload],
        ratio: |round| rate(round, S::Overload) / round[&S::Overload].value,
    },
    Row {
        key: "ten-million",
        about: "refresh with 10,000,000 guests / with 10,000",
        wanted: Wanted::AtLeast(0.80),
        aim: None,
        headline: false,
        needs: &[S::Refresh10Thousand, S::Refresh10Million],
        ratio: |round| rate(round, S::Refresh10Million) / rate(round, S::Refresh10Thousand),
    },
    Row {
        key: "overload-offered",
        about: "requests sent at three times the highest load / the highest",
        // With less, the generator was the bottleneck.
        wanted: Wanted::AtLeast(2.9),
        aim: None,
        headline: false,
        needs: &[S::Overload],
        ratio: |round| round[&S::Overload].offered / round[&S::Overload].value,
    },
    Row {
        key: "overload-refusals",
        about: "p99 of a 503 at three times the highest load, ms",
        wanted: Wanted::AtMost(50.0),
        aim: None,
        headline: false,
        needs: &[S::Overload],
        ratio: |round| {
            let refused = &round[&S::Overload].latency_of_failed;
            refused.value_at_quantile(0.99) as f64 / 1000.0
        },
    },
    Row {
        key: "memory",
        about: "memory after 1,000,000 refreshes, 10,000,000 guests, MiB",
        wanted: Wanted::AtMost(64.0),
        aim: None,
        headline: false,
        needs: &[S::Memory10Million],
        ratio: |round| round[&S::Memory10Million].value,
    },
    Row {
        key: "memory-guests",
        about: "memory with 10,000,000 guests / with 10,000",
        wanted: Wanted::AtMost(1.2),
        aim: None,
        headline: false,
        needs: &[S::Memory10Thousand, S::Memory10Million],
        ratio: |round| round[&S::Memory10Million].value / round[&S::Memory10Thousand].value,
    },
    Row {
        key: "size",
        about: "bytes on disk for each of 10,000,000 guests",
        wanted: Wanted::AtMost(300.0),
        aim: None,
        headline: false,
        needs: &[S::Size],
        ratio: |round| round[&S::Size].value,
    },
    Row {
        key: "growth",
        about: "file size after 1,000 refreshes of each guest / after one",
        wanted: Wanted::AtMost(1.02),
        aim: None,
        headline: false,
        needs: &[S::Growth],
        ratio: |round| round[&S::Growth].value,
    },
    Row {
        key: "start",
        about: "start to the first token, 10,000,000 guests / empty server",
        wanted: Wanted::AtMost(3.0),
        aim: None,
        headline: false,
        needs: &[S::StartEmpty, S::Start10Million],
        ratio: |round| {
            quantile(round, S::Start10Million, 0.5) / quantile(round, S::StartEmpty, 0.5)
        },
    },
    Row {
        key: "start-guests",
        about: "start with 10,000,000 guests / with 10,000",
        wanted: Wanted::AtMost(1.2),
        aim: None,
        headline: false,
        needs: &[S::Start10Thousand, S::Start10Million],
        ratio: |round| {
            quantile(round, S::Start10Million, 0.5) / quantile(round, S::Start10Thousand, 0.5)
        },
    },
    Row {
        key: "cleaning-latency",
        about: "p99 at half load while ended grants are cleaned / without",
        wanted: Wanted::AtMost(1.3),
        aim: None,
        headline: false,
        needs: &[S::NotCleaning, S::WhileCleaning],
        ratio: |round| {
            quantile(round, S::WhileCleaning, 0.99) / quantile(round, S::NotCleaning, 0.99)
        },
    },
    Row {
        key: "postgres-batch",
        about: "refreshes per commit on PostgreSQL, 256 in flight",
        wanted: Wanted::AtLeast(10.0),
        aim: None,
        headline: false,
        needs: &[S::Postgres],
        ratio: |round| {
            let used = round[&S::Postgres].used;
            used.writes as f64 / used.commits.max(1) as f64
        },
    },
    Row {
        key: "postgres",
        about: "refresh on PostgreSQL / through one statement for each",
        wanted: Wanted::AtLeast(2.0),
        aim: None,
        headline: false,
        needs: &[S::Postgres, S::PostgresSingle],
        ratio: |round| rate(round, S::Postgres) / rate(round, S::PostgresSingle),
    },
];

fn rate(round: &Round, scenario: Scenario) -> f64 {
    round[&scenario].rate
}

/// Returns a percentile of the latency in microseconds.
fn quantile(round: &Round, scenario: Scenario, quantile: f64) -> f64 {
    round[&scenario].latency.value_at_quantile(quantile) as f64
}
