//! `guestpass client`, and that a running server follows it.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass_core::client::ApiKeySecret;
use serde_json::{Value, json};

use crate::support::binary::{Binary, Server, eventually};
use crate::support::{SHOP, authorize, refresh};

#[test]
fn adding_a_client_prints_its_id_and_its_key_and_nothing_else() {
    let binary = Binary::new();
    let added = binary.json(&["client", "add", SHOP]);
    assert_eq!(added, json!({"client_id": SHOP, "api_key": null}));

    let added = binary.json(&["client", "add", "back-end", "--confidential"]);
    let key = added["api_key"].as_str().unwrap();
    assert_eq!(added, json!({"client_id": "back-end", "api_key": key}));
    assert_eq!(
        (key.len(), &key[..4]),
        (ApiKeySecret::new(&[0; 32]).expose().len(), "gpk_")
    );
    let shown = binary.json(&["client", "show", "back-end"]);
    assert_eq!(shown["key_ids"], json!([&key[..12]]));
    assert!(
        !binary
            .run(&["client", "show", "back-end"])
            .stdout
            .contains(key)
    );
}

#[test]
fn settings_are_set_and_undone() {
    let binary = Binary::new();
    binary.json(&[
        "client",
        "add",
        SHOP,
        "--origin",
        "https://a.example",
        "--no-query-params",
    ]);
    let described = |client: &Value| {
        json!([
            client["confidential"],
            choice(client, "query_params")["value"] == "true",
            client["origins"]
        ])
    };
    let (a, b) = ("https://a.example", "https://b.example");
    let added = binary.json(&["client", "show", SHOP]);
    assert_eq!(described(&added), json!([false, false, [a]]));
    for (flags, expected) in [
        (&["--confidential"][..], json!([true, false, [a]])),
        (&["--query-params"], json!([true, true, [a]])),
        (&[], json!([true, true, [a]])),
        (&["--no-confidential"], json!([false, true, [a]])),
        (&["--no-query-params"], json!([false, false, [a]])),
        (
            &["--origin", b, "--origin", a],
            json!([false, false, [a, b]]),
        ),
        (&["--no-origin", a], json!([false, false, [b]])),
        (
            &["--origin", a, "--no-origin", b],
            json!([false, false, [a]]),
        ),
        // The last one counts, as when a script adds flags to those of another.
        (
            &["--confidential", "--no-confidential"],
            json!([false, false, [a]]),
        ),
        (
            &["--no-confidential", "--confidential"],
            json!([true, false, [a]]),
        ),
        (
            &["--query-params", "--no-query-params"],
            json!([true, false, [a]]),
        ),
        (
            &["--no-query-params", "--query-params"],
            json!([true, true, [a]]),
        ),
    ] {
        let changed = binary.json(&[&["client", "set", SHOP], flags].concat());
        assert_eq!(described(&changed), expected, "{flags:?}");
        assert_eq!(binary.json(&["client", "show", SHOP]), changed, "{flags:?}");
    }
    let before = binary.json(&["client", "list"]);
    binary.failure(&["client", "set", SHOP, "--no-confidential", "--no-origin", b]);
    assert_eq!(
        binary.json(&["client", "list"]),
        before,
        "whole or not at all"
    );
}

