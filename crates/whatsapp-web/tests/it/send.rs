//! Messages that are sent, refused, lost on the way and sent again.

use std::sync::Arc;

use std::time::Duration;

use anyhow::Result;
use fake_whatsapp::{FakeWhatsApp, Refusal, proto};
use recado_whatsapp_web::{
    Addressee, Author, Body, Card, Event, LookUpError, Outgoing, Person, Quote, Quoted, Rows, Session, SubmitError,
};

use crate::harness::{ACCOUNT, Client, PEER, PEER_LID, VCARD, card, link, network};
use crate::memory_rows::MemoryRows;

async fn up() -> Result<(FakeWhatsApp, Arc<dyn Rows>, Client)> {
    let whatsapp = network();
    let rows: Arc<dyn Rows> = Arc::new(MemoryRows::default());
    assert!(!Session::is_linked(&rows).await?);
    link(&whatsapp, &*rows).await?;
    assert!(Session::is_linked(&rows).await?);
    let client = Client::up(&whatsapp, Arc::clone(&rows)).await?;
    Ok((whatsapp, rows, client))
}

#[tokio::test]
async fn a_card_is_read_by_its_recipient() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    client.session.submit(&card("3EB0A1")).await?;
    let (mut acked, mut delivered, mut read) = (false, false, false);
    while !(acked && delivered && read) {
        match client.until(|_| true).await? {
            Event::Acked { id } => acked |= id == "3EB0A1",
            Event::Delivered { ids, at, from } => {
                delivered |= ids == ["3EB0A1"] && at > 1_700_000_000 && from.number.as_deref() == Some(PEER);
            }
            Event::Read { ids, .. } => read |= ids == ["3EB0A1"],
            other => panic!("{other:?}"),
        }
    }
    let inbox = whatsapp.inbox();
    let [received] = inbox.as_slice() else { panic!("{inbox:?}") };
    assert_eq!((received.id.as_str(), received.own_phone_saw_it), ("3EB0A1", true));
    assert_eq!(received.display_name(), Some("Maria"));
    assert_eq!(received.vcard(), Some(VCARD));
    client.session.stop().await;
    assert_eq!(client.session.submit(&card("3EB0A2")).await.map(drop), Err(SubmitError::Down));
    Ok(())
}

/// Every body, alone and with a quote of every body: the recipient's phone shows the intended content.
#[tokio::test]
async fn every_body_is_shown_with_and_without_a_quote() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    let (place, address) = (Some("Mercado".to_owned()), Some("Rua A, 1".to_owned()));
    let maria = Card { display_name: "Maria".into(), vcard: VCARD.into() };
    let joao = Card { display_name: "Joao".into(), vcard: VCARD.replace("Maria", "Joao") };
    let bodies = [
        Body::Text("Ola,\ntudo bem?".into()),
        Body::Location { latitude: -23.5418, longitude: -46.6293, name: place, address },
        Body::Contact(maria.clone()),
        Body::Contacts { display_name: "2 contatos".into(), contacts: vec![maria, joao] },
    ];
    let forgotten = Quote { id: "3EB0OLD".into(), author: Author::Own, content: None };
    let quote =
        |body: &Body| Quote { content: Some(Quoted::Body(body.clone())), id: "3EB0NEW".into(), ..forgotten.clone() };
    let quotes: Vec<_> = bodies.iter().map(quote).collect();
    let quotes: Vec<_> = [None, Some(forgotten)].into_iter().chain(quotes.into_iter().map(Some)).collect();
    for (body, quote) in bodies.iter().flat_map(|body| quotes.iter().map(move |quote| (body, quote))) {
        let id = format!("3EB0BODY{}", whatsapp.inbox().len());
        let message = Outgoing { body: body.clone(), quote: quote.clone(), ..card(&id) };
        client.session.submit(&message).await?;
        client.acked(&id).await?;
        let inbox = whatsapp.inbox();
        let received = inbox.last().expect("it was read");
        assert_eq!((&*received.id, shown(&received.message).as_ref()), (&*id, Some(body)));
        assert_eq!(received.message.conversation.is_some(), quote.is_none() && matches!(body, Body::Text(_)));
        let own = format!("{ACCOUNT}@s.whatsapp.net");
        let shown_quote = received.quote().map(|quote| (quote.id, quote.from, quote.message.map(shown)));
        let content = |quote: &Quote| match quote.content.clone() {
            Some(Quoted::Body(body)) => Some(Some(body)),
            _ => None,
        };
        let meant = quote.as_ref().map(|quote| (&*quote.id, &*own, content(quote)));
        assert_eq!(shown_quote, meant, "{body:?}");
    }
    assert_eq!((whatsapp.counters().malformed, whatsapp.counters().undecryptable), (0, 0));
    client.session.stop().await;
    Ok(())
}

