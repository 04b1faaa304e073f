//! A certificate for 127.0.0.1 that only the generator trusts.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use guestpass::config::Tls;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};

use crate::failure::Failure;

/// Makes a certificate and its key in a new directory.
pub(crate) fn make(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory)?;
    let made = Command::new("openssl")
        .args(SELF_SIGNED.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure(format!("openssl can't be started: {error}")))?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        return Err(Failure(format!("openssl: {said}")));
    }
    Ok(())
}

/// Not an authority: rustls refuses those as servers.
const SELF_SIGNED: &str = "req -x509 -days 2 -subj /CN=bench -addext subjectAltName=IP:127.0.0.1 \
    -addext basicConstraints=critical,CA:false -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout key.pem -out certificate.pem";

/// Returns the TLS settings of a server.
pub(crate) fn server(directory: &Path) -> Tls {
    Tls {
        certificate_file: directory.join("certificate.pem"),
        key_file: directory.join("key.pem"),
    }
}

/// Returns the TLS settings of the generator, without resumption: each handshake is a full one.
pub(crate) fn client(directory: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(
        server(directory).certificate_file,
    )?)?;
    let mut config = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
