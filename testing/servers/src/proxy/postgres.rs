//! The messages of the PostgreSQL protocol, as far as they delimit round trips.

use super::conversation::Seen;

/// Splits a stream into messages without keeping it, and returns their types.
#[derive(Debug, Default)]
struct Messages {
    /// The begun header of a message: its type, and the length that counts itself.
    header: Vec<u8>,
    /// The bytes of the message that have not arrived.
    missing: usize,
}

impl Messages {
    /// Calls `found` with the type of each message that ends in `bytes`.
    fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(u8)) {
        loop {
            let skipped = self.missing.min(bytes.len());
            self.missing -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.missing > 0 {
                return;
            }
            if let [kind, _, _, _, _] = self.header.as_slice() {
                found(*kind);
                self.header.clear();
            }
            while self.header.len() < 5 {
                let Some((first, rest)) = bytes.split_first() else { return };
                self.header.push(*first);
                bytes = rest;
            }
            let length = self.header.get(1..).and_then(|bytes| bytes.try_into().ok());
            let length = u32::from_be_bytes(length.unwrap_or_default());
            self.missing = usize::try_from(length).unwrap_or(usize::MAX).saturating_sub(4);
        }
    }
}

/// The longest first message that the server accepts.
const MAX_FIRST: u32 = 10_000;

/// A first message without a type: its length, and what it asks for.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// How far a connection is.
#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The client has sent a part of its first message.
    #[default]
    First,
    /// The client asked for encryption, and the server answers with one byte.
    Asked,
    /// The client is known to the server when this phase ends, with `ReadyForQuery`.
    LogIn,
    Open,
    /// The bytes are encrypted, of another protocol, or a cancel request without an answer.
    Opaque,
}

/// Follows a connection.
///
/// A round trip begins with a message of the client and ends when the server has answered
/// everything with `ReadyForQuery`. The log-in is none.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    phase: Phase,
    first: Vec<u8>,
    client: Messages,
    server: Messages,
    /// Requests that the server answers with `ReadyForQuery` and has not answered.
    unanswered: u64,
    waiting: bool,
}

impl Conversation {
    /// Whether the client waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Follows bytes of the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) -> Seen {
        match self.phase {
            Phase::First => {
                self.first.extend_from_slice(bytes);
                self.classify_first()
            }
            Phase::Open => {
                let (unanswered, mut asks) = (&mut self.unanswered, false);
                self.client.read(bytes, |kind| {
                    // Sync, Query and FunctionCall.
                    *unanswered += u64::from(b"SQF".contains(&kind));
                    // Terminate has no answer.
                    asks |= kind != b'X';
                });
                let begins = asks && !std::mem::replace(&mut self.waiting, true);
                if begins { Seen::RoundTrip } else { Seen::Nothing }
            }
            Phase::Asked | Phase::LogIn | Phase::Opaque => Seen::Nothing,
        }
    }

    fn classify_first(&mut self) -> Seen {
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(self.first.get(at..at + 4)?.try_into().ok()?))
        };
        let (Some(length), Some(kind)) = (number(0), number(4)) else { return Seen::Nothing };
        if length > MAX_FIRST {
            // Another protocol.
            self.phase = Phase::Opaque;
            return Seen::Nothing;
        }
        if u32::try_from(self.first.len()).is_ok_and(|received| received < length) {
            return Seen::Nothing;
        }
        self.first.clear();
        self.phase = match kind {
            TLS | GSS => Phase::Asked,
            CANCEL => Phase::Opaque,
            _ => Phase::LogIn,
        };
        if kind == CANCEL { Seen::CancelRequest } else { Seen::Nothing }
    }

    /// Follows bytes of the server.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        match self.phase {
            // `N` refuses, and the client asks for something else or goes on in plain.
            Phase::Asked => {
                self.phase = if bytes.first() == Some(&b'N') { Phase::First } else { Phase::Opaque }
            }
            Phase::LogIn | Phase::Open => {
                let mut ready = 0;
                self.server.read(bytes, |kind| ready += u64::from(kind == b'Z'));
                if ready > 0 {
                    self.unanswered = self.unanswered.saturating_sub(ready);
                    self.waiting = self.unanswered > 0;
                    self.phase = Phase::Open;
                }
            }
            Phase::First | Phase::Opaque => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    fn first(kind: u32) -> Vec<u8> {
        [8_u32.to_be_bytes(), kind.to_be_bytes()].concat()
    }

    fn open() -> Conversation {
        let mut conversation = Conversation::default();
        assert_eq!(conversation.sent(&first(TLS)), Seen::Nothing);
        conversation.answered(b"N");
        assert_eq!(conversation.sent(&first(196_608)), Seen::Nothing);
        conversation.answered(&message(b'R', &[0; 20]));
        assert_eq!(conversation.sent(&message(b'p', b"password")), Seen::Nothing);
        conversation.answered(&[message(b'R', &[0; 4]), message(b'Z', b"I")].concat());
        conversation
    }

    #[test]
    fn requests_are_counted_however_the_bytes_are_split() {
        let request = [message(b'B', &[7; 300]), message(b'E', b""), message(b'S', b"")].concat();
        let reply = [message(b'2', b""), message(b'D', &[b'Z'; 900]), message(b'Z', b"I")].concat();
        for size in [1, 3, 5, 64, 2000] {
            let mut conversation = open();
            let mut trips = 0;
            for _ in 0..3 {
                for chunk in request.chunks(size) {
                    trips += u64::from(conversation.sent(chunk) == Seen::RoundTrip);
                }
                reply.chunks(size).for_each(|chunk| conversation.answered(chunk));
            }
            assert_eq!(trips, 3, "chunks of {size}");
        }
    }

    #[test]
    fn requests_sent_together_are_one_round_trip() {
        let mut conversation = open();
        let sync = message(b'S', b"");
        assert_eq!(conversation.sent(&[sync.clone(), sync.clone()].concat()), Seen::RoundTrip);
        conversation.answered(&message(b'Z', b"I"));
        assert_eq!(conversation.sent(&sync), Seen::Nothing, "one is not answered yet");
        conversation.answered(&[message(b'Z', b"I"), message(b'Z', b"I")].concat());
        assert_eq!(conversation.sent(&sync), Seen::RoundTrip);
    }

    #[test]
    fn cancel_requests_and_encrypted_bytes_are_not_requests() {
        let mut conversation = Conversation::default();
        assert_eq!(conversation.sent(&first(CANCEL)), Seen::CancelRequest);
        assert_eq!(open().sent(&message(b'X', b"")), Seen::Nothing, "a client that leaves");
        let mut conversation = Conversation::default();
        conversation.sent(&first(TLS));
        conversation.answered(b"S");
        assert_eq!(conversation.sent(&message(b'Q', b"select 1")), Seen::Nothing);
    }
}
