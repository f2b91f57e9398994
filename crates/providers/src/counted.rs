//! What drivers count, for the metrics of the server.

/// What happened on a session or on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// A lost session opened again, or an attempt to open it failed.
    Reconnect(Reconnect),
    /// The linking of a phone ended.
    Pairing(PairingEnd),
    /// The network was to be asked for the account behind a number.
    LookUp(LookUpEnd),
}

/// How an attempt to open a lost session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    Ok,
    Failed,
}

/// How the linking of a phone ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingEnd {
    Linked,
    /// Nobody scanned or typed the code in time.
    Expired,
    /// The network refused, or did not answer.
    Failed,
}

/// How a look-up of a number ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookUpEnd {
    Found,
    /// The number has no account.
    NotFound,
    /// The own limit of look-ups refused it: the network was not asked.
    Limited,
    Failed,
}

/// Counts what happened. It never waits.
pub type Count = fn(Counted);

impl Reconnect {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Ok, Self::Failed];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

impl PairingEnd {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Linked, Self::Expired, Self::Failed];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

impl LookUpEnd {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Found, Self::NotFound, Self::Limited, Self::Failed];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Limited => "limited",
            Self::Failed => "failed",
        }
    }
}
