//! Writing: straight into a byte buffer, without a tree in between.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Dialect, Json, JsonEnum};

/// `message` as compact JSON text.
pub fn to_vec<M: Json>(message: &M, dialect: Dialect) -> Vec<u8> {
    let mut writer = Writer {
        out: Vec::with_capacity(256),
        dialect,
        fresh: true,
    };
    message.write_json(&mut writer);
    writer.out
}

/// Appends `message` as compact JSON text to a larger document.
pub fn append<M: Json>(document: &mut Vec<u8>, message: &M, dialect: Dialect) {
    let mut writer = Writer {
        out: std::mem::take(document),
        dialect,
        fresh: true,
    };
    message.write_json(&mut writer);
    *document = writer.out;
}

/// Appends a text with its quotes, as serde writes it: most need no escapes, and are copied whole.
pub fn append_text(document: &mut Vec<u8>, text: &str) {
    if needs_escapes(text.as_bytes()) {
        serde_json::to_writer(document, text).expect("writing to memory does not fail");
    } else {
        document.reserve(text.len() + 2);
        document.push(b'"');
        document.extend_from_slice(text.as_bytes());
        document.push(b'"');
    }
}

/// Whether there is a quote, a backslash or a control character among the bytes. Looked at to their end, eight at a
/// time, and the last eight of more together with some before them: most texts are no longer than that.
fn needs_escapes(bytes: &[u8]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = LOW << 7;
    // The high bit of each byte that is less than `limit`, and none if there is no such byte.
    let below = |word: u64, limit: u64| word.wrapping_sub(LOW * limit) & !word & HIGH;
    let special = |eight: [u8; 8]| {
        let word = u64::from_ne_bytes(eight);
        let quotes = below(word ^ (LOW * u64::from(b'"')), 1);
        let backslashes = below(word ^ (LOW * u64::from(b'\\')), 1);
        below(word, u64::from(b' ')) | quotes | backslashes
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let found = words.iter().fold(0, |found, eight| found | special(*eight));
    let last = if let Some(last) = bytes.last_chunk::<8>() {
        *last
    } else {
        let mut last = [b'a'; 8];
        last[..rest.len()].copy_from_slice(rest);
        last
    };
    found | special(last) != 0
}

/// `message` as compact JSON text.
pub fn to_string<M: Json>(message: &M, dialect: Dialect) -> String {
    String::from_utf8(to_vec(message, dialect)).expect("the writer emits UTF-8")
}

/// `message` as a JSON tree, to be put into a larger document.
pub fn to_value<M: Json>(message: &M, dialect: Dialect) -> serde_json::Value {
    serde_json::from_slice(&to_vec(message, dialect)).expect("the writer emits JSON")
}

/// Collects the text of one document.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    dialect: Dialect,
    /// Nothing stands yet in the object or list being written.
    fresh: bool,
}

impl Writer {
    /// Writes a field that is set.
    pub fn field<T: WriteJson + ?Sized>(&mut self, v1: &str, v0: &str, value: &T) {
        self.key(v1, v0);
        value.write_json(self);
    }

