//! Tests that need no network.

use futures_util::FutureExt;
use recado_domain::ids::InstitutionId;
use recado_store::fixtures::{Ground, SqliteFile, claimed};
use recado_whatsapp_web::Logins;

use crate::whatsapp_web::*;

#[tokio::test]
async fn a_message_waits_for_a_connection_that_is_not_restored_yet() {
    let store = Ground::on(SqliteFile::new()).await.store;
    let options = Options { url: None, version: None, device_name: "teste".to_owned(), logins: Logins::new(1_000) };
    let web = WhatsAppWeb::new(Context::on(store), options);
    let institution = InstitutionId::new(1, [0; 10]);
    let via = ChannelRef { key: 7, institution, id: "vendas".parse().expect("a channel id") };
    // The send must not return at once: holding the channel would outlast the opening of the connection.
    assert!(web.send(&via, &claimed()).now_or_never().is_none());
}
