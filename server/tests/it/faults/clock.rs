//! The clock is wrong.

use std::time::Duration;

use axum::http::StatusCode;
use guestpass::clock::AGREEMENT;
use guestpass_core::policy::Policy;

use crate::support::{
    SHOP, TestApp, Tokens, authorize, config, exchange, refresh, request, revoke, verify,
};

#[path = "clock/machines.rs"]
mod machines;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 31_557_600_000;

/// Steps of the time of day, in milliseconds.
const STEPS: [i64; 8] = [6_000, HOUR, DAY, 10 * YEAR, -6_000, -HOUR, -DAY, -10 * YEAR];

/// Time passes on a server that looks at its clock, as it does twice a second.
async fn pass(test: &TestApp, duration: Duration) {
    let looks = 1 + duration.as_secs() / 600;
    for _ in 0..looks {
        test.clock.advance(duration / u32::try_from(looks).unwrap());
        test.app.follow().await;
    }
}

/// Returns the columns of the only grant that hold times.
async fn times(test: &TestApp) -> [i64; 4] {
    let mut times = [0; 4];
    for (time, column) in
        times
            .iter_mut()
            .zip(["issued_at", "advanced_at", "expires_at", "ends_at"])
    {
        *time = test.number(&format!("select {column} from grants")).await;
    }
    times
}

async fn status_of(test: &TestApp, token: &str) -> StatusCode {
    test.send(verify(token)).await.status
}

/// Refreshes, which must succeed.
async fn refreshed(test: &TestApp, tokens: &Tokens) -> Tokens {
    test.granted(refresh(&tokens.refresh_token)).await
}

#[tokio::test]
async fn f04_a_step_while_serving_changes_nothing() {
    for step in STEPS {
        let test = TestApp::new().await;
        let code = test.code(SHOP).await;
        let tokens = test.granted(exchange(&code)).await;
        let code = test.code(SHOP).await;
        test.clock.jump(step);
        for _ in 0..2 {
            assert_eq!(status_of(&test, &tokens.access_token).await, 200, "{step}");
            test.app.follow().await;
        }
        // Within the grace window and the lifetime of a code, as if nothing had happened.
        let first = refreshed(&test, &tokens).await;
        let again = refreshed(&test, &tokens).await;
        assert_eq!(first.refresh_token, again.refresh_token, "{step}");
        let exchanged = test.granted(exchange(&code)).await;
        assert_eq!(status_of(&test, &exchanged.access_token).await, 200);
        test.guest().await;
        assert_eq!(test.send(request("GET", "/readyz")).await.status, 200);

        // What is short ends on time all the same.
        let code = test.code(SHOP).await;
        pass(&test, Duration::from_secs(61)).await;
        test.refused(exchange(&code), "invalid_grant").await;

        test.clock.jump(-step);
        test.app.follow().await;
        assert_eq!(status_of(&test, &first.access_token).await, 200, "{step}");
        refreshed(&test, &first).await;
    }
}

#[tokio::test]
async fn f03_what_is_written_during_a_step_is_right_afterwards() {
    for step in STEPS {
        let test = TestApp::new().await;
        let tokens = test.guest().await;
        test.clock.jump(step);
        test.app.follow().await;
        let tokens = refreshed(&test, &tokens).await;
        test.clock.jump(-step);
        test.app.follow().await;
        let now = guestpass::clock::Clock::now(&*test.clock).as_millis();
        let policy = Policy::default();
        let idle = i64::try_from(policy.refresh_idle.as_millis()).unwrap();
        let max = i64::try_from(policy.refresh_max.as_millis()).unwrap();
        assert_eq!(
            times(&test).await,
            [now, now, now + idle, now + max],
            "{step}"
        );
        refreshed(&test, &tokens).await;
    }
}

