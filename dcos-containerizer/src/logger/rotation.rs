//! When a log file is rotated, and how many old ones are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::units::parse_bytes;

/// When one log file is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes a file may grow to.
    pub max_size: u64,
    /// How long a file that is not empty is written to; absent, until it is too large.
    pub max_age: Option<Duration>,
    /// Old files that are kept, as `stdout.1` (the youngest) and so on.
    pub keep: u32,
    /// Pack old files by gzip: `stdout.1.gz`.
    pub compress: bool,
}

/// Each rotation moves so many files on.
const MOST_KEPT: u32 = 1000;

impl Default for Rotation {
    /// 10 MB, as Mesos's `LogrotateContainerLogger`, and nine old files, as DC/OS sets it up.
    fn default() -> Self {
        Self {
            max_size: 10 << 20,
            max_age: None,
            keep: 9,
            compress: false,
        }
    }
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value}: {reason}")]
pub struct RotationError {
    /// The environment variable.
    pub variable: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Rotation {
    /// The settings for `stream` (`STDOUT` or `STDERR`), where the task's environment may say
    /// otherwise: `CONTAINER_LOGGER_MAX_STDOUT_SIZE` (such as `5MB`) and
    /// `CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS`, of whose lines `rotate COUNT`, `compress`,
    /// `nocompress`, `hourly`, `daily`, `weekly` and `monthly` are understood.
    ///
    /// # Errors
    /// [`RotationError`] if a value cannot be understood.
    pub fn for_task(
        self,
        stream: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, RotationError> {
        let mut rotation = self;
        let variable = format!("CONTAINER_LOGGER_MAX_{stream}_SIZE");
        if let Some(value) = environment.get(&variable) {
            let refuse = |reason: String| RotationError {
                variable: variable.clone(),
                value: value.clone(),
                reason,
            };
            let size = parse_bytes(value).map_err(|error| refuse(error.to_string()))?;
            // A page, as in the original: less would rotate more than it would keep.
            if size < 4096 {
                return Err(refuse("expected 4KB at least".into()));
            }
            rotation.max_size = size;
        }
        let variable = format!("CONTAINER_LOGGER_LOGROTATE_{stream}_OPTIONS");
        if let Some(value) = environment.get(&variable) {
            for line in value.lines() {
                let days = |days: u64| Some(Duration::from_hours(24 * days));
                match line.trim() {
                    "compress" => rotation.compress = true,
                    "nocompress" => rotation.compress = false,
                    "hourly" => rotation.max_age = Some(Duration::from_hours(1)),
                    "daily" => rotation.max_age = days(1),
                    "weekly" => rotation.max_age = days(7),
                    "monthly" => rotation.max_age = days(30),
                    _ => {}
                }
                let Some(count) = line.trim().strip_prefix("rotate ") else {
                    continue;
                };
                let count = count.trim().parse().ok();
                rotation.keep = count
                    .filter(|count| *count <= MOST_KEPT)
                    .ok_or(RotationError {
                        variable: variable.clone(),
                        value: value.clone(),
                        reason: format!("expected `rotate COUNT`, of {MOST_KEPT} at most"),
                    })?;
            }
        }
        Ok(rotation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_may_say_otherwise() {
        let environment = BTreeMap::from([
            ("CONTAINER_LOGGER_MAX_STDOUT_SIZE".to_owned(), "1MB".into()),
            (
                "CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS".to_owned(),
                "compress\nrotate 3\ndaily\n".into(),
            ),
        ]);
        let rotation = Rotation::default();
        let stdout = rotation.for_task("STDOUT", &environment).unwrap();
        assert_eq!((stdout.max_size, stdout.keep), (1 << 20, 3));
        assert!(stdout.compress);
        assert_eq!(stdout.max_age, Some(Duration::from_hours(24)));
        assert_eq!(rotation.for_task("STDERR", &environment), Ok(rotation));
    }

    #[test]
    fn nonsense_is_refused_with_its_name() {
        let of = |value: &str| {
            let name = "CONTAINER_LOGGER_MAX_STDERR_SIZE".to_owned();
            let environment = BTreeMap::from([(name, value.to_owned())]);
            Rotation::default().for_task("STDERR", &environment)
        };
        assert!(of("lots").is_err());
        let error = of("1KB").unwrap_err().to_string();
        assert_eq!(
            error,
            "CONTAINER_LOGGER_MAX_STDERR_SIZE=1KB: expected 4KB at least"
        );
        for (count, accepted) in [("1000", true), ("1001", false), ("-1", false)] {
            let name = "CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS".to_owned();
            let environment = BTreeMap::from([(name, format!("rotate {count}"))]);
            let rotation = Rotation::default().for_task("STDOUT", &environment);
            assert_eq!(rotation.is_ok(), accepted, "{rotation:?}");
        }
    }
}
