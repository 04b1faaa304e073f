//! The decision of a refresh, by the presented generation *g*, the outstanding *n* and the proven *p* (C073 to C075).

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::Clock;
use guestpass_core::policy::{LateRetry, Policy};
use serde_json::{Value, json};

use self::Decision::{Advance, Recover, Refuse, Reissue, Repeat, Revoke};
use crate::support::{Answer, SHOP, TestApp, Tokens, exchange, lines_of, refresh};

const IN_WINDOW: Duration = Duration::from_millis(29_999);
const AFTER_WINDOW: Duration = Duration::from_secs(30);
const OVERTAKEN: Decision = Refuse("refresh_token_overtaken");
const REPLAYED: Decision = Revoke("refresh_token_replayed", "refresh_token_replayed");
const CONTESTED: Decision = Revoke("refresh_token_contested", "contested");
const RETRIED_LATE: Decision = Revoke("refresh_token_retried_late", "retried_late");

#[tokio::test]
async fn every_refresh_is_decided_as_the_table_says() {
    let test = TestApp::new().await;
    for ((n, p), presented, wait, decision) in [
        // The newest credential is used, early or late.
        ((1, 0), 1, IN_WINDOW, Advance),
        ((1, 0), 1, AFTER_WINDOW, Advance),
        ((2, 1), 2, IN_WINDOW, Advance),
        ((5, 2), 5, AFTER_WINDOW, Advance),
        ((10, 1), 10, AFTER_WINDOW, Advance),
        // Tabs, or a retry at once.
        ((2, 1), 1, IN_WINDOW, Repeat),
        ((5, 2), 2, IN_WINDOW, Repeat),
        ((5, 2), 4, IN_WINDOW, Repeat),
        ((10, 1), 1, IN_WINDOW, Repeat),
        ((10, 1), 9, IN_WINDOW, Repeat),
        // The answer was lost, or stored late.
        ((2, 1), 1, AFTER_WINDOW, Reissue),
        ((5, 2), 2, AFTER_WINDOW, Reissue),
        ((5, 2), 4, AFTER_WINDOW, Reissue),
        ((9, 1), 1, AFTER_WINDOW, Reissue),
        ((9, 1), 8, AFTER_WINDOW, Reissue),
        // Two parties take turns.
        ((10, 1), 1, AFTER_WINDOW, CONTESTED),
        ((10, 1), 9, AFTER_WINDOW, CONTESTED),
        // Overtaken on its way by the next request.
        ((3, 2), 1, IN_WINDOW, OVERTAKEN),
        ((5, 3), 2, IN_WINDOW, OVERTAKEN),
        // A replay of a spent credential.
        ((3, 2), 1, AFTER_WINDOW, REPLAYED),
        ((5, 3), 1, AFTER_WINDOW, REPLAYED),
        ((5, 3), 2, AFTER_WINDOW, REPLAYED),
    ] {
        let mut family = Family::at(&test, n, p).await;
        family.decides(presented, wait, decision).await;
    }
}

#[tokio::test]
async fn a_late_retry_is_revoked_where_the_operator_reads_the_standard_strictly() {
    for (grace, (n, p), presented, wait, decision) in [
        (30, (2, 1), 2, AFTER_WINDOW, Advance),
        (30, (2, 1), 1, IN_WINDOW, Repeat),
        (30, (2, 1), 1, AFTER_WINDOW, RETRIED_LATE),
        (30, (3, 2), 1, IN_WINDOW, OVERTAKEN),
        (30, (3, 2), 1, AFTER_WINDOW, REPLAYED),
        (0, (2, 1), 2, Duration::ZERO, Advance),
        (0, (2, 1), 1, Duration::ZERO, RETRIED_LATE),
        (0, (3, 2), 1, Duration::ZERO, REPLAYED),
    ] {
        let test = TestApp::with_policy(strict(grace)).await;
        let mut family = Family::at(&test, n, p).await;
        family.decides(presented, wait, decision).await;
    }
}

