//! Unix sockets, and sockets that the service manager hands over.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use guestpass::listen::{self, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::support::binary::{Binary, PATIENCE, Server};
use crate::support::certified::Certified;
use crate::support::{ISSUER, SHOP, TestApp, authorize};

mod sqlite;

#[test]
fn a_guest_comes_by_over_a_unix_socket_whose_file_goes_with_the_server() {
    let (mut binary, socket) = on_unix_socket();
    binary.set_variable("GUESTPASS_LOG__LEVEL", "info");
    let server = binary.serve();
    assert_eq!(
        server.announced,
        format!("listening on unix:{}", socket.display())
    );
    // The owner and the group, whatever the umask.
    let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(server.guest().claims["iss"], ISSUER);
    ended(server);
    assert!(!socket.exists());
    let log = binary.log();
    assert!(log.contains("peer=unix "), "{log}");

    let server = binary.serve_with(&["--json"]);
    let announced: Value = serde_json::from_str(&server.announced).unwrap();
    let listening = format!("unix:{}", socket.display());
    assert_eq!(announced, json!({"listening": listening, "issuer": ISSUER}));
    // A file that somebody else has put there meanwhile stays.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "mine").unwrap();
    ended(server);
    assert_eq!(fs::read(&socket).unwrap(), b"mine");
}

#[test]
fn a_proxy_on_a_unix_socket_says_for_whom_it_asks() {
    let (mut binary, _) = on_unix_socket();
    binary.set_variable("GUESTPASS_LIMITS__MODE", "enforce");
    binary.set_variable("GUESTPASS_LIMITS__GUESTS_PER_ADDRESS", "2/1h");
    let server = binary.serve();
    let status = |headers: &[(&str, &str)]| {
        let request = headers.iter().fold(authorize(), |request, (name, value)| {
            request.header(name, value)
        });
        server.send(&request).status
    };
    for visitor in ["198.51.100.1", "203.0.113.9, 198.51.100.2"] {
        for expected in [200, 200, 429] {
            assert_eq!(status(&[("x-forwarded-for", visitor)]), expected);
        }
    }
    assert_eq!(status(&[("forwarded", "for=198.51.100.1")]), 429);
    // Without a field nobody is seen.
    for _ in 0..5 {
        assert_eq!(status(&[]), 200);
    }
    // A visitor who adds to what the proxy says is still one of the proxy's.
    for (visitor, expected) in [("198.51.100.3", 200), ("unix:", 200), ("198.51.100.4", 429)] {
        let headers = [("x-forwarded-for", visitor), ("forwarded", "for=\"")];
        assert_eq!(status(&headers), expected, "{visitor}");
    }
    ended(server);
}

#[test]
fn a_socket_that_a_crash_has_left_is_replaced_and_one_that_answers_is_not() {
    let (binary, socket) = on_unix_socket();
    let server = binary.serve();
    let (mut other, _) = on_unix_socket();
    let listen = format!("unix:{}", socket.display());
    other.listen_at(&listen);
    for _ in 0..2 {
        let problem = other.failure(&["serve", "--listen", &listen]);
        for hint in [&listen, "in use", "--listen"] {
            assert!(problem.contains(hint), "{problem}");
        }
    }
    other.set_variable("GUESTPASS_LISTEN", &listen);
    let checked = other.run(&["config", "check"]);
    assert!(checked.stdout.contains("is in use already"), "{checked:?}");
    server.guest();

    server.kill();
    assert!(socket.exists());
    let checked = other.run(&["config", "check"]);
    assert!(!checked.stdout.contains("in use"), "{checked:?}");
    assert!(socket.exists());
    let server = binary.serve();
    server.guest();
    ended(server);
    assert!(!socket.exists());
}

