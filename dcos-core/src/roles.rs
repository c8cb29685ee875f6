//! Role names and their hierarchy: `eng/dev` is a child of `eng`.
//!
//! Source: Mesos 1.11 `common/roles.cpp`; rules RO-2 and RO-4 of the conformance inventory.

/// The role of resources that are reserved for nobody, and of frameworks that name none.
pub const DEFAULT: &str = "*";

/// Why a text cannot be a role. Messages are Mesos's, since frameworks receive them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// It starts with `/`.
    #[error("Role '{0}' cannot start with a slash")]
    LeadingSlash(String),
    /// It ends with `/`.
    #[error("Role '{0}' cannot end with a slash")]
    TrailingSlash(String),
    /// It has an empty component.
    #[error("Role '{0}' cannot contain two adjacent slashes")]
    AdjacentSlashes(String),
    /// Nothing was given.
    #[error("Role names cannot be the empty string")]
    Empty,
    /// A component is `.`, `..` or `*`.
    #[error("Role '{role}' cannot include '{component}' as a component")]
    Component {
        /// The whole role.
        role: String,
        /// The component at fault.
        component: String,
    },
    /// A component starts with `-`.
    #[error("Role component '{0}' is invalid because it starts with a dash")]
    Dash(String),
    /// A component holds white space or the delete character.
    #[error("Role component '{0}' is invalid because it contains backspace or whitespace")]
    Characters(String),
}

/// Checks a role name. `*` is legal.
///
/// # Errors
/// [`RoleError`] names the first rule that is broken.
///
/// ```
/// use dcos_core::roles::validate;
///
/// assert!(validate("eng/dev").is_ok());
/// assert!(validate("eng/").is_err());
/// ```
pub fn validate(role: &str) -> Result<(), RoleError> {
    if role == DEFAULT {
        return Ok(());
    }
    if role.is_empty() {
        return Err(RoleError::Empty);
    }
    if role.starts_with('/') {
        return Err(RoleError::LeadingSlash(role.to_owned()));
    }
    if role.ends_with('/') {
        return Err(RoleError::TrailingSlash(role.to_owned()));
    }
    if role.contains("//") {
        return Err(RoleError::AdjacentSlashes(role.to_owned()));
    }
    role.split('/')
        .try_for_each(|component| validate_component(role, component))
}

fn validate_component(role: &str, component: &str) -> Result<(), RoleError> {
    if matches!(component, "." | ".." | "*") {
        return Err(RoleError::Component {
            role: role.to_owned(),
            component: component.to_owned(),
        });
    }
    if component.starts_with('-') {
        return Err(RoleError::Dash(component.to_owned()));
    }
    if component.contains(['\t', '\n', '\x0b', '\x0c', '\r', ' ', '\x7f']) {
        return Err(RoleError::Characters(component.to_owned()));
    }
    Ok(())
}

/// Whether `role` lies strictly below `ancestor` in the hierarchy.
///
/// ```
/// use dcos_core::roles::is_strict_subrole;
///
/// assert!(is_strict_subrole("eng/dev", "eng"));
/// assert!(!is_strict_subrole("eng", "eng"));
/// assert!(!is_strict_subrole("english", "eng"));
/// ```
pub fn is_strict_subrole(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The roles above `role`, nearest first: `a/b/c` has `a/b` and `a`.
///
/// ```
/// let above: Vec<&str> = dcos_core::roles::ancestors("a/b/c").collect();
/// assert_eq!(above, ["a/b", "a"]);
/// ```
pub fn ancestors(role: &str) -> impl Iterator<Item = &str> {
    role.rmatch_indices('/').map(|(at, _)| &role[..at])
}

/// The topmost ancestor of `role`, or `role` itself: what a quota is set on.
pub fn top_level(role: &str) -> &str {
    role.split('/').next().unwrap_or(role)
}

/// Whether resources reserved for `reserved` may be used by a framework in `role` (RO-4): by the
/// role itself and by those below it.
pub fn may_use_reservation(role: &str, reserved: &str) -> bool {
    role == reserved || is_strict_subrole(role, reserved)
}

/// Reads a comma-separated list of roles, as `--roles` takes it.
///
/// # Errors
/// The first role's [`RoleError`].
pub fn parse_list(text: &str) -> Result<Vec<String>, RoleError> {
    text.split(',')
        .filter(|role| !role.is_empty())
        .map(|role| validate(role).map(|()| role.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_roles_pass() {
        for role in ["*", "a", "a/b", "a/b/c", ".a", "a.b/c-d", "a-", "...", "ä"] {
            assert_eq!(validate(role), Ok(()), "{role}");
        }
    }

    #[test]
    fn illegal_roles_say_why() {
        for (role, message) in [
            ("", "Role names cannot be the empty string"),
            ("/a", "Role '/a' cannot start with a slash"),
            ("a/", "Role 'a/' cannot end with a slash"),
            ("a//b", "Role 'a//b' cannot contain two adjacent slashes"),
            ("a/./b", "Role 'a/./b' cannot include '.' as a component"),
            ("..", "Role '..' cannot include '..' as a component"),
            ("a/*", "Role 'a/*' cannot include '*' as a component"),
            (
                "a/-b",
                "Role component '-b' is invalid because it starts with a dash",
            ),
            (
                "a b",
                "Role component 'a b' is invalid because it contains backspace or whitespace",
            ),
        ] {
            assert_eq!(validate(role).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_hierarchy_goes_by_components() {
        assert_eq!(ancestors("eng").count(), 0);
        assert_eq!(top_level("eng/dev/x"), "eng");
        assert!(may_use_reservation("eng/dev", "eng"));
        assert!(!may_use_reservation("eng", "eng/dev"));
        assert_eq!(parse_list("a,b/c,"), Ok(vec!["a".into(), "b/c".into()]));
    }
}
