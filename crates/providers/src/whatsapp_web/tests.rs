//! What needs no network.

use futures_util::FutureExt;
use recado_domain::ids::{InstitutionId, MessageId};
use recado_store::clock::{SystemClock, SystemEntropy};
use recado_store::fixtures::{Ground, SqliteFile};
use recado_whatsapp_web::Logins;

use crate::whatsapp_web::*;

#[tokio::test]
async fn a_message_waits_for_a_line_that_is_not_taken_up_yet() {
    let store = Ground::on(SqliteFile::new()).await.store;
    let secrets = Arc::new(KeyRing::default());
    let options = Options { url: None, version: None, device_name: "teste".to_owned(), logins: Logins::new(1_000) };
    let web =
        WhatsAppWeb::new(store, secrets, (Arc::new(SystemClock), Arc::new(SystemEntropy)), options, Leases::alone());
    let institution = InstitutionId::new(1, [0; 10]);
    let via = Via { key: 7, institution, id: "vendas".parse().expect("a channel id") };
    // At once there is nothing to say: a hold of the channel would outlast the line's coming up.
    assert!(web.send(&via, &claimed()).now_or_never().is_none());
}

fn claimed() -> Claimed {
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
        recipient_holds: 0,
        unanswered: false,
        resent: false,
    }
}
