//! The table of the contract, message by message, without a network.

use recado_domain::incoming::{
    Captioned, Choice, ChoiceKind, Content, MatchedBy, NewIncoming, NewMedia, Order, OrderItem, Place, Quoted,
    SenderIds, UnsupportedReason, What,
};
use serde_json::json;
use wa::message as m;
use wa::message_association::AssociationType;
use whatsapp_rust::waproto::buffa::MessageField as Field;
use whatsapp_rust::waproto::codec::message_decode;
use whatsapp_rust::waproto::whatsapp as wa;

use super::*;

const PERSON: &str = "5511977776666";
const PERSON_LID: &str = "103899771998284";
const OWN: &str = "551140000000";

fn envelope() -> Envelope {
    Envelope {
        id: "3EB0459984FC15DDAB10A5".to_owned(),
        person: SenderIds { lid: Some(PERSON_LID.to_owned()), ..SenderIds::of_phone(PERSON) },
        own: SenderIds { lid: Some("200".to_owned()), ..SenderIds::of_phone(OWN) },
        sent_at: 1_000,
        ..Envelope::default()
    }
}

fn arrival(message: &wa::Message, of: &Envelope) -> Option<Arrival> {
    match read(message, of)? {
        Inbound::Arrival(arrival) => Some(*arrival),
        other => panic!("{other:?}"),
    }
}

fn new(message: &wa::Message) -> NewIncoming {
    match arrival(message, &envelope()).expect("an arrival").what {
        What::Message(new) => *new,
        other => panic!("{other:?}"),
    }
}

fn what(message: &wa::Message) -> What {
    arrival(message, &envelope()).expect("an arrival").what
}

fn text(text: &str) -> wa::Message {
    wa::Message { conversation: Some(text.to_owned()), ..wa::Message::default() }
}

fn wrapped(inner: wa::Message) -> Field<m::FutureProofMessage> {
    Field::some(m::FutureProofMessage { message: Field::some(inner) })
}

fn image() -> m::ImageMessage {
    m::ImageMessage {
        mimetype: Some("image/jpeg".to_owned()),
        caption: Some("Olha a foto".to_owned()),
        file_sha256: Some(vec![0x9f; 32]),
        file_enc_sha256: Some(vec![2; 32]),
        media_key: Some(vec![1; 32]),
        direct_path: Some("/v/t62.7118-24/1.enc".to_owned()),
        file_length: Some(482_113),
        width: Some(1_080),
        height: Some(1_350),
        ..m::ImageMessage::default()
    }
}

fn picture() -> wa::Message {
    wa::Message { image_message: Field::some(image()), ..wa::Message::default() }
}

#[test]
fn a_text_is_a_text_in_both_forms_and_in_every_wrapper() {
    let extended = wa::Message {
        extended_text_message: Field::some(m::ExtendedTextMessage {
            text: Some("Oi".to_owned()),
            ..m::ExtendedTextMessage::default()
        }),
        ..wa::Message::default()
    };
    let sent = m::DeviceSentMessage { message: Field::some(text("Oi")), ..m::DeviceSentMessage::default() };
    let ephemeral = wa::Message { ephemeral_message: wrapped(text("Oi")), ..wa::Message::default() };
    for message in [
        text("Oi"),
        extended,
        wa::Message { device_sent_message: Field::some(sent), ..wa::Message::default() },
        wa::Message { group_mentioned_message: wrapped(ephemeral.clone()), ..wa::Message::default() },
        ephemeral,
    ] {
        let new = new(&message);
        assert_eq!((&new.content, new.text.as_str()), (&Content::text(), "Oi"));
        assert!(new.raw.is_some_and(|raw| !raw.is_empty()), "the network's form is kept");
    }
}

