//! Extracts the two files of Swagger UI that `/docs` serves from their archive.
//!
//! The archive contains them deflated, and gzip wraps deflated data. They are wrapped again without decompression, so no
//! library is needed, and only these two files reach the binary.

use std::path::Path;

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = std::env::var("OUT_DIR").expect("cargo names the folder");
    for name in ["swagger-ui.css", "swagger-ui-bundle.js"] {
        let file = gzip(&format!("/dist/{name}")).unwrap_or_else(|| panic!("the archive has no {name}, deflated"));
        std::fs::write(Path::new(&out).join(format!("{name}.gz")), file).expect("the folder can be written");
    }
}

/// The file whose path in the archive has this end, as gzip (RFC 1952).
fn gzip(ends: &str) -> Option<Vec<u8>> {
    // The last record names the offset of the archive's directory (APPNOTE.TXT 4.3.16). A comment may follow it.
    let end = ARCHIVE.windows(4).rposition(|bytes| bytes == b"PK\x05\x06")?;
    let mut entry = number(ARCHIVE, end + 16, 4);
    // The entries of the directory (4.3.12).
    while number(ARCHIVE, entry, 4) == 0x0201_4b50 {
        let name_length = number(ARCHIVE, entry + 28, 2);
        let name = &ARCHIVE[entry + 46..][..name_length];
        if name.ends_with(ends.as_bytes()) && !name.windows(9).any(|part| part == b"/flavors/") {
            return deflated(entry);
        }
        entry += 46 + name_length + number(ARCHIVE, entry + 30, 2) + number(ARCHIVE, entry + 32, 2);
    }
    None
}

fn deflated(entry: usize) -> Option<Vec<u8>> {
    if number(ARCHIVE, entry + 10, 2) != 8 {
        return None;
    }
    let (length, local) = (number(ARCHIVE, entry + 20, 4), number(ARCHIVE, entry + 42, 4));
    let data = local + 30 + number(ARCHIVE, local + 26, 2) + number(ARCHIVE, local + 28, 2);
    // No name, no time, an unknown system; then the data; then its checksum and its size before compression.
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    file.extend(&ARCHIVE[data..][..length]);
    file.extend(&ARCHIVE[entry + 16..][..4]);
    file.extend(&ARCHIVE[entry + 24..][..4]);
    Some(file)
}

/// A little-endian number of the archive.
fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..][..length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