/// A restore or a lossy failover brings back an earlier row, and guests hold credentials that it knows nothing of.
#[tokio::test]
async fn a_credential_newer_than_its_row_is_recovered_from() {
    const ENDED: i64 = -86_400;
    let test = TestApp::new().await;
    for ((n, p), presented, wait, expires_in) in [
        ((2, 1), 5, IN_WINDOW, 86_400),
        ((2, 1), 5, AFTER_WINDOW, 86_400),
        ((2, 1), 3, IN_WINDOW, 86_400),
        ((4, 1), 5, AFTER_WINDOW, 86_400),
        // The expiry in the row is that of an older credential.
        ((2, 1), 5, AFTER_WINDOW, ENDED),
        // Even back to when its code was outstanding.
        ((0, 0), 5, AFTER_WINDOW, ENDED),
        ((0, 0), 1, AFTER_WINDOW, ENDED),
    ] {
        let mut family = Family::at(&test, 5, 2).await;
        family.rewind(n, p, expires_in).await;
        family.decides(presented, wait, Recover).await;
        // From here on it is a grant like any other.
        family.decides(presented, IN_WINDOW, Repeat).await;
        family.decides(presented + 1, Duration::ZERO, Advance).await;
        family.decides(presented, IN_WINDOW, OVERTAKEN).await;
        family.decides(presented, AFTER_WINDOW, REPLAYED).await;
    }
}

#[tokio::test]
async fn a_rewound_row_moves_no_end() {
    let policy = Policy {
        refresh_max: Duration::from_secs(3600),
        ..Policy::default()
    };
    let test = TestApp::with_policy(policy).await;
    let family = Family::at(&test, 5, 2).await;
    family.rewind(2, 1, 3600).await;
    test.clock.advance_secs(3600);
    let answer = test.refused(refresh(&family.credentials[5]), "invalid_grant");
    assert_eq!(told(&answer.await, "/refusal"), "grant_ended");
}

#[tokio::test]
async fn c073_a_retry_at_once_gets_the_same_successor_again() {
    let test = TestApp::new().await;
    let mut family = Family::new(&test).await;
    let first = family.granted(1).await;
    let rows = test.rows().await;
    for (millis, iat) in [(0, 0), (1000, 1), (28_999, 29)] {
        test.clock.advance(Duration::from_millis(millis));
        let again = family.granted(1).await;
        assert_eq!(again.refresh_token, first.refresh_token);
        assert_ne!(again.claims["jti"], first.claims["jti"]);
        assert_eq!(again.claims["sub"], first.claims["sub"]);
        assert_eq!(
            again.claims["iat"],
            first.claims["iat"].as_i64().unwrap() + iat
        );
        assert_eq!(test.rows().await, rows);
    }
    assert!(test.is_live(&first).await);
}

#[tokio::test]
async fn c074_a_late_retry_gets_a_new_successor() {
    let test = TestApp::new().await;
    let mut family = Family::new(&test).await;
    family.granted(1).await;
    // (a) The predecessor, its successor never used; (b) then the successor that was replaced.
    family.decides(1, AFTER_WINDOW, Reissue).await;
    family.decides(2, AFTER_WINDOW, Reissue).await;
    assert_eq!(family.credentials.len(), 5);
    assert_eq!(test.counts().await, (1, 1));
}

#[tokio::test]
async fn c074_a_replay_ends_the_family() {
    // (c) The predecessor, its successor having been used.
    let test = TestApp::new().await;
    let mut family = Family::at(&test, 3, 2).await;
    family.decides(1, AFTER_WINDOW, REPLAYED).await;

    // (d) A late retry that the operator won't have.
    let test = TestApp::with_policy(strict(30)).await;
    let mut family = Family::at(&test, 2, 1).await;
    family.decides(1, AFTER_WINDOW, RETRIED_LATE).await;

    // (e) A ninth unproven retry.
    let test = TestApp::new().await;
    let mut family = Family::at(&test, 2, 1).await;
    for _ in 1..=8 {
        family.decides(1, AFTER_WINDOW, Reissue).await;
    }
    family.decides(1, AFTER_WINDOW, CONTESTED).await;
}

#[tokio::test]
async fn c074_an_overtaken_request_ends_nothing() {
    // (f) Inside the window, a credential older than the last proven one.
    let test = TestApp::new().await;
    let mut family = Family::at(&test, 3, 2).await;
    family.decides(1, IN_WINDOW, OVERTAKEN).await;
}

