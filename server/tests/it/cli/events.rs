//! `guestpass events` and `guestpass retention`.

use serde_json::{Value, json};

use super::guests::{add_back_end, link_to, recorded};
use crate::support::binary::{Binary, eventually};
use crate::support::{SHOP, Tokens, link};

#[test]
fn c246_a_receiver_that_others_could_overhear_is_refused_at_start() {
    let mut binary = Binary::new();
    let secret = binary.working_dir().join("webhook.secret");
    let made = binary.run(&["events", "secret"]).stdout;
    std::fs::write(&secret, &made).unwrap();
    let secret = secret.display().to_string();
    binary.set_variable("GUESTPASS_EVENTS__SECRET_FILE", &secret);
    for (url, problem) in [
        ("http://shop.example/events", "others could read it"),
        ("http://10.1.2.3/events", "others could read it"),
        ("https://user:pw@shop.example/events", "leave out the user"),
        ("ftp://shop.example/events", "https://"),
        ("shop.example", "no URL"),
        ("", "Set events.url as well"),
    ] {
        binary.set_variable("GUESTPASS_EVENTS__URL", url);
        let said = binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(said.contains(problem), "{url}: {said}");
    }
    for url in [
        "http://127.0.0.1:9/",
        "http://[::1]:9/",
        "http://localhost:9/",
        "https://shop.example/e",
    ] {
        binary.set_variable("GUESTPASS_EVENTS__URL", url);
        binary.json(&["config", "check"]);
    }
    binary.set_variable("GUESTPASS_EVENTS__RECORD", "false");
    let said = binary.failure(&["config", "check"]);
    assert!(said.contains("nothing is sent"), "{said}");
    binary.clear_variable("GUESTPASS_EVENTS__RECORD");

    let long = format!("{made}{made}{made}");
    for text in ["", "whsec_geheim", &long] {
        std::fs::write(&secret, text).unwrap();
        let said = binary.failure(&["config", "check"]);
        assert!(said.contains("events.secret_file"), "{said}");
        assert!(
            !said.contains("geheim") && !said.contains(made.trim()),
            "{said}"
        );
    }
    binary.clear_variable("GUESTPASS_EVENTS__SECRET_FILE");
    let said = binary.failure(&["config", "check"]);
    assert!(said.contains("guestpass events secret > FILE"), "{said}");
    let said = binary.failure(&["events", "test"]);
    assert!(said.contains("events.secret_file"), "{said}");
}

#[test]
fn c236_the_explanation_of_a_conflict_names_no_customer() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_LOG__LEVEL", "trace");
    binary.json(&["client", "add", SHOP]);
    let key = add_back_end(&binary);
    let server = binary.serve();
    let guest = server.guest();
    link_to(&server, &key, &guest, "customer-of-c236");
    let conflict = link(&guest.access_token, "customer-of-no-one").set("client_id", "back-end");
    let conflict = server.send(&conflict.header("x-api-key", &key));
    let id = conflict.header("x-request-id").unwrap();
    let explained = binary.run(&["explain", id]).stdout;
    assert!(explained.contains("another customer"), "{explained}");
    for text in [&explained, &server.log()] {
        assert!(!text.contains("customer-of"), "{text}");
    }
}

#[test]
fn events_are_listed_from_a_minute_ago_and_the_dead_are_woken() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let said = binary.run(&["events"]).stdout;
    assert!(said.contains("they are not recorded"), "{said}");
    binary.set_variable("GUESTPASS_EVENTS__RECORD", "true");
    let key = add_back_end(&binary);
    let server = binary.serve();
    let guests = [(); 3].map(|()| server.guest());
    for guest in &guests {
        link_to(&server, &key, guest, "c-4711");
    }
    let list = |more: &[&str]| binary.json(&[&["events"], more].concat());
    assert_eq!(list(&[]), json!({"events": [], "after": null}));
    let said = binary.run(&["events"]).stdout;
    assert_eq!(said, "no events that are older than a minute\n");
    binary.sql(
        "update events set at = at - 60000;
         update events set next_at = null, attempts = 9
         where event_id = (select event_id from events order by at, event_id limit 1)",
    );
    let all = list(&[]);
    let all = all["events"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    let data = &all[0]["data"];
    assert_eq!(
        (&data["customer"], &data["client_id"]),
        (&json!("c-4711"), &json!("back-end"))
    );
    assert_eq!(all[1]["delivery"]["state"], "waiting");

    let first = list(&["--limit", "2"]);
    assert_eq!(first["events"].as_array().unwrap()[..], all[..2]);
    let after = first["after"].as_str().unwrap();
    let rest = list(&["--after", after]);
    assert_eq!(rest["events"].as_array().unwrap()[..], all[2..]);
    let end = rest["after"].as_str().unwrap();
    assert_eq!(list(&["--after", end]), json!({"events": [], "after": end}));
    let text = binary.run(&["events", "--limit", "2"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("AT") && lines[1].contains("guest.linked"),
        "{text}"
    );
    assert_eq!(lines[3], format!("there may be more: --after {after}"));
    let problem = binary.run(&["events", "--after", "yesterday"]);
    assert_eq!(problem.code, Some(2));

    let dead = list(&["--dead"]);
    let dead = dead["events"].as_array().unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        dead[0]["delivery"],
        json!({
            "state": "dead", "failed_attempts": 9, "next_at": null, "delivered_at": null,
        })
    );
    assert_eq!(binary.json(&["events", "retry"])["retried"], 1);
    assert_eq!(list(&["--dead"])["events"], json!([]));
    assert_eq!(binary.json(&["events", "retry"])["retried"], 0);
    assert_eq!(list(&[])["events"].as_array().unwrap().len(), 3);
}

