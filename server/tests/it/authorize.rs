//! Section 1 of the cases: the authorization endpoint and its parameters.

use crate::support::{TestApp, authorize};

#[tokio::test]
async fn c001_a_code_and_the_state_for_a_new_guest() {
    let test = TestApp::new().await;
    let answer = test.send(authorize()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json().as_object().unwrap().len(), 2);
    assert_eq!(answer.text("state"), "a1F5Kdf5Dhn123");
    let code = answer.text("code");
    // 48 bytes, all but the tag of which are encrypted, and 64 random bits among them.
    assert_eq!(code.len(), 64);
    assert!(
        code.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    assert_eq!((test.count("profiles"), test.count("grants")), (1, 1));
}
