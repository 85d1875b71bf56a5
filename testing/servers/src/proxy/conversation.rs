//! What a client and a server say to each other, as far as it delimits round trips.

use super::{postgres, redis};

/// What a chunk of bytes was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// A round trip began.
    RoundTrip,
    /// The connection is a request to cancel a statement of another one.
    CancelRequest,
}

/// Follows a connection, whose first byte shows its protocol.
#[derive(Debug, Default)]
pub(super) enum Conversation {
    /// The client has sent nothing.
    #[default]
    New,
    Postgres(postgres::Conversation),
    Redis(redis::Conversation),
}

impl Conversation {
    /// Whether the client waits for an answer.
    pub(super) fn is_waiting(&self) -> bool {
        match self {
            Self::New => false,
            Self::Postgres(conversation) => conversation.is_waiting(),
            Self::Redis(conversation) => conversation.is_waiting(),
        }
    }

    /// Follows bytes of the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) -> Seen {
        if let Self::New = self {
            *self = match bytes.first() {
                Some(&redis::FIRST) => Self::Redis(redis::Conversation::default()),
                _ => Self::Postgres(postgres::Conversation::default()),
            };
        }
        match self {
            Self::New => Seen::Nothing,
            Self::Postgres(conversation) => conversation.sent(bytes),
            Self::Redis(conversation) => conversation.sent(bytes),
        }
    }

    /// Follows bytes of the server.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        match self {
            Self::New => {}
            Self::Postgres(conversation) => conversation.answered(bytes),
            Self::Redis(conversation) => conversation.answered(bytes),
        }
    }
}
