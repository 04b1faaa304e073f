//! Takes over what others renew while the server runs: the certificate, read again each minute and on SIGHUP, and on SIGHUP those
//! settings that need no new start.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;

use super::Failure;
use super::usage::without_secrets;
use crate::app::App;
use crate::config::{Certificate, Config, Database, OperatorToken, ShownSetting, Webhook};
use crate::store::postgres::Connection;
use crate::telemetry::Level;
use crate::webhooks::Secrets;

/// Reads the configuration anew, from where the process has it, and checks it as a start does.
pub(super) type Load = Arc<dyn Fn() -> Result<Config, Failure> + Send + Sync>;

/// Holds what is renewed, and from where. SIGHUP ends nothing, whatever it finds.
pub(super) struct Renewal {
    /// Weak, for the server to let go of it at its end.
    pub(super) app: Weak<App>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) load: Load,
    /// The settings that the server has, as they are shown.
    pub(super) in_use: Vec<ShownSetting>,
    pub(super) level: Level,
    pub(super) token: Option<OperatorToken>,
    /// Opens connections to the database, if that is PostgreSQL.
    pub(super) database: Option<Connection>,
    /// The receiver of webhooks, and the secrets that sign what it is sent.
    pub(super) webhook: Option<(Webhook, Secrets)>,
}

impl Renewal {
    /// Renews until the server is gone.
    pub(super) async fn run(mut self, mut hangup: Signal) {
        self.note_certificate();
        let mut said = None;
        loop {
            let is_asked = tokio::select! {
                Some(()) = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            said = self.renew_certificate(is_asked, said).await;
            if is_asked {
                self.renew_settings().await;
            }
        }
    }

    fn note_certificate(&self) {
        let not_after = self
            .certificate
            .as_ref()
            .and_then(|certificate| certificate.not_after());
        if let (Some(not_after), Some(app)) = (not_after, self.app.upgrade()) {
            app.metrics.note_certificate(not_after);
        }
    }

    /// Reads the certificate again. The one in use stays if the new one won't do. Returns the problem, which is said once and
    /// not each minute.
    async fn renew_certificate(&self, is_asked: bool, said: Option<String>) -> Option<String> {
        let reading = Arc::clone(self.certificate.as_ref()?);
        // On a thread of its own: the files may be on a disk that hangs.
        let Ok(renewed) = spawn_blocking(move || reading.renew()).await else {
            return said;
        };
        match renewed {
            Ok(is_another) => {
                self.note_certificate();
                if is_asked || is_another {
                    tracing::info!(is_another, "the certificate was read again");
                }
                None
            }
            Err(error) => {
                let problem = error.to_string();
                if is_asked || said.as_ref() != Some(&problem) {
                    tracing::error!(
                        "the certificate was not read again, and the one in use stays: {problem}"
                    );
                }
                Some(problem)
            }
        }
    }

    /// Reads the configuration again, and takes over what needs no new start; all of it or, if a part of the file won't do,
    /// nothing.
    async fn renew_settings(&mut self) {
        let (load, database) = (Arc::clone(&self.load), self.database.clone());
        let load_all = move || {
            let config = load()?;
            let opener = match (&database, &config.database) {
                (Some(in_use), Database::Postgres(read)) => in_use.renewed(read)?,
                _ => None,
            };
            Ok((config, opener))
        };
        let (config, opener) = match spawn_blocking(load_all).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(Failure(problem))) => {
                tracing::error!(
                    "the configuration was not read again, and the one in use stays: {}",
                    without_secrets(problem)
                );
                return;
            }
            Err(_) => return,
        };
        let (mut taken_over, mut left) = (Vec::new(), Vec::new());
        for (in_use, read) in self.in_use.iter_mut().zip(&config.shown) {
            if in_use.value == read.value {
                continue;
            }
            if is_taken_over(read.name) {
                taken_over.push(read.name);
                *in_use = read.clone();
            } else {
                left.push(read.name);
            }
        }
        let token = config.admin.as_ref().and_then(|admin| admin.token.as_ref());
        if let (Some(in_use), Some(read)) = (&self.token, token)
            && in_use.replace(read)
        {
            taken_over.push("the token of the operators");
        }
        if let (Some(in_use), Some(opener)) = (&self.database, opener) {
            in_use.take_over(opener);
            taken_over.push("what opens connections to the database");
        }
        if let Some((webhook, in_use)) = &self.webhook
            && config.events.webhook.as_ref() == Some(webhook)
            && let Ok(read) = webhook.secrets()
            && in_use.replace(&read)
        {
            taken_over.push("the secrets of the webhook");
        }
        self.level.set(config.log_level);
        if let Some(app) = self.app.upgrade() {
            app.take_over(&config).await;
        }
        tracing::info!(
            changed = taken_over.join(", "),
            "the configuration was read again"
        );
        if !left.is_empty() {
            tracing::warn!(
                "these settings have changed, and take effect at the next start: {}",
                left.join(", ")
            );
        }
    }
}

impl App {
    /// Takes over the limits and the trusted proxies of a configuration.
    async fn take_over(&self, config: &Config) {
        self.trusted_proxies
            .replace(&config.connections.trusted_proxies);
        self.rate_limits.set_mode(config.limits_mode);
        self.clients.set_limits(&config.policy).await;
    }
}

/// Tells whether a setting takes effect without a new start, as [`Renewal::renew_settings`] has it.
fn is_taken_over(name: &str) -> bool {
    name.starts_with("limits.") || ["log.level", "trusted_proxies"].contains(&name)
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