    /// Writes a field if it is set.
    pub fn optional<T: WriteJson>(&mut self, v1: &str, v0: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.field(v1, v0, value);
        }
    }

    /// Writes a repeated field unless it is empty.
    pub fn list<T: WriteJson>(&mut self, v1: &str, v0: &str, values: &[T]) {
        if values.is_empty() {
            return;
        }
        self.key(v1, v0);
        self.array(values.iter(), |writer, value| value.write_json(writer));
    }

    /// Writes a map field as an object unless it is empty.
    pub fn map<V: WriteJson>(&mut self, v1: &str, v0: &str, map: &BTreeMap<String, V>) {
        if map.is_empty() {
            return;
        }
        self.key(v1, v0);
        self.out.push(b'{');
        self.fresh = true;
        for (key, value) in map {
            self.field(key, key, value);
        }
        self.out.push(b'}');
        self.fresh = false;
    }

    /// Writes an enum field if it is set to a value this build knows: a newer peer's value has no
    /// name here.
    pub fn enumeration<E: JsonEnum>(&mut self, v1: &str, v0: &str, number: Option<i32>) {
        let Some(value) = number.and_then(|number| E::try_from(number).ok()) else {
            return;
        };
        let name = value.name_in(self.dialect);
        self.field(v1, v0, name);
    }

    /// Writes a repeated enum field unless it is empty.
    pub fn enums<E: JsonEnum>(&mut self, v1: &str, v0: &str, numbers: &[i32]) {
        if numbers.is_empty() {
            return;
        }
        self.key(v1, v0);
        let dialect = self.dialect;
        let known = numbers
            .iter()
            .filter_map(|number| E::try_from(*number).ok());
        self.array(known, |writer, value| {
            value.name_in(dialect).write_json(writer);
        });
    }

    fn array<T>(&mut self, items: impl Iterator<Item = T>, write: impl Fn(&mut Self, T)) {
        self.out.push(b'[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self, item);
        }
        self.out.push(b']');
        self.fresh = false;
    }

    fn key(&mut self, v1: &str, v0: &str) {
        if !self.fresh {
            self.out.push(b',');
        }
        self.fresh = false;
        self.text(if self.dialect == Dialect::V0 { v0 } else { v1 });
        self.out.push(b':');
    }

    fn text(&mut self, text: &str) {
        append_text(&mut self.out, text);
    }
}

/// A value of a field.
pub trait WriteJson {
    /// Appends the value's text.
    fn write_json(&self, w: &mut Writer);
}

impl<M: Json> WriteJson for M {
    fn write_json(&self, w: &mut Writer) {
        w.out.push(b'{');
        w.fresh = true;
        self.write(w);
        w.out.push(b'}');
        w.fresh = false;
    }
}

impl WriteJson for str {
    fn write_json(&self, w: &mut Writer) {
        w.text(self);
    }
}

impl WriteJson for &str {
    fn write_json(&self, w: &mut Writer) {
        w.text(self);
    }
}

impl WriteJson for String {
    fn write_json(&self, w: &mut Writer) {
        w.text(self);
    }
}

impl WriteJson for Vec<u8> {
    fn write_json(&self, w: &mut Writer) {
        w.text(&STANDARD.encode(self));
    }
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl WriteJson for $kind {
            fn write_json(&self, w: &mut Writer) {
                serde_json::to_writer(&mut w.out, self).expect("writing to memory does not fail");
            }
        }
    )*};
}

plain!(bool, i32, i64, u32, u64);

impl WriteJson for f64 {
    /// JSON has no infinity; Mesos spells it in a string.
    fn write_json(&self, w: &mut Writer) {
        if self.is_finite() {
            serde_json::to_writer(&mut w.out, self).expect("writing to memory does not fail");
        } else if self.is_nan() {
            w.text("NaN");
        } else {
            w.text(if *self > 0.0 { "Infinity" } else { "-Infinity" });
        }
    }
}

impl WriteJson for f32 {
    fn write_json(&self, w: &mut Writer) {
        f64::from(*self).write_json(w);
    }
}

#[cfg(test)]
mod tests {
    use super::append_text;

    #[test]
    fn texts_are_as_serde_writes_them() {
        for text in [
            "",
            "plain",
            "a\"b",
            "a\\b",
            "line\nbreak",
            "\u{7f}é\u{2028}",
            "tab\t\u{1}",
        ] {
            let mut document = Vec::new();
            append_text(&mut document, text);
            assert_eq!(document, serde_json::to_vec(text).unwrap());
        }
    }

    #[test]
    fn each_byte_of_a_text_is_looked_at() {
        for special in (0..=255_u8).map(char::from) {
            for length in 0..40 {
                for at in 0..=length {
                    let plain = "x".repeat(length);
                    let text = format!("{}{special}{}", &plain[..at], &plain[at..]);
                    let mut document = Vec::new();
                    append_text(&mut document, &text);
                    assert_eq!(document, serde_json::to_vec(&text).unwrap());
                }
            }
        }
    }
}
