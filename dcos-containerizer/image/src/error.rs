//! What can go wrong between a name and its layers.

use std::io;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is no name.
    #[error("image '{name}': {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// No such image where it was looked for.
    #[error("there is no image '{name}' in {place}")]
    NotFound {
        /// Its name.
        name: String,
        /// A registry, or a directory.
        place: String,
    },
    /// The registry does not give it to us.
    #[error(
        "registry {registry} refuses '{name}': {why}; credentials come from `--docker_config` or \
         from the image's own `config`"
    )]
    Refused {
        /// Its name.
        name: String,
        /// Who refused.
        registry: String,
        /// What it said.
        why: String,
    },
    /// The registry cannot be spoken with; trying again may help.
    #[error("pulling '{name}' from {registry}: {why}")]
    Registry {
        /// Its name.
        name: String,
        /// Which registry.
        registry: String,
        /// What happened.
        why: String,
    },
    /// What was found is not what its digest or format promises.
    #[error("image '{name}': {why}")]
    Corrupt {
        /// Its name.
        name: String,
        /// What does not fit.
        why: String,
    },
    /// There is no room for it.
    #[error(
        "image '{name}': the disk of the image store is full; make room, or have images removed that \
         nobody uses (`--image_gc_config`)"
    )]
    Full {
        /// Its name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// Credentials that cannot be read.
    #[error("Docker's configuration: {0}")]
    Credentials(String),
    /// The disk, on behalf of an image.
    #[error("image '{name}'")]
    Disk {
        /// Its name.
        name: String,
        /// What happened.
        source: io::Error,
    },
    /// The disk.
    #[error("the image store")]
    Io(#[from] io::Error),
}

impl ImageError {
    /// Of the image `name`: damage is told apart from trouble with the disk.
    pub(crate) fn of(name: &str) -> impl Fn(io::Error) -> Self + use<> {
        let name = name.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Corrupt {
                name: name.clone(),
                why: error.to_string(),
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                name: name.clone(),
                source: error,
            },
            _ => Self::Disk {
                name: name.clone(),
                source: error,
            },
        }
    }
}

/// Data that breaks its format.
pub(crate) fn odd(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
