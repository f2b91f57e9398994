//! The bench measures and checks: a short run of every scenario with few messages.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs the bench, and returns its figures.
fn measure(arguments: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("figures.json");
    let done = bench(dir.path(), &[arguments, &["--json", json.to_str().unwrap()]].concat());
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    report["figures"].as_array().unwrap().clone()
}

fn bench(dir: &Path, arguments: &[&str]) -> Output {
    let bench = Path::new(env!("CARGO_BIN_EXE_recado-bench"));
    // Built with the whole workspace, because it belongs to another package.
    let recado = bench.with_file_name("recado");
    assert!(recado.exists(), "build the whole workspace first: there is no {}", recado.display());
    let mut bench = Command::new(bench);
    bench.args(["--time", "300ms", "--rounds", "1"]).arg("--recado").arg(recado).arg("--dir").arg(dir);
    bench.args(arguments).output().unwrap()
}

#[test]
fn a_short_run_of_everything() {
    let figures = measure(&["--backlog", "3000", "--dispatched", "500", "--channels", "40"]);
    for scenario in ["accept", "dispatch", "backlog", "channels", "cloud-api"] {
        let of = figures.iter().filter(|figure| figure["scenario"] == scenario);
        assert!(of.clone().count() > 3, "{scenario}: {figures:#?}");
        for figure in of {
            assert!(figure["value"].as_f64().is_some_and(|value| value > 0.0), "{figure}");
        }
    }
}

#[test]
fn a_short_run_on_postgres() {
    let few = ["--backlog", "21000", "--dispatched", "300", "--channels", "40"];
    let figures = measure(&[&["--engine", "postgres", "backlog", "channels", "nodes"], &few[..]].concat());
    for scenario in ["backlog", "channels", "nodes"] {
        let of = figures.iter().filter(|figure| figure["scenario"] == scenario);
        assert!(of.clone().count() > 3, "{scenario}: {figures:#?}");
        for figure in of {
            assert!(figure["value"].as_f64().is_some_and(|value| value > 0.0), "{figure}");
        }
    }
}

#[cfg(not(feature = "whatsapp-web"))]
#[test]
fn a_build_without_whatsapp_web_refuses_its_channels() {
    let dir = tempfile::tempdir().unwrap();
    let done = bench(dir.path(), &["whatsapp-web"]);
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && output.contains("./dev bench whatsapp-web"), "{output}");
}

#[cfg(feature = "whatsapp-web")]
#[test]
fn a_short_run_of_whatsapp_web() {
    let baileys = std::env::var("RECADO_TEST_BAILEYS").expect("RECADO_TEST_BAILEYS: `./dev test` sets it");
    let figures = measure(&["whatsapp-web", "--sessions", "3", "--baileys", &baileys]);
    let value = |what: &str| {
        let figure = figures.iter().find(|figure| figure["what"].as_str().unwrap().starts_with(what));
        figure.unwrap_or_else(|| panic!("no {what}: {figures:#?}"))["value"].as_f64().unwrap()
    };
    for what in ["first start of 3", "from then until all are up", "processor time", "memory, idle"] {
        assert!(value(what) > 0.0, "{what}");
    }
    // The figures of so few sessions are not checked, because memory pages come and go.
    for what in ["memory, each further of 3, idle", "memory, each further of 3, after a card", "Baileys: memory, each"]
    {
        assert!(value(what).is_finite(), "{what}");
    }
}
