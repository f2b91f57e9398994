pub(super) mod peer;

use recado_domain::channel::types::cloud_api::{Settings, UnknownPolicy};
use recado_domain::field_errors::Field;
use recado_domain::ids::InstitutionId;
use recado_store::fixtures::{Ground, SqliteFile, claimed};

use crate::cloud_api::tests::peer::{Peer, json};
use crate::cloud_api::*;

pub(super) fn link(token: &str) -> Link {
    Link::parse(&["106540352242922", "102290129340398", token, "palavra", ""].map(Field::from), None)
        .expect("a good link")
}

fn via() -> ChannelRef {
    ChannelRef { key: 7, institution: InstitutionId::new(1, [0; 10]), id: "loja".parse().expect("a channel id") }
}

const EXPIRED: &str = r#"{"error":{"message":"Session has expired","type":"OAuthException","code":190}}"#;

async fn cloud_api() -> (Arc<CloudApi>, Peer) {
    let peer = Peer::answering(json(401, EXPIRED)).await;
    let graph = Graph::new(&peer.url, "v23.0").expect("a good address");
    let store = Ground::on(SqliteFile::new()).await.store;
    (Arc::new(CloudApi::new(graph, Context::on(store))), peer)
}

#[test]
fn a_purged_message_is_quoted_by_metas_id_or_not_at_all() {
    let purged = |network_id: &str| {
        let quoted = Quoted { network_id: network_id.to_owned(), remote_id: None, is_unknown: false, content: None };
        meta_id(quoted).expect("the message that quotes it is sent")
    };
    assert_eq!(purged("wamid.7"), Some("wamid.7".to_owned()));
    assert_eq!(purged("01a2085f-07eb-7913-a5da-c9ff5fe6d655"), None, "it was purged before Meta's id was known here");
}

#[tokio::test]
async fn a_channel_without_a_link_is_refused() {
    let (cloud_api, peer) = cloud_api().await;
    let outcome = cloud_api.send(&via(), &claimed()).await;
    assert!(matches!(&outcome, SendOutcome::ChannelDisabled { reason } if reason.starts_with(UNUSABLE)), "{outcome:?}");
    assert_eq!(peer.requests().len(), 0);
}

#[tokio::test]
async fn a_refused_token_stops_the_channel() {
    let (cloud_api, _peer) = cloud_api().await;
    cloud_api.set(7, link("velho").into());
    let outcome = cloud_api.send(&via(), &claimed()).await;
    assert!(
        matches!(&outcome, SendOutcome::ChannelDisabled { reason } if reason.ends_with("(Meta 190)")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_refusal_of_replaced_credentials_does_not_pause_the_channel() {
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
        peer.release();
        assert_eq!(sending.await.expect("no panic"), SendOutcome::ChannelUnavailable { wait: Duration::ZERO });
    }
}

#[tokio::test]
async fn links_are_found_by_channel_number_and_app() {
    let link = |number: &str, secret: &str| {
        let fields = [number, "102290129340398", "token", "palavra", secret].map(Field::from);
        Arc::new(Link::parse(&fields, None).expect("a good link"))
    };
    let (cloud_api, _peer) = cloud_api().await;
    cloud_api.set_all(vec![(7, link("1", "a")), (8, link("1", "b")), (9, link("2", "a")), (10, link("2", ""))]);
    let of_number = |number| cloud_api.of_number(number).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!((of_number("1"), of_number("2"), of_number("3")), (vec![7, 8], vec![9], vec![]));
    assert_eq!(cloud_api.apps().len(), 2);
    assert!(cloud_api.verifies(Fingerprint::of("palavra")) && !cloud_api.verifies(Fingerprint::of("outra")));
    cloud_api.remove(8);
    cloud_api.set(9, link("1", "a"));
    assert!(cloud_api.get(8).is_none() && cloud_api.get(7).is_some());
    assert_eq!((of_number("1"), of_number("2"), cloud_api.apps().len()), (vec![7, 9], vec![], 1));
    let many = (0..100).map(|n: i64| (100 + n, link("5", &format!("app-{n}")))).collect();
    cloud_api.set_all(many);
    // The channels belong to ten institutions.
    let institution = |channel: ChannelKey| Some(InstitutionId::new(1, [u8::try_from(channel % 10).expect("few"); 10]));
    let apps = one_of_each_app(cloud_api.apps(), institution);
    assert!(apps.len() == APPS && apps[0].is_of_the_app_of(&link("1", "a")), "the eldest stay");
    let alone = one_of_each_app(cloud_api.apps(), |_| None);
    assert_eq!(alone.len(), APPS_OF_ONE, "one institution displaces no other");
}

/// An institution that links 64 apps, even with another's account id, must not displace the app of the number.
#[tokio::test]
async fn the_apps_of_a_number_come_before_apps_that_claim_its_account() {
    let link = |number: &str, secret: &str| {
        let fields = [number, "102290129340398", "token", "palavra", secret].map(Field::from);
        Arc::new(Link::parse(&fields, None).expect("a good link"))
    };
    let (cloud_api, _peer) = cloud_api().await;
    cloud_api.set_all((0..100).map(|n| (n, link("5", &format!("app-{n}")))).collect());
    cloud_api.set(200, link("2", "ours"));
    let body = br#"{"entry":[{"id":"102290129340398","changes":[{"value":{"metadata":{"phone_number_id" : "2"}}}]}]}"#;
    let apps = one_of_each_app(cloud_api.apps_of(&callback::ids(body)), |channel| {
        Some(InstitutionId::new(1, [u8::from(channel == 200); 10]))
    });
    assert!(apps.len() == 1 + APPS_OF_ONE && apps[0].is_of_the_app_of(&link("2", "ours")), "{}", apps.len());
}

#[tokio::test]
async fn a_message_without_an_answer_is_sent_again_only_if_the_setting_says_so() {
    let (cloud_api, _peer) = cloud_api().await;
    let settings =
        Settings { unknown_policy: UnknownPolicy::Leave, unknown_wait_seconds: 60, pipeline: 3, ..Settings::default() };
    let leave = ChannelSettings::CloudApi(settings.clone());
    assert_eq!(cloud_api.unanswered(&leave), UnknownOutcomePolicy::MarkUnknown(None));
    let resend = ChannelSettings::CloudApi(Settings { unknown_policy: UnknownPolicy::Resend, ..settings });
    assert_eq!(cloud_api.unanswered(&resend), UnknownOutcomePolicy::MarkUnknown(Some(60_000)));
    assert_eq!(cloud_api.max_in_flight(&leave), 3);
}
