//! A first start makes the database, the master key and the journal. Whichever call of it fails, the next start makes up for
//! it.

use super::every;
use crate::support::SHOP;
use crate::support::binary::Binary;
use crate::support::faults::{Call, Errno, Faults};

#[test]
fn f06_to_f09_each_call_of_a_first_start_may_fail() {
    let (binary, faults) = on_a_new_disk();
    assert!(binary.serve().stop().success());
    let calls = Call::ALL.map(|call| (call, faults.counted(call)));
    let all: Vec<_> = calls
        .into_iter()
        .flat_map(|(call, calls)| (1..=calls).map(move |nth| (call, nth)))
        .flat_map(|(call, nth)| Errno::ALL.map(|errno| (call, nth, errno)))
        .collect();
    let chosen: Vec<_> = all.iter().step_by(every()).collect();
    println!("{} of {} faults", chosen.len(), all.len());
    for (call, nth, errno) in chosen {
        let (binary, faults) = on_a_new_disk();
        faults.fail_once(&[*call], *nth, *errno, "");
        let first = binary.try_serve();
        println!("{call:?} {nth} {errno:?}: {}", first.is_some());
        faults.heal();
        if let Some(server) = first {
            server.kill();
        }
        binary.json(&["client", "add", SHOP]);
        let server = binary.serve();
        server.guest();
        assert!(server.stop().success());
        assert_eq!(binary.json(&["db", "check"])["ok"], true);
    }
}

/// Prepares an installation that doesn't exist yet, on a disk that can fail.
fn on_a_new_disk() -> (Binary, Faults) {
    let mut binary = Binary::new();
    let faults = Faults::under(&mut binary);
    (binary, faults)
}
