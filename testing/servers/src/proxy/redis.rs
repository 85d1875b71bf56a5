//! The values of the Redis protocol, as far as they delimit round trips.

use super::conversation::Seen;

/// The first byte of a client: its commands are lists.
pub(super) const FIRST: u8 = b'*';

/// How much of a line is kept, which is enough for every length.
const MAX_LINE: usize = 32;

/// How much of the name of a command is kept.
const MAX_NAME: usize = 16;

/// Splits a stream into values without keeping them.
#[derive(Debug, Default)]
struct Values {
    /// The begun line.
    line: Vec<u8>,
    /// The bytes of a text that have not arrived, with the end of its line.
    text: usize,
    /// The values that have not arrived, of the begun value and its lists.
    missing: u64,
    /// The begin of the first text of the value: the name of a command.
    name: Vec<u8>,
    named: bool,
    /// Whether the value is a message that no command asked for.
    is_push: bool,
}

impl Values {
    /// Whether a part of a value has arrived.
    fn is_begun(&self) -> bool {
        self.missing > 0 || !self.line.is_empty()
    }

    /// Calls `found` for each value that ends in `bytes`, with the name of its command in
    /// capitals and whether no command asked for it.
    fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(&[u8], bool)) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.text > 0 {
                let (part, rest) = bytes.split_at(self.text.min(bytes.len()));
                self.text -= part.len();
                bytes = rest;
                if !self.named {
                    let left = MAX_NAME.saturating_sub(self.name.len());
                    self.name.extend(part.iter().take(left).map(u8::to_ascii_uppercase));
                }
                if self.text == 0 {
                    self.named = true;
                    self.end_one(&mut found);
                }
                continue;
            }
            bytes = rest;
            if *first != b'\n' {
                if self.line.len() < MAX_LINE {
                    self.line.push(*first);
                }
                continue;
            }
            self.end_line(&mut found);
        }
    }

    fn end_line(&mut self, found: &mut impl FnMut(&[u8], bool)) {
        let line = std::mem::take(&mut self.line);
        let (kind, number) = line.trim_ascii_end().split_first().unwrap_or((&0, &[]));
        // -1 is a value that is missing.
        let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<u64>().ok());
        if self.missing == 0 {
            self.missing = 1;
            self.is_push = *kind == b'>';
            self.name.clear();
            self.named = false;
        }
        match (kind, number) {
            (b'$' | b'=' | b'!', Some(length)) => {
                self.text = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(2);
                return;
            }
            (b'*' | b'~' | b'>', Some(count)) => self.missing += count,
            (b'%', Some(count)) => self.missing += 2 * count,
            // Attributes of the value that follows.
            (b'|', Some(count)) => self.missing += 2 * count + 1,
            _ => {}
        }
        self.end_one(found);
    }

    fn end_one(&mut self, found: &mut impl FnMut(&[u8], bool)) {
        self.missing = self.missing.saturating_sub(1);
        if self.missing == 0 {
            let end = self.name.iter().position(|byte| *byte == b'\r');
            found(
                self.name.get(..end.unwrap_or(self.name.len())).unwrap_or_default(),
                self.is_push,
            );
        }
    }
}

/// Follows a connection.
///
/// A round trip begins with a command and ends when the server has answered all commands.
/// Nothing is counted once the connection has subscribed.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    client: Values,
    server: Values,
    /// Commands that the server has not answered.
    unanswered: u64,
    waiting: bool,
    is_subscribed: bool,
}

impl Conversation {
    /// Whether the client waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Follows bytes of the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) -> Seen {
        if self.is_subscribed {
            return Seen::Nothing;
        }
        let (unanswered, is_subscribed) = (&mut self.unanswered, &mut self.is_subscribed);
        self.client.read(bytes, |name, _| {
            *unanswered += 1;
            *is_subscribed |= name.ends_with(b"SUBSCRIBE");
        });
        let begins = !std::mem::replace(&mut self.waiting, true);
        if begins { Seen::RoundTrip } else { Seen::Nothing }
    }

    /// Follows bytes of the server.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        let unanswered = &mut self.unanswered;
        self.server.read(bytes, |_, is_push| {
            *unanswered = unanswered.saturating_sub(u64::from(!is_push));
        });
        // The end of a command may not have arrived yet.
        self.waiting = self.unanswered > 0 || self.client.is_begun();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"*2\r\n$3\r\nget\r\n$5\r\na\r\nbc\r\n";
    const WAIT: &[u8] = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n";

    /// How many round trips a client with these commands begins, if all bytes come in chunks.
    fn round_trips(commands: &[u8], replies: &[u8], size: usize) -> u64 {
        let mut conversation = Conversation::default();
        let mut trips = 0;
        for _ in 0..3 {
            for chunk in commands.chunks(size) {
                trips += u64::from(conversation.sent(chunk) == Seen::RoundTrip);
                assert!(conversation.is_waiting());
            }
            for chunk in replies.chunks(size) {
                assert!(conversation.is_waiting());
                conversation.answered(chunk);
            }
            assert!(!conversation.is_waiting());
        }
        trips
    }

    #[test]
    fn round_trips_are_counted_however_the_bytes_are_split() {
        let replies: [&[u8]; 10] = [
            b"+OK\r\n",
            b"-ERR a text that is longer than what is kept of a line\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$0\r\n\r\n",
            b"$6\r\n:1\r\n*1\r\n",
            b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n$-1\r\n",
            b"%1\r\n+key\r\n*1\r\n_\r\n",
            b">2\r\n+invalidate\r\n*0\r\n|1\r\n+ttl\r\n:1\r\n=5\r\ntxt:a\r\n",
        ];
        for size in [1, 2, 3, 7, 1000] {
            for reply in replies {
                assert_eq!(round_trips(GET, reply, size), 3, "{}", reply.escape_ascii());
            }
            let both = [GET, WAIT].concat();
            assert_eq!(round_trips(&both, b"$1\r\na\r\n:1\r\n", size), 3, "sent together");
        }
    }

    #[test]
    fn a_round_trip_lasts_until_all_commands_are_answered() {
        let mut conversation = Conversation::default();
        assert_eq!(conversation.sent(&[GET, &WAIT[..9]].concat()), Seen::RoundTrip);
        conversation.answered(b"$-1\r\n");
        assert!(conversation.is_waiting(), "the second command is not complete");
        assert_eq!(conversation.sent(&WAIT[9..]), Seen::Nothing);
        conversation.answered(b":0\r\n");
        assert!(!conversation.is_waiting());
        assert_eq!(conversation.sent(WAIT), Seen::RoundTrip);
    }

    #[test]
    fn messages_of_a_subscription_are_not_round_trips() {
        let mut conversation = Conversation::default();
        let subscribe = b"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n$1\r\nb\r\n";
        assert_eq!(conversation.sent(subscribe), Seen::RoundTrip);
        conversation.answered(b"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n");
        conversation.answered(b"*3\r\n$10\r\nssubscribe\r\n$1\r\nb\r\n:2\r\n");
        conversation.answered(b"*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\nx\r\n");
        assert!(!conversation.is_waiting());
        assert_eq!(conversation.sent(b"*1\r\n$4\r\nPING\r\n"), Seen::Nothing);
    }
}
