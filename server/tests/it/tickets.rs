//! Tickets: a client hands its guest over to another. `/oauth/ticket`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use guestpass::clock::Clock as _;
use guestpass::store::ChangeFailed;
use guestpass_core::client::{Change, ChangeError, ClientId, ClientSettings, Permission};
use guestpass_core::grant::{GrantId, MAX_LIVE};
use guestpass_core::policy::PolicyOverrides;
use serde_json::Value;

use crate::support::{
    Answer, DAY, Sent, TestApp, Tokens, attributes, authorize, config, exchange, link, refresh,
    request, revoke, session, ticket, verify,
};

const APP: &str = "app";
const WEB: &str = "web";
const BACK_END: &str = "back-end";
const LOGIN: &str = "login";
const ORIGIN: &str = "https://www.shop.example";

/// A server with an app, pages with cookies, and two back ends, of which the second links.
struct Shop {
    test: Arc<TestApp>,
    key: String,
    login_key: String,
}

impl Shop {
    async fn new() -> Self {
        let test = TestApp::with_config(config(&[("limits.mode", "off")])).await;
        let key = test.add_confidential_client(BACK_END).await;
        let login_key = test.add_confidential_client(LOGIN).await;
        let may = ClientSettings {
            may: Some(vec![Permission::Link, Permission::Attributes]),
            claims: Some(vec!["customer".parse().unwrap()]),
            ..ClientSettings::default()
        };
        test.set_client(LOGIN, may).await;
        let pages = ClientSettings {
            add_origins: vec![ORIGIN.parse().unwrap()],
            cookies: "guest".parse().ok(),
            claims: Some(vec!["customer".parse().unwrap()]),
            add_ticket_to: ids(&[BACK_END, LOGIN]),
            ..ClientSettings::default()
        };
        test.add_client(WEB, pages).await;
        let app = ClientSettings {
            add_ticket_to: ids(&[WEB, BACK_END, LOGIN]),
            ..ClientSettings::default()
        };
        test.add_client(APP, app).await;
        Self {
            test: Arc::new(test),
            key,
            login_key,
        }
    }

    async fn app(&self) -> Tokens {
        let code = self.test.code(APP).await;
        self.test
            .granted(exchange(&code).set("client_id", APP))
            .await
    }

    /// Mints a ticket of the app.
    async fn mint(&self, target: &str, app: &Tokens) -> String {
        let answer = self.test.send(by_app(target, app)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.text("ticket")
    }

    /// Redeems a ticket for cookies, in a new browser.
    async fn adopt(&self, ticket: &str) -> Answer {
        let sent = session(WEB).header("origin", ORIGIN).set("ticket", ticket);
        self.test.send(sent).await
    }

    /// Redeems a ticket at the token endpoint, as a back end.
    fn redeem(&self, client: &str, ticket: &str) -> Sent {
        let (code, verifier) = ticket.split_once('.').unwrap();
        let key = if client == LOGIN {
            &self.login_key
        } else {
            &self.key
        };
        exchange(code)
            .set("code_verifier", verifier)
            .set("client_id", client)
            .header("x-api-key", key)
    }

    /// Hands the app's guest over to a back end until it has all live grants there but one.
    async fn use_all_but_one(&self, client: &str, app: &Tokens) {
        for _ in 1..MAX_LIVE {
            self.test.clock.advance_secs(1);
            let ticket = self.mint(client, app).await;
            self.test.granted(self.redeem(client, &ticket)).await;
        }
    }

    /// Returns the cookies of a new guest's page.
    async fn pages_guest(&self) -> Page {
        let first = self.test.send(session(WEB).header("origin", ORIGIN)).await;
        let seeded = session(WEB)
            .header("origin", ORIGIN)
            .header("cookie", jar(&first));
        let second = self.test.send(seeded).await;
        let text = jar(&second);
        let value = |name: &str| {
            let mut pairs = text.split("; ").filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(known, _)| *known == name)
                .unwrap()
                .1
                .to_owned()
        };
        Page {
            sub: second.text("sub"),
            access_token: value("__Host-guest"),
            refresh_token: value("__Host-guest-r"),
            jar: text,
        }
    }

    async fn live(&self, client: &str) -> usize {
        let sql = format!(
            "select count(*) from grants g join clients c on c.client_number = g.client_number
             where c.client_id = '{client}' and g.revoked_at is null"
        );
        self.test.number(&sql).await.try_into().unwrap()
    }

