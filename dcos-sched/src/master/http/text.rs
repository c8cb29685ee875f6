//! Writing JSON straight into bytes, key by key: a cluster's state is hundreds of megabytes, and
//! a tree of it in between would take several times that.

use dcos_proto::json::{Dialect, Json, append, append_text};
use serde::Serialize;

/// An object that is being written.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

/// Appends an object.
pub(crate) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    fill(&mut Object { out, empty: true });
    out.push(b'}');
}

/// Appends a list of what `write` makes of each item.
pub(crate) fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    items_of(out, items, write);
    out.push(b']');
}

/// Appends the items of a list, with commas between.
pub(crate) fn items_of<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

/// Appends a value as serde writes it: texts, numbers, truths, trees.
pub(crate) fn value(out: &mut Vec<u8>, value: impl Serialize) {
    serde_json::to_writer(out, &value).expect("writing to memory does not fail");
}

/// Appends a message in the dialect of API v0.
pub(crate) fn v0<M: Json>(out: &mut Vec<u8>, message: &M) {
    append(out, message, Dialect::V0);
}

impl Object<'_> {
    /// Writes a key; the value is what is appended to the answer.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        append_text(self.out, key);
        self.out.push(b':');
        self.out
    }

    /// The same for a key that needs no escapes.
    pub(crate) fn plain_key(&mut self, key: &'static str) -> &mut Vec<u8> {
        debug_assert!(!key.contains(['"', '\\']), "{key}");
        self.out.reserve(key.len() + 4);
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// What was written so far, to be gone on with.
    pub(crate) fn raw(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Writes a text, a number, a truth or a tree.
    pub(crate) fn put(&mut self, key: &str, content: impl Serialize) {
        value(self.key(key), content);
    }

    /// Writes a text: what [`put`](Self::put) does of one, in a quarter of the time.
    pub(crate) fn text(&mut self, key: &'static str, text: &str) {
        append_text(self.plain_key(key), text);
    }

    /// Writes a text, number or tree if there is one.
    pub(crate) fn put_some(&mut self, key: &str, content: Option<impl Serialize>) {
        if let Some(content) = content {
            self.put(key, content);
        }
    }

    /// Writes a message in the dialect of API v0 if there is one.
    pub(crate) fn message<M: Json>(&mut self, key: &str, message: Option<&M>) {
        if let Some(message) = message {
            v0(self.key(key), message);
        }
    }

    /// Writes a list.
    pub(crate) fn list<T>(
        &mut self,
        key: &'static str,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut Vec<u8>, T),
    ) {
        list(self.plain_key(key), items, write);
    }

    /// Writes an object under a key that needs no escapes.
    pub(crate) fn plain_object(&mut self, key: &'static str, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.plain_key(key), fill);
    }

    /// Writes an object.
    pub(crate) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.key(key), fill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_as_serde_writes_them() {
        let mut out = Vec::new();
        object(&mut out, |o| {
            o.put("a\"b", "x\ny");
            o.text("t", "x\ny");
            o.text("u", "plain");
            o.put("n", 1.0);
            o.put_some("none", None::<u8>);
            o.list("l", [1, 2], value);
            o.object("o", |o| o.put("t", true));
            o.list("e", std::iter::empty::<u8>(), value);
        });
        let text =
            r#"{"a\"b":"x\ny","t":"x\ny","u":"plain","n":1.0,"l":[1,2],"o":{"t":true},"e":[]}"#;
        assert_eq!(String::from_utf8_lossy(&out), text);
    }
}
