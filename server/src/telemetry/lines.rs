//! The formatter of log lines. Every request has a line, so plain values are copied, and only the others go through
//! `fmt`.

use std::cell::Cell;
use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;

use super::LogFormat;
use super::repeats::{LeftOut, Repeats};
use crate::clock;
use crate::terminal::{escaped_json, escaped_line};

/// Writes the line of every event to `writer`, or of what repeats only some.
#[derive(Clone)]
pub(super) struct Lines<W> {
    pub(super) format: LogFormat,
    pub(super) writer: W,
    pub(super) repeats: Option<Arc<Repeats>>,
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(repeats) = &self.repeats {
            let (is_written, left_out) = repeats.note(event, Instant::now());
            left_out.iter().for_each(|lines| self.say(lines));
            if !is_written {
                return;
            }
        }
        self.put(event.metadata(), |line| event.record(line));
    }
}

impl<W> Lines<W>
where
    W: for<'w> MakeWriter<'w>,
{
    /// Writes how many lines were left out in the periods that are over.
    pub(super) fn write_left_out(&self, now: Instant) {
        if let Some(repeats) = &self.repeats {
            repeats
                .left_out(now)
                .iter()
                .for_each(|lines| self.say(lines));
        }
    }

    /// Writes how many lines were left out until now.
    pub(super) fn write_all_left_out(&self, now: Instant) {
        if let Some(repeats) = &self.repeats {
            let left_out = repeats.all_left_out(now);
            left_out.iter().for_each(|lines| self.say(lines));
        }
    }

    fn say(&self, left_out: &LeftOut) {
        self.put(left_out.metadata, |line| line.left_out(left_out));
    }

    fn put(&self, metadata: &Metadata<'_>, fields: impl FnOnce(&mut Line)) {
        // Taken, not borrowed: a value may log while it is written.
        let mut line = Line {
            format: self.format,
            text: ROOM.take(),
        };
        line.write(metadata, fields);
        let mut writer = self.writer.make_writer_for(metadata);
        // A failure to log has nowhere to be logged.
        let _ = writer.write_all(&line.text);
        line.text.clear();
        ROOM.set(line.text);
    }
}