#[test]
fn a_choice_is_made_and_shown_with_its_origin_and_taken_back() {
    let mut binary = Binary::new();
    let file = binary.working_dir().join("guestpass.toml");
    std::fs::write(&file, "[tokens]\ncode_ttl = \"50s\"\nquery_params = false").unwrap();
    binary.set_variable("GUESTPASS_CONFIG", file.to_str().unwrap());
    binary.set_variable("GUESTPASS_TOKENS__GRACE", "20s");
    let of_file = format!("file {}", file.display());
    binary.json(&["client", "add", SHOP, "--audience", "https://a.example"]);
    let show = || binary.json(&["client", "show", SHOP]);
    let origin = |client: &Value, name| choice(client, name)["origin"].clone();
    assert_eq!(origin(&show(), "audience"), "this client");
    let before = binary.json(&["client", "set", SHOP, "--audience", "default"]);

    for (name, flags, value, (default, from)) in [
        ("access_ttl", "--access-ttl 1h", "1h", ("24h", "default")),
        (
            "code_ttl",
            "--code-ttl 90s",
            "90s",
            ("50s", of_file.as_str()),
        ),
        (
            "grace",
            "--grace 500ms",
            "500ms",
            ("20s", "environment GUESTPASS_TOKENS__GRACE"),
        ),
        (
            "late_retry",
            "--late-retry revoke",
            "revoke",
            ("reissue", "default"),
        ),
        ("max_unproven", "--max-unproven 3", "3", ("8", "default")),
        (
            "refresh_idle",
            "--refresh-idle 90d",
            "90d",
            ("365d", "default"),
        ),
        ("refresh_max", "--refresh-max 2y", "2y", ("5y", "default")),
        ("audience", "--audience api", "api", ("", "default")),
        (
            "query_params",
            "--query-params",
            "true",
            ("false", &of_file),
        ),
        (
            "query_params",
            "--no-query-params",
            "false",
            ("false", &of_file),
        ),
        (
            "query_params",
            "--query-params=true",
            "true",
            ("false", &of_file),
        ),
    ] {
        let set = |flags: &str| {
            let flags: Vec<&str> = flags.split(' ').collect();
            binary.json(&[&["client", "set", SHOP], &flags[..]].concat())
        };
        let shown = |client: &Value| {
            let choice = choice(client, name);
            [choice["value"].clone(), choice["origin"].clone()]
        };
        assert_eq!(shown(&before), [default, from], "{flags}");
        let changed = set(flags);
        assert_eq!(shown(&changed), [value, "this client"], "{flags}");
        assert_eq!(show(), changed, "{flags}");
        let flag = flags
            .split([' ', '='])
            .next()
            .unwrap()
            .replace("--no-", "--");
        assert_eq!(set(&format!("{flag}=default")), before, "{flags}");
    }
}

#[test]
fn what_a_client_may_and_is_told_is_for_the_operator_to_say() {
    let binary = Binary::new();
    let show = || binary.json(&["client", "show", "back-end"]);
    let permitted = |client: &Value| json!([client["may"], client["claims"]]);
    let add = ["client", "add", "back-end", "--confidential"];
    binary.json(&[&add[..], &["--may", "link", "--claims", "customer"]].concat());
    assert_eq!(permitted(&show()), json!([["link"], ["customer"]]));
    let set = ["client", "set", "back-end"];
    let changed = binary.json(&[&set[..], &["--claims", "none"]].concat());
    assert_eq!(permitted(&changed), json!([["link"], []]));
    let problem = binary.failure(&[&set[..], &["--no-confidential"]].concat());
    assert!(problem.contains("--may none"), "{problem}");
    let wrong = binary.run(&[&set[..], &["--may", "everything"]].concat());
    assert!(wrong.stderr.contains("write link, attributes"), "{wrong:?}");
    let text = binary.run(&["client", "show", "back-end"]).stdout;
    assert!(text.contains("may                  link\n"), "{text}");
    let changed = binary.json(&[&set[..], &["--may", "none", "--no-confidential"]].concat());
    assert_eq!(permitted(&changed), json!([[], []]));
}

