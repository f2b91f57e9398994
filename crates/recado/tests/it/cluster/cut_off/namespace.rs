//! Networks of a test's own. The test runs in one, and makes another beside it. Both, and what is in them, are of the test's
//! processes alone: they are gone with the last of these, however that ends.

use std::process::{Child, Command};

/// Who is not root may have namespaces in one of users, in which they stay who they are: PostgreSQL does not run as root.
const AS_A_USER: [&str; 3] = ["--user", "--map-current-user", "--keep-caps"];

/// Runs a test of this binary in a network of its own, in which nothing is yet. Mounts of its own, too: by them networks
/// have their names.
pub fn run_in_one(test: &str) {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        command.args(AS_A_USER);
    }
    command.arg(std::env::current_exe().expect("this test")).args(["--exact", test, "--ignored", "--nocapture"]);
    let output = command.output().expect("unshare is installed");
    let [said, words] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let begun = said.contains("running 1 test");
    assert!(begun, "this test makes networks: run it as root with CAP_SYS_ADMIN, or where users may ({words})");
    println!("{said}");
    assert!(output.status.success(), "{words}");
}

fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split(' ')).output().expect("iproute2 and mount are installed");
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn ip(args: &str) {
    run("ip", args);
}

/// Another network, with a way to this one.
pub struct Namespace {
    name: &'static str,
    /// This side's end of the way.
    end: &'static str,
}

impl Namespace {
    /// This side's address.
    pub const HERE: &str = "10.0.0.1";

    pub fn new() -> Self {
        // Who runs ignored tests by hand stands in the machine's network, where loopback is up.
        assert!(run("ip", "-br link show lo").contains("DOWN"), "run by the other test only");
        // Here the names of networks are kept; others' names are none of ours.
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

    /// A program in it.
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
        // Already gone is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
