//! A certificate for 127.0.0.1, with an authority behind it that nobody else trusts.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use guestpass::config::Tls;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use tempfile::TempDir;

use super::binary::PATIENCE;

/// A chain of certificates: `root.crt` has signed `issuing.crt`, and that `server.crt`.
pub(crate) struct Certified(TempDir);

/// The client's end of a TLS connection.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

impl Certified {
    pub(crate) fn new() -> Self {
        const EXTENSIONS: &str = "[ca]\nbasicConstraints = critical, CA:true\n\
                                  [names]\nsubjectAltName = IP:127.0.0.1\n";
        let certified = Self(TempDir::new().unwrap());
        std::fs::write(certified.file("extensions"), EXTENSIONS).unwrap();
        certified.openssl(&format!(
            "req -x509 -days 2 -subj /CN=root -keyout root.key -out root.crt {KEY}"
        ));
        for (name, by, extensions) in [("issuing", "root", "ca"), ("server", "issuing", "names")] {
            certified.openssl(&format!(
                "req -subj /CN={name} -keyout {name}.key -out {name}.csr {KEY}"
            ));
            certified.openssl(&format!(
                "x509 -req -in {name}.csr -CA {by}.crt -CAkey {by}.key -CAcreateserial -days 2 -out {name}.crt \
                 -extfile extensions -extensions {extensions}"
            ));
        }
        let [server, issuing] = ["server.crt", "issuing.crt"]
            .map(|name| std::fs::read_to_string(certified.file(name)).unwrap());
        std::fs::write(certified.file("chain.pem"), server + &issuing).unwrap();
        certified
    }

    /// Returns the settings that make a server speak TLS.
    pub(crate) fn tls(&self) -> Tls {
        Tls {
            certificate_file: self.file("chain.pem"),
            key_file: self.file("server.key"),
        }
    }

    /// Returns the path of one of the files, or of a new one beside them.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Configures a client that trusts the root, and speaks these versions.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_with(default_provider(), versions)
    }

    /// Configures a client that offers the cipher suites of `provider`.
    pub(crate) fn client_with(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(self.file("root.crt")).unwrap();
        roots.add(root).unwrap();
        ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// Runs openssl among the files, with these arguments.
    pub(crate) fn openssl(&self, args: &str) {
        let ended = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output();
        let ended = ended.expect("needs openssl: apt-get install -y openssl");
        assert!(ended.status.success(), "{args}: {ended:?}");
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Connects and performs the handshake. Its calls block, as those of [`Connection`](super::Connection) do.
pub(crate) fn shake_hands(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
) -> io::Result<TlsStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut session = ClientConnection::new(Arc::clone(client), address.ip().into()).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(session, stream))
}
