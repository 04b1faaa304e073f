//! The way out: all that the program writes to standard output and standard error leaves here. A lint forbids reaching for
//! them elsewhere.
//!
//! Output that can't be printed is an error, but for a reader that has gone away, as `head` does. Standard error is
//! for people who may be there or not: if it is closed or full, the work goes on. Text may quote what isn't ours, such as
//! an argument or a file, so whatever controls a terminal is escaped, and within a line the end of a line as well: who
//! wants several lines says so.

#![expect(clippy::disallowed_methods, reason = "this is the way out")]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

/// Tells whether somebody reads standard output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reader {
    /// Somebody, or a file.
    There,
    /// Nobody any more: the pipe is closed.
    Gone,
}

impl Reader {
    /// Takes a closed pipe for a reader that has gone away.
    fn of(written: io::Result<()>) -> io::Result<Self> {
        match written {
            Ok(()) => Ok(Self::There),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Self::Gone),
            Err(error) => Err(error),
        }
    }
}

/// Prints lines for people to standard output, at once.
pub(crate) fn print<'a>(lines: impl IntoIterator<Item = &'a str>) -> io::Result<Reader> {
    let mut stdout = StandardOutput::take()?;
    Reader::of(stdout.write_all(joined(lines).as_bytes()))
}

/// Prints JSON to standard output, and ends the line.
pub(crate) fn print_json(json: &str) -> io::Result<Reader> {
    let mut stdout = StandardOutput::take()?;
    Reader::of(stdout.write_all(format!("{}\n", escaped_json(json)).as_bytes()))
}

/// Prints many lines to standard output.
pub(crate) struct Lines(BufWriter<StandardOutput>);

impl Lines {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(BufWriter::new(StandardOutput::take()?)))
    }

    /// Prints a line, now or later. Who is told that the reader has gone may stop.
    pub(crate) fn print(&mut self, line: &str) -> io::Result<Reader> {
        Reader::of(writeln!(self.0, "{}", escaped_line(line)))
    }

    /// Prints what is left.
    pub(crate) fn finish(mut self) -> io::Result<Reader> {
        Reader::of(self.0.flush())
    }
}

/// Says a sentence to the operator on standard error, behind the name of the program.
pub(crate) fn say(text: &str) {
    say_lines([format!("guestpass: {text}").as_str()]);
}

/// Says lines on standard error that stand alone, such as how the program is used.
pub(crate) fn say_lines<'a>(lines: impl IntoIterator<Item = &'a str>) {
    let _ = io::stderr().write_all(joined(lines).as_bytes());
}

/// Escapes lines, and ends each.
fn joined<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&escaped_line(line));
        text.push('\n');
    }
    text
}

/// Replaces the line of a terminal on standard error, and ends it if it `is_last`.
pub(crate) fn replace_line(text: &str, is_last: bool) {
    let end = if is_last { "\n" } else { "" };
    let line = format!("\rguestpass: {}\x1b[K{end}", escaped_line(text));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Tells whether standard error is a terminal.
pub(crate) fn has_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Writes lines of the log, in which everything is escaped already, to standard error.
pub(crate) fn log(lines: &[u8]) -> io::Result<()> {
    io::stderr().write_all(lines)
}

/// Standard output without the standard library's, which keeps back what it couldn't write and takes a descriptor that
/// can't be written for one that nobody wants (EBADF).
struct StandardOutput(File);

impl StandardOutput {
    fn take() -> io::Result<Self> {
        let own = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self(own.into()))
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                // Another process has made the pipe or terminal that it shares with this one non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(AGAIN),
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time after which a non-blocking output that was full is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// Escapes what controls a terminal, ends a line or makes text look otherwise than it is.
pub(crate) fn escaped_line(text: &str) -> Cow<'_, str> {
    replaced(text, controls, write_escape)
}

/// Escapes what JSON allows in a string and a terminal obeys.
pub(crate) fn escaped_json(json: &str) -> Cow<'_, str> {
    let controls = |character| controls(character) && character >= '\x7f';
    replaced(json, controls, |out, character| {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn replaced(
    text: &str,
    is_replaced: impl Fn(char) -> bool,
    replace: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&is_replaced) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_replaced(character) {
            replace(&mut out, character);
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Control characters, and those that turn the direction of text or end a line without being a line end.
fn controls(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn write_escape(out: &mut String, character: char) {
    let code = u32::from(character);
    let _ = match character {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\0'..='\x7f' => write!(out, "\\x{code:02x}"),
        _ => write!(out, "\\u{{{code:x}}}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f23_what_controls_a_terminal_is_escaped() {
        let text = "a\u{1b}[31m\r\u{7}\u{7f}\u{9b}\u{202e}\t\né \u{1f642}";
        let line = "a\\x1b[31m\\r\\x07\\x7f\\u{9b}\\u{202e}\\t\\né \u{1f642}";
        assert_eq!(escaped_line(text), line);
        assert!(matches!(escaped_line("plain"), Cow::Borrowed(_)));
        assert_eq!(joined(["a\nb", "c"]), "a\\nb\nc\n");
        let json = serde_json::json!(text).to_string();
        let shown = escaped_json(&json);
        assert!(!shown.contains(controls), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
