//! What needs no network.

use futures_util::FutureExt;
use recado_domain::ids::InstitutionId;
use recado_store::fixtures::{Ground, SqliteFile, claimed};
use recado_whatsapp_web::Logins;

use crate::whatsapp_web::*;

#[tokio::test]
async fn a_message_waits_for_a_line_that_is_not_taken_up_yet() {
    let store = Ground::on(SqliteFile::new()).await.store;
    let options = Options { url: None, version: None, device_name: "teste".to_owned(), logins: Logins::new(1_000) };
    let web = WhatsAppWeb::new(Context::on(store), options);
    let institution = InstitutionId::new(1, [0; 10]);
    let via = ChannelRef { key: 7, institution, id: "vendas".parse().expect("a channel id") };
    // At once there is nothing to say: a hold of the channel would outlast the line's coming up.
    assert!(web.send(&via, &claimed()).now_or_never().is_none());
}
