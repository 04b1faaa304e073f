//! The workloads: requests of guests, and the fixed requests to the floors.

use guestpass::random::{Random, SecureGenerator};
use guestpass_core::pkce::{EXAMPLE_CHALLENGE, EXAMPLE_VERIFIER};

use crate::answer::{cookie, member};
use crate::generator::{Step, Workload};
use crate::guests::{Guests, Token};
use crate::stage::ORIGIN;

/// Names the server and the client of all requests.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The `Host` field.
    pub(crate) host: String,
    /// Path before `/oauth/…`.
    pub(crate) base_path: String,
    pub(crate) client_id: String,
}

impl Target {
    /// Returns a request to the token endpoint whose form lacks a token at its end.
    fn post_without_token(&self, form: &str) -> Vec<u8> {
        let Self {
            host, base_path, ..
        } = self;
        format!(
            "POST {base_path}/oauth/token HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{form}",
            form.len() + Token::LENGTH
        )
        .into_bytes()
    }

    /// Returns a refresh up to the token.
    pub(crate) fn refresh(&self) -> Vec<u8> {
        let client_id = &self.client_id;
        self.post_without_token(&format!(
            "client_id={client_id}&grant_type=refresh_token&refresh_token="
        ))
    }

    /// Returns an exchange up to the code.
    pub(crate) fn exchange(&self) -> Vec<u8> {
        let client_id = &self.client_id;
        self.post_without_token(&format!(
            "client_id={client_id}&grant_type=authorization_code&redirect_uri={REDIRECT_URI}\
             &code_verifier={EXAMPLE_VERIFIER}&code="
        ))
    }

    /// Returns a page's request for its session, with that field of cookies.
    pub(crate) fn session(&self, cookies: &str) -> Vec<u8> {
        let Self {
            host,
            base_path,
            client_id,
        } = self;
        let form = format!("client_id={client_id}");
        format!(
            "POST {base_path}/oauth/session HTTP/1.1\r\nhost: {host}\r\norigin: {ORIGIN}\r\n{cookies}\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        )
        .into_bytes()
    }

    /// Returns a request that makes a guest.
    pub(crate) fn authorize(&self) -> Vec<u8> {
        let Self {
            host,
            base_path,
            client_id,
        } = self;
        format!(
            "GET {base_path}/oauth/authorize?redirect_uri={REDIRECT_URI}&response_type=code\
             &client_id={client_id}&state=0123456789abcdef&code_challenge={EXAMPLE_CHALLENGE}&code_challenge_method=S256 \
             HTTP/1.1\r\nhost: {host}\r\n\r\n"
        )
        .into_bytes()
    }
}

const REDIRECT_URI: &str = "urn%3Aietf%3Awg%3Aoauth%3A2.0%3Aoob%3Aauto";

/// Refreshes random guests, never one of them on two connections at once.
pub(crate) struct Refresh<'a> {
    guests: &'a mut Guests,
    /// Number of guests that take part, from the start of the set; their places in the store are random.
    among: usize,
    /// Request up to the token.
    request: Vec<u8>,
    under_way: Vec<Option<usize>>,
    random: FastRandom,
}

impl<'a> Refresh<'a> {
    pub(crate) fn new(target: &Target, guests: &'a mut Guests, among: usize) -> Self {
        Self {
            among: among.min(guests.len()),
            guests,
            request: target.refresh(),
            under_way: Vec::new(),
            random: FastRandom::new(),
        }
    }
}

impl Refresh<'_> {
    /// Takes a guest for a slot, and returns its token.
    fn take(&mut self, slot: usize) -> Option<Token> {
        if self.under_way.len() <= slot {
            self.under_way.resize(slot + 1, None);
        }
        let guest = (0..1000).find_map(|_| {
            let guest = self.random.below(self.among);
            self.guests.take(guest).then_some(guest)
        })?;
        self.under_way[slot] = Some(guest);
        Some(self.guests.token(guest))
    }

    /// Gives the guest of a slot back, with its new token if there is one.
    fn put_back(&mut self, slot: usize, token: Option<Token>) -> Step {
        let Some(guest) = self.under_way[slot].take() else {
            return Step::Failed;
        };
        self.guests.put_back(guest, token);
        match token {
            Some(_) => Step::Done,
            None => Step::Failed,
        }
    }
}

impl Workload for Refresh<'_> {
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool {
        let Some(token) = self.take(slot) else {
            return false;
        };
        request.extend_from_slice(&self.request);
        request.extend_from_slice(&token.0);
        true
    }

    fn answer(&mut self, slot: usize, status: u16, body: &[u8]) -> Step {
        let token = match status {
            200 => member(body, "refresh_token").and_then(Token::parse),
            _ => None,
        };
        self.put_back(slot, token)
    }

    fn lost(&mut self, slot: usize) {
        // The old token works within the grace window, even if the refresh was carried out.
        if let Some(guest) = self.under_way[slot].take() {
            self.guests.put_back(guest, None);
        }
    }
}