    async fn is_live(&self, tokens: &Tokens) -> bool {
        self.test.app.follow().await;
        self.test.send(verify(&tokens.access_token)).await.status == StatusCode::OK
    }
}

struct Page {
    sub: String,
    access_token: String,
    refresh_token: String,
    jar: String,
}

impl Page {
    fn ticket(&self, target: &str) -> Sent {
        ticket(WEB, target)
            .header("origin", ORIGIN)
            .header("cookie", &self.jar)
    }
}

fn ids(ids: &[&str]) -> Vec<ClientId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn by_app(target: &str, app: &Tokens) -> Sent {
    ticket(APP, target).set("refresh_token", &app.refresh_token)
}

/// Returns the cookies that an answer sets, as a browser sends them.
fn jar(answer: &Answer) -> String {
    let fields = answer.headers.get_all("set-cookie").iter();
    let pairs = fields.map(|field| {
        field
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    });
    pairs
        .filter(|pair| !pair.ends_with('='))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Returns the access token that an answer sets.
fn access_token_in(answer: &Answer) -> String {
    let cookies = jar(answer);
    let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
    let mut tokens = pairs.filter(|(name, _)| *name == "__Host-guest");
    tokens.next().unwrap().1.to_owned()
}

/// A client whose grants last for so many seconds.
fn lasting(seconds: u64) -> ClientSettings {
    ClientSettings {
        overrides: PolicyOverrides {
            refresh_max: Some(Duration::from_secs(seconds)),
            refresh_idle: Some(Duration::from_secs(seconds)),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    }
}

/// Returns the end of a grant, by the token that it has issued.
async fn ends_at(test: &TestApp, access_token: &str) -> i64 {
    let sid = URL_SAFE_NO_PAD.decode(claims(access_token)["sid"].as_str().unwrap());
    let grant = GrantId::from_bytes(sid.unwrap().try_into().unwrap()).unwrap();
    let grant = test.store.load(grant).await.unwrap().unwrap();
    grant.ends_at.as_millis()
}

fn claims(access_token: &str) -> Value {
    let payload = access_token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn c342_an_app_hands_its_guest_over_to_a_web_view() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let app = shop.app().await;
    let ticket = shop.mint(WEB, &app).await;
    assert_eq!(ticket.len(), 108);
    let answer = shop.adopt(&ticket).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.text("sub"), app.sub());
    assert_eq!(answer.json()["subn"], app.claims["subn"]);
    let token = access_token_in(&answer);
    assert_ne!(claims(&token)["sid"], app.claims["sid"]);
    assert_eq!(
        ends_at(test, &token).await,
        ends_at(test, &app.access_token).await
    );
    // The app's own token is the outstanding one still, and no predecessor.
    assert!(shop.is_live(&app).await);
    let generations = "select count(*) from grants where generation = 1";
    assert_eq!(test.number(generations).await, 2);

    let brief = lasting(3_600);
    test.set_client(WEB, brief).await;
    let answer = shop.adopt(&shop.mint(WEB, &app).await).await;
    let token = access_token_in(&answer);
    let now = test.clock.now().as_millis();
    assert_eq!(ends_at(test, &token).await, now + 3_600_000);
}

#[tokio::test]
async fn c343_a_page_hands_its_guest_over_to_a_back_end_once() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let page = shop.pages_guest().await;
    let answer = test.send(page.ticket(BACK_END)).await;
    assert_eq!(
        (answer.status, answer.json()["expires_in"].as_u64()),
        (StatusCode::OK, Some(60))
    );
    let ticket = answer.text("ticket");
    // Another client can't, and hurts nothing.
    test.refused(shop.redeem(LOGIN, &ticket), "invalid_grant")
        .await;
    let tokens = test.granted(shop.redeem(BACK_END, &ticket)).await;
    assert_eq!(tokens.sub(), page.sub);
    // Twice: what came of it ends, the page's own grant doesn't.
    let again = test.send(shop.redeem(BACK_END, &ticket)).await;
    assert_eq!(
        (again.status, again.error()),
        (StatusCode::BAD_REQUEST, "invalid_grant")
    );
    assert!(!shop.is_live(&tokens).await);
    assert_eq!(
        test.send(verify(&page.access_token)).await.status,
        StatusCode::OK
    );

    let late = test.send(page.ticket(BACK_END)).await.text("ticket");
    test.clock.advance_secs(61);
    test.refused(shop.redeem(BACK_END, &late), "invalid_grant")
        .await;
}