#[test]
fn c241_claims_that_would_make_an_answer_too_long_are_refused() {
    let mut binary = Binary::new();
    let long_id = "c".repeat(100);
    let issuer = format!("https://id.example/{}", "i".repeat(100));
    binary.set_variable("GUESTPASS_ISSUER", &issuer);
    let add = ["client", "add", &long_id];
    let problem = binary.failure(&[&add[..], &["--claims", "customer,segment"]].concat());
    let too_long = "bytes more than the 1536 that existing clients read";
    assert!(problem.contains(too_long), "{problem}");
    binary.json(&[&add[..], &["--claims", "customer"]].concat());
    let set = ["client", "set", &long_id];
    let before = binary.json(&["client", "show", &long_id]);
    let problem = binary.failure(&[&set[..], &["--claims", "customer,segment"]].concat());
    assert!(
        problem.contains(too_long) && problem.contains("--claims none"),
        "{problem}"
    );
    assert_eq!(binary.json(&["client", "show", &long_id]), before);
    let short = [
        "client",
        "add",
        "shop-short",
        "--claims",
        "customer,segment",
    ];
    binary.json(&[&short[..], &["--on-ended", "new_guest"]].concat());
    // With what was chosen under another issuer, nobody is served.
    binary.set_variable("GUESTPASS_ISSUER", "https://id.example");
    binary.json(&[&set[..], &["--claims", "customer,segment"]].concat());
    binary.set_variable("GUESTPASS_ISSUER", &issuer);
    let checked = binary.run(&["config", "check"]);
    let findings = format!("{}{}", checked.stdout, checked.stderr);
    assert_eq!(checked.code, Some(1), "{findings}");
    assert!(
        findings.contains(&format!("error: {long_id}: with the claims")),
        "{findings}"
    );
    // Tokens in pages and apps that name customers are to be thought about.
    assert!(
        findings.contains("advice: shop-short: it is public, and its tokens say"),
        "{findings}"
    );
    assert!(
        findings.contains("advice: shop-short: its apps get a new guest"),
        "{findings}"
    );
    let refused = binary.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains(too_long) && refused.stderr.contains(&long_id),
        "{refused:?}"
    );
}

#[test]
fn what_holds_for_a_client_is_shown_to_people_too() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP, "--access-ttl", "36h"]);
    let text = binary.run(&["client", "show", SHOP]).stdout;
    for line in [
        "audience_restricted  false",
        "resume_with_jwt      false",
        "access_ttl           36h (this client)",
        "code_ttl             60s (default)",
        "audience             none (default)",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
}

#[test]
fn choices_that_do_not_go_together_are_refused_before_they_are_written() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    binary.json(&[
        "client",
        "add",
        "strict",
        "--grace",
        "0s",
        "--late-retry",
        "revoke",
    ]);
    let before = binary.json(&["client", "list"]);
    for args in [
        "add another --grace 0s",
        "set shop --grace 0s",
        "set shop --grace 0s --late-retry reissue --origin https://a.example",
        "set strict --late-retry reissue",
        "set strict --late-retry default",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let problem = binary.failure(&[&["client"], &args[..]].concat());
        assert!(
            problem.contains("--late-retry revoke"),
            "{args:?}: {problem}"
        );
        assert_eq!(binary.json(&["client", "list"]), before, "{args:?}");
    }
    // What a client has is its operator's business as long as it chooses nothing else.
    binary.set_variable("GUESTPASS_TOKENS__LATE_RETRY", "revoke");
    binary.json(&["client", "set", "strict", "--late-retry", "default"]);
    binary.set_variable("GUESTPASS_TOKENS__LATE_RETRY", "reissue");
    binary.json(&["client", "set", "strict", "--origin", "https://a.example"]);
    binary.failure(&["client", "set", "strict", "--access-ttl", "1h"]);
    binary.json(&[
        "client",
        "set",
        "strict",
        "--grace",
        "default",
        "--access-ttl",
        "1h",
    ]);
}