/// Repeats a refresh: each connection sends the token that its guest had before the last one.
pub(crate) struct Retry<'a> {
    guests: &'a mut Guests,
    request: Vec<u8>,
    /// Guest of each connection, with its old token.
    old: Vec<(usize, Token)>,
    newest: Vec<Option<Token>>,
}

impl<'a> Retry<'a> {
    /// Takes a guest for each connection, from the end of the set. The first request of a connection is the refresh that the
    /// others repeat.
    pub(crate) fn new(target: &Target, guests: &'a mut Guests, connections: usize) -> Self {
        let first = guests.len() - connections.min(guests.len());
        let old = (first..guests.len()).map(|guest| (guest, guests.token(guest)));
        Self {
            old: old.collect(),
            newest: vec![None; connections],
            guests,
            request: target.refresh(),
        }
    }
}

impl Workload for Retry<'_> {
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool {
        let Some((_, old)) = self.old.get(slot) else {
            return false;
        };
        request.extend_from_slice(&self.request);
        request.extend_from_slice(&old.0);
        true
    }

    fn answer(&mut self, slot: usize, status: u16, body: &[u8]) -> Step {
        let token = member(body, "refresh_token").and_then(Token::parse);
        let (Some(token), 200) = (token, status) else {
            return Step::Failed;
        };
        // A repetition has the same answer.
        if self.newest[slot].is_some_and(|newest| newest != token) {
            return Step::Failed;
        }
        self.newest[slot] = Some(token);
        self.guests.put_back(self.old[slot].0, Some(token));
        Step::Done
    }

    fn lost(&mut self, _slot: usize) {}
}

/// Signs guests up. An operation is two requests: authorize and exchange.
pub(crate) struct SignUp {
    authorize: Vec<u8>,
    exchange: Vec<u8>,
    codes: Vec<Option<Token>>,
    /// Collects the refresh tokens, if it is set.
    pub(crate) tokens: Option<Vec<Token>>,
    /// Collects the access tokens, if it is set.
    pub(crate) access_tokens: Option<Vec<String>>,
    /// Number of guests to stop at.
    pub(crate) limit: usize,
    begun: usize,
}

impl SignUp {
    pub(crate) fn new(target: &Target) -> Self {
        Self {
            authorize: target.authorize(),
            exchange: target.exchange(),
            codes: Vec::new(),
            tokens: None,
            access_tokens: None,
            limit: usize::MAX,
            begun: 0,
        }
    }
}

impl Workload for SignUp {
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool {
        if self.codes.len() <= slot {
            self.codes.resize(slot + 1, None);
        }
        match self.codes[slot] {
            Some(code) => {
                request.extend_from_slice(&self.exchange);
                request.extend_from_slice(&code.0);
            }
            None if self.begun == self.limit => return false,
            None => {
                self.begun += 1;
                request.extend_from_slice(&self.authorize);
            }
        }
        true
    }

    fn is_exhausted(&self) -> bool {
        self.begun == self.limit
    }

    fn answer(&mut self, slot: usize, status: u16, body: &[u8]) -> Step {
        let (is_second, name) = match self.codes[slot].take() {
            None => (false, "code"),
            Some(_) => (true, "refresh_token"),
        };
        let found = member(body, name).and_then(Token::parse);
        match (status, is_second, found) {
            (200, false, Some(code)) => {
                self.codes[slot] = Some(code);
                Step::Next
            }
            (200, true, Some(token)) => {
                self.tokens.iter_mut().for_each(|tokens| tokens.push(token));
                if let (Some(tokens), Some(access)) =
                    (&mut self.access_tokens, member(body, "access_token"))
                {
                    tokens.push(String::from_utf8_lossy(access).into_owned());
                }
                Step::Done
            }
            _ => Step::Failed,
        }
    }

    fn lost(&mut self, slot: usize) {
        self.codes[slot] = None;
    }
}

/// Asks about guests as a back end, by their access tokens.
pub(crate) struct BackEnd {
    /// Request up to the length of its body.
    head: String,
    /// Body before and behind the token.
    body: [String; 2],
    tokens: Vec<String>,
    /// Each token is used once.
    once: bool,
    begun: usize,
}

impl BackEnd {
    /// Links the guest of each token to a customer.
    pub(crate) fn link(
        host: &str,
        client: &str,
        key: &str,
        tokens: Vec<String>,
        once: bool,
    ) -> Self {
        let behind = "&customer=919108f7-52d1-4320-9bac-f847db4148a8";
        Self::new("link", host, client, key, tokens, behind, once)
    }

