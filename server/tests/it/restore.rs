//! A database that goes back in time: what was erased or revoked meanwhile must not come back with it.

use std::fs;

use guestpass::journal::Entry;
use guestpass::restore::{catch_up, has_lost};

use crate::support::{TestApp, config, profile, revoke};

mod sqlite;

#[tokio::test]
async fn what_ended_after_a_backup_stays_ended() {
    let test = TestApp::new().await;
    let [erased, revoked, alone, live] = [
        test.guest().await,
        test.guest().await,
        test.guest().await,
        test.guest().await,
    ];
    let backup = test.database.beside("backup");
    test.database.copy_to(&backup).await;
    test.clock.advance_secs(60);
    test.app.follow().await;
    let late = test.guest().await;
    test.send(profile(&erased.access_token).method("DELETE"))
        .await;
    test.send(revoke(&revoked.refresh_token)).await;
    test.send(revoke(&alone.access_token)).await;
    test.send(revoke(&late.refresh_token)).await;
    backup.copy_to(&test.database).await;

    let restored = test.beside(config(&[])).await;
    for tokens in [&erased, &revoked] {
        assert!(!restored.is_live(tokens).await);
    }
    assert!(!restored.passes(&alone.access_token).await);
    assert!(!restored.is_active(&alone.access_token).await);
    assert!(restored.refreshes(&alone).await);
    assert!(restored.is_live(&live).await);
    assert_eq!(
        (
            restored.count("profiles").await,
            restored.count("tombstones").await
        ),
        (3, 1)
    );
    // A guest that the backup doesn't know is gone, and nothing makes it come back.
    assert!(!restored.refreshes(&late).await);

    // That was all, so there is nothing to repeat at the next start; and to repeat it does nothing.
    let entries = restored.journaled();
    assert_eq!(entries.len(), 4);
    let journal = restored.journal();
    assert!(!has_lost(&*restored.store, &journal).await.unwrap());
    let keys = restored.app.keys().now();
    let recorder = restored.recorder();
    let again = catch_up(&*restored.store, &journal, 0, &keys, &recorder)
        .await
        .unwrap();
    assert_eq!((again.grants, again.access_tokens, again.guests), (0, 0, 0));
}

#[tokio::test]
async fn the_journal_is_as_good_as_its_last_whole_line() {
    let test = TestApp::new().await;
    let [first, second] = [test.guest().await, test.guest().await];
    for tokens in [&first, &second] {
        test.send(revoke(&tokens.refresh_token)).await;
    }
    // The power went while the second line was written.
    let whole = fs::read(test.journal()).unwrap();
    let mut lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    // The mark of the start comes first, and that the database has it.
    lines.drain(..2);
    for kept in [
        0,
        1,
        lines[1].len() / 2,
        lines[1].len() - 2,
        lines[1].len() - 1,
    ] {
        fs::write(test.journal(), [lines[0], &lines[1][..kept]].concat()).unwrap();
        let again = test.beside(config(&[])).await;
        let third = again.guest().await;
        again.send(revoke(&third.access_token)).await;
        let entries = again.journaled();
        assert!(matches!(entries.last(), Some(Entry::AccessTokenRevoked(_))));
        // But for its end, the last line may be whole.
        let expected = if kept == lines[1].len() - 1 { 3 } else { 2 };
        assert_eq!(entries.len(), expected, "{kept} bytes of the second line");
    }
    for tokens in [&first, &second] {
        assert!(!test.is_live(tokens).await);
    }
}
