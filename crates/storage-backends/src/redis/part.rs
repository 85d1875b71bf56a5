//! Parts of a run of a script: one run serves several callers whose requests are sent together.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::script::Script;

/// What a caller adds to a run.
pub(super) struct Part {
    pub(super) common: Arc<Common>,
    pub(super) keys: Vec<String>,
    pub(super) arguments: Vec<Vec<u8>>,
    /// Whether it comes after the parts that are not last.
    pub(super) is_last: bool,
}

/// What the parts of a run have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) script: &'static Script,
    pub(super) keys: Vec<String>,
    /// The script gets the number of parts after these.
    pub(super) arguments: Vec<Vec<u8>>,
}

impl Part {
    /// Whether both can be in one run.
    pub(super) fn joins(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.common, &other.common)
    }

    /// How many bytes its strings have.
    pub(super) fn len(&self) -> usize {
        let keys: usize = self.keys.iter().map(String::len).sum();
        keys + self.arguments.iter().map(Vec::len).sum::<usize>()
    }

    /// The command of a run of these parts, which must join.
    pub(super) fn command(parts: &[&Self]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        let Some(first) = parts.first() else { return command };
        let common = &first.common;
        let own: usize = parts.iter().map(|part| part.keys.len()).sum();
        command.arg(common.script.hash()).arg(common.keys.len() + own).arg(&common.keys);
        for part in parts {
            command.arg(&part.keys);
        }
        command.arg(&common.arguments).arg(parts.len());
        for part in parts {
            command.arg(&part.arguments);
        }
        command
    }

    /// The reply to each of the parts of a run. An error that ended the run is that of each.
    pub(super) fn replies(reply: Value, parts: usize) -> Vec<Value> {
        match reply {
            Value::Array(replies) if replies.len() == parts => replies,
            other => vec![other; parts],
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::Arg;

    use super::*;

    static SCRIPT: Script = Script::new("");

    fn part(common: &Arc<Common>, key: &str) -> Part {
        Part {
            common: Arc::clone(common),
            keys: vec![key.to_owned()],
            arguments: vec![b"1".to_vec(), b"2".to_vec()],
            is_last: false,
        }
    }

    #[test]
    fn a_run_has_what_is_common_once() {
        let (keys, arguments) = (vec!["store".to_owned()], vec![b"id".to_vec()]);
        let common = Arc::new(Common { script: &SCRIPT, keys, arguments });
        let (a, b) = (part(&common, "a"), part(&common, "b"));
        let command = Part::command(&[&a, &b]);
        let words: Vec<&[u8]> = command
            .args_iter()
            .map(|word| match word {
                Arg::Simple(word) => word,
                _ => panic!("not a string"),
            })
            .collect();
        let expected = ["EVALSHA", "", "3", "store", "a", "b", "id", "2", "1", "2", "1", "2"];
        assert_eq!(words, expected.map(str::as_bytes));
    }

    #[test]
    fn each_part_has_a_reply() {
        let reply = Value::Array(vec![Value::Int(1), Value::Int(2)]);
        assert_eq!(Part::replies(reply.clone(), 2), [Value::Int(1), Value::Int(2)]);
        assert_eq!(Part::replies(Value::Nil, 2), [Value::Nil, Value::Nil]);
        assert_eq!(Part::replies(reply.clone(), 1), [reply]);
    }
}
