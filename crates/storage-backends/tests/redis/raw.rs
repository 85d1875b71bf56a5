//! A connection past the store.

use std::io::{self, ErrorKind, Read, Write as _};
use std::net::TcpStream;

use redis::{Cmd, Parser, Value};
use storage_backends::RedisAddress;

use super::*;

/// A connection to one server.
pub(crate) struct Raw {
    stream: TcpStream,
    parser: Parser,
}

impl Raw {
    pub(crate) fn connect(address: &RedisAddress) -> Self {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream, parser: Parser::new() }
    }

    /// Sends a command, and returns the reply, which may be an error.
    pub(crate) fn reply(&mut self, command: &Cmd) -> Value {
        self.stream.write_all(&command.get_packed_command()).unwrap();
        self.parser.parse_value(Patient(&self.stream)).unwrap()
    }

    /// Sends a command whose words are in one text.
    pub(crate) fn run(&mut self, words: &str) -> Value {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        match self.reply(&command) {
            Value::ServerError(error) => panic!("{command:?}: {error}"),
            reply => reply,
        }
    }
}

/// Reads again if the process was stopped and continued meanwhile.
struct Patient<'s>(&'s TcpStream);

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// The text of a reply.
pub(crate) fn text(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?} is not a string"),
    }
}