    /// Introspects each token, again and again.
    pub(crate) fn introspect(host: &str, client: &str, key: &str, tokens: Vec<String>) -> Self {
        Self::new("introspect", host, client, key, tokens, "", false)
    }

    fn new(
        endpoint: &str,
        host: &str,
        client: &str,
        key: &str,
        tokens: Vec<String>,
        behind: &str,
        once: bool,
    ) -> Self {
        Self {
            head: format!(
                "POST /oauth/{endpoint} HTTP/1.1\r\nhost: {host}\r\nx-api-key: {key}\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: "
            ),
            body: [format!("client_id={client}&token="), behind.to_owned()],
            tokens,
            once,
            begun: 0,
        }
    }
}

impl Workload for BackEnd {
    fn request(&mut self, _slot: usize, request: &mut Vec<u8>) -> bool {
        if self.is_exhausted() {
            return false;
        }
        let token = &self.tokens[self.begun % self.tokens.len()];
        self.begun += 1;
        let [before, behind] = &self.body;
        let length = before.len() + token.len() + behind.len();
        let text = format!("{}{length}\r\n\r\n{before}{token}{behind}", self.head);
        request.extend_from_slice(text.as_bytes());
        true
    }

    fn is_exhausted(&self) -> bool {
        self.tokens.is_empty() || (self.once && self.begun == self.tokens.len())
    }

    fn answer(&mut self, _slot: usize, status: u16, _body: &[u8]) -> Step {
        match status {
            200 => Step::Done,
            _ => Step::Failed,
        }
    }

    fn lost(&mut self, _slot: usize) {}
}

/// Refreshes dead tokens, each once.
pub(crate) struct Succession {
    request: Vec<u8>,
    dead: Vec<Token>,
}

impl Succession {
    pub(crate) fn new(target: &Target, dead: Vec<Token>) -> Self {
        Self {
            request: target.refresh(),
            dead,
        }
    }
}

impl Workload for Succession {
    fn request(&mut self, _slot: usize, request: &mut Vec<u8>) -> bool {
        let Some(token) = self.dead.pop() else {
            return false;
        };
        request.extend_from_slice(&self.request);
        request.extend_from_slice(&token.0);
        true
    }

    fn is_exhausted(&self) -> bool {
        self.dead.is_empty()
    }

    fn answer(&mut self, _slot: usize, status: u16, _body: &[u8]) -> Step {
        match status {
            200 => Step::Done,
            _ => Step::Failed,
        }
    }

    fn lost(&mut self, _slot: usize) {}
}

/// Sends one of many requests after the other, again and again.
pub(crate) struct Requests {
    requests: Vec<Vec<u8>>,
    /// Status of each answer.
    expected: u16,
    next: usize,
}

impl Requests {
    pub(crate) fn new(requests: Vec<Vec<u8>>, expected: u16) -> Self {
        Self {
            requests,
            expected,
            next: 0,
        }
    }
}

impl Workload for Requests {
    fn request(&mut self, _slot: usize, request: &mut Vec<u8>) -> bool {
        request.extend_from_slice(&self.requests[self.next]);
        self.next = (self.next + 1) % self.requests.len();
        true
    }

    fn answer(&mut self, _slot: usize, status: u16, _body: &[u8]) -> Step {
        if status == self.expected {
            Step::Done
        } else {
            Step::Failed
        }
    }

    fn lost(&mut self, _slot: usize) {}
}

/// Asks for a session as a browser that has kept nothing yet, so often, and then as browsers that have kept their seed.
pub(crate) struct SessionCreating<'a> {
    target: &'a Target,
    bare: Vec<u8>,
    limit: usize,
    begun: usize,
    seeds: Vec<Token>,
    creates: bool,
    /// Seeds with the guest's id of another.
    collisions: usize,
}

impl<'a> SessionCreating<'a> {
    pub(crate) fn new(target: &'a Target, limit: usize) -> Self {
        Self {
            bare: target.session(""),
            target,
            limit,
            begun: 0,
            seeds: Vec::new(),
            creates: false,
            collisions: 0,
        }
    }

    /// From now on makes the guests of the seeds.
    pub(crate) fn create(&mut self) {
        self.creates = true;
    }
}

