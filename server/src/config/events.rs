//! The settings of events and of the webhook that delivers them.

use std::net::IpAddr;

use std::path::PathBuf;

use guestpass_core::choice;
use url::{Host, Url};

use super::files;
use super::values::{ConfigError, Values};
use crate::setting_file;
use crate::webhooks::Secrets;

/// The settings of events.
#[derive(Clone, Debug)]
pub struct Events {
    /// Records them.
    pub recorded: bool,
    /// Delivers them.
    pub webhook: Option<Webhook>,
}

/// The receiver of events, and the secrets that sign what it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Webhook {
    /// Says where events are sent to.
    pub url: Url,
    /// The file of the secrets, each of which signs. It is read when something is to be sent.
    pub secret_file: PathBuf,
}

impl Webhook {
    /// Reads the secrets.
    ///
    /// # Errors
    /// Explains the problem without showing a secret.
    pub fn secrets(&self) -> Result<Secrets, String> {
        let read = setting_file::read_text(&self.secret_file);
        let secrets = read.and_then(|text| Secrets::parse(&text));
        let file = self.secret_file.display();
        secrets.map_err(|problem| format!("{SECRET_FILE} = {file}: {problem}"))
    }
}

impl Events {
    pub(super) fn parse(values: &Values) -> Result<Self, ConfigError> {
        let webhook = match values.optional(URL, receiver)? {
            Some(url) => Some(Webhook {
                url,
                secret_file: values.one(SECRET_FILE, |file| match file {
                    "" => Err(
                        "a receiver must be able to tell who sends. Make a secret with `guestpass events secret > FILE`, \
                         give it to the receiver, and name the file"
                            .to_owned(),
                    ),
                    file if file.starts_with(Secrets::PREFIX) => {
                        Err("that is a secret itself. Name the file that holds it".to_owned())
                    }
                    file => files::path(file),
                })?,
            }),
            None => {
                values.optional(SECRET_FILE, |_| -> Result<(), _> {
                    Err(format!("nothing is sent without a receiver. Set {URL} as well"))
                })?;
                None
            }
        };
        let recorded = values.optional(RECORD, choice::yes_or_no)?;
        if webhook.is_some() && recorded == Some(false) {
            values.one(RECORD, |_| -> Result<(), _> {
                Err(format!(
                    "then nothing is sent to {URL}. Leave out one of them"
                ))
            })?;
        }
        Ok(Self {
            recorded: recorded.unwrap_or(webhook.is_some()),
            webhook,
        })
    }
}

const RECORD: &str = "events.record";
const URL: &str = "events.url";
const SECRET_FILE: &str = "events.secret_file";

/// Parses the address of a receiver. What it is sent names customers, so others must not be able to read it on its way.
fn receiver(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("it is no URL ({error}). Write it as https://shop.example/guestpass-events")
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "leave out the user and the password: a receiver knows us by the signature".to_owned(),
        );
    }
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => Ok(url),
        ("http", Some(host)) if is_loopback(&host) => Ok(url),
        ("http", Some(_)) => {
            Err("others could read it on its way. Use https, or http on loopback".to_owned())
        }
        _ => Err("write a URL that begins with https://".to_owned()),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        // What it stands for is looked at again when something is sent.
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).to_canonical().is_loopback(),
    }
}
