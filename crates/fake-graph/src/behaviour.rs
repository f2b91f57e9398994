//! The network's behaviour for one send, which a test sets in one expression.

use std::time::Duration;

use crate::GraphError;

/// The behaviour for one send.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub(crate) accepts: bool,
    /// `None`: Graph's answer for an accepted message.
    pub(crate) answer: Option<Answer>,
    pub(crate) after: Duration,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) callbacks_first: bool,
}

impl Behaviour {
    /// Accepts the message and answers with its ids. `sent`, `delivered` and `read` follow, one callback each.
    pub fn accept() -> Self {
        Self {
            accepts: true,
            answer: None,
            after: Duration::ZERO,
            callbacks: [Status::Sent, Status::Delivered, Status::Read].map(Callback::from).to_vec(),
            callbacks_first: false,
        }
    }

    /// Refuses the message with this answer.
    pub fn refuse(answer: impl Into<Answer>) -> Self {
        Self { accepts: false, callbacks: Vec::new(), ..Self::accept().answering(answer) }
    }

    /// Answers with this instead. An accepted message stays accepted, and its callbacks follow.
    #[must_use]
    pub fn answering(mut self, answer: impl Into<Answer>) -> Self {
        self.answer = Some(answer.into());
        self
    }

    /// Delays the answer. The message is accepted at once, even if the client has gone.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// These callbacks follow in this order, each when the previous one was acknowledged. `[]` for none. The first one
    /// starts when the answer was sent, or when the client has gone.
    #[must_use]
    pub fn calling_back<C: Into<Callback>>(mut self, callbacks: impl IntoIterator<Item = C>) -> Self {
        self.callbacks = callbacks.into_iter().map(Into::into).collect();
        self
    }

    /// Answers only when every callback was acknowledged, so that the receipts overtake the answer.
    #[must_use]
    pub fn callbacks_first(mut self) -> Self {
        self.callbacks_first = true;
        self
    }
}

/// An answer other than the ids of the message.
#[derive(Debug, Clone)]
pub enum Answer {
    /// An error of Graph, in Graph's envelope.
    Error(GraphError),
    /// No answer: the connection is closed; over HTTP/2 the stream is reset and the connection stays.
    Lost,
    /// No answer: the connection is reset, and every call on it is lost.
    Reset,
    /// An answer that is not Graph's, such as a proxy's.
    Foreign { status: u16, content_type: &'static str, body: String },
    /// A 200 with an endless body: 64 KiB of spaces, a pause, and so on.
    Endless { pause: Duration },
}

impl From<GraphError> for Answer {
    fn from(error: GraphError) -> Self {
        Self::Error(error)
    }
}

/// A callback: a body that is posted repeatedly until it is answered with 200.
#[derive(Debug, Clone)]
pub struct Callback {
    pub(crate) statuses: Vec<Status>,
    pub(crate) after: Duration,
    pub(crate) times: u32,
    pub(crate) signed: Signed,
    pub(crate) opaque_id: bool,
}

impl Callback {
    /// One callback with several statuses.
    pub fn of(statuses: impl IntoIterator<Item = Status>) -> Self {
        let statuses = statuses.into_iter().collect();
        Self { statuses, after: Duration::ZERO, times: 1, signed: Signed::Rightly, opaque_id: true }
    }

    /// This long after the previous one was acknowledged.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Posts the same bytes this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// A callback with a wrong signature is posted until it is answered with any status, and is not repeated then.
    #[must_use]
    pub fn signed(mut self, signed: Signed) -> Self {
        self.signed = signed;
        self
    }

    /// Without `biz_opaque_callback_data`.
    #[must_use]
    pub fn without_opaque_id(mut self) -> Self {
        self.opaque_id = false;
        self
    }
}

impl From<Status> for Callback {
    fn from(status: Status) -> Self {
        Self::of([status])
    }
}

/// A status of a message.
#[derive(Debug, Clone)]
pub enum Status {
    Sent,
    Delivered,
    Read,
    /// With its `errors`.
    Failed(Vec<GraphError>),
}

/// The signature of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// With the app secret of its number; without a secret there is no signature.
    Rightly,
    /// With another secret.
    Wrongly,
    /// No signature.
    Not,
}
