//! The launcher's own binary format: little-endian, length-prefixed, nothing optional in its order.
//!
//! A serialisation library would be most of the launcher's code; this is a page. Whatever bytes
//! come in, decoding ends with a value or a [`DecodeError`]: every length is compared with what
//! is left before anything is read or reserved.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the value does.
    Short,
    /// Bytes are left over after the value.
    Long,
    /// A number that should choose a variant names none; the type it was read for.
    Unknown(&'static str),
    /// A text is not UTF-8, or a text or path holds a NUL byte.
    Text,
    /// The version is not one this launcher speaks.
    Version(u8),
    /// The value was read, but breaks a rule; which one.
    Rule(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "the message ends early"),
            Self::Long => write!(f, "the message has bytes left over"),
            Self::Unknown(kind) => write!(f, "unknown kind of {kind}"),
            Self::Text => write!(f, "a text is not UTF-8 or holds a NUL byte"),
            Self::Version(version) => write!(f, "version {version} is not spoken here"),
            Self::Rule(rule) => write!(f, "{rule}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// What is left to decode.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn text(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = u32::take(self)? as usize;
        let (text, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.0 = rest;
        (!text.contains(&0))
            .then_some(text)
            .ok_or(DecodeError::Text)
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        self.0.is_empty().then_some(()).ok_or(DecodeError::Long)
    }
}

/// A value with a place in the format.
pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError>;

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.put(&mut out);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(bytes);
        let value = Self::take(&mut input)?;
        input.end()?;
        Ok(value)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
                input.array().map(<$number>::from_le_bytes)
            }
        }
    )*};
}
numbers!(u8, u32, u64, i32, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown("boolean")),
        }
    }
}

fn put_block(bytes: &[u8], out: &mut Vec<u8>) {
    // A plan is refused above `MAX_PLAN`, far below 4 GiB; saturating keeps this total.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).put(out);
    out.extend_from_slice(bytes);
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_block(self.as_bytes(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let text = str::from_utf8(input.text()?).map_err(|_| DecodeError::Text)?;
        Ok(text.to_owned())
    }
}

impl Wire for PathBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_block(self.as_os_str().as_bytes(), out);
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        Ok(PathBuf::from(OsStr::from_bytes(input.text()?)))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        bool::take(input)?.then(|| T::take(input)).transpose()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for value in self {
            value.put(out);
        }
    }
    fn take(input: &mut Input<'_>) -> Result<Self, DecodeError> {
        // A false count reserves no memory, and ends where the bytes do: every element takes one at least.
        (0..u32::take(input)?).map(|_| T::take(input)).collect()
    }
}

/// Defines a struct together with its place in the format: its fields in order.
macro_rules! record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::codec::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(
                input: &mut $crate::codec::Input<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self { $($field: $crate::codec::Wire::take(input)?,)* })
            }
        }
    };
}

/// Defines an enum together with its place in the format: a byte, then the variant's fields.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident $({
            $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)?
        })? = $tag:literal,)*
    }) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $type),* })?,)*
        }

        impl $crate::codec::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field),* })? => {
                        out.push($tag);
                        $($($field.put(out);)*)?
                    })*
                }
            }
            fn take(
                input: &mut $crate::codec::Input<'_>,
            ) -> Result<Self, $crate::codec::DecodeError> {
                match u8::take(input)? {
                    $($tag => Ok(Self::$variant $({
                        $($field: $crate::codec::Wire::take(input)?),*
                    })?),)*
                    _ => Err($crate::codec::DecodeError::Unknown(stringify!($name))),
                }
            }
        }
    };
}