#[test]
fn c244_what_an_operator_does_is_told_too() {
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_EVENTS__RECORD", "true");
    binary.json(&["client", "add", SHOP]);
    let key = add_back_end(&binary);
    let server = binary.serve();
    let [unlinked, erased, of_customer] = [(); 3].map(|()| server.guest());
    link_to(&server, &key, &unlinked, "customer-x");
    link_to(&server, &key, &of_customer, "customer-y");
    binary.json(&["customer", "unlink", "customer-x"]);
    binary.json(&["profile", "erase", erased.sub()]);
    binary.json(&["customer", "erase", "customer-y"]);
    // A repetition finds nothing.
    binary.json(&["customer", "unlink", "customer-x"]);
    binary.json(&["customer", "erase", "customer-y"]);
    let mut told: Vec<_> = recorded(&binary)
        .iter()
        .map(|event| {
            let data = &event["data"];
            let of = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
            (
                event["type"].as_str().unwrap().to_owned(),
                of("sub"),
                of("by") + &of("reason"),
                of("customer"),
            )
        })
        .collect();
    told.sort();
    let expect = |what: &str, guest: &Tokens, by: &str, customer: &str| {
        [what, guest.sub(), by, customer]
            .map(ToOwned::to_owned)
            .into()
    };
    let mut expected = [
        expect("guest.linked", &unlinked, "", "customer-x"),
        expect("guest.unlinked", &unlinked, "operator", "customer-x"),
        expect("guest.erased", &erased, "operator", ""),
        expect("guest.erased", &of_customer, "customer", "customer-y"),
    ];
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn c251_a_server_forgets_whom_a_dry_run_has_counted() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    assert!(binary.serve().stop().success());
    let subn = |sub| format!("919108f7-52d1-4320-9bac-f847db4148{sub:02x}");
    let row = |sub: u32, customer: &str, seen_at: &str| {
        format!(
            "{sub},{},2020-01-31T12:00:00Z,{customer},{seen_at}\n",
            subn(sub)
        )
    };
    let rows = [
        row(1, "", "2024-03-31T12:00:00Z"),
        row(2, "", "2024-03-01T12:00:00Z"),
        row(3, "", "2025-04-01T12:00:00Z"),
        row(4, "x", "2024-03-01T12:00:00Z"),
        row(5, "x", "2024-12-01T12:00:00Z"),
        row(6, "", ""),
    ];
    let file = format!("sub,subn,created_at,customer,seen_at\n{}", rows.concat());
    std::fs::write(binary.working_dir().join("guests.csv"), file).unwrap();
    binary.json(&["profile", "import", "guests.csv", "--client", SHOP]);
    let problem = binary.failure(&["retention", "--dry-run"]);
    assert!(problem.contains("kept for ever"), "{problem}");

    binary.set_variable("GUESTPASS_RETENTION__IDLE", "30d");
    let counted = |linked: bool, month: &str, guests: u32| json!({"linked": linked, "last_seen": month, "guests": guests});
    let of_guests = [counted(false, "2024-03", 2), counted(false, "2025-04", 1)];
    let dry_run = binary.json(&["retention", "--dry-run"]);
    assert_eq!(dry_run, json!({"guests": 3, "months": of_guests}));
    binary.set_variable("GUESTPASS_RETENTION__IDLE_LINKED", "100d");
    let of_customers = [counted(true, "2024-03", 1), counted(true, "2024-12", 1)];
    let all = [&of_guests[..], &of_customers].concat();
    let dry_run = binary.json(&["retention", "--dry-run"]);
    assert_eq!(dry_run, json!({"guests": 5, "months": all}));
    let text = binary.run(&["retention", "--dry-run"]).stdout;
    assert!(
        text.starts_with("5 guests would be forgotten now\n"),
        "{text}"
    );

    binary.set_variable("GUESTPASS_CLEANING__START_AFTER", "0s");
    let server = binary.serve();
    let left = || -> Vec<Value> {
        (1..=6)
            .filter(|sub| binary.run(&["profile", "show", &sub.to_string()]).code == Some(0))
            .map(Value::from)
            .collect()
    };
    eventually("the idle guests are forgotten", || left() == [json!(6)]);
    assert!(server.stop().success());
    let dry_run = binary.json(&["retention", "--dry-run"]);
    assert_eq!(dry_run["guests"], 0);
    // Whoever was forgotten may be imported again.
    let again = binary.json(&["profile", "import", "guests.csv", "--client", SHOP]);
    assert_eq!(
        (&again["imported"], &again["erased"]),
        (&json!(5), &json!(0))
    );
}
