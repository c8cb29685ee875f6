//! Metrics as Prometheus reads them: its text format, version 0.0.4.
//!
//! Names are those of Mesos with `mesos_` before them and underscores for all that Prometheus takes for none of a
//! name, so that a dashboard finds `slave/tasks_running` as `mesos_slave_tasks_running`.

use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its name, as in `/metrics/snapshot`.
    pub name: String,
    /// What it speaks of, such as a role: names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

impl Sample {
    /// One without labels.
    pub fn plain(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            labels: Vec::new(),
            value,
        }
    }

    fn line(&self) -> String {
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        };
        let name: String = self.name.chars().map(plain).collect();
        let labels: Vec<String> = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match &*labels.join(",") {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        format!("mesos_{name}{labels} {}\n", self.value)
    }
}

/// The samples as text.
pub fn text(samples: impl IntoIterator<Item = Sample>) -> String {
    let mut lines: Vec<String> = samples.into_iter().map(|sample| sample.line()).collect();
    // Lines of one name have to stand together.
    lines.sort();
    lines.concat()
}

/// The samples as an answer.
pub fn page(samples: impl IntoIterator<Item = Sample>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text(samples)).into_response()
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_in_prometheus_form() {
        let labelled = |label: &str, value| Sample {
            labels: vec![("role", label.to_owned()), ("resource", "cpus".to_owned())],
            ..Sample::plain("quota/limit", value)
        };
        let samples = [
            labelled("b", 2.0),
            Sample::plain("slave/uptime_secs", 0.5),
            labelled("a \"\\\n", 1.0),
        ];
        let expected = [
            r#"mesos_quota_limit{role="a \"\\\n",resource="cpus"} 1"#,
            r#"mesos_quota_limit{role="b",resource="cpus"} 2"#,
            "mesos_slave_uptime_secs 0.5",
        ];
        let text = text(samples);
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
