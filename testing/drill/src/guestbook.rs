//! Clients that sign a guestbook through `storage-host serve`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};

/// The component of the guestbook.
pub(crate) const ID: &str = "guest/book/main";

/// Clients that sign until they are stopped.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, acknowledged) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let threads = (0..clients).map(|client| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            thread::spawn(move || {
                let mut connection = Connection::open(address)?;
                for entry in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = format!(r#"{{"name":"client {client}","text":"entry {entry}"}}"#);
                    connection.post("/api/entries", &body)?;
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            })
        });
        let threads = threads.collect();
        Self { stop, acknowledged, threads }
    }

    /// The number of entries whose request was answered.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Stops the clients, and returns the number of entries. Fails if a request failed.
    pub(crate) fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            match thread.join() {
                Ok(result) => result.context("a client failed")?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(self.acknowledged.load(Ordering::SeqCst))
    }
}

/// A connection that is kept open.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Posts JSON, and fails unless it was accepted.
    fn post(&mut self, path: &str, body: &str) -> Result<()> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let (status, length) = self.head()?;
        match length {
            Length::Bytes(bytes) => {
                std::io::copy(&mut self.0.by_ref().take(bytes), &mut std::io::sink())?;
            }
            Length::Chunked => self.skip_chunks()?,
        }
        ensure!((200..300).contains(&status), "POST {path} was answered with {status}");
        Ok(())
    }

    fn head(&mut self) -> Result<(u16, Length)> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).context("no status")?.parse()?;
        let mut length = Length::Bytes(0);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, length));
            }
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = Length::Bytes(bytes.trim().parse()?);
            } else if line.starts_with("transfer-encoding:") && line.ends_with("chunked") {
                length = Length::Chunked;
            }
        }
    }

    fn skip_chunks(&mut self) -> Result<()> {
        loop {
            let bytes = u64::from_str_radix(&self.line()?, 16)?;
            std::io::copy(&mut self.0.by_ref().take(bytes), &mut std::io::sink())?;
            self.line()?;
            if bytes == 0 {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

enum Length {
    Bytes(u64),
    Chunked,
}