#[tokio::test]
async fn c344_only_a_refresh_token_that_is_good_becomes_a_ticket() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let app = shop.app().await;
    let with = |token: &str| ticket(APP, WEB).set("refresh_token", token);
    let bearer = ticket(APP, WEB).bearer(&app.access_token);
    test.refused(bearer, "invalid_request").await;
    let spent = app.refresh_token.clone();
    let mut newest = app;
    for _ in 0..2 {
        let refresh = refresh(&newest.refresh_token).set("client_id", APP);
        newest = test.granted(refresh).await;
    }
    let foreign = test.guest().await;
    let code = test.code(APP).await;
    for token in [&spent, &foreign.refresh_token, &code, &"A".repeat(64)] {
        test.refused(with(token), "invalid_grant").await;
    }
    let page = shop.pages_guest().await;
    // Of a page its cookie counts, and nothing else.
    let without = ticket(WEB, BACK_END)
        .header("origin", ORIGIN)
        .set("refresh_token", &page.refresh_token);
    test.refused(without, "invalid_grant").await;
    for origin in ["https://evil.example", "null"] {
        let foreign = ticket(WEB, BACK_END)
            .header("origin", origin)
            .header("cookie", &page.jar);
        test.refused(foreign, "unauthorized_client").await;
    }
}

#[tokio::test]
async fn c345_a_guest_is_handed_over_only_where_an_operator_says() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let app = shop.app().await;
    test.add_confidential_client("disabled").await;
    let more = ClientSettings {
        add_ticket_to: ids(&["disabled"]),
        ..ClientSettings::default()
    };
    test.set_client(APP, more).await;
    test.disable_client("disabled", true).await;
    let mut bodies = Vec::new();
    for target in ["shop", "nobody", "disabled", APP] {
        let answer = test
            .refused(by_app(target, &app), "unauthorized_client")
            .await;
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);

    let change = async |id: &str, settings: ClientSettings| {
        let id = id.parse().unwrap();
        match test.store.change(Change::SetClient { id, settings }).await {
            Ok(()) => None,
            Err(ChangeFailed::Refused(error)) => Some(error),
            Err(error) => panic!("{error:?}"),
        }
    };
    let to = |target: &str| ClientSettings {
        add_ticket_to: ids(&[target]),
        ..ClientSettings::default()
    };
    let id = |id: &str| id.parse().unwrap();
    let public = ChangeError::TicketTargetPublic(id(WEB), id(APP));
    assert_eq!(change(WEB, to(APP)).await, Some(public));
    assert_eq!(
        change(APP, to(APP)).await,
        Some(ChangeError::TicketToItself)
    );
    let unknown = ChangeError::TicketTargetUnknown(id("nobody"));
    assert_eq!(change(APP, to("nobody")).await, Some(unknown));
    // In the other order: the target becomes public, or the client gets cookies.
    let no_key = ClientSettings {
        confidential: Some(false),
        may: Some(Vec::new()),
        ..ClientSettings::default()
    };
    let public = ChangeError::TicketTargetPublic(id(WEB), id(LOGIN));
    assert_eq!(change(LOGIN, no_key).await, Some(public));
    let cookies = ClientSettings {
        add_origins: vec!["https://app.shop.example".parse().unwrap()],
        cookies: "app".parse().ok(),
        ..ClientSettings::default()
    };
    let public = ChangeError::TicketTargetPublic(id(APP), id(WEB));
    assert_eq!(change(APP, cookies).await, Some(public));
    // A client that was removed takes its place along.
    test.change(Change::RemoveClient(id(BACK_END))).await;
    test.add_confidential_client(BACK_END).await;
    test.refused(by_app(BACK_END, &app), "unauthorized_client")
        .await;
}