#[test]
fn the_envelope_says_who_and_when() {
    let of = Envelope { group: Some("120363@g.us".to_owned()), from_me: true, ..envelope() };
    let arrival = arrival(&text("Oi"), &of).expect("an arrival");
    assert_eq!(arrival.network_id.as_str(), "3EB0459984FC15DDAB10A5");
    assert_eq!(arrival.group.map(|group| group.address).as_deref(), Some("120363@g.us"));
    assert_eq!((arrival.person.phone.as_deref(), arrival.from_me, arrival.sent_at), (Some(PERSON), true, 1_000));
    let odd = network_id("with a space");
    assert_eq!(odd.as_str().len(), "sha256.".len() + 64);
    assert_eq!(odd, network_id("with a space"), "a repetition is recognised");
}

#[test]
fn a_picture_has_its_caption_and_everything_to_fetch_it() {
    let new = new(&picture());
    let captioned = Captioned { caption: Some("Olha a foto".to_owned()), ..Captioned::default() };
    assert_eq!((&new.content, new.text.as_str()), (&Content::Image(captioned), "Olha a foto"));
    let media = new.media.expect("a file");
    let remote = RemoteFile::from_bytes(media.sealed.as_deref().expect("its place")).expect("read back");
    assert_eq!((remote.kind.as_str(), remote.path.as_deref()), ("image", Some("/v/t62.7118-24/1.enc")));
    assert_eq!(remote.key, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
    assert_eq!(format!("{remote:?}"), "RemoteFile", "a key reaches no log");
    let expected = NewMedia {
        mime_type: "image/jpeg".to_owned(),
        size: Some(482_113),
        sha256: Some("9f".repeat(32)),
        width: Some(1_080),
        height: Some(1_350),
        sealed: media.sealed.clone(),
        ..NewMedia::default()
    };
    assert_eq!(media, expected);
}

#[test]
fn a_picture_of_an_album_names_it_and_its_second_rendition_is_no_message() {
    let of_album = |kind| wa::Message {
        associated_child_message: wrapped(picture()),
        message_context_info: Field::some(wa::MessageContextInfo {
            message_association: Field::some(wa::MessageAssociation {
                association_type: Some(kind),
                parent_message_key: Field::some(wa::MessageKey {
                    id: Some("ALBUM".to_owned()),
                    ..wa::MessageKey::default()
                }),
                ..wa::MessageAssociation::default()
            }),
            ..wa::MessageContextInfo::default()
        }),
        ..wa::Message::default()
    };
    match new(&of_album(AssociationType::MEDIA_ALBUM)).content {
        Content::Image(image) => assert_eq!(image.album_id.as_deref(), Some("ALBUM")),
        other => panic!("{other:?}"),
    }
    assert!(read(&of_album(AssociationType::HD_IMAGE_DUAL_UPLOAD), &envelope()).is_none());
    let album = wa::Message {
        album_message: Field::some(m::AlbumMessage { expected_image_count: Some(2), ..m::AlbumMessage::default() }),
        ..wa::Message::default()
    };
    assert!(read(&album, &envelope()).is_none(), "its pictures come one by one");
}

#[test]
fn other_files_have_their_flags() {
    let video = m::VideoMessage { seconds: Some(7), gif_playback: Some(true), ..m::VideoMessage::default() };
    let note = wa::Message { ptv_message: Field::some(video.clone()), ..wa::Message::default() };
    let video = wa::Message { video_message: Field::some(video), ..wa::Message::default() };
    assert!(matches!(new(&video).content, Content::Video(of) if of.animated && !of.video_note));
    assert!(matches!(new(&note).content, Content::Video(of) if of.video_note));
    assert_eq!(new(&note).media.expect("a file").duration_seconds, Some(7));
    let voice = m::AudioMessage { ptt: Some(true), seconds: Some(3), ..m::AudioMessage::default() };
    let voice = new(&wa::Message { audio_message: Field::some(voice), ..wa::Message::default() });
    assert!(matches!(voice.content, Content::Audio(of) if of.ptt));
    let file = m::DocumentMessage {
        file_name: Some("conta.pdf".to_owned()),
        caption: Some("Segue".to_owned()),
        ..m::DocumentMessage::default()
    };
    let document = wa::Message { document_message: Field::some(file), ..wa::Message::default() };
    let wrapped_document = wa::Message { document_with_caption_message: wrapped(document), ..wa::Message::default() };
    let document = new(&wrapped_document);
    assert_eq!(document.text, "Segue");
    assert!(matches!(document.content, Content::Document(of) if of.file_name.as_deref() == Some("conta.pdf")));
    let sticker = m::StickerMessage { is_lottie: Some(true), ..m::StickerMessage::default() };
    let sticker = wa::Message { sticker_message: Field::some(sticker), ..wa::Message::default() };
    let lottie = wa::Message { lottie_sticker_message: wrapped(sticker), ..wa::Message::default() };
    assert!(matches!(new(&lottie).content, Content::Sticker(of) if of.animated));
}

#[test]
fn what_may_be_seen_once_is_not_kept() {
    let once = Content::Unsupported { reason: UnsupportedReason::ViewOnce };
    let flagged = m::ImageMessage { view_once: Some(true), ..image() };
    for message in [
        wa::Message { view_once_message: wrapped(picture()), ..wa::Message::default() },
        wa::Message { view_once_message_v2: wrapped(picture()), ..wa::Message::default() },
        wa::Message { view_once_message_v2_extension: wrapped(picture()), ..wa::Message::default() },
        wa::Message { image_message: Field::some(flagged), ..wa::Message::default() },
    ] {
        let new = new(&message);
        assert_eq!((new.content, new.text.as_str(), new.raw, new.media), (once.clone(), "", None, None));
    }
}

#[test]
fn places_have_their_point() {
    let point = m::LocationMessage {
        degrees_latitude: Some(-23.5),
        degrees_longitude: Some(-46.6),
        name: Some("Praça".to_owned()),
        ..m::LocationMessage::default()
    };
    let place = Place { latitude: -23.5, longitude: -46.6, name: Some("Praça".to_owned()), ..Place::default() };
    let message = wa::Message { location_message: Field::some(point), ..wa::Message::default() };
    assert_eq!(new(&message).content, Content::Location(place));
    let live = m::LiveLocationMessage {
        degrees_latitude: Some(1.0),
        degrees_longitude: Some(2.0),
        ..m::LiveLocationMessage::default()
    };
    let message = wa::Message { live_location_message: Field::some(live), ..wa::Message::default() };
    let place = Place { latitude: 1.0, longitude: 2.0, live: true, ..Place::default() };
    assert_eq!(new(&message).content, Content::Location(place));
}

#[test]
fn cards_are_read_and_kept() {
    let card = "BEGIN:VCARD\nVERSION:3.0\nN:Souza;Ana;;;\nFN:Ana Souza\nORG:Loja\\; Filial;Vendas\n\
                item1.TEL;type=CELL;waid=5511977776666:+55 11 97777-6666\nEMAIL;type=WORK:ana@exemplo.com\n\
                ADR;type=HOME:;;Rua A\\, 1;São Paulo;SP;01000-000;Brasil\nNOTE:longa\n linha\nEND:VCARD";
    let contact = |vcard: &str| m::ContactMessage {
        display_name: Some("Ana".to_owned()),
        vcard: Some(vcard.to_owned()),
        ..m::ContactMessage::default()
    };
    let single = wa::Message { contact_message: Field::some(contact(card)), ..wa::Message::default() };
    let read_card = new(&single);
    assert_eq!(read_card.text, "Ana Souza");
    let expected = json!({
        "name": "Ana Souza", "firstName": "Ana", "lastName": "Souza", "organization": "Loja; Filial",
        "department": "Vendas",
        "phones": [{"phone": "+55 11 97777-6666", "account": "5511977776666", "type": "CELL"}],
        "emails": [{"email": "ana@exemplo.com", "type": "WORK"}],
        "addresses": [{"street": "Rua A, 1", "city": "São Paulo", "state": "SP", "zip": "01000-000",
            "country": "Brasil", "type": "HOME"}],
    });
    assert_eq!(read_card.content, Content::Contact { contacts: vec![expected], vcards: vec![card.to_owned()] });
    let array = m::ContactsArrayMessage {
        contacts: vec![contact(card), contact("no card at all")],
        ..m::ContactsArrayMessage::default()
    };
    let several = wa::Message { contacts_array_message: Field::some(array), ..wa::Message::default() };
    let Content::Contact { contacts, vcards } = new(&several).content else { panic!("no cards") };
    assert_eq!((contacts.len(), vcards.len()), (2, 2));
    assert_eq!(contacts[1], json!({"name": "Ana"}), "the name beside the card");
}

fn answering(id: &str) -> Field<wa::ContextInfo> {
    Field::some(wa::ContextInfo { stanza_id: Some(id.to_owned()), ..wa::ContextInfo::default() })
}

fn chosen(id: &str, title: &str, kind: ChoiceKind) -> Choice {
    Choice {
        message_id: None,
        network_id: Some("3EB0OFFER".to_owned()),
        id: Some(id.to_owned()),
        title: Some(title.to_owned()),
        kind,
        matched_by: MatchedBy::Network,
    }
}

#[test]
fn taps_are_buttons_with_their_choice() {
    let button = m::ButtonsResponseMessage {
        selected_button_id: Some("b1".to_owned()),
        response: Some(m::buttons_response_message::Response::SelectedDisplayText("Sim".to_owned())),
        context_info: answering("3EB0OFFER"),
        ..m::ButtonsResponseMessage::default()
    };
    let button = new(&wa::Message { buttons_response_message: Field::some(button), ..wa::Message::default() });
    assert_eq!((button.text.as_str(), button.choice), ("Sim", Some(chosen("b1", "Sim", ChoiceKind::Button))));
    assert_eq!(button.reply_to, Some(Quoted::of_id("3EB0OFFER")));
    let row = m::list_response_message::SingleSelectReply { selected_row_id: Some("r2".to_owned()) };
    let list = m::ListResponseMessage {
        title: Some("Azul".to_owned()),
        description: Some("A cor".to_owned()),
        single_select_reply: Field::some(row),
        context_info: answering("3EB0OFFER"),
        ..m::ListResponseMessage::default()
    };
    let list = new(&wa::Message { list_response_message: Field::some(list), ..wa::Message::default() });
    assert_eq!(list.choice, Some(chosen("r2", "Azul", ChoiceKind::List)));
    let of_list = Content::Button {
        id: Some("r2".to_owned()),
        title: Some("Azul".to_owned()),
        description: Some("A cor".to_owned()),
        data: None,
    };
    assert_eq!(list.content, of_list);
    let template = m::TemplateButtonReplyMessage {
        selected_id: Some("t3".to_owned()),
        selected_display_text: Some("Quero".to_owned()),
        context_info: answering("3EB0OFFER"),
        ..m::TemplateButtonReplyMessage::default()
    };
    let message = wa::Message { template_button_reply_message: Field::some(template), ..wa::Message::default() };
    assert_eq!(new(&message).choice, Some(chosen("t3", "Quero", ChoiceKind::Template)));
}

fn flow(name: &str, parameters: &str) -> NewIncoming {
    let flow = m::interactive_response_message::NativeFlowResponseMessage {
        name: Some(name.to_owned()),
        params_json: Some(parameters.to_owned()),
        ..m::interactive_response_message::NativeFlowResponseMessage::default()
    };
    let body = m::interactive_response_message::Body { text: Some("Feito".to_owned()), ..Default::default() };
    let reply = m::InteractiveResponseMessage {
        body: Field::some(body),
        context_info: answering("3EB0OFFER"),
        interactive_response_message: Some(flow.into()),
    };
    new(&wa::Message { interactive_response_message: Field::some(reply), ..wa::Message::default() })
}

#[test]
fn an_interactive_answer_is_a_tap_or_a_form() {
    assert_eq!(flow("quick_reply", r#"{"id":"q1"}"#).choice, Some(chosen("q1", "Feito", ChoiceKind::Button)));
    assert_eq!(flow("menu_options", r#"{"id":"m1"}"#).choice, Some(chosen("m1", "Feito", ChoiceKind::List)));
    let form = flow("flow", r#"{"nome":"Ana","ok":true}"#);
    assert_eq!(form.choice, None);
    match form.content {
        Content::Button { id, data, .. } => {
            assert_eq!((id.as_deref(), data), (Some("flow"), Some(json!({"nome": "Ana", "ok": true}))));
        }
        other => panic!("{other:?}"),
    }
    match flow("flow", "{\"a\":\"\\u0000\"}").content {
        Content::Button { data, .. } => assert!(data.expect("kept").is_string(), "no database takes NUL"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn polls_of_every_version_have_their_options() {
    let option = |name: &str| m::poll_creation_message::Option {
        option_name: Some(name.to_owned()),
        ..m::poll_creation_message::Option::default()
    };
    let poll = || {
        Field::some(m::PollCreationMessage {
            name: Some("Quando?".to_owned()),
            options: vec![option("Hoje"), option("Amanhã")],
            selectable_options_count: Some(1),
            ..m::PollCreationMessage::default()
        })
    };
    let third = wa::Message { poll_creation_message_v3: poll(), ..wa::Message::default() };
    let expected = Content::Poll {
        question: "Quando?".to_owned(),
        options: vec!["Hoje".to_owned(), "Amanhã".to_owned()],
        max_selections: Some(1),
        results: Vec::new(),
    };
    for message in [
        wa::Message { poll_creation_message: poll(), ..wa::Message::default() },
        wa::Message { poll_creation_message_v2: poll(), ..wa::Message::default() },
        wa::Message { poll_creation_message_v4: wrapped(third.clone()), ..wa::Message::default() },
        wa::Message { poll_creation_message_v5: poll(), ..wa::Message::default() },
        third,
    ] {
        let new = new(&message);
        assert_eq!((new.content, new.text.as_str()), (expected.clone(), "Quando?"));
    }
}

#[test]
fn orders_and_products_have_what_the_network_tells() {
    let order = m::OrderMessage {
        order_id: Some("77".to_owned()),
        message: Some("Dois, por favor".to_owned()),
        ..m::OrderMessage::default()
    };
    let order = new(&wa::Message { order_message: Field::some(order), ..wa::Message::default() });
    assert!(matches!(&order.content, Content::Order(of) if of.order_id.as_deref() == Some("77")));
    assert_eq!(order.text, "Dois, por favor");
    let snapshot = m::product_message::ProductSnapshot {
        product_id: Some("9".to_owned()),
        title: Some("Caneca".to_owned()),
        currency_code: Some("BRL".to_owned()),
        price_amount1000: Some(12_500),
        ..m::product_message::ProductSnapshot::default()
    };
    let product = m::ProductMessage { product: Field::some(snapshot), ..m::ProductMessage::default() };
    let product = new(&wa::Message { product_message: Field::some(product), ..wa::Message::default() });
    let item = OrderItem {
        product_id: Some("9".to_owned()),
        name: Some("Caneca".to_owned()),
        price: Some("12.5".to_owned()),
        currency: Some("BRL".to_owned()),
        ..OrderItem::default()
    };
    assert_eq!(product.content, Content::Order(Order { items: vec![item], ..Order::default() }));
    assert_eq!(product.text, "Caneca");
}

#[test]
fn kinds_without_a_form_keep_their_name_and_text() {
    let other = |kind: &str, text: &str| {
        let text = Some(text.to_owned()).filter(|text| !text.is_empty());
        Content::Other { kind: kind.to_owned(), text }
    };
    let invite = m::GroupInviteMessage { caption: Some("Entra".to_owned()), ..m::GroupInviteMessage::default() };
    let event = m::EventMessage { name: Some("Festa".to_owned()), ..m::EventMessage::default() };
    let payment =
        m::SendPaymentMessage { note_message: Field::some(text("Conta")), ..m::SendPaymentMessage::default() };
    let secret = wa::MessageContextInfo { message_secret: Some(vec![1; 32]), ..wa::MessageContextInfo::default() };
    for (message, content) in [
        (
            wa::Message { group_invite_message: Field::some(invite), ..wa::Message::default() },
            other("groupInvite", "Entra"),
        ),
        (wa::Message { event_message: Field::some(event), ..wa::Message::default() }, other("event", "Festa")),
        (
            wa::Message { send_payment_message: Field::some(payment), ..wa::Message::default() },
            other("payment", "Conta"),
        ),
        (wa::Message { message_context_info: Field::some(secret), ..wa::Message::default() }, other("unknown", "")),
    ] {
        assert_eq!(new(&message).content, content);
    }
    assert!(read(&wa::Message::default(), &envelope()).is_none(), "nothing is no message");
}

#[test]
fn a_quote_names_its_author_and_people_are_named_by_number() {
    let context = wa::ContextInfo {
        stanza_id: Some("3EB0OLD".to_owned()),
        participant: Some(format!("{PERSON_LID}@lid")),
        quoted_message: Field::some(text("Pode mandar?")),
        mentioned_jid: vec![
            "5511888887777@s.whatsapp.net".to_owned(),
            "300@lid".to_owned(),
            "400@lid".to_owned(),
            "not a jid".to_owned(),
        ],
        is_forwarded: Some(true),
        expiration: Some(86_400),
        ..wa::ContextInfo::default()
    };
    let message = wa::Message {
        extended_text_message: Field::some(m::ExtendedTextMessage {
            text: Some("Sim".to_owned()),
            context_info: Field::some(context),
            ..m::ExtendedTextMessage::default()
        }),
        ..wa::Message::default()
    };
    assert_eq!(named(&message).len(), 4, "three mentions that are addresses, and the author");
    let mut of = envelope();
    of.numbers.insert("300".to_owned(), "5511666665555".to_owned());
    let Some(What::Message(new)) = arrival(&message, &of).map(|arrival| arrival.what) else { panic!("no message") };
    let quoted = Quoted {
        from: Some(PERSON.to_owned()),
        kind: Some("text".to_owned()),
        content: Some("Pode mandar?".to_owned()),
        ..Quoted::of_id("3EB0OLD")
    };
    assert_eq!(new.reply_to, Some(quoted));
    assert_eq!(new.mentions, ["5511888887777", "5511666665555"], "a hidden id is never shown as a number");
    assert_eq!((new.forwarded, new.expires_in_seconds, &new.referral), (true, Some(86_400), &None));
}

#[test]
fn a_quote_does_not_show_what_may_be_seen_once() {
    let once = wa::Message { view_once_message_v2: wrapped(picture()), ..wa::Message::default() };
    let context = wa::ContextInfo {
        stanza_id: Some("3EB0OLD".to_owned()),
        quoted_message: Field::some(once),
        ..wa::ContextInfo::default()
    };
    let file = m::ImageMessage { context_info: Field::some(context), ..image() };
    let plain = wa::Message { image_message: Field::some(file), ..wa::Message::default() };
    let secret = wa::MessageContextInfo { message_secret: Some(vec![7; 32]), ..Default::default() };
    let wrapped = wa::Message {
        ephemeral_message: wrapped(plain.clone()),
        message_context_info: Field::some(secret),
        ..wa::Message::default()
    };
    for (message, has_secret) in [(plain, false), (wrapped, true)] {
        let new = new(&message);
        assert_eq!(new.reply_to, Some(Quoted::of_id("3EB0OLD")));
        // Nor is it kept.
        let kept = message_decode(&new.raw.expect("kept")).expect("a message");
        let context = kept.image_message.as_option().and_then(|file| file.context_info.as_option()).expect("a context");
        assert_eq!((context.stanza_id.as_deref(), context.quoted_message.is_set()), (Some("3EB0OLD"), false));
        assert_eq!(kept.message_context_info.is_set(), has_secret, "what later messages need stays");
    }
}

#[test]
fn an_ad_is_a_referral_and_a_preview_of_a_link_is_none() {
    let message = |ad: wa::context_info::ExternalAdReplyInfo| wa::Message {
        extended_text_message: Field::some(m::ExtendedTextMessage {
            text: Some("Oi".to_owned()),
            context_info: Field::some(wa::ContextInfo {
                external_ad_reply: Field::some(ad),
                ..wa::ContextInfo::default()
            }),
            ..m::ExtendedTextMessage::default()
        }),
        ..wa::Message::default()
    };
    let ad = wa::context_info::ExternalAdReplyInfo {
        title: Some("Canecas".to_owned()),
        source_id: Some("120".to_owned()),
        source_type: Some("ad".to_owned()),
        ctwa_clid: Some("ARA".to_owned()),
        ..Default::default()
    };
    let expected = json!({"headline": "Canecas", "source_id": "120", "source_type": "ad", "ctwa_clid": "ARA"});
    assert_eq!(new(&message(ad)).referral, Some(expected));
    let preview = wa::context_info::ExternalAdReplyInfo { title: Some("Página".to_owned()), ..Default::default() };
    assert_eq!(new(&message(preview)).referral, None);
}

fn key(from_me: bool, participant: Option<&str>) -> Field<wa::MessageKey> {
    Field::some(wa::MessageKey {
        id: Some("3EB0OLD".to_owned()),
        from_me: Some(from_me),
        participant: participant.map(str::to_owned),
        ..wa::MessageKey::default()
    })
}

fn protocol(protocol: m::ProtocolMessage) -> wa::Message {
    wa::Message { protocol_message: Field::some(protocol), ..wa::Message::default() }
}

#[test]
fn reactions_name_their_message() {
    let reaction = |text: &str| wa::Message {
        reaction_message: Field::some(m::ReactionMessage {
            key: key(true, None),
            text: Some(text.to_owned()),
            ..m::ReactionMessage::default()
        }),
        ..wa::Message::default()
    };
    let What::Reaction { target, emoji } = what(&reaction("👍")) else { panic!("no reaction") };
    assert_eq!((target.as_str(), emoji.as_deref()), ("3EB0OLD", Some("👍")));
    assert!(matches!(what(&reaction("")), What::Reaction { emoji: None, .. }), "it was taken back");
    let sealed = m::EncReactionMessage { target_message_key: key(true, None), ..m::EncReactionMessage::default() };
    let sealed = wa::Message { enc_reaction_message: Field::some(sealed), ..wa::Message::default() };
    assert!(read(&sealed, &envelope()).is_none(), "the library had no secret for it");
}

#[test]
fn two_changes_within_a_second_have_an_order() {
    let reaction = |at| wa::Message {
        reaction_message: Field::some(m::ReactionMessage {
            key: key(true, None),
            sender_timestamp_ms: Some(at),
            ..m::ReactionMessage::default()
        }),
        ..wa::Message::default()
    };
    for (said, sent_at) in [(1_700, 1_700), (2_000, 1_000), (999, 1_000)] {
        assert_eq!(arrival(&reaction(said), &envelope()).expect("an arrival").sent_at, sent_at, "{said}");
    }
}

#[test]
fn edits_have_the_new_text_or_caption() {
    let edit = |inner| m::ProtocolMessage {
        key: key(true, None),
        r#type: Some(m::protocol_message::Type::MESSAGE_EDIT),
        edited_message: Field::some(inner),
        ..m::ProtocolMessage::default()
    };
    let plain = protocol(edit(text("Novo")));
    let wrapper = wa::Message { edited_message: wrapped(protocol(edit(text("Novo")))), ..wa::Message::default() };
    for message in [plain, wrapper] {
        let What::Edit { target, content } = what(&message) else { panic!("no edit") };
        assert_eq!((target.as_str(), content.as_str()), ("3EB0OLD", "Novo"));
    }
    assert!(matches!(what(&protocol(edit(picture()))), What::Edit { content, .. } if content == "Olha a foto"));
}

#[test]
fn revocations_are_by_the_sender_or_by_an_administrator() {
    let revoke = |key| m::ProtocolMessage {
        key,
        r#type: Some(m::protocol_message::Type::REVOKE),
        ..m::ProtocolMessage::default()
    };
    let group = Envelope { group: Some("120363@g.us".to_owned()), ..envelope() };
    let by_admin = |key, of: &Envelope| match arrival(&protocol(revoke(key)), of).expect("an arrival").what {
        What::Revoke { by_admin, .. } => by_admin,
        other => panic!("{other:?}"),
    };
    assert!(!by_admin(key(true, None), &envelope()));
    assert!(!by_admin(key(true, Some("1@lid")), &group));
    assert!(!by_admin(key(false, Some("1@lid")), &group), "its author claims it, and not the network");
    assert!(by_admin(key(true, None), &Envelope { by_admin: true, ..group.clone() }));
    assert!(!by_admin(key(false, Some("1@lid")), &envelope()), "a chat of two has no administrator");
}

#[test]
fn traffic_of_the_network_is_no_message() {
    for kind in [
        m::protocol_message::Type::EPHEMERAL_SETTING,
        m::protocol_message::Type::HISTORY_SYNC_NOTIFICATION,
        m::protocol_message::Type::APP_STATE_SYNC_KEY_SHARE,
    ] {
        let message = protocol(m::ProtocolMessage { r#type: Some(kind), ..m::ProtocolMessage::default() });
        assert!(read(&message, &envelope()).is_none(), "{kind:?}");
    }
    let pin =
        wa::Message { pin_in_chat_message: Field::some(m::PinInChatMessage::default()), ..wa::Message::default() };
    assert!(read(&pin, &envelope()).is_none());
}

#[test]
fn a_vote_is_opened_by_its_poll_alone() {
    use whatsapp_rust::wacore::poll::{compute_option_hash, encrypt_poll_vote_with_secret};

    let secret = vec![7; 32];
    let option = |name: &str| m::poll_creation_message::Option {
        option_name: Some(name.to_owned()),
        ..m::poll_creation_message::Option::default()
    };
    let poll = |secret: &[u8]| wa::Message {
        poll_creation_message_v3: Field::some(m::PollCreationMessage {
            options: vec![option("Hoje"), option("Amanhã")],
            ..m::PollCreationMessage::default()
        }),
        message_context_info: Field::some(wa::MessageContextInfo {
            message_secret: Some(secret.to_vec()),
            ..wa::MessageContextInfo::default()
        }),
        ..wa::Message::default()
    };
    // The account's own poll; the person votes by the hidden id.
    let hashes = vec![compute_option_hash("Amanhã").to_vec()];
    let (creator, voter) = (format!("{OWN}@s.whatsapp.net"), format!("{PERSON_LID}@lid"));
    let (payload, iv) = encrypt_poll_vote_with_secret(&hashes, &secret, "3EB0OLD", &creator, &voter).expect("a vote");
    let update = m::PollUpdateMessage {
        poll_creation_message_key: key(false, None),
        vote: Field::some(m::PollEncValue { enc_payload: Some(payload), enc_iv: Some(iv.to_vec()) }),
        ..m::PollUpdateMessage::default()
    };
    let message = wa::Message { poll_update_message: Field::some(update), ..wa::Message::default() };
    let Some(Inbound::Vote(vote)) = read(&message, &envelope()) else { panic!("no vote") };
    assert_eq!(vote.poll(), "3EB0OLD");
    let opened = vote.open(&encoded(&poll(&secret))).expect("the poll's secret opens it");
    assert!(matches!(opened.what, What::PollVote { options, .. } if options == ["Amanhã"]));
    assert!(vote.open(&encoded(&poll(&[8; 32]))).is_none(), "another poll");
    assert!(vote.open(b"no message").is_none());
}
