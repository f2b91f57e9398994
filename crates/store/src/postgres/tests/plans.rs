//! Which indexes the statements of conversations use, on a store with many of them.

use std::sync::Arc;

use recado_domain::conversation::ConversationQuery;
use test_postgres::run;
use tokio_postgres::Client;

use crate::common::inbox::{author_statements, by_user_id, closing, contacts, conversations, latest, outgoing};
use crate::conformance::inbox::owner;
use crate::fixtures::{Ground, NOW, PgDatabase};
use crate::sqlkit::both::Executor;
use crate::sqlkit::postgres::db::Db;
use crate::sqlkit::postgres::hosts::Hosts;

/// How PostgreSQL executes a statement with these values.
async fn plan(client: &Client, sql: &str, values: &[&str]) -> String {
    let mut sql = sql.to_owned();
    for (n, value) in values.iter().enumerate().rev() {
        sql = sql.replace(&format!("?{}", n + 1), value);
    }
    let rows = client.query(&format!("EXPLAIN (COSTS OFF) {sql}"), &[]).await.expect("planned");
    rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
}

/// A channel with many conversations, half of them closed, many identities, and many messages of 500 people.
async fn filled(database: &PgDatabase, ground: &Ground) -> (Client, String, String) {
    let channel = ground.channel("loja").await;
    let institution = "(SELECT id FROM institutions)";
    let fill = format!(
        "INSERT INTO conversations (id, institution_id, environment, channel_key, chat_kind, chat, address, status, unread,
                                    windowed, created_at, updated_at, active_at, closed_at, contact_id, assigned_to)
         SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), {institution}, 'live', {channel}, 'direct', (n / 2)::text,
                (n / 2)::text || CASE WHEN n % 7 = 0 THEN '0' ELSE '' END, 'OPEN', n % 2, false, n, n, n,
                CASE WHEN n % 2 = 0 THEN n END, decode(lpad(to_hex(n), 32, '0'), 'hex'), (n % 500)::text
         FROM generate_series(1, 40000) n;
         INSERT INTO identities (institution_id, environment, kind, scope, value, contact_id)
         SELECT {institution}, 'live', 'phone', '', n::text, decode(lpad(to_hex(n), 32, '0'), 'hex')
         FROM generate_series(1, 40000) n;
         INSERT INTO incoming (id, channel_key, conversation_id, contact_id, direction, network_id, body, sent_at,
                               received_at, updated_at)
         SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), {channel}, decode(lpad(to_hex(n), 32, '0'), 'hex'),
                decode(lpad(to_hex(n % 500), 32, '0'), 'hex'), 'INBOUND', n::text, '', n, n, n
         FROM generate_series(1, 40000) n;
         ANALYZE conversations; ANALYZE identities; ANALYZE incoming; ANALYZE channels; ANALYZE institutions"
    );
    run(database.direct_url(), &fill);
    let (client, connection) =
        Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    let hex = "SELECT quote_literal(id) || '::bytea' FROM institutions";
    let institution = client.query_one(hex, &[]).await.expect("asked").get(0);
    (client, channel.to_string(), institution)
}

#[tokio::test]
async fn no_statement_of_conversations_reads_all_of_them() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let (client, channel, institution) = filled(&database, &ground).await;
    let pairs = format!("'[[{channel},\"77\"],[{channel},\"78\"]]'");
    let mut plans = Vec::new();
    let statements = latest::statements::<Db<'_>>();
    for (n, sql) in statements.iter().enumerate() {
        let values: &[&str] = if n < 3 { &[&*channel, "'77'"] } else { &["'77'", &*institution, "'live'"] };
        plans.push((sql.clone(), plan(&client, sql, values).await));
    }
    for sql in outgoing::statements::<Db<'_>>() {
        let plan = plan(&client, &sql, &[&*pairs]).await;
        plans.push((sql, plan));
    }
    let sql = by_user_id::<Db<'_>>();
    plans.push((sql.clone(), plan(&client, &sql, &["'77'", "'phone'", &*institution, "'live'"]).await));
    let sql = <Db<'_> as Executor>::OLD_CONVERSATIONS.to_owned();
    plans.push((sql.clone(), plan(&client, &sql, &["100", "50"]).await));
    let contact = "'\\x000000000000000000000000000000aa'::bytea";
    for sql in contacts::ADOPT {
        let plan = plan(&client, sql, &["'contact'", contact, "'77'", &*institution, "'live'"]).await;
        plans.push((sql.to_owned(), plan));
    }
    let sql = closing::DELETED_CHANNEL.to_owned();
    plans.push((sql.clone(), plan(&client, &sql, &[]).await));
    let pages = conversations::page_statements(&ConversationQuery::of(owner(&ground), NOW, 20));
    let asked = [
        &*institution,
        "'live'",
        contact,
        "'77'",
        &*channel,
        "30000",
        contact,
        "21",
        "NULL",
        "NULL",
        "0",
        "NULL::bigint",
        "21",
    ];
    for sql in pages {
        let plan = plan(&client, &sql, &asked).await;
        plans.push((sql, plan));
    }
    for sql in author_statements() {
        let plan = plan(&client, &sql, &[contact, "30000", "1000", &*channel, "21"]).await;
        assert!(plan.contains("incoming_of_contact"), "{sql}\n{plan}");
    }
    for (sql, plan) in plans {
        let reads_all = ["Seq Scan on conversations", "Seq Scan on identities"].iter().any(|scan| plan.contains(scan));
        assert!(!reads_all && plan.contains("Index"), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn a_join_does_not_read_all_conversations_before_the_first_statistics() {
    let database = Arc::new(PgDatabase::new());
    let ground = Ground::on(database.clone()).await;
    let channel = ground.channel("loja").await;
    let fill = format!(
        "ALTER TABLE conversations SET (autovacuum_enabled = false);
         INSERT INTO conversations (id, institution_id, environment, channel_key, chat_kind, chat, address, status, unread,
                                    windowed, created_at, updated_at, active_at, closed_at)
         SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), i.id, 'live', {channel}, 'direct', (n / 2)::text, (n / 2)::text, 'OPEN',
                0, false, n, n, n, CASE WHEN n % 2 = 0 THEN n END
         FROM institutions i, generate_series(1, 10000) n"
    );
    run(database.direct_url(), &fill);
    let (client, connection) =
        Hosts::parse(database.direct_url(), "").expect("a URL").connect().await.expect("connected");
    tokio::spawn(connection);
    let pairs = format!("'[[{channel},\"77\"],[{channel},\"78\"]]'");
    for sql in outgoing::statements::<Db<'_>>() {
        let plan = plan(&client, &sql, &[&*pairs]).await;
        assert!(plan.contains("Index Scan") && !plan.contains("Seq Scan on conversations"), "{sql}\n{plan}");
    }
}
