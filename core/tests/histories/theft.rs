//! Checks that a stolen credential is found out.

use std::cell::Cell;

use guestpass_core::policy::Policy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::server::{CLIENT, Request, Server, for_all, nth};

/// If owner and thief never act within one window, the theft comes out after at most `bound` hand-overs between them:
/// eight if the live credential was taken, seven if its predecessor was. Both bounds are reached.
#[test]
fn a_thief_and_an_owner_who_take_turns_are_found_out() {
    let policy = Policy::default();
    // One turn: is it the thief's, does a window pass first although it need not, is the owner's answer lost, and
    // which of all the tokens that the thief has ever held does it present.
    let turns = || vec(any::<(bool, bool, bool, Index)>(), 0..60);
    for (stolen, bound) in [(2, 8), (1, 7)] {
        let most = Cell::new(0);
        for_all(turns(), |turns| {
            let mut server = Server::redeemed(&policy);
            server.serve(Request::Refresh(CLIENT, nth(1)));
            let (mut owned, mut loot) = (nth(2), vec![nth(stolen)]);
            let (mut last, mut hand_overs) = (None, 0);
            for (is_thief, pauses, lost, choice) in turns {
                let late = pauses || last != Some(is_thief);
                if late {
                    server.now = server.now + policy.grace;
                }
                let presented = if is_thief { *choice.get(&loot) } else { owned };
                let Some(token) = server.serve(Request::Refresh(CLIENT, presented)) else {
                    prop_assert!(
                        server.row.revoked.is_some() || !late,
                        "refused but not found out"
                    );
                    continue;
                };
                hand_overs += u32::from(last.is_some_and(|last| last != is_thief));
                last = Some(is_thief);
                if is_thief {
                    loot.push(token);
                } else if !lost {
                    owned = token;
                }
            }
            prop_assert!(hand_overs <= bound, "{hand_overs} hand-overs");
            most.set(hand_overs.max(most.get()));
            Ok(())
        });
        assert_eq!(most.get(), bound);
    }
}
