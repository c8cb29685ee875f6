//! Key-value labels, as messages carry them.

use dcos_proto::mesos::{Label, Labels};

/// The value of the first label with `key` that has one.
///
/// ```
/// use dcos_core::labels;
///
/// let labels = labels::from_pairs([("tier", "web")]);
/// assert_eq!(labels::get(&labels, "tier"), Some("web"));
/// ```
pub fn get<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels
        .labels
        .iter()
        .find(|label| label.key == key)?
        .value
        .as_deref()
}

/// Labels from keys and values, in the given order.
pub fn from_pairs<K: Into<String>, V: Into<String>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Labels {
    let label = |(key, value): (K, V)| Label {
        key: key.into(),
        value: Some(value.into()),
    };
    Labels {
        labels: pairs.into_iter().map(label).collect(),
    }
}

/// Whether both hold the same labels equally often, in any order, as Mesos compares them.
pub fn equal(one: &Labels, other: &Labels) -> bool {
    let sorted = |labels: &Labels| {
        let mut all: Vec<(String, Option<String>)> = labels
            .labels
            .iter()
            .map(|label| (label.key.clone(), label.value.clone()))
            .collect();
        all.sort();
        all
    };
    one.labels.len() == other.labels.len() && (one == other || sorted(one) == sorted(other))
}

/// Writes labels as `{key: value, key}`.
pub(crate) fn display(labels: &Labels) -> String {
    let shown: Vec<String> = labels
        .labels
        .iter()
        .map(|label| match &label.value {
            Some(value) => format!("{}: {value}", label.key),
            None => label.key.clone(),
        })
        .collect();
    format!("{{{}}}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_but_count_does() {
        let ab = from_pairs([("a", "1"), ("b", "2")]);
        let ba = from_pairs([("b", "2"), ("a", "1")]);
        let aab = from_pairs([("a", "1"), ("a", "1"), ("b", "2")]);
        let abb = from_pairs([("a", "1"), ("b", "2"), ("b", "2")]);
        assert!(equal(&ab, &ba));
        assert!(!equal(&ab, &aab));
        assert!(!equal(&aab, &abb));
    }
}
