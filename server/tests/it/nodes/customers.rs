//! A drill: guests become customers on two nodes, one of which dies again and again, while the shop's receiver is down for a
//! third of the time, and some customers ask to be forgotten. Afterwards the rows, the tokens, introspection and what the receiver was
//! told agree exactly, and who was erased is nowhere but in a tombstone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use tokio::runtime::Runtime;

use super::clients::Client;
use super::installation::{Installation, Node};
use crate::support::binary::{Binary, eventually};
use crate::support::receiver::{Answers, Hook, Received};
use crate::support::{Sent, Tokens, authorize, exchange, introspect, link, refresh, thorough};

const BACK_END: &str = "back-end";
const APP: &str = "app";

/// Guests, customers and erased customers of a full run; otherwise a tenth of each.
const GUESTS: usize = 10_000;
const CUSTOMERS: usize = 4_000;
const ERASED: usize = 500;
const WORKERS: usize = 4;

/// A guest who was linked, with its newest tokens.
struct Linked {
    tokens: Tokens,
    customer: String,
}

struct Drill {
    installation: Installation,
    /// The tasks of the receiver.
    _runtime: Runtime,
    hook: Hook,
    nodes: [Mutex<Option<Node>>; 2],
    addresses: [SocketAddr; 2],
    api_key: String,
    done: AtomicUsize,
}

#[test]
fn what_nodes_have_said_of_customers_agrees_after_they_have_died() {
    let drill = Drill::start();
    let (guests, customers, erased) = (thorough(GUESTS), thorough(CUSTOMERS), thorough(ERASED));
    let linked = drill.link_guests(guests, customers);
    assert_eq!(linked.len(), guests);
    let erased: BTreeSet<String> = (0..erased).map(customer).collect();
    let linked = drill.erase(linked, &erased);
    drill.settle();
    let told = drill.told();
    let (gone, left): (Vec<_>, Vec<_>) = linked
        .into_iter()
        .partition(|guest| erased.contains(&guest.customer));
    drill.rows_agree(&left, &gone);
    drill.receiver_agrees(&told, &left, &gone);
    drill.clients_agree(&left, &gone);
}

fn customer(number: usize) -> String {
    format!("customer-{number}")
}

