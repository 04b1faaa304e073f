//! Only the node with the lease cleans.

use std::time::Duration;

use guestpass::upkeep::{Cleaner, Step};

use crate::support::{Backend, DAY, SHOP, TestApp, config};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn one_node_cleans_until_it_is_silent() {
    let first = TestApp::on(Backend::Postgres, config(&[("node", "first")])).await;
    let second = first.beside(config(&[("node", "second")])).await;
    first.code(SHOP).await;
    first.clock.advance(8 * DAY);
    let (mut one, mut two) = (cleaner(&first), cleaner(&second));
    assert_eq!(one.step().await.unwrap(), Step::Finished { removed: 1 });
    // It keeps the lease for as long as it renews it, and until the lease runs out.
    for _ in 0..48 {
        first.clock.advance(HOUR);
        assert_eq!(two.step().await.unwrap(), Step::Elsewhere);
        assert_eq!(one.step().await.unwrap(), Step::Finished { removed: 0 });
    }
    second.code(SHOP).await;
    first.clock.advance(HOUR);
    assert_eq!(two.step().await.unwrap(), Step::Elsewhere);
    first.clock.advance(8 * DAY);
    assert_eq!(two.step().await.unwrap(), Step::Finished { removed: 1 });
    assert_eq!(one.step().await.unwrap(), Step::Elsewhere);
}

fn cleaner(test: &TestApp) -> Cleaner {
    Cleaner::new(&test.app, config(&[]).keep, false)
}
