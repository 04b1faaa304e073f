//! Guests of another system, as a file.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;

use guestpass::cli::Failure;
use guestpass::cli::import::{Erased, GuestFile, HEADER, Import, line_of};
use guestpass::config::Config;
use guestpass::keys::{KeyRing, Keys, MasterKey, MasterKeySource};
use guestpass::random::{Random, SecureGenerator};
use guestpass::store::sqlite::{SqliteStore, Synchronous};
use guestpass::store::{Store, Tombstone, Write};
use guestpass_core::client::{Change, Client, ClientNumber, ClientSettings};
use guestpass_core::profile::{NetworkId, Profile};
use guestpass_core::time::Timestamp;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Checks a file that is to be imported where one guest is known and another was erased, with `--client` and without.
pub fn import(data: &[u8]) {
    thread_local!(static INSTALLATION: Installation = Installation::new());
    INSTALLATION.with(|installation| {
        for client in [None, Some(installation.known.client)] {
            installation
                .runtime
                .block_on(installation.check(data, client));
        }
    });
}

/// A store that is only read.
struct Installation {
    runtime: Arc<Runtime>,
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    clients: Vec<Client>,
    known: Profile,
    erased: Profile,
    _directory: TempDir,
}

impl Installation {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = Arc::new(runtime.expect("a runtime needs nothing"));
        runtime.block_on(Self::with_guests(Arc::clone(&runtime)))
    }

    async fn with_guests(runtime: Arc<Runtime>) -> Self {
        let directory = TempDir::new().expect("there is room");
        let file = directory.path().join("guestpass.db");
        let random: Arc<dyn Random> = Arc::new(SecureGenerator::new());
        SqliteStore::migrate(&file, &*random).expect("there is room");
        let store = SqliteStore::open(&file, Synchronous::Off).expect("there is room");
        let store: Arc<dyn Store> = Arc::new(store);
        let change = Change::AddClient {
            id: "shop".parse().expect("this is an id"),
            settings: ClientSettings::default(),
            api_key: None,
            now: NOW,
        };
        let added = store.change(change).await;
        added.expect("there is no other client");
        let source = MasterKeySource {
            present: None,
            make: &|| Ok(MasterKey::generate(&*random)),
        };
        let config = Config::from_sources(&[], Vec::new(), None).expect("the defaults are good");
        let keys = KeyRing::load(store.clone(), source, random.clone(), config.schedule, NOW);
        let keys = keys.await.expect("the installation is new");
        let keys = Arc::clone(&keys.now());
        let (_, clients) = store.clients().await.expect("the store answers");
        let guest = |id: &str, subn| {
            Profile::new(
                id.parse().expect("this is a sub"),
                NetworkId::from_bytes([subn; 16]),
                clients[0].number,
                Timestamp::from_millis(1_769_860_800_000),
            )
        };
        let (known, erased) = (guest("1", 0x11), guest("2", 0x22));
        let guests = vec![known.clone(), erased.clone()];
        let inserted = store.insert_profiles(guests).await;
        inserted.expect("the store answers");
        let (hash, at) = (keys.tombstone(erased.id), NOW);
        let erasure = Write::EraseGuest(erased.id, Tombstone { hash, at }, None);
        store.write(erasure).await.expect("the store answers");
        Self {
            runtime,
            store,
            keys,
            clients,
            known,
            erased,
            _directory: directory,
        }
    }

    async fn check(&self, data: &[u8], client: Option<ClientNumber>) {
        let erased = Erased {
            hashes: HashMap::from([(self.keys.tombstone(self.erased.id), NOW)]),
            keys: Arc::clone(&self.keys),
        };
        let import = Import {
            file: self.file(data, client),
            store: &*self.store,
            erased: Some(erased),
        };
        let counted = match import.check().await {
            Ok(counted) => counted,
            Err(Failure(problem)) => {
                assert!(problem.starts_with("guests.csv: "), "{problem}");
                assert!(problem.lines().count() <= 22, "{problem}");
                let controls = |c: char| c.is_control() && c != '\n';
                assert!(!problem.contains(controls), "{problem:?}");
                return;
            }
        };
        let guests = guests_of(&import.file);
        let all = counted.new.len() as u64 + counted.present + counted.erased;
        assert_eq!(all, guests.len() as u64, "{guests:?}");
        let subs: HashSet<_> = guests.iter().map(|guest| guest.id).collect();
        let subns: HashSet<_> = guests.iter().map(|guest| guest.network_id).collect();
        assert_eq!((guests.len(), guests.len()), (subs.len(), subns.len()));
        for guest in &guests {
            let is_old = guest.id == self.known.id || guest.id == self.erased.id;
            assert_ne!(counted.new.contains(&guest.id), is_old, "{guest:?}");
            let unlinked = Profile {
                link: None,
                seen_at: self.known.seen_at,
                ..guest.clone()
            };
            let differs = guest.id == self.known.id && unlinked != self.known;
            assert!(!differs, "{guest:?} was known otherwise");
            assert!(guest.created_at <= NOW, "{guest:?} is still to come");
            assert!(guest.seen_at <= Some(NOW), "{guest:?} was seen later");
            assert!(client.is_none_or(|client| guest.client == client));
            let takes = guest.network_id == self.known.network_id && guest.id != self.known.id;
            let is_added = counted.new.contains(&guest.id);
            assert!(!(takes && is_added), "{guest:?} takes a subn");
        }
        // An export can be imported.
        let mut exported = HEADER.to_owned();
        for guest in &guests {
            exported.push('\n');
            exported.push_str(&line_of(guest, "shop"));
        }
        assert_eq!(guests, guests_of(&self.file(exported.as_bytes(), None)));
    }

    fn file(&self, data: &[u8], client: Option<ClientNumber>) -> GuestFile {
        let mut file = tempfile::tempfile().expect("there is room");
        file.write_all(data).expect("there is room");
        GuestFile::new(
            "guests.csv".to_owned(),
            file,
            self.clients.clone(),
            client,
            NOW,
        )
    }
}

fn guests_of(file: &GuestFile) -> Vec<Profile> {
    let lines = file.lines().expect("what was accepted can be read");
    lines
        .map(|line| {
            let line = line.expect("what was accepted can be read");
            line.expect("what was accepted is a guest").profile
        })
        .collect()
}

/// 2027.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