#[tokio::test]
async fn c075_no_credential_outlives_its_family() {
    let strict = strict(30);
    for (policy, (n, p), decision) in [
        (Policy::default(), (3, 2), REPLAYED),
        (Policy::default(), (10, 1), CONTESTED),
        (strict, (2, 1), RETRIED_LATE),
    ] {
        let test = TestApp::with_policy(policy).await;
        let mut family = Family::at(&test, n, p).await;
        family.decides(1, AFTER_WINDOW, decision).await;
        for tokens in &family.granted {
            assert!(!test.is_live(tokens).await, "{decision:?}");
        }
        for generation in (1..=family.newest()).rev() {
            let credential = &family.credentials[generation];
            let answer = test.refused(refresh(credential), "invalid_grant").await;
            assert_eq!(
                told(&answer, "/refusal"),
                "grant_revoked",
                "{decision:?}: {generation}"
            );
        }
    }
}

fn strict(grace: u64) -> Policy {
    Policy {
        grace: Duration::from_secs(grace),
        late_retry: LateRetry::Revoke,
        ..Policy::default()
    }
}

/// A guest's grant and every credential it ever had, in the order of their generations.
struct Family<'a> {
    test: &'a TestApp,
    profile_id: i64,
    /// The code comes first.
    credentials: Vec<String>,
    /// All that was ever issued from it.
    granted: Vec<Tokens>,
}

#[derive(Clone, Copy, Debug)]
enum Decision {
    Advance,
    Repeat,
    Reissue,
    /// An advance from the credential instead of the row.
    Recover,
    /// The name of the refusal.
    Refuse(&'static str),
    /// The name of the refusal, and why the grant ended.
    Revoke(&'static str, &'static str),
}

impl<'a> Family<'a> {
    /// Its first refresh token is outstanding.
    async fn new(test: &'a TestApp) -> Self {
        let code = test.code(SHOP).await;
        let tokens = test.granted(exchange(&code)).await;
        Self {
            test,
            profile_id: tokens.sub().parse().unwrap(),
            credentials: vec![code, tokens.refresh_token.clone()],
            granted: vec![tokens],
        }
    }

    /// Generation `n` is outstanding, `p` is the newest that was proven, and the last write was now.
    async fn at(test: &'a TestApp, n: usize, p: usize) -> Self {
        let mut family = Self::new(test).await;
        for generation in 1..=p {
            family.granted(generation).await;
        }
        while family.newest() < n {
            test.clock
                .advance(test.app.clients().policy_for(None).grace);
            family.granted(p).await;
        }
        assert_eq!(family.row().await, (n, p, None));
        family
    }

    /// Presents a credential, which must be granted, and remembers the successor.
    async fn granted(&mut self, generation: usize) -> Tokens {
        let tokens = self
            .test
            .granted(refresh(&self.credentials[generation]))
            .await;
        if !self.credentials.contains(&tokens.refresh_token) {
            self.credentials.push(tokens.refresh_token.clone());
        }
        self.granted.push(tokens.clone());
        tokens
    }

    /// Presents credential `g` after `wait`, and checks that what happens is the decision, all of it and nothing else.
    async fn decides(&mut self, g: usize, wait: Duration, decision: Decision) {
        let (n, p, _) = self.row().await;
        let case = format!("n = {n}, p = {p}, g = {g} after {wait:?}: {decision:?}");
        let expected = match decision {
            Advance => (n + 1, n, None),
            Repeat | Refuse(_) => (n, p, None),
            Reissue => (n + 1, p, None),
            Recover => (g + 1, g, None),
            Revoke(_, reason) => (n, p, Some(reason.to_owned())),
        };
        self.test.clock.advance(wait);
        let before = self.test.rows().await;
        let answer = self.test.send(refresh(&self.credentials[g])).await;
        let changed = changed_rows(&before, &self.test.rows().await);
        assert_eq!(self.row().await, expected, "{case}");
        match decision {
            Advance | Repeat | Reissue | Recover => {
                assert_eq!(changed, usize::from(!matches!(decision, Repeat)), "{case}");
                assert_eq!(told(&answer, "/decision"), decision.name(), "{case}");
                self.is_given(expected.0, &answer, &case);
            }
            Refuse(refusal) | Revoke(refusal, _) => {
                assert_eq!(changed, usize::from(expected.2.is_some()), "{case}");
                assert_eq!(
                    (answer.status, answer.error()),
                    (StatusCode::BAD_REQUEST, "invalid_grant"),
                    "{case}"
                );
                assert_eq!(told(&answer, "/refusal"), refusal, "{case}");
            }
        }
        let newest = &self.credentials[expected.0];
        let newest = Tokens {
            refresh_token: newest.clone(),
            ..self.granted.last().unwrap().clone()
        };
        let live = self.test.is_live(&newest).await;
        assert_eq!(live, expected.2.is_none(), "{case}");
        assert_eq!(alarm(&answer), decision.alarm(), "{case}");
    }

