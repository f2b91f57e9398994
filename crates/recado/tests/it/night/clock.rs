//! A clock that a test steps while the server runs.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The real-time clock of the commands that it is given to.
pub struct SteppedClock {
    library: PathBuf,
    shift: PathBuf,
}

impl SteppedClock {
    /// Compiles the library in a directory.
    pub fn new(dir: &Path) -> Self {
        let (library, shift) = (dir.join("clock.so"), dir.join("shift"));
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-o"]).arg(&library).stdin(Stdio::piped());
        let mut compiler = command.spawn().expect("cc is installed: Rust links with it");
        let source = include_bytes!("clock.c");
        compiler.stdin.take().expect("piped").write_all(source).expect("cc reads it");
        assert!(compiler.wait().expect("cc ends").success(), "clock.c does not compile");
        let clock = Self { library, shift };
        std::fs::write(&clock.shift, 0_i64.to_ne_bytes()).expect("written");
        clock
    }

    /// Gives this clock to a command.
    pub fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT", &self.shift);
    }

    /// Sets the clock this many seconds away from the right time.
    pub fn step(&self, seconds: i64) {
        let file = File::options().write(true).open(&self.shift).expect("the file is there");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("written");
    }
}
