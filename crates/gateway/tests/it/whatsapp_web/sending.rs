//! Cards through linked phones: what arrives, and what becomes of what does not.

use super::{KNOWN, MARIA, Stage, TYPED};

/// The card of the document that users code against, as its recipient's phone reads it.
fn card(account: &str) -> String {
    format!(
        "BEGIN:VCARD\nVERSION:3.0\nN:;Maria Silva - Suporte;;;\nFN:Maria Silva - Suporte\n\
         TEL;type=CELL;type=VOICE;waid={account}:+{TYPED}\nEND:VCARD"
    )
}

#[test]
fn the_seeds_card_arrives_with_the_account_of_its_phone() {
    let stage = Stage::linked();
    let id = stage.accept("vendas", MARIA);
    let message = stage.until("vendas", &id, "READ");
    assert!(message["sentAt"].is_string() && message["deliveredAt"].is_string(), "{message}");
    let inbox = stage.whatsapp.inbox();
    let [received] = &inbox[..] else { panic!("{inbox:?}") };
    assert_eq!(received.id, message["networkId"]);
    assert_eq!(received.to, MARIA);
    assert_eq!(received.display_name(), Some("Maria Silva - Suporte"));
    assert_eq!(received.vcard(), Some(&*card(KNOWN)));
    assert_eq!(message["account"], MARIA);
    assert_eq!(message["card"], serde_json::json!({"waid": KNOWN, "source": "NETWORK"}));
}
