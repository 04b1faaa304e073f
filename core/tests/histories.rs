//! One grant, and everything that may happen to it.
//!
//! First the rules as tables, cell by cell. Then random histories, for what holds whoever does what. Then every history
//! of an honest client, within bounds: it must keep its grant. Last, random thefts: they must come out. What is random
//! is the same in every run, and what fails is shrunk before it is shown.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use guestpass_core::client::ClientNumber;
use guestpass_core::grant::{
    Decision, Generation, Grant, GrantId, MAX_STRIKES, Revocation, RevocationReason,
};
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::policy::{LateRetry, Policy};
use guestpass_core::profile::{NetworkId, ProfileId};
use guestpass_core::refusal::Refusal;
use guestpass_core::time::Timestamp;
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};

// The rules as tables.

/// What a refresh decides, for *g* presented, *n* outstanding and *p* proven: exactly one row covers each cell.
#[test]
fn the_refresh_table() {
    use Decision::{Advance, Refuse, Reissue, Repeat, Revoke};
    use Refusal::{
        RefreshTokenContested, RefreshTokenOvertaken, RefreshTokenReplayed, RefreshTokenRetriedLate,
    };
    use RevocationReason as Reason;

    let rows = (1..=12).flat_map(|n| (0..n).map(move |p| (n, p)));
    let cells = rows.flat_map(|(n, p)| (1..=n + 2).map(move |g| (g, n, p)));
    for ((g, n, p), policy) in cells.flat_map(|cell| [(cell, Policy::default()), (cell, strict())])
    {
        let redeemed = Server::redeemed(&policy).row;
        let row = Grant {
            generation: nth(n),
            proven: nth(p),
            ..redeemed
        };
        for (now, in_window) in [
            (row.advanced_at.before(DAY), true), // a clock behind the one that wrote the row
            (row.advanced_at + (policy.grace - MILLISECOND), true),
            (row.advanced_at + policy.grace, false),
        ] {
            let to = |n, p| Grant {
                generation: nth(n),
                proven: nth(p),
                advanced_at: now,
                expires_at: now + policy.refresh_idle,
                ..row.clone()
            };
            let (unproven, late) = (p <= g && g < n, !in_window);
            let (strict, few) = (policy.late_retry == LateRetry::Revoke, n - p <= 8);
            #[rustfmt::skip]
            let table = [
                (g == n,                              Advance(to(n + 1, n))),
                (unproven && in_window,               Repeat),
                (unproven && late && !strict && few,  Reissue(to(n + 1, p))),
                (unproven && late && !strict && !few, Revoke(RefreshTokenContested, Reason::Contested)),
                (unproven && late && strict,          Revoke(RefreshTokenRetriedLate, Reason::RetriedLate)),
                (g < p && in_window,                  Refuse(RefreshTokenOvertaken)),
                (g < p && late,                       Revoke(RefreshTokenReplayed, Reason::RefreshTokenReplayed)),
                (g > n,                               Advance(to(g + 1, g))),
            ];
            let expected = table
                .into_iter()
                .filter(|(covers, _)| *covers)
                .map(|(_, then)| then);
            let decided = row.refresh(nth(g), CLIENT, &policy, now);
            assert_eq!(
                expected.collect::<Vec<_>>(),
                [decided],
                "{g} shown to {row:?} at {now:?}"
            );
        }
    }
}

