//! The plug point [`Medium`]: what an engine must offer to hold a [`ReplicatedStore`](super::ReplicatedStore).

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

/// Which writing of the register this is; `None` before the first. Never used twice for different contents.
pub type Version = Option<i64>;

/// A register with compare-and-set, and pages beside it.
///
/// # Contract
/// 1. [`swap`](Self::swap) writes register and page together or not at all, and is durable before it returns.
/// 2. Swaps have one order, and [`read`](Self::read) sees every swap that was acknowledged before it began.
/// 3. An error leaves open whether a swap or [`put`](Self::put) happened, even whether it still will.
/// 4. No call waits for ever: what the engine does not answer in a few seconds is an error.
///
/// Pages are at most [`PAGE_BYTES`](super::format::PAGE_BYTES) long, or hold one entry that is longer.
#[async_trait]
pub trait Medium: fmt::Debug + Send + Sync + 'static {
    /// The register and its version.
    async fn read(&self) -> Result<(Version, Bytes), MediumError>;

    /// Sets the register, and makes `page`, if the register still has the version `expected`.
    async fn swap(
        &self,
        expected: Version,
        register: Bytes,
        page: Option<(&str, Bytes)>,
    ) -> Result<Swapped, MediumError>;

    /// Returns once the register has another version than `seen`, or on suspicion of it.
    async fn changed(&self, seen: Version) -> Result<(), MediumError>;

    /// The page of that name, if there is one.
    async fn page(&self, name: &str) -> Result<Option<Bytes>, MediumError>;

    /// Makes a page. One that exists is as good: names are never used for different contents.
    async fn put(&self, name: &str, page: Bytes) -> Result<(), MediumError>;

    /// The names of all pages.
    async fn pages(&self) -> Result<Vec<String>, MediumError>;

    /// Removes a page; that it is not there is no error.
    async fn remove(&self, name: &str) -> Result<(), MediumError>;

    /// Called by whoever has just shortened the log. An engine that keeps the history of register and pages, and would grow
    /// with it for ever, forgets it.
    async fn forget(&self) -> Result<(), MediumError> {
        Ok(())
    }
}

/// What became of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It happened; the register has this version now.
    Done(Version),
    /// The register had another version; nothing happened.
    Moved,
}

/// Why an engine did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediumError {
    /// It cannot be reached, or does not answer. Trying again may help.
    #[error("{0}")]
    Unreachable(String),
    /// It refuses, and would again: no right, or not what it should be.
    #[error("{0}")]
    Refused(String),
}
