//! Reads stanzas.

use wacore_binary::NodeRef;

/// The address of the network itself.
pub const HOST: &str = "s.whatsapp.net";

/// An attribute as text; empty if it is missing.
pub fn attr(node: &NodeRef<'_>, name: &str) -> String {
    node.get_attr(name).map(|value| value.as_str().into_owned()).unwrap_or_default()
}

/// The bytes of a node; empty if it or they are missing.
pub fn content(node: Option<&NodeRef<'_>>) -> Vec<u8> {
    node.and_then(NodeRef::content_bytes).unwrap_or_default().to_vec()
}

/// A number in the big-endian bytes of a node.
pub fn number(node: Option<&NodeRef<'_>>) -> u32 {
    content(node).iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

/// A stanza in one line: its tag, its attributes, and the tags of its children.
pub fn brief(node: &NodeRef<'_>) -> String {
    let attributes: Vec<String> =
        node.attrs_iter().map(|(name, value)| format!("{}={}", name.as_ref() as &str, value.as_str())).collect();
    let inside: Vec<String> =
        node.children().into_iter().flatten().map(|child| child.tag.as_ref().to_owned()).collect();
    format!("<{} {}> [{}]", node.tag.as_ref() as &str, attributes.join(" "), inside.join(","))
}
