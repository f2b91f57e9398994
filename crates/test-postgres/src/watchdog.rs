//! Ends a server when its owner is gone, however the owner ended.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Reads the server's process id: a line at each start, and an empty one when the server has ended. The input ends when the
/// owner ends; then the script ends the server and deletes the folder. After QUIT, the server saves nothing but frees its
/// shared memory, which a killed server leaves behind. Its children may write a moment longer. A frozen server, and its
/// children, get the signal only when they continue.
const SCRIPT: &str = r#"
while read -r line; do server=$line; done
if [ -n "$server" ] && kill -QUIT "$server"; then
    for stat in /proc/[0-9]*/stat; do
        read -r pid name state parent rest <"$stat" && [ "$parent" = "$server" ] && kill -CONT "$pid"
    done
    kill -CONT "$server"
    tries=0
    while [ $tries -lt 100 ] && kill -0 "$server" && ! grep -q '^State:.Z' "/proc/$server/status"; do
        tries=$((tries + 1))
        sleep 0.05
    done
    kill -KILL "$server"
fi
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" && break; sleep 0.2; done
"#;

/// A process that survives its owner for a moment.
pub struct Watchdog {
    process: Child,
    /// `None` after the order to end.
    line: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts a watchdog for a folder.
    pub fn start(folder: &Path) -> Self {
        let mut process = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(folder)
            // A process group of its own: a killed test is killed with its group.
            .process_group(0)
            .stdin(Stdio::piped())
            // The runner reports a test as leaky if its output stays open.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let line = process.stdin.take();
        Self { process, line }
    }

    /// Sets the process to kill at the end.
    pub fn watch(&mut self, server: Option<u32>) {
        let text = server.map_or_else(String::new, |pid| pid.to_string());
        writeln!(self.line.as_mut().expect("it was not ended"), "{text}").expect("the watchdog listens");
    }

    /// Kills and deletes now.
    pub fn end(&mut self) {
        drop(self.line.take());
        self.process.wait().expect("the watchdog ends");
    }
}