#[tokio::test]
async fn c347_the_grants_of_one_client_make_no_room_for_those_of_another() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let app = shop.app().await;
    for _ in 0..20 {
        test.clock.advance_secs(1);
        let answer = shop.adopt(&shop.mint(WEB, &app).await).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!((shop.live(WEB).await, shop.live(APP).await), (MAX_LIVE, 1));
    assert!(shop.is_live(&app).await);

    // A back end that resumes, beside eight of the pages.
    let resuming = ClientSettings {
        resume_with_jwt: Some(true),
        ..ClientSettings::default()
    };
    test.set_client(BACK_END, resuming).await;
    let ticket = shop.mint(BACK_END, &app).await;
    let mut latest = test.granted(shop.redeem(BACK_END, &ticket)).await;
    for _ in 0..9 {
        test.clock.advance_secs(1);
        let resume = authorize()
            .set("client_id", BACK_END)
            .header("x-api-key", &shop.key)
            .header("x-dressipi-jwt", &latest.access_token);
        let code = test.send(resume).await.text("code");
        let exchange = exchange(&code)
            .set("client_id", BACK_END)
            .header("x-api-key", &shop.key);
        latest = test.granted(exchange).await;
    }
    assert_eq!(shop.live(BACK_END).await, MAX_LIVE);
    assert_eq!(shop.live(WEB).await, MAX_LIVE);
}

