//! The Markdown of this repository, parsed as far as the tests here need it.

use std::path::{Path, PathBuf};

/// The root of the repository. Tests run in the folder of their package.
pub fn root() -> PathBuf {
    Path::new("../..").canonicalize().expect("the repository is there")
}

/// A Markdown file.
pub struct Page {
    /// The path from the root of the repository.
    pub path: PathBuf,
    pub blocks: Vec<Block>,
    /// The lines outside of code blocks, with their numbers.
    pub prose: Vec<(usize, String)>,
}

/// A fenced code block.
pub struct Block {
    /// The position of its first line: `file:line`, for messages.
    pub place: String,
    pub language: String,
    pub text: String,
}

/// Every page of the repository.
pub fn pages() -> Vec<Page> {
    let root = root();
    let mut found = Vec::new();
    collect(&root, "md", &mut found);
    assert!(found.len() > 5, "{found:?}");
    found.iter().map(|file| Page::read(file.strip_prefix(&root).expect("under the root"))).collect()
}

/// The files below a folder with this extension, sorted by path, without hidden and generated files.
pub fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !["target", "data", "node_modules"].contains(&&*name) {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

impl Page {
    /// Reads a page, whose path starts at the root of the repository.
    pub fn read(path: &Path) -> Self {
        let name = path.display();
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut page = Self { path: path.to_owned(), blocks: Vec::new(), prose: Vec::new() };
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let fence = line.trim_start().strip_prefix("```");
            open = match (open, fence) {
                (None, Some(language)) => {
                    let (place, language) = (format!("{name}:{number}"), language.trim().to_owned());
                    Some(Block { place, language, text: String::new() })
                }
                (None, None) => {
                    page.prose.push((number, line.to_owned()));
                    None
                }
                (Some(block), Some(_)) => {
                    page.blocks.push(block);
                    None
                }
                (Some(mut block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    Some(block)
                }
            };
        }
        assert!(open.is_none(), "{name}: a code block has no end");
        page
    }

    /// The headings: their level, and their text.
    pub fn headings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.prose.iter().filter_map(|(_, line)| heading(line))
    }

    /// The anchors that GitHub gives to the headings.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, text) in self.headings() {
            let slug = slug(text);
            let used = anchors.iter().filter(|anchor| **anchor == slug).count();
            anchors.push(if used == 0 { slug } else { format!("{slug}-{used}") });
        }
        anchors
    }

    /// The targets of the links, with the number of their line.
    pub fn links(&self) -> Vec<(usize, String)> {
        let lines = self.prose.iter();
        lines.flat_map(|(number, line)| targets(line).into_iter().map(move |target| (*number, target))).collect()
    }
}

/// Level and text of a line that is a heading.
pub fn heading(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level).then(|| text.strip_prefix(' ')).flatten().map(|text| (level, text.trim()))
}

/// GitHub's anchor of a heading: lower case, letters of any alphabet, digits, `-` and `_`; spaces become `-`.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of the links in a line of prose. Text in backticks contains no links.
pub fn targets(line: &str) -> Vec<String> {
    let outside_of_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
    let after = outside_of_code.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

#[test]
fn markdown_is_parsed_as_github_does() {
    assert_eq!(slug("Cópia de segurança e restauração"), "cópia-de-segurança-e-restauração");
    assert_eq!(slug("`GET /v1`: what, & why?"), "get-v1-what--why");
    assert_eq!(heading("## Two words "), Some((2, "Two words")));
    assert_eq!((heading("#none"), heading("plain")), (None, None));
    assert_eq!(targets("[a](b.md#c) and `[no](link)` and [`d`](e)"), ["b.md#c", "e"]);
}