thread_local! {
    /// The buffer of the last line, reused by the next one.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

struct Line {
    format: LogFormat,
    text: Vec<u8>,
}

impl Line {
    /// `2026-01-31T12:00:00.000000Z  INFO guestpass::request: answered endpoint="/oauth/token" status=200`, or
    /// `{"timestamp":"…","level":"INFO","message":"answered","endpoint":"/oauth/token","status":200,"target":"…"}`.
    fn write(&mut self, metadata: &Metadata<'_>, fields: impl FnOnce(&mut Self)) {
        let time = humantime::format_rfc3339_micros(clock::time_of_day());
        match self.format {
            LogFormat::Text => {
                write!(self.text, "{time}").expect("writing to memory doesn't fail");
                self.text.extend_from_slice(match *metadata.level() {
                    Level::ERROR => b" ERROR ",
                    Level::WARN => b"  WARN ",
                    Level::INFO => b"  INFO ",
                    Level::DEBUG => b" DEBUG ",
                    Level::TRACE => b" TRACE ",
                });
                self.raw(metadata.target());
                self.raw(":");
                fields(self);
                self.raw("\n");
            }
            LogFormat::Json => {
                self.raw(r#"{"timestamp":"#);
                self.json(&format_args!("{time}"));
                self.raw(r#","level":"#);
                self.json(metadata.level().as_str());
                fields(self);
                self.raw(r#","target":"#);
                self.json(metadata.target());
                self.raw("}\n");
            }
        }
    }

    fn left_out(
        &mut self,
        LeftOut {
            message, reason, ..
        }: &LeftOut,
    ) {
        self.debugged(MESSAGE, &format_args!("{message}"));
        if let Some((name, text)) = reason {
            self.text(name, text);
        }
    }

    /// Writes the name of a field and its separators.
    fn name(&mut self, name: &str) {
        match (self.format, name) {
            (LogFormat::Text, MESSAGE) => self.raw(" "),
            (LogFormat::Text, name) => {
                self.raw(" ");
                self.raw(name);
                self.raw("=");
            }
            (LogFormat::Json, name) => {
                self.raw(r#",""#);
                self.raw(name);
                self.raw(r#"":"#);
            }
        }
    }

    fn raw(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    fn debug(&mut self, value: &dyn Debug) {
        write!(self.text, "{value:?}").expect("writing to memory doesn't fail");
    }

    fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        let from = self.text.len();
        serde_json::to_writer(&mut self.text, value).expect("writing to memory doesn't fail");
        if !self.text[from..].is_ascii() || self.text[from..].contains(&b'\x7f') {
            let written = self.text.split_off(from);
            let escaped = escaped_json(&String::from_utf8_lossy(&written)).into_owned();
            self.raw(&escaped);
        }
    }
}

impl Visit for Line {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field.name());
        self.json(&value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field.name());
        self.json(&value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field.name());
        self.json(&value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.debugged(field.name(), value);
    }
}

impl Line {
    fn text(&mut self, name: &str, value: &str) {
        let is_plain = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        match self.format {
            LogFormat::Text if name == MESSAGE => self.debugged(name, &format_args!("{value}")),
            LogFormat::Text if !value.bytes().all(is_plain) => self.debugged(name, &value),
            LogFormat::Text => {
                self.name(name);
                self.raw("\"");
                self.raw(value);
                self.raw("\"");
            }
            LogFormat::Json => {
                self.name(name);
                self.json(value);
            }
        }
    }

    fn debugged(&mut self, name: &str, value: &dyn Debug) {
        self.name(name);
        match self.format {
            LogFormat::Text => {
                let from = self.text.len();
                self.debug(value);
                disarm(&mut self.text, from);
            }
            LogFormat::Json => self.json(&format_args!("{value:?}")),
        }
    }
}

/// The field in which `tracing` keeps the text of an event.
pub(super) const MESSAGE: &str = "message";

/// Escapes the characters that control a terminal or end the line: a message, or an error, may hold a client's input or
/// what another program said.
fn disarm(text: &mut Vec<u8>, from: usize) {
    if text[from..].iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return;
    }
    let written = text.split_off(from);
    text.extend_from_slice(escaped_line(&String::from_utf8_lossy(&written)).as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::super::{LogLevel, subscriber};
    use super::*;

    #[test]
    fn a_line_in_each_format() {
        let log = || {
            tracing::info!(
                target: "guestpass::request",
                text = "a \"b\" \\ \n é \u{1b} 'c'",
                plain = "/oauth/token",
                empty = "",
                absent = None::<&str>,
                shown = %"a \"b\"",
                debugged = ?Some("x"),
                less = -1,
                more = 7_u64,
                is = true,
                "answered \u{1b}[1m \u{7f} \u{9b} é"
            );
            tracing::error!(target: "guestpass", "done");
        };
        assert_eq!(
            written(LogFormat::Text, log),
            concat!(
                "  INFO guestpass::request: answered \\x1b[1m \\x7f \\u{9b} é ",
                r#"text="a \"b\" \\ \n é \u{1b} 'c'" plain="/oauth/token" empty="" shown=a "b" debugged=Some("x") "#,
                "less=-1 more=7 is=true\n",
                " ERROR guestpass: done\n",
            )
        );
        assert_eq!(
            written(LogFormat::Json, log),
            concat!(
                r#","level":"INFO","message":"answered \u001b[1m \u007f \u009b é","text":"a \"b\" \\ \n é \u001b 'c'","plain":"/oauth/token","empty":"","shown":"a \"b\"","#,
                r#""debugged":"Some(\"x\")","less":-1,"more":7,"is":true,"target":"guestpass::request"}"#,
                "\n",
                r#","level":"ERROR","message":"done","target":"guestpass"}"#,
                "\n",
            )
        );
    }

    /// Returns the lines that are written while `log` runs, without their times.
    fn written(format: LogFormat, log: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let keep = Keep(Arc::clone(&written));
        let subscriber = subscriber(LogLevel::TRACE, format, move || keep.clone());
        tracing::subscriber::with_default(subscriber, log);
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines = written.split_inclusive('\n').map(|line| {
            let line = line.strip_prefix(r#"{"timestamp":""#).unwrap_or(line);
            let (time, rest) = line.split_at("2026-01-31T12:00:00.000000Z".len());
            humantime::parse_rfc3339(time).unwrap();
            rest.strip_prefix('"').unwrap_or(rest)
        });
        lines.collect()
    }

    #[derive(Clone)]
    struct Keep(Arc<Mutex<Vec<u8>>>);

    impl Write for Keep {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
