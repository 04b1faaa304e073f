//! A node follows the database's clock.

use std::sync::Arc;
use std::time::Duration;

use guestpass::clock::{Clock, SteadyClock};
use guestpass::store::Seen;
use guestpass_core::time::Timestamp;

use crate::support::FakeClock;

const SECOND: Duration = Duration::from_secs(1);

/// A node's clock, and a database whose clock is right.
struct Node {
    machine: Arc<FakeClock>,
    clock: SteadyClock,
    /// The time of the database's clock when the machine's monotonic clock is at zero.
    epoch: Timestamp,
}

impl Node {
    /// Starts a node whose own clock is behind by that much.
    fn behind(error: Duration) -> Self {
        let machine = Arc::new(FakeClock::new());
        let clock = SteadyClock::new(machine.clone());
        let epoch = machine.now() + error;
        Self {
            machine,
            clock,
            epoch,
        }
    }

    fn right(&self) -> Timestamp {
        self.epoch + self.machine.monotonic()
    }

    /// Returns the distance between the node's time and the database's.
    fn error(&self) -> Duration {
        let (now, right) = (self.clock.now(), self.right());
        now.since(right).max(right.since(now))
    }

    /// Asks the database: the question travels for `there`, the answer for `back`.
    fn ask(&self, there: Duration, back: Duration) {
        let query = self.clock.start_query();
        self.machine.advance(there);
        let told = self.right();
        self.machine.advance(back);
        self.clock.correct(query, told);
    }

    /// Begins to serve a database that another node serves.
    fn begin(&self) {
        self.clock.begin(Seen {
            at: Some(self.right()),
            resets: 0,
        });
    }
}

#[test]
fn the_first_answer_is_believed() {
    let node = Node::behind(20 * SECOND);
    node.ask(Duration::ZERO, Duration::ZERO);
    node.begin();
    assert_eq!(node.error(), Duration::ZERO);
    node.machine.advance(3600 * SECOND);
    assert_eq!(node.error(), Duration::ZERO);
}

#[test]
fn what_is_set_on_the_machine_has_no_effect() {
    let node = Node::behind(Duration::ZERO);
    node.ask(Duration::ZERO, Duration::ZERO);
    node.begin();
    for millis in [-90_000, 3_600_000, -315_576_000_000, 631_152_000_000] {
        node.machine.jump(millis);
        assert_eq!(node.error(), Duration::ZERO, "before the next look");
        node.clock.look();
        node.ask(Duration::ZERO, Duration::ZERO);
        assert_eq!(node.error(), Duration::ZERO);
        assert!(!node.clock.is_doubted());
    }
}

#[test]
fn a_time_that_may_be_right_is_left_as_it_is() {
    let node = Node::behind(Duration::ZERO);
    node.begin();
    for (there, back) in [(0, 4), (4, 0), (2, 2), (0, 60), (60, 0)] {
        node.ask(there * SECOND, back * SECOND);
        assert_eq!(node.error(), Duration::ZERO, "{there} there, {back} back");
        assert!(!node.clock.is_doubted());
    }
}

#[test]
fn a_slow_answer_makes_no_clock_worse() {
    let error = Duration::from_millis(5);
    for (there, back) in [(2, 0), (0, 2), (1, 1)] {
        for has_begun in [false, true] {
            let node = Node::behind(error);
            if has_begun {
                node.begin();
            }
            node.ask(there * SECOND, back * SECOND);
            assert!(
                node.error() <= error,
                "{there} there, {back} back: {:?}",
                node.error()
            );
        }
    }
}

#[test]
fn a_small_error_is_corrected_slowly_and_never_backwards() {
    let node = Node::behind(Duration::ZERO);
    node.ask(Duration::ZERO, Duration::ZERO);
    node.begin();
    // The database has moved to a machine whose clock is four seconds behind.
    let mut last = node.clock.now();
    let behind = Node {
        epoch: node.epoch.before(4 * SECOND),
        ..node
    };
    for _ in 0..40 {
        behind.machine.advance(SECOND);
        behind.ask(Duration::ZERO, Duration::ZERO);
        let now = behind.clock.now();
        assert!(now > last);
        last = now;
    }
    assert_eq!(behind.error(), Duration::ZERO);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod of_machines {
    use std::time::Instant;

    use crate::nodes::installation::{Installation, Node, issued_at};
    use crate::nodes::races::share;
    use crate::support::binary::eventually;
    use crate::support::{refresh, revoke, shim, verify};

    #[test]
    fn nodes_whose_clocks_are_apart_agree() {
        let installation = Installation::new();
        let (ahead, right) = (apart(&installation), started(&installation, "right"));
        let mut last = None;
        let start = Instant::now();
        for turn in 0..6 {
            let (node, other) = if turn % 2 == 0 {
                (&ahead, &right)
            } else {
                (&right, &ahead)
            };
            let tokens = node.server.guest();
            let issued = issued_at(&tokens);
            // A second of rounding, and what an answer of the database took that a clock was corrected by.
            assert!(
                last.is_none_or(|last| last <= issued + 30),
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
        let (apart, took) = (installation.number(ours), start.elapsed().as_millis());
        assert!(
            u128::try_from(apart).unwrap() < took + 30_000,
            "the grants lie as far apart as the clocks"
        );
        assert!(
            ahead.server.log().contains("isn't the database's"),
            "{}",
            ahead.server.log()
        );
    }

    /// The node's clock is set back and then corrected; between the two it revokes.
    #[test]
    fn f02_a_revocation_at_a_clock_that_was_set_back_is_heard_of() {
        let installation = Installation::new();
        let mut binary = installation.node("set back");
        let library = shim(binary.working_dir(), include_str!("clock_shim.c"));
        let clock = binary.working_dir().join("clock");
        binary.set_variable("LD_PRELOAD", library.to_str().unwrap());
        binary.set_variable("CLOCK_SHIM_FILE", clock.to_str().unwrap());
        let (wrong, other) = (Node::start(binary), installation.start("right"));
        for seconds in ["-90", "-86400", "-315576000", "315576000"] {
            let [by_refresh, by_access] = [other.server.guest(), other.server.guest()];
            std::fs::write(&clock, seconds).unwrap();
            for token in [&by_refresh.refresh_token, &by_access.access_token] {
                assert_eq!(wrong.server.send(&revoke(token)).status, 200);
            }
            std::fs::write(&clock, "0").unwrap();
            for tokens in [by_refresh, by_access] {
                eventually("the other node has heard of it", || {
                    other.server.send(&verify(&tokens.access_token)).status == 401
                });
            }
        }
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

    /// Starts a node whose clock is an hour ahead, more than the grace window, which is longer than any test.
    fn apart(installation: &Installation) -> Node {
        let mut binary = installation.node("ahead");
        let library = shim(binary.working_dir(), include_str!("clock_shim.c"));
        binary.set_variable("LD_PRELOAD", library.to_str().unwrap());
        binary.set_variable("CLOCK_SHIM_SECONDS", "3600");
        binary.set_variable("GUESTPASS_LOG__LEVEL", "warn");
        binary.set_variable("GUESTPASS_TOKENS__GRACE", "5m");
        Node::start(binary)
    }

    fn started(installation: &Installation, name: &str) -> Node {
        let mut binary = installation.node(name);
        binary.set_variable("GUESTPASS_TOKENS__GRACE", "5m");
        Node::start(binary)
    }
}
