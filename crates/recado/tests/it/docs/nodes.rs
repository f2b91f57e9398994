//! The commands of `docs/nodes.md` run as they are written, on two nodes and a PostgreSQL with TLS, and on a server that moves
//! to PostgreSQL.

use std::path::Path;
use std::process::Command;

use super::markdown::{Page, root};
use crate::harness::recado;

#[test]
fn the_commands_of_several_nodes_run() {
    let page = Page::read(Path::new("docs/nodes.md"));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let blocks = folder.path().join("blocks");
    std::fs::create_dir(&blocks).expect("a directory");
    let commands = page.blocks.iter().filter(|block| block.language == "console");
    for (n, block) in commands.enumerate() {
        std::fs::write(blocks.join((n + 1).to_string()), &block.text).expect("a file");
    }
    assert!(!blocks.join("6").exists() && blocks.join("5").exists(), "nodes.sh runs five blocks");
    let variables = page.blocks.iter().find(|block| block.text.starts_with("RECADO_DATABASE_URL"));
    std::fs::write(blocks.join("env"), &variables.expect("the variables of a node").text).expect("a file");
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "bash"]);
    command.arg(root().join("crates/recado/tests/it/docs/nodes.sh"));
    command.arg(&tree).arg(recado().get_program()).arg(root()).arg(&blocks);
    let output = command.output().expect("unshare starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stderr));
}
