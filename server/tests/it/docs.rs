//! The documents: those that are generated from the code are current, what they show of verifiers is what is run, and
//! every link leads somewhere. With `GUESTPASS_WRITE_DOCS` set, as `make docs` does, the generated ones are written;
//! without it, a stale one is a failure. What else the documents show is run by tests/clients.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use guestpass::config::Config;
use guestpass::http::statuses;
use guestpass::store::transfer::{Column, Table};
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
        let status = statuses(*refusal)
            .iter()
            .map(StatusCode::as_str)
            .collect::<Vec<_>>()
            .join(" or ");
        let (name, text, remedy) = (refusal.name(), refusal.public_text(), refusal.remedy());
        page.push_str(&format!(
            "| `{name}` | {status} | {error} | {text} | {remedy} |\n"
        ));
    }
    current("docs/errors.md", &page);
}

const ERRORS: &str = "\
# Errors

Generated from the code by `make docs`.

Every refusal is `{\"error\": …, \"error_description\": …}`. The client learns no more than that; the log has the refusal's
name, in the field `refusal` of the line whose `request.id` is the beginning of the answer's `x-request-id`. Look the name
up here; or let `guestpass explain` read the whole `x-request-id`.

Where the status is 400 or 401, it is 401 at introspection and after a failed `Authorization: Basic`. `/oauth/verify`
answers with 401 instead of 400, 414 and 431; `/oauth/link` and `/oauth/unlink` with `400 invalid_grant` instead of
`401 invalid_token`. `503 temporarily_unavailable` with `Retry-After` means that nothing is wrong
with the request: the client keeps what it has and tries again. If the write was under way, it may have been done all the
same; a refresh that is tried again then gets the same answer. `500 server_error` is a defect: please report its log line.

`invalid_grant` is final for what was sent, and not yet for the guest: another tab or process of the client may have stored
newer tokens meanwhile. Before it authorizes anew, which makes another guest, a client reads its storage again and goes on
with what has changed there.

| refusal | status | `error` | `error_description` | what to do |
|---|---|---|---|---|
";