#[test]
fn resuming_is_for_confidential_clients_without_origins() {
    const A: &str = "https://a.example";
    let binary = Binary::new();
    let added = |args: &[&str]| binary.json(&[&["client", "add"], args].concat());
    let resumes = |id| binary.json(&["client", "show", id])["resume_with_jwt"].clone();
    added(&[SHOP]);
    added(&["page", "--confidential", "--origin", A]);
    added(&["back-end", "--confidential"]);
    assert_eq!(resumes("back-end"), false, "off unless it is switched on");
    binary.json(&["client", "set", "back-end", "--resume-with-jwt"]);
    assert_eq!(resumes("back-end"), true);
    let before = binary.json(&["client", "list"]);
    for (args, hint) in [
        ("add new --resume-with-jwt", "--confidential"),
        ("set shop --resume-with-jwt", "--confidential"),
        ("set back-end --no-confidential", "--no-resume-with-jwt"),
        ("set page --resume-with-jwt", "--no-origin"),
        (
            "set back-end --origin https://a.example",
            "--no-resume-with-jwt",
        ),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let problem = binary.failure(&[&["client"], &args[..]].concat());
        assert!(
            problem.contains(hint),
            "{args:?} should say {hint}: {problem}"
        );
        assert_eq!(binary.json(&["client", "list"]), before, "{args:?}");
    }
    binary.json(&[
        "client",
        "set",
        "page",
        "--resume-with-jwt",
        "--no-origin",
        A,
    ]);
    assert_eq!(resumes("page"), true);
    binary.json(&[
        "client",
        "set",
        "page",
        "--no-resume-with-jwt",
        "--origin",
        A,
    ]);
    assert_eq!(resumes("page"), false);
    added(&["new", "--confidential", "--resume-with-jwt"]);
    assert_eq!(resumes("new"), true);
}

#[test]
fn a_server_whose_defaults_have_changed_starts_and_names_the_client() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_TOKENS__LATE_RETRY", "revoke");
    binary.json(&["client", "add", SHOP, "--grace", "0s"]);
    binary.json(&["config", "check"]);
    binary.set_variable("GUESTPASS_TOKENS__LATE_RETRY", "reissue");
    let server = binary.serve();
    let lost = server.guest().refresh_token;
    assert_eq!(server.send(&refresh(&lost)).status, StatusCode::OK);
    let late = server.send(&refresh(&lost));
    assert_eq!(
        (late.status, late.error()),
        (StatusCode::BAD_REQUEST, "invalid_grant")
    );
    binary.json(&["client", "add", "another"]);
    eventually("the clients have been read again", || {
        server.send(&authorize().set("client_id", "another")).status == StatusCode::OK
    });
    let named = server
        .log()
        .matches("guestpass client set shop --late-retry revoke")
        .count();
    assert_eq!(named, 1, "{}", server.log());
    assert!(server.stop().success());
}

/// Returns what the JSON of a client says of one choice.
fn choice<'a>(client: &'a Value, name: &str) -> &'a Value {
    let mut choices = client["policy"].as_array().unwrap().iter();
    choices.find(|choice| choice["name"] == name).unwrap()
}

#[test]
fn a_key_ends_when_it_is_told_to() {
    let binary = Binary::new();
    binary.json(&["client", "add", "back-end", "--confidential"]);
    let add = ["client", "key", "add", "back-end"];
    for (when, expected) in [
        ("2999-12-31", "2999-12-31T00:00:00Z"),
        ("2999-12-31T12:30:00Z", "2999-12-31T12:30:00Z"),
        ("2999-12-31 12:30:00", "2999-12-31T12:30:00Z"),
    ] {
        let added = binary.json(&[&add[..], &["--expires", when]].concat());
        assert_eq!(added["expires_at"], expected, "{when}");
        assert_eq!(
            listed(&binary, &added["key_id"])["expires_at"],
            expected,
            "{when}"
        );
    }
    for (when, after) in [("90d", 90 * 86_400), ("1h 30m", 5400), ("1y", 31_557_600)] {
        let added = binary.json(&[&add[..], &["--expires", when]].concat());
        let key = listed(&binary, &added["key_id"]);
        let [from, to] = ["created_at", "expires_at"]
            .map(|member| humantime::parse_rfc3339(key[member].as_str().unwrap()).unwrap());
        assert_eq!(
            to.duration_since(from).unwrap(),
            Duration::from_secs(after),
            "{when}"
        );
        assert_eq!(
            (&key["state"], &key["expires_at"]),
            (&json!("active"), &added["expires_at"])
        );
    }
    let before = binary.json(&["client", "key", "list", "back-end"]);
    for past in ["2001-01-01", "2001-01-01T00:00:00Z", "1970-01-01", "0s"] {
        let problem = binary.failure(&[&add[..], &["--expires", past]].concat());
        assert!(problem.contains("lies in the past"), "{past}: {problem}");
    }
    assert_eq!(binary.json(&["client", "key", "list", "back-end"]), before);
}

