//! Checks invariants on random histories, in which anybody may do anything. If the row goes back in time (a restore), a
//! spent credential may work once more; invariants that this breaks are checked on histories without rewinds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{Decision, Generation, Grant, RevocationReason};
use guestpass_core::policy::Policy;
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::server::{
    Answer, CLIENT, DAY, Proof, REVOCATION, Reading, Request, START, STRANGER, Server, for_all,
    nth, strict, strict_without_grace,
};

/// A code is worth one exchange.
#[test]
fn at_most_one_exchange_succeeds() {
    for_every_history(histories(), |_, answers| {
        let redeems = |answer: &&Answer| answer.redeems_the_code();
        answers.iter().filter(redeems).count() <= 1
    });
}

/// A credential that is issued is newer than all before it, and neither *n* nor *p* ever goes back.
#[test]
fn generations_only_grow() {
    for_every_answer(histories(), |_, answer| {
        let (before, after) = (&answer.before, &answer.after);
        let issues = matches!(answer.decision, Decision::Advance(_) | Decision::Reissue(_));
        (after.generation > before.generation) == issues
            && after.generation >= before.generation
            && after.proven >= before.proven
    });
}

/// Of all refresh tokens ever handed out, at most one moves the grant on.
#[test]
fn there_is_at_most_one_live_leaf() {
    for_every_history(histories(), |policy, answers| {
        let mut handed_out = BTreeSet::new();
        answers.iter().all(|answer| {
            handed_out.extend(answer.token());
            let late = answer.after.advanced_at + policy.grace;
            let advances = |&&token: &&Generation| {
                let decision = answer.after.refresh(token, CLIENT, policy, late);
                matches!(decision, Decision::Advance(_))
            };
            handed_out.iter().filter(advances).count() <= 1
        })
    });
}

/// Whoever reads the row after its revocation gets nothing, and what was decided before no longer moves it.
#[test]
fn nothing_succeeds_after_revocation() {
    for_every_answer(histories_with_rewinds(), |_, answer| {
        let state = |row: &Grant| (row.generation, row.proven, row.revoked);
        (answer.read.revoked.is_none() || answer.token().is_none())
            && (answer.before.revoked.is_none() || state(&answer.before) == state(&answer.after))
    });
}

#[test]
fn a_fifth_wrong_verifier_kills_the_code() {
    for_every_history(histories(), |_, answers| {
        let redeemed = answers.iter().position(Answer::redeems_the_code);
        let before = &answers[..redeemed.unwrap_or(0)];
        let strikes = |answer: &&Answer| matches!(answer.decision, Decision::Strike(_));
        before.iter().filter(strikes).count() < 5
    });
}

/// Another client gets nothing and leaves no trace, whatever it holds.
#[test]
fn a_stranger_never_changes_anything() {
    for_every_answer(histories_with_rewinds(), |_, answer| {
        let (Request::Exchange(client, _) | Request::Refresh(client, _)) = answer.request;
        client == CLIENT || (answer.token().is_none() && answer.after == answer.before)
    });
}

/// A repeat writes nothing, and what it hands out was handed out before.
#[test]
fn a_repeat_hands_out_the_same_generation_and_writes_nothing() {
    for_every_history(histories_with_rewinds(), |_, answers| {
        let mut handed_out = BTreeSet::new();
        answers.iter().all(|answer| {
            let new = answer.token().is_some_and(|token| handed_out.insert(token));
            answer.decision != Decision::Repeat || (!new && answer.after == answer.before)
        })
    });
}

/// `ends_at` never moves, and `expires_at` never passes it.
#[test]
fn nothing_extends_a_grant() {
    for_every_answer(histories_with_rewinds(), |policy, answer| {
        let (Decision::Advance(row) | Decision::Reissue(row)) = &answer.decision else {
            return true;
        };
        row.ends_at == START + policy.refresh_max && row.expires_at <= row.ends_at
    });
}

/// An expired credential gets nothing, and its expiry isn't written. Of a token that is newer than its row, the row
/// only knows when the grant ends.
#[test]
fn expiry_is_never_written() {
    for_every_answer(histories_with_rewinds(), |_, answer| {
        let row_is_older = answer.request.presented() > answer.read.generation;
        let expires_at = if row_is_older {
            answer.read.ends_at
        } else {
            answer.read.expires_at
        };
        let valid = answer.now < expires_at;
        valid || (answer.token().is_none() && answer.after == answer.before)
    });
}