#[test]
fn the_list_of_settings_is_current() {
    let mut page = String::from(SETTINGS);
    for setting in Config::from_sources(&[], Vec::new(), None).unwrap().shown {
        let variable = format!(
            "GUESTPASS_{}",
            setting.name.replace('.', "__").to_uppercase()
        );
        let default = match (setting.name, setting.value.as_str()) {
            ("node", _) => "the name of the host".to_owned(),
            (_, "") => String::new(),
            (_, value) => format!("`{value}`"),
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
fn the_documents_show_programs_that_are_run() {
    let verifying = "docs/verifying.md";
    for (document, language, path) in [
        (verifying, "js", "tests/clients/jose-verifier.mjs"),
        (verifying, "python", "tests/clients/pyjwt_verifier.py"),
        (verifying, "rust", "server/tests/it/verifiers/example.rs"),
        ("docs/events.md", "js", "tests/clients/webhook-receiver.mjs"),
    ] {
        let page = read(document);
        let (_, block) = page.split_once(&format!("\n```{language}\n")).unwrap();
        let (block, _) = block.split_once("```\n").unwrap();
        // Whole, but for what the file says of itself.
        let file = read(path).replace("pub(crate) ", "");
        let shown = file.ends_with(block) && file.len() - block.len() < 100;
        assert!(shown, "{document} doesn't show {path} as it is");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 20, "{documents:?}");
    let mut broken = Vec::new();
    for document in &documents {
        for link in links(&prose(&read(document))) {
            if let Err(problem) = follow(document, &link) {
                broken.push(format!("{document}: {link}: {problem}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_diagram_names_its_type() {
    for document in documents() {
        let page = read(&document);
        for diagram in page.split("```mermaid\n").skip(1) {
            let first = diagram.split_whitespace().next().unwrap_or_default();
            let known = ["flowchart", "sequenceDiagram", "stateDiagram-v2"].contains(&first);
            assert!(known, "{document}: a diagram begins with {first:?}");
        }
    }
}

#[test]
fn anchors_are_made_of_headings_as_on_github() {
    let page = "# `/oauth/verify`: who asks?\n\n## [Back up](x.md) and `re_store`, in 1 s\n\n## Set it up\n\n\
                ```sh\n# not a heading\n```\n### Set it up\n";
    assert_eq!(
        anchors(page),
        [
            "oauthverify-who-asks",
            "back-up-and-re_store-in-1-s",
            "set-it-up",
            "set-it-up-1"
        ]
    );
}

/// Checks that a link in a document leads to a file, and to a heading in it. Of other hosts only the form is checked.
fn follow(document: &str, link: &str) -> Result<(), String> {
    if let Some((scheme, rest)) = link.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return if ["http", "https"].contains(&scheme) && host.contains('.') {
            Ok(())
        } else {
            Err("not a URL".to_owned())
        };
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let here = root().join(document);
    let target = match file {
        "" => here,
        _ => here.parent().unwrap().join(file),
    };
    if !target.exists() {
        return Err("there is no such file".to_owned());
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let page = std::fs::read_to_string(&target).map_err(|error| error.to_string())?;
    if anchors(&page).iter().any(|known| known == anchor) {
        Ok(())
    } else {
        Err("there is no such heading".to_owned())
    }
}

/// Returns the targets of the inline links of a page, as they are written.
fn links(page: &str) -> Vec<String> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// Returns the anchors of a page's headings by GitHub's rule: lower case, spaces become hyphens, punctuation goes, and
/// what is there already is numbered.
fn anchors(page: &str) -> Vec<String> {
    let (mut anchors, mut seen) = (Vec::new(), HashMap::new());
    for line in lines_outside_of_code(page) {
        let text = line.trim_start_matches('#');
        let Some(text) = text.strip_prefix(' ').filter(|_| line.starts_with('#')) else {
            continue;
        };
        let slug: String = without_targets(text)
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .flat_map(char::to_lowercase)
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let earlier = seen.entry(slug.clone()).or_insert(0_u32);
        anchors.push(match *earlier {
            0 => slug,
            number => format!("{slug}-{number}"),
        });
        *earlier += 1;
    }
    anchors
}

/// Leaves of each link its text.
fn without_targets(heading: &str) -> String {
    let mut parts = heading.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, rest| {
        text + rest.split_once(')').map_or(rest, |(_, after)| after)
    })
}

/// Returns what is neither a code block nor a code span.
fn prose(page: &str) -> String {
    let text: String = lines_outside_of_code(page)
        .map(|line| format!("{line}\n"))
        .collect();
    text.split('`').step_by(2).collect()
}

fn lines_outside_of_code(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Returns all Markdown documents of the repository, by their paths.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_others = name.starts_with('.') || ["target", "node_modules"].contains(&name);
            if path.is_dir() && !is_others {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let path = path.strip_prefix(root()).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// Compares what is stored of a guest with what `docs/privacy.md` says, column by column.
#[test]
fn every_column_about_a_guest_is_in_the_privacy_document() {
    let page = read("docs/privacy.md");
    let of_operators = [
        Table::Clients,
        Table::ClientChoices,
        Table::ApiKeys,
        Table::Keys,
        Table::JournalMarks,
    ];
    let of_guests = |table: &Table| !of_operators.contains(table);
    for table in Table::ALL.into_iter().filter(of_guests) {
        let rows = format!("| `{}` | ", table.name());
        let mut said: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix(&rows)?.split(" | ").next())
            .flat_map(|columns| columns.split(", "))
            .map(|column| column.trim_matches('`'))
            // Of the embedded store alone, and the guest's id once more.
            .filter(|column| *column != "grant_number")
            .collect();
        let mut stored: Vec<_> = table.columns().iter().map(Column::name).collect();
        said.sort_unstable();
        stored.sort_unstable();
        assert_eq!(said, stored, "{}", table.name());
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