#[tokio::test]
async fn f03_a_restart_at_a_wrong_clock_ends_nobody_for_good() {
    for step in STEPS {
        let test = TestApp::new().await;
        let tokens = test.guest().await;
        test.clock.advance_secs(60);
        test.app.follow().await;
        let before = times(&test).await;
        test.clock.jump(step);
        let wrong = test.beside(config(&[])).await;
        let answer = wrong.send(refresh(&tokens.refresh_token)).await;
        let newest = match answer.status {
            StatusCode::OK => answer.tokens(),
            // Nothing that only the jump would refuse is refused for good.
            StatusCode::SERVICE_UNAVAILABLE => tokens,
            _ => panic!("{step} {answer:?}"),
        };
        // What follows from the jump alone is a 503; a week is the longest that is taken for a standstill.
        let is_doubted = !(-5_000..=7 * DAY).contains(&step);
        let status = status_of(&wrong, &newest.access_token).await;
        match step {
            step if step > 7 * DAY => assert_eq!(status, 503, "{step}"),
            _ => assert_eq!(status, 200, "{step}"),
        }
        assert_eq!(
            wrong.metrics().await.contains("guestpass_clock_trusted 0"),
            is_doubted,
            "{step}"
        );
        // The right time comes a minute after the boot.
        wrong.clock.advance_secs(60);
        wrong.clock.jump(-step);
        wrong.app.follow().await;
        let [_, _, expires_at, ends_at] = times(&wrong).await;
        assert!(expires_at >= before[2], "{step}: it was moved back");
        assert!(ends_at <= before[3], "{step}: it was prolonged");
        refreshed(&wrong, &newest).await;
        let right = wrong.beside(config(&[])).await;
        refreshed(&right, &newest).await;
        assert!(
            right.metrics().await.contains("guestpass_clock_trusted 1"),
            "{step}"
        );
    }
}

#[tokio::test]
async fn f03_an_installation_that_stood_still_serves_at_once() {
    let idle = [("tokens.refresh_idle", "20d")];
    let test = TestApp::with_config(config(&idle)).await;
    let ended = test.guest().await;
    pass(&test, Duration::from_secs(10 * 86_400)).await;
    let live = test.guest().await;
    test.clock.jump(15 * DAY);
    let again = test.beside(config(&idle)).await;
    // Whoever would have ended by then has to wait until the clock is trusted.
    let answer = again.send(refresh(&ended.refresh_token)).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let live = refreshed(&again, &live).await;
    let new = again.guest().await;
    for token in [&live.access_token, &new.access_token] {
        assert_eq!(status_of(&again, token).await, 200);
    }
    pass(&again, AGREEMENT + Duration::from_secs(60)).await;
    again
        .refused(refresh(&ended.refresh_token), "invalid_grant")
        .await;
    for tokens in [live, new] {
        refreshed(&again, &tokens).await;
    }
}

#[tokio::test]
async fn f03_a_new_guest_is_not_made_for_ten_years() {
    let test = TestApp::new().await;
    test.guest().await;
    test.clock.jump(10 * YEAR);
    let wrong = test.beside(config(&[])).await;
    let answer = wrong.send(authorize()).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(test.counts().await, (1, 1));
}

#[tokio::test]
async fn f03_the_right_time_is_taken_over_after_an_hour() {
    for step in [HOUR, -HOUR, DAY, -DAY] {
        let test = TestApp::new().await;
        let tokens = test.guest().await;
        test.clock.jump(step);
        test.app.follow().await;
        pass(&test, AGREEMENT - Duration::from_secs(60)).await;
        assert!(test.metrics().await.contains("guestpass_clock_trusted 0"));
        pass(&test, Duration::from_secs(120)).await;
        assert!(test.metrics().await.contains("guestpass_clock_trusted 1"));
        refreshed(&test, &tokens).await;
        let now = guestpass::clock::Clock::now(&*test.clock).as_millis();
        assert_eq!(times(&test).await[1], now, "{step}");
        let again = test.beside(config(&[])).await;
        again.guest().await;
        assert!(again.metrics().await.contains("guestpass_clock_trusted 1"));
    }
}

