//! `guestpass db copy`: an embedded installation moves to PostgreSQL.

use std::path::PathBuf;

use axum::http::StatusCode;
use guestpass::store::transfer::Table;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::binary::{Binary, Running, Server};
use crate::support::{
    Backend, Database, SHOP, SeededRandom, Tokens, authorize, exchange, introspect, refresh,
    revoke, verify,
};

const BACKEND: &str = "backend";

/// An embedded installation that is about to move, and where to.
struct Moving {
    binary: Binary,
    target: Database,
    api_key: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_twice_loses_and_doubles_nothing() {
    let moving = Moving::prepared().await;
    let server = moving.binary.serve();
    let known = Known::on(&server);
    assert!(server.stop().success());
    moving.add_guests(guests());

    // The guest in the middle can't be written, so the kill comes between the first and the last.
    let held = moving.hold_profile().await;
    let copying = moving.start();
    copying.says("guestpass: copied profiles: ");
    let problem = moving.binary.failure(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(problem.contains("which copies it"), "{problem}");
    copying.kill();
    drop(held);
    moving.is_not_served().await;

    // What happens on the source before the copy goes on is copied too.
    let server = moving.binary.serve();
    let known = known.later(&server, &moving.binary);
    assert!(server.stop().success());

    let held = moving.hold_grant().await;
    let copying = moving.start();
    copying.says("guestpass: copied grants: ");
    copying.kill();
    drop(held);
    moving.is_not_served().await;

    let copied = moving.copy();
    assert_eq!(copied["copied"], true);
    for (table, told) in Table::ALL.iter().zip(copied["tables"].as_array().unwrap()) {
        let count = format!("select count(*) from {}", table.name());
        let rows = moving.source(&count);
        assert_eq!(
            (&told["table"], told["rows"].as_i64()),
            (&table.name().into(), Some(rows))
        );
        assert_eq!(moving.target.number(&count).await, rows, "{}", table.name());
    }

    let server = moving.serve_target();
    let known = known.still_served(&server, &moving.api_key);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    // Nothing of what happens on the target is ever overwritten.
    let again = moving.copy();
    assert_eq!(
        (&again["copied"], &again["tables"]),
        (&json!(false), &json!([]))
    );
    known.still_served(&server, &moving.api_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn c220_links_attributes_and_events_move_and_a_cursor_goes_on() {
    let moving = Moving::prepared().await;
    assert!(moving.binary.serve().stop().success());
    moving.add_guests(60);
    moving
        .connect()
        .execute_batch(
            r#"update profiles set attributes = '{"n":1}', version = 2, seen_at = created_at where profile_id % 4 = 0;
               insert into events (profile_id, event_id, type, at, network_id, customer, client_number, reason, attempts,
                                   next_at, delivered_at)
               select profile_id, randomblob(16), 'guest.linked', created_at / 10, network_id, customer, 1, null,
                      profile_id % 3, case when profile_id % 3 = 0 then created_at end,
                      case when profile_id % 3 = 1 then created_at end
                 from profiles"#,
        )
        .unwrap();
    let events = |config: &[&str], more: &[&str]| {
        let words = ["--json", "events", "--limit", "25"];
        let words = [&words[..], config, more].concat();
        moving.binary.run(&words).json()
    };
    let first = events(&[], &[]);
    let after = first["after"].as_str().unwrap();
    let expected = events(&[], &["--after", after]);
    assert_eq!(expected["events"].as_array().unwrap().len(), 25);
    let states: std::collections::BTreeSet<_> = expected["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["delivery"]["state"].as_str().unwrap())
        .collect();
    assert_eq!(Vec::from_iter(states), ["dead", "delivered", "waiting"]);

    assert_eq!(moving.copy()["copied"], true);
    let target = ["--config", "node.toml"];
    assert_eq!(events(&target, &["--after", after]), expected);
    // Row by row is compared by the copy itself.
    assert_eq!(
        moving.target.number("select count(*) from events").await,
        60
    );
    let told = "select count(*) from profiles where attributes is not null and version = 2 and seen_at = created_at";
    assert_eq!(moving.target.number(told).await, moving.source(told));
    assert!(moving.source(told) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_the_same_is_not_finished() {
    let moving = Moving::prepared().await;
    moving.binary.serve().guest();
    moving.add_guests(20);
    for (body, row) in [
        (
            "if new.profile_id = 8 then new.strikes = 1; end if; return new;",
            "profile_id 8,",
        ),
        (
            "if new.profile_id = 6 then return null; end if; return new;",
            "profile_id 6,",
        ),
    ] {
        let alter = format!(
            "create or replace function altered() returns trigger language plpgsql as $$ begin {body} end $$;
             create or replace trigger altered before insert on grants for each row execute function altered()"
        );
        moving.target.sql(&alter).await;
        let problem = moving.fails();
        for named in ["not the same", "grants", row] {
            assert!(problem.contains(named), "{named}: {problem}");
        }
        moving.is_not_served().await;
    }
    moving.target.sql("drop trigger altered on grants").await;
    assert_eq!(moving.copy()["copied"], true, "it is put right");
    let strikes = "select strikes from grants where profile_id = 8";
    assert_eq!(moving.target.number(strikes).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_needs_a_source_at_rest_and_a_target_of_its_own() {
    let moving = Moving::prepared().await;
    let problem = moving.fails();
    assert!(problem.contains("no keys yet"), "{problem}");
    let server = moving.binary.serve();
    let problem = moving.fails();
    let named = format!("process {} on http://", server.process_id());
    assert!(problem.contains(&named), "{problem}");
    assert!(server.stop().success());

    let key = moving.binary.data_dir().join("master.key");
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n").unwrap();
    let problem = moving.fails();
    assert!(problem.contains("master.key"), "{problem}");
    std::fs::write(&key, right).unwrap();
    let begun = moving
        .target
        .column("select unfinished_copy from installation");
    assert_eq!(begun.await, ["f"], "nothing was written");

    assert_eq!(moving.copy()["copied"], true);
    let other = Moving {
        target: moving.target.clone(),
        ..Moving::prepared().await
    };
    assert!(other.binary.serve().stop().success());
    for unfinished in [false, true] {
        let set = format!("update installation set unfinished_copy = {unfinished}");
        moving.target.sql(&set).await;
        let problem = other.fails();
        assert!(problem.contains("another installation"), "{problem}");
    }
    let clients = moving.target.number("select count(*) from clients").await;
    assert_eq!(clients, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lacks_what_its_journal_says_is_not_copied() {
    let moving = Moving::prepared().await;
    let server = moving.binary.serve();
    let guest = server.guest();
    let backup = moving.binary.working_dir().join("backup.db");
    let sql = format!("vacuum into '{}'", backup.display());
    moving.connect().execute_batch(&sql).unwrap();
    assert_eq!(
        server.send(&revoke(&guest.refresh_token)).status,
        StatusCode::OK
    );
    assert!(server.stop().success());
    let file = moving.file();
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
    }
    std::fs::rename(&backup, &file).unwrap();
    moving
        .connect()
        .pragma_update(None, "journal_mode", "wal")
        .unwrap();
    let problem = moving.fails();
    assert!(problem.contains("guestpass serve"), "{problem}");
    assert!(moving.binary.serve().stop().success());
    assert_eq!(moving.copy()["copied"], true);
    let server = moving.serve_target();
    let refused = server.send(&refresh(&guest.refresh_token));
    assert_eq!(refused.error(), "invalid_grant");
}

#[test]
fn only_an_embedded_database_is_copied_and_only_to_postgresql() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let problem = binary.failure(&["db", "copy", "--to", "sqlite:other.db"]);
    assert!(problem.contains("--to"), "{problem}");
    let mut binary = Binary::new();
    binary.set_variable("GUESTPASS_DATABASE", "postgres://guestpass@127.0.0.1:1/x");
    let problem = binary.failure(&["db", "copy", "--to", "postgres://guestpass@127.0.0.1:1/y"]);
    assert!(problem.contains("in PostgreSQL already"), "{problem}");
}

impl Moving {
    async fn prepared() -> Self {
        let mut binary = Binary::new();
        // Codes and access tokens outlive the move.
        binary.set_variable("GUESTPASS_TOKENS__CODE_TTL", "10m");
        binary.set_variable("GUESTPASS_ISSUER", "https://id.example");
        binary.json(&["client", "add", SHOP]);
        let added = binary.json(&["client", "add", BACKEND, "--confidential"]);
        let target = Database::new(Backend::Postgres, &SeededRandom::new()).await;
        let config = format!("database = \"{}\"\n", target.url());
        std::fs::write(binary.working_dir().join("node.toml"), config).unwrap();
        Self {
            binary,
            target,
            api_key: added["api_key"].as_str().unwrap().to_owned(),
        }
    }

    /// Guests with a grant each, as if a server had made them: far apart, before and behind those of this year.
    fn add_guests(&self, number: u32) {
        let sql = format!(
            "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {number})
             insert into profiles (profile_id, network_id, client_number, created_at, customer, linked_at, linked_by, version)
             select n % 2 * 9000000000000000000 + n, randomblob(16), 1, 1763750000000 + n,
                    case when n % 3 = 0 then 'c-' || n end, case when n % 3 = 0 then n end,
                    case when n % 6 = 0 then 1 end, case when n % 3 = 0 then 1 end
               from numbers;
             insert into grants (profile_id, grant_id, client_number, network_id, challenge, generation, proven, strikes,
                                 issued_at, advanced_at, expires_at, ends_at, revoked_at, revocation_reason)
             select profile_id, randomblob(8), 1, network_id, randomblob(32), profile_id % 5, 0, 0, created_at,
                    created_at, 1863750000000, 1963750000000,
                    case when profile_id % 10 = 0 then created_at end,
                    case when profile_id % 10 = 0 then 'contested' end
               from profiles where profile_id not in (select profile_id from grants)"
        );
        self.connect().execute_batch(&sql).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.binary.data_dir().join("guestpass.db")
    }

    fn connect(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    /// A number that the source knows.
    fn source(&self, sql: &str) -> i64 {
        self.connect().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Makes the copy stop in the middle of the guests, until this is dropped.
    async fn hold_profile(&self) -> Box<dyn std::any::Any + Send> {
        let id = self.in_the_middle_of("profiles");
        let sql = format!("insert into profiles values ({id}, '', 1, 1)");
        self.target.hold(&sql).await
    }

    /// The same in the middle of the grants. The copy wants to write a row with that key, and has to wait.
    async fn hold_grant(&self) -> Box<dyn std::any::Any + Send> {
        let id = self.in_the_middle_of("grants");
        let sql = format!("select hex(grant_id) from grants where profile_id = {id}");
        let random: String = self
            .connect()
            .query_row(&sql, [], |row| row.get(0))
            .unwrap();
        let sql = format!(
            "insert into grants values ({id}, '\\x{random}', 1, '', '', 0, 0, 0, 1, 1, 1, 1, null, null)"
        );
        self.target.hold(&sql).await
    }

    fn in_the_middle_of(&self, table: &str) -> i64 {
        let count = self.source(&format!("select count(*) from {table}"));
        let sql = format!(
            "select profile_id from {table} order by profile_id limit 1 offset {}",
            count / 2
        );
        self.source(&sql)
    }

    fn start(&self) -> Running {
        self.binary
            .start(&["db", "copy", "--to", &self.target.url()])
    }

    fn copy(&self) -> Value {
        self.binary
            .json(&["db", "copy", "--to", &self.target.url()])
    }

    fn fails(&self) -> String {
        let args = ["db", "copy", "--to", &self.target.url()];
        let ended = self.binary.run(&args);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(1), ""),
            "{ended:?}"
        );
        ended.stderr
    }

    fn serve_target(&self) -> Server {
        self.binary.serve_with(&["--config", "node.toml"])
    }

    async fn is_not_served(&self) {
        let unfinished = self
            .target
            .column("select unfinished_copy from installation");
        assert_eq!(unfinished.await, ["t"]);
        for command in [&["serve"][..], &["client", "list"], &["db", "migrate"]] {
            let args = [&["--config", "node.toml"], command].concat();
            let problem = self.binary.failure(&args);
            assert!(
                problem.contains("guestpass db copy --to postgres://"),
                "{problem}"
            );
        }
    }
}

/// Holds what clients know of guests that a real server has served.
struct Known {
    alive: Vec<Tokens>,
    code: String,
    /// Tokens that have ended, each for a reason of its own.
    ended: Vec<String>,
    revoked_access_token: Tokens,
}

impl Known {
    fn on(server: &Server) -> Self {
        let alive: Vec<_> = (0..10).map(|_| server.guest()).collect();
        let [revoked, revoked_access_token] = [0, 1].map(|_| server.guest());
        for token in [&revoked.refresh_token, &revoked_access_token.access_token] {
            assert_eq!(server.send(&revoke(token)).status, StatusCode::OK);
        }
        Self {
            alive,
            code: server.send(&authorize()).text("code"),
            ended: vec![revoked.refresh_token],
            revoked_access_token,
        }
    }

    /// Some more: a refresh, a new guest, an erased one, and one that is new and then erased.
    fn later(mut self, server: &Server, binary: &Binary) -> Self {
        let refreshed = server.send(&refresh(&self.alive[0].refresh_token)).tokens();
        self.alive[0] = refreshed;
        self.alive.push(server.guest());
        for erased in [self.alive.remove(1), server.guest()] {
            binary.json(&["profile", "erase", erased.sub()]);
            self.ended.push(erased.refresh_token);
        }
        self
    }

    /// Checks that all of it is as it was, and answers what the clients know then.
    fn still_served(mut self, server: &Server, api_key: &str) -> Self {
        for guest in &mut self.alive {
            assert_eq!(
                server.send(&verify(&guest.access_token)).status,
                StatusCode::OK
            );
            let tokens = server.send(&refresh(&guest.refresh_token)).tokens();
            for claim in ["sub", "subn", "sid"] {
                assert_eq!(tokens.claims[claim], guest.claims[claim]);
            }
            *guest = tokens;
        }
        if !self.code.is_empty() {
            let tokens = server
                .send(&exchange(&std::mem::take(&mut self.code)))
                .tokens();
            self.alive.push(tokens);
        }
        for ended in &self.ended {
            assert_eq!(server.send(&refresh(ended)).error(), "invalid_grant");
        }
        let revoked = &self.revoked_access_token;
        let refused = server.send(&verify(&revoked.access_token));
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        server.send(&refresh(&revoked.refresh_token)).tokens();
        let asked = introspect("made up").set("client_id", BACKEND);
        let told = server.send(&asked.header("x-api-key", api_key));
        assert_eq!(told.json(), json!({"active": false}));
        self
    }
}

/// Three thousand, or as many as the environment asks for.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how thorough this run is, which is nothing of the program's"
)]
fn guests() -> u32 {
    match std::env::var("GUESTPASS_TEST_GUESTS") {
        Ok(guests) => guests.parse().expect("GUESTPASS_TEST_GUESTS is a number"),
        Err(_) => 3_000,
    }
}
