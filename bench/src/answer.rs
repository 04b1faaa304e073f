//! Parses answers of HTTP/1.1 that have a `Content-Length`.

use std::io;

use memchr::memmem;

/// Buffers the bytes of a connection until an answer is complete.
#[derive(Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    /// Range of the body, once the header is complete.
    body: Option<(usize, usize)>,
}

/// Borrows a complete answer.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
    /// Length with the header.
    pub(crate) bytes: usize,
}

impl Reader {
    /// Reads once from `source`; returns `false` if that would block.
    pub(crate) fn read(&mut self, source: &mut impl io::Read) -> io::Result<bool> {
        let before = self.bytes.len();
        self.bytes.resize(before + AT_ONCE, 0);
        let result = loop {
            match source.read(&mut self.bytes[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.bytes
            .truncate(before + result.as_ref().copied().unwrap_or(0));
        match result {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the answer if it is complete.
    pub(crate) fn answer(&mut self) -> io::Result<Option<Answer<'_>>> {
        if self.body.is_none() {
            let Some(end) = memmem::find(&self.bytes, b"\r\n\r\n") else {
                return Ok(None);
            };
            let begin = end + 4;
            let length = match status(&self.bytes) {
                Some(NO_CONTENT) => 0,
                _ => content_length(&self.bytes[..end]).ok_or(io::ErrorKind::InvalidData)?,
            };
            self.body = Some((begin, begin + length));
        }
        match self.body {
            Some((begin, end)) if self.bytes.len() >= end => Ok(Some(Answer {
                status: status(&self.bytes).ok_or(io::ErrorKind::InvalidData)?,
                head: &self.bytes[..begin],
                body: &self.bytes[begin..end],
                bytes: end,
            })),
            _ => Ok(None),
        }
    }

    /// Drops the answer before the next one is read.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.body = None;
    }
}

/// The status of an answer that has no body, and doesn't say so.
const NO_CONTENT: u16 = 204;

/// Longer than any answer of the token endpoint.
const AT_ONCE: usize = 4096;

fn status(header: &[u8]) -> Option<u16> {
    let code = header.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

fn content_length(header: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = header.split(|&byte| byte == b'\n');
    let line = lines.find(|line| {
        line.get(..NAME.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })?;
    let value = std::str::from_utf8(&line[NAME.len()..]).ok()?;
    value.trim().parse().ok()
}

/// Finds the text of a JSON member, which must have no escapes.
pub(crate) fn member<'a>(body: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let name = format!("\"{name}\":\"");
    let begin = memmem::find(body, name.as_bytes())? + name.len();
    let length = memchr::memchr(b'"', &body[begin..])?;
    Some(&body[begin..begin + length])
}

/// Finds the value of a cookie that a header sets, which must come in lower case, as ours does.
pub(crate) fn cookie<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let field = format!("set-cookie: {name}=");
    let begin = memmem::find(head, field.as_bytes())? + field.len();
    let length = memchr::memchr(b';', &head[begin..])?;
    Some(&head[begin..begin + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nvary: origin\r\nContent-Length: 23\r\n\r\n{\"refresh_token\":\"abc\"}";

    #[test]
    fn an_answer_is_read_however_it_is_split() {
        for at in 0..ANSWER.len() {
            let mut reader = Reader::default();
            for part in [&ANSWER[..at], &ANSWER[at..]] {
                assert_eq!(reader.answer().unwrap(), None);
                if !part.is_empty() {
                    assert!(reader.read(&mut &*part).unwrap());
                }
            }
            let answer = reader.answer().unwrap().unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(member(answer.body, "refresh_token"), Some(&b"abc"[..]));
            reader.clear();
            assert_eq!(reader.answer().unwrap(), None);
        }
    }

    #[test]
    fn an_answer_without_content_needs_no_length() {
        let mut reader = Reader::default();
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        reader.read(&mut &answer[..]).unwrap();
        assert_eq!(reader.answer().unwrap().unwrap().bytes, answer.len());
    }

    #[test]
    fn an_answer_of_unknown_length_is_an_error() {
        let mut reader = Reader::default();
        reader.read(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).unwrap();
        assert!(reader.answer().is_err());
    }

    #[test]
    fn an_ended_connection_is_an_error() {
        assert!(Reader::default().read(&mut &b""[..]).is_err());
    }
}
