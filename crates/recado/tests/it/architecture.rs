//! The direction of dependencies: within a crate no two top-level modules depend on each other, and modules that serve
//! callers name no engine of the store. Differences between channel types are only in their descriptors and drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::docs::markdown::{collect, root};

/// The crates of the product.
pub const CRATES: [&str; 6] = ["domain", "store", "providers", "gateway", "recado", "whatsapp-web"];

/// For each module the other modules that it names.
type Graph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_modules_depend_on_each_other() {
    for name in CRATES {
        let graph = graph(&root().join("crates").join(name).join("src"));
        assert!(graph.len() > 1, "{name}: {graph:?}");
        for module in graph.keys() {
            let path = path_back_to(&graph, module);
            assert!(
                path.is_none(),
                "{name}: the modules depend on each other: {}",
                path.unwrap_or_default().join(" -> ")
            );
        }
    }
}

#[test]
fn a_cycle_is_found() {
    let edges = [("a", "b"), ("b", "c"), ("c", "b")];
    let mut graph = Graph::new();
    for (from, to) in edges {
        graph.entry(from.to_owned()).or_default().insert(to.to_owned());
    }
    assert_eq!(path_back_to(&graph, "a"), None);
    assert_eq!(path_back_to(&graph, "b"), Some(["b", "c", "b"].map(str::to_owned).to_vec()));
    let source = "use crate::{log, server::Limits};\nfn f() { crate::api::run() } // crate::cli\n#[cfg(test)]\nmod tests {\n    use crate::fixtures;\n}\n";
    assert_eq!(named(source), ["api", "log", "server"].map(str::to_owned).into());
}

#[test]
fn neither_the_api_nor_the_cluster_names_an_engine() {
    let engines = ["recado_store::sqlite", "recado_store::postgres", "recado_store::sqlkit"];
    for module in ["api", "cluster"] {
        for (path, source) in sources(&root().join("crates/gateway/src").join(module)) {
            let named = engines.iter().find(|engine| source.contains(*engine));
            assert!(named.is_none(), "{} names {}", path.display(), named.unwrap_or(&""));
        }
    }
}

#[test]
fn only_the_registries_name_channel_types() {
    for name in ["store", "providers", "gateway", "recado"] {
        let src = root().join("crates").join(name).join("src");
        // The registry of drivers.
        let registry = root().join("crates/providers/src/lib.rs");
        for (path, source) in sources(&src).into_iter().filter(|(path, _)| *path != registry) {
            let types = channel_types(&source);
            assert!(types.is_empty(), "{} names {types:?}: ask the descriptor or the driver", path.display());
        }
    }
}

#[test]
fn a_channel_type_is_found() {
    let source = "f(ChannelType::ALL, ChannelType::name);\nif kind == ChannelType::Fax {}\nuse ChannelSettings::*;\n\
                  // ChannelType::Telex\n#[cfg(test)]\nmod tests {\n    f(ChannelType::Telex);\n}\n";
    assert_eq!(channel_types(source), ["Fax", "*"]);
}

/// The first run selects tests by their names. A test behind its feature that it does not select would run nowhere.
#[test]
fn tests_that_need_the_first_build_are_selected_by_its_run() {
    let config = fs::read_to_string(root().join(".config/nextest.toml")).expect("the configuration");
    let (_, profile) = config.split_once("[profile.whatsapp-web]").expect("the profile");
    let filter = profile.split("'''").nth(1).expect("its filter");
    let patterns = filter.split("test(").skip(1).filter_map(|rest| rest.split(')').next());
    let selected: Vec<_> = patterns.map(|pattern| pattern.trim_matches(['/', '^', ':'])).collect();
    let (mut paths, mut found) = (Vec::new(), 0);
    collect(&root().join("crates"), "rs", &mut paths);
    for path in paths.iter().filter(|path| path.iter().any(|part| part == "tests")) {
        let source = fs::read_to_string(path).expect("a source file");
        for gated in source.split("#[cfg(feature = \"danger-loopback\")]\n").skip(1) {
            let module = gated.trim_start().strip_prefix("mod ").expect("a module");
            let name = module.split([' ', ';']).next().expect("a name");
            assert!(selected.contains(&name), "no run has {name} of {}: {selected:?}", path.display());
            found += 1;
        }
    }
    assert!(found >= 4, "{found} modules");
}

/// The channel types that a source names.
fn channel_types(source: &str) -> Vec<String> {
    let code = code(source);
    let named = ["ChannelType::", "ChannelSettings::"].into_iter().flat_map(|name| code.split(name).skip(1));
    let is_type =
        |word: &String| word == "*" || word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase);
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '*')).collect();
    named.map(word).filter(is_type).collect()
}

/// A path of modules from one back to itself, if there is one.
fn path_back_to(graph: &Graph, module: &str) -> Option<Vec<String>> {
    let mut paths = vec![vec![module.to_owned()]];
    let mut seen = BTreeSet::new();
    while let Some(path) = paths.pop() {
        for next in graph.get(path.last()?).into_iter().flatten() {
            let mut path = path.clone();
            path.push(next.clone());
            if next == module {
                return Some(path);
            }
            if seen.insert(next.clone()) {
                paths.push(path);
            }
        }
    }
    None
}

/// The top-level modules of a crate. Tests are left out, because they may name any module.
fn graph(src: &Path) -> Graph {
    let mut graph = Graph::new();
    for (path, source) in sources(src) {
        let path = path.strip_prefix(src).expect("a file of the crate").with_extension("");
        let mut parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        let Some(module) = parts.next().filter(|module| module != "lib" && module != "main") else { continue };
        graph.entry(module).or_default().extend(named(&source));
    }
    let modules: BTreeSet<_> = graph.keys().cloned().collect();
    for (module, edges) in &mut graph {
        edges.retain(|edge| edge != module && modules.contains(edge));
    }
    graph
}

/// The sources below a folder, without tests.
fn sources(src: &Path) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    collect(src, "rs", &mut paths);
    let of_tests = ["tests", "conformance", "fixtures", "queue_model", "shared_batches", "two_nodes"];
    let is_test = |path: &PathBuf| path.with_extension("").iter().any(|part| of_tests.iter().any(|test| part == *test));
    let product = paths.into_iter().filter(|path| !is_test(path));
    product.map(|path| (path.clone(), fs::read_to_string(&path).expect("a source file"))).collect()
}

/// A source without its tests and comments.
fn code(source: &str) -> String {
    let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code: Vec<_> = product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    code.join("\n")
}

/// The top-level modules that a source names.
fn named(source: &str) -> BTreeSet<String> {
    let code = code(source);
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{').and_then(|list| list.split("};").next()) {
            Some(list) => named.extend(list.split(',').map(|item| word(item.trim()))),
            None => drop(named.insert(word(rest))),
        }
    }
    named.remove("");
    named
}
