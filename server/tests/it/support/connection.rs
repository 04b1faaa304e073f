//! A client's end of a connection to a real server: requests and answers as HTTP/1.1 writes them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::binary::PATIENCE;
use super::{Answer, Sent};

/// A connection on which request follows answer. Its calls block: a test that has the server in its own process gives
/// it threads of its own (`flavor = "multi_thread"`).
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

/// The transport of a connection: TCP, or TLS on it.
pub(crate) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }

    /// Opens a connection on a Unix socket.
    pub(crate) fn open_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }

    /// Wraps an open transport.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// Sends a request and reads its answer, which is checked for what every answer must have. An error means that the
    /// connection broke before the answer was there, whole.
    pub(crate) fn send(&mut self, request: &Sent) -> io::Result<Answer> {
        self.write(request.wire())?;
        self.answer_to(&request.method)
    }

    /// Sends these bytes. An error means that the server closed before it had them all.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// Returns whether the server has closed the connection in order, without further bytes.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    /// Reads one more answer, to a request with that method.
    pub(crate) fn answer_to(&mut self, method: &Method) -> io::Result<Answer> {
        let answer = self.read_answer(method)?;
        if answer.header("x-request-id").is_some() {
            answer.check(method);
        } else {
            answer.check_early();
        }
        Ok(answer)
    }

    /// Reads the rest of a connection that the server closes: one answer, with `connection: close`, and nothing after
    /// it.
    pub(crate) fn last_answer(&mut self) -> io::Result<Answer> {
        let answer = self.answer_to(&Method::GET)?;
        if answer.header("connection") != Some("close") {
            return Err(io::Error::other(format!(
                "the connection stays: {answer:?}"
            )));
        }
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            // The server closed with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => drop(other?),
        }
        if rest.is_empty() {
            return Ok(answer);
        }
        let rest = String::from_utf8_lossy(&rest);
        Err(io::Error::other(format!("an answer too many: {rest}")))
    }

    fn read_answer(&mut self, method: &Method) -> io::Result<Answer> {
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        // RFC 9110 §9.3.2: it is the length that the body would have had.
        let length = headers
            .get("content-length")
            .filter(|_| method != Method::HEAD)
            .map_or("0", |length| length.to_str().unwrap());
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body)?;
        let status = status.unwrap_or_else(|| panic!("not an answer: {status_line}"));
        Ok(Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body,
        })
    }

    /// Reads one line of a header.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Sent {
    /// Encodes the request in HTTP/1.1.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let (parts, body) = self.clone().into_http().into_parts();
        let mut message = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
        for (name, value) in &parts.headers {
            message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        message.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
        message.extend(body);
        message
    }
}

impl Answer {
    /// Checks an answer that the HTTP library gives before there is a request.
    fn check_early(&self) {
        assert!(self.status.is_client_error(), "{self:?}");
        assert!(self.body.is_empty(), "{self:?}");
        for name in ["server", "location", "access-control-allow-origin"] {
            assert_eq!(self.header(name), None, "{self:?}");
        }
    }
}
