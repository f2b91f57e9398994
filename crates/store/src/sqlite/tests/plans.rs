//! Which indexes statements use.

use std::fs;
use std::path::Path;

use recado_domain::conversation::ConversationQuery;
use rusqlite::Connection;

use super::plan;
use crate::common::inbox::{author_statements, by_user_id, closing, contacts, conversations, latest, outgoing};
use crate::conformance::inbox::owner;
use crate::fixtures::{Ground, NOW, SqliteFile};
use crate::sqlkit::both::Executor;

/// The steps that read conversations.
fn of_conversations(connection: &Connection, sql: &str) -> Vec<String> {
    let steps = plan(connection, sql);
    steps.into_iter().filter(|step| step.contains(" conversations_") || step.contains("_conversations_")).collect()
}

async fn file() -> (Ground, Connection) {
    let file = SqliteFile::new();
    let path = file.path();
    let ground = Ground::on(file).await;
    (ground, Connection::open(path).expect("a file"))
}

/// Without the right index, each message to a new chat would read all conversations of its channel.
#[tokio::test]
async fn the_conversations_of_a_chat_are_found_without_reading_others() {
    let (_ground, connection) = file().await;
    let finds = [
        "conversations_active (channel_key=? AND chat=?)",
        "conversations_closed_of_chat (channel_key=? AND chat=?)",
        "conversations_by_other_address (address=?",
        "sqlite_autoindex_conversations_1 (id=?)",
    ];
    let statements = latest::statements::<Connection>().into_iter().chain(outgoing::statements::<Connection>());
    for sql in statements.chain(contacts::ADOPT.map(str::to_owned)) {
        let steps = of_conversations(&connection, &sql);
        assert!(!steps.is_empty(), "{sql}");
        assert!(steps.iter().all(|step| finds.iter().any(|find| step.contains(find))), "{sql}: {steps:#?}");
    }
}

#[tokio::test]
async fn a_page_of_conversations_is_read_in_the_order_of_its_index() {
    let (ground, connection) = file().await;
    let indexes: [&[&str]; 5] = [
        &["conversations_by_activity"],
        &["conversations_unread"],
        &["conversations_open_of_channel", "conversations_closed_of_channel"],
        &["conversations_by_attendant"],
        &["conversations_by_contact"],
    ];
    let statements = conversations::page_statements(&ConversationQuery::of(owner(&ground), NOW, 20));
    for (sql, indexes) in statements.iter().zip(indexes) {
        let steps = of_conversations(&connection, sql);
        assert_eq!(steps.len(), indexes.len(), "{sql}: {steps:#?}");
        for index in indexes {
            assert!(steps.iter().any(|step| step.contains(&format!("INDEX {index} ("))), "{index}: {steps:#?}");
        }
    }
}

#[tokio::test]
async fn old_conversations_are_found_without_reading_younger_ones() {
    let (_ground, connection) = file().await;
    let steps = of_conversations(&connection, <Connection as Executor>::OLD_CONVERSATIONS);
    assert_eq!(steps.len(), 1, "{steps:?}");
    let find = "conversations_by_activity (institution_id=? AND environment=? AND active_at<?)";
    assert!(steps[0].contains(find), "{steps:?}");
}

#[tokio::test]
async fn conversations_of_deleted_channels_are_found_without_reading_others() {
    let (_ground, connection) = file().await;
    let steps = of_conversations(&connection, closing::DELETED_CHANNEL);
    assert!(steps.len() == 1 && steps[0].contains("conversations_open_of_channel (channel_key=?)"), "{steps:?}");
}

#[tokio::test]
async fn a_contact_is_found_by_a_user_id_without_reading_others() {
    let (_ground, connection) = file().await;
    let plan = plan(&connection, &by_user_id::<Connection>());
    assert!(plan.len() == 1 && plan[0].contains("identities_by_value (value=?"), "{plan:?}");
}

#[tokio::test]
async fn the_messages_of_an_author_are_found_without_reading_others() {
    let (_ground, connection) = file().await;
    for sql in author_statements() {
        let steps: Vec<_> = plan(&connection, &sql).into_iter().filter(|step| step.contains("incoming")).collect();
        assert!(
            steps.len() == 1 && steps[0].contains("incoming_of_contact (contact_id=? AND seq<?)"),
            "{sql}: {steps:?}"
        );
    }
}

/// The tables that grow with use.
const LARGE: [&str; 15] = [
    "accounts",
    "chats",
    "contact_grams",
    "contacts",
    "conversations",
    "deliveries",
    "early_receipts",
    "events",
    "idempotency_keys",
    "identities",
    "incoming",
    "incoming_changes",
    "incoming_media",
    "messages",
    "poll_votes",
];

/// Indexes that have few rows of a large table, and may be read from their beginning.
const SHORT: [&str; 2] = ["conversations_readdressed", "deliveries_leased"];

/// The beginnings of texts that are no whole statements.
const PARTS: [&str; 2] =
    ["SELECT k.id, k.institution_id, k.environment, k.name,", "SELECT m.seq, m.id, m.channel_key, c.id"];

/// Adds the texts of the code in a folder that are statements without parts that the code inserts.
fn add_statements(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            add_statements(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = fs::read_to_string(path).expect("a file");
            let is_statement = |text: &&str| {
                ["SELECT ", "UPDATE ", "DELETE ", "INSERT "].iter().any(|verb| text.starts_with(verb))
                    && !text.contains('{')
                    && !PARTS.iter().any(|part| text.starts_with(part))
            };
            found.extend(code.split('"').map(str::trim).filter(is_statement).map(str::to_owned));
        }
    }
}

/// The large table that a step reads from its beginning to its end.
fn scanned(sql: &str, step: &str) -> Option<&'static str> {
    let name = step.strip_prefix("SCAN ")?.split(' ').next()?;
    if sql.contains("LIMIT ") || SHORT.iter().any(|index| step.contains(index)) {
        return None;
    }
    let words = sql.split(|sign: char| !sign.is_alphanumeric() && sign != '_');
    let words: Vec<_> = words.filter(|word| !word.is_empty() && *word != "AS").collect();
    let is_so_named = |table: &str| table == name || words.windows(2).any(|pair| pair == [table, name]);
    LARGE.into_iter().find(|table| is_so_named(table))
}

#[tokio::test]
async fn no_statement_reads_all_of_a_large_table() {
    let (_ground, connection) = file().await;
    let mut statements = Vec::new();
    add_statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/common"), &mut statements);
    assert!(statements.len() > 150, "{}", statements.len());
    for sql in statements {
        for step in plan(&connection, &sql) {
            assert_eq!(scanned(&sql, &step), None, "{step}: {sql}");
        }
    }
}
