//! `guestpass explain`: says why a request or a token was refused, and what would help.

use std::io::{IsTerminal, Read};
use std::sync::Arc;

use guestpass_core::client::{Client, OnEnded};
use guestpass_core::cookies::SEED_TTL;
use guestpass_core::credential::{Credential, CredentialKind, Seed};
use guestpass_core::grant::{Decision, Grant, GrantId};
use guestpass_core::pkce;
use guestpass_core::refusal::Refusal;
use guestpass_core::ticket::Ticket;
use guestpass_core::time::Timestamp;
use guestpass_verify::{AccessToken, Verifier};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::database::{self, Opened};
use super::master_key::open_keys;
use super::{Failure, Output, profile, rfc3339};
use crate::access_tokens::{
    claimed_issuer, ids, is_for_issuer, of_either_typ, refusal_of, takes_jwt,
};
use crate::clients::Clients;
use crate::config::Config;
use crate::error::Error;
use crate::keys::{KeyRing, Keys};
use crate::request_id::{Reason, Record};
use crate::store::{RevokedList, Store};
use crate::terminal;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  guestpass explain Zk3vX…   the x-request-id of an answer, or request.id in the log\n  \
                  guestpass explain --token < token.txt"
)]
pub(super) struct Args {
    /// The x-request-id of a refused request
    #[arg(value_name = "ID", required_unless_present = "token")]
    id: Option<String>,
    /// Explain an access token, refresh token, code, ticket or seed instead, read from standard input
    #[arg(long, conflicts_with = "id")]
    token: bool,
}

pub(super) async fn run(args: Args, config: &Config, output: Output) -> Result<(), Failure> {
    let opened = database::open(config).await?;
    let keys = open_keys(config, &opened).await?;
    let Opened { store, clock } = opened;
    let explainer = Explainer {
        clients: Clients::load(store.clone(), config.policy.clone()).await?,
        now: clock.now(),
        store,
        keys,
    };
    let explanation = match args.id {
        Some(id) => explainer.request(id.trim()).await?,
        None => {
            let token = read_token()?;
            explainer.token(config, token.trim()).await?
        }
    };
    output.print(&explanation.described(), || explanation.text())?;
    Ok(())
}

/// Reads a token from standard input, which may be a terminal.
fn read_token() -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        terminal::say("paste the token, then press Enter and Ctrl-D");
    }
    let refused = |problem: &dyn std::fmt::Display| {
        Failure(format!(
            "standard input holds no token: {problem}. Send one: guestpass explain --token < token.txt"
        ))
    };
    let mut token = Zeroizing::new(Vec::new());
    stdin
        .take(MAX_TOKEN + 1)
        .read_to_end(&mut token)
        .map_err(|error| refused(&error))?;
    if token.len() as u64 > MAX_TOKEN {
        return Err(refused(&format!(
            "it has more than {} KiB",
            MAX_TOKEN / 1024
        )));
    }
    match std::str::from_utf8(&token) {
        Ok(token) if !token.trim().is_empty() => Ok(Zeroizing::new(token.to_owned())),
        Ok(_) => Err(refused(&"it is empty")),
        Err(_) => Err(refused(&"it is not text")),
    }
}

/// The bytes of standard input that are read: more than any token has.
const MAX_TOKEN: u64 = 64 * 1024;

struct Explainer {
    store: Arc<dyn Store>,
    keys: KeyRing,
    clients: Clients,
    now: Timestamp,
}

/// An explanation: names and values, in the order in which they are shown.
struct Explanation(Vec<(&'static str, String)>);

impl Explanation {
    fn add(&mut self, name: &'static str, value: impl std::fmt::Display) {
        self.0.push((name, format!("{value}")));
    }

    /// Adds a refusal: its name, the answer, and the remedy.
    fn add_refusal(&mut self, refusal: Refusal) {
        self.add("refusal", refusal.name());
        self.add("answered", refusal.public_text());
        self.add("help", refusal.remedy());
    }

    fn text(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, value)| format!("{name:<10}{value}"))
            .collect()
    }

    fn described(&self) -> Value {
        let members = self
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        Value::Object(members.collect())
    }
}

