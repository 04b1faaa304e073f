//! A node corrects its clock to the database's.

use std::sync::Arc;
use std::time::Duration;

use guestpass::clock::{Clock, CorrectedClock};
use guestpass_core::time::Timestamp;

use crate::support::FakeClock;

const SECOND: Duration = Duration::from_secs(1);

/// A node's clock, and a database whose clock is ahead of it.
struct Corrected {
    local: Arc<FakeClock>,
    clock: CorrectedClock,
    ahead: Duration,
}

impl Corrected {
    fn new(ahead: Duration) -> Self {
        let local = Arc::new(FakeClock::new());
        let clock = CorrectedClock::new(local.clone());
        Self {
            local,
            clock,
            ahead,
        }
    }

    fn right(&self) -> Timestamp {
        self.local.now() + self.ahead
    }

    /// Returns the distance between the corrected clock and the database's.
    fn error(&self) -> Duration {
        let (now, right) = (self.clock.now(), self.right());
        now.since(right).max(right.since(now))
    }

    /// Polls the database: the question travels for `there`, the answer for `back`.
    fn ask(&self, there: Duration, back: Duration) {
        let query = self.clock.start_query();
        self.local.advance(there);
        let told = self.right();
        self.local.advance(back);
        self.clock.correct(query, told);
    }
}

#[test]
fn a_clock_that_is_off_is_corrected_at_once() {
    let node = Corrected::new(20 * SECOND);
    assert_eq!(node.error(), 20 * SECOND);
    node.ask(Duration::ZERO, Duration::ZERO);
    assert_eq!(
        (node.error(), node.clock.is_unreliable()),
        (Duration::ZERO, false)
    );
    node.local.advance(3600 * SECOND);
    assert_eq!(node.error(), Duration::ZERO);
    // Someone sets it.
    node.local.jump(-60_000);
    node.ask(Duration::ZERO, Duration::ZERO);
    assert_eq!(node.error(), Duration::ZERO);
}

#[test]
fn a_clock_that_may_be_right_is_left_as_it_is() {
    let node = Corrected::new(Duration::ZERO);
    for (there, back) in [(0, 4), (4, 0), (2, 2), (0, 60), (60, 0)] {
        node.ask(there * SECOND, back * SECOND);
        let error = (node.error(), node.clock.is_unreliable());
        assert_eq!(error, (Duration::ZERO, false), "{there} there, {back} back");
    }
}

#[test]
fn a_slow_answer_makes_no_clock_worse() {
    let error = Duration::from_millis(5);
    for (there, back) in [(2, 0), (0, 2), (1, 1)] {
        let node = Corrected::new(error);
        node.ask(there * SECOND, back * SECOND);
        assert!(
            node.error() <= error,
            "{there} there, {back} back: {:?}",
            node.error()
        );
    }
}

#[test]
fn a_clock_that_nobody_can_correct_is_unreliable() {
    let node = Corrected::new(20 * SECOND);
    node.ask(2 * SECOND, 2 * SECOND);
    assert_eq!(
        (node.error(), node.clock.is_unreliable()),
        (20 * SECOND, true)
    );
    // The next answer comes in time.
    node.ask(Duration::ZERO, Duration::ZERO);
    assert_eq!(
        (node.error(), node.clock.is_unreliable()),
        (Duration::ZERO, false)
    );
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod of_machines {
    use crate::nodes::installation::{Installation, Node, issued_at};
    use crate::nodes::races::share;
    use crate::support::{refresh, shim, verify};

    #[test]
    fn nodes_whose_clocks_are_apart_agree() {
        let installation = Installation::new();
        let (ahead, right) = (apart(&installation), started(&installation, "right"));
        let mut last = None;
        for turn in 0..6 {
            let (node, other) = if turn % 2 == 0 {
                (&ahead, &right)
            } else {
                (&right, &ahead)
            };
            let tokens = node.server.guest();
            let issued = issued_at(&tokens);
            // One second of rounding, and one that a correction may leave.
            assert!(
                last.is_none_or(|last| last <= issued + 2),
                "{last:?} {issued}"
            );
            last = Some(issued);
            let passed = other.server.send(&verify(&tokens.access_token));
            assert_eq!(passed.status, 200, "{passed:?}");
            // Within the grace window at both.
            let first = node.server.send(&refresh(&tokens.refresh_token)).tokens();
            let again = other.server.send(&refresh(&tokens.refresh_token)).tokens();
            assert_eq!(first.refresh_token, again.refresh_token);
        }
        let ours = "select max(issued_at) - min(issued_at) from grants";
        assert!(
            installation.number(ours) < 20_000,
            "the grants lie further apart than the clocks"
        );
        assert!(
            ahead.server.log().contains("isn't the database's"),
            "{}",
            ahead.server.log()
        );
    }

    #[test]
    fn tabs_outlive_a_node_whose_clock_is_wrong() {
        let installation = Installation::new();
        let (doomed, other) = (apart(&installation), started(&installation, "right"));
        share(&installation, doomed, &other);
        let (doomed, other) = (started(&installation, "right"), apart(&installation));
        installation.sql("delete from grants");
        share(&installation, doomed, &other);
    }

    /// Starts a node whose clock is 20 s ahead, more than the grace window.
    fn apart(installation: &Installation) -> Node {
        let mut binary = installation.node("ahead");
        let library = shim(binary.working_dir(), include_str!("clock_shim.c"));
        binary.set_variable("LD_PRELOAD", library.to_str().unwrap());
        binary.set_variable("CLOCK_SHIM_SECONDS", "20");
        binary.set_variable("GUESTPASS_LOG__LEVEL", "warn");
        binary.set_variable("GUESTPASS_TOKENS__GRACE", "10s");
        Node::start(binary)
    }

    fn started(installation: &Installation, name: &str) -> Node {
        let mut binary = installation.node(name);
        binary.set_variable("GUESTPASS_TOKENS__GRACE", "10s");
        Node::start(binary)
    }
}
