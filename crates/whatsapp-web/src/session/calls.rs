//! Calls that people make to the account. Each is passed on once: when it ends, or when nothing more is heard of it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recado_domain::incoming::{Arrival, Call, Group, What, clean};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use whatsapp_rust::Client;
use whatsapp_rust::wacore::stanza::call::{
    REJECT_REASON_BUSY, TERMINATE_REASON_ACCEPTED_ELSEWHERE, TERMINATE_REASON_GROUP_CALL_ENDED,
    TERMINATE_REASON_REJECTED_ELSEWHERE, TERMINATE_REASON_TIMEOUT,
};
use whatsapp_rust::wacore::types::call::{CallAction, IncomingCall, MissedCall};
use whatsapp_rust::wacore_binary::{Jid, JidExt};

use super::receive::insist;
use super::{envelopes, translate};
use crate::incoming::{Delivered, Inbound, Inbox, network_id};

/// How long the end of a call is waited for.
const RINGS: Duration = Duration::from_mins(1);
/// The most calls of a session that ring, or wait for the store.
const CALLS: usize = 100;
/// The most characters of the id of a call.
const ID_LIMIT: usize = 128;

/// What the network says of a call.
#[derive(Debug, PartialEq)]
enum Said<'a> {
    /// It rings. The group has an empty address if the network does not name it.
    Rings { video: bool, group: Option<String>, number: Option<&'a Jid> },
    /// It is answered, or over. Whether it was missed; `None`: the network does not say.
    Ends(Option<bool>),
}

/// A call that rings.
type Ringing = oneshot::Sender<Option<bool>>;

/// The calls of a session.
pub struct Calls {
    inbox: Arc<dyn Inbox>,
    /// By their ids. What is sent is whether the call was missed.
    ringing: Arc<Mutex<HashMap<String, Ringing>>>,
    rights: Arc<Semaphore>,
    rings: Duration,
}

impl Calls {
    pub fn new(inbox: Arc<dyn Inbox>) -> Self {
        Self { inbox, ringing: Arc::default(), rights: Arc::new(Semaphore::new(CALLS)), rings: RINGS }
    }

    /// The network says something of a call.
    pub async fn heard(&self, client: &Client, call: &IncomingCall) {
        let Some(id) = clean(call.action.call_id(), ID_LIMIT) else { return };
        match read(&call.action) {
            Some(Said::Rings { video, group, number }) => {
                let is_group = call.from.is_group();
                let caller = if is_group { call.action.call_creator() } else { &call.from };
                let group = group.or_else(|| is_group.then(|| call.from.to_non_ad_string()));
                let about = Call { id, video: Some(video), missed: None };
                let at = call.timestamp.timestamp();
                if let Some(mut arrival) = arrival(client, &[Some(caller), number], at, about).await {
                    arrival.person.name.clone_from(&call.notify);
                    arrival.group = group.map(|address| Group { address, name: None });
                    self.ring(envelopes::own(client).phone, arrival);
                }
            }
            Some(Said::Ends(missed)) => self.end(&id, missed),
            None => {}
        }
    }

    /// A call rang while the session was not connected. The network may still say how it ended.
    pub async fn missed(&self, client: &Client, call: &MissedCall) {
        let Some(id) = clean(&call.call_id, ID_LIMIT) else { return };
        let about = Call { id, video: None, missed: Some(true) };
        if let Some(arrival) = arrival(client, &[Some(&call.from)], call.timestamp.timestamp(), about).await {
            self.ring(envelopes::own(client).phone, arrival);
        }
    }

    /// Passes a call on when it ends. What it says of being missed holds if nothing more is heard of it.
    fn ring(&self, number: Option<String>, mut arrival: Arrival) {
        let What::Called(mut call) = arrival.what.clone() else { return };
        let Ok(permit) = Arc::clone(&self.rights).try_acquire_owned() else {
            tracing::warn!("event of the network not stored: too many wait for the store");
            return;
        };
        let (end, ended) = oneshot::channel();
        match lock(&self.ringing).entry(call.id.clone()) {
            // The network repeats it.
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => {
                place.insert(end);
            }
        }
        let (inbox, ringing, rings) = (Arc::clone(&self.inbox), Arc::clone(&self.ringing), self.rings);
        tokio::spawn(async move {
            let _permit = permit;
            let heard = timeout(rings, ended).await;
            lock(&ringing).remove(&call.id);
            if let Ok(Ok(missed)) = heard {
                call.missed = missed;
            }
            arrival.what = What::Called(call);
            insist(&*inbox, Delivered { number, inbound: vec![Inbound::Arrival(Box::new(arrival))] }).await;
        });
    }

    fn end(&self, id: &str, missed: Option<bool>) {
        let ringing = lock(&self.ringing).remove(id);
        if let Some(ringing) = ringing {
            // Without a receiver it is just being passed on.
            let _ = ringing.send(missed);
        }
    }

    /// Nothing more will be heard of the calls that ring.
    pub fn close(&self) {
        lock(&self.ringing).clear();
    }
}

fn lock(ringing: &Mutex<HashMap<String, Ringing>>) -> MutexGuard<'_, HashMap<String, Ringing>> {
    ringing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of the account with these addresses; `None` if it is nobody's, or the linked account's own.
async fn arrival(client: &Client, addresses: &[Option<&Jid>], at: i64, call: Call) -> Option<Arrival> {
    let addresses: Vec<&Jid> = addresses.iter().copied().flatten().collect();
    if addresses.iter().any(|address| translate::is_own(client, address)) {
        return None;
    }
    let person = envelopes::names(client, addresses.iter().copied()).await;
    (!person.is_nobody()).then(|| Arrival {
        network_id: network_id(&format!("call {}", call.id)),
        group: None,
        person,
        from_me: false,
        sent_at: at.saturating_mul(1_000),
        what: What::Called(call),
    })
}