impl Explainer {
    async fn request(&self, id: &str) -> Result<Explanation, Failure> {
        let record = self.keys.now().request_ids().open(id).ok_or_else(|| {
            Failure(if id.len() == 16 {
                format!("{id} says nothing more than its name: look for request.id={id} in the log. Only the id of a \
                         refused request, as its answer has it in x-request-id, is a record")
            } else {
                // Not quoted: it may be a token that was meant for --token.
                "this is not the id of a request that was refused here: it was cut or altered, or another installation \
                 answered. To explain a token: guestpass explain --token < token.txt"
                    .to_owned()
            })
        })?;
        let Record {
            at,
            node,
            reason,
            grant,
            parameter,
        } = record;
        let mut explanation = Explanation(Vec::new());
        explanation.add("request", &id[..16]);
        explanation.add("time", rfc3339(at));
        explanation.add("node", node);
        let is_that = |refusal: &&Refusal| Reason::of(refusal.name()) == reason;
        match Refusal::all().iter().find(is_that) {
            Some(refusal) => {
                let text = refusal.public_text();
                let text = parameter.map_or(text.clone().into_owned(), |name| {
                    text.replace("PARAMETER", &name)
                });
                explanation.add("refusal", refusal.name());
                explanation.add("answered", text);
                explanation.add("help", refusal.remedy());
            }
            None if reason == Reason::of(Error::UNAVAILABLE) => {
                explanation.add("refusal", Error::UNAVAILABLE);
                explanation.add(
                    "answered",
                    "503: the server or its database was busy or down",
                );
                explanation.add(
                    "help",
                    "Look for this request.id in that node's log: its line says why.",
                );
            }
            None if reason == Reason::of(Error::INTERNAL) => {
                explanation.add("refusal", Error::INTERNAL);
                explanation.add("answered", "500: a defect of guestpass");
                explanation.add(
                    "help",
                    "Look for this request.id in that node's log, and report what it says.",
                );
            }
            None => explanation.add(
                "refusal",
                "one that only another version of guestpass knows",
            ),
        }
        if let Some(grant) = grant {
            self.add_grant(&mut explanation, grant).await?;
        }
        Ok(explanation)
    }

    async fn token(&self, config: &Config, token: &str) -> Result<Explanation, Failure> {
        let keys = self.keys.now();
        if let Some(credential) = keys.open(token) {
            return self.credential(credential, None).await;
        }
        if let Ok(ticket) = Ticket::parse(token)
            && let Some(credential) = keys.open(ticket.code)
        {
            return self.credential(credential, Some(ticket.verifier)).await;
        }
        match keys.open_seed(token) {
            Some(seed) => self.seed(seed).await,
            None => self.access_token(config, &keys, token).await,
        }
    }

    /// Explains a code or refresh token; a code with its verifier is a ticket.
    async fn credential(
        &self,
        credential: Credential,
        verifier: Option<pkce::Verifier>,
    ) -> Result<Explanation, Failure> {
        let mut explanation = Explanation(Vec::new());
        let kind = credential.kind();
        explanation.add(
            "token",
            match (kind, verifier) {
                (CredentialKind::Code, None) => "a code",
                (CredentialKind::Code, Some(_)) => "a ticket: a code with its verifier",
                (CredentialKind::RefreshToken, _) => "a refresh token",
            },
        );
        let grant = self.store.load(credential.grant).await?;
        match grant {
            None => explanation.add_refusal(Refusal::GrantGone),
            Some(grant) if kind == CredentialKind::RefreshToken => {
                self.add_decision(&mut explanation, &grant, credential);
            }
            Some(grant) if grant.revoked.is_some() => {
                explanation.add_refusal(Refusal::GrantRevoked);
            }
            Some(grant) if grant.generation > credential.generation => {
                explanation.add_refusal(Refusal::CodeSpent);
            }
            Some(grant) if self.now >= grant.expires_at => {
                explanation.add_refusal(Refusal::CodeExpired);
            }
            Some(grant) => match verifier {
                None => explanation.add("now", "works, with the verifier behind its challenge"),
                Some(verifier) if grant.challenge.is_met_by(&verifier) => {
                    explanation.add("now", "works, for its client");
                }
                Some(_) => explanation.add_refusal(Refusal::VerifierWrong),
            },
        }
        self.add_grant(&mut explanation, credential.grant).await?;
        Ok(explanation)
    }

    async fn seed(&self, seed: Seed) -> Result<Explanation, Failure> {
        let mut explanation = Explanation(Vec::new());
        explanation.add(
            "token",
            "a seed: the guest that a browser gets when it gives this cookie back",
        );
        explanation.add("made", rfc3339(seed.made_at));
        let age = self.now.since(seed.made_at);
        if age > SEED_TTL {
            explanation.add("now", "is over: a page that shows it gets another");
        } else {
            explanation.add("now", "works, for a minute from its making");
        }
        match self.store.load(seed.grant).await? {
            Some(_) => self.add_grant(&mut explanation, seed.grant).await?,
            None => explanation.add("guest", "not made yet"),
        }
        Ok(explanation)
    }

