//! A page and its translation (`X.md`, `X.pt-BR.md`) state the same facts under the same headings.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::markdown::{Block, Page, heading, pages, targets};

/// The facts of a part under a heading that do not depend on the language: its level, its table rows, the targets of its
/// links, and its code. The division of sentences into paragraphs and items is free.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    level: usize,
    rows: usize,
    links: BTreeSet<String>,
    code: BTreeSet<String>,
}

#[test]
fn translations_match_their_pages() {
    let mut twins = 0;
    for page in pages() {
        let name = page.path.to_string_lossy().into_owned();
        let Some(other) = name.strip_suffix(".pt-BR.md").map(|name| PathBuf::from(format!("{name}.md"))) else {
            continue;
        };
        twins += 1;
        let other = Page::read(&other);
        let links_to = |from: &Page, to: &Page| {
            let to = to.path.file_name().expect("a name").to_string_lossy().into_owned();
            from.links().iter().any(|(_, target)| *target == to)
        };
        assert!(links_to(&page, &other) && links_to(&other, &page), "{name} and its twin link to each other");
        let (here, there) = (parts(&page), parts(&other));
        for ((heading, here), (twin, there)) in here.iter().zip(&there) {
            assert_eq!(here, there, "{name}: {heading:?} and {twin:?} differ");
        }
        assert_eq!(here.len(), there.len(), "{name}: headings");
        for (here, there) in page.blocks.iter().zip(&other.blocks) {
            assert_eq!(without_comments(here), without_comments(there), "{} and {}", here.place, there.place);
        }
        assert_eq!(page.blocks.len(), other.blocks.len(), "{name}: code blocks");
    }
    assert!(twins > 0, "no page is translated");
}

/// The parts of a page, each with its heading.
fn parts(page: &Page) -> Vec<(String, Part)> {
    let mut parts = vec![(String::new(), Part::default())];
    for (_, line) in &page.prose {
        if let Some((level, text)) = heading(line) {
            parts.push((text.to_owned(), Part { level, ..Part::default() }));
            continue;
        }
        let (_, part) = parts.last_mut().expect("there is always one");
        part.rows += usize::from(line.starts_with('|'));
        part.links.extend(targets(line).iter().map(|target| without_language(target)));
        part.code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    parts
}

/// A link's target without its language: headings are translated, and so are pages with a twin.
fn without_language(target: &str) -> String {
    if target.contains("://") {
        return target.to_owned();
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let anchor = if anchor.is_empty() { "" } else { "#" };
    format!("{}{anchor}", path.replace(".pt-BR.md", ".md"))
}

/// A block without its comments, which are translated.
fn without_comments(block: &Block) -> (String, Vec<String>) {
    let lines = block.text.lines().filter(|line| !line.trim_start().starts_with('#'));
    (block.language.clone(), lines.map(str::to_owned).collect())
}
