//! A client's end of a connection to a real server: requests and answers as HTTP/1.1 writes them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::binary::PATIENCE;
use super::{Answer, Sent};

/// A connection on which request follows answer.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request and reads its answer, which is checked for what every answer must have. An error means that the
    /// connection broke before the answer was there, whole.
    pub(crate) fn send(&mut self, request: &Sent) -> io::Result<Answer> {
        let request = request.clone().into_http();
        let (parts, body) = request.into_parts();
        let mut message = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
        for (name, value) in &parts.headers {
            message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        message.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
        message.extend(body);
        self.0.get_mut().write_all(&message)?;
        let answer = self.answer()?;
        answer.check(&parts.method);
        Ok(answer)
    }

    fn answer(&mut self) -> io::Result<Answer> {
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
        let length = headers
            .get("content-length")
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

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
