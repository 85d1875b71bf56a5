//! Answers of any length, produced on a thread that may block.
//!
//! `/v1/snapshot` is a sequence of records. A record has the lengths of a key and of a value,
//! as four bytes each with the most significant first, and then the key and the value. A
//! record without a key is the last: its value is empty after a complete snapshot, else the
//! error as JSON.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use storage_core::{StorageError, StorageValue};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::timeout;

use super::wire::Refusal;

/// How long a client may read nothing. Writers of some stores wait for a snapshot.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// How many bytes are sent at a time.
const CHUNK: usize = 64 << 10;

/// How many chunks wait for the client.
const CHUNKS: usize = 4;

/// The client reads nothing more.
#[derive(Debug)]
pub(super) struct ClientGone;

/// The body of an answer whose bytes come from a [`Sender`].
pub(super) struct Stream(mpsc::Receiver<Bytes>);

/// Sends the bytes of a [`Stream`].
pub(super) struct Sender {
    chunks: mpsc::Sender<Bytes>,
    runtime: Handle,
    buffer: Vec<u8>,
}

/// Creates a stream. Call this in a runtime.
pub(super) fn stream() -> (Sender, Stream) {
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    (Sender { chunks, runtime: Handle::current(), buffer: Vec::new() }, Stream(receiver))
}

impl Sender {
    /// Adds bytes, and sends if there are enough. Waits for the client, so call it on a
    /// thread that may block.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ClientGone> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < CHUNK { Ok(()) } else { self.flush() }
    }

    /// Sends what was added.
    pub(super) fn flush(&mut self) -> Result<(), ClientGone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        match self.chunks.try_send(chunk) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(ClientGone),
            Err(TrySendError::Full(chunk)) => {
                let sent = async { timeout(STALL, self.chunks.send(chunk)).await };
                match self.runtime.block_on(sent) {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) | Err(_) => Err(ClientGone),
                }
            }
        }
    }

    /// Adds a record of a snapshot.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), ClientGone> {
        let mut head = [0; HEAD];
        let (keys, values) = head.split_at_mut(HEAD / 2);
        keys.copy_from_slice(&length(key).to_be_bytes());
        values.copy_from_slice(&length(value).to_be_bytes());
        self.write(&head)?;
        self.write(key)?;
        self.write(value)
    }

    /// Sends the end of a snapshot.
    pub(super) fn end_records(&mut self, outcome: Result<(), Refusal>) -> Result<(), ClientGone> {
        let error = match outcome {
            Ok(()) => Vec::new(),
            // Cannot fail: it holds only texts and numbers.
            Err(refusal) => serde_json::to_vec(&refusal).unwrap_or_default(),
        };
        self.record(b"", &error)?;
        self.flush()
    }
}

/// The bytes of the two lengths.
const HEAD: usize = 8;

fn length(bytes: &[u8]) -> u32 {
    // No store has such values.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Takes a snapshot apart, whatever the size of the chunks.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// How many of the bytes were read.
    read: usize,
}

/// What follows in a snapshot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(String, StorageValue),
    End,
    Failed(Box<Refusal>),
}

impl Records {
    /// Adds a chunk.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole record.
    ///
    /// # Errors
    /// If the bytes are not a record.
    pub(super) fn next(&mut self) -> Result<Option<Record>, StorageError> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *head;
        let (keys, values) = (number([a, b, c, d]), number([e, f, g, h]));
        let Some((key, rest)) = rest.split_at_checked(keys) else { return Ok(None) };
        let Some(value) = rest.get(..values) else { return Ok(None) };
        let record = match (key, value) {
            ([], []) => Record::End,
            ([], error) => {
                Record::Failed(Box::new(serde_json::from_slice(error).map_err(|_| not_a_record())?))
            }
            (key, value) => {
                let key = std::str::from_utf8(key).map_err(|_| not_a_record())?;
                Record::Entry(key.to_owned(), value.into())
            }
        };
        self.read += HEAD + keys + values;
        Ok(Some(record))
    }
}

fn number(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

fn not_a_record() -> StorageError {
    StorageError::IoError("the host sent a snapshot in another format".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads records from chunks of this size.
    fn read(bytes: &[u8], size: usize) -> Vec<Record> {
        let mut records = Records::default();
        let mut found = Vec::new();
        for chunk in bytes.chunks(size) {
            records.add(chunk);
            while let Some(record) = records.next().unwrap() {
                found.push(record);
            }
        }
        found
    }

    #[test]
    fn records_are_read_from_chunks_of_any_size() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let refusal = Refusal::from(StorageError::ReadOnly);
        let bytes = runtime.block_on(async {
            let (mut sender, mut stream) = stream();
            sender.record(b"a/b/c/key", b"value").unwrap();
            sender.record("a/b/c/\u{e9}".as_bytes(), b"").unwrap();
            sender.end_records(Err(refusal.clone())).unwrap();
            drop(sender);
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.0.recv().await {
                bytes.extend_from_slice(&chunk);
            }
            bytes
        });
        let expected = [
            Record::Entry("a/b/c/key".to_owned(), "value".into()),
            Record::Entry("a/b/c/\u{e9}".to_owned(), "".into()),
            Record::Failed(Box::new(refusal)),
        ];
        for size in [1, 2, 7, 8, 9, 1_000] {
            assert_eq!(read(&bytes, size), expected, "{size}");
        }
        assert_eq!(read(&[0; HEAD], 3), [Record::End]);
        // An incomplete record is not read.
        assert_eq!(read(&bytes[..30], 30).len(), 1);
    }
}
