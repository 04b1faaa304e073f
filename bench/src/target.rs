//! Drives a running installation: signs guests up, then refreshes them.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use axum::http::Uri;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::generator::{Load, Outcome, Pace, Workload};
use crate::guests::Guests;
use crate::progress::Progress;
use crate::report::Table;
use crate::workload::{Refresh, SignUp, Target};

/// Parses the flags that describe the installation and the load.
#[derive(clap::Args)]
pub(crate) struct Remote {
    /// Drive this installation, such as http://127.0.0.1:8080, instead; it gets real guests
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<Uri>,
    /// Number of connections
    #[arg(long, value_name = "N", default_value_t = 64, requires = "target")]
    connections: usize,
    /// Refreshes that begin per second, whether or not the server keeps up [default: a closed loop]
    #[arg(long, value_name = "R", requires = "target")]
    rate: Option<f64>,
    /// Public client of the requests
    #[arg(long, value_name = "ID", default_value = "bench", requires = "target")]
    client_id: String,
}

/// Holds the results of each operation.
pub(crate) type Outcomes = Vec<(&'static str, Outcome)>;

/// Signs up so many guests, then refreshes them for that time.
pub(crate) fn run(
    arguments: &Remote,
    url: &Uri,
    guests: usize,
    time: Duration,
) -> Result<Outcomes, Failure> {
    let (address, target) = target(url, &arguments.client_id)?;
    let mut sign_up = SignUp::new(&target);
    sign_up.limit = guests;
    sign_up.tokens = Some(Vec::with_capacity(guests));
    let load = Load {
        address,
        connections: arguments.connections.clamp(1, guests.max(1)),
        pace: Pace::Closed,
        time: LONGEST,
        fresh_tls: None,
    };
    let mut progress = Progress::new(format!("signing up {guests} guests"), guests as u64);
    let signed_up = load.run(&mut sign_up, &mut |_, done| progress.at(done))?;
    let tokens = sign_up.tokens.take().unwrap_or_default();
    if tokens.is_empty() {
        let why = signed_up.first_failure.unwrap_or_default();
        return Err(Failure(format!("no guest could be signed up: {why}")));
    }
    let mut guests = Guests::new(tokens);
    let mut refresh = Refresh::new(&target, &mut guests, usize::MAX);
    let load = Load {
        pace: arguments.rate.map_or(Pace::Closed, Pace::Open),
        time,
        ..load
    };
    let refreshed = refreshing(load, &mut refresh)?;
    Ok(vec![("sign-up", signed_up), ("refresh", refreshed)])
}

/// Longer than any sign-up takes.
const LONGEST: Duration = Duration::from_secs(3600);

fn refreshing(load: Load<'_>, workload: &mut dyn Workload) -> Result<Outcome, Failure> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut progress = Progress::new("refreshing".to_owned(), millis(load.time));
    Ok(load.run(workload, &mut |now, _| {
        progress.at(millis(now).min(millis(load.time)));
    })?)
}

fn target(url: &Uri, client_id: &str) -> Result<(SocketAddr, Target), Failure> {
    let problem = |why: &str| Failure(format!("--target {url}: {why}"));
    if url.scheme_str() != Some("http") {
        return Err(problem("only http:// can be driven"));
    }
    let host = url.host().ok_or_else(|| problem("no host"))?;
    let host = host.trim_matches(['[', ']']);
    let mut addresses = (host, url.port_u16().unwrap_or(80)).to_socket_addrs()?;
    let address = addresses.next().ok_or_else(|| problem("no such host"))?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let target = Target {
        host: authority.to_owned(),
        base_path: url.path().trim_end_matches('/').to_owned(),
        client_id: client_id.to_owned(),
    };
    Ok((address, target))
}

/// Lists the results with percentiles of the latency.
pub(crate) fn table(outcomes: &[(&'static str, Outcome)]) -> Table {
    let header = vec![
        "operation",
        "done",
        "per s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "failed",
    ];
    let rows = outcomes.iter().map(|(name, outcome)| {
        let quantiles = [0.5, 0.9, 0.99, 0.999, 1.0].map(|quantile| {
            let micros = outcome.latency.value_at_quantile(quantile);
            format!("{:.2}", micros as f64 / 1000.0)
        });
        let failed = outcome.failed.iter().map(|(status, number)| match status {
            0 => format!("{number} without an answer"),
            status => format!("{number} with {status}"),
        });
        let failed = failed.collect::<Vec<_>>().join(", ");
        let first = [
            (*name).to_owned(),
            outcome.done.to_string(),
            format!("{:.0}", outcome.rate),
        ];
        first.into_iter().chain(quantiles).chain([failed]).collect()
    });
    Table {
        header,
        rows: rows.collect(),
    }
}

/// Returns the results for programs.
pub(crate) fn json(outcomes: &[(&'static str, Outcome)]) -> Value {
    let described = outcomes.iter().map(|(name, outcome)| {
        let quantile = |quantile| outcome.latency.value_at_quantile(quantile);
        let failed = outcome.failed.iter();
        let failed = failed.map(|(status, number)| json!({"status": status, "number": number}));
        json!({
            "operation": name,
            "done": outcome.done,
            "per_second": outcome.rate,
            "latency_us": {
                "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "p999": quantile(0.999),
                "max": outcome.latency.max(),
            },
            "failed": failed.collect::<Vec<_>>(),
            "first_failure": outcome.first_failure,
        })
    });
    described.collect()
}