#[test]
fn a_key_is_revoked_and_the_others_go_on() {
    // By what the list shows of it, or by the whole of it, as one finds it where it has leaked.
    for named_by in ["key_id", "api_key"] {
        revoke_one_of_two(named_by);
    }
}

fn revoke_one_of_two(named_by: &str) {
    let binary = Binary::new();
    binary.json(&["client", "add", "back-end", "--confidential"]);
    let added = binary.json(&["client", "key", "add", "back-end"]);
    let name = added[named_by].as_str().unwrap();
    let revoked = binary.json(&["client", "key", "revoke", "back-end", name]);
    assert_eq!(
        revoked,
        json!({"client_id": "back-end", "key_id": added["key_id"]})
    );
    let keys = binary.json(&["client", "key", "list", "back-end"]);
    for key in keys.as_array().unwrap() {
        let is_revoked = key["key_id"] == added["key_id"];
        let state = if is_revoked { "revoked" } else { "active" };
        assert_eq!(
            (&key["state"], key["revoked_at"].is_string()),
            (&json!(state), is_revoked)
        );
    }
    assert_eq!(keys.as_array().unwrap().len(), 2);
}

/// A key as `client key list` shows it.
fn listed(binary: &Binary, key: &Value) -> Value {
    let keys = binary.json(&["client", "key", "list", "back-end"]);
    let found = keys
        .as_array()
        .unwrap()
        .iter()
        .find(|listed| listed["key_id"] == *key);
    found
        .unwrap_or_else(|| panic!("no {key} in {keys}"))
        .clone()
}

#[test]
fn a_running_server_follows_what_is_done_beside_it() {
    let binary = Binary::new();
    let server = binary.serve();
    let follows = |args: &[&str], status: StatusCode, api_key: Option<&str>| {
        let printed = binary.json(&[&["client"], args].concat());
        followed(&server, status, api_key, &format!("{args:?}"));
        printed
    };
    let (served, refused) = (StatusCode::OK, StatusCode::BAD_REQUEST);
    follows(&["add", SHOP], served, None);
    follows(&["disable", SHOP], refused, None);
    follows(&["enable", SHOP], served, None);
    follows(&["set", SHOP, "--confidential"], refused, None);
    let added = binary.json(&["client", "key", "add", SHOP]);
    let (key, api_key) = (added["key_id"].as_str().unwrap(), added["api_key"].as_str());
    followed(&server, served, api_key, "key add");
    follows(&["key", "revoke", SHOP, key], refused, api_key);
    follows(&["set", SHOP, "--no-confidential"], served, None);
    follows(&["remove", SHOP], refused, None);
    assert!(server.stop().success());
}

/// Waits until [`SHOP`] is answered so. A second is what is promised; a busy machine gets more.
fn followed(server: &Server, status: StatusCode, api_key: Option<&str>, what: &str) {
    let request = match api_key {
        Some(api_key) => authorize().header("x-api-key", api_key),
        None => authorize(),
    };
    eventually(what, || server.send(&request).status == status);
}

