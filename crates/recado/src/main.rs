//! The `recado` command.

use std::process::ExitCode;

use recado_cli::{end, parse, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    end(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(cli)))).into()
}