/// What an exchange by the right client decides, so many seconds after its code was issued. No policy lets a code live
/// longer than 600 s.
#[test]
fn the_exchange_table() {
    use Decision::{Advance, Refuse, Revoke, Strike};
    use Proof::{Right, Wrong};

    let policy = Policy {
        code_ttl: DAY,
        ..Policy::default()
    };
    let pending = Server::new(&policy).row;
    let redeemed = Server::redeemed(&policy).row;
    let struck = |strikes| Grant {
        strikes,
        ..pending.clone()
    };
    let revoked = |row: &Grant| Grant {
        revoked: Some(REVOCATION),
        ..row.clone()
    };
    let advanced = |row: &Grant, seconds| Grant {
        generation: nth(1),
        advanced_at: START + Duration::from_secs(seconds),
        expires_at: START + Duration::from_secs(seconds) + policy.refresh_idle,
        ..row.clone()
    };
    #[rustfmt::skip]
    let table = [
        (&pending,            599, Right, Advance(advanced(&pending, 599))),
        (&pending,            600, Right, Refuse(Refusal::CodeExpired)),
        (&pending,            600, Wrong, Refuse(Refusal::CodeExpired)),
        (&revoked(&pending),  0,   Right, Refuse(Refusal::GrantRevoked)),
        (&struck(4),          0,   Right, Advance(advanced(&struck(4), 0))),
        (&struck(4),          0,   Wrong, Strike(Refusal::VerifierWrong)),
        (&struck(5),          0,   Right, Refuse(Refusal::CodeGuessedAt)),
        (&struck(5),          0,   Wrong, Refuse(Refusal::CodeGuessedAt)),
        (&redeemed,           600, Right, Revoke(Refusal::CodeReplayed, RevocationReason::CodeReplayed)),
        (&redeemed,           600, Wrong, Refuse(Refusal::CodeSpent)),
        (&redeemed,           601, Right, Refuse(Refusal::CodeSpent)),
        (&revoked(&redeemed), 0,   Right, Refuse(Refusal::CodeSpent)),
    ];
    for (row, seconds, proof, expected) in table {
        let now = START + Duration::from_secs(seconds);
        let decided = Request::Exchange(CLIENT, proof).decide(row, &policy, now);
        assert_eq!(decided, expected, "{proof:?} after {seconds} s, {row:?}");
    }
}

// Any history: what holds whoever does what. If the row goes back in time, a credential that was spent may work once
// more; what that breaks is checked on histories without rewinds.

/// A code is worth one exchange.
#[test]
fn at_most_one_exchange_succeeds() {
    for_every_history(histories(), |_, answers| {
        let redeems = |answer: &&Answer| answer.redeems_the_code();
        answers.iter().filter(redeems).count() <= 1
    });
}

/// What is issued is newer than all before it, and neither *n* nor *p* ever goes back.
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

/// What has expired gets nothing, and that it has expired is not written. Of a token that is newer than its row, the
/// row only knows when the grant ends.
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
            let first = server.write(&mut reading);
            let answer = first.or_else(|| server.write(&mut reading)).unwrap();
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
    let histories = (policies, guesses, weighted(0.8), vec(events, 0..60));
    histories.prop_map(|(policy, guesses, redeemed, later)| {
        let exchange = |proof| Event::Call(Call::Exchange(CLIENT, proof));
        let mut events = vec![exchange(Proof::Wrong); guesses];
        events.extend(redeemed.then(|| exchange(Proof::Right)));
        events.extend(later);
        History { policy, events }
    })
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

// Honest histories: every one there is, with so many mounts and at most eight lost answers. A mount is the moment when
// a page starts to need a token. The environments A1 to A8 and what is claimed for them are the model's.

/// A1: one mount at a time, any pause between them.
#[test]
fn a_client_whose_answers_are_lost_keeps_its_grant() {
    assert!(!ever_locked_out(20, &[Hazard::RefreshEveryTime]));
}

/// A2: mounts overlap, and refresh when the access token is due.
#[test]
fn a_client_whose_mounts_overlap_keeps_its_grant() {
    assert!(!ever_locked_out(9, &[Hazard::Overlap]));
}

/// A3: mounts overlap, and each refreshes. With a fourth, an answer can be stored after two newer ones were used.
#[test]
fn a_client_that_refreshes_at_each_of_three_mounts_keeps_its_grant() {
    let environment = [Hazard::Overlap, Hazard::RefreshEveryTime];
    assert!(!ever_locked_out(3, &environment));
    assert!(ever_locked_out(4, &environment));
}

/// A4: attempts are given up, and their requests arrive late. The ninth successor is the last that may be unproven.
#[test]
fn a_client_that_gives_up_attempts_keeps_its_grant() {
    assert!(!ever_locked_out(9, &[Hazard::Overlap, Hazard::GiveUp]));
    assert!(ever_locked_out(10, &[Hazard::Overlap, Hazard::GiveUp]));
}

/// A5: two tabs, and answers that are stored after the window.
#[test]
fn a_client_that_stores_answers_late_keeps_its_grant() {
    assert!(!ever_locked_out(7, &[Hazard::Overlap, Hazard::StoreLate]));
}

/// A6 and A7, where nothing is claimed: answers that are stored a day late, and tabs that keep their own copies.
#[test]
fn a_client_that_uses_copies_of_another_day_may_lose_its_grant() {
    let frozen_tab = [Hazard::Overlap, Hazard::StoreLate, Hazard::StoreNextDay];
    assert!(ever_locked_out(3, &frozen_tab));
    assert!(ever_locked_out(3, &[Hazard::TwoCopies]));
}

