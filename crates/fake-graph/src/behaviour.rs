//! What the network does with one send: set by a test, in one expression.

use std::time::Duration;

use crate::GraphError;

/// What happens to one send.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub(crate) accepts: bool,
    /// `None`: what Graph says of an accepted message.
    pub(crate) answer: Option<Answer>,
    pub(crate) after: Duration,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) callbacks_first: bool,
}

impl Behaviour {
    /// Takes the message and answers with its ids; `sent`, `delivered` and `read` follow, a callback each.
    pub fn accept() -> Self {
        Self {
            accepts: true,
            answer: None,
            after: Duration::ZERO,
            callbacks: [Status::Sent, Status::Delivered, Status::Read].map(Callback::from).to_vec(),
            callbacks_first: false,
        }
    }

    /// Does not take the message, and answers so.
    pub fn refuse(answer: impl Into<Answer>) -> Self {
        Self { accepts: false, callbacks: Vec::new(), ..Self::accept().answering(answer) }
    }

    /// Answers this instead. What was accepted stays accepted, and its callbacks follow.
    #[must_use]
    pub fn answering(mut self, answer: impl Into<Answer>) -> Self {
        self.answer = Some(answer.into());
        self
    }

    /// Answers so late. The message is accepted at once, also when nobody waits for the answer.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// These callbacks follow, one after the other in this order: each when the one before it was taken. None by `[]`.
    /// The first begins when the answer went out, or when nobody waits for it any more.
    #[must_use]
    pub fn calling_back<C: Into<Callback>>(mut self, callbacks: impl IntoIterator<Item = C>) -> Self {
        self.callbacks = callbacks.into_iter().map(Into::into).collect();
        self
    }

    /// Answers only when every callback was taken: the receipts overtake the answer.
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
    /// None: the connection is closed; over HTTP/2 the stream is reset and the connection stays.
    Lost,
    /// None: the connection is reset, and every call on it lost.
    Reset,
    /// One that is not Graph's, as of a proxy in between.
    Foreign { status: u16, content_type: &'static str, body: String },
    /// A 200 whose body has no end: 64 KiB of spaces, a pause, and so on.
    Endless { pause: Duration },
}

impl From<GraphError> for Answer {
    fn from(error: GraphError) -> Self {
        Self::Error(error)
    }
}

/// One callback: a body that is posted, and posted again until it is answered with 200.
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

    /// So long after the one before it was taken.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// The same bytes so many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// One that is not signed rightly is posted until it is answered, with whatever: it is not repeated then.
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

/// What the network says of a message.
#[derive(Debug, Clone)]
pub enum Status {
    Sent,
    Delivered,
    Read,
    /// With its `errors`.
    Failed(Vec<GraphError>),
}

/// How a callback is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// By the app secret of its number; not at all when that has none.
    Rightly,
    /// By another secret.
    Wrongly,
    /// Not at all.
    Not,
}
