use recado_domain::ids::MessageId;

use crate::store::rows::Claimed;

/// The card of the published example, claimed for the first time.
pub(super) fn claimed() -> Claimed {
    Claimed {
        seq: 1,
        id: MessageId::new(1, [7; 10]),
        network_id: "3EB0".to_owned(),
        recipient: "5511999998888".to_owned(),
        payload: r#"{"to":"5511999998888","type":"contact","contact":{"name":"Maria","phone":"5511988887777"}}"#
            .to_owned(),
        card: "BEGIN:VCARD".to_owned(),
        card_account: None,
        scenario: None,
        attempts: 1,
        failures: 0,
    }
}
