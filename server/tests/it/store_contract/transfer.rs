//! Taking in what was kept elsewhere: [`guestpass::store::Transfer`].

use guestpass::store::transfer::{InstallationRow, Part, Row, Table, Value};
use guestpass_core::client::ClientNumber;
use guestpass_core::customer::Link;
use guestpass_core::profile::{Profile, ProfileId};
use guestpass_core::time::Timestamp;

use super::{NOW, Store, guest};

pub(super) async fn a_copy_begins_in_a_new_store_and_no_other(store: &Store) {
    let transfer = &store.transfer;
    let fresh = transfer.installation_row().await.unwrap();
    assert!(!fresh.unfinished_copy);
    assert!(transfer.begin_copy(installation(1)).await.unwrap());
    assert_eq!(
        transfer.installation_row().await.unwrap(),
        InstallationRow {
            unfinished_copy: true,
            ..installation(1)
        }
    );
    let later = InstallationRow {
        revision: 9,
        master_key_check: None,
        ..installation(1)
    };
    assert!(transfer.begin_copy(later).await.unwrap(), "it goes on");
    assert_eq!(transfer.installation_row().await.unwrap().revision, 9);
    assert!(!transfer.begin_copy(installation(2)).await.unwrap());
    assert_eq!(transfer.installation_row().await.unwrap().id, [1; 16]);

    assert!(transfer.finish_copy().await.unwrap());
    assert!(!transfer.finish_copy().await.unwrap(), "there is none");
    assert!(!transfer.begin_copy(installation(1)).await.unwrap());
    let finished = transfer.installation_row().await.unwrap();
    assert_eq!((finished.unfinished_copy, finished.revision), (false, 9));
}

pub(super) async fn an_unfinished_copy_is_given_no_keys(store: &Store) {
    let row = InstallationRow {
        master_key_check: None,
        ..installation(1)
    };
    assert!(store.transfer.begin_copy(row).await.unwrap());
    let made = store.registry.insert_first_keys([3; 32], Vec::new()).await;
    assert!(!made.unwrap());
    assert!(store.transfer.finish_copy().await.unwrap());
    let made = store.registry.insert_first_keys([3; 32], Vec::new()).await;
    assert!(made.unwrap());
}

pub(super) async fn every_table_is_read_as_it_was_written(store: &Store) {
    assert!(store.transfer.begin_copy(installation(1)).await.unwrap());
    for table in Table::ALL {
        let rows = sample(table);
        replace(store, table, None, None, &rows).await;
        for limit in 1..=rows.len() + 1 {
            assert_eq!(read(store, table, limit).await, rows, "{table:?}");
        }
        let count = store.transfer.count(table).await.unwrap();
        assert_eq!(count, rows.len() as u64, "{table:?}");
        let sql = format!("select * from {}", table.name());
        let stored = store.database.sql(&sql).await;
        let columns: Vec<_> = stored.iter().map(Vec::len).collect();
        assert_eq!(
            columns,
            vec![table.columns().len() + store.database.own_columns(table.name()); rows.len()],
            "every column of {table:?} is listed"
        );
    }
    // The other contracts read the same.
    let (_, clients) = store.registry.clients().await.unwrap();
    assert_eq!(clients.len(), 2);
    assert_eq!(store.registry.installation().await.unwrap().keys.len(), 2);
    let report = store.upkeep.check().await.unwrap();
    assert_eq!((report.profiles, report.grants), (3, 3));
}

pub(super) async fn a_part_takes_the_place_of_what_lies_between(store: &Store) {
    assert!(store.transfer.begin_copy(installation(1)).await.unwrap());
    let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(|number| tombstone(number, 0));
    let key = |row: &Row| Some(Table::Tombstones.key_of(row));
    let all = [&one, &two, &four, &five].map(Clone::clone);
    replace(store, Table::Tombstones, None, None, &all).await;

    let changed = tombstone(4, 9);
    let part = [three.clone(), changed.clone()];
    replace(store, Table::Tombstones, key(&one), key(&four), &part).await;
    let rows = vec![one.clone(), three.clone(), changed, five];
    assert_eq!(read(store, Table::Tombstones, 10).await, rows);

    replace(store, Table::Tombstones, key(&three), None, &[]).await;
    let rows = vec![one.clone(), three];
    assert_eq!(read(store, Table::Tombstones, 10).await, rows);
    replace(store, Table::Tombstones, None, key(&one), &[]).await;
    assert_eq!(read(store, Table::Tombstones, 10).await, rows[1..]);

    // A part that can't be written leaves what was there.
    let part = Part {
        table: Table::Tombstones,
        after: None,
        up_to: None,
        rows: vec![one.clone(), one],
    };
    assert!(store.transfer.replace(part).await.is_err());
    assert_eq!(read(store, Table::Tombstones, 10).await, rows[1..]);
}

