//! Changes: telling the watcher, and their text in notices.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use storage_core::{Change, Commit, Revision, Watcher, split_full_key};

use crate::identity;

/// The longest notice that PostgreSQL accepts, in bytes. Redis accepts more.
const MAX_NOTICE_BYTES: usize = 7999;

/// The longest two revisions and the line break between them.
const MAX_REVISIONS_BYTES: usize = 2 * 20 + 1;

/// The version of the text of notices. Others are ignored.
const VERSION: &str = "1";

/// Stands for the keys of a change that has too many.
const ANY_KEY: &str = "*";
const THESE_KEYS: &str = "=";

/// Who is told of changes, and as whom this host reports its own.
pub(crate) struct Changes {
    watcher: RwLock<Option<Arc<dyn Watcher>>>,
    /// Chosen at random when the store is opened.
    writer: String,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { watcher: RwLock::default(), writer: identity::new_store_id() }
    }

    pub(crate) fn watch(&self, watcher: Arc<dyn Watcher>) {
        *self.watcher.write().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }

    pub(crate) fn report(&self, change: &Change) {
        // A panic of a watcher does not happen while the lock is held.
        let watcher = self.watcher.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(watcher) = watcher {
            watcher.changed(change);
        }
    }

    /// The changes that a commit of this host made, one for each component. `components` are
    /// those that it changed, with the revisions that they had before.
    pub(crate) fn of<'c>(
        commit: &'c Commit,
        components: &'c [(String, Option<Revision>)],
        revision: Revision,
    ) -> impl Iterator<Item = Change> + 'c {
        let writes = commit.effective_writes();
        components.iter().map(move |(prefix, previous)| Change {
            prefix: prefix.clone(),
            previous: *previous,
            revision,
            keys: Some(
                writes
                    .iter()
                    .filter(|write| split_full_key(&write.key).0 == prefix)
                    .map(|write| write.key.clone())
                    .collect(),
            ),
            is_own: true,
        })
    }

    /// The text of a notice: version, writer, previous revision, revision, whether keys follow,
    /// component prefix, and the user keys, each in a line. Keys have no control characters.
    #[cfg(any(feature = "postgres", test))]
    pub(crate) fn encode(&self, change: &Change) -> String {
        let (start, end) =
            (self.notice_start(), self.notice_end(&change.prefix, change.keys.as_deref()));
        let previous = change.previous.map_or(String::new(), |revision| revision.to_string());
        format!("{start}{previous}\n{}{end}", change.revision)
    }

    /// What is before the previous revision in the text of a notice, for a server that adds it,
    /// a line break, the revision and the [end](Self::notice_end).
    pub(crate) fn notice_start(&self) -> String {
        format!("{VERSION}\n{}\n", self.writer)
    }

    /// What is after the revision in the text of a notice. `keys` are full keys.
    pub(crate) fn notice_end<K: AsRef<str>>(&self, prefix: &str, keys: Option<&[K]>) -> String {
        let any_key = || format!("\n{ANY_KEY}\n{prefix}");
        let Some(keys) = keys else { return any_key() };
        let before = self.notice_start().len() + MAX_REVISIONS_BYTES;
        let mut end = format!("\n{THESE_KEYS}\n{prefix}");
        for key in keys {
            let (_, user_key) = split_full_key(key.as_ref());
            if before + end.len() + 1 + user_key.len() > MAX_NOTICE_BYTES {
                return any_key();
            }
            end.push('\n');
            end.push_str(user_key);
        }
        end
    }

    /// Reads the text of a notice; `None` if it is not one, or of this host.
    pub(crate) fn decode(&self, text: &str) -> Option<Change> {
        let mut lines = text.split('\n');
        if lines.next()? != VERSION || lines.next()? == self.writer {
            return None;
        }
        let previous = match lines.next()? {
            "" => None,
            number => Some(Revision::new(number.parse().ok()?)),
        };
        let revision = Revision::new(lines.next()?.parse().ok()?);
        let has_keys = lines.next()? == THESE_KEYS;
        let prefix = lines.next()?.to_owned();
        let keys = has_keys.then(|| lines.map(|user_key| [&prefix, user_key].concat()).collect());
        Some(Change { prefix, previous, revision, keys, is_own: false })
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("writer", &self.writer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(keys: Option<Vec<String>>) -> Change {
        Change {
            prefix: "app/notes/home/".into(),
            previous: Some(Revision::new(7)),
            revision: Revision::new(8),
            keys,
            is_own: false,
        }
    }

    #[test]
    fn notices_decode_to_what_was_encoded() {
        let (ours, theirs) = (Changes::new(), Changes::new());
        let keys = Some(vec!["app/notes/home/a/b".to_owned(), "app/notes/home/".to_owned()]);
        for change in [
            change(keys),
            change(Some(Vec::new())),
            change(None),
            Change { previous: None, ..change(None) },
            Change { prefix: String::new(), keys: Some(vec!["a".into()]), ..change(None) },
        ] {
            let text = theirs.encode(&change);
            assert_eq!(ours.decode(&text), Some(change));
            assert_eq!(theirs.decode(&text), None);
        }
    }

    #[test]
    fn a_notice_with_too_many_keys_names_none() {
        let (ours, theirs) = (Changes::new(), Changes::new());
        let many = (0..10_000).map(|n| format!("app/notes/home/{n}")).collect();
        let text = theirs.encode(&change(Some(many)));
        assert!(text.len() <= MAX_NOTICE_BYTES);
        assert_eq!(ours.decode(&text), Some(change(None)));
    }

    #[test]
    fn other_texts_are_ignored() {
        let changes = Changes::new();
        for text in ["", "1", "2\na\n\n1\n=\n", "1\na\nx\n1\n=\n", "1\na\n\n\n=\n", "\n\n\n\n\n\n"]
        {
            assert_eq!(changes.decode(text), None, "{text:?}");
        }
    }
}