impl Drill {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let hook = runtime.block_on(Hook::start());
        let installation = Installation::new();
        let configured = |name: &str| {
            let mut binary = installation.node(name);
            for (name, value) in hook.settings() {
                let variable = name.to_ascii_uppercase().replace('.', "__");
                binary.set_variable(&format!("GUESTPASS_{variable}"), &value);
            }
            binary
        };
        let operator = installation.node("operator");
        operator.json(&["client", "add", APP, "--claims", "customer"]);
        let added = operator.json(&["client", "add", BACK_END, "--confidential"]);
        let claims = ["--may", "link", "--claims", "customer"];
        operator.json(&[&["client", "set", BACK_END][..], &claims].concat());
        let started = ["one", "two"].map(|name| {
            let mut node = Node::start(configured(name));
            let address = node.server.address;
            // It comes back where it was.
            node.binary.listen_at(&address.to_string());
            (address, Mutex::new(Some(node)))
        });
        let [(first, one), (second, two)] = started;
        Self {
            installation,
            _runtime: runtime,
            hook,
            nodes: [one, two],
            addresses: [first, second],
            api_key: added["api_key"].as_str().unwrap().to_owned(),
            done: AtomicUsize::new(0),
        }
    }

    /// Kills a node and starts it again.
    fn kill(&self, node: usize) {
        let mut slot = self.nodes[node].lock().unwrap();
        let Node { server, binary } = slot.take().unwrap();
        server.kill();
        *slot = Some(Node::start(binary));
    }

    fn by_back_end(&self, request: Sent) -> Sent {
        request
            .set("client_id", BACK_END)
            .header("x-api-key", &self.api_key)
    }

    /// Waits until so many operations are done.
    fn wait_for(&self, done: usize) {
        eventually("the load goes on", || {
            self.done.load(Ordering::SeqCst) >= done
        });
    }

    /// Signs guests up and links each of them, while a node dies three times and the receiver is down for the middle third.
    fn link_guests(&self, guests: usize, customers: usize) -> Vec<Linked> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    scope.spawn(move || {
                        let mut client = Client::new(&self.addresses, worker);
                        let numbers = (worker..guests).step_by(WORKERS);
                        numbers
                            .map(|number| self.linked(&mut client, customer(number % customers)))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            for sixth in 1..6 {
                self.wait_for(guests * sixth / 6);
                match sixth {
                    2 => self.hook.always(Some(Answers::Close)),
                    4 => self.hook.always(None),
                    odd => self.kill(odd / 2 % 2),
                }
            }
            let workers = workers.into_iter();
            workers.flat_map(|worker| worker.join().unwrap()).collect()
        })
    }

    /// Takes a guest through authorize and exchange, has it linked, and refreshes its token, which says so.
    fn linked(&self, client: &mut Client, customer: String) -> Linked {
        let of_app = |request: Sent| request.set("client_id", APP);
        let tokens = loop {
            let code = client.insist(&of_app(authorize())).text("code");
            let answer = client.insist(&of_app(exchange(&code)));
            // If the answer was lost, the code is used up, and the client authorizes anew.
            if answer.status == StatusCode::OK {
                break answer.tokens();
            }
        };
        let request = self.by_back_end(link(&tokens.access_token, &customer));
        let answer = client.insist(&request);
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let tokens = client
            .insist(&of_app(refresh(&tokens.refresh_token)))
            .tokens();
        assert_eq!(tokens.claims["customer"], *customer);
        self.done.fetch_add(1, Ordering::SeqCst);
        Linked { tokens, customer }
    }

    /// Erases customers with the command line, while all guests go on refreshing and a node dies twice.
    fn erase(&self, linked: Vec<Linked>, erased: &BTreeSet<String>) -> Vec<Linked> {
        let guests = linked.len();
        self.done.store(0, Ordering::SeqCst);
        let mut shares: Vec<Vec<Linked>> = (0..WORKERS).map(|_| Vec::new()).collect();
        for (number, guest) in linked.into_iter().enumerate() {
            shares[number % WORKERS].push(guest);
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = shares
                .into_iter()
                .enumerate()
                .map(|(worker, share)| scope.spawn(move || self.refreshed(worker, share, erased)))
                .collect();
            let operator = self.operator();
            let erasing = scope.spawn(move || {
                for customer in erased {
                    operator.json(&["customer", "erase", customer]);
                }
            });
            for third in 1..3 {
                self.wait_for(guests * third / 3);
                self.kill(1);
            }
            erasing.join().unwrap();
            let workers = workers.into_iter();
            workers.flat_map(|worker| worker.join().unwrap()).collect()
        })
    }

    /// Configures a command that erases beside the first node: with its configuration, and its journal.
    fn operator(&self) -> Binary {
        let slot = self.nodes[0].lock().unwrap();
        let node = slot.as_ref().unwrap();
        let mut operator = self.installation.node("one");
        let journal = node.binary.data_dir().join("guestpass.journal");
        operator.set_variable("GUESTPASS_JOURNAL", &journal.display().to_string());
        operator
    }

    fn refreshed(
        &self,
        worker: usize,
        share: Vec<Linked>,
        erased: &BTreeSet<String>,
    ) -> Vec<Linked> {
        let mut client = Client::new(&self.addresses, worker);
        let mut refresh_one = |guest: Linked| {
            let request = refresh(&guest.tokens.refresh_token).set("client_id", APP);
            let answer = client.insist(&request);
            self.done.fetch_add(1, Ordering::SeqCst);
            let tokens = match answer.status {
                StatusCode::OK => answer.tokens(),
                _ => {
                    assert!(erased.contains(&guest.customer), "{answer:?}");
                    guest.tokens
                }
            };
            Linked { tokens, ..guest }
        };
        share.into_iter().map(&mut refresh_one).collect()
    }

    /// Moves the clock on, as the database knows it, until nothing waits for the receiver.
    fn settle(&self) {
        self.installation.sql("update leases set until = 0");
        eventually("all events are delivered", || {
            self.installation
                .sql("update events set next_at = 0 where next_at is not null");
            let waiting = "select count(*) from events where next_at is not null";
            self.installation.number(waiting) == 0
        });
    }

    /// Returns what the receiver was told, each event once.
    fn told(&self) -> BTreeMap<String, Received> {
        let received = self.hook.taken();
        received
            .into_iter()
            .map(|one| (one.id().to_owned(), one))
            .collect()
    }

    fn rows_agree(&self, left: &[Linked], gone: &[Linked]) {
        let expected: BTreeMap<_, _> = left
            .iter()
            .map(|guest| (guest.tokens.sub().to_owned(), guest.customer.clone()))
            .collect();
        let pairs = |sql: &str| -> BTreeMap<String, String> {
            let rows = self.installation.sql(sql).into_iter();
            rows.map(|mut row| (row.remove(0).unwrap(), row.remove(0).unwrap()))
                .collect()
        };
        let profiles = "select profile_id, customer from profiles where customer is not null";
        assert_eq!(pairs(profiles), expected);
        let grants = "select profile_id, customer from grants where customer is not null";
        assert_eq!(pairs(grants), expected);
        for table in ["profiles", "grants", "events"] {
            let subs: Vec<_> = gone.iter().map(|guest| guest.tokens.sub()).collect();
            let sql = format!(
                "select count(*) from {table} where profile_id in ({})",
                subs.join(", ")
            );
            assert_eq!(self.installation.number(&sql), 0, "{table}");
        }
        let tombstones = self.installation.number("select count(*) from tombstones");
        assert_eq!(usize::try_from(tombstones).unwrap(), gone.len());
        let not_delivered = "select count(*) from events where delivered_at is null";
        assert_eq!(self.installation.number(not_delivered), 0);
    }

    fn receiver_agrees(&self, told: &BTreeMap<String, Received>, left: &[Linked], gone: &[Linked]) {
        let mut of_type: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        for received in told.values() {
            let message = received.json();
            let data = |name: &str| {
                message["data"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            let what = message["type"].as_str().unwrap().to_owned();
            if what == "grant.ended" {
                ended.insert(data("sid"));
            } else {
                // Once each.
                let is_new = of_type
                    .entry(what)
                    .or_default()
                    .insert((data("sub"), data("customer")));
                assert!(is_new, "{received:?}");
            }
        }
        let pairs = |guests: &[Linked]| -> BTreeSet<_> {
            guests
                .iter()
                .map(|guest| (guest.tokens.sub().to_owned(), guest.customer.clone()))
                .collect()
        };
        let (left, gone) = (pairs(left), pairs(gone));
        assert_eq!(of_type["guest.erased"], gone);
        // Of some who are gone, the receiver was not told before that they were linked.
        let linked = &of_type["guest.linked"];
        assert!(linked.is_superset(&left));
        assert!(linked.difference(&left).all(|guest| gone.contains(guest)));
        assert_eq!(of_type.len(), 2, "{:?}", of_type.keys());
        let revoked = "select count(*) from grants where revoked_at is not null";
        let revoked = self.installation.number(revoked);
        assert_eq!(usize::try_from(revoked).unwrap(), ended.len());
    }

    fn clients_agree(&self, left: &[Linked], gone: &[Linked]) {
        let mut client = Client::new(&self.addresses, 0);
        for guest in left {
            let told = client
                .insist(&self.by_back_end(introspect(&guest.tokens.access_token)))
                .json();
            assert_eq!(
                (&told["active"], &told["customer"]),
                (&true.into(), &(*guest.customer).into())
            );
            let request = refresh(&guest.tokens.refresh_token).set("client_id", APP);
            let next = client.insist(&request).tokens();
            assert_eq!(
                (next.sub(), &next.claims["customer"]),
                (guest.tokens.sub(), &(*guest.customer).into())
            );
        }
        for guest in gone {
            let told = client
                .insist(&self.by_back_end(introspect(&guest.tokens.access_token)))
                .json();
            assert_eq!(told["active"], false);
            let request = refresh(&guest.tokens.refresh_token).set("client_id", APP);
            assert_eq!(client.insist(&request).error(), "invalid_grant");
        }
    }
}
