//! Checks the rules cell by cell, against tables.

use std::time::Duration;

use guestpass_core::grant::{Decision, Grant, RevocationReason};
use guestpass_core::policy::{LateRetry, Policy};
use guestpass_core::refusal::Refusal;

use crate::server::{
    CLIENT, DAY, MILLISECOND, Proof, REVOCATION, Request, START, Server, nth, strict,
};

/// Exactly one row of the table covers each combination of *g* presented, *n* outstanding and *p* proven.
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
            let expected: Vec<_> = table
                .into_iter()
                .filter(|(covers, _)| *covers)
                .map(|(_, then)| then)
                .collect();
            let decided = row.refresh(nth(g), CLIENT, &policy, now);
            assert_eq!(expected, [decided], "{g} shown to {row:?} at {now:?}");
        }
    }
}

/// Each row has the seconds since the code was issued, the verifier, and the decision for the right client. No policy
/// lets a code live longer than 600 s.
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

/// After a write whose outcome is unknown, the row is read again: either as it was before that write, or as written.
#[test]
fn nobody_takes_their_own_write_for_anothers() {
    for policy in [Policy::default(), strict()] {
        let row = Server::redeemed(&policy).row;
        let now = row.advanced_at + DAY;
        let refresh = |row: &Grant, presented| row.refresh(presented, CLIENT, &policy, now);
        let first = refresh(&row, row.generation);
        assert_eq!(first.clone().when_unsure(), Some(first.clone()));
        let Decision::Advance(written) = first else {
            panic!("{first:?}");
        };
        let again = refresh(&written, row.generation).when_unsure();
        let expected = (!policy.grace.is_zero()).then_some(Decision::Repeat);
        assert_eq!(again, expected);
    }
    let replay = Decision::Revoke(Refusal::CodeReplayed, RevocationReason::CodeReplayed);
    for decision in [replay, Decision::Refuse(Refusal::CodeSpent)] {
        assert_eq!(decision.when_unsure(), None);
    }
    // These don't depend on the outcome of any write.
    let wrong = Decision::Strike(Refusal::VerifierWrong);
    for decision in [wrong, Decision::Refuse(Refusal::GrantRevoked)] {
        assert_eq!(decision.clone().when_unsure(), Some(decision));
    }
}
