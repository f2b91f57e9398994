//! Fresh machines, on which the commands of a page are typed.

use std::path::Path;
use std::process::Command;

use super::markdown::{Page, root};
use crate::harness::recado;

/// The commands of a page, block by block.
pub fn commands(page: &Page) -> Vec<&str> {
    page.blocks.iter().filter(|block| block.language == "console").map(|block| &*block.text).collect()
}

/// Runs a script of this folder in namespaces of its own. Its arguments are a directory for the machines, the binary, the
/// repository, and what `write` has written to a path: the commands.
#[track_caller]
pub fn run(script: &str, write: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let (tree, commands) = (folder.path().join("tree"), folder.path().join("commands"));
    std::fs::create_dir(&tree).expect("a directory");
    write(&commands);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "bash"]);
    command.arg(root().join("crates/recado/tests/it/docs").join(script));
    command.arg(&tree).arg(recado().get_program()).arg(root()).arg(&commands);
    let output = command.output().expect("unshare starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    println!("{}", text(&output.stderr));
}
