//! Prints usage: what clap says of the commands, and its errors. Takes out of messages what arguments should not have held.

use std::process::ExitCode;

use guestpass_core::client::ApiKey;

use crate::keys::MasterKey;
use crate::store::postgres::may_hold_password;
use crate::terminal::{self, escaped_line};

/// Prints a request for help, or a command line that wasn't understood, as clap would. Exits with 2 for the latter.
pub(super) fn exit(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        let text = quoting_nothing_odd(text, std::env::args_os());
        terminal::say_lines(text.lines());
        return ExitCode::from(2);
    }
    match terminal::print(text.trim_end().lines()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Takes out of the message of a command the arguments that it quotes and that look like a URL with a password, a key or a
/// token.
pub(super) fn without_secrets(mut text: String) -> String {
    for argument in std::env::args_os() {
        let argument = argument.to_string_lossy();
        let (_, value) = parts(&argument);
        let has_odd_query = value.contains("://") && value.contains('@') && value.contains('?');
        if may_hold_password(value) || has_odd_query || may_be_token(value) {
            text = text.replace(value, HIDDEN);
        }
    }
    text
}

const HIDDEN: &str = "(not shown)";

/// Takes out of an error the arguments that it quotes and that may hold a secret: the URL of a database that stands in the
/// wrong place, an API key, a token. Ends no line within an argument.
fn quoting_nothing_odd(
    mut text: String,
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> String {
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let (flag, value) = parts(&argument);
        if may_be_secret(value) {
            text = text.replace(value, HIDDEN);
        }
        for quoted in [&argument, flag, value] {
            let shown = escaped_line(quoted);
            if shown != quoted {
                text = text.replace(quoted, &shown);
            }
        }
    }
    text
}

/// Takes an argument apart into its flag, if it has one, and its value.
fn parts(argument: &str) -> (&str, &str) {
    let with_flag = argument
        .strip_prefix("--")
        .and_then(|_| argument.split_once('='));
    with_flag.unwrap_or(("", argument))
}

/// Tells whether an argument looks like a URL with a user, a key, a code or a token.
fn may_be_secret(argument: &str) -> bool {
    argument.contains('@') && argument.contains('/')
        || may_hold_password(argument)
        || argument.contains("password")
        || may_be_token(argument)
}

/// Tells whether an argument looks like a key, a code or a token.
fn may_be_token(argument: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+/".contains(&byte);
    ApiKey::is_like(argument)
        || argument.len() >= SHORTEST_SECRET
            && argument.bytes().all(is_token)
            && !argument.contains('/')
        || MasterKey::parse(argument).is_some()
}

/// Codes and refresh tokens have 64 characters, of which any may be a hyphen, and access tokens have more. No flag is as long.
const SHORTEST_SECRET: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f24_an_error_quotes_no_secret() {
        let key = "aHVzaGh1c2hodXNoaHVzaGh1c2hodXNoaHVzaGh1c2g=";
        for (argument, is_secret) in [
            ("postgres://guest:hush@db/x", true),
            ("postgres:/guest:hush@db/x", true),
            ("--to=postgres://guest:hush@db/x", true),
            ("gpk_hush", true),
            (key, true),
            ("-hush-hush-hush-hush-hush-hush-hush-hush-hush-", true),
            ("--hush-hush-hush-hush-hush-hush-hush-hush-hush", true),
            ("--verbose", false),
            ("shop@example", false),
            ("https://shop.example/", false),
        ] {
            let text = format!("error: unexpected argument '{argument}' found");
            let shown = quoting_nothing_odd(text, std::iter::once(argument.into()));
            assert_eq!(shown.contains("(not shown)"), is_secret, "{shown}");
            assert!(!is_secret || !shown.contains("hush") && !shown.contains(key));
        }
    }

    #[test]
    fn f23_an_error_has_the_lines_of_the_program_alone() {
        for argument in ["a\nb", "--a\nb=c", "--a=b\nc"] {
            let (flag, value) = parts(argument);
            let text = format!("error: '{argument}', '{flag}' and '{value}'\n\nUsage: x\n");
            let shown = quoting_nothing_odd(text, std::iter::once(argument.into()));
            assert_eq!(shown.lines().count(), 3, "{shown}");
        }
    }
}