/// The body that a phone sees in a message.
fn shown(message: &proto::Message) -> Option<Body> {
    let card = |card: &proto::message::ContactMessage| {
        Some(Card { display_name: card.display_name.clone()?, vcard: card.vcard.clone()? })
    };
    if let Some(location) = message.location_message.as_option() {
        return Some(Body::Location {
            latitude: location.degrees_latitude?,
            longitude: location.degrees_longitude?,
            name: location.name.clone(),
            address: location.address.clone(),
        });
    }
    if let Some(contact) = message.contact_message.as_option() {
        return card(contact).map(Body::Contact);
    }
    if let Some(list) = message.contacts_array_message.as_option() {
        let contacts = list.contacts.iter().map(card).collect::<Option<_>>()?;
        return Some(Body::Contacts { display_name: list.display_name.clone()?, contacts });
    }
    message.conversation.clone().or_else(|| message.extended_text_message.text.clone()).map(Body::Text)
}

#[tokio::test]
async fn a_refusal_is_reported_with_its_code() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: 1, to: vec![] }));
    client.session.submit(&card("3EB0B1")).await?;
    let nacked = Event::Nacked { id: "3EB0B1".into(), code: "463".into() };
    client.until(|event| *event == nacked).await?;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_card_whose_answer_was_lost_is_sent_again_after_a_restart() -> Result<()> {
    let (whatsapp, rows, mut client) = up().await?;
    client.send("3EB0C1").await?;
    whatsapp.faults(|faults| faults.hang_up_before_ack = 1);
    // The connection breaks on the way, so the answer may be an error or not.
    let _ = client.session.submit(&card("3EB0C2")).await;
    client.until(|event| *event == Event::Down).await?;
    client.session.stop().await;

    let mut client = Client::up(&whatsapp, rows).await?;
    client.send("3EB0C2").await?;
    client.send("3EB0C3").await?;
    client.session.stop().await;
    let mut ids: Vec<_> = whatsapp.inbox().into_iter().map(|received| received.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids, ["3EB0C1", "3EB0C2", "3EB0C3"]);
    assert_eq!(whatsapp.counters().undecryptable, 0);
    Ok(())
}