impl Workload for SessionCreating<'_> {
    fn request(&mut self, _slot: usize, request: &mut Vec<u8>) -> bool {
        if self.is_exhausted() {
            return false;
        }
        if !self.creates {
            self.begun += 1;
            request.extend_from_slice(&self.bare);
            return true;
        }
        let Some(seed) = self.seeds.pop() else {
            return false;
        };
        let seed = String::from_utf8_lossy(&seed.0).into_owned();
        request.extend_from_slice(&self.target.session(&format!("cookie: guest-s={seed}\r\n")));
        true
    }

    fn is_exhausted(&self) -> bool {
        if self.creates {
            self.seeds.is_empty()
        } else {
            self.begun == self.limit
        }
    }

    fn header(&mut self, _slot: usize, head: &[u8]) {
        if !self.creates {
            self.seeds
                .extend(cookie(head, "guest-s").and_then(Token::parse));
        }
    }

    fn answer(&mut self, _slot: usize, status: u16, _body: &[u8]) -> Step {
        match (self.creates, status) {
            (false, 202) | (true, 200) => Step::Done,
            // Of seeds that are made within a millisecond, some have the same guest's id, and only the first makes it. That is an
            // answer as well, and as dear.
            (true, 202) if self.collisions < self.limit / 100 => {
                self.collisions += 1;
                Step::Done
            }
            _ => Step::Failed,
        }
    }

    fn lost(&mut self, _slot: usize) {}
}

/// Renews the sessions of random guests by their refresh token alone, as when the access token has expired.
pub(crate) struct SessionRenewing<'a> {
    refresh: Refresh<'a>,
    /// The request up to the token, and behind it.
    parts: [Vec<u8>; 2],
    renewed: Vec<Option<Token>>,
}

impl<'a> SessionRenewing<'a> {
    pub(crate) fn new(target: &Target, guests: &'a mut Guests) -> Self {
        let request = target.session("cookie: guest-r=TOKEN\r\n");
        let text = String::from_utf8_lossy(&request).into_owned();
        let (before, behind) = text.split_once("TOKEN").expect("it has one");
        Self {
            refresh: Refresh::new(target, guests, usize::MAX),
            parts: [before.into(), behind.into()],
            renewed: Vec::new(),
        }
    }
}

impl Workload for SessionRenewing<'_> {
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool {
        if self.renewed.len() <= slot {
            self.renewed.resize(slot + 1, None);
        }
        let Some(token) = self.refresh.take(slot) else {
            return false;
        };
        request.extend_from_slice(&self.parts[0]);
        request.extend_from_slice(&token.0);
        request.extend_from_slice(&self.parts[1]);
        true
    }

    fn header(&mut self, slot: usize, head: &[u8]) {
        self.renewed[slot] = cookie(head, "guest-r").and_then(Token::parse);
    }

    fn answer(&mut self, slot: usize, status: u16, _body: &[u8]) -> Step {
        let token = self.renewed[slot].take().filter(|_| status == 200);
        self.refresh.put_back(slot, token)
    }

    fn lost(&mut self, slot: usize) {
        self.refresh.lost(slot);
    }
}

/// Sends fixed requests, whatever the answers say.
pub(crate) struct Fixed {
    requests: Vec<Vec<u8>>,
    /// Status of each answer.
    expected: u16,
    next: Vec<usize>,
}

impl Fixed {
    /// Sends the request of a refresh.
    pub(crate) fn refresh(target: &Target) -> Self {
        let request = [&target.refresh()[..], &Token::default().0].concat();
        Self {
            requests: vec![request],
            expected: 200,
            next: Vec::new(),
        }
    }

    /// Sends the request of a new guest.
    pub(crate) fn authorize(target: &Target) -> Self {
        Self {
            requests: vec![target.authorize()],
            expected: 200,
            next: Vec::new(),
        }
    }

    /// Sends the request of a new guest, which is to be refused with 429.
    pub(crate) fn rate_limited(target: &Target) -> Self {
        Self {
            expected: 429,
            ..Self::authorize(target)
        }
    }

    /// Sends the requests of a sign-up.
    pub(crate) fn sign_up(target: &Target) -> Self {
        let exchange = [&target.exchange()[..], &Token::default().0].concat();
        Self {
            requests: vec![target.authorize(), exchange],
            expected: 200,
            next: Vec::new(),
        }
    }
}

impl Workload for Fixed {
    fn request(&mut self, slot: usize, request: &mut Vec<u8>) -> bool {
        if self.next.len() <= slot {
            self.next.resize(slot + 1, 0);
        }
        request.extend_from_slice(&self.requests[self.next[slot]]);
        true
    }

    fn answer(&mut self, slot: usize, status: u16, _body: &[u8]) -> Step {
        let next = self.next[slot] + 1;
        self.next[slot] = next % self.requests.len();
        match status {
            status if status != self.expected => Step::Failed,
            _ if next == self.requests.len() => Step::Done,
            _ => Step::Next,
        }
    }

    fn lost(&mut self, slot: usize) {
        self.next[slot] = 0;
    }
}

/// Draws random numbers quickly (xorshift64*): the generator shares the processor with the server.
pub(crate) struct FastRandom(u64);

impl FastRandom {
    pub(crate) fn new() -> Self {
        let random = &SecureGenerator::new() as &dyn Random;
        Self(u64::from_le_bytes(random.bytes()) | 1)
    }

    /// Returns a number from 0 to below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from((drawn * limit as u64) >> 32).expect("less than the limit")
    }
}
