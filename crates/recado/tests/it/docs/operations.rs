//! The commands of `docs/operations.md` run as they are written and in their order, from a fresh machine on, with its users,
//! owners and modes.

use std::path::Path;
use std::process::Command;

use super::markdown::{Page, root};
use crate::harness::recado;

#[test]
fn the_operators_commands_run_in_their_order() {
    let page = Page::read(Path::new("docs/operations.md"));
    let commands: Vec<&str> =
        page.blocks.iter().filter(|block| block.language == "console").map(|block| &*block.text).collect();
    assert!(commands.len() > 5, "only {} blocks of commands", commands.len());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("commands");
    std::fs::write(&file, commands.concat()).expect("a file");
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).expect("a directory");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "bash"]);
    command.arg(root().join("crates/recado/tests/it/docs/operations.sh"));
    command.arg(&tree).arg(recado().get_program()).arg(root()).arg(&file);
    let output = command.output().expect("unshare starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stderr));
}