/// If the network refuses a recipient's keys, nothing is sent, and the message can be sent again at any time.
#[tokio::test]
async fn a_message_that_was_not_submitted_is_reported_as_not_sent() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    whatsapp.faults(|faults| faults.keys_error = Some(429));
    let refused = client.session.submit(&card("3EB0K1")).await.map(drop);
    assert!(matches!(refused, Err(SubmitError::NotSent(_))), "{refused:?}");
    whatsapp.faults(|faults| faults.keys_error = None);
    client.send("3EB0K1").await?;
    assert_eq!(whatsapp.copies("3EB0K1"), 1);
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_message_to_a_number_without_a_device_fails() -> Result<()> {
    let (_whatsapp, _, client) = up().await?;
    let ghost = Outgoing { to: Addressee::Number("15550000000".into()), ..card("3EB0D1") };
    assert_eq!(client.session.submit(&ghost).await.map(drop), Err(SubmitError::NoDevice));
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_lookup_returns_the_account_of_a_number() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    whatsapp.add_alias("5531999990001", PEER);
    let peer = Some(Person { number: Some(PEER.into()), lid: Some(PEER_LID.into()) });
    assert_eq!(client.session.look_up("5531999990001").await?, peer);
    assert_eq!(client.session.look_up(PEER).await?, peer);
    assert_eq!(client.session.look_up("15550000000").await?, None);
    client.send("3EB0E1").await?;
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_author_is_reported_and_can_be_answered() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    // The author needs the session's keys, which are uploaded after the login.
    while whatsapp.one_time_keys(ACCOUNT) == [0] {
        tokio::task::yield_now().await;
    }
    whatsapp.say(PEER, ACCOUNT, "oi")?;
    client.until(|event| matches!(event, Event::Wrote { who } if who.number.as_deref() == Some(PEER))).await?;
    // The contact is now known by the hidden id, too.
    client.send("3EB0H1").await?;
    assert_eq!((whatsapp.copies("3EB0H1"), whatsapp.counters().undecryptable), (1, 0));
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_recipient_sees_typing_begin_and_end() -> Result<()> {
    let (whatsapp, _, mut client) = up().await?;
    client.session.type_for(&Addressee::Number(PEER.into()), Duration::from_millis(50)).await?;
    client.send("3EB0F1").await?;
    let shown: Vec<_> = whatsapp.typing().into_iter().map(|typing| (typing.from, typing.to, typing.on)).collect();
    assert_eq!(shown, [true, false].map(|on| (ACCOUNT.into(), PEER.into(), on)));
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_person_sees_that_messages_were_read() -> Result<()> {
    let (whatsapp, _, client) = up().await?;
    let ids = || vec!["3EB0R2".to_owned(), "3EB0R1".to_owned()];
    client.session.mark_read(PEER, None, ids()).await?;
    client.session.mark_read(&format!("{PEER_LID}@lid"), None, vec!["3EB0R3".to_owned()]).await?;
    client.session.mark_read("120363000000000001@g.us", Some(PEER), ids()).await?;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while whatsapp.reads().len() < 3 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let person = format!("{PEER}@s.whatsapp.net");
    let told: Vec<_> = whatsapp.reads().into_iter().map(|read| (read.from, read.chat, read.author, read.ids)).collect();
    let of = |chat: &str, author: Option<&str>, ids| (ACCOUNT.into(), chat.into(), author.map(Into::into), ids);
    assert_eq!(
        told,
        [
            of(&person, None, ids()),
            of(&format!("{PEER_LID}@lid"), None, vec!["3EB0R3".into()]),
            of("120363000000000001@g.us", Some(&person), ids()),
        ]
    );
    client.session.stop().await;
    assert_eq!(client.session.mark_read(PEER, None, ids()).await, Err(SubmitError::Down));
    Ok(())
}

/// A message to the account's own number goes only to the sender's other devices, which is correct.
#[tokio::test]
async fn a_card_to_oneself_is_sent() -> Result<()> {
    let (_whatsapp, _, client) = up().await?;
    let own = Outgoing { to: Addressee::Number(ACCOUNT.into()), ..card("3EB0G1") };
    assert_eq!(client.session.submit(&own).await.map(drop), Ok(()));
    client.session.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_restriction_is_reported_with_its_end() -> Result<()> {
    let (whatsapp, _, client) = up().await?;
    assert_eq!(client.session.restriction().await, Ok(None));
    whatsapp.restrict(Some(1_900_000_000));
    assert_eq!(client.session.restriction().await, Ok(Some(1_900_000_000)));
    client.session.stop().await;
    assert_eq!(client.session.restriction().await, Err(LookUpError::Down));
    Ok(())
}
