//! TLS on the public listener.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use guestpass_core::time::Timestamp;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};
use x509_cert::der::Decode;

use super::files;
use super::values::{ConfigError, Values, quoted};
use crate::setting_file;

/// Names the files of a certificate and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, followed by its chain.
    pub certificate_file: PathBuf,
    /// The private key of the certificate.
    pub key_file: PathBuf,
}

impl Tls {
    pub(super) fn parse(values: &Values) -> Result<Option<Self>, ConfigError> {
        let file = |name, with: &str, what| {
            values.optional(name, |text| match values.text(with) {
                "" => Err(format!(
                    "TLS needs two files. Set {with} as well, to {what}, or leave both out"
                )),
                _ => files::path(text),
            })
        };
        let certificate_file = file(CERTIFICATE_FILE, KEY_FILE, "the file with its private key")?;
        let key_file = file(KEY_FILE, CERTIFICATE_FILE, "the file with its certificate")?;
        Ok(certificate_file
            .zip(key_file)
            .map(|(certificate_file, key_file)| Self {
                certificate_file,
                key_file,
            }))
    }

    /// Reads the files into a configuration that all connections of a listener share.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing in them that can't be right.
    pub fn read(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        Arc::new(Certificate::read(self)?).server_config()
    }

    /// Reads the certificate, its chain and its key, which belong together.
    fn read_key(&self) -> Result<CertifiedKey, ConfigError> {
        let chain = setting_file::read(&self.certificate_file)
            .and_then(|bytes| {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
                match chain {
                    Ok(chain) if chain.is_empty() => Err(pem::Error::NoItemsFound),
                    chain => chain,
                }
                .map_err(|error| found(&error, "certificate"))
            })
            .map_err(|problem| {
                self.wrong_certificate(&format!(
                    "{problem}. Name a PEM file with the server's certificate and, behind it, its chain"
                ))
            })?;
        let key = setting_file::read(&self.key_file)
            .and_then(|bytes| {
                PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| found(&error, "private key"))
            })
            .map_err(|problem| {
                self.wrong_key(&format!(
                    "{problem}. Name a PEM file with the certificate's private key, not encrypted"
                ))
            })?;
        CertifiedKey::from_der(chain, key, &default_provider())
            .map_err(|error| self.refused(&error))
    }

    /// Explains why rustls refuses this pair of key and certificate.
    fn refused(&self, error: &Error) -> ConfigError {
        match error {
            Error::InconsistentKeys(_) => self.wrong_key(&format!(
                "it isn't the key of the first certificate in {}. Name the file with the key that this certificate was \
                 made for; if the file holds a chain, let the server's own certificate stand first",
                self.certificate_file.display()
            )),
            Error::InvalidCertificate(_) => self.wrong_certificate(&format!(
                "its first certificate can't be read: {error}. Name a PEM file with the server's X.509 certificate"
            )),
            _ => self.wrong_key(
                "its key can't sign for TLS. Name a PEM file with an RSA, ECDSA or Ed25519 key",
            ),
        }
    }

    fn wrong_certificate(&self, problem: &str) -> ConfigError {
        wrong(CERTIFICATE_FILE, &self.certificate_file, problem)
    }

    fn wrong_key(&self, problem: &str) -> ConfigError {
        wrong(KEY_FILE, &self.key_file, problem)
    }
}

/// A certificate in use, which can be read again.
#[derive(Debug)]
pub struct Certificate {
    tls: Tls,
    key: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing in them that can't be right.
    pub fn read(tls: &Tls) -> Result<Self, ConfigError> {
        Ok(Self {
            tls: tls.clone(),
            key: RwLock::new(Arc::new(tls.read_key()?)),
        })
    }

    /// Reads the files again. New connections then get what is in them. Returns whether that is another certificate.
    ///
    /// # Errors
    /// As [`Certificate::read`]; the one in use stays.
    pub fn renew(&self) -> Result<bool, ConfigError> {
        let read = Arc::new(self.tls.read_key()?);
        let mut key = self.key.write().unwrap_or_else(PoisonError::into_inner);
        let is_another = key.cert != read.cert;
        *key = read;
        Ok(is_another)
    }

    /// Returns the time after which clients refuse the certificate. `None` if it can't be read.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        let certificate = x509_cert::Certificate::from_der(self.key().cert.first()?).ok()?;
        let not_after = certificate.tbs_certificate.validity.not_after;
        let since_epoch = not_after.to_unix_duration().as_millis();
        i64::try_from(since_epoch).ok().map(Timestamp::from_millis)
    }

    /// Returns the configuration of a listener that presents it.
    ///
    /// # Errors
    /// [`ConfigError`] if the versions of TLS aren't to be had.
    pub fn server_config(self: Arc<Self>) -> Result<Arc<ServerConfig>, ConfigError> {
        let unexpected = |error: Error| ConfigError(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unexpected)?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // The server chooses the cipher suite. Each of them is a good one, but scanners count the client's choice as a finding.
        config.ignore_client_order = true;
        // Session resumption by stateless tickets spares a returning client's handshake the signature. The server keeps
        // nothing for the many who never return, and connections don't wait for a lock.
        config.ticketer = Ticketer::new().map_err(unexpected)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

pub(super) const CERTIFICATE_FILE: &str = "tls.certificate_file";
const KEY_FILE: &str = "tls.key_file";

fn wrong(name: &str, file: &Path, problem: &str) -> ConfigError {
    let file = file.to_string_lossy();
    ConfigError(match quoted(name, &file) {
        Some(file) => format!("{name} = {file}: {problem}"),
        None => format!("{name}: {problem}"),
    })
}

/// Explains why there is no `what` in a file. It quotes nothing of the file, which may be a key.
fn found(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {what} in it"),
        _ => "it is damaged: it isn't PEM from beginning to end".to_owned(),
    }
}
