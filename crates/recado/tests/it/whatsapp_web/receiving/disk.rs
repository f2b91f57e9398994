//! A full disk withholds the acknowledgement: the network keeps what cannot be stored.

use std::thread::sleep;
use std::time::Duration;

use super::Inbox;
use crate::disk::{Ballast, SmallDisk};
use crate::harness::{Home, wait_for};
use crate::whatsapp_web::{MARIA, OWNER, Stage, owner};

/// Messages while the disk is full: more than what is free by chance.
const MESSAGES: usize = 20;

#[test]
fn a_full_disk_withholds_the_acknowledgement() {
    let disk = SmallDisk::mount();
    let stage = Stage::set_in(Home::init_in(&disk.dir), 0);
    stage.link("vendas", &owner());
    let inbox = Inbox::of(stage);
    let whatsapp = &inbox.stage.whatsapp;
    whatsapp.say(MARIA, OWNER, "antes").expect("sent");
    inbox.until_received(1);
    wait_for("its acknowledgement", || whatsapp.unconfirmed(OWNER) == 0);

    let mut ballast = Ballast::new(&disk.dir);
    ballast.fill();
    wait_for("/health/ready to be red", || {
        ballast.fill();
        inbox.stage.server.get("/health/ready", None).status == 503
    });
    let sent: Vec<_> =
        (0..MESSAGES).map(|n| whatsapp.say(MARIA, OWNER, &format!("cheio {n}")).expect("sent")).collect();
    for _ in 0..20 {
        sleep(Duration::from_millis(100));
        ballast.fill();
    }
    let done = whatsapp.acknowledged();
    let stored = sent.iter().filter(|id| done.iter().any(|done| done.id == **id)).count();
    assert_eq!(stored, 0, "acknowledged while nothing could be stored");

    drop(ballast);
    wait_for("/health/ready to be green again", || inbox.stage.server.get("/health/ready", None).status == 200);
    let received = inbox.until_received(MESSAGES + 1);
    wait_for("the acknowledgements", || whatsapp.unconfirmed(OWNER) == 0);
    let ids: Vec<_> = received[1..].iter().map(|message| message["networkId"].clone()).collect();
    assert_eq!(ids, sent);
    assert_eq!((inbox.listed("vendas").len(), inbox.events("message.received").len()), (MESSAGES + 1, MESSAGES + 1));
}
