//! Explores every history of an honest client, with a given number of mounts and at most eight lost answers, by a
//! breadth-first search. A mount is the moment when a page starts to need a token. The environments A1 to A8 name the
//! hazards that an honest client may meet.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use guestpass_core::grant::{Decision, Generation};
use guestpass_core::policy::Policy;

use crate::server::{CLIENT, Request, Server, nth};

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

/// Searches all histories for one that ends in a lockout, and prints the shortest.
fn ever_locked_out(mounts: usize, environment: &[Hazard]) -> bool {
    let policy = Policy::default();
    let mut guests = VecDeque::from([Guest::new(mounts, environment, &policy)]);
    let mut seen = BTreeSet::new();
    while let Some(guest) = guests.pop_front() {
        if guest.is_locked_out() {
            println!("{environment:?} locks out: {:?}", guest.history);
            return true;
        }
        guests.extend(
            guest
                .moves()
                .into_iter()
                .map(|next| guest.after(next))
                .filter(|guest| seen.insert(guest.state())),
        );
    }
    false
}

/// Names the hazards that an honest client may meet besides lost answers.
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

/// Models an honest client and the server that it talks to.
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

    /// Lists the moves that are possible next.
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

    /// Returns the same client, one move later.
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
        // Sorted, since the order of sending makes no difference: fewer states are distinct.
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

    /// Returns all that the future depends on, so that equal states are explored once. Of the time, only the part of
    /// the grace window that has passed matters.
    fn state(&self) -> impl Ord + use<> {
        let Server { row, now, policy } = &self.server;
        let window = policy.grace.as_millis() as i64;
        let passed = window.min(now.as_millis() - row.advanced_at.as_millis());
        let grant = (row.generation, row.proven, row.revoked.is_some(), passed);
        let left = (self.mounts_left, self.losses_left);
        let (copies, requests) = (self.copies.clone(), self.requests.clone());
        (grant, left, copies, requests, self.answers.clone())
    }

    /// Returns `true` if the grant is revoked, or if nothing is under way and no copy gets a token, now or later.
    fn is_locked_out(&self) -> bool {
        let Server { row, policy, .. } = &self.server;
        let idle = self.requests.is_empty() && self.answers.is_empty();
        let works = |&(credential, _): &(Generation, bool)| {
            [row.advanced_at, row.advanced_at + policy.grace]
                .into_iter()
                .any(|now| {
                    let decision = row.refresh(credential, CLIENT, policy, now);
                    !matches!(decision, Decision::Revoke(..) | Decision::Refuse(_))
                })
        };
        row.revoked.is_some() || (idle && !self.copies.iter().any(works))
    }
}
