//! The database dies: what was accepted is on its standby.

use std::sync::atomic::Ordering::SeqCst;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use test_postgres::{Options, Server as Postgres};

use crate::harness::Home;
use crate::load::{
    Load, Sender, card, channel_id, check, join, open_channel, phone, the_fate_can_be_asked_for, wait_until_read,
};

const CHANNELS: usize = 20;

#[test]
fn a_primary_that_is_killed_under_load_takes_no_202_along() {
    let mut primary = Postgres::start(&Options::durable());
    test_postgres::run(&primary.url("postgres"), "create database recado");
    let standby = Postgres::standby_of(&primary);
    let url = format!("postgres://recado@127.0.0.1:{},127.0.0.1:{}/recado", primary.port(), standby.port());
    let home = Home::on_postgres(&url);
    let nodes: Vec<_> = (0..2).map(|number| home.node(&format!("node{number}")).serve()).collect();
    let load = Load::new(home.unlimited_key(), Duration::from_millis(20), card);
    (0..CHANNELS).for_each(|channel| open_channel(&nodes[channel % 2], &load.key, &channel_id(channel)));
    nodes.iter().for_each(|node| load.enter(node));
    let senders = scope(|scope| {
        let run = |channel| Sender::new(channel, &load).run();
        let threads: Vec<_> = (0..CHANNELS).map(|channel| scope.spawn(move || run(channel))).collect();
        sleep(Duration::from_secs(5));
        let died = Instant::now();
        primary.kill();
        standby.promote();
        println!("the standby is the primary {:?} after the death", died.elapsed());
        sleep(Duration::from_secs(8));
        load.stop.store(true, SeqCst);
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    wait_until_read(&nodes[0], &load.key, &senders);
    check(1, &senders, &phone(&nodes[0], &load.key));
    the_fate_can_be_asked_for(&nodes[1], &load.key, &senders);
}
