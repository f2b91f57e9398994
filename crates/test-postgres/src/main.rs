//! `test-postgres run COMMAND…`: runs a command beside a shared server, and ends with the exit code of the command.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use test_postgres::{Options, Server, URL_VARIABLE};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [word, program, rest @ ..] = &*arguments else { usage() };
    if word != "run" {
        usage();
    }
    // Before the server starts: from here on only the end of the command ends this process.
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal can be caught");
    let mut terminate = signal(SignalKind::terminate()).expect("a signal can be caught");
    let server = Server::start(&Options::default());
    let mut command = Command::new(program);
    command.args(rest).env(URL_VARIABLE, server.url("postgres"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    let ended = tokio::task::spawn_blocking(move || child.wait().expect("it is our child"));
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            status = &mut ended => break status.expect("waiting does not panic"),
            // The command gets the signal from the terminal, too, and decides when to end.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    };
    drop(server);
    std::process::exit(code(status));
}

/// The exit code as a shell reports it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn usage() -> ! {
    eprintln!("usage: test-postgres run COMMAND [ARG...]");
    std::process::exit(2);
}
