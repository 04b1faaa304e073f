//! HTTP/2, over TLS alone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Version};
use guestpass::listen::Settings;
use h2::Reason;
use h2::client::{Connection, SendRequest};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::certified::Certified;
use crate::support::{
    Answer, Sent, TestApp, authorize, exchange, profile, refresh, request, revoke, verify,
};

#[tokio::test(flavor = "multi_thread")]
async fn c139_a_guests_whole_life_over_http_2() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let address = listen(&test, &certified, Settings::default()).await;
    for version in [&TLS12, &TLS13] {
        let client = Client::connect_with(address, &certified, version).await;
        let code = client.send(&authorize()).await.text("code");
        let first = client.send(&exchange(&code)).await.tokens();
        let second = client.send(&refresh(&first.refresh_token)).await.tokens();
        assert_eq!(
            client.send(&verify(&second.access_token)).await.status,
            StatusCode::OK
        );
        let known = client.send(&profile(&second.access_token)).await;
        assert_eq!(known.text("sub"), first.sub());
        assert_eq!(
            client.send(&revoke(&second.refresh_token)).await.status,
            StatusCode::OK
        );
        let ended = client.send(&refresh(&second.refresh_token)).await;
        assert_eq!(ended.error(), "invalid_grant");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c139_what_is_too_long_is_refused_and_the_connection_goes_on() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let address = listen(&test, &certified, Settings::default()).await;
    let client = Client::connect(address, &certified).await;
    for (long, status) in [
        (authorize().header("x-long", "a".repeat(9 * 1024)), 431),
        (authorize().set("state", &"a".repeat(9 * 1024)), 414),
        (exchange(&"a".repeat(20 * 1024)), 413),
        (request("GET", "/nothing"), 404),
    ] {
        let answer = client.send(&long).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert_eq!(answer.header("connection"), None, "{answer:?}");
    }
    assert_eq!(client.send(&authorize()).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn c139_requests_share_a_connection_and_each_has_its_answer() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let address = listen(&test, &certified, Settings::default()).await;
    let client = Client::connect(address, &certified).await;
    let states: Vec<_> = (0..300).map(|number| format!("state-{number}")).collect();
    let requests: Vec<_> = states
        .iter()
        .map(|state| authorize().set("state", state))
        .collect();
    let answers = requests.iter().map(|request| client.send(request));
    let answers = futures_util::future::join_all(answers).await;
    for (answer, state) in answers.iter().zip(&states) {
        assert_eq!(answer.text("state"), *state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c139_who_opens_requests_and_resets_them_is_let_go() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let address = listen(&test, &certified, Settings::default()).await;
    let client = Client::connect(address, &certified).await;
    for _ in 0..10_000 {
        let Ok(mut sending) = client.sending.clone().ready().await else {
            break;
        };
        let request = http(&exchange("nonsense")).map(drop);
        let Ok((_, mut stream)) = sending.send_request(request, false) else {
            break;
        };
        stream.send_reset(Reason::CANCEL);
        tokio::task::yield_now().await;
    }
    let ended = client.driving.await.unwrap().unwrap_err();
    // The end of the connection may come before its reason is read.
    let is_calming = ended.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    assert!(is_calming || ended.is_io(), "{ended}");
    let other = Client::connect(address, &certified).await;
    assert_eq!(other.send(&authorize()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn c139_an_idle_connection_is_closed_and_one_that_asks_for_nothing_sooner() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let address = listen(&test, &certified, Settings::default()).await;
    tokio::time::pause();
    // One after the other, so that the time goes on to no deadline of another one before the end of this is noticed. It goes
    // on, by a second at most, while each is told that it ends.
    let start = Instant::now();
    let silent = Client::connect(address, &certified).await;
    // It is told (GOAWAY).
    silent.driving.await.unwrap().unwrap();
    assert!((10..=11).contains(&start.elapsed().as_secs()));

    let start = Instant::now();
    let idle = Client::connect(address, &certified).await;
    let answer = idle.send(&request("GET", "/livez")).await;
    assert_eq!(answer.status, StatusCode::OK);
    idle.driving.await.unwrap().unwrap();
    assert!((75..=76).contains(&start.elapsed().as_secs()));
}

#[tokio::test]
async fn f54_a_server_that_leaves_says_so_and_answers_what_is_under_way() {
    let (test, certified) = (TestApp::new().await, Certified::new());
    let settings = Settings {
        tls: Some(certified.tls().read().unwrap()),
        ..Settings::default()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let (address, serving) = test
        .serve_until(settings, async {
            let _ = stopped.await;
        })
        .await;
    let client = Client::connect(address, &certified).await;
    let sent = exchange("nonsense");
    let mut sending = client.sending.clone().ready().await.unwrap();
    let (answer, mut body) = sending.send_request(http(&sent).map(drop), false).unwrap();
    assert_eq!(
        client.send(&request("GET", "/livez")).await.status,
        StatusCode::OK
    );
    stop.send(()).unwrap();
    drop(sending);
    // The rest of what was asked before still comes, and is answered.
    body.send_data(sent.encoded().into(), true).unwrap();
    let answer = read(answer.await.unwrap()).await;
    assert_eq!(answer.error(), "invalid_grant");
    drop(client.sending);
    client.driving.await.unwrap().unwrap();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f67_without_tls_there_is_no_http_2() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
        "{answer:?}"
    );
}

async fn listen(test: &TestApp, certified: &Certified, settings: Settings) -> SocketAddr {
    test.listen_with(Settings {
        tls: Some(certified.tls().read().unwrap()),
        ..settings
    })
    .await
}

/// A client's end of an HTTP/2 connection.
struct Client {
    sending: SendRequest<Bytes>,
    /// Ends with the connection.
    driving: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn connect(address: SocketAddr, certified: &Certified) -> Self {
        Self::connect_with(address, certified, &TLS13).await
    }

    async fn connect_with(
        address: SocketAddr,
        certified: &Certified,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Self {
        let mut config = certified.client(&[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::from(address.ip());
        let stream: TlsStream<TcpStream> = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sending, connection): (_, Connection<_, Bytes>) =
            h2::client::handshake(stream).await.unwrap();
        Self {
            sending,
            driving: tokio::spawn(connection),
        }
    }

    /// Sends a request and reads its answer, which is checked for what every answer must have. One that was refused because too many
    /// were under way is sent again (RFC 9113 §8.7): the client may not have known yet how many are allowed.
    async fn send(&self, sent: &Sent) -> Answer {
        for _ in 0..100 {
            let request = http(sent);
            let method = request.method().clone();
            let (head, body) = request.into_parts();
            let mut sending = self.sending.clone().ready().await.unwrap();
            let request = Request::from_parts(head, ());
            let (answer, mut stream) = sending.send_request(request, body.is_empty()).unwrap();
            if !body.is_empty() {
                // An error means that the answer came before the whole body.
                let _ = stream.send_data(body, true);
            }
            match answer.await {
                Err(error) if error.reason() == Some(Reason::REFUSED_STREAM) => {}
                answer => {
                    let answer = read(answer.unwrap()).await;
                    answer.check(&method);
                    return answer;
                }
            }
        }
        panic!("refused a hundred times");
    }
}

/// Returns the request as HTTP/2 has it: the target names the host.
fn http(sent: &Sent) -> Request<Bytes> {
    let (mut head, body) = sent.clone().into_http().into_parts();
    head.headers.remove("host");
    head.uri = format!("https://id.example{}", head.uri).parse().unwrap();
    head.version = Version::HTTP_2;
    Request::from_parts(head, body.into())
}

async fn read(answer: axum::http::Response<h2::RecvStream>) -> Answer {
    let (head, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        body.extend(data.unwrap());
    }
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}
