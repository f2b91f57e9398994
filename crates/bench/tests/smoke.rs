//! The bench measures something, and checks it: a short run of everything on few messages.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_short_run_of_everything() {
    let bench = Path::new(env!("CARGO_BIN_EXE_recado-bench"));
    // Of another package: both are built when the whole workspace is.
    let recado = bench.with_file_name("recado");
    assert!(recado.exists(), "build the whole workspace first: there is no {}", recado.display());
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("figures.json");
    let done = Command::new(bench)
        .args(["--time", "300ms", "--rounds", "1", "--backlog", "3000", "--dispatched", "500", "--channels", "40"])
        .arg("--recado")
        .arg(recado)
        .arg("--dir")
        .arg(dir.path())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let figures = report["figures"].as_array().unwrap();
    for scenario in ["accept", "dispatch", "backlog", "channels", "cloud-api"] {
        let of = figures.iter().filter(|figure| figure["scenario"] == scenario);
        assert!(of.clone().count() > 3, "{scenario}: {out}");
        for figure in of {
            assert!(figure["value"].as_f64().is_some_and(|value| value > 0.0), "{figure}");
        }
    }
}
