//! The documents: those that are generated from the code are current, and what they show of verifiers is what is run.
//! With `GUESTPASS_WRITE_DOCS` set, as `make docs` does, the generated ones are written; without it, a stale one is a
//! failure.

use std::path::{Path, PathBuf};

use guestpass::config::Config;
use guestpass_core::refusal::{Refusal, WireCode};

#[test]
fn the_list_of_errors_is_current() {
    let mut page = String::from(ERRORS);
    for refusal in Refusal::all() {
        let error = match refusal.wire_code() {
            WireCode::InvalidClient => {
                "`invalid_client`, at authorize `unauthorized_client`".to_owned()
            }
            code => format!("`{}`", code.as_str()),
        };
        let (name, text, remedy) = (refusal.name(), refusal.public_text(), refusal.remedy());
        page.push_str(&format!("| `{name}` | {error} | {text} | {remedy} |\n"));
    }
    current("docs/errors.md", &page);
}

const ERRORS: &str = "\
# Errors

Generated from the code by `make docs`.

Every refusal is `{\"error\": …, \"error_description\": …}`. The client learns no more than that; the log has the refusal's
name, in the field `refusal` of the line whose `request.id` is the beginning of the answer's `x-request-id`. Look the name
up here; or let `guestpass explain` read the whole `x-request-id`.

The status is 400, but 401 for `invalid_token`, at introspection, and where `Authorization: Basic` was tried and failed,
and 404, 405, 408, 413, 414, 415, 431 where HTTP has a status of its own; `/oauth/verify` knows no 400, only 401. `503 temporarily_unavailable` with `Retry-After` means that nothing is wrong with the
request: the client keeps what it has and tries again. If the write was under way, it may have been done all the same; a
refresh that is tried again then gets the same answer. `500 server_error` is a defect: please report its log line.

| refusal | `error` | `error_description` | what to do |
|---|---|---|---|
";

#[test]
fn the_list_of_settings_is_current() {
    let mut page = String::from(SETTINGS);
    for setting in Config::from_sources(&[], Vec::new(), None).unwrap().shown {
        let variable = format!(
            "GUESTPASS_{}",
            setting.name.replace('.', "__").to_uppercase()
        );
        let default = if setting.value.is_empty() {
            String::new()
        } else {
            format!("`{}`", setting.value)
        };
        page.push_str(&format!(
            "| `{}` | `{variable}` | {default} | {} |\n",
            setting.name, setting.about
        ));
    }
    current("docs/settings.md", &page);
}

const SETTINGS: &str = "\
# Settings

Generated from the code by `make docs`.

Flags win over the environment, the environment over the file that `--config` or `GUESTPASS_CONFIG` names, the file over
the defaults. A `GUESTPASS_…` variable that no setting has is an error; so in Kubernetes, where a Service named
`guestpass` would make such variables, set `enableServiceLinks: false`. `guestpass config show` prints what is in force and where it comes from; `guestpass config check` checks it
as `serve` would, and names every client that deserves care. Durations are written as `2s`, `10m`, `24h`, `365d`. What
`tokens.…` says, but for the algorithm, is the default of every client that hasn't chosen otherwise: see
`guestpass client set --help`. In the file, a dot makes a table:

```toml
issuer = \"https://id.shop.example\"

[tokens]
grace = \"10s\"
```

| setting | environment | default | what it is for |
|---|---|---|---|
";

#[test]
fn the_documents_show_verifiers_that_are_run() {
    let page = read("docs/verifying.md");
    for (language, path) in [
        ("js", "tests/clients/jose-verifier.mjs"),
        ("python", "tests/clients/pyjwt_verifier.py"),
        ("rust", "server/tests/it/verifiers/example.rs"),
    ] {
        let (_, block) = page.split_once(&format!("\n```{language}\n")).unwrap();
        let (block, _) = block.split_once("```\n").unwrap();
        // Whole, but for what the file says of itself.
        let file = read(path).replace("pub(crate) ", "");
        let shown = file.ends_with(block) && file.len() - block.len() < 100;
        assert!(shown, "docs/verifying.md doesn't show {path} as it is");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn current(path: &str, page: &str) {
    let file = root().join(path);
    #[expect(
        clippy::disallowed_methods,
        reason = "`make docs` has no other way to say that it is meant"
    )]
    if std::env::var_os("GUESTPASS_WRITE_DOCS").is_some() {
        std::fs::write(&file, page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "{path} is stale: `make docs` writes it");
}
