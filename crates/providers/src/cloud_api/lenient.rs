//! Reads JSON of which only the outer form is known: a value is parsed when it is needed, and an odd one is as good as none.
//!
//! No method recurses, whatever the depth of the JSON, and no list fills the memory.

use std::collections::HashMap;
use std::fmt;

use recado_domain::clock::Millis;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The Unix time before WhatsApp existed. Nothing that Meta reports can be older.
const BEFORE_WHATSAPP: i64 = 1_230_768_000;

/// A value that is parsed later.
pub(super) type Later<'a> = Option<&'a RawValue>;

/// The value as this type.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// A number, or a number as text: Meta writes both.
pub(super) fn number(raw: &RawValue) -> Option<i64> {
    let text = raw.get();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).parse().ok()
}

/// A time in Unix seconds, as milliseconds; `None` if it is missing or impossible.
pub(super) fn seconds(timestamp: Later<'_>) -> Option<Millis> {
    timestamp.and_then(number).filter(|seconds| *seconds >= BEFORE_WHATSAPP)?.checked_mul(1_000)
}

/// Whether the text consists of digits.
pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Calls `take` with each element of a list; `false` if the value is no list.
pub(super) fn elements<'a>(list: &'a RawValue, take: impl FnMut(&'a RawValue)) -> bool {
    // The brackets were matched when the body was parsed, so the only possible error is that it is not a list.
    serde_json::Deserializer::from_str(list.get()).deserialize_seq(Elements(take)).is_ok()
}

/// Reads a list element by element, so that a hostile list of a million elements fills no memory.
struct Elements<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

/// The fields of an object. Of a repeated field the last one counts.
pub(super) struct Object<'a>(HashMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// `None` if the value is no object.
    pub(super) fn read(raw: &'a RawValue) -> Option<Self> {
        read(raw).map(Self)
    }

    /// A field that is there, and not `null`.
    pub(super) fn raw(&self, key: &str) -> Later<'a> {
        self.0.get(key).copied().filter(|raw| raw.get() != "null")
    }

    /// A field of this type.
    pub(super) fn value<T: Deserialize<'a>>(&self, key: &str) -> Option<T> {
        self.raw(key).and_then(read)
    }

    /// A text. One of invalid Unicode is none.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.value(key)
    }

    /// A text that is not empty.
    pub(super) fn filled(&self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// A text for which this holds.
    pub(super) fn text_if(&self, key: &str, holds: impl Fn(&str) -> bool) -> Option<String> {
        self.text(key).filter(|text| holds(text))
    }

    /// Whether the field is `true`.
    pub(super) fn is(&self, key: &str) -> bool {
        self.raw(key).is_some_and(|raw| raw.get() == "true")
    }

    /// A field that is an object.
    pub(super) fn object(&self, key: &str) -> Option<Self> {
        self.raw(key).and_then(Self::read)
    }

    /// The first objects of a list.
    pub(super) fn objects(&self, key: &str, most: usize) -> Vec<Self> {
        let mut objects = Vec::new();
        if let Some(list) = self.raw(key) {
            elements(list, |element| {
                if objects.len() < most {
                    objects.extend(Self::read(element));
                }
            });
        }
        objects
    }
}
