//! Of the wrong verifiers that are shown for one code no more are judged than the limit, however many come at once.

use std::sync::Arc;

use crate::support::{SHOP, Sent, TestApp, exchange, lines_of};

const LIMIT: usize = 5;
const ROUNDS: usize = 10;

fn guess(code: &str, number: usize) -> Sent {
    exchange(code).set("code_verifier", &format!("{number:0>43}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn f34_no_more_guesses_are_judged_than_the_limit() {
    let test = Arc::new(TestApp::new().await);
    for round in 1..=ROUNDS {
        let code = test.code(SHOP).await;
        let mut requests: Vec<_> = (0..59).map(|number| guess(&code, number)).collect();
        // Now among the first, now among the last.
        requests.insert(6 * (round - 1), exchange(&code));
        let answers = test.at_once(requests).await;
        let (mut granted, mut judged) = (0, 0);
        for answer in answers {
            if answer.status == 200 {
                granted += 1;
                continue;
            }
            let outcome = (answer.status.as_u16(), answer.error());
            assert_eq!(outcome, (400, "invalid_grant"), "{answer:?}");
            let lines = lines_of(answer.log_name());
            let was_judged = |line: &serde_json::Value| line["refusal"] == "verifier_wrong";
            judged += usize::from(lines.iter().any(was_judged));
        }
        if granted == 1 {
            assert!(
                judged < LIMIT,
                "round {round}: {judged} before the right one"
            );
        } else {
            assert_eq!((granted, judged), (0, LIMIT), "round {round}");
        }
        let strikes = "select strikes from grants order by issued_at desc, profile_id";
        let strikes = test.database.column(strikes).await;
        assert!(
            strikes
                .iter()
                .all(|count| count.parse::<usize>().unwrap() <= LIMIT),
            "{strikes:?}"
        );
    }
}
