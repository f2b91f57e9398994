//! Connections that end, and those that are refused.

use fake_whatsapp::{ConnectFailure, FakeWhatsApp};
use wacore::types::events::{ConnectFailureReason, Event, TempBanReason};

use crate::harness::{ACCOUNT, TestSession, linked, network, wait_for};

#[tokio::test]
async fn a_dropped_connection_is_reopened() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.drop_connections(ACCOUNT);
    session.until("the connection to break", |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    session.connected().await;
    assert_eq!(whatsapp.counters().logins_ik, 2);
    session.stop().await;
}

#[tokio::test]
async fn a_session_is_replaced() {
    let whatsapp = network();
    let mut session = TestSession::up(&whatsapp).await;
    whatsapp.replace(ACCOUNT);
    session.until("being replaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await;
    session.stop().await;
}

#[tokio::test]
async fn a_second_login_replaces_the_first() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut first = TestSession::start(&whatsapp, store.clone()).await;
    first.connected().await;
    let mut second = TestSession::start(&whatsapp, store).await;
    first.until("being replaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await;
    second.connected().await;
    wait_for("the second to take messages", || whatsapp.is_online(ACCOUNT)).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_session_is_logged_out_while_it_lives() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut session = TestSession::start(&whatsapp, store.clone()).await;
    session.connected().await;
    whatsapp.log_out(ACCOUNT);
    let on_connect = session.until("being logged out", logged_out).await;
    assert!(!on_connect);
    session.stop().await;

    // It cannot log in again.
    let mut session = TestSession::start(&whatsapp, store).await;
    let on_connect = session.until("being logged out", logged_out).await;
    assert!(on_connect);
    session.stop().await;
}

fn logged_out(event: &Event) -> Option<bool> {
    match event {
        Event::LoggedOut(reason) => Some(reason.on_connect),
        _ => None,
    }
}

#[tokio::test]
async fn a_device_logs_itself_out() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut session = TestSession::start(&whatsapp, store.clone()).await;
    session.connected().await;
    session.client.logout().await;
    session.stop().await;
    let mut session = TestSession::start(&whatsapp, store).await;
    assert!(session.until("being logged out", logged_out).await);
    session.stop().await;
}

#[tokio::test]
async fn a_ban_for_a_time() {
    let whatsapp = network();
    whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::ban_for(3600)));
    let mut session = TestSession::start(&whatsapp, linked(&whatsapp).await).await;
    let ban = session.until("a ban", |event| match event {
        Event::TemporaryBan(ban) => Some((ban.code.clone(), ban.expire.num_seconds())),
        _ => None,
    });
    assert_eq!(ban.await, (TempBanReason::from(101), 3600));
    session.stop().await;
}

#[tokio::test]
async fn an_outdated_client_is_notified() {
    let whatsapp = network();
    whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(405)));
    let mut session = TestSession::start(&whatsapp, linked(&whatsapp).await).await;
    session.until("being outdated", |event| matches!(event, Event::ClientOutdated(_)).then_some(())).await;
    session.stop().await;
}

/// For the library, 403 and 406 end a session as 401 does.
#[tokio::test]
async fn banned_accounts_are_refused() {
    for code in [403, 406, 503] {
        let whatsapp = network();
        whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(code)));
        let mut session = TestSession::start(&whatsapp, linked(&whatsapp).await).await;
        let reason = session.until("a refusal", |event| match event {
            Event::LoggedOut(failure) => Some(failure.reason),
            Event::ConnectFailure(failure) => Some(failure.reason),
            _ => None,
        });
        assert_eq!(reason.await, ConnectFailureReason::from(i32::from(code)));
        session.stop().await;
    }
}

#[test]
fn only_loopback_is_bound() {
    let refused = FakeWhatsApp::start_at(([0, 0, 0, 0], 0).into()).err().expect("refused");
    assert!(refused.to_string().contains("not an address of loopback"), "{refused}");
}
