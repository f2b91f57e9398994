//! The `recado` command.

use std::process::ExitCode;

use recado_cli::parse;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    recado_cli::main(parse()).into()
}
