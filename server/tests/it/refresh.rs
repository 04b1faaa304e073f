//! Section 3 of the cases: a refresh token into new tokens.

use crate::support::{TestApp, refresh};

#[tokio::test]
async fn c067_a_refresh_token_gives_new_tokens_for_the_same_guest() {
    let test = TestApp::new().await;
    let first = test.guest().await;
    let second = test.granted(refresh(&first.refresh_token)).await;
    assert_eq!(second.sub(), first.sub());
    assert_eq!(second.claims["subn"], first.claims["subn"]);
    assert_ne!(second.access_token, first.access_token);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert!(test.is_live(&second.refresh_token).await);
    assert_eq!((test.count("profiles"), test.count("grants")), (1, 1));
}
