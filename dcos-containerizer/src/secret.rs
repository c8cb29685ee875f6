//! Secrets that tasks name: where their values come from.
//!
//! # Source
//! Mesos 1.11 `SecretResolver` (`include/mesos/secret/resolver.hpp`) and its default.

use std::fmt;

use async_trait::async_trait;
use dcos_proto::mesos::{Secret, secret};

/// Finds the value of a secret.
///
/// # Contract
/// A value is asked for at each launch and kept by nobody; it must not appear in errors or logs.
#[async_trait]
pub trait SecretResolver: Send + Sync + fmt::Debug {
    /// The bytes of a secret.
    ///
    /// # Errors
    /// [`SecretError`]; the container is not launched, and its task is told this text.
    async fn resolve(&self, secret: &Secret) -> Result<Vec<u8>, SecretError>;
}

/// Why a secret has no value: a text for whoever launched the task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(pub String);

/// Secrets that carry their value; there is no store for the others.
#[derive(Debug, Clone, Copy, Default)]
pub struct ValuesOnly;

#[async_trait]
impl SecretResolver for ValuesOnly {
    async fn resolve(&self, secret: &Secret) -> Result<Vec<u8>, SecretError> {
        match (secret.r#type(), &secret.value, &secret.reference) {
            (secret::Type::Value, Some(value), _) => Ok(value.data.clone()),
            (secret::Type::Reference, _, Some(reference)) => Err(SecretError(format!(
                "secret '{}' cannot be looked up: this agent has no store of secrets",
                reference.name
            ))),
            _ => Err(SecretError(
                "a secret has neither value nor reference".into(),
            )),
        }
    }
}
