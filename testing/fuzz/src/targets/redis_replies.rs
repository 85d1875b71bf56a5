//! What a Redis server, a node of a cluster or a sentinel sends. It may be anything: another
//! program may have the port, and a proxy may change replies.

use std::io::{self, Read};

use storage_backends::internals::redis::{Replies, bulk_string, stored};
use storage_core::StorageError;

const PREFIX: &str = "apps";
const COMPONENT: &str = "app/notes/home/";
const KEY: &str = "app/notes/home/1";
const SHARDS: usize = 256;

/// Whose commits are made in one run of their script.
const CALLERS: usize = 3;

/// Input: how much arrives at once, and the replies.
pub(crate) fn run(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    let replies = Replies::parse(bytes, PREFIX);
    let pieces = Pieces { rest: bytes, size: usize::from(*size) + 1 };
    let in_pieces = Replies::parse(pieces, PREFIX);
    // The parser may skip bytes in an array that are no reply if they arrive alone.
    assert!(in_pieces.start_with(&replies), "pieces are read as other replies");
    topology(&replies);
    contents(&replies);
    for change in replies.notices() {
        let keys = change.keys.iter().flatten();
        assert!(!change.is_own && keys.clone().all(|key| key.starts_with(&change.prefix)));
    }
    assert!(replies.answered(CALLERS).all(|answered| answered == CALLERS));
    replies.read_as_others();
    value(bytes);
}

fn topology(replies: &Replies) {
    for view in replies.clusters() {
        let Ok(view) = view.map_err(says_what_failed) else { continue };
        assert_eq!(view.owners.len(), SHARDS);
        assert!(view.owners.iter().flatten().all(|owner| view.nodes.contains(owner)));
    }
    for primary in replies.primaries() {
        let _ = primary.map_err(says_what_failed);
    }
    for (error, redirection) in replies.errors() {
        says_what_failed(error);
        assert!(redirection.is_none_or(|to| !to.host.is_empty()));
    }
}

fn contents(replies: &Replies) {
    for keys in replies.listings(COMPONENT) {
        let Ok(keys) = keys.map_err(says_what_failed) else { continue };
        assert!(keys.iter().all(|key| key.starts_with(COMPONENT)));
    }
    for found in replies.values(KEY) {
        let _ = found.map_err(says_what_failed);
    }
}

/// The bytes as the stored value of a key, whose checksum an attacker can compute.
fn value(bytes: &[u8]) {
    let Some((revision, record)) = bytes.split_at_checked(8) else { return };
    let sealed = storage_backends::internals::sealed_with_key(KEY.as_bytes(), record);
    let sealed = [revision, &sealed].concat();
    let replies = Replies::parse(&*bulk_string(&sealed), PREFIX);
    let found: Vec<_> = replies.values(KEY).collect();
    let [found] = &*found else { panic!("{} replies", found.len()) };
    match found {
        Ok(found) => {
            let again = bulk_string(&stored(KEY, found.as_ref().unwrap()));
            let again = Replies::parse(&*again, PREFIX).values(KEY).next().unwrap();
            assert_eq!(again.as_ref(), Ok(found));
        }
        Err(error) => assert!(matches!(error, StorageError::Corrupt { .. }), "{error}"),
    }
}

fn says_what_failed(error: StorageError) {
    assert!(!error.to_string().is_empty());
}

/// A connection that delivers at most this many bytes at once.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.size.min(buffer.len());
        self.rest.by_ref().take(len as u64).read(buffer)
    }
}
