//! What the log looks like. What stands in it is up to whoever writes: no credential, key, verifier or query string.

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter};

/// The least important lines that are logged.
pub type LogLevel = LevelFilter;

/// How a line is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging to standard error, for the rest of the process.
pub fn start(level: LogLevel, format: LogFormat) {
    // An error means that a test has started logging before.
    let _ = tracing::subscriber::set_global_default(subscriber(level, format, io::stderr));
}

/// Logs to `writer`: our own lines from `level` on, those of libraries only when they warn, for they might name what a
/// request held.
pub fn subscriber<W>(level: LogLevel, format: LogFormat, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let ours = filter::Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("guestpass", level);
    tracing_subscriber::registry().with(lines(format, writer).with_filter(ours))
}

fn lines<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    }
}
