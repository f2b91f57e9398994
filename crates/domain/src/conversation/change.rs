//! The changes of a conversation by callers, as pure rules. The store applies the result to the row that it has locked.

use super::{Assignee, Conversation, Status};

/// A change that a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Assign {
        attendant: String,
        name: Option<String>,
        /// The attendant whom the conversation must have before the change; `Some(None)`: no attendant.
        expected: Option<Option<String>>,
    },
    Unassign,
    /// At least one of the two is given.
    Transfer {
        attendant: Option<String>,
        /// `Some(None)`: no department. `None`: the department stays.
        department: Option<Option<String>>,
        /// A note for the next attendant.
        note: Option<String>,
    },
    Close {
        reason: Option<String>,
    },
    Reopen,
}

/// What the columns are after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub status: Status,
    pub assigned_to: Option<Assignee>,
    pub department: Option<String>,
    /// Of the last transfer.
    pub note: Option<String>,
    /// Why it was closed.
    pub reason: Option<String>,
}

/// Why a change is not possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// 409 `CONVERSATION_CLOSED`.
    Closed,
    /// 409 `CONVERSATION_CHANGED`.
    Changed,
}

/// The answer to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The conversation after it. A repeated identical change is done too, and records no event.
    Done(Box<Conversation>),
    NotFound,
    Refused(Refused),
}

/// Why a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    Api,
    /// The conversation was idle for long.
    Idle,
    /// Its contact was merged into another contact, whose conversation stays active.
    Merge,
    /// Its channel was deleted.
    Channel,
}

impl ClosedBy {
    pub const ALL: [Self; 4] = [Self::Api, Self::Idle, Self::Merge, Self::Channel];

    /// The name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Idle => "IDLE",
            Self::Merge => "MERGE",
            Self::Channel => "CHANNEL",
        }
    }
}

impl Change {
    /// The columns after this change; `None` if nothing changes. `name_of` returns the name that was last given for an
    /// attendant. `other_is_active` says whether a newer conversation of the same chat is active.
    pub fn on(
        &self,
        conversation: &Conversation,
        name_of: impl Fn(&str) -> Option<String>,
        other_is_active: bool,
    ) -> Result<Option<Transition>, Refused> {
        let before = Transition::of(conversation);
        let closed = before.status == Status::Closed;
        let assignee = |id: &str, name: &Option<String>| Assignee {
            id: id.to_owned(),
            name: name.clone().or_else(|| name_of(id)).unwrap_or_else(|| id.to_owned()),
        };
        let after = match self {
            Self::Assign { .. } | Self::Unassign | Self::Transfer { .. } if closed => return Err(Refused::Closed),
            Self::Assign { attendant, name, expected } => {
                let current = conversation.assigned_to.as_ref().map(|assignee| &assignee.id);
                if expected.as_ref().is_some_and(|expected| expected.as_ref() != current) {
                    return Err(Refused::Changed);
                }
                Transition { status: Status::Open, assigned_to: Some(assignee(attendant, name)), ..before.clone() }
            }
            Self::Unassign => Transition { status: Status::Pending, assigned_to: None, ..before.clone() },
            Self::Transfer { attendant, department, note } => Transition {
                status: if attendant.is_some() { Status::Open } else { Status::Pending },
                assigned_to: attendant.as_deref().map(|id| assignee(id, &None)),
                department: department.clone().unwrap_or_else(|| before.department.clone()),
                note: note.clone().or_else(|| before.note.clone()),
                reason: None,
            },
            Self::Close { .. } if closed => before.clone(),
            Self::Close { reason } => Transition { status: Status::Closed, reason: reason.clone(), ..before.clone() },
            Self::Reopen if !closed => before.clone(),
            Self::Reopen if other_is_active => return Err(Refused::Changed),
            Self::Reopen => Transition { status: Status::Open, ..before.clone() },
        };
        Ok((after != before).then_some(after))
    }
}