/// A8: two nodes, the clock of one a window ahead.
#[test]
fn a_client_between_two_clocks_keeps_its_grant() {
    assert!(!ever_locked_out(8, &[Hazard::Overlap, Hazard::FastNode]));
}

/// Whether any history ends in a lockout; shows the shortest that does.
fn ever_locked_out(mounts: usize, environment: &[Hazard]) -> bool {
    let policy = Policy::default();
    let mut guests = VecDeque::from([Guest::new(mounts, environment, &policy)]);
    let mut seen = BTreeSet::new();
    while let Some(guest) = guests.pop_front() {
        if guest.is_locked_out() {
            println!("{environment:?} locks out: {:?}", guest.history);
            return true;
        }
        let next = guest.moves().into_iter().map(|next| guest.after(next));
        guests.extend(next.filter(|guest| seen.insert(guest.state())));
    }
    false
}

/// What an honest client may meet besides lost answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hazard {
    /// It mounts again before the answer is stored.
    Overlap,
    /// It refreshes at every mount, not only when its access token is due.
    RefreshEveryTime,
    /// A mount gives up the attempts before it; their requests may arrive after the window.
    GiveUp,
    /// An answer may be stored after the window.
    StoreLate,
    /// An answer may be stored after the access token has become due again.
    StoreNextDay,
    /// Each of two tabs has its own copy of the credential.
    TwoCopies,
    /// One of the nodes has a clock that is a window ahead.
    FastNode,
}

/// An honest client, and the server that it talks to.
#[derive(Clone)]
struct Guest<'a> {
    environment: &'a [Hazard],
    server: Server<'a>,
    mounts_left: usize,
    losses_left: usize,
    /// Each stored credential, and whether its access token is due.
    copies: Vec<(Generation, bool)>,
    /// Each with the copy it is for; `None` if its answer will be dropped.
    requests: Vec<(Generation, Option<usize>)>,
    /// Each with the copy that it will replace.
    answers: Vec<(Generation, usize)>,
    history: Vec<Move>,
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Mount(usize),
    Serve(usize),
    ServeByFastNode(usize),
    LoseAnswer(usize),
    StoreAnswer(usize),
    WindowPasses,
    DayPasses,
}

impl<'a> Guest<'a> {
    fn new(mounts: usize, environment: &'a [Hazard], policy: &'a Policy) -> Self {
        let mut server = Server::redeemed(policy);
        server.now = server.now + policy.grace;
        let copies = 1 + usize::from(environment.contains(&Hazard::TwoCopies));
        Self {
            environment,
            server,
            mounts_left: mounts,
            losses_left: 8,
            copies: vec![(nth(1), true); copies],
            requests: vec![],
            answers: vec![],
            history: vec![],
        }
    }

    /// What may happen next.
    fn moves(&self) -> Vec<Move> {
        let meets = |hazard| self.environment.contains(&hazard);
        let asks = !self.requests.is_empty();
        let waits = !self.answers.is_empty();
        let mut moves = vec![];
        if self.mounts_left > 0 && (meets(Hazard::Overlap) || !(asks || waits)) {
            let mounts = |&copy: &usize| self.copies[copy].1 || meets(Hazard::RefreshEveryTime);
            moves.extend((0..self.copies.len()).filter(mounts).map(Move::Mount));
        }
        moves.extend((0..self.requests.len()).map(Move::Serve));
        if meets(Hazard::FastNode) {
            moves.extend((0..self.requests.len()).map(Move::ServeByFastNode));
        }
        if self.losses_left > 0 {
            moves.extend((0..self.answers.len()).map(Move::LoseAnswer));
        }
        moves.extend((0..self.answers.len()).map(Move::StoreAnswer));
        let in_window = self.server.now < self.server.row.advanced_at + self.server.policy.grace;
        if in_window && (!asks || meets(Hazard::GiveUp)) && (!waits || meets(Hazard::StoreLate)) {
            moves.push(Move::WindowPasses);
        }
        let nothing_due = self.copies.iter().any(|(_, due)| !due);
        if nothing_due && !asks && (!waits || meets(Hazard::StoreNextDay)) {
            moves.push(Move::DayPasses);
        }
        moves
    }

