//! `guestpass profile import`: guests that another system knows already.

use std::time::Duration;

use guestpass::clock::{Clock as _, SystemClock};
use guestpass_core::profile::ProfileId;
use serde_json::{Value, json};

use crate::support::binary::Binary;
use crate::support::{Backend, Database, SHOP, SeededRandom, authorize};

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SUBN: &str = "919108f7-52d1-4320-9bac-f847db4148a8";

/// An installation with [`SHOP`], and what keeps it.
async fn installation(backend: Backend) -> (Binary, Database) {
    let mut binary = Binary::new();
    let database = Database::new(backend, &SeededRandom::new()).await;
    binary.set_variable("GUESTPASS_DATABASE", &database.url());
    binary.set_variable("GUESTPASS_MASTER_KEY", MASTER_KEY);
    binary.set_variable("GUESTPASS_ISSUER", "https://id.example");
    binary.set_variable("GUESTPASS_EVENTS__RECORD", "true");
    binary.json(&["db", "migrate"]);
    binary.json(&["client", "add", SHOP]);
    // Its first start makes the keys and the journal.
    assert!(binary.serve().stop().success());
    (binary, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_can_be_imported_again_and_again() {
    let source = Binary::new();
    source.json(&["client", "add", SHOP]);
    let server = source.serve();
    let guests = [(); 3].map(|()| server.guest());
    let exported = source.run(&["profile", "export"]).stdout;
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (binary, _database) = installation(backend).await;
        write(&binary, &exported);
        assert_eq!(import(&binary), counted(3, 0, 0));
        assert_eq!(import(&binary), counted(0, 3, 0));
        assert_eq!(binary.run(&["profile", "export"]).stdout, exported);
        let shown = binary.json(&["profile", "show", guests[0].sub()]);
        assert_eq!(
            (&shown["subn"], &shown["client_id"], &shown["grants"]),
            (&guests[0].claims["subn"], &json!(SHOP), &json!([]))
        );
        // An erased guest doesn't come back.
        binary.json(&["profile", "erase", guests[1].sub()]);
        assert_eq!(import(&binary), counted(0, 2, 1));
        let problem = binary.failure(&["profile", "show", guests[1].sub()]);
        assert!(problem.contains("there is no guest"), "{problem}");
        // An import that was interrupted is begun again.
        let more = format!("{exported}12,{SUBN},{SHOP},1700000000000,,,\n");
        write(&binary, &more);
        assert_eq!(import(&binary), counted(1, 2, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_id_stays_taken_and_nobody_gets_a_token_for_it() {
    let (binary, _database) = installation(Backend::Sqlite).await;
    write(
        &binary,
        &format!("sub,subn,created_at\n7,{SUBN},1700000000000\n"),
    );
    import_for_the_shop(&binary);
    let server = binary.serve();
    assert_ne!(server.guest().sub(), "7");
    server.send(&authorize());
    let shown = binary.json(&["profile", "show", "7"]);
    assert_eq!(shown["grants"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_many_guests_says_how_far_it_is() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (binary, _database) = installation(backend).await;
        let row = |sub| format!("{sub},{},{}\n", subn(sub), 1_700_000_000_000 + sub);
        let rows = (1..=2_500).map(row);
        write(
            &binary,
            &format!("sub,subn,created_at\n{}", rows.collect::<String>()),
        );
        let ended = binary.run(&[
            "--json",
            "profile",
            "import",
            "guests.csv",
            "--client",
            SHOP,
        ]);
        assert_eq!(ended.json(), counted(2_500, 0, 0));
        for line in [
            "imported guests: 1000 of 2500",
            "imported guests: 2000 of 2500",
        ] {
            assert!(ended.stderr.contains(line), "{ended:?}");
        }
        assert_eq!(profiles(&binary), 2_500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_line_is_named_and_nothing_is_imported() {
    let bad = [
        ("0,{},1700000000000", "sub: "),
        ("9223372036854775808,{},1700000000000", "sub: "),
        ("03,{},1700000000000", "sub: "),
        ("4,919108f752d143209bacf847db4148a8,1700000000000", "subn: "),
        ("5,,1700000000000", "subn: "),
        ("6,{},1700000000", "seconds, perhaps?"),
        ("7,{},yesterday", "2026-01-31T12:00:00Z"),
        ("8,{},9999999999999999", "still to come"),
        ("9,{}", "2 fields, where the first line has 3"),
        ("1,{},1700000000000", "sub 1 stands on line 2 already"),
    ];
    let lines = bad.map(|(line, _)| line.replace("{}", SUBN)).join("\n");
    let file = format!(
        "sub,subn,created_at\n1,{SUBN},1700000000000\n{lines}\n\"2\",\"{}\",\"1700000000000\"",
        subn(2)
    );
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (binary, _database) = installation(backend).await;
        write(&binary, &file);
        let problem = fails(&binary);
        assert!(
            problem.contains("10 lines can't be imported, so none was"),
            "{problem}"
        );
        let named: Vec<_> = problem.lines().collect();
        assert_eq!(named.len(), bad.len() + 1, "{problem}");
        for ((number, (_, what)), named) in (3..).zip(bad).zip(named) {
            let begins = named.starts_with(&format!("guestpass: guests.csv: line {number}: "));
            assert!(begins && named.contains(what), "{number}: {problem}");
        }
        assert_eq!(profiles(&binary), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c260_ids_of_others_and_of_ours_are_imported_unless_they_are_still_to_come() {
    let year = Duration::from_secs(365 * 86_400);
    let now = SystemClock::new().now();
    let (made, to_come) = (ProfileId::first_at(now), ProfileId::first_at(now + year));
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (binary, _database) = installation(backend).await;
        let subs = ["94173", "1000000000000005", &made.to_string()];
        let lines: Vec<_> = (1..)
            .zip(subs)
            .map(|(number, sub)| format!("{sub},{},1700000000000\n", subn(number)))
            .collect();
        let file = format!("sub,subn,created_at\n{}", lines.concat());
        write(&binary, &file);
        assert_eq!(import_for_the_shop(&binary), counted(3, 0, 0));
        for sub in subs {
            binary.json(&["profile", "show", sub]);
        }
        write(&binary, &format!("{file}{to_come},{SUBN},1700000000000\n"));
        let problem = fails(&binary);
        let named = format!("line 5: sub: {to_come} is one that this installation will give");
        assert!(problem.contains(&named), "{problem}");
        // An id that many programs round is taken, with a word about it.
        write(
            &binary,
            &format!("{file}{},{SUBN},1700000000000\n", 1_u64 << 60),
        );
        let imports = [
            "--json",
            "profile",
            "import",
            "guests.csv",
            "--client",
            SHOP,
        ];
        let ended = binary.run(&imports);
        let mut expected = counted(1, 3, 0);
        expected["inexact"] = json!(1);
        assert_eq!(ended.json(), expected);
        let warning = "warning: 1 of them have a sub of 2^53 or more";
        assert!(ended.stderr.contains(warning), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c235_an_import_links_guests_and_moves_none() {
    const HEADER: &str = "sub,subn,created_at,customer";
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (binary, database) = installation(backend).await;
        let file = |customers: &[&str]| {
            let rows = (1..).zip(customers);
            let rows = rows
                .map(|(sub, customer)| format!("{sub},{},1700000000000,{customer}\n", subn(sub)));
            write(&binary, &format!("{HEADER}\n{}", rows.collect::<String>()));
        };
        let customers = || {
            let guests = (1..=3).map(|sub: u64| {
                let shown = binary.run(&["--json", "profile", "show", &sub.to_string()]);
                match shown.code {
                    Some(0) => shown.json()["customer"].clone(),
                    _ => json!("nobody"),
                }
            });
            Value::from_iter(guests)
        };
        file(&[""]);
        assert_eq!(import_for_the_shop(&binary), counted(1, 0, 0));
        file(&["x", "y"]);
        let linked = counted_with_links(1, 1, 0, [2, 0]);
        assert_eq!(import_for_the_shop(&binary), linked);
        assert_eq!(customers(), json!(["x", "y", "nobody"]));
        assert_eq!(import_for_the_shop(&binary), counted(0, 2, 0));
        file(&["", "y", ""]);
        assert_eq!(import_for_the_shop(&binary), counted(1, 2, 0));
        assert_eq!(customers(), json!(["x", "y", null]));

        file(&["x", "z", "x"]);
        let problem = fails(&binary);
        let named = "line 3: guest 2 is there already, with the customer y";
        assert!(problem.contains(named), "{problem}");
        assert_eq!(customers(), json!(["x", "y", null]));
        file(&["null"]);
        let problem = fails(&binary);
        assert!(problem.contains("line 2: customer: this word"), "{problem}");

        // An import tells of nothing.
        let events = "select count(*) from events";
        assert_eq!(database.number(events).await, 0);
        // An export of before stays behind what was undone since; a link that is younger doesn't.
        let exported = binary.run(&["profile", "export"]).stdout;
        assert_eq!(binary.json(&["customer", "unlink", "x"])["unlinked"], 1);
        write(&binary, &exported);
        let undone = counted_with_links(0, 3, 0, [0, 1]);
        assert_eq!(import(&binary), undone);
        assert_eq!(customers(), json!([null, "y", null]));
        file(&["x"]);
        let again = counted_with_links(0, 1, 0, [1, 0]);
        assert_eq!(import_for_the_shop(&binary), again);
        assert_eq!(customers(), json!(["x", "y", null]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_there_with_other_values_is_an_error() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (binary, _database) = installation(backend).await;
        binary.json(&["client", "add", "app"]);
        let header = "sub,subn,client_id,created_at";
        write(
            &binary,
            &format!("{header}\n1,{SUBN},{SHOP},1700000000000\n"),
        );
        import(&binary);
        let other = SUBN.replace('9', "8");
        for (line, what) in [
            (
                format!("1,{other},{SHOP},1700000000000"),
                "with the subn 919108f7",
            ),
            (
                format!("1,{SUBN},app,1700000000000"),
                "with the client_id shop",
            ),
            (
                format!("1,{SUBN},{SHOP},1700000000001"),
                "with the created_at 2023-11-14T22:13:20.000Z",
            ),
        ] {
            write(
                &binary,
                &format!("{header}\n2,{},{SHOP},1700000000000\n{line}\n", subn(2)),
            );
            let ended = binary.failure(&["profile", "import", "guests.csv"]);
            assert!(
                ended.contains("line 3: guest 1 is there already"),
                "{ended}"
            );
            assert!(ended.contains(what), "{what}: {ended}");
            assert_eq!(profiles(&binary), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_guests_they_are_must_be_said() {
    let (binary, _database) = installation(Backend::Sqlite).await;
    let plain = ["profile", "import", "guests.csv"];
    for (file, what) in [
        (
            "",
            "the first line must name the columns sub, subn and created_at",
        ),
        ("1,2,3\n", "the first line must name the columns"),
        ("sub,subn,created_at\n", "--client"),
        (
            "sub,subn,client_id,created_at\n1,{},,1700000000000\n",
            "line 2: client_id is empty",
        ),
        (
            "sub,subn,client_id,created_at\n1,{},x,1700000000000\n",
            "there is no client x",
        ),
    ] {
        write(&binary, &file.replace("{}", SUBN));
        let problem = binary.failure(&plain);
        assert!(problem.contains(what), "{what}: {problem}");
    }
    let nobody = [&plain[..], &["--client", "nobody"]].concat();
    let problem = binary.failure(&nobody);
    assert!(problem.contains("guestpass client list"), "{problem}");
    assert_eq!(
        import_for_the_shop(&binary),
        counted(1, 0, 0),
        "--client says it of all"
    );
}

/// Returns the `subn` of the guest of that number.
fn subn(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn write(binary: &Binary, csv: &str) {
    std::fs::write(binary.working_dir().join("guests.csv"), csv).unwrap();
}

fn import(binary: &Binary) -> Value {
    binary.json(&["profile", "import", "guests.csv"])
}

fn import_for_the_shop(binary: &Binary) -> Value {
    binary.json(&["profile", "import", "guests.csv", "--client", SHOP])
}

fn fails(binary: &Binary) -> String {
    binary.failure(&["profile", "import", "guests.csv", "--client", SHOP])
}

fn counted(imported: u64, present: u64, erased: u64) -> Value {
    counted_with_links(imported, present, erased, [0, 0])
}

fn counted_with_links(imported: u64, present: u64, erased: u64, links: [u64; 2]) -> Value {
    let [linked, unlinked] = links;
    json!({
        "imported": imported, "present": present, "erased": erased, "inexact": 0,
        "linked": linked, "unlinked": unlinked,
    })
}

fn profiles(binary: &Binary) -> u64 {
    binary.json(&["db", "check"])["profiles"].as_u64().unwrap()
}
