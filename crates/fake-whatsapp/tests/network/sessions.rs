//! Connections that end, and those that are refused.

use fake_whatsapp::{ConnectFailure, FakeWhatsApp};
use wacore::types::events::{ConnectFailureReason, Event, TempBanReason};

use crate::harness::{ACCOUNT, Line, linked, network, wait_for};

#[tokio::test]
async fn a_connection_is_dropped_and_comes_back() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.drop_connections(ACCOUNT);
    line.until("the line to break", |event| matches!(event, Event::Disconnected(_)).then_some(())).await;
    line.connected().await;
    assert_eq!(whatsapp.counters().logins_ik, 2);
    line.stop().await;
}

#[tokio::test]
async fn a_session_is_replaced() {
    let whatsapp = network();
    let mut line = Line::up(&whatsapp).await;
    whatsapp.replace(ACCOUNT);
    line.until("being replaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await;
    line.stop().await;
}

#[tokio::test]
async fn a_second_login_replaces_the_first() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut first = Line::start(&whatsapp, store.clone()).await;
    first.connected().await;
    let mut second = Line::start(&whatsapp, store).await;
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
    let mut line = Line::start(&whatsapp, store.clone()).await;
    line.connected().await;
    whatsapp.log_out(ACCOUNT);
    let on_connect = line.until("being logged out", logged_out).await;
    assert!(!on_connect);
    line.stop().await;

    // And it does not get in again.
    let mut line = Line::start(&whatsapp, store).await;
    let on_connect = line.until("being logged out", logged_out).await;
    assert!(on_connect);
    line.stop().await;
}

fn logged_out(event: &Event) -> Option<bool> {
    match event {
        Event::LoggedOut(said) => Some(said.on_connect),
        _ => None,
    }
}

#[tokio::test]
async fn a_device_logs_itself_out() {
    let whatsapp = network();
    let store = linked(&whatsapp).await;
    let mut line = Line::start(&whatsapp, store.clone()).await;
    line.connected().await;
    line.client.logout().await;
    line.stop().await;
    let mut line = Line::start(&whatsapp, store).await;
    assert!(line.until("being logged out", logged_out).await);
    line.stop().await;
}

#[tokio::test]
async fn a_ban_for_a_time() {
    let whatsapp = network();
    whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::ban_for(3600)));
    let mut line = Line::start(&whatsapp, linked(&whatsapp).await).await;
    let ban = line.until("a ban", |event| match event {
        Event::TemporaryBan(ban) => Some((ban.code.clone(), ban.expire.num_seconds())),
        _ => None,
    });
    assert_eq!(ban.await, (TempBanReason::from(101), 3600));
    line.stop().await;
}

#[tokio::test]
async fn an_outdated_client_is_told() {
    let whatsapp = network();
    whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(405)));
    let mut line = Line::start(&whatsapp, linked(&whatsapp).await).await;
    line.until("being outdated", |event| matches!(event, Event::ClientOutdated(_)).then_some(())).await;
    line.stop().await;
}

/// 403 and 406 end a session for the library, as 401 does.
#[tokio::test]
async fn banned_accounts_are_refused() {
    for code in [403, 406, 503] {
        let whatsapp = network();
        whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(code)));
        let mut line = Line::start(&whatsapp, linked(&whatsapp).await).await;
        let reason = line.until("a refusal", |event| match event {
            Event::LoggedOut(said) => Some(said.reason),
            Event::ConnectFailure(said) => Some(said.reason),
            _ => None,
        });
        assert_eq!(reason.await, ConnectFailureReason::from(i32::from(code)));
        line.stop().await;
    }
}

#[test]
fn only_loopback_is_bound() {
    let refused = FakeWhatsApp::start_at(([0, 0, 0, 0], 0).into()).err().expect("refused");
    assert!(refused.to_string().contains("not an address of loopback"), "{refused}");
}