#[tokio::test]
async fn c347_tickets_that_nobody_redeems_end_no_grant_that_is_used() {
    for uses_one in [false, true] {
        let shop = Shop::new().await;
        let test = &shop.test;
        let app = shop.app().await;
        let used = match uses_one {
            true => {
                let ticket = shop.mint(LOGIN, &app).await;
                Some(test.granted(shop.redeem(LOGIN, &ticket)).await)
            }
            false => None,
        };
        let mut tickets = Vec::new();
        for _ in 0..9 {
            test.clock.advance_secs(1);
            tickets.push(shop.mint(LOGIN, &app).await);
        }
        let mut statuses = Vec::new();
        for ticket in &tickets {
            let answer = test.send(shop.redeem(LOGIN, ticket)).await;
            statuses.push(answer.status == StatusCode::OK);
        }
        let refused = if uses_one { 2 } else { 1 };
        let expected: Vec<_> = (0..9).map(|number| number >= refused).collect();
        assert_eq!(statuses, expected);
        if let Some(used) = used {
            assert!(shop.is_live(&used).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tickets_that_are_minted_at_once_the_last_one_works() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let app = shop.app().await;
    shop.use_all_but_one(LOGIN, &app).await;
    for round in 0..20 {
        test.clock.advance_secs(1);
        let minted = test.at_once(vec![by_app(LOGIN, &app); 2]).await;
        let mut works = 0;
        for answer in minted {
            let redeem = shop.redeem(LOGIN, &answer.text("ticket"));
            let answer = test.send(redeem).await;
            works += u32::from(answer.status == StatusCode::OK);
        }
        assert!(works >= 1, "{round}");
    }
}

#[tokio::test]
async fn a_ticket_works_beside_one_of_a_clock_that_was_ahead() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let app = shop.app().await;
    shop.use_all_but_one(LOGIN, &app).await;
    test.clock.advance_secs(1);
    let early = shop.mint(LOGIN, &app).await;
    // The newest pending one by its time, which is still to come.
    let ahead = "update grants set issued_at = issued_at + 3000, advanced_at = advanced_at + 3000 \
         where advanced_at = (select max(advanced_at) from grants)";
    test.database.sql(ahead).await;
    test.clock.advance_secs(1);
    let late = shop.mint(LOGIN, &app).await;
    test.granted(shop.redeem(LOGIN, &late)).await;
    test.refused(shop.redeem(LOGIN, &early), "invalid_grant")
        .await;
}

#[tokio::test]
async fn c209_a_ticket_is_no_access_token() {
    let shop = Shop::new().await;
    let app = shop.app().await;
    let ticket = shop.mint(BACK_END, &app).await;
    let link = link(&ticket, "customer-x")
        .set("client_id", LOGIN)
        .header("x-api-key", &shop.login_key);
    shop.test.refused(link, "invalid_grant").await;
}

#[tokio::test]
async fn c232_an_erased_guest_takes_the_grants_of_its_tickets_along() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let (app, bystander) = (shop.app().await, shop.app().await);
    for tokens in [&app, &bystander] {
        let link = link(&tokens.access_token, "customer-x")
            .set("client_id", LOGIN)
            .header("x-api-key", &shop.login_key);
        assert_eq!(test.send(link).await.status, StatusCode::OK);
    }
    let answer = shop.adopt(&shop.mint(WEB, &app).await).await;
    assert_eq!(answer.status, StatusCode::OK);
    let pending = shop.mint(BACK_END, &app).await;
    let erase = request("DELETE", "/oauth/profile").bearer(&app.access_token);
    assert_eq!(test.send(erase).await.status, StatusCode::NO_CONTENT);
    assert_eq!(test.counts().await, (1, 1));
    test.refused(shop.redeem(BACK_END, &pending), "invalid_grant")
        .await;
    assert!(shop.is_live(&bystander).await);
}

#[tokio::test]
async fn c253_a_refresh_token_that_is_over_becomes_no_ticket() {
    let shop = Shop::new().await;
    let test = &shop.test;
    for over in [
        "revoked",
        "superseded",
        "idle",
        "too old",
        "erased",
        "cleaned",
    ] {
        let app = shop.app().await;
        let sub = app.sub();
        match over {
            "revoked" => {
                let revoke = revoke(&app.refresh_token).set("client_id", APP);
                test.send(revoke).await;
            }
            "superseded" => {
                let ended = format!(
                    "update grants set revoked_at = 1, revocation_reason = 'superseded' where profile_id = {sub}"
                );
                test.sql(&ended).await;
            }
            "too old" => {
                let ended = format!("update grants set ends_at = 1 where profile_id = {sub}");
                test.sql(&ended).await;
            }
            "erased" => {
                let erase = request("DELETE", "/oauth/profile").bearer(&app.access_token);
                test.send(erase).await;
            }
            "cleaned" => {
                test.sql(&format!("delete from grants where profile_id = {sub}"))
                    .await;
            }
            _ => {
                test.clock.advance(366 * DAY);
                test.app.follow().await;
            }
        }
        test.refused(by_app(WEB, &app), "invalid_grant").await;
    }
}

#[tokio::test]
async fn c261_a_login_elsewhere_links_the_guest_of_a_page() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let page = shop.pages_guest().await;
    let ticket = test.send(page.ticket(LOGIN)).await.text("ticket");
    let login = test.granted(shop.redeem(LOGIN, &ticket)).await;
    let as_login = |sent: Sent| {
        sent.set("client_id", LOGIN)
            .header("x-api-key", &shop.login_key)
    };
    let answer = test
        .send(as_login(link(&login.access_token, "customer-x")))
        .await;
    assert_eq!(
        (answer.status, answer.text("outcome")),
        (StatusCode::OK, "linked".to_owned())
    );
    test.send(as_login(revoke(&login.refresh_token))).await;
    let again = session(WEB)
        .header("origin", ORIGIN)
        .header("cookie", format!("__Host-guest-r={}", page.refresh_token));
    let renewed = test.send(again).await;
    let token = access_token_in(&renewed);
    assert_eq!(claims(&token)["customer"], "customer-x");

    let brief = lasting(900);
    test.set_client(LOGIN, brief).await;
    let page = shop.pages_guest().await;
    let ticket = test.send(page.ticket(LOGIN)).await.text("ticket");
    let login = test.granted(shop.redeem(LOGIN, &ticket)).await;
    test.clock.advance(Duration::from_secs(16 * 60));
    test.app.follow().await;
    let journaled = test.journaled().len();
    test.refused(
        as_login(link(&login.access_token, "customer-y")),
        "invalid_grant",
    )
    .await;
    assert_eq!(test.journaled().len(), journaled);
}

#[tokio::test]
async fn c262_a_ticket_is_for_a_back_end_with_an_audience_of_its_own() {
    let shop = Shop::new().await;
    let test = &shop.test;
    let audience = ClientSettings {
        overrides: PolicyOverrides {
            audience: "https://login.shop.example".parse().ok(),
            ..PolicyOverrides::default()
        },
        ..ClientSettings::default()
    };
    test.set_client(LOGIN, audience).await;
    let page = shop.pages_guest().await;
    let as_login = |sent: Sent| {
        sent.set("client_id", LOGIN)
            .header("x-api-key", &shop.login_key)
    };
    test.refused(
        as_login(link(&page.access_token, "customer-x")),
        "invalid_grant",
    )
    .await;
    let ticket = test.send(page.ticket(LOGIN)).await.text("ticket");
    let login = test.granted(shop.redeem(LOGIN, &ticket)).await;
    let answer = test
        .send(as_login(link(&login.access_token, "customer-x")))
        .await;
    assert_eq!(answer.text("outcome"), "linked");
    let remembered = as_login(attributes(&login.access_token, r#"{"segment":"vip"}"#));
    assert_eq!(test.send(remembered).await.status, StatusCode::OK);
}