/// `proven` never passes `generation`, nor falls behind it by more than `max_unproven` and one.
#[test]
fn unproven_successors_are_bounded() {
    for_every_answer(histories_with_rewinds(), |policy, Answer { after, .. }| {
        let unproven = after.generation.as_u64().checked_sub(after.proven.as_u64());
        unproven.is_some_and(|unproven| unproven <= policy.max_unproven + 1)
    });
}

#[test]
fn a_code_replay_never_ends_a_grant_later_than_600_s_after_issue() {
    for_every_answer(histories_with_rewinds(), |_, answer| {
        let in_time = answer.now <= START + Duration::from_secs(600);
        in_time || !matches!(answer.decision, Decision::Revoke(Refusal::CodeReplayed, _))
    });
}

/// Under a grace of 0 and `late_retry = revoke`, whatever the clocks do.
#[test]
fn without_grace_a_credential_works_once() {
    for_every_history(histories(), |policy, answers| {
        let mut successes = answers.iter().filter(|answer| answer.token().is_some());
        let mut used = BTreeSet::new();
        !policy.grace.is_zero() || successes.all(|answer| used.insert(answer.request.presented()))
    });
}

/// In whatever order they write, requests that read one row together get one successor, and nobody is suspected.
#[test]
fn requests_that_race_get_one_successor() {
    let policy = Policy::default();
    for_all(vec(1..=2_u64, 1..20), |presented| {
        let mut server = Server::redeemed(&policy);
        server.serve(Request::Refresh(CLIENT, nth(1)));
        server.now = server.now + policy.grace;
        let read = |g| server.read(Request::Refresh(CLIENT, nth(g)));
        let racing: Vec<_> = presented.into_iter().map(read).collect();
        for mut reading in racing {
            let answer = server
                .write(&mut reading)
                .or_else(|| server.write(&mut reading))
                .unwrap();
            let token = answer.token().unwrap_or(nth(3));
            prop_assert_eq!(
                (token, answer.after.revoked),
                (nth(3), None),
                "{:?}",
                answer
            );
        }
        Ok(())
    });
}

/// A reason for a revocation is found again by the name under which it was stored.
#[test]
fn a_revocation_survives_the_store() {
    for_every_answer(histories(), |_, answer| {
        let reason = answer.after.revoked.map(|revocation| revocation.reason);
        reason == reason.map(|reason| RevocationReason::from_name(reason.name()))
    });
}

/// Between them, the histories come to every decision and to every reason for one.
#[test]
fn the_histories_reach_every_decision() {
    let reached = RefCell::new(BTreeSet::new());
    for_every_answer(histories_with_rewinds(), |_, answer| {
        let jumps = answer.request.presented() > answer.read.generation;
        reached.borrow_mut().insert(match &answer.decision {
            Decision::Advance(_) if jumps => "jump",
            Decision::Advance(_) => "advance",
            Decision::Repeat => "repeat",
            Decision::Reissue(_) => "reissue",
            Decision::Strike(reason) | Decision::Revoke(reason, _) | Decision::Refuse(reason) => {
                reason.name()
            }
        });
        true
    });
    let reached: Vec<_> = reached.into_inner().into_iter().collect();
    assert_eq!(
        reached.join(" "),
        "advance code_expired code_guessed_at code_replayed code_spent grant_ended \
         grant_of_another_client grant_revoked jump refresh_token_contested refresh_token_expired \
         refresh_token_overtaken refresh_token_replayed refresh_token_retried_late reissue repeat \
         verifier_wrong"
    );
}

fn for_every_answer(
    histories: impl Strategy<Value = History>,
    holds: impl Fn(&Policy, &Answer) -> bool,
) {
    for_every_history(histories, |policy, answers| {
        answers.iter().all(|answer| holds(policy, answer))
    });
}

fn for_every_history(
    histories: impl Strategy<Value = History>,
    holds: impl Fn(&Policy, &[Answer]) -> bool,
) {
    for_all(histories, |history| {
        let answers = history.play();
        let last = answers.last().map(|answer| &answer.decision);
        prop_assert!(holds(&history.policy, &answers), "it ends with {last:?}");
        Ok(())
    });
}

fn histories() -> impl Strategy<Value = History> {
    histories_of(events())
}

fn histories_with_rewinds() -> impl Strategy<Value = History> {
    let rewinds = any::<Index>().prop_map(Event::RowGoesBack);
    histories_of(prop_oneof![20 => events(), 1 => rewinds])
}

