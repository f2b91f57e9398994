//! The commands of `docs/operations.md` run as they are written and in their order, from a fresh machine on, with its users,
//! owners and modes.

use std::path::Path;

use super::machine;
use super::markdown::Page;

#[test]
fn the_operators_commands_run_in_their_order() {
    let page = Page::read(Path::new("docs/operations.md"));
    let commands = machine::commands(&page);
    assert!(commands.len() > 5, "only {} blocks of commands", commands.len());
    machine::run("operations.sh", |file| std::fs::write(file, commands.concat()).expect("a file"));
}
