//! Connections of strangers: how long each may wait, and how many there may be. The time is tokio's own, which stands
//! still while there is anything to do.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::listen::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::support::binary::{Binary, eventually};
use crate::support::{Backend, Connection, SHOP, TestApp, authorize, exchange, request};

#[tokio::test]
async fn c127_a_thousand_slow_headers_are_let_go_within_the_header_deadline() {
    raise_the_limit_of_open_files();
    let test = TestApp::new().await;
    let address = test.listen_with(any_number_of_each_address()).await;
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nx-slow: ")
            .await
            .unwrap();
        slow.push(stream);
    }
    // Behind all of them, and it is served.
    let served = tokio::task::spawn_blocking(move || {
        let mut connection = Connection::open(address).unwrap();
        connection.send(&authorize()).unwrap()
    });
    assert_eq!(served.await.unwrap().status, StatusCode::OK);
    tokio::time::pause();
    let start = Instant::now();
    let slow: Vec<_> = slow.into_iter().map(drip).map(tokio::spawn).collect();
    for slow in slow {
        slow.await.unwrap();
    }
    // Ten, and what it takes a thousand clients to notice.
    let elapsed = start.elapsed().as_secs();
    assert!(elapsed <= 30, "{elapsed}");
}

#[tokio::test]
async fn f47_a_connection_that_asks_for_nothing_gets_ten_seconds_and_one_that_was_answered_longer()
{
    let test = TestApp::new().await;
    let settings = Settings {
        keep_alive: Duration::from_secs(600),
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    tokio::time::pause();
    // One after the other, so that the time goes on to no deadline of another one before the end of this is noticed.
    let start = Instant::now();
    let silent = TcpStream::connect(address).await.unwrap();
    is_closed(silent).await;
    assert_eq!(start.elapsed().as_secs(), 10);

    // f48: a balancer keeps its connections for ten minutes.
    let start = Instant::now();
    let mut kept = TcpStream::connect(address).await.unwrap();
    live(&mut kept).await;
    sleep(Duration::from_secs(599)).await;
    live(&mut kept).await;
    is_closed(kept).await;
    assert_eq!(start.elapsed().as_secs(), 599 + 600);

    // The header of a later request has the same deadline, from its first byte on.
    let start = Instant::now();
    let mut half = TcpStream::connect(address).await.unwrap();
    live(&mut half).await;
    sleep(Duration::from_secs(100)).await;
    half.write_all(b"GET /livez").await.unwrap();
    is_closed(half).await;
    assert_eq!(start.elapsed().as_secs(), 110);
}

#[tokio::test]
async fn f48_the_keep_alive_time_can_be_set() {
    let test = TestApp::new().await;
    let settings = Settings {
        keep_alive: Duration::from_secs(3),
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    tokio::time::pause();
    let mut stream = TcpStream::connect(address).await.unwrap();
    live(&mut stream).await;
    let answered = Instant::now();
    is_closed(stream).await;
    assert_eq!(answered.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn a_connection_that_was_parked_goes_on_where_it_was() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    tokio::time::pause();
    let mut stream = TcpStream::connect(address).await.unwrap();
    sleep(A_WHILE).await;
    // The beginning of the second request comes with the first.
    let (begun, rest) = LIVE.split_at(7);
    stream.write_all(&[LIVE, begun].concat()).await.unwrap();
    is_live(&mut stream).await;
    sleep(A_WHILE).await;
    stream.write_all(rest).await.unwrap();
    is_live(&mut stream).await;
    for _ in 0..3 {
        sleep(A_WHILE).await;
        live(&mut stream).await;
    }
    // It has no more time than any other header.
    let start = Instant::now();
    stream.write_all(&[LIVE, begun].concat()).await.unwrap();
    is_live(&mut stream).await;
    is_closed(stream).await;
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn the_rest_of_a_body_is_no_request_however_late_it_comes() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    tokio::time::pause();
    for head in [
        "POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n",
        "DELETE /oauth/token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3e8\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reads, mut writes) = stream.into_split();
        sleep(A_WHILE).await;
        // A reset, if the server has closed by now.
        let _ = writes.write_all(LIVE).await;
        let mut answers = Vec::new();
        let _ = reads.read_to_end(&mut answers).await;
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 405 ").count(), 1, "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    }
}

#[tokio::test]
async fn c126_a_body_without_end_is_let_go_at_its_deadline() {
    let test = TestApp::new().await;
    let address = test.listen().await;
    tokio::time::pause();
    let start = Instant::now();
    let head = b"POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                 transfer-encoding: chunked\r\n\r\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head).await.unwrap();
    let (mut reads, mut writes) = stream.into_split();
    let dripping = tokio::spawn(async move {
        for _ in 0..60 {
            if writes.write_all(b"1\r\na\r\n").await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        panic!("it takes bytes for ever");
    });
    let mut answer = Vec::new();
    // A reset behind the answer: more of the body came than was read.
    let _ = reads.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
    // Ten, or with the next drop, if that comes before the answer is noticed.
    assert!((10..=11).contains(&start.elapsed().as_secs()));
    dripping.await.unwrap();
}

#[tokio::test]
async fn c128_who_takes_no_answer_is_let_go() {
    are_let_go(1_000, false).await;
}

#[tokio::test]
async fn f45_who_takes_a_byte_of_an_answer_now_and_then_is_let_go() {
    are_let_go(100, true).await;
}

/// Checks that as many connections, which ask for more than they take, are reset.
async fn are_let_go(count: usize, trickle: bool) {
    raise_the_limit_of_open_files();
    let test = TestApp::new().await;
    let address = test.listen_with(any_number_of_each_address()).await;
    let mut deaf = Vec::new();
    for _ in 0..count {
        deaf.push(full_of_answers(address).await);
    }
    live(&mut TcpStream::connect(address).await.unwrap()).await;
    tokio::time::pause();
    let start = Instant::now();
    let deaf: Vec<_> = deaf
        .into_iter()
        .map(|stream| tokio::spawn(is_reset(stream, trickle)))
        .collect();
    for deaf in deaf {
        deaf.await.unwrap();
    }
    let elapsed = start.elapsed().as_secs();
    assert!(elapsed <= 90, "{elapsed}");
}

/// The server has one thread here: so a connection is idle for it before it looks at the next.
#[tokio::test]
async fn f47_an_address_has_so_many_connections_and_its_idlest_makes_room() {
    let test = TestApp::new().await;
    let settings = Settings {
        per_address: Some(3),
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    let asked = tokio::task::spawn_blocking(move || the_idlest_makes_room(address));
    asked.await.unwrap();
    // Another address isn't concerned.
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    live(&mut elsewhere.connect(address).await.unwrap()).await;
}

/// Asks a server at which an address may have three connections.
fn the_idlest_makes_room(address: SocketAddr) {
    let connect = || Connection::open(address).unwrap();
    let (mut first, mut second, mut third) = (connect(), connect(), connect());
    for connection in [&mut first, &mut third, &mut second] {
        connection.send(&request("GET", "/livez")).unwrap();
    }
    let mut begun = begin(first);
    // `third` has been idle for longer than `second`.
    let mut fourth = connect();
    assert!(third.is_over());
    fourth.send(&request("GET", "/livez")).unwrap();
    second.send(&request("GET", "/livez")).unwrap();

    // All are in use: the newcomer is turned away, and nobody else.
    let (mut second, mut fourth) = (begin(second), begin(fourth));
    let refused = connect().send(&request("GET", "/livez"));
    assert!(refused.is_err(), "{refused:?}");
    for connection in [&mut begun, &mut second, &mut fourth] {
        connection.write(exchange("nonsense").encoded()).unwrap();
        let answer = connection.answer_to(&axum::http::Method::POST).unwrap();
        assert_eq!(answer.error(), "invalid_grant");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f47_a_trusted_proxy_has_as_many_connections_as_it_likes() {
    let test = TestApp::new().await;
    let settings = Settings {
        per_address: Some(1),
        trusted_proxies: "127.0.0.0/30,::1".parse().unwrap(),
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    let mut connections: Vec<_> = (0..5).map(|_| Connection::open(address).unwrap()).collect();
    for connection in &mut connections {
        connection.send(&request("GET", "/livez")).unwrap();
    }
}

#[tokio::test]
async fn f47_at_the_bound_of_all_connections_an_idle_one_makes_room() {
    let test = TestApp::new().await;
    let settings = Settings {
        max_connections: 4,
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    tokio::time::pause();
    let mut used = TcpStream::connect(address).await.unwrap();
    live(&mut used).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // It is served last, so that all of these are there.
    live(&mut used).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    // Those that have had the time to ask for something, and haven't, go before one that has asked.
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        let mut newcomer = TcpStream::connect(address).await.unwrap();
        live(&mut newcomer).await;
        newcomers.push(newcomer);
    }
    for silent in silent {
        is_closed(silent).await;
    }
    live(&mut used).await;
    // One that has only just come goes last, so that newcomers don't cut each other off.
    let mut slow = TcpStream::connect(address).await.unwrap();
    let mut next = TcpStream::connect(address).await.unwrap();
    live(&mut next).await;
    live(&mut slow).await;
}

#[tokio::test]
async fn f47_close_to_the_bound_an_idle_one_makes_room_before_a_newcomer_needs_it() {
    let test = TestApp::new().await;
    let settings = Settings {
        max_connections: 64,
        ..Settings::default()
    };
    let address = test.listen_with(settings).await;
    let mut silent = Vec::new();
    for _ in 0..62 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut newcomer = TcpStream::connect(address).await.unwrap();
    live(&mut newcomer).await;
    let mut evicted = silent.swap_remove(0);
    // It sends this too late.
    let _ = evicted.write_all(LIVE).await;
    is_closed(evicted).await;
    for mut silent in silent {
        live(&mut silent).await;
    }
}

#[test]
fn f46_idle_connections_leave_room_whatever_the_limit_of_open_files() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    for limits in ["ulimit -Sn 64", "ulimit -n 192"] {
        binary.run_under(limits);
        let server = binary.serve();
        let idle: Vec<_> = (0..100).map(|_| server.connect()).collect();
        assert_eq!(server.send(&authorize()).status, StatusCode::OK);
        let ready = server.send(&request("GET", "/readyz"));
        assert_eq!(ready.status, StatusCode::OK, "{ready:?}");
        assert!(!server.log().contains("can't accept"), "{}", server.log());
        drop(idle);
        assert_eq!(server.stop().code(), Some(0));
    }
}

#[test]
fn f54_a_second_sigterm_ends_at_once() {
    let binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let mut server = binary.serve();
    // It would be waited for.
    let _begun = begin(server.connect());
    server.signal("TERM");
    eventually("it isn't ready", || {
        !server.has_ended() && Connection::open(server.address).is_err()
    });
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(binary.log().contains("told to end a second time"));
}

#[tokio::test]
async fn f54_a_server_that_leaves_answers_what_was_sent() {
    let test = TestApp::new().await;
    let settings = Settings {
        drain_delay: Duration::from_secs(5),
        ..Settings::default()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (address, serving) = test
        .serve_until(settings, async {
            let _ = stopped.await;
        })
        .await;
    tokio::time::pause();
    let mut kept = TcpStream::connect(address).await.unwrap();
    live(&mut kept).await;
    let mut unused = TcpStream::connect(address).await.unwrap();
    live(&mut unused).await;
    sleep(Duration::from_secs(2)).await;
    stop.send(()).unwrap();
    sleep(Duration::from_millis(100)).await;
    // Whoever asks has an answer, which says that it is the last.
    let mut late = TcpStream::connect(address).await.unwrap();
    for stream in [&mut unused, &mut late] {
        assert!(last(stream).await.contains("connection: close"));
    }
    sleep(Duration::from_secs(4)).await;
    // Nobody has accepted these yet when the delay is over.
    let mut queued = TcpStream::connect(address).await.unwrap();
    queued.write_all(LIVE).await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    assert!(last_answer(&mut queued).await.contains("200 OK"));
    assert_eq!(refused(address).await.kind(), ErrorKind::ConnectionRefused);
    // Whoever doesn't is let go.
    is_closed(kept).await;
    serving.await.unwrap();
}

#[tokio::test]
async fn f55_what_waits_for_the_store_is_answered_before_the_end_and_finished_after_it() {
    let test = TestApp::new().await;
    let before = test.count("profiles").await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (address, serving) = test
        .serve_until(Settings::default(), async {
            let _ = stopped.await;
        })
        .await;
    let held = test.database.hold_writes().await;
    let mut waits = TcpStream::connect(address).await.unwrap();
    let mut gone = TcpStream::connect(address).await.unwrap();
    let target = authorize().target();
    let asks = format!("GET {target} HTTP/1.1\r\nhost: id.example\r\n\r\n");
    for stream in [&mut waits, &mut gone] {
        stream.write_all(asks.as_bytes()).await.unwrap();
    }
    tokio::time::pause();
    sleep(Duration::from_millis(100)).await;
    drop(gone);
    stop.send(()).unwrap();
    serving.await.unwrap();
    // Here a process would end, so all that is said has been said.
    let end = Instant::now();
    let answer = last_answer(&mut waits).await;
    assert_eq!(Instant::now(), end);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    // Both handlers go on, and are waited for.
    let finishing = tokio::spawn({
        let app = Arc::clone(&test.app);
        async move { app.finish().await }
    });
    sleep(Duration::from_secs(1)).await;
    // PostgreSQL's late answers aren't waited for, so what they would have said isn't known.
    let is_sqlite = matches!(Backend::of_this_run(), Backend::Sqlite);
    assert!(!is_sqlite || !finishing.is_finished());
    tokio::time::resume();
    drop(held);
    finishing.await.unwrap();
    if is_sqlite {
        assert_eq!(test.count("profiles").await, before + 2);
    }
}

/// Connects until that fails. A program that another test starts has the listener, too, until it is that program.
async fn refused(address: SocketAddr) -> std::io::Error {
    for _ in 0..10_000 {
        if let Err(error) = TcpStream::connect(address).await {
            return error;
        }
    }
    panic!("somebody listens on {address}");
}

/// Long enough for a connection to be parked, and no header's deadline.
const A_WHILE: Duration = Duration::from_secs(5);

const LIVE: &[u8] = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

/// Asks for `/livez` on a connection that stays.
async fn live(stream: &mut TcpStream) {
    stream.write_all(LIVE).await.unwrap();
    is_live(stream).await;
}

async fn is_live(stream: &mut TcpStream) {
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{length}");
}

/// Asks for `/livez` on a connection that the server closes after its answer.
async fn last(stream: &mut TcpStream) -> String {
    stream.write_all(LIVE).await.unwrap();
    last_answer(stream).await
}

async fn last_answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Waits until the server closes, which has sent nothing.
async fn is_closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset, where something was left unread.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{rest:?}");
}

/// Sends a byte a second, until the server closes.
async fn drip(mut stream: TcpStream) {
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        if stream.write_all(b"a").await.is_err() {
            return;
        }
    }
    panic!("it waits for ever");
}

/// Opens a connection with a small buffer, and asks for more than fits.
async fn full_of_answers(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let ask = b"GET /oauth/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(40);
    stream.write_all(&ask).await.unwrap();
    stream
}

/// Waits until the server has reset the connection. Takes nothing meanwhile, or a byte a second.
async fn is_reset(mut stream: TcpStream, trickles: bool) {
    for _ in 0..120 {
        sleep(Duration::from_secs(1)).await;
        // All that has arrived can be read after the reset as well.
        if stream.take_error().unwrap().is_some() {
            return;
        }
        if trickles && !matches!(stream.read(&mut [0]).await, Ok(1)) {
            return;
        }
    }
    panic!("it waits for ever");
}

/// Begins a request whose body the server waits for.
fn begin(mut connection: Connection) -> Connection {
    let whole = exchange("nonsense").header("expect", "100-continue").wire();
    let body = exchange("nonsense").encoded();
    let (head, _) = whole.split_at(whole.len() - body.len());
    connection.write(head).unwrap();
    assert_eq!(connection.line().unwrap(), "HTTP/1.1 100 Continue");
    assert_eq!(connection.line().unwrap(), "");
    connection
}

fn any_number_of_each_address() -> Settings {
    Settings {
        per_address: None,
        ..Settings::default()
    }
}

/// Lets this process hold both ends of a thousand connections.
fn raise_the_limit_of_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let highest = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, highest).unwrap();
}
