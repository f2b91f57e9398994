//! Votes. A vote is encrypted with the secret of its poll, and names the options by their hashes.

use recado_domain::incoming::{Arrival, SenderIds, What};
use whatsapp_rust::wacore::poll::{PollVoteCiphertext, compute_option_hash, decrypt_poll_vote_with_secret};
use whatsapp_rust::wacore_binary::Jid;
use whatsapp_rust::waproto::codec::message_decode;
use whatsapp_rust::waproto::whatsapp as wa;

use super::envelope::{Envelope, network_id};
use super::{content, wrappers};

/// A vote that is still encrypted.
#[derive(Debug, Clone)]
pub struct Vote {
    arrival: Arrival,
    /// The id of the poll as its author chose it.
    poll: String,
    payload: Vec<u8>,
    iv: Vec<u8>,
    /// The addresses by which the author of the poll and the voter may have encrypted it.
    creators: Vec<String>,
    voters: Vec<String>,
}

pub(super) fn read(update: &wa::message::PollUpdateMessage, of: &Envelope) -> Option<Vote> {
    let key = update.poll_creation_message_key.as_option()?;
    let vote = update.vote.as_option()?;
    let poll = key.id.clone().filter(|id| !id.is_empty())?;
    let named = key.participant.as_ref().or(key.remote_jid.as_ref()).and_then(|jid| jid.parse::<Jid>().ok());
    let voters = addresses(of.author());
    let mut creators = Vec::new();
    if let Some(named) = named.filter(|jid| jid.server.is_pn_family() || jid.server.is_lid_family()) {
        let number = of.number_of(&named);
        creators.push(named.to_non_ad_string());
        creators.extend(number.map(|number| Jid::pn(&number).to_string()));
    }
    for address in [&of.own, &of.person].into_iter().flat_map(addresses) {
        if !creators.contains(&address) {
            creators.push(address);
        }
    }
    let target = network_id(&poll);
    let sent_at = of.within_second(update.sender_timestamp_ms);
    let arrival = Arrival { sent_at, ..of.arrival(What::PollVote { target, options: Vec::new() }) };
    Some(Vote { arrival, poll, payload: vote.enc_payload.clone()?, iv: vote.enc_iv.clone()?, creators, voters })
}

/// The addresses of an account.
fn addresses(of: &SenderIds) -> Vec<String> {
    let number = of.phone.as_ref().map(|digits| Jid::pn(digits).to_string());
    let lid = of.lid.as_ref().map(|digits| Jid::lid(digits).to_string());
    number.into_iter().chain(lid).collect()
}

impl Vote {
    /// The network id of the poll, as it is stored.
    pub fn poll(&self) -> String {
        network_id(&self.poll).as_str().to_owned()
    }

    /// The vote with the names of its options. `poll` is the network's own form of the poll. `None` if this poll does not
    /// open it.
    pub fn open(&self, poll: &[u8]) -> Option<Arrival> {
        let message = message_decode(poll).ok()?;
        let inner = wrappers::unwrap(&message).message;
        let contexts = [&message.message_context_info, &inner.message_context_info];
        let secret = contexts.into_iter().find_map(|context| context.as_option()?.message_secret.clone())?;
        let ciphertext = || PollVoteCiphertext { enc_payload: &self.payload, enc_iv: &self.iv };
        let mut pairs = self.creators.iter().flat_map(|creator| self.voters.iter().map(move |voter| (creator, voter)));
        let hashes = pairs.find_map(|(creator, voter)| {
            decrypt_poll_vote_with_secret(ciphertext(), &secret, &self.poll, creator, voter).ok()
        })?;
        let names = content::options(content::poll_of(inner)?);
        let chosen = names.filter(|name| hashes.iter().any(|hash| hash[..] == compute_option_hash(name)[..]));
        let options = chosen.map(str::to_owned).collect();
        let what = What::PollVote { target: network_id(&self.poll), options };
        Some(Arrival { what, ..self.arrival.clone() })
    }
}
