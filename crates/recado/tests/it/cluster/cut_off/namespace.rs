//! Private networks of a test. The test runs in one, and makes another beside it. Both belong to the test's processes alone:
//! the kernel removes them with the last of these processes, however it ends.

use std::process::{Child, Command};

/// A user other than root may have namespaces in a user namespace. Its user id stays the same there, because PostgreSQL does
/// not run as root.
const AS_A_USER: [&str; 3] = ["--user", "--map-current-user", "--keep-caps"];

/// Runs a test of this binary in its own empty network. It has its own mounts too, because mounts give the networks their
/// names.
pub fn run_in_one(test: &str) {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        command.args(AS_A_USER);
    }
    command.arg(std::env::current_exe().expect("this test")).args(["--exact", test, "--ignored", "--nocapture"]);
    let output = command.output().expect("unshare is installed");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let begun = stdout.contains("running 1 test");
    assert!(begun, "this test makes networks: run it as root with CAP_SYS_ADMIN, or where users may ({stderr})");
    println!("{stdout}");
    assert!(output.status.success(), "{stderr}");
}

fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split(' ')).output().expect("iproute2 and mount are installed");
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn ip(args: &str) {
    run("ip", args);
}

/// Another network, with a link to this one.
pub struct Namespace {
    name: &'static str,
    /// This side's end of the link.
    end: &'static str,
}

impl Namespace {
    /// This side's address.
    pub const HERE: &str = "10.0.0.1";

    pub fn new() -> Self {
        // A person may run ignored tests directly, in the machine's network, where loopback is up.
        assert!(run("ip", "-br link show lo").contains("DOWN"), "run by the other test only");
        // The names of networks are kept here; the names of other processes' networks are hidden.
        run("mount", "-t tmpfs tmpfs /run");
        let space = Self { name: "there", end: "here" };
        let Self { name, end } = space;
        ip("link set lo up");
        ip(&format!("netns add {name}"));
        ip(&format!("link add {end} type veth peer name {end} netns {name}"));
        ip(&format!("address add {}/30 dev {end}", Self::HERE));
        ip(&format!("link set {end} up"));
        for command in ["link set lo up", &format!("address add 10.0.0.2/30 dev {end}"), &format!("link set {end} up")]
        {
            ip(&format!("-n {name} {command}"));
        }
        space
    }

    /// A program in this network.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", self.name]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Drops all packets from now on, without a reset.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.end));
    }
}

/// A program that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
