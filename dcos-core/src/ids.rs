//! What a legal id is. Ids of tasks, executors, frameworks and agents become directory names.
//!
//! Source: Mesos 1.11 `common/validation.cpp`; rule V-1 of the conformance inventory.

/// The longest id in bytes (`NAME_MAX` of Linux).
pub const MAX_LENGTH: usize = 255;

/// Why a text cannot be an id. Messages are Mesos's, since frameworks receive them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing was given.
    #[error("ID must not be empty")]
    Empty,
    /// More than [`MAX_LENGTH`] bytes were given.
    #[error("ID must not be greater than {MAX_LENGTH} characters")]
    Long,
    /// It is `.` or `..`.
    #[error("'{0}' is disallowed")]
    Reserved(String),
    /// It holds a slash, a backslash or a control character.
    #[error("'{0}' contains invalid characters")]
    Characters(String),
}

/// Checks an id of a task, executor, framework or agent.
///
/// # Errors
/// [`IdError`] names the first rule that is broken.
///
/// ```
/// use dcos_core::ids::validate;
///
/// assert!(validate("web.2b7e-1").is_ok());
/// assert!(validate("../etc").is_err());
/// ```
pub fn validate(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_LENGTH {
        return Err(IdError::Long);
    }
    if id == "." || id == ".." {
        return Err(IdError::Reserved(id.to_owned()));
    }
    if id
        .bytes()
        .any(|byte| byte.is_ascii_control() || byte == b'/' || byte == b'\\')
    {
        return Err(IdError::Characters(id.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_ids_name_their_rule() {
        for (id, message) in [
            ("", "ID must not be empty"),
            (".", "'.' is disallowed"),
            ("..", "'..' is disallowed"),
            ("a/b", "'a/b' contains invalid characters"),
            ("a\\b", "'a\\b' contains invalid characters"),
            ("a\nb", "'a\nb' contains invalid characters"),
        ] {
            assert_eq!(validate(id).unwrap_err().to_string(), message);
        }
        assert_eq!(validate(&"x".repeat(256)), Err(IdError::Long));
    }

    #[test]
    fn everything_else_is_an_id() {
        for id in [
            "a",
            "...",
            "with space",
            "ünïcode",
            "a:b@c",
            &"x".repeat(255),
        ] {
            assert_eq!(validate(id), Ok(()), "{id}");
        }
    }
}