impl Transition {
    fn of(conversation: &Conversation) -> Self {
        Self {
            status: conversation.status,
            assigned_to: conversation.assigned_to.clone(),
            department: conversation.department.clone(),
            note: conversation.note.clone(),
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_key::Environment;
    use crate::event::ChatKind;
    use crate::ids::{ConversationId, InstitutionId};

    fn conversation(status: Status, attendant: Option<&str>) -> Conversation {
        Conversation {
            id: ConversationId::new(1, [1; 10]),
            owner: (InstitutionId::new(1, [0; 10]), Environment::Live),
            channel: 1,
            channel_id: "vendas".to_owned(),
            chat: ChatKind::Direct,
            address: "5511988887777".to_owned(),
            chat_name: None,
            contact: None,
            assigned_to: attendant.map(|id| Assignee { id: id.to_owned(), name: "Bia".to_owned() }),
            department: None,
            note: None,
            status,
            last: None,
            unread: 0,
            windowed: false,
            person_wrote_at: None,
            created_at: 1,
            updated_at: 1,
            closed_at: None,
            close_reason: None,
            active_at: 1,
        }
    }

    fn on(change: &Change, conversation: &Conversation) -> Result<Option<Transition>, Refused> {
        change.on(conversation, |id| (id == "bia").then(|| "Bia".to_owned()), false)
    }

    fn assign(attendant: &str) -> Change {
        Change::Assign { attendant: attendant.to_owned(), name: None, expected: None }
    }

    /// The same, if the conversation has this attendant before the change.
    fn replace(attendant: &str, expected: Option<&str>) -> Change {
        let expected = Some(expected.map(str::to_owned));
        Change::Assign { attendant: attendant.to_owned(), name: None, expected }
    }

    #[test]
    fn an_assignment_opens_and_repeats_without_effect() {
        let pending = conversation(Status::Pending, None);
        let after = on(&assign("bia"), &pending).expect("allowed").expect("a change");
        assert_eq!((after.status, after.assigned_to.expect("someone").name), (Status::Open, "Bia".to_owned()));
        assert_eq!(on(&assign("bia"), &conversation(Status::Open, Some("bia"))), Ok(None));
        let unnamed = on(&assign("leo"), &pending).expect("allowed").expect("a change");
        assert_eq!(unnamed.assigned_to.expect("someone").name, "leo", "else the id");
    }

    #[test]
    fn only_the_expected_attendant_is_replaced() {
        let taken = conversation(Status::Open, Some("bia"));
        assert_eq!(on(&replace("leo", None), &taken), Err(Refused::Changed));
        assert_eq!(on(&replace("leo", Some("ana")), &taken), Err(Refused::Changed));
        assert!(on(&replace("leo", Some("bia")), &taken).expect("allowed").is_some());
        assert!(on(&replace("leo", None), &conversation(Status::Pending, None)).expect("allowed").is_some());
    }

    #[test]
    fn a_transfer_without_an_attendant_waits() {
        let department = Some("suporte".to_owned());
        let change = Change::Transfer { attendant: None, department: Some(department.clone()), note: None };
        let after = on(&change, &conversation(Status::Open, Some("bia"))).expect("allowed").expect("a change");
        assert_eq!(
            after,
            Transition { status: Status::Pending, assigned_to: None, department, note: None, reason: None }
        );
        let unassigned = on(&Change::Unassign, &conversation(Status::Open, Some("bia"))).expect("allowed");
        assert_eq!(unassigned.map(|after| (after.status, after.assigned_to)), Some((Status::Pending, None)));
    }

    #[test]
    fn a_transfer_can_remove_the_department() {
        let of = Conversation { department: Some("suporte".to_owned()), ..conversation(Status::Open, Some("bia")) };
        let to = |attendant: Option<&str>, department| {
            let change = Change::Transfer { attendant: attendant.map(str::to_owned), department, note: None };
            on(&change, &of).expect("allowed").map(|after| (after.status, after.department))
        };
        assert_eq!(to(Some("bia"), Some(None)), Some((Status::Open, None)));
        assert_eq!(to(None, Some(None)), Some((Status::Pending, None)));
        assert_eq!(to(Some("leo"), None), Some((Status::Open, Some("suporte".to_owned()))), "it stays");
    }

    #[test]
    fn a_closed_conversation_only_reopens() {
        let closed = conversation(Status::Closed, Some("bia"));
        let transfer = Change::Transfer { attendant: Some("leo".to_owned()), department: None, note: None };
        for change in [assign("leo"), Change::Unassign, transfer] {
            assert_eq!(on(&change, &closed), Err(Refused::Closed), "{change:?}");
        }
        let close = Change::Close { reason: None };
        assert_eq!(on(&close, &closed), Ok(None));
        assert_eq!(on(&Change::Reopen, &conversation(Status::Open, None)), Ok(None));
        let reopened = on(&Change::Reopen, &closed).expect("allowed").expect("a change");
        assert_eq!(reopened.status, Status::Open);
        assert_eq!(Change::Reopen.on(&closed, |_| None, true), Err(Refused::Changed), "a newer one goes on");
        let open = on(&close, &conversation(Status::Pending, None)).expect("allowed").expect("a change");
        assert_eq!(open.status, Status::Closed);
    }
}