    /// The same client, one move later.
    fn after(&self, next: Move) -> Self {
        let policy = self.server.policy;
        let mut guest = self.clone();
        guest.history.push(next);
        match next {
            Move::Mount(copy) => {
                if guest.environment.contains(&Hazard::GiveUp) {
                    guest.requests.iter_mut().for_each(|(_, copy)| *copy = None);
                    guest.answers.clear();
                }
                guest.requests.push((guest.copies[copy].0, Some(copy)));
                guest.mounts_left -= 1;
            }
            Move::Serve(request) => guest.serve(request, Duration::ZERO),
            Move::ServeByFastNode(request) => guest.serve(request, policy.grace),
            Move::LoseAnswer(answer) => {
                guest.answers.remove(answer);
                guest.losses_left -= 1;
            }
            Move::StoreAnswer(answer) => {
                let (credential, copy) = guest.answers.remove(answer);
                guest.copies[copy] = (credential, false);
            }
            Move::WindowPasses => guest.server.now = guest.server.now + policy.grace,
            Move::DayPasses => {
                guest.server.now = guest.server.now + policy.access_ttl;
                guest.copies.iter_mut().for_each(|(_, due)| *due = true);
            }
        }
        // In which order they were sent makes no difference to what can happen to them.
        guest.requests.sort();
        guest.answers.sort();
        guest
    }

    fn serve(&mut self, request: usize, ahead: Duration) {
        let (presented, copy) = self.requests.remove(request);
        let mut reading = self.server.read(Request::Refresh(CLIENT, presented));
        reading.now = reading.now + ahead;
        let token = self
            .server
            .write(&mut reading)
            .and_then(|answer| answer.token());
        self.answers.extend(token.zip(copy));
    }

    /// All that the future depends on. Of the time, that is how far the window has passed.
    fn state(&self) -> impl Ord + use<> {
        let Server { row, now, policy } = &self.server;
        let window = policy.grace.as_millis() as i64;
        let passed = window.min(now.as_millis() - row.advanced_at.as_millis());
        let grant = (row.generation, row.proven, row.revoked.is_some(), passed);
        let left = (self.mounts_left, self.losses_left);
        let (copies, requests) = (self.copies.clone(), self.requests.clone());
        (grant, left, copies, requests, self.answers.clone())
    }

    /// The grant is revoked; or nothing is under way, and no copy gets a token, now or later.
    fn is_locked_out(&self) -> bool {
        let Server { row, policy, .. } = &self.server;
        let idle = self.requests.is_empty() && self.answers.is_empty();
        let works = |&(credential, _): &(Generation, bool)| {
            let mut times = [row.advanced_at, row.advanced_at + policy.grace].into_iter();
            times.any(|now| {
                let decision = row.refresh(credential, CLIENT, policy, now);
                !matches!(decision, Decision::Revoke(..) | Decision::Refuse(_))
            })
        };
        row.revoked.is_some() || (idle && !self.copies.iter().any(works))
    }
}

// A theft.

/// If owner and thief never act within one window, the theft comes out after at most so many hand-overs between them:
/// eight if the live credential was taken, seven if its predecessor was. Both bounds are reached.
#[test]
fn a_thief_and_an_owner_who_take_turns_are_found_out() {
    let policy = Policy::default();
    // Who acts, whether a window passes first although it need not, whether the owner's answer is lost, and what the
    // thief presents of all that it has ever held.
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

// The server, as far as a single grant can tell.

/// One row that is read and written as the real store does it.
#[derive(Clone)]
struct Server<'a> {
    policy: &'a Policy,
    row: Grant,
    now: Timestamp,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Exchange(ClientNumber, Proof),
    Refresh(ClientNumber, Generation),
}

#[derive(Clone, Copy, Debug)]
enum Proof {
    Right,
    Wrong,
}

/// A request, its time of arrival, and the row that it has read.
struct Reading {
    request: Request,
    now: Timestamp,
    row: Grant,
}

/// What was decided, on which row, and what the write found and left.
#[derive(Debug)]
struct Answer {
    request: Request,
    now: Timestamp,
    read: Grant,
    decision: Decision,
    before: Grant,
    after: Grant,
}

impl<'a> Server<'a> {
    /// A code has just been issued.
    fn new(policy: &'a Policy) -> Self {
        let guest = ProfileId::from_i64(94_173).expect("it is positive");
        let owner = (CLIENT, NetworkId::new([1; 16]));
        let challenge = Challenge::parse(CHALLENGE).expect("it is one");
        let row = Grant::issue(GrantId::new(guest, [7; 8]), owner, challenge, policy, START);
        Self {
            policy,
            row,
            now: START,
        }
    }

