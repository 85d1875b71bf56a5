//! A client that sends what a test wants, byte for byte.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// By lower-case names.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    /// Whether the body has ended as the headers say.
    pub(super) is_complete: bool,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// A connection.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).unwrap()) }
    }

    /// Sends bytes. The server may have closed the connection.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Sends a request with a body.
    pub(super) fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) {
        let has_host = headers.iter().any(|line| line.starts_with("Host:"));
        let host = if has_host { "" } else { "Host: localhost\r\n" };
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let len = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\n{host}{lines}Content-Length: {len}\r\n\r\n");
        self.send(&[head.as_bytes(), body].concat());
    }

    /// Reads the status and the headers; `None` if the server has closed the connection.
    pub(super) fn head(&mut self) -> Option<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Some(Answer { status, headers, body: Vec::new(), is_complete: false })
    }

    /// Reads a response; `None` if the server has closed the connection instead.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let mut answer = self.head()?;
        self.body(&mut answer);
        Some(answer)
    }

    /// Reads the body that follows a head.
    pub(super) fn body(&mut self, answer: &mut Answer) {
        let is_chunked =
            answer.headers.get("transfer-encoding").is_some_and(|how| how == "chunked");
        let len = answer.headers.get("content-length").map(|len| len.parse().unwrap());
        match (is_chunked, len) {
            (true, _) => loop {
                let Some(len) = self.line() else { return };
                let len = usize::from_str_radix(&len, 16).unwrap();
                if !self.read(len, answer) || self.line().is_none() {
                    return;
                }
                if len == 0 {
                    break;
                }
            },
            (false, Some(len)) => {
                if !self.read(len, answer) {
                    return;
                }
            }
            (false, None) => {
                let _ = self.stream.read_to_end(&mut answer.body);
            }
        }
        answer.is_complete = true;
    }

    /// Reads this many bytes of a body; `false` if there are fewer.
    pub(super) fn read(&mut self, len: usize, answer: &mut Answer) -> bool {
        let mut bytes = vec![0; len];
        let is_there = self.stream.read_exact(&mut bytes).is_ok();
        if is_there {
            answer.body.extend(bytes);
        }
        is_there
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

/// Sends one request on a connection of its own.
pub(super) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let mut client = Client::new(address);
    client.ask(method, path, &[headers, &["Connection: close"]].concat(), body);
    client.answer().unwrap()
}
