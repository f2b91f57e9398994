//! Translates what the network says of changes of groups.

use recado_domain::incoming::{Arrival, Group, GroupChange, SenderIds, What, clean};
use whatsapp_rust::Client;
use whatsapp_rust::wacore::stanza::groups::{GroupNotificationAction as Action, GroupParticipantInfo};
use whatsapp_rust::wacore::types::events::GroupUpdate;
use whatsapp_rust::wacore_binary::{Jid, JidExt};

use super::{envelopes, translate};
use crate::incoming::network_id;

/// The most members of one arrival. A change of more is several arrivals.
const MEMBERS: usize = 50;
/// The most characters of a name.
const NAME_LIMIT: usize = 200;

/// The arrivals of a change; none for what people do not see as a change of the group.
pub async fn arrivals(client: &Client, update: &GroupUpdate) -> Vec<Arrival> {
    let Some((change, members)) = read(&update.action).filter(|_| update.group_jid.is_group()) else {
        return Vec::new();
    };
    let address = update.group_jid.to_non_ad_string();
    let name = match &update.action {
        Action::Subject { subject, .. } => clean(subject, NAME_LIMIT),
        _ => None,
    };
    let at = update.timestamp.timestamp();
    // Without an id of the network, the same change has the same one.
    let id = update.notification_id.clone().unwrap_or_else(|| format!("{} {at}", change.name()));
    let by = [update.participant.as_ref(), update.participant_pn.as_ref()];
    let person = names(client, &by.into_iter().flatten().collect::<Vec<_>>()).await;
    let mut found = Vec::with_capacity(members.len());
    for member in members {
        let known = [Some(&member.jid), member.phone_number.as_ref(), member.lid.as_ref()];
        found.push(names(client, &known.into_iter().flatten().collect::<Vec<_>>()).await);
    }
    let parts: Vec<_> = if found.is_empty() { vec![&[][..]] } else { found.chunks(MEMBERS).collect() };
    let arrival = |(part, members): (usize, &[SenderIds])| Arrival {
        network_id: network_id(&format!("group {address} {id} {} {part}", update.action_index)),
        group: Some(Group { address: address.clone(), name: name.clone() }),
        person: person.clone(),
        from_me: false,
        sent_at: at.saturating_mul(1_000),
        what: What::GroupChanged { change, members: members.to_vec() },
    };
    parts.into_iter().enumerate().map(arrival).collect()
}

/// The names of one account, which may be the linked one.
async fn names(client: &Client, addresses: &[&Jid]) -> SenderIds {
    if addresses.iter().any(|address| translate::is_own(client, address)) {
        return envelopes::own(client);
    }
    envelopes::names(client, addresses.iter().copied()).await
}

fn read(action: &Action) -> Option<(GroupChange, &[GroupParticipantInfo])> {
    Some(match action {
        Action::Add { participants, .. } => (GroupChange::Add, participants.as_slice()),
        Action::Remove { participants, .. } => (GroupChange::Remove, participants.as_slice()),
        Action::Promote { participants } => (GroupChange::Promote, participants.as_slice()),
        Action::Demote { participants } => (GroupChange::Demote, participants.as_slice()),
        Action::Subject { .. } => (GroupChange::Subject, &[]),
        Action::Description { .. } => (GroupChange::Description, &[]),
        Action::Locked { .. }
        | Action::Unlocked
        | Action::Announce
        | Action::NotAnnounce
        | Action::Ephemeral { .. }
        | Action::MembershipApprovalMode { .. }
        | Action::MemberAddMode { .. }
        | Action::NoFrequentlyForwarded
        | Action::FrequentlyForwardedOk => (GroupChange::Settings, &[]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_people_see_is_a_change() {
        let change = |action: &Action| read(action).map(|(change, members)| (change, members.len()));
        assert_eq!(change(&Action::Add { participants: vec![], reason: None }), Some((GroupChange::Add, 0)));
        assert_eq!(change(&Action::NotAnnounce), Some((GroupChange::Settings, 0)));
        let described = Action::Description { id: "1".to_owned(), description: None };
        assert_eq!(change(&described), Some((GroupChange::Description, 0)));
        assert_eq!(change(&Action::Reports), None);
    }
}