pub(super) async fn a_finished_copy_is_left_alone(store: &Store) {
    let part = |rows: &[Row]| Part {
        table: Table::Tombstones,
        after: None,
        up_to: None,
        rows: rows.to_vec(),
    };
    let row = tombstone(1, 1);
    assert!(
        !store
            .transfer
            .replace(part(std::slice::from_ref(&row)))
            .await
            .unwrap()
    );
    assert_eq!(store.transfer.count(Table::Tombstones).await.unwrap(), 0);
    assert!(store.transfer.begin_copy(installation(1)).await.unwrap());
    assert!(store.transfer.replace(part(&[row])).await.unwrap());
    assert!(store.transfer.finish_copy().await.unwrap());
    assert!(!store.transfer.replace(part(&[])).await.unwrap());
    assert_eq!(store.transfer.count(Table::Tombstones).await.unwrap(), 1);

    // What has clients is somebody's, too.
    assert!(!store.transfer.begin_copy(installation(1)).await.unwrap());
}

pub(super) async fn guests_without_a_grant_are_added_once(store: &Store) {
    store.insert(&guest(1)).await;
    let known = guest(1).0;
    let new = Profile {
        id: ProfileId::from_i64(i64::MAX).unwrap(),
        created_at: Timestamp::from_millis(1),
        link: Some(Link {
            customer: "x".parse().unwrap(),
            at: NOW,
            by: None,
        }),
        version: 1,
        ..guest(2).0
    };
    let taken = Profile {
        client: ClientNumber(7),
        ..known.clone()
    };
    for _ in 0..2 {
        let profiles = vec![new.clone(), taken.clone()];
        store.transfer.insert_profiles(profiles).await.unwrap();
        let ids = vec![new.id, guest(3).0.id, known.id];
        let mut found = store.transfer.known_profiles(ids).await.unwrap();
        found.sort_by_key(|profile| profile.id);
        assert_eq!(found, [known.clone(), new.clone()]);
    }
    assert_eq!(store.counts().await, (2, 1));
    let none = store.transfer.insert_profiles(Vec::new()).await;
    assert!(none.is_ok());
}

pub(super) async fn an_issuer_takes_the_place_of_the_one_that_was_expected(store: &Store) {
    let keep = async |from: Option<&str>, to: &str| {
        let from = from.map(str::to_owned);
        store
            .transfer
            .keep_issuer(from, to.to_owned())
            .await
            .unwrap()
    };
    assert!(keep(None, "https://a.example").await);
    assert!(!keep(None, "https://b.example").await);
    assert!(!keep(Some("https://b.example"), "https://c.example").await);
    let kept = || async { store.transfer.installation_row().await.unwrap().issuer };
    assert_eq!(kept().await.unwrap(), "https://a.example");
    assert!(keep(Some("https://a.example"), "https://b.example").await);
    assert_eq!(kept().await.unwrap(), "https://b.example");
}

fn installation(id: u8) -> InstallationRow {
    InstallationRow {
        id: [id; 16],
        master_key_check: Some([id; 32]),
        revision: 5,
        next_client_number: 4,
        issuer: Some("https://id.example".to_owned()),
        unfinished_copy: false,
    }
}

async fn replace(
    store: &Store,
    table: Table,
    after: Option<Row>,
    up_to: Option<Row>,
    rows: &[Row],
) {
    let part = Part {
        table,
        after,
        up_to,
        rows: rows.to_vec(),
    };
    assert!(store.transfer.replace(part).await.unwrap(), "{table:?}");
}

/// All rows of a table, in parts.
async fn read(store: &Store, table: Table, limit: usize) -> Vec<Row> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let part = store.transfer.rows(table, after, limit).await.unwrap();
        assert!(part.len() <= limit);
        let Some(last) = part.last() else {
            return rows;
        };
        after = Some(table.key_of(last));
        rows.extend(part);
    }
}

