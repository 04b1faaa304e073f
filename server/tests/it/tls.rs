//! TLS on the public listener: versions, resumption, and failed or stalled handshakes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use guestpass::listen::Settings;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CipherSuite, ClientConfig, HandshakeKind, ProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::support::binary::{Binary, PATIENCE, eventually};
use crate::support::certified::{Certified, shake_hands};
use crate::support::{
    Answer, Connection, SHOP, Sent, TestApp, authorize, exchange, lines_of, profile, refresh,
    request, revoke, until, verify,
};

#[test]
fn a_guests_whole_life_over_tls_1_3() {
    let (mut binary, certified) = (Binary::new(), Certified::new());
    binary.json(&["client", "add", SHOP]);
    let url = speak_tls(&mut binary, &certified);
    let server = binary.serve();
    assert_eq!(server.announced, format!("listening on {url}"));

    let client = http_1_1(certified.client(&[&TLS13]));
    let mut handshakes = Vec::new();
    let mut send = |request: &Sent| {
        let stream = shake_hands(server.address, &client).unwrap();
        let session = &stream.conn;
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        handshakes.push(session.handshake_kind().unwrap());
        Connection::over(stream).send(request).unwrap()
    };
    let code = send(&authorize()).text("code");
    let first = send(&exchange(&code)).tokens();
    assert_eq!(first.claims["iss"], url);
    let second = send(&refresh(&first.refresh_token)).tokens();
    assert_eq!(send(&verify(&second.access_token)).status, StatusCode::OK);
    let known = send(&profile(&second.access_token));
    assert_eq!(known.text("sub"), first.sub());
    assert_eq!(send(&revoke(&second.refresh_token)).status, StatusCode::OK);
    let ended = send(&refresh(&second.refresh_token));
    assert_eq!(ended.error(), "invalid_grant");
    // A returning client resumes its session by its ticket.
    assert_eq!(handshakes[0], HandshakeKind::Full);
    assert_eq!(handshakes[1..], [HandshakeKind::Resumed; 6]);
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn f56_a_renewed_certificate_is_read_on_sighup_and_a_bad_one_leaves_the_old() {
    let (mut binary, certified, renewed) = (Binary::new(), Certified::new(), Certified::new());
    binary.json(&["client", "add", SHOP]);
    speak_tls(&mut binary, &certified);
    let server = binary.serve();
    let trusts = |certified: &Certified| {
        let client = http_1_1(certified.client(&[&TLS13]));
        shake_hands(server.address, &client).is_ok()
    };
    let mut kept = {
        let client = http_1_1(certified.client(&[&TLS13]));
        Connection::over(shake_hands(server.address, &client).unwrap())
    };
    assert!(trusts(&certified) && !trusts(&renewed));
    let tls = certified.tls();
    let replace = |certificate: &[u8], key: &[u8]| {
        std::fs::write(&tls.certificate_file, certificate).unwrap();
        std::fs::write(&tls.key_file, key).unwrap();
        server.signal("HUP");
    };
    let [chain, key, other_key] = [
        renewed.tls().certificate_file,
        renewed.tls().key_file,
        certified.file("issuing.key"),
    ]
    .map(|file| std::fs::read(file).unwrap());
    for (number, (certificate, key)) in [
        (&b"not PEM"[..], &key[..]),
        (&chain, &other_key),
        (&chain, b""),
    ]
    .into_iter()
    .enumerate()
    {
        replace(certificate, key);
        eventually("it says that it keeps the old one", || {
            let said = "the certificate was not read again";
            server.log().matches(said).count() == number + 1
        });
        assert!(trusts(&certified) && !trusts(&renewed));
    }
    replace(&chain, &key);
    eventually("the new one is presented", || trusts(&renewed));
    assert!(!trusts(&certified));
    // Nobody was disconnected.
    assert_eq!(kept.send(&authorize()).unwrap().status, StatusCode::OK);
    let log = server.log();
    assert!(
        log.contains("It isn't the key") || log.contains("it isn't the key"),
        "{log}"
    );
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn a_certificate_that_ends_soon_is_advised_of() {
    let (mut binary, certified) = (Binary::new(), Certified::new());
    speak_tls(&mut binary, &certified);
    let checked = binary.run(&["config", "check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("expires in "), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_is_spoken_too_and_whoever_names_no_protocol_gets_http_1_1() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let (address, _serving) = serve(&test, &certified, std::future::pending()).await;
    // A client without ALPN speaks HTTP/1.1.
    let client = Arc::new(certified.client(&[&TLS12]));
    let stream = shake_hands(address, &client).unwrap();
    let version = stream.conn.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_2));
    let mut connection = Connection::over(stream);
    for _ in 0..2 {
        assert_eq!(connection.send(&authorize()).unwrap().status, 200);
    }
    let mut client = certified.client(&[&TLS13]);
    client.alpn_protocols = vec![b"spdy/3".to_vec()];
    let refused = shake_hands(address, &Arc::new(client)).err().unwrap();
    let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(refused.to_string(), alert.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_chooses_the_cipher_suite() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let (address, _serving) = serve(&test, &certified, std::future::pending()).await;
    for (version, chosen) in [
        (&TLS13, CipherSuite::TLS13_AES_256_GCM_SHA384),
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ] {
        let mut provider = default_provider();
        provider.cipher_suites.reverse();
        let client = Arc::new(certified.client_with(provider, &[version]));
        let stream = shake_hands(address, &client).unwrap();
        let suite = stream.conn.negotiated_cipher_suite().unwrap();
        assert_eq!(suite.suite(), chosen);
    }
}

#[tokio::test]
async fn a_connection_that_was_parked_goes_on() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let (address, _serving) = serve(&test, &certified, std::future::pending()).await;
    tokio::time::pause();
    let client = TlsConnector::from(http_1_1(certified.client(&[&TLS13])));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = address.ip().into();
    let mut stream = client.connect(name, stream).await.unwrap();
    for _ in 0..3 {
        let live = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(live).await.unwrap();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{length}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_gets_no_answer_and_does_no_harm() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let (address, _serving) = serve(&test, &certified, std::future::pending()).await;
    for said in [
        authorize().wire(),
        b"\x16\x03\x01\xff\xffnonsense".to_vec(),
        vec![],
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        let peer = stream.local_addr().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&said).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // An alert, or nothing; or a reset, for not all was read.
        let _ = stream.read_to_end(&mut answer);
        let is_http = answer.windows(4).any(|part| part == b"HTTP");
        assert!(!is_http, "{answer:?}");
        // The operator sees it only if it is looked for.
        let named = format!("\"peer\":\"{peer}\"");
        // Another test may have had a connection from that port.
        let failures = || {
            let mut lines = lines_of(&named);
            lines.retain(|line| line.to_string().contains("a TLS handshake failed"));
            lines
        };
        until(async || !failures().is_empty()).await;
        let lines = failures();
        assert_eq!((lines.len(), &lines[0]["level"]), (1, &json!("DEBUG")));
    }
    assert_eq!(test.count("profiles").await, 0);
    let client = http_1_1(certified.client(&[&TLS13]));
    assert_eq!(send(address, &client, &authorize()).status, StatusCode::OK);
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_handshake_is_let_go() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let settings = Settings {
        tls: Some(certified.tls().read().unwrap()),
        // No deadline is later than that of the handshake: tokio's time goes on to the next one if the end of a connection
        // isn't noticed at once.
        keep_alive: Duration::from_secs(10),
        ..Settings::default()
    };
    tokio::time::pause();
    let (start, address) = (Instant::now(), test.listen_with(settings).await);
    // The time stands still while this runs.
    let served = spawn_blocking(move || {
        let client = http_1_1(certified.client(&[&TLS13]));
        let silent = TcpStream::connect(address).unwrap();
        let mut slow = TcpStream::connect(address).unwrap();
        slow.write_all(b"\x16\x03\x01").unwrap();
        for _ in 0..3 {
            assert_eq!(send(address, &client, &authorize()).status, StatusCode::OK);
        }
        [silent, slow]
    });
    for stream in served.await.unwrap() {
        stream.set_nonblocking(true).unwrap();
        let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let mut rest = Vec::new();
        // A reset, where something of the peer's was left unread.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}

#[tokio::test]
async fn a_stop_waits_for_requests_and_for_no_handshake() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    tokio::time::pause();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap() };
    let (address, serving) = serve(&test, &certified, stopped).await;
    let start = Instant::now();
    let client = http_1_1(certified.client(&[&TLS13]));
    let drained = spawn_blocking(move || {
        let silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(PATIENCE)).unwrap();
        let connect = || Connection::over(shake_hands(address, &client).unwrap());
        let mut idle = connect();
        idle.send(&request("GET", "/livez")).unwrap();
        // The server waits for the rest of the request, and says so.
        let mut begun = connect();
        let whole = exchange("nonsense").header("expect", "100-continue").wire();
        let body = exchange("nonsense").encoded();
        let (head, _) = whole.split_at(whole.len() - body.len());
        begun.write(head).unwrap();
        assert_eq!(begun.line().unwrap(), "HTTP/1.1 100 Continue");
        assert_eq!(begun.line().unwrap(), "");

        stop.send(()).unwrap();
        eventually("nobody listens any more", || {
            TcpStream::connect(address).is_err()
        });
        begun.write(body).unwrap();
        let answer = begun.answer_to(&Method::POST).unwrap();
        assert_eq!(answer.error(), "invalid_grant");
        assert!(begun.is_over());
        (idle, silent)
    });
    let (mut idle, mut silent) = drained.await.unwrap();
    serving.await.unwrap();
    // For a request that the client may have sent already.
    assert_eq!(start.elapsed().as_secs(), 1);
    assert!(idle.is_over());
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
}

/// Has the servers of an installation speak TLS. Returns their address, which is the issuer.
fn speak_tls(binary: &mut Binary, certified: &Certified) -> String {
    let tls = certified.tls();
    for (name, file) in [
        ("GUESTPASS_TLS__CERTIFICATE_FILE", &tls.certificate_file),
        ("GUESTPASS_TLS__KEY_FILE", &tls.key_file),
    ] {
        binary.set_variable(name, file.to_str().unwrap());
    }
    binary.set_issuer_to_address("https")
}

/// Serves the router over TLS on a loopback socket until `stop` is done.
async fn serve(
    test: &TestApp,
    certified: &Certified,
    stop: impl Future<Output = ()> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let settings = Settings {
        tls: Some(certified.tls().read().unwrap()),
        ..Settings::default()
    };
    test.serve_until(settings, stop).await
}

/// Returns a TLS client that offers these protocols (ALPN).
fn http_1_1(mut client: ClientConfig) -> Arc<ClientConfig> {
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(client)
}

/// Sends one request on a connection of its own.
fn send(address: SocketAddr, client: &Arc<ClientConfig>, request: &Sent) -> Answer {
    let stream = shake_hands(address, client).unwrap();
    Connection::over(stream).send(request).unwrap()
}