    /// Checks that the answer has the refresh token of generation `n`: the one of earlier answers, or a new one.
    fn is_given(&mut self, n: usize, answer: &Answer, case: &str) {
        let tokens = answer.tokens();
        let given = tokens.refresh_token.clone();
        self.granted.push(tokens);
        match self.credentials.get(n) {
            Some(known) => assert_eq!(given, *known, "{case}"),
            None => {
                assert!(!self.credentials.contains(&given), "{case}");
                self.credentials.push(given);
            }
        }
    }

    fn newest(&self) -> usize {
        self.credentials.len() - 1
    }

    /// Returns *n*, *p*, and the reason of its revocation.
    async fn row(&self) -> (usize, usize, Option<String>) {
        let sql = format!(
            "select generation, proven, revocation_reason from grants where profile_id = {}",
            self.profile_id
        );
        let [row] = <[_; 1]>::try_from(self.test.sql(&sql).await).unwrap();
        let [n, p, reason] = <[_; 3]>::try_from(row).unwrap();
        let number = |text: Option<String>| text.unwrap().parse().unwrap();
        (number(n), number(p), reason)
    }

    /// Puts back the row that had `n` outstanding and `p` proven, so that it expires in so many seconds.
    async fn rewind(&self, n: usize, p: usize, expires_in: i64) {
        let now = self.test.clock.now().as_millis();
        let (profile_id, expires_at) = (self.profile_id, now + expires_in * 1000);
        let sql = format!(
            "update grants set generation = {n}, proven = {p}, advanced_at = {now}, expires_at = {expires_at}
              where profile_id = {profile_id} returning 1"
        );
        assert_eq!(self.test.sql(&sql).await.len(), 1);
    }
}

impl Decision {
    /// Returns its name in the log, if it grants something.
    fn name(self) -> &'static str {
        match self {
            Advance => "advance",
            Repeat => "repeat",
            Reissue => "reissue",
            Recover => "recover",
            Refuse(_) | Revoke(..) => "",
        }
    }

    /// Returns its further line in the log, if it writes one: level, source, message and reason.
    fn alarm(self) -> Option<Value> {
        const REWOUND: &str = "a credential is newer than its row: the database went back in time";
        match self {
            Advance | Repeat | Reissue | Refuse(_) => None,
            Revoke(_, reason) => Some(json!([
                "WARN",
                "guestpass::security",
                "grant revoked",
                reason
            ])),
            Recover => Some(json!(["ERROR", "guestpass::grants", REWOUND, null])),
        }
    }
}

/// Returns the alarms in the log about an answer's request.
fn alarm(answer: &Answer) -> Option<Value> {
    let mut lines = lines_of(answer.log_name());
    lines.retain(|line| line["level"] == "WARN" || line["level"] == "ERROR");
    assert!(lines.len() <= 1, "{lines:?}");
    let fields = ["level", "target", "message", "reason"];
    let line = lines.first()?;
    Some(fields.map(|name| line[name].clone()).into_iter().collect())
}

/// Reads the log line about an answer's request at a JSON pointer.
fn told(answer: &Answer, pointer: &str) -> String {
    let lines = lines_of(answer.log_name());
    let line = lines.iter().find(|line| line["message"] == "answered");
    let said = line.and_then(|line| line.pointer(pointer)?.as_str());
    said.unwrap_or_else(|| panic!("no {pointer} in {lines:?}"))
        .to_owned()
}

fn changed_rows(before: &[String], after: &[String]) -> usize {
    assert_eq!(before.len(), after.len());
    before
        .iter()
        .zip(after)
        .filter(|(before, after)| before != after)
        .count()
}