/// Most codes are redeemed at once, some after guesses, for most of a grant's life is refreshing.
fn histories_of(events: impl Strategy<Value = Event>) -> impl Strategy<Value = History> {
    // One policy with limits so tight that short histories reach them.
    let tight = Policy {
        max_unproven: 1,
        refresh_max: 400 * DAY,
        ..Policy::default()
    };
    let policies = select(vec![
        Policy::default(),
        strict(),
        strict_without_grace(),
        tight,
    ]);
    let guesses = prop_oneof![3 => Just(0), 1 => 1..8_usize];
    (policies, guesses, weighted(0.8), vec(events, 0..60)).prop_map(
        |(policy, guesses, redeemed, later)| {
            let exchange = |proof| Event::Call(Call::Exchange(CLIENT, proof));
            let mut events = vec![exchange(Proof::Wrong); guesses];
            events.extend(redeemed.then(|| exchange(Proof::Right)));
            events.extend(later);
            History { policy, events }
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let client = prop_oneof![12 => Just(CLIENT), 1 => Just(STRANGER)];
    let proof = prop_oneof![1 => Just(Proof::Right), 2 => Just(Proof::Wrong)];
    let age = prop_oneof![5 => Just(0), 5 => Just(1), 1 => 2..50_usize];
    let call = prop_oneof![
        1 => (client.clone(), proof).prop_map(|(client, proof)| Call::Exchange(client, proof)),
        8 => (client, age).prop_map(|(client, age)| Call::Refresh(client, age)),
    ];
    let seconds = prop_oneof![
        9 => select(vec![1, 30, 60, 600]),
        2 => select(vec![86_400, 182 * 86_400, 365 * 86_400]),
        1 => select(vec![-1, -60, -86_400]),
    ];
    prop_oneof![
        32 => call.clone().prop_map(Event::Call),
        10 => call.prop_map(Event::SlowCall),
        10 => any::<Index>().prop_map(Event::SlowCallGoesOn),
        24 => seconds.prop_map(Event::ClockMoves),
        1 => Just(Event::OperatorRevokes),
    ]
}

#[derive(Clone, Debug)]
struct History {
    policy: Policy,
    events: Vec<Event>,
}

/// A lost answer, a late one and a retry need no event of their own: each is a credential that is used again, or later
/// than the next, or never.
#[derive(Clone, Debug)]
enum Event {
    /// Served before anything else happens.
    Call(Call),
    /// Reads the row, and waits.
    SlowCall(Call),
    /// Writes or, if the row is stale, reads it again and waits once more.
    SlowCallGoesOn(Index),
    /// By seconds, in either direction.
    ClockMoves(i64),
    OperatorRevokes,
    /// A restore, or a failover that lost writes.
    RowGoesBack(Index),
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Exchange(ClientNumber, Proof),
    /// With one of the refresh tokens handed out so far: 0 is the newest, 1 its predecessor.
    Refresh(ClientNumber, usize),
}

impl History {
    /// Plays the history and returns every answer that the server gave.
    fn play(&self) -> Vec<Answer> {
        let mut server = Server::new(&self.policy);
        let (mut past, mut waiting, mut answers) = (vec![], vec![], vec![]);
        for event in &self.events {
            past.push(server.row.clone());
            let mut served = None;
            match event {
                Event::Call(call) => served = call.arrive(&server, &answers),
                Event::SlowCall(call) => waiting.extend(call.arrive(&server, &answers)),
                Event::SlowCallGoesOn(which) => {
                    let which = (!waiting.is_empty()).then(|| which.index(waiting.len()));
                    served = which.map(|which| waiting.swap_remove(which));
                }
                Event::ClockMoves(seconds) => {
                    let millis = server.now.as_millis() + 1000 * seconds;
                    server.now = Timestamp::from_millis(millis);
                }
                Event::OperatorRevokes => server.revoke(REVOCATION.reason),
                Event::RowGoesBack(when) => server.row = when.get(&past).clone(),
            }
            if let Some(mut reading) = served {
                match server.write(&mut reading) {
                    Some(answer) => answers.push(answer),
                    None => waiting.push(reading),
                }
            }
        }
        answers
    }
}

impl Call {
    /// Nothing comes of a refresh while there is no refresh token.
    fn arrive(self, server: &Server<'_>, answers: &[Answer]) -> Option<Reading> {
        let request = match self {
            Self::Exchange(client, proof) => Request::Exchange(client, proof),
            Self::Refresh(client, age) => {
                let tokens: BTreeSet<_> = answers.iter().filter_map(Answer::token).collect();
                let age = age.checked_rem(tokens.len())?;
                Request::Refresh(client, tokens.into_iter().nth_back(age)?)
            }
        };
        Some(server.read(request))
    }
}