#[tokio::test]
async fn f03_a_clock_that_runs_too_fast_is_not_followed() {
    let test = TestApp::new().await;
    let tokens = test.guest().await;
    for _ in 0..600 {
        test.clock.advance_secs(1);
        test.clock.jump(9_000);
        test.app.follow().await;
    }
    assert!(test.metrics().await.contains("guestpass_clock_trusted 0"));
    test.guest().await;
    // An hour at that rate is most of a day.
    for _ in 0..600 {
        test.clock.advance_secs(10);
        test.clock.jump(90_000);
        test.app.follow().await;
    }
    assert!(test.metrics().await.contains("guestpass_clock_trusted 0"));
    assert_eq!(status_of(&test, &tokens.access_token).await, 200);
}

#[tokio::test]
async fn f01_a_revocation_counts_whatever_the_clock_says() {
    for step in STEPS {
        for restarted in [false, true] {
            let test = TestApp::new().await;
            let [by_refresh, by_access] = [test.guest().await, test.guest().await];
            test.clock.advance_secs(60);
            test.clock.jump(step);
            let wrong = match restarted {
                true => &test.beside(config(&[])).await,
                false => &test,
            };
            wrong.app.follow().await;
            for token in [&by_refresh.refresh_token, &by_access.access_token] {
                let answer = wrong.send(revoke(token)).await;
                assert_eq!(answer.status, 200, "{step} {answer:?}");
            }
            assert_eq!(wrong.journaled().len(), 2, "{step}");
            test.clock.jump(-step);
            wrong.app.follow().await;
            let right = wrong.beside(config(&[])).await;
            for server in [wrong, &right] {
                server
                    .refused(refresh(&by_refresh.refresh_token), "invalid_grant")
                    .await;
                for token in [&by_refresh.access_token, &by_access.access_token] {
                    assert_eq!(status_of(server, token).await, 401, "{step}");
                }
            }
        }
    }
}

#[tokio::test]
async fn f01_nothing_is_forgotten_at_a_wrong_clock() {
    let test = TestApp::new().await;
    let [by_access, erased] = [test.guest().await, test.guest().await];
    test.send(revoke(&by_access.access_token)).await;
    test.app.erase(erased.sub().parse().unwrap()).await.unwrap();
    let journaled = test.journaled();
    // A restore: what the journal says is lost.
    test.sql("delete from revoked_access_tokens").await;
    test.sql("delete from tombstones").await;
    test.clock.jump(10 * YEAR);
    let wrong = test.beside(config(&[])).await;
    wrong.clean().await;
    assert_eq!(wrong.journaled(), journaled);
    assert_eq!(
        (
            wrong.count("revoked_access_tokens").await,
            wrong.count("tombstones").await
        ),
        (1, 1)
    );
    test.clock.jump(-10 * YEAR);
    wrong.app.follow().await;
    for tokens in [by_access, erased] {
        assert_eq!(status_of(&wrong, &tokens.access_token).await, 401);
    }
}

#[tokio::test]
async fn f05_a_start_at_a_wrong_clock_leaves_nothing_behind() {
    for step in [10 * YEAR, -10 * YEAR] {
        let test = TestApp::new().await;
        let before = test.sql("select * from keys order by 1").await;
        test.clock.jump(step);
        let wrong = test.beside(config(&[])).await;
        pass(&wrong, Duration::from_secs(1800)).await;
        wrong.clean().await;
        drop(wrong);
        test.clock.jump(-step);
        for _ in 0..2 {
            let right = test.beside(config(&[])).await;
            right.guest().await;
            assert!(right.metrics().await.contains("guestpass_clock_trusted 1"));
        }
        assert_eq!(
            test.sql("select * from keys order by 1").await,
            before,
            "{step}"
        );
    }
}
