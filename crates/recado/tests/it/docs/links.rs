//! Every link leads somewhere.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::markdown::{Page, pages, root};

#[test]
fn every_link_leads_to_an_existing_file_and_heading() {
    let mut broken = Vec::new();
    for page in pages() {
        let links = page.links();
        broken.extend(links.iter().filter_map(|(line, target)| {
            fault(&page, target).map(|fault| format!("{}:{line}: {target}: {fault}", page.path.display()))
        }));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The error of a link.
fn fault(page: &Page, target: &str) -> Option<&'static str> {
    if target.contains("://") {
        // Other hosts are not called: a test must not depend on another server.
        let host = target.strip_prefix("https://").and_then(|rest| rest.split('/').next());
        let whole = host.is_some_and(|host| host.contains('.')) && !target.contains(char::is_whitespace);
        return (!whole).then_some("not the shape of an https address");
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { page.path.clone() } else { resolved(page, path) };
    if !root().join(&path).exists() {
        return Some("no such file");
    }
    let missing = |anchor: &str| !Page::read(&path).anchors().iter().any(|known| known == anchor);
    anchor.is_some_and(missing).then_some("no such heading")
}

/// A path as the page writes it, from the root of the repository.
fn resolved(page: &Page, path: &str) -> PathBuf {
    let mut resolved = page.path.parent().unwrap_or(Path::new("")).to_owned();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            resolved.pop();
        } else {
            resolved.push(part);
        }
    }
    resolved
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached: HashSet<PathBuf> = HashSet::new();
    let mut next = vec![PathBuf::from("README.md")];
    while let Some(path) = next.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        let page = Page::read(&path);
        let targets = page.links().into_iter().map(|(_, target)| target);
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = resolved(&page, target.split('#').next().unwrap_or_default());
            if root().join(&path).is_dir() {
                next.extend(pages().into_iter().map(|page| page.path).filter(|page| page.starts_with(&path)));
            } else if path.extension().is_some_and(|extension| extension == "md") {
                next.push(path);
            }
        }
    }
    let lost: Vec<_> = pages().into_iter().map(|page| page.path).filter(|path| !reached.contains(path)).collect();
    assert!(lost.is_empty(), "no page that the README leads to has a link to {lost:?}");
}
