//! Numbers are read as Google's library reads them, except those in `phone/exceptions.rs`.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use recado_domain::phone::exceptions::{AREAS, EXCEPTIONS, READINGS};
use recado_domain::phone::{Country, PhoneNumber};
use serde_json::json;

/// 10,000 numbers of 60 countries in twelve notations. `RECADO_TEST_SEED` chooses others.
#[test]
fn numbers_are_read_as_google_reads_them() {
    let seed = env::var("RECADO_TEST_SEED").unwrap_or_else(|_| "1".to_owned());
    println!("RECADO_TEST_SEED={seed}");
    let made = python(&["make", &seed], "");
    let mut read = String::new();
    for line in made.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let [_, default, _, text] = cells[..] else { panic!("the script printed {line:?}") };
        let country: Option<Country> = (default != "-").then(|| default.parse().expect("a country"));
        let digits = PhoneNumber::parse(text, country);
        writeln!(read, "{}\t{line}", digits.as_ref().map_or("-", PhoneNumber::digits)).expect("a text");
    }
    let countries: BTreeMap<_, _> = EXCEPTIONS.iter().map(|one| (one.code, one.forms)).collect();
    let readings: Vec<_> = READINGS.iter().map(|one| one.name).collect();
    let exceptions = json!({ "countries": countries, "areas": AREAS.as_slice(), "readings": readings }).to_string();
    println!("{}", python(&["judge", &exceptions], &read));
}

/// Runs the script. The test fails if the script fails or finds a difference.
fn python(arguments: &[&str], input: &str) -> String {
    let python = env::var_os("RECADO_TEST_PYTHON");
    let python =
        python.expect("RECADO_TEST_PYTHON names a Python with the package phonenumbers; `./dev test` installs it");
    let script = "tests/numbers.py";
    let mut command = Command::new(python);
    command.env("PYTHONIOENCODING", "utf-8").arg(script).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("Python starts");
    // A script that ended early reports the reason below.
    drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("UTF-8")
}