#[test]
fn what_is_no_socket_of_ours_stays_as_it_is() {
    let (mut binary, path) = on_unix_socket();
    let listen = format!("unix:{}", path.display());
    binary.set_variable("GUESTPASS_LISTEN", &listen);
    let at = |name: &str| binary.working_dir().join(name);
    let _datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
    drop(UnixListener::bind(at("left")).unwrap());
    drop(UnixListener::bind(at("others")).unwrap());
    fs::write(at("file"), "mine").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("left", at("link")).unwrap();
    symlink("nothing", at("dangling")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(at("pipe"))
        .status();
    assert!(made.unwrap().success());
    let mut found = vec![
        ("file", "there is a file"),
        ("directory", "there is a directory"),
        ("link", "there is a link"),
        ("dangling", "there is a link"),
        ("pipe", "there is a pipe"),
        ("datagrams", "isn't ours"),
    ];
    // Only root can give a file away.
    if chown(at("others"), Some(65_534), None).is_ok() {
        found.push(("others", "another user (65534)"));
    }
    for (name, hint) in found {
        fs::rename(at(name), &path).unwrap();
        let before = fs::symlink_metadata(&path).unwrap();
        for command in ["config check", "serve"] {
            let problem = binary.failure(&command.split(' ').collect::<Vec<_>>());
            for hint in [&listen, hint, "stays as it is", "--listen"] {
                assert!(problem.contains(hint), "{name}: {problem}");
            }
        }
        let after = fs::symlink_metadata(&path).unwrap();
        assert_eq!(
            (after.ino(), after.mtime_nsec()),
            (before.ino(), before.mtime_nsec())
        );
        fs::rename(&path, at(name)).unwrap();
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"mine");
}

#[test]
fn a_unix_socket_that_cant_be_is_refused_by_the_check_as_well() {
    let (mut binary, path) = on_unix_socket();
    let long = format!("unix:/{}", "x".repeat(107));
    let nowhere = format!("unix:{}", path.join("socket").display());
    for (listen, hint) in [
        (long.as_str(), "107 at most"),
        (nowhere.as_str(), "RuntimeDirectory=guestpass"),
    ] {
        binary.set_variable("GUESTPASS_LISTEN", listen);
        for command in ["config check", "serve"] {
            let problem = binary.failure(&command.split(' ').collect::<Vec<_>>());
            assert!(problem.contains(hint), "{problem}");
        }
        binary.clear_variable("GUESTPASS_LISTEN");
    }
    binary.set_variable("GUESTPASS_LISTEN", &format!("unix:{}", path.display()));
    let certified = Certified::new();
    speak_tls(&mut binary, &certified);
    for command in ["config check", "serve"] {
        let problem = binary.failure(&command.split(' ').collect::<Vec<_>>());
        for hint in [
            "TLS isn't spoken on unix:",
            "Leave out tls.certificate_file",
        ] {
            assert!(problem.contains(hint), "{problem}");
        }
    }
    assert!(!path.exists());
    // The operators' listener has a use for it.
    binary.set_variable("GUESTPASS_ADMIN_LISTEN", "127.0.0.1:0");
    binary.set_variable("GUESTPASS_ADMIN__TLS", "on");
    let server = binary.serve();
    server.guest();
    ended(server);
}

#[test]
fn a_socket_is_handed_over_and_who_has_connected_before_the_start_is_answered() {
    let mut binary = Binary::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The second of two, by its name.
    let names = "exec 3</dev/null 4<&0 && export LISTEN_FDS=2 LISTEN_FDNAMES=other:guestpass";
    binary.hand_over(listener, names);
    binary.json(&["client", "add", SHOP]);
    let mut early = TcpStream::connect(address).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(LIVE).unwrap();
    let server = binary.serve();
    assert_eq!(server.announced, format!("listening on http://{address}"));
    assert!(is_answered(&mut early));
    assert_eq!(server.guest().claims["iss"], ISSUER);
    ended(server);
    // The service manager has it still, and the next start goes on with it.
    let mut between = TcpStream::connect(address).unwrap();
    between.set_read_timeout(Some(PATIENCE)).unwrap();
    between.write_all(LIVE).unwrap();
    let server = binary.serve();
    assert!(is_answered(&mut between));
    ended(server);
}

#[test]
fn a_unix_socket_that_is_handed_over_stays_where_it_is() {
    let (mut binary, path) = on_unix_socket();
    binary.set_variable("GUESTPASS_LIMITS__MODE", "enforce");
    binary.set_variable("GUESTPASS_LIMITS__GUESTS_PER_ADDRESS", "1/1h");
    let listener = UnixListener::bind(&path).unwrap();
    // Without a name it is the first.
    binary.hand_over(listener, "exec 3<&0 && export LISTEN_FDS=1");
    let mut early = UnixStream::connect(&path).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(LIVE).unwrap();
    let server = binary.serve();
    let announced = format!("listening on unix:{}", path.display());
    assert_eq!(server.announced, announced);
    assert!(is_answered(&mut early));
    let visitor = authorize().header("x-forwarded-for", "198.51.100.1");
    let both: Vec<_> = (0..2).map(|_| server.send(&visitor).status).collect();
    assert_eq!(both, [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]);
    ended(server);
    assert!(UnixStream::connect(&path).is_ok());
    let exposed = format!("others can connect to {}", path.display());
    assert!(!binary.log().contains(&exposed), "{}", binary.log());
    // As systemd makes it, unless it is told otherwise.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    ended(binary.serve());
    assert!(binary.log().contains(&exposed), "{}", binary.log());

    // The kind of the socket shows only now.
    let certified = Certified::new();
    speak_tls(&mut binary, &certified);
    let problem = binary.failure(&["serve", "--listen", "systemd"]);
    assert!(problem.contains("TLS isn't spoken on unix:"), "{problem}");
}

#[test]
fn what_is_handed_over_must_listen() {
    let mut binary = Binary::new();
    binary.json(&["client", "add", SHOP]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected: OwnedFd = TcpStream::connect(listener.local_addr().unwrap())
        .unwrap()
        .into();
    let datagrams: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let name = format!("guestpass test {}", std::process::id());
    let nameless = SocketAddr::from_abstract_name(name).unwrap();
    let nameless: OwnedFd = UnixListener::bind_addr(&nameless).unwrap().into();
    let here = "exec 3<&0 && export LISTEN_FDS=1";
    for (socket, before, hint) in [
        (&nameless, here, "abstract socket"),
        (&datagrams, here, "isn't a stream socket that listens"),
        (&connected, here, "isn't a stream socket that listens"),
        (
            &connected,
            "exec 3</dev/null && export LISTEN_FDS=1",
            "won't do",
        ),
        // The descriptor is one of the server's own then.
        (&connected, "exec 3<&- && export LISTEN_FDS=1", "won't do"),
        (&connected, "true", "hands over no socket"),
        (&connected, "export LISTEN_FDS=0", "hands over no socket"),
        (
            &connected,
            "export LISTEN_FDS=1 LISTEN_PID=1",
            "hands over no socket",
        ),
        (&connected, "export LISTEN_FDS=x", "isn't a number"),
    ] {
        binary.hand_over(socket.try_clone().unwrap(), before);
        let problem = binary.failure(&["serve", "--listen", "systemd"]);
        for hint in ["can't listen on systemd: ", hint, "ListenStream="] {
            assert!(problem.contains(hint), "{before}: {problem}");
        }
    }
    // To the check nothing is handed over, so it says nothing of that.
    binary.set_variable("GUESTPASS_LISTEN", "systemd");
    assert_eq!(binary.json(&["config", "check"])["ok"], true);
}

#[tokio::test]
async fn a_unix_socket_has_the_deadlines_of_all_and_no_bound_of_an_address() {
    let test = TestApp::new().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let settings = Settings {
        per_address: Some(1),
        max_connections: 4,
        ..Settings::default()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let serving = tokio::spawn(listen::serve(
        listener,
        settings,
        test.router.clone(),
        async {
            let _ = stopped.await;
        },
    ));
    tokio::time::pause();
    let connect = async || tokio::net::UnixStream::connect(&path).await.unwrap();
    let start = Instant::now();
    let mut connections = [connect().await, connect().await, connect().await];
    for connection in &mut connections {
        connection.write_all(LIVE).await.unwrap();
        let mut answer = [0; 4096];
        let length = connection.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 "));
    }
    let mut silent = connect().await;
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert_eq!((rest.len(), start.elapsed().as_secs()), (0, 10));

    // Whoever has connected when the server leaves is answered.
    let _ = stop.send(());
    let queued = UnixStream::connect(&path).unwrap();
    (&queued).write_all(LIVE).unwrap();
    queued.set_nonblocking(true).unwrap();
    let mut queued = tokio::net::UnixStream::from_std(queued).unwrap();
    let mut answer = String::new();
    queued.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("200 OK") && answer.contains("connection: close"));
    for mut connection in connections {
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
    }
    serving.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(15));
}

const LIVE: &[u8] = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";

/// An installation whose servers listen on a Unix socket, and its path.
fn on_unix_socket() -> (Binary, PathBuf) {
    let mut binary = Binary::new();
    let socket = binary.working_dir().join("socket");
    binary.listen_at(&format!("unix:{}", socket.display()));
    binary.json(&["client", "add", SHOP]);
    (binary, socket)
}

fn speak_tls(binary: &mut Binary, certified: &Certified) {
    let tls = certified.tls();
    for (name, file) in [
        ("GUESTPASS_TLS__CERTIFICATE_FILE", &tls.certificate_file),
        ("GUESTPASS_TLS__KEY_FILE", &tls.key_file),
    ] {
        binary.set_variable(name, file.to_str().unwrap());
    }
}

/// Reads the answer to [`LIVE`].
fn is_answered(stream: &mut impl Read) -> bool {
    let mut beginning = [0; b"HTTP/1.1 200 ".len()];
    stream.read_exact(&mut beginning).unwrap();
    beginning == *b"HTTP/1.1 200 "
}

fn ended(server: Server) {
    assert_eq!(server.stop().code(), Some(0));
}
