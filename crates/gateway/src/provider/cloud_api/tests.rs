pub(super) mod peer;

use recado_domain::channel::UnknownPolicy;
use recado_domain::field_errors::Field;
use recado_domain::ids::{InstitutionId, MessageId};

use super::*;
use crate::store::fixtures::{Ground, SqliteFile};
use peer::{Peer, json};

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

pub(super) fn link(token: &str) -> Link {
    Link::parse(&["106540352242922", "102290129340398", token, "palavra", ""].map(Field::from)).expect("a good link")
}

fn via() -> Via {
    Via { key: 7, institution: InstitutionId::new(1, [0; 10]), id: "loja".parse().expect("a channel id") }
}

const EXPIRED: &str = r#"{"error":{"message":"Session has expired","type":"OAuthException","code":190}}"#;

async fn cloud_api() -> (Arc<CloudApi>, Peer) {
    let peer = Peer::answering(json(401, EXPIRED)).await;
    let graph = Graph::new(&peer.url, "v23.0").expect("a good address");
    let store = Ground::on(SqliteFile::new()).await.store;
    (Arc::new(CloudApi::new(graph, store)), peer)
}

#[tokio::test]
async fn a_channel_without_a_link_is_refused() {
    let (cloud_api, peer) = cloud_api().await;
    let outcome = cloud_api.send(&via(), &claimed()).await;
    assert!(matches!(&outcome, SendOutcome::ChannelRefused { reason } if reason.contains("Conecte-o")), "{outcome:?}");
    assert_eq!(peer.requests().len(), 0);
}

#[tokio::test]
async fn a_refused_token_stops_the_channel() {
    let (cloud_api, _peer) = cloud_api().await;
    cloud_api.set(7, link("velho").into());
    let outcome = cloud_api.send(&via(), &claimed()).await;
    assert!(
        matches!(&outcome, SendOutcome::ChannelRefused { reason } if reason.ends_with("(Meta 190)")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_refusal_of_an_access_that_was_replaced_does_not_stop_the_channel() {
    let (cloud_api, peer) = cloud_api().await;
    let changes: [fn(&CloudApi); 2] =
        [|cloud_api| cloud_api.set(7, link("novo").into()), |cloud_api| cloud_api.remove(7)];
    for change in changes {
        cloud_api.set(7, link("velho").into());
        peer.hold();
        let before = peer.requests().len();
        let sending = tokio::spawn({
            let cloud_api = cloud_api.clone();
            async move { cloud_api.send(&via(), &claimed()).await }
        });
        peer.until_asked(before + 1).await;
        change(&cloud_api);
        peer.let_go();
        assert_eq!(sending.await.expect("no panic"), SendOutcome::ChannelTrouble { wait: Duration::ZERO });
    }
}

#[tokio::test]
async fn links_are_kept_by_channel() {
    let (cloud_api, _peer) = cloud_api().await;
    cloud_api.set(7, link("a").into());
    cloud_api.set(8, link("b").into());
    let mut keys: Vec<_> = cloud_api.all().into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [7, 8]);
    cloud_api.remove(7);
    assert!(cloud_api.get(7).is_none() && cloud_api.get(8).is_some());
}

#[tokio::test]
async fn a_lost_answer_is_sent_again_only_where_a_person_chose_so() {
    let (cloud_api, _peer) = cloud_api().await;
    let leave = ChannelSettings { unknown_policy: UnknownPolicy::Leave, unknown_wait_seconds: 60, pipeline: 3 };
    assert_eq!(cloud_api.unanswered(&leave), Unanswered::Unknown(None));
    let resend = ChannelSettings { unknown_policy: UnknownPolicy::Resend, ..leave };
    assert_eq!(cloud_api.unanswered(&resend), Unanswered::Unknown(Some(60_000)));
    assert_eq!(cloud_api.max_in_flight(&leave), 3);
}
