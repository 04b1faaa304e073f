//! Servers with TLS.

use std::path::{Path, PathBuf};

use super::Stage;
use crate::certificate;
use crate::failure::Failure;
use crate::process::Server;

impl Stage {
    /// Returns the empty handler with TLS.
    pub(super) fn empty_tls(&mut self) -> Result<&Server, Failure> {
        if self.empty_tls.is_none() {
            let certificate = self.certificate()?;
            let directory = certificate.display().to_string();
            let server = Server::floor(&["empty", "--tls", &directory])?;
            self.empty_tls = Some(server.with_tls(certificate::client(&certificate)?));
        }
        Ok(self.empty_tls.as_ref().expect("it was just started"))
    }

    /// Starts Guestpass with TLS.
    pub(super) fn certified(
        &self,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Server, Failure> {
        let certificate = self.certificate()?;
        let files = certificate::server(&certificate);
        let [certificate_file, key_file] =
            [files.certificate_file, files.key_file].map(|file| file.display().to_string());
        let settings = [
            settings,
            &[
                ("GUESTPASS_TLS__CERTIFICATE_FILE", &certificate_file),
                ("GUESTPASS_TLS__KEY_FILE", &key_file),
            ],
        ]
        .concat();
        let server = Server::guestpass(&self.plan.program, directory, &settings)?;
        Ok(server.with_tls(certificate::client(&certificate)?))
    }

    /// Returns the directory of the certificate of both.
    fn certificate(&self) -> Result<PathBuf, Failure> {
        let directory = self.plan.directory.join("certificate");
        if !directory.exists() {
            certificate::make(&directory)?;
        }
        Ok(directory)
    }
}
