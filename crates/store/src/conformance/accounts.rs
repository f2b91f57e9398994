//! Institutions and keys.

use recado_domain::api_key::{Environment, Grant, Scope, Scopes};
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::phone::DefaultCountry;

use crate::StoreError;
use crate::fixtures::{DAY, Ground, NOW};

fn key(ground: &Ground, name: &str) -> ApiKey {
    let unique = ground.unique();
    let mut hash = [0; 32];
    hash[..10].copy_from_slice(&unique);
    let scopes: Scopes = [Scope::MessagesSend, Scope::KeysRead].into_iter().collect();
    ApiKey {
        id: ApiKeyId::new(NOW, unique),
        institution: ground.institution,
        name: name.to_owned(),
        hash,
        prefix: "oapi_sk_live_abc".to_owned(),
        grant: Grant { environment: Environment::Live, scopes, rate_limit: Some(60), expires_at: Some(NOW + DAY) },
        parent: None,
        created_at: NOW,
        last_used_at: None,
        revoked_at: None,
    }
}

async fn only_key(ground: &Ground) -> ApiKey {
    let mut keys = ground.store.api_keys().await.expect("read");
    assert_eq!(keys.len(), 1);
    keys.remove(0)
}

pub(super) async fn institutions_are_listed_oldest_first(ground: Ground) {
    let older = Institution {
        id: InstitutionId::new(NOW, [9; 10]),
        name: "Café ☕".to_owned(),
        default_country: DefaultCountry::Server,
        created_at: NOW - 1,
    };
    ground.store.create_institution(older.clone()).await.expect("stored");
    let listed = ground.store.institutions().await.expect("read");
    assert_eq!(listed[0], older);
    assert_eq!(listed[1].id, ground.institution);
    assert_eq!(listed.len(), 2);

    let again = ground.store.create_institution(older).await;
    assert!(matches!(again, Err(StoreError::Refused(_))), "{again:?}");
}

pub(super) async fn a_default_country_is_stored(ground: Ground) {
    let country = |letters: &str| DefaultCountry::Country(letters.parse().expect("a country"));
    let made = Institution {
        id: InstitutionId::new(NOW, [9; 10]),
        name: "Lisboa".to_owned(),
        default_country: country("PT"),
        created_at: NOW + 1,
    };
    ground.store.create_institution(made.clone()).await.expect("stored");
    let countries = async || {
        let listed = ground.store.institutions().await.expect("read");
        listed.into_iter().map(|institution| institution.default_country).collect::<Vec<_>>()
    };
    assert_eq!(countries().await, [DefaultCountry::Server, country("PT")]);
    for set in [country("BR"), DefaultCountry::None, DefaultCountry::Server] {
        assert!(ground.store.set_default_country(ground.institution, set).await.expect("stored"));
        assert_eq!(countries().await, [set, country("PT")], "the other institution keeps its own");
    }
    let unknown = InstitutionId::new(NOW, [7; 10]);
    assert!(!ground.store.set_default_country(unknown, country("BR")).await.expect("asked"));
    assert_eq!(countries().await, [DefaultCountry::Server, country("PT")]);
}

pub(super) async fn a_key_comes_back_as_it_was_made(ground: Ground) {
    let limited = key(&ground, "caixa");
    let mut unlimited = key(&ground, "tudo");
    unlimited.created_at = NOW + 1;
    unlimited.grant =
        Grant { environment: Environment::Test, scopes: Scopes::all(), rate_limit: None, expires_at: None };
    for new in [&unlimited, &limited] {
        ground.store.create_api_key(new.clone()).await.expect("stored");
    }
    assert_eq!(ground.store.api_keys().await.expect("read"), [limited, unlimited], "oldest first");
}

pub(super) async fn a_key_hash_exists_once(ground: Ground) {
    let first = key(&ground, "um");
    let second = ApiKey { hash: first.hash, ..key(&ground, "dois") };
    ground.store.create_api_key(first.clone()).await.expect("stored");
    let refused = ground.store.create_api_key(second).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(only_key(&ground).await, first);
}

pub(super) async fn a_revoked_key_keeps_its_first_time(ground: Ground) {
    let key = key(&ground, "caixa");
    ground.store.create_api_key(key.clone()).await.expect("stored");
    ground.store.revoke_api_key(key.id, NOW + 1).await.expect("stored");
    ground.store.revoke_api_key(key.id, NOW + 2).await.expect("stored");
    assert_eq!(only_key(&ground).await, ApiKey { revoked_at: Some(NOW + 1), ..key });
    let unknown = ApiKeyId::new(NOW, [7; 10]);
    ground.store.revoke_api_key(unknown, NOW).await.expect("nothing to revoke is no error");
}

pub(super) async fn a_key_ends_with_the_one_that_made_it(ground: Ground) {
    let [root, other] = ["raiz", "outra"].map(|name| key(&ground, name));
    let child = ApiKey { parent: Some(root.id), ..key(&ground, "filha") };
    let grandchild = ApiKey { parent: Some(child.id), ..key(&ground, "neta") };
    let sister = ApiKey { parent: Some(root.id), ..key(&ground, "irma") };
    for new in [&root, &other, &child, &grandchild, &sister] {
        ground.store.create_api_key(new.clone()).await.expect("stored");
    }
    let revoked = async || {
        let keys = ground.store.api_keys().await.expect("read");
        assert!(keys.iter().any(|found| found.parent == Some(child.id)), "a parent comes back");
        let mut ended: Vec<_> = keys.into_iter().filter_map(|key| Some((key.name, key.revoked_at?))).collect();
        ended.sort();
        ended
    };
    ground.store.revoke_api_key(child.id, NOW + 1).await.expect("stored");
    assert_eq!(revoked().await, [("filha".to_owned(), NOW + 1), ("neta".to_owned(), NOW + 1)]);
    ground.store.revoke_api_key(root.id, NOW + 2).await.expect("stored");
    let all = [("filha", 1), ("irma", 2), ("neta", 1), ("raiz", 2)].map(|(name, at)| (name.to_owned(), NOW + at));
    assert_eq!(revoked().await, all, "the other key goes on");
}

pub(super) async fn uses_of_keys_are_noted(ground: Ground) {
    let (used, unused) = (key(&ground, "usada"), key(&ground, "parada"));
    for new in [&used, &unused] {
        ground.store.create_api_key(new.clone()).await.expect("stored");
    }
    let unknown = ApiKeyId::new(NOW, [7; 10]);
    ground.store.touch_api_keys(vec![(unknown, NOW), (used.id, NOW + 5)]).await.expect("stored");
    let keys = ground.store.api_keys().await.expect("read");
    assert_eq!(keys, [ApiKey { last_used_at: Some(NOW + 5), ..used }, unused]);
}
