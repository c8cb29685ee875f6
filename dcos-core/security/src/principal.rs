//! Whoever was authenticated.

use std::collections::BTreeMap;
use std::fmt;

/// Whoever was authenticated: a name, or claims that a token vouches for, or both.
///
/// Shown as Mesos prints it: the bare name if there is nothing else, an object otherwise.
///
/// ```
/// use dcos_security::Principal;
///
/// assert_eq!(Principal::new("ops").to_string(), "ops");
/// let executor = Principal::of_claims([("fid", "f1"), ("eid", "e1")]);
/// assert_eq!(executor.to_string(), r#"{"claims":{"eid":"e1","fid":"f1"}}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Principal {
    /// Its name; what ACLs, rate limits and reservations speak of.
    pub value: Option<String>,
    /// What its token says: an executor's ids, for example.
    pub claims: BTreeMap<String, String>,
}

impl Principal {
    /// A principal with a name and no claims.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: Some(value.into()),
            claims: BTreeMap::new(),
        }
    }

    /// A principal with claims and no name.
    pub fn of_claims<K: Into<String>, V: Into<String>>(
        claims: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let claims = claims
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        Self {
            value: None,
            claims: claims.collect(),
        }
    }

    /// What it claims as `key`.
    pub fn claim(&self, key: &str) -> Option<&str> {
        self.claims.get(key).map(String::as_str)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = &self.value
            && self.claims.is_empty()
        {
            return f.write_str(value);
        }
        let mut object = serde_json::Map::new();
        if let Some(value) = &self.value {
            object.insert("value".to_owned(), value.as_str().into());
        }
        if !self.claims.is_empty() {
            let claims = self.claims.iter();
            let claims = claims.map(|(key, value)| (key.clone(), value.as_str().into()));
            object.insert(
                "claims".to_owned(),
                serde_json::Value::Object(claims.collect()),
            );
        }
        write!(f, "{}", serde_json::Value::Object(object))
    }
}
