//! Mesos's JSON: what its own converter between protobuf and JSON (stout's `protobuf.hpp` and
//! `jsonify.hpp`) reads and writes.
//!
//! - Fields carry their schema names; API v0 says `slave` where API v1 says `agent` ([`Dialect`]).
//! - Enums are names, 64-bit integers are numbers, bytes are base64, maps are objects.
//! - Written: each set field, and an unset one that has a declared default unless it is deprecated.
//!   Empty lists and maps are left out.
//! - Read: unknown keys and `null` are ignored; numbers and booleans may stand in strings; an
//!   integer may be written `12.0`; an unknown enum name counts as unset. A missing required field
//!   is an error, and so is a required enum with an unknown name.

mod read;
mod write;

pub use read::{JsonError, Object, Place, ReadJson, from_slice, from_value};
pub use write::{WriteJson, Writer, append, append_text, to_string, to_value, to_vec};

/// Whose names are written and understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// API v0: `slave_id`, `REASON_SLAVE_REMOVED`.
    V0,
    /// API v1: `agent_id`, `REASON_AGENT_REMOVED`.
    V1,
}

/// A message that can be an object of either dialect. Implemented by generated code.
pub trait Json: Sized {
    /// Writes the fields of the object.
    fn write(&self, w: &mut Writer);

    /// Reads the fields of the object.
    ///
    /// # Errors
    /// [`JsonError`] for a field of another type than declared, or a missing required one.
    fn read(o: &Object<'_>) -> Result<Self, JsonError>;
}

impl<M: Json> Json for Box<M> {
    fn write(&self, w: &mut Writer) {
        M::write(self, w);
    }

    fn read(o: &Object<'_>) -> Result<Self, JsonError> {
        M::read(o).map(Box::new)
    }
}

/// An enum with the names of both dialects. Implemented by generated code.
pub trait JsonEnum: Sized + TryFrom<i32> + Into<i32> {
    /// The values that are named differently in API v0: pairs of v1 and v0 names.
    const V0: &'static [(&'static str, &'static str)];

    /// The name in API v1.
    fn name(&self) -> &'static str;

    /// The value named `name` in API v1.
    fn parse(name: &str) -> Option<Self>;

    /// The name in `dialect`.
    fn name_in(&self, dialect: Dialect) -> &'static str {
        let name = self.name();
        match dialect {
            Dialect::V1 => name,
            Dialect::V0 => Self::V0
                .iter()
                .find(|(v1, _)| *v1 == name)
                .map_or(name, |(_, v0)| v0),
        }
    }

    /// The value named `name` in `dialect`.
    fn parse_in(name: &str, dialect: Dialect) -> Option<Self> {
        match dialect {
            Dialect::V1 => Self::parse(name),
            Dialect::V0 => {
                let v1 = Self::V0
                    .iter()
                    .find(|(_, v0)| *v0 == name)
                    .map_or(name, |(v1, _)| v1);
                Self::parse(v1)
            }
        }
    }
}