    /// The code has just been redeemed.
    fn redeemed(policy: &'a Policy) -> Self {
        let mut server = Self::new(policy);
        server.serve(Request::Exchange(CLIENT, Proof::Right));
        server
    }

    /// Serves a request that nothing disturbs. `None` if it is refused.
    fn serve(&mut self, request: Request) -> Option<Generation> {
        self.write(&mut self.read(request))?.token()
    }

    fn read(&self, request: Request) -> Reading {
        Reading {
            request,
            now: self.now,
            row: self.row.clone(),
        }
    }

    /// Carries out what is decided on the row that was read. `None` if that is stale: it has been read again.
    ///
    /// The real server takes the time anew then, and gives up after the second try. The rules must hold without that.
    fn write(&mut self, reading: &mut Reading) -> Option<Answer> {
        let (request, before) = (reading.request, self.row.clone());
        let decision = request.decide(&reading.row, self.policy, reading.now);
        match &decision {
            Decision::Advance(new) | Decision::Reissue(new) => {
                let is_exchange = matches!(request, Request::Exchange(..));
                if before.generation != reading.row.generation
                    || before.revoked.is_some()
                    || (is_exchange && before.strikes >= MAX_STRIKES)
                {
                    reading.row = before;
                    return None;
                }
                self.row.generation = new.generation;
                self.row.proven = new.proven;
                self.row.advanced_at = new.advanced_at;
                self.row.expires_at = new.expires_at;
            }
            Decision::Strike(_) if before.generation == Generation::CODE => self.row.strikes += 1,
            Decision::Revoke(_, reason) => self.revoke(*reason),
            Decision::Strike(_) | Decision::Repeat | Decision::Refuse(_) => {}
        }
        let (read, after) = (reading.row.clone(), self.row.clone());
        Some(Answer {
            request,
            now: reading.now,
            read,
            decision,
            before,
            after,
        })
    }

    fn revoke(&mut self, reason: RevocationReason) {
        let revocation = Revocation {
            at: self.now,
            reason,
        };
        self.row.revoked.get_or_insert(revocation);
    }
}

impl Request {
    fn decide(self, row: &Grant, policy: &Policy, now: Timestamp) -> Decision {
        let (client, proof) = match self {
            Self::Refresh(client, presented) => {
                return row.refresh(presented, client, policy, now);
            }
            Self::Exchange(client, Proof::Right) => (client, VERIFIER),
            Self::Exchange(client, Proof::Wrong) => (client, CHALLENGE), // it has the form of one
        };
        row.exchange(
            client,
            &Verifier::parse(proof).expect("it is one"),
            policy,
            now,
        )
    }

    fn presented(self) -> Generation {
        match self {
            Self::Exchange(..) => Generation::CODE,
            Self::Refresh(_, presented) => presented,
        }
    }
}

impl Answer {
    /// The refresh token that goes out with the answer.
    fn token(&self) -> Option<Generation> {
        match &self.decision {
            Decision::Advance(new) | Decision::Reissue(new) => Some(new.generation),
            Decision::Repeat => Some(self.read.generation),
            Decision::Strike(_) | Decision::Revoke(..) | Decision::Refuse(_) => None,
        }
    }

    fn redeems_the_code(&self) -> bool {
        matches!(self.request, Request::Exchange(..)) && self.token().is_some()
    }
}

/// Checks the same inputs in every run, and leaves no file behind.
fn for_all<S: Strategy>(inputs: S, check: impl Fn(S::Value) -> TestCaseResult) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 5_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(9_700),
        ..ProptestConfig::default()
    });
    if let Err(failure) = runner.run(&inputs, check) {
        panic!("{failure}");
    }
}

fn strict() -> Policy {
    Policy {
        late_retry: LateRetry::Revoke,
        ..Policy::default()
    }
}

fn strict_without_grace() -> Policy {
    Policy {
        grace: Duration::ZERO,
        ..strict()
    }
}

fn nth(generation: u64) -> Generation {
    Generation::from_u64(generation)
}

const REVOCATION: Revocation = Revocation {
    at: START,
    reason: RevocationReason::Contested,
};
const CLIENT: ClientNumber = ClientNumber(1);
const STRANGER: ClientNumber = ClientNumber(2);
const START: Timestamp = Timestamp::from_millis(1_763_750_000_000);
const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(86_400);

// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