/// Lists what `client set` refuses: the client, the flags, and what is said.
const REFUSED: &[(&str, &[&str], &str)] = &[
    (
        "api",
        &["--cookies", "api"],
        "can't be confidential and keep guests in cookies",
    ),
    ("app", &["--cookies", "app"], "without an origin"),
    (
        "app",
        &["--origin", "http://m.shop.example", "--cookies", "app"],
        "http://m.shop.example",
    ),
    (
        "app",
        &["--origin", "https://m.shop.example", "--cookies", "guest"],
        "web has cookies of that name",
    ),
    ("app", &["--cookies", "a-r"], "the name of cookies is"),
    (
        "web",
        &["--cookie-domain", "other.example"],
        "wouldn't get the cookie",
    ),
    (
        "web",
        &["--cookie-domain", "example"],
        "the domain of a cookie is",
    ),
    (
        "web",
        &["--no-origin", "https://www.shop.example"],
        "without an origin",
    ),
    (
        "web",
        &["--confidential"],
        "can't be confidential and keep guests in cookies",
    ),
    ("web", &["--ticket-to", "app"], "app is public"),
    (
        "web",
        &["--ticket-to", "nobody"],
        "there is no client nobody",
    ),
    (
        "web",
        &["--ticket-to", "web"],
        "can't hand them over to itself",
    ),
    (
        "web",
        &["--no-ticket-to", "app"],
        "doesn't hand guests over",
    ),
    (
        "web",
        &["--cookies", "visitor"],
        "--cookies visitor --force",
    ),
];

/// Adds a confidential client, an app, and pages with cookies.
fn with_pages() -> Binary {
    let binary = Binary::new();
    binary.json(&["client", "add", "api", "--confidential"]);
    binary.json(&["client", "add", "app"]);
    let origin = "https://www.shop.example";
    binary.json(&[
        "client",
        "add",
        "web",
        "--origin",
        origin,
        "--cookies",
        "guest",
    ]);
    binary
}

#[test]
fn c361_what_would_give_a_guest_away_is_refused() {
    let binary = with_pages();
    let shown = |id: &str| binary.json(&["client", "show", id]);
    for (id, flags, said) in REFUSED {
        let before = shown(id);
        let args = [&["client", "set", id], *flags].concat();
        let failure = match flags.contains(&"a-r") || flags.contains(&"example") {
            // Refused as an argument.
            true => binary.run(&args).stderr,
            false => binary.failure(&args),
        };
        assert!(failure.contains(said), "{flags:?}: {failure}");
        assert_eq!(shown(id), before, "{flags:?}");
    }
    binary.json(&["client", "set", "web", "--cookies", "visitor", "--force"]);
    binary.json(&["client", "set", "web", "--no-cookies"]);
    binary.json(&["client", "set", "web", "--cookies", "guest"]);
    assert_eq!(shown("web")["cookies"], "guest");
}

#[test]
fn c361_what_deserves_care_is_named() {
    let binary = with_pages();
    binary.json(&["client", "set", "app", "--ticket-to", "web"]);
    for (flags, said) in [
        (
            &["--cookie-domain", "shop.example"][..],
            "every host below shop.example",
        ),
        (
            &["--grace", "0s", "--late-retry", "revoke"],
            "Set-Cookie is lost",
        ),
        (&["--late-retry", "revoke"], "Set-Cookie is lost"),
        (&["--access-ttl", "1m"], "1 min is short"),
        (&[], "one of the other, that outlives it"),
    ] {
        binary.json(&[&["client", "set", "web"], flags].concat());
        let checked = binary.json(&["config", "check"]);
        let advice = checked["advice"].as_array().unwrap().iter();
        let texts: Vec<_> = advice.filter_map(|it| it["text"].as_str()).collect();
        assert!(
            texts.iter().any(|text| text.contains(said)),
            "{flags:?}: {texts:?}"
        );
        let back = [
            "--no-cookie-domain",
            "--grace",
            "default",
            "--late-retry",
            "default",
            "--access-ttl",
            "default",
        ];
        binary.json(&[&["client", "set", "web"][..], &back].concat());
    }
    // With cookies, a page's client can't be what an app hands over to for long.
    binary.json(&[
        "client",
        "set",
        "web",
        "--refresh-max",
        "30d",
        "--refresh-idle",
        "30d",
    ]);
    let checked = binary.json(&["config", "check"]);
    assert!(!checked.to_string().contains("outlives it"), "{checked}");
}