/// Rows with everything and with as little as can be, in the order of their keys: that of bytes, whatever the language.
fn sample(table: Table) -> Vec<Row> {
    let now = NOW.as_millis();
    let key = |kid: &str, current: Value, retiring: Value| {
        let times = [int(now), int(now), current, retiring, int(86_400_000)];
        let names = [text(kid), text("access-token"), text("ES256")];
        [&names[..], &times, &[bytes(&[0, 255])]].concat()
    };
    let grant =
        |profile: i64, random: u8, strikes: i64, revoked: [Value; 2], copied: [Value; 3]| {
            let ids = [int(profile), bytes(&[random; 8]), int(1)];
            let hashes = [bytes(&[1; 16]), bytes(&[2; 32])];
            let numbers = [int(3), int(2), int(strikes)];
            let times = [int(now), int(now + 1), int(now + 2), int(i64::MAX)];
            [&ids[..], &hashes, &numbers, &times, &revoked, &copied].concat()
        };
    let nothing = || [Value::Null, Value::Null];
    let no_copy = || [Value::Null, Value::Null, Value::Null];
    match table {
        Table::Clients => vec![
            vec![int(1), text("Shop"), flag(true), flag(false), int(now)],
            vec![int(2), text("shop-2"), flag(false), flag(true), int(now)],
        ],
        Table::ClientChoices => vec![
            vec![int(1), text("Of_2030"), text("a b")],
            vec![int(1), text("origins"), text("https://a.example")],
            vec![int(2), text("grace"), text("30s")],
        ],
        Table::ApiKeys => vec![
            vec![
                int(2),
                text("B"),
                bytes(&[7; 32]),
                int(now),
                Value::Null,
                Value::Null,
            ],
            vec![int(2), text("a"), bytes(&[8; 32]), int(now), int(1), int(2)],
        ],
        Table::Keys => vec![
            key("Z", int(now), int(now)),
            key("a", Value::Null, Value::Null),
        ],
        Table::RevokedAccessTokens => vec![
            vec![bytes(&[1; 16]), int(now), int(now + 1)],
            vec![bytes(&[254; 16]), int(now), int(now + 1)],
        ],
        Table::Tombstones => vec![tombstone(1, 2), tombstone(200, 1)],
        Table::JournalMarks => vec![vec![bytes(&[1; 16]), text("node-ä"), int(1), int(now)]],
        Table::Profiles => profiles(),
        Table::Events => events(),
        Table::Grants => vec![
            grant(1, 0, 0, nothing(), no_copy()),
            grant(
                1,
                255,
                255,
                [int(now), text("contested")],
                [int(2), Value::Null, text(r#"{"a":1}"#)],
            ),
            grant(
                i64::MAX,
                0,
                5,
                nothing(),
                [int(1), text("c-4711"), Value::Null],
            ),
        ],
    }
}

fn profiles() -> Vec<Row> {
    let now = NOW.as_millis();
    let nothing = [const { Value::Null }; 6];
    let attributes = text(r#"{"a":"x"}"#);
    let link = [
        text("c-4711"),
        int(now),
        int(2),
        attributes,
        int(1),
        Value::Null,
    ];
    let imported = [
        text("C"),
        int(0),
        Value::Null,
        Value::Null,
        int(i64::MAX),
        int(now),
    ];
    let guest = |id: i64, link: &[Value]| {
        let guest = [int(id), bytes(&[9; 16]), int(1), int(now)];
        [&guest[..], link].concat()
    };
    vec![
        guest(1, &nothing),
        guest(2, &link),
        guest(i64::MAX, &imported),
    ]
}

/// Events of every state: waiting, delivered, dead.
fn events() -> Vec<Row> {
    let now = NOW.as_millis();
    let event = |id: u8, kind: &str, about: [Value; 4], delivery: [Value; 3]| {
        let key = [
            int(1),
            bytes(&[id; 16]),
            text(kind),
            int(now),
            bytes(&[9; 16]),
        ];
        [&key[..], &about, &delivery].concat()
    };
    let link = [text("c-4711"), int(2), Value::Null, Value::Null];
    let grant = [Value::Null, int(2), bytes(&[255; 8]), text("contested")];
    let erasure = [text("C"), Value::Null, Value::Null, text("guest")];
    vec![
        event(0, "guest.linked", link, [int(0), int(now), Value::Null]),
        event(1, "grant.ended", grant, [int(0), Value::Null, int(now)]),
        event(
            255,
            "guest.erased",
            erasure,
            [int(74), Value::Null, Value::Null],
        ),
    ]
}

fn tombstone(hash: u8, at: i64) -> Row {
    vec![bytes(&[hash; 16]), int(at)]
}

fn int(number: i64) -> Value {
    Value::Integer(number)
}

fn flag(flag: bool) -> Value {
    Value::Flag(flag)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}
