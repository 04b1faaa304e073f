//! Prints usage: what clap says of the commands, and its errors.

use std::process::ExitCode;

use crate::keys::MasterKey;
use crate::terminal;

/// Prints a request for help, or a command line that wasn't understood, as clap would. Exits with 2 for the latter.
pub(super) fn exit(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        terminal::say_as_it_is(&without_secrets(text, std::env::args_os()));
        return ExitCode::from(2);
    }
    match terminal::print(text.trim_end()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(&format!("standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Takes out of an error the arguments that it quotes and that may hold a secret: the URL of a database that stands in the
/// wrong place, an API key, a token.
fn without_secrets(
    mut text: String,
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> String {
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let value = argument
            .strip_prefix("--")
            .and_then(|flag| Some(flag.split_once('=')?.1))
            .unwrap_or(&argument);
        if may_be_secret(value) {
            text = text.replace(value, "(not shown)");
        }
    }
    text
}

/// Tells whether an argument looks like a URL with a user, a key, a code or a token.
fn may_be_secret(argument: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+/".contains(&byte);
    argument.contains('@') && argument.contains('/')
        || argument.starts_with("gpk_")
        || argument.contains("password")
        || argument.len() >= SHORTEST_SECRET
            && argument.bytes().all(is_token)
            && !argument.starts_with('-')
            && !argument.contains('/')
        || MasterKey::parse(argument).is_some()
}

/// Codes and refresh tokens have 64 characters, access tokens have more.
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
            ("--verbose", false),
            ("shop@example", false),
            ("https://shop.example/", false),
        ] {
            let text = format!("error: unexpected argument '{argument}' found");
            let shown = without_secrets(text, std::iter::once(argument.into()));
            assert_eq!(shown.contains("(not shown)"), is_secret, "{shown}");
            assert!(!is_secret || !shown.contains("hush") && !shown.contains(key));
        }
    }
}
