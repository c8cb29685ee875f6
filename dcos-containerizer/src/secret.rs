//! Secrets that tasks name: where their values come from.
//!
//! # Source
//! Mesos 1.11 `SecretResolver` (`include/mesos/secret/resolver.hpp`) and its default.

mod files;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use dcos_core::config::Values;
use dcos_proto::mesos::environment::variable;
use dcos_proto::mesos::{CommandInfo, Secret, secret};

pub use files::SecretFiles;

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
                "secret '{}' cannot be looked up: this agent has no store of secrets (--secrets_dir)",
                reference.name
            ))),
            _ => Err(SecretError(
                "a secret has neither value nor reference".into(),
            )),
        }
    }
}

/// Where `--secrets_dir` says that secrets are.
pub fn from_values(values: &Values) -> Arc<dyn SecretResolver> {
    match values.opt_path("secrets_dir") {
        Some(folder) => Arc::new(SecretFiles::new(folder)),
        None => Arc::new(ValuesOnly),
    }
}

/// The variables of a command that are secrets, with their values.
///
/// # Errors
/// The variable, and why it can't have one.
pub async fn variables(
    resolver: &dyn SecretResolver,
    command: &CommandInfo,
) -> Result<Vec<(String, String)>, SecretError> {
    let mut found = Vec::new();
    let variables = command.environment.iter().flat_map(|all| &all.variables);
    for variable in variables.filter(|one| one.r#type() == variable::Type::Secret) {
        let name = &variable.name;
        let wrong = |why: &str| SecretError(format!("environment variable {name}: {why}"));
        let secret = variable.secret.as_ref();
        let secret = secret.ok_or_else(|| wrong("there is no secret"))?;
        let value = resolver.resolve(secret).await;
        let value = value.map_err(|error| wrong(&error.0))?;
        let value = String::from_utf8(value).map_err(|_| wrong("its secret is no text"))?;
        if value.contains('\0') {
            return Err(wrong("its secret has a zero byte"));
        }
        found.push((name.clone(), value));
    }
    Ok(found)
}
