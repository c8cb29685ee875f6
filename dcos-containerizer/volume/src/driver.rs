//! The plug point: what makes volumes available on a node.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

/// Makes volumes available on this node.
///
/// # Contract
/// 1. [`mount`](Self::mount) makes a volume that is not there yet, if the driver makes volumes at
///    all, and returns an absolute path at which it is a folder (a device for block access).
/// 2. Repeating a call changes nothing: a volume mounted twice is at the same path, and one
///    [`unmount`](Self::unmount) ends it. So does one by another instance, after a restart.
/// 3. [`mounted`](Self::mounted) tells where a volume is, and nothing before its first mount and
///    after its unmount.
/// 4. What is in a volume is there again at its next mount.
/// 5. [`unmount`](Self::unmount) and [`remove`](Self::remove) of what is not there succeed.
/// 6. A future dropped half-way leaves a volume that `unmount` takes away.
///
/// Calls for one volume come one after another; [`Mounts`](crate::Mounts) sees to that, and to
/// what several containers share.
///
/// # Implementing
/// Run `testkit::all` in your tests.
#[async_trait]
pub trait VolumeDriver: fmt::Debug + Send + Sync + 'static {
    /// The name that volumes give of it.
    fn name(&self) -> &str;

    /// Makes a volume available.
    ///
    /// # Errors
    /// [`VolumeError`]; something may have been done, and `unmount` undoes it.
    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError>;

    /// Where a volume is now, if it is available.
    ///
    /// # Errors
    /// [`VolumeError`] if that cannot be found out.
    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError>;

    /// Ends what `mount` did. The volume's data stays.
    ///
    /// # Errors
    /// [`VolumeError`]; the caller may try again.
    async fn unmount(&self, name: &str) -> Result<(), VolumeError>;

    /// Deletes a volume that is not mounted, with its data, if the driver makes volumes.
    ///
    /// # Errors
    /// [`VolumeError`]; it may be there or not.
    async fn remove(&self, name: &str) -> Result<(), VolumeError>;
}

/// Finds drivers by their names.
pub trait Drivers: fmt::Debug + Send + Sync + 'static {
    /// The driver called `name`.
    ///
    /// # Errors
    /// [`VolumeError::NoDriver`]
    fn find(&self, name: &str) -> Result<Arc<dyn VolumeDriver>, VolumeError>;
}

/// A volume as a container wants it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VolumeRequest {
    /// Which, among those of the driver.
    pub name: String,
    /// What the driver may want to know: of a volume to be made, or where to find it.
    pub options: BTreeMap<String, String>,
    /// How it is used.
    pub access: Access,
    /// What gives access. Never written down.
    pub secrets: Secrets,
}

/// How a volume is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Who else may use it, and how.
    pub mode: AccessMode,
    /// It is a device rather than a file system.
    pub block: bool,
    /// File system to make or expect, if the driver is to know.
    pub file_system: Option<String>,
    /// More options of mount(8).
    pub mount_flags: Vec<String>,
}

/// Who may use a volume at the same time, with the numbers of CSI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of CSI")]
pub enum AccessMode {
    #[default]
    SingleNodeWriter = 1,
    SingleNodeReaderOnly = 2,
    MultiNodeReaderOnly = 3,
    MultiNodeSingleWriter = 4,
    MultiNodeMultiWriter = 5,
}

impl AccessMode {
    /// Whether nobody writes.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::SingleNodeReaderOnly | Self::MultiNodeReaderOnly)
    }
}

/// Secrets of a volume, for each of the steps that take some.
#[derive(Clone, Default, PartialEq)]
pub struct Secrets {
    /// For making it available on the node.
    pub stage: BTreeMap<String, String>,
    /// For making it available to containers.
    pub publish: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.stage.keys().chain(self.publish.keys());
        f.debug_list().entries(names).finish()
    }
}

/// Why a volume is not available, or still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// There is no such driver on this node.
    #[error("there is no volume driver `{name}`: {reason}")]
    NoDriver {
        /// Its name.
        name: String,
        /// Where it was looked for.
        reason: String,
    },
    /// The driver cannot be spoken to, or says something that is not understood.
    #[error("volume driver `{driver}` does not answer `{call}`: {reason}")]
    Unreachable {
        /// Which.
        driver: String,
        /// What it was asked.
        call: &'static str,
        /// What happened.
        reason: String,
    },
    /// The driver says no.
    #[error("volume driver `{driver}` refuses `{call}`: {reason}")]
    Refused {
        /// Which.
        driver: String,
        /// What it was asked.
        call: &'static str,
        /// In its own words.
        reason: String,
    },
    /// The request makes no sense.
    #[error("volume `{name}`: {reason}")]
    Invalid {
        /// The volume's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A file of ours cannot be handled.
    #[error("{doing} {path:?}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl VolumeError {
    pub(crate) fn invalid(name: &str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            name: name.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            doing,
            path,
            source,
        }
    }
}