fn read(action: &CallAction) -> Option<Said<'_>> {
    Some(match action {
        CallAction::Offer { is_video, group_jid, caller_pn, .. } => {
            let group = group_jid.as_ref().map(Jid::to_non_ad_string);
            Said::Rings { video: *is_video, group, number: caller_pn.as_ref() }
        }
        CallAction::OfferNotice { is_video, is_group, .. } => {
            Said::Rings { video: *is_video, group: is_group.then(String::new), number: None }
        }
        CallAction::Accept { .. } => Said::Ends(Some(false)),
        // A busy device says nothing of the account's other devices.
        CallAction::Reject { reason, .. } if reason.as_deref() != Some(REJECT_REASON_BUSY) => Said::Ends(Some(false)),
        CallAction::Terminate { reason, duration, .. } => Said::Ends(match reason.as_deref() {
            _ if duration.is_some_and(|seconds| seconds > 0) => Some(false),
            None | Some(TERMINATE_REASON_TIMEOUT | TERMINATE_REASON_GROUP_CALL_ENDED) => Some(true),
            Some(TERMINATE_REASON_ACCEPTED_ELSEWHERE | TERMINATE_REASON_REJECTED_ELSEWHERE) => Some(false),
            Some(_) => None,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use recado_domain::incoming::SenderIds;

    use super::*;
    use crate::memory_inbox::MemoryInbox;

    const PATIENCE: Duration = Duration::from_mins(1);

    fn terminated(reason: Option<&str>, duration: Option<u32>) -> CallAction {
        let (call_id, call_creator, reason) = ("C1".to_owned(), Jid::lid("900"), reason.map(str::to_owned));
        CallAction::Terminate { call_id, call_creator, reason, duration, audio_duration: None }
    }

    fn rejected(reason: Option<&str>) -> CallAction {
        let reason = reason.map(str::to_owned);
        CallAction::Reject { call_id: "C1".to_owned(), call_creator: Jid::lid("900"), reason }
    }

    #[test]
    fn only_a_call_that_nobody_took_is_missed() {
        for (reason, duration, missed) in [
            (None, None, Some(true)),
            (Some("timeout"), None, Some(true)),
            (Some("group_call_ended"), None, Some(true)),
            (Some("accepted_elsewhere"), None, Some(false)),
            (Some("rejected_elsewhere"), None, Some(false)),
            (None, Some(7), Some(false)),
            (Some("new"), None, None),
        ] {
            assert_eq!(read(&terminated(reason, duration)), Some(Said::Ends(missed)), "{reason:?} {duration:?}");
        }
        assert_eq!(read(&rejected(None)), Some(Said::Ends(Some(false))));
        assert_eq!(read(&rejected(Some("busy"))), None, "another device can take it");
    }

    #[test]
    fn a_notice_of_a_call_of_a_group_names_no_group() {
        let notice = |is_group| CallAction::OfferNotice {
            call_id: "C1".to_owned(),
            call_creator: Jid::lid("900"),
            is_video: true,
            is_group,
        };
        let rings = |group| Some(Said::Rings { video: true, group, number: None });
        assert_eq!(read(&notice(true)), rings(Some(String::new())));
        assert_eq!(read(&notice(false)), rings(None));
    }

    fn call(id: &str, missed: Option<bool>) -> Arrival {
        Arrival {
            network_id: network_id(&format!("call {id}")),
            group: None,
            person: SenderIds::of_lid("900"),
            from_me: false,
            sent_at: 1_000,
            what: What::Called(Call { id: id.to_owned(), video: None, missed }),
        }
    }

    /// Waits for so many calls; what is said of each of them.
    async fn passed(inbox: &MemoryInbox, count: usize) -> Vec<(String, Option<bool>)> {
        let waited = async {
            while inbox.arrivals().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waited).await.expect("calls");
        let called = |arrival: Arrival| match arrival.what {
            What::Called(call) => Some((call.id, call.missed)),
            _ => None,
        };
        inbox.arrivals().into_iter().filter_map(called).collect()
    }

    #[tokio::test]
    async fn a_call_is_passed_on_once_when_nothing_more_is_heard_of_it() {
        let inbox = Arc::new(MemoryInbox::default());
        let mut calls = Calls::new(inbox.clone());
        calls.rings = PATIENCE * 10;
        calls.ring(None, call("C1", None));
        calls.ring(None, call("C1", None));
        calls.ring(None, call("C2", Some(true)));
        calls.ring(None, call("C3", Some(true)));
        calls.end("C1", Some(true));
        calls.end("C1", Some(false));
        calls.end("C0", Some(false));
        let first = ("C1".to_owned(), Some(true));
        assert_eq!(passed(&inbox, 1).await, std::slice::from_ref(&first));
        calls.end("C2", Some(false));
        let second = ("C2".to_owned(), Some(false));
        assert_eq!(passed(&inbox, 2).await, [first, second]);
        calls.close();
        assert_eq!(passed(&inbox, 3).await[2], ("C3".to_owned(), Some(true)));
        calls.rings = Duration::from_millis(1);
        calls.ring(None, call("C4", None));
        assert_eq!(passed(&inbox, 4).await[3], ("C4".to_owned(), None));
        assert!(lock(&calls.ringing).is_empty());
    }
}