    /// Adds the decision that a refresh with it, by its own client, would get now.
    fn add_decision(&self, explanation: &mut Explanation, grant: &Grant, credential: Credential) {
        let Some(client) = self.clients.by_number(grant.client) else {
            return explanation.add_refusal(Refusal::GrantGone);
        };
        if client.disabled {
            return explanation.add_refusal(Refusal::ClientDisabled);
        }
        let policy = self.clients.policy_of(&client);
        let decision = grant.refresh(credential.generation, client.number, &policy, self.now);
        if client.on_ended == OnEnded::NewGuest && decision.refusal_if_over(grant).is_some() {
            let followed =
                "is over: a refresh gives a new guest (on_ended), unless that one is over as well";
            return explanation.add("now", followed);
        }
        match decision {
            Decision::Advance(_) => explanation.add("now", "works: a refresh gives new tokens"),
            Decision::Repeat => {
                explanation.add("now", "works: a refresh gives its successor again")
            }
            Decision::Reissue(_) => {
                explanation.add(
                    "now",
                    "works: a refresh gives a new successor, for the last one was never used",
                );
            }
            Decision::Refuse(refusal)
            | Decision::Revoke(refusal, _)
            | Decision::Strike(refusal) => {
                explanation.add_refusal(refusal);
            }
        }
    }

    async fn access_token(
        &self,
        config: &Config,
        keys: &Keys,
        token: &str,
    ) -> Result<Explanation, Failure> {
        let mut explanation = Explanation(Vec::new());
        let issuer = match &config.issuer {
            Some(issuer) => issuer.as_str().to_owned(),
            // On loopback it follows from the server's port, which isn't known here.
            None => claimed_issuer(token).unwrap_or_default(),
        };
        let verifier = config.verification.verifier(&issuer);
        let verify =
            |verifier: &Verifier| verifier.verify(token, keys.verifying(), self.now.as_seconds());
        let takes_jwt = |claims: &AccessToken| takes_jwt(&self.clients, claims);
        let verified = of_either_typ(token, &verifier, verify, takes_jwt);
        let claims = match verified {
            Ok(claims) => claims,
            Err(rejection) => {
                explanation.add(
                    "token",
                    "no valid access token, refresh token or code of this installation",
                );
                let refusal = refusal_of(token, rejection, keys, &issuer);
                explanation.add_refusal(refusal);
                return Ok(explanation);
            }
        };
        explanation.add("token", "an access token");
        let at = |seconds: i64| rfc3339(Timestamp::from_millis(seconds.saturating_mul(1000)));
        explanation.add("sub", &claims.subject);
        explanation.add("issued", at(claims.issued_at));
        explanation.add("expires", at(claims.expires_at));
        let client = self.clients.by_id(&claims.client_id);
        let Some((grant, id)) = ids(&claims) else {
            explanation.add_refusal(Refusal::AccessTokenMalformed);
            return Ok(explanation);
        };
        let guest = keys.tombstone(grant.profile);
        let ended = async |list, id| self.store.is_revoked(list, id).await;
        let is_ours = |client: &Arc<Client>| is_for_issuer(&claims, &issuer, client);
        if !client.as_ref().is_none_or(is_ours) {
            explanation.add_refusal(Refusal::AccessTokenOfAnotherAudience);
            return Ok(explanation);
        }
        // A row that a restore has lost doesn't end its tokens.
        let row = self.store.load(grant).await?;
        if ended(RevokedList::Guests, guest).await? {
            explanation.add("guest", "erased");
            explanation.add_refusal(Refusal::AccessTokenGrantEnded);
        } else if row.is_some_and(|grant| grant.revoked.is_some()) {
            explanation.add_refusal(Refusal::AccessTokenGrantEnded);
        } else if ended(RevokedList::AccessTokens, id).await? {
            explanation.add_refusal(Refusal::AccessTokenRevoked);
        } else if client.is_none_or(|client| client.disabled) {
            explanation.add("guest", "can still read and erase itself with it");
            explanation.add_refusal(Refusal::AccessTokenOfNoClient);
        } else {
            explanation.add("now", "works");
        }
        self.add_grant(&mut explanation, grant).await?;
        Ok(explanation)
    }

    async fn add_grant(&self, explanation: &mut Explanation, id: GrantId) -> Result<(), Failure> {
        explanation.add("grant", id);
        let Some(grant) = self.store.load(id).await? else {
            explanation.add("state", "gone: erased, or ended more than a week ago");
            return Ok(());
        };
        let client = self.clients.by_number(grant.client);
        explanation.add("state", profile::state(&grant, client.as_deref(), self.now));
        if let Some(client) = client {
            explanation.add("client", &client.id);
        }
        explanation.add("sub", id.profile);
        if let Some(revocation) = grant.revoked {
            explanation.add("revoked", rfc3339(revocation.at));
        }
        explanation.add("advanced", rfc3339(grant.advanced_at));
        explanation.add("expires", rfc3339(grant.expires_at.min(grant.ends_at)));
        Ok(())
    }
}
