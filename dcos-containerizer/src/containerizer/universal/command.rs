//! What a container runs, from its command, its image and its resources.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{CommandInfo, Resource};

use crate::isolator::Limits;
use crate::provisioner::ImageConfig;

/// Megabytes, in which Mesos counts memory.
const MB: f64 = 1_048_576.0;

/// What the scalars named `cpus` and `mem` add up to, and what they may burst to.
pub(super) fn limits(resources: &[Resource], limits: &BTreeMap<String, Scalar>) -> Limits {
    let sum = |name: &str| {
        let values = resources.iter().filter(|resource| resource.name == name);
        let mut values = values
            .filter_map(|resource| Some(resource.scalar?.value))
            .peekable();
        values.peek()?;
        Some(values.sum::<f64>())
    };
    let limit = |name| limits.get(name).map(|scalar| scalar.value);
    Limits {
        cpus: sum("cpus"),
        revocable_cpus: resources
            .iter()
            .any(|resource| resource.name == "cpus" && resource.revocable.is_some()),
        cpus_limit: limit("cpus"),
        mem: sum("mem").map(bytes),
        mem_limit: limit("mem").map(bytes),
        disks: resources
            .iter()
            .filter(|resource| resource.name == "disk")
            .cloned()
            .collect(),
        gpus: sum("gpus").unwrap_or_default(),
        ports: ports(resources),
    }
}

/// The ranges of the resources named `ports`, as far as they are ports.
fn ports(resources: &[Resource]) -> Vec<RangeInclusive<u16>> {
    let named = resources.iter().filter(|resource| resource.name == "ports");
    let ranges = named.filter_map(|resource| resource.ranges.as_ref());
    let port = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
    ranges
        .flat_map(|ranges| &ranges.range)
        .map(|range| port(range.begin)..=port(range.end))
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates: infinity is no limit, what is negative is none at all"
)]
fn bytes(megabytes: f64) -> u64 {
    (megabytes * MB).round() as u64
}

/// The command as an image completes it.
///
/// # Source
/// Mesos 1.11 `docker/runtime`: a shell command and an explicit program stand as they are; without
/// a program the image's entry point runs with the arguments given, or else with its own.
pub(super) fn complete(
    command: &CommandInfo,
    image: &ImageConfig,
) -> Result<CommandInfo, &'static str> {
    let mut command = command.clone();
    if command.shell() || command.value.is_some() {
        return Ok(command);
    }
    let arguments = std::mem::take(&mut command.arguments);
    let (program, rest) = match (image.entrypoint.is_empty(), arguments.is_empty()) {
        (false, false) => (&image.entrypoint[..], arguments),
        (false, true) => (&image.entrypoint[..], image.command.clone()),
        (true, true) => (&image.command[..], Vec::new()),
        (true, false) => (image.command.get(..1).unwrap_or_default(), arguments),
    };
    let Some(name) = program.first() else {
        return Err("neither the command nor its image says what to run");
    };
    command.value = Some(name.clone());
    command.arguments = program.iter().cloned().chain(rest).collect();
    Ok(command)
}

/// The whole environment: what the container was given, over what its image says.
pub(super) fn environment(
    given: &BTreeMap<String, String>,
    image: &ImageConfig,
    sandbox: &Path,
) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = image
        .environment
        .iter()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    environment.extend(given.clone());
    let sandbox = sandbox.to_string_lossy().into_owned();
    environment.insert("MESOS_SANDBOX".into(), sandbox);
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::mesos::value;

    fn scalar(name: &str, value: f64) -> Resource {
        Resource {
            name: name.into(),
            r#type: value::Type::Scalar.into(),
            scalar: Some(Scalar { value }),
            ..Resource::default()
        }
    }

    #[test]
    fn resources_add_up_and_bursts_may_be_unlimited() {
        let resources = [
            scalar("cpus", 0.5),
            scalar("mem", 32.0),
            scalar("cpus", 1.0),
        ];
        let bursts = BTreeMap::from([(
            "mem".to_owned(),
            Scalar {
                value: f64::INFINITY,
            },
        )]);
        let limits = limits(&resources, &bursts);
        assert_eq!(limits.cpus, Some(1.5));
        assert_eq!(limits.cpus_limit, None);
        assert_eq!(limits.mem, Some(32 << 20));
        assert_eq!(limits.mem_limit, Some(u64::MAX));
    }

    #[test]
    fn images_complete_commands() {
        let strings = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        let check = |entrypoint: &[&str], cmd: &[&str], given: &[&str], expected: &[&str]| {
            let image = ImageConfig {
                entrypoint: strings(entrypoint),
                command: strings(cmd),
                ..ImageConfig::default()
            };
            let command = CommandInfo {
                shell: Some(false),
                arguments: strings(given),
                ..CommandInfo::default()
            };
            let found = complete(&command, &image).map(|command| command.arguments);
            let found = found.unwrap_or_default();
            assert_eq!(found, strings(expected), "{entrypoint:?} {cmd:?} {given:?}");
        };
        check(&["e"], &["c"], &[], &["e", "c"]);
        check(&["e"], &["c"], &["a"], &["e", "a"]);
        check(&["e"], &[], &[], &["e"]);
        check(&[], &["c", "d"], &[], &["c", "d"]);
        check(&[], &["c", "d"], &["a"], &["c", "a"]);
        check(&[], &[], &["a"], &[]);
    }

    #[test]
    fn the_given_environment_wins() {
        let image = ImageConfig {
            environment: vec!["PATH=/image".into(), "LANG=C".into(), "odd".into()],
            ..ImageConfig::default()
        };
        let given = BTreeMap::from([("PATH".to_owned(), "/given".to_owned())]);
        let found = environment(&given, &image, Path::new("/mnt/mesos/sandbox"));
        let found: Vec<_> = found.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            found,
            ["LANG=C", "MESOS_SANDBOX=/mnt/mesos/sandbox", "PATH=/given"]
        );
    }
}
