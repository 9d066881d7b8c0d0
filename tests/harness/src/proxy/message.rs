//! Requests and answers of HTTP/1.1, as whole messages.

use std::io::{self, BufRead, Write};

/// Longest line of a head; keys and signatures fit many times.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A request as it came.
pub(super) struct Request {
    /// Method, path and version.
    pub(super) line: String,
    /// All of it.
    pub(super) bytes: Vec<u8>,
}

impl Request {
    /// The next one; None when the client has closed the connection.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let head = read_head(from)?;
        let Some(line) = head.first().cloned().filter(|line| !line.is_empty()) else {
            return Ok(None);
        };
        let mut bytes = plain(&head);
        read_exactly(from, length_of(&head), &mut bytes)?;
        Ok(Some(Self { line, bytes }))
    }

    fn asks_for_head(&self) -> bool {
        self.line.starts_with("HEAD ")
    }
}

/// An answer; chunks have become one body.
pub(super) struct Answer {
    head: Vec<String>,
    body: Vec<u8>,
    /// The connection ends after it.
    pub(super) closes: bool,
}

impl Answer {
    pub(super) fn read(from: &mut impl BufRead, to: &Request) -> io::Result<Self> {
        let mut head = read_head(from)?;
        let status = head.first().and_then(|line| line.split(' ').nth(1));
        let status: u16 = status.and_then(|code| code.parse().ok()).unwrap_or(0);
        if status == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut closes = has(&head, "connection", "close");
        let mut body = Vec::new();
        let has_body = !to.asks_for_head() && !matches!(status, 100..200 | 204 | 304);
        if has_body && has(&head, "transfer-encoding", "chunked") {
            read_chunks(from, &mut body)?;
            head.retain(|line| !is_named(line, "transfer-encoding"));
            head.push(format!("content-length: {}", body.len()));
        } else if has_body && head.iter().any(|line| is_named(line, "content-length")) {
            read_exactly(from, length_of(&head), &mut body)?;
        } else if has_body {
            from.read_to_end(&mut body)?;
            head.push(format!("content-length: {}", body.len()));
            closes = true;
        }
        Ok(Self { head, body, closes })
    }

    /// What S3 says when it does not want to.
    pub(super) fn refusal(status: u16, code: &str, to: &Request) -> Self {
        let body = match to.asks_for_head() {
            true => String::new(),
            false => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
            ),
        };
        let head = vec![
            format!("HTTP/1.1 {status} Injected"),
            "content-type: application/xml".to_owned(),
            format!("content-length: {}", body.len()),
        ];
        Self {
            head,
            body: body.into_bytes(),
            closes: false,
        }
    }

    /// Half of the body is gone, and nothing tells.
    pub(super) fn shorten(&mut self) {
        if self.body.is_empty() {
            return;
        }
        self.body.truncate(self.body.len() / 2);
        self.head.retain(|line| !is_named(line, "content-length"));
        self.head
            .push(format!("content-length: {}", self.body.len()));
    }

    /// One byte is not what it was, and nothing tells.
    pub(super) fn change_byte(&mut self) {
        let middle = self.body.len() / 2;
        if let Some(byte) = self.body.get_mut(middle) {
            *byte ^= 1;
        }
    }

    /// Another version than the server's, in the head and in what completing and copying answer.
    pub(super) fn change_etag(&mut self) {
        let other = format!("{:032x}", super::unlike_any_other());
        for line in &mut self.head {
            if is_named(line, "etag") {
                *line = format!("ETag: \"{other}\"");
            }
        }
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let is_result =
            text.contains("<CompleteMultipartUploadResult") || text.contains("<CopyObjectResult");
        let tag = text.split_once("<ETag>").and_then(|(before, rest)| {
            let (_, after) = rest.split_once("</ETag>")?;
            Some(format!("{before}<ETag>&#34;{other}&#34;</ETag>{after}"))
        });
        if let (true, Some(text)) = (is_result, tag) {
            self.body = text.into_bytes();
            self.head.retain(|line| !is_named(line, "content-length"));
            self.head
                .push(format!("content-length: {}", self.body.len()));
        }
    }

    /// All of it.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = plain(&self.head);
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The head and half of the body; without a body, half of the head.
    pub(super) fn first_half(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        let lost = match self.body.len() {
            0 => bytes.len(),
            body => body,
        };
        bytes.truncate(bytes.len() - lost.div_ceil(2));
        bytes
    }

    /// Bytes of a part of an object (206 Partial Content).
    pub(super) fn part_bytes(&self) -> u64 {
        match self.head.first().is_some_and(|line| line.contains(" 206 ")) {
            true => self.body.len() as u64,
            false => 0,
        }
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.bytes())
    }
}

/// The lines of a head, without their ends; none at the end of the connection.
fn read_head(from: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut head = Vec::new();
    loop {
        let line = read_line(from)?;
        match line.is_empty() {
            true => return Ok(head),
            false => head.push(line),
        }
    }
}

/// Empty at the end of a head and of the connection.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.len() > LINE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let line = String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = read_line(from)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        read_exactly(from, size, body)?;
        // The end of the chunk; after the last one, of the message.
        read_line(from)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_exactly(from: &mut impl BufRead, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
    let start = into.len();
    into.resize(start + count, 0);
    from.read_exact(&mut into[start..])
}

fn plain(head: &[String]) -> Vec<u8> {
    let mut bytes = head.join("\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes
}

fn is_named(line: &str, name: &str) -> bool {
    line.split_once(':')
        .is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
}

fn value<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let line = head.iter().find(|line| is_named(line, name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn has(head: &[String], name: &str, wanted: &str) -> bool {
    value(head, name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
}

fn length_of(head: &[String]) -> usize {
    value(head, "content-length").map_or(0, |length| length.parse().unwrap_or(0))
}
