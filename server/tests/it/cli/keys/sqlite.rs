//! The first server of an embedded store makes the keys.

use super::*;

#[test]
fn there_is_nothing_to_rotate_before_the_first_server() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let problem = binary.failure(&["key", "list"]);
    assert!(problem.contains("guestpass serve"), "{problem}");
}
