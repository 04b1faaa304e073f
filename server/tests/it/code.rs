//! Section 2 of the cases: a code into tokens.

use crate::support::{ISSUER, SHOP, TestApp, exchange};

#[tokio::test]
async fn c040_a_code_and_its_verifier_give_tokens() {
    let test = TestApp::new().await;
    let code = test.code(SHOP).await;
    let tokens = test.granted(exchange(&code)).await;
    assert_eq!(tokens.claims["iss"], ISSUER);
    assert!(test.is_live(&tokens.refresh_token).await);
    test.refused(
        exchange(&code).set("code_verifier", crate::support::WRONG_VERIFIER),
        "invalid_grant",
    )
    .await;
    assert_eq!((test.count("profiles"), test.count("grants")), (1, 1));
}
