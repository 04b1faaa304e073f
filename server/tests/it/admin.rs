//! The operators' API.

use crate::support::{TestApp, exchange, refresh, request};

#[tokio::test]
async fn metrics_count_what_happened_and_name_nobody() {
    let test = TestApp::new().await;
    let guest = test.guest().await;
    test.granted(refresh(&guest.refresh_token)).await;
    test.granted(refresh(&guest.refresh_token)).await;
    test.refused(exchange("nonsense"), "invalid_grant").await;

    let text = test.metrics().await;
    for line in [
        r#"guestpass_answers_total{endpoint="/oauth/authorize",status="200"} 1"#,
        r#"guestpass_answers_total{endpoint="/oauth/token",status="400"} 1"#,
        r#"guestpass_refusals_total{refusal="credential_unknown"} 1"#,
        r#"guestpass_tokens_total{grant_type="authorization_code",decision="advance"} 1"#,
        r#"guestpass_tokens_total{grant_type="refresh_token",decision="advance"} 1"#,
        r#"guestpass_tokens_total{grant_type="refresh_token",decision="repeat"} 1"#,
        // The time (twice), the mark of the journal, a guest, an exchange and a refresh; a repeat writes nothing.
        "guestpass_batch_writes_sum 6.0",
        "guestpass_clock_trusted 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(
        !text.contains("shop") && !text.contains(guest.sub()),
        "{text}"
    );
}

#[tokio::test]
async fn the_public_api_has_no_metrics() {
    let test = TestApp::new().await;
    assert_eq!(test.send(request("GET", "/metrics")).await.status, 404);
}
