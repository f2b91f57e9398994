//! Diagrams that are generated from the code, between two comments of the page, like the tables; and the length of the page
//! that contains them.

use std::collections::{BTreeMap, BTreeSet};

use recado_domain::status::MessageStatus;

use super::markdown::{Page, root};
use super::tables::assert_table;
use crate::architecture::CRATES;

const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// A dependency on another crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Dependency {
    on: String,
    optional: bool,
}

/// The crates of the workspace by their folders, each with its dependencies.
type Crates = BTreeMap<String, BTreeSet<Dependency>>;

/// One test for both diagrams, because they are written into one page.
#[test]
fn the_diagrams_are_those_of_the_code() {
    assert_table(ARCHITECTURE, "crates", &crates_diagram(&crates()));
    assert_table(ARCHITECTURE, "states", &states_diagram());
}

#[test]
fn the_product_needs_nothing_that_is_for_development() {
    for (name, dependencies) in crates().iter().filter(|(name, _)| CRATES.contains(&name.as_str())) {
        let other = dependencies.iter().find(|dependency| !dependency.optional && !CRATES.contains(&&*dependency.on));
        assert_eq!(other, None, "{name} is of the product");
    }
}

fn crates_diagram(crates: &Crates) -> String {
    let all = crates.iter().flat_map(|(name, dependencies)| dependencies.iter().map(move |one| (name, one)));
    let arrows = all.filter(|(name, dependency)| !follows(crates, name, dependency)).map(|(name, dependency)| {
        let arrow = if dependency.optional { "-.->" } else { "-->" };
        format!("    {name} {arrow} {}\n", dependency.on)
    });
    block("flowchart TD", arrows)
}

fn states_diagram() -> String {
    let all = MessageStatus::ALL;
    let pairs = all.into_iter().flat_map(|from| all.into_iter().map(move |to| (from, to)));
    let moves = pairs.filter(|(from, to)| from.may_become(*to, true)).map(|(from, to)| {
        let guard = if from.may_become(to, false) { "" } else { ": after an attempt" };
        format!("    {} --> {}{guard}\n", from.name(), to.name())
    });
    let is_final = |from: &MessageStatus| !all.into_iter().any(|to| from.may_become(to, true));
    let ends = all.into_iter().filter(is_final).map(|status| format!("    {} --> [*]\n", status.name()));
    let begin = format!("    [*] --> {}\n", MessageStatus::Queued.name());
    block("stateDiagram-v2", [begin].into_iter().chain(moves).chain(ends))
}

/// The page is read before a first change, so a longer text belongs in a comment, another page or an ADR.
#[test]
fn the_architecture_is_short() {
    let text = std::fs::read_to_string(root().join(ARCHITECTURE)).expect("the page");
    let words = text.split_whitespace().count();
    assert!(words <= 3_000, "{ARCHITECTURE} has {words} words");
}

/// A moved file breaks its link; one more file in the walk of a message needs a reason.
#[test]
fn a_message_passes_few_files() {
    let page = Page::read(ARCHITECTURE.as_ref());
    let walk = page.prose.iter().skip_while(|(_, line)| line != "## The walk of a message").skip(1);
    let walk = walk.take_while(|(_, line)| !line.starts_with("## "));
    let files = walk.flat_map(|(_, line)| super::markdown::targets(line)).collect::<BTreeSet<_>>();
    assert!((10..=MOST_FILES).contains(&files.len()), "{} files: {files:?}", files.len());
}

/// The current number of files in the walk of a message.
const MOST_FILES: usize = 17;

#[test]
fn an_arrow_that_follows_from_others_is_left_out() {
    let dependency = |on: &str, optional| Dependency { on: on.to_owned(), optional };
    let crates = Crates::from([
        ("a".to_owned(), [dependency("b", false), dependency("c", false), dependency("d", true)].into()),
        ("b".to_owned(), [dependency("c", false), dependency("d", true)].into()),
    ]);
    assert!(follows(&crates, "a", &dependency("c", false)));
    assert!(follows(&crates, "a", &dependency("d", true)), "by way of an optional one");
    assert!(!follows(&crates, "a", &dependency("b", false)));
    let needed = Crates::from([
        ("a".to_owned(), [dependency("b", true), dependency("c", false)].into()),
        ("b".to_owned(), [dependency("c", false)].into()),
    ]);
    assert!(!follows(&needed, "a", &dependency("c", false)), "a needs it without b as well");
}

/// A Mermaid diagram of these lines.
fn block(kind: &str, lines: impl Iterator<Item = String>) -> String {
    format!("```mermaid\n{kind}\n{}```\n", lines.collect::<String>())
}

/// Whether a crate has a dependency through another one.
fn follows(crates: &Crates, name: &str, dependency: &Dependency) -> bool {
    let of = |name: &str| crates.get(name).into_iter().flatten();
    let mut next: Vec<&Dependency> = of(name).filter(|other| other.on != dependency.on).collect();
    let mut seen = BTreeSet::new();
    while let Some(other) = next.pop() {
        // A required dependency does not follow from an optional one.
        if (other.optional && !dependency.optional) || !seen.insert(other) {
            continue;
        }
        if other.on == dependency.on {
            return true;
        }
        next.extend(of(&other.on));
    }
    false
}

fn crates() -> Crates {
    let folder = root().join("crates");
    let entries = std::fs::read_dir(&folder).expect("the crates").map(|entry| entry.expect("an entry").path());
    let manifests: Vec<(String, String)> = entries
        .filter_map(|path| {
            let folder = path.file_name()?.to_string_lossy().into_owned();
            Some((folder, std::fs::read_to_string(path.join("Cargo.toml")).ok()?))
        })
        .collect();
    let folders: BTreeMap<&str, &str> =
        manifests.iter().map(|(folder, manifest)| (package(manifest), folder.as_str())).collect();
    let crates: Crates =
        manifests.iter().map(|(folder, manifest)| (folder.clone(), dependencies(manifest, &folders))).collect();
    assert!(CRATES.iter().all(|name| crates.contains_key(*name)), "{crates:?}");
    crates
}

/// The name of a manifest's package.
fn package(manifest: &str) -> &str {
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \""));
    name.and_then(|name| name.split('"').next()).expect("a package has a name")
}

/// The lines of `[dependencies]` that name packages of the workspace, without those of tests and build scripts.
fn dependencies(manifest: &str, folders: &BTreeMap<&str, &str>) -> BTreeSet<Dependency> {
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let dependency = |line: &str| {
        let on = folders.get(line.split(['.', ' ']).next()?)?;
        Some(Dependency { on: (*on).to_owned(), optional: line.contains("optional = true") })
    };
    lines.filter_map(dependency).collect()
}
