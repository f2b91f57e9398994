//! The commands of `docs/nodes.md` run as they are written, on two nodes and a PostgreSQL with TLS, and on a server that moves
//! to PostgreSQL.

use std::path::Path;

use super::machine;
use super::markdown::Page;

#[test]
fn the_commands_of_several_nodes_run() {
    let page = Page::read(Path::new("docs/nodes.md"));
    let commands = machine::commands(&page);
    assert_eq!(commands.len(), 5, "nodes.sh runs five blocks");
    let variables = page.blocks.iter().find(|block| block.text.starts_with("RECADO_DATABASE_URL"));
    machine::run("nodes.sh", |blocks| {
        std::fs::create_dir(blocks).expect("a directory");
        for (n, block) in commands.iter().enumerate() {
            std::fs::write(blocks.join((n + 1).to_string()), block).expect("a file");
        }
        std::fs::write(blocks.join("env"), &variables.expect("the variables of a node").text).expect("a file");
    });
}
