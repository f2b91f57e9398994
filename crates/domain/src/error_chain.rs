//! An error with its causes. The text of an error alone often says little: hyper and the database name the cause only as the
//! source.

use std::error::Error;

/// An error and its causes.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The texts of an error and its causes, joined. Some errors repeat the text of their cause in their own: it is there once.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in chain(error).map(ToString::to_string) {
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Inner(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no connection: {0}")]
    struct Outer(#[source] Inner);

    #[test]
    fn a_text_that_names_its_cause_is_not_followed_by_the_same_text() {
        let error = Outer(Inner(std::io::Error::other("refused")));
        assert_eq!(causes(&error), "no connection: cannot connect: refused");
    }
}
