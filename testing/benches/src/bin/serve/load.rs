//! Clients that keep a number of connections busy.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// What a request asks for, and what its answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The responder's `/target`, which calls no storage.
    Target,
    /// The latest entries of the guestbook.
    Page,
    /// A new entry of the guestbook.
    Entry,
}

/// What the requests of a connection ask for, by their numbers.
pub(crate) type Mix = fn(usize) -> Asked;

/// What the clients of a turn have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// How long each answer took.
    pub(crate) latencies: Vec<Duration>,
    /// The ids of the entries that were acknowledged.
    pub(crate) entries: Vec<String>,
}

/// A page of entries.
#[derive(Debug, Deserialize)]
struct Page {
    entries: Vec<Entry>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    id: String,
}

/// A connection that is kept open.
pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (client, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// Sends a request, and reads the whole answer.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response<Bytes>> {
        self.0.ready().await?;
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        let headers = request.headers_mut();
        headers.insert(HOST, "localhost".parse()?);
        headers.insert(CONTENT_TYPE, "application/json".parse()?);
        let (head, body) = self.0.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }

    /// Asks for something. Fails unless the answer is the expected one.
    pub(crate) async fn ask(&mut self, asked: Asked, entries: &mut Vec<String>) -> Result<()> {
        let (status, answer) = match asked {
            Asked::Target => (StatusCode::OK, self.send(Method::GET, "/target", "").await?),
            Asked::Page => (StatusCode::OK, self.send(Method::GET, "/api/entries", "").await?),
            Asked::Entry => {
                let body = r#"{"name":"A visitor","text":"I was here, and there, and stayed for a while to write these hundred bytes."}"#;
                (StatusCode::CREATED, self.send(Method::POST, "/api/entries", body).await?)
            }
        };
        let body = answer.body();
        if answer.status() != status {
            bail!("answered with {}: {}", answer.status(), String::from_utf8_lossy(body));
        }
        let is_expected = match asked {
            Asked::Target => body.as_ref() == b"localhost /target",
            Asked::Page => body.starts_with(b"{\"entries\":[{") && body.ends_with(b"}"),
            Asked::Entry => match serde_json::from_slice::<Entry>(body) {
                Ok(entry) => {
                    entries.push(entry.id);
                    true
                }
                Err(_) => false,
            },
        };
        ensure!(is_expected, "unexpected answer: {}", String::from_utf8_lossy(body));
        Ok(())
    }

    /// The ids of all entries.
    pub(crate) async fn all_entries(&mut self) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut path = "/api/entries?limit=100".to_owned();
        loop {
            let answer = self.send(Method::GET, &path, "").await?;
            ensure!(answer.status() == StatusCode::OK, "a page was answered with {answer:?}");
            let page: Page = serde_json::from_slice(answer.body())?;
            ids.extend(page.entries.into_iter().map(|entry| entry.id));
            match page.next {
                Some(next) => path = format!("/api/entries?limit=100&after={next}"),
                None => return Ok(ids),
            }
        }
    }
}

/// Sends requests over this many connections, each as soon as the one before is answered, for
/// this long. Fails with the first error.
pub(crate) fn run(
    runtime: &Runtime,
    address: SocketAddr,
    connections: usize,
    mix: Mix,
    time: Duration,
) -> Result<Seen> {
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(Client::connect(address).await?);
        }
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            tasks.spawn(keep_busy(client, number, mix, begun + time));
        }
        let mut seen = Seen::default();
        while let Some(of_client) = tasks.join_next().await {
            let of_client = of_client.context("a client panicked")??;
            seen.latencies.extend(of_client.latencies);
            seen.entries.extend(of_client.entries);
        }
        seen.took = begun.elapsed();
        Ok(seen)
    })
}

/// The first number differs between connections, so that not all write at the same time.
async fn keep_busy(mut client: Client, first: usize, mix: Mix, until: Instant) -> Result<Seen> {
    let mut seen = Seen::default();
    for number in first.. {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let asked = mix(number);
        client.ask(asked, &mut seen.entries).await.with_context(|| format!("{asked:?}"))?;
        seen.latencies.push(begun.elapsed());
    }
    Ok(seen)
}
