//! Seccomp profiles: Docker's JSON format, the built-in profile, compilation.
//!
//! A compiled filter has one answer for what it names and one for the rest, while profiles have
//! several errors (`clone3` must look absent so that C libraries fall back to `clone`). So each
//! further answer is a filter of its own, which lets everything else pass; of several filters
//! that return an error the one installed last wins.
//!
//! On x86-64 there are three kinds of programs, whose calls have numbers of their own. Those with
//! short pointers (x32) and 32-bit ones are confined by the same entries, if the profile names them;
//! if not, the calls of the former are absent, and the latter are killed, as is what is of any other architecture.

mod calls;
mod compiled;
mod oci;
mod tree;

use std::collections::{BTreeMap, HashSet};

use dcos_launcher::Filter;
use oci_spec::runtime::Capability;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule, TargetArch,
};
use serde::Deserialize;

use super::IsolatorError;

use calls::Kind;
pub(crate) use compiled::{Compiled, Compiler};
use tree::{Machine, Rules};

/// A profile in Docker's format; unknown keys are left alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    /// The kinds of programs beside native ones; older profiles and those of OCI list them all.
    #[serde(default)]
    arch_map: Option<Vec<Family>>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Vec<Calls>,
}

/// An architecture, and the kinds of programs beside its own that its kernels run.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
}

/// Some system calls and what becomes of them, if the conditions hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    /// Older profiles have one `name` an entry.
    #[serde(default, alias = "name", deserialize_with = "one_or_many")]
    names: Vec<String>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Conditions>,
    #[serde(default)]
    excludes: Option<Conditions>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// When an entry holds: for containers that have a capability, on architectures.
#[derive(Debug, Clone, Default, Deserialize)]
struct Conditions {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    })
}

impl Profile {
    /// Reads a profile in Docker's JSON format.
    ///
    /// # Errors
    /// [`IsolatorError::Seccomp`] saying where it breaks the format.
    pub fn parse(json: &[u8]) -> Result<Self, IsolatorError> {
        serde_json::from_slice(json).map_err(|error| failed(&error))
    }

    /// What Docker confines its containers to: a list of what is allowed.
    pub fn builtin() -> Self {
        let mut syscalls = vec![entry(calls::ALWAYS, Action::Allow)];
        for (capability, names) in calls::WITH_CAPABILITY {
            let conditions = Conditions {
                caps: vec![(*capability).to_owned()],
                arches: vec![],
            };
            syscalls.push(Calls {
                includes: Some(conditions),
                ..entry(names, Action::Allow)
            });
        }
        for domain in [0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
            let argument = Argument {
                index: 0,
                value: domain,
                value_two: 0,
                op: Operator::Eq,
            };
            syscalls.push(Calls {
                args: Some(vec![argument]),
                ..entry(&["personality"], Action::Allow)
            });
        }
        // Sockets into the hypervisor are not confined by network namespaces.
        let vsock = Argument {
            index: 0,
            value: 40,
            value_two: 0,
            op: Operator::Ne,
        };
        syscalls.push(Calls {
            args: Some(vec![vsock]),
            ..entry(&["socket"], Action::Allow)
        });
        // New namespaces only for administrators.
        let administrator = Conditions {
            caps: vec!["CAP_SYS_ADMIN".to_owned()],
            arches: vec![],
        };
        let flags = Argument {
            index: 0,
            value: 0x7e02_0000,
            value_two: 0,
            op: Operator::MaskedEq,
        };
        syscalls.push(Calls {
            args: Some(vec![flags]),
            excludes: Some(administrator.clone()),
            ..entry(&["clone"], Action::Allow)
        });
        // The project of a file, by which its bytes are counted (`disk/xfs`), could be changed by whoever owns it, and
        // so could what a folder hands down to new files. The flags are behind a pointer: all of them are refused. The
        // answer is that of `clone3`, for which there is a filter anyway.
        for command in calls::SETTING_PROJECTS {
            let set_project = Argument {
                index: 1,
                value: u64::from(u32::MAX),
                value_two: command,
                op: Operator::MaskedEq,
            };
            syscalls.push(Calls {
                args: Some(vec![set_project]),
                errno_ret: Some(libc::ENOSYS.cast_unsigned()),
                excludes: Some(administrator.clone()),
                ..entry(&["ioctl"], Action::Errno)
            });
        }
        syscalls.push(Calls {
            errno_ret: Some(libc::ENOSYS.cast_unsigned()),
            excludes: Some(administrator),
            ..entry(&["clone3"], Action::Errno)
        });
        Self {
            default_action: Action::Errno,
            default_errno_ret: None,
            arch_map: None,
            architectures: None,
            syscalls,
        }
    }

    /// The kinds of programs that are confined, the native one first; others may not run.
    fn kinds(&self) -> Vec<Kind> {
        let families = self.arch_map.iter().flatten();
        let ours = families.filter(|family| family.architecture == ARCHITECTURE);
        let listed = ours.flat_map(|family| family.sub_architectures.iter().flatten());
        let named: Vec<_> = listed.chain(self.architectures.iter().flatten()).collect();
        let others = Kind::OTHERS.iter();
        let others = others.filter(|(_, name)| named.iter().any(|one| one == name));
        let others = others.map(|(kind, _)| *kind);
        std::iter::once(Kind::Native).chain(others).collect()
    }

    /// What of the profile holds for a container with these capabilities in its bounding set.
    fn entries<'a>(
        &'a self,
        capabilities: Option<&'a HashSet<Capability>>,
    ) -> impl Iterator<Item = &'a Calls> {
        let has = move |name: &String| {
            capabilities.is_some_and(|set| set.iter().any(|one| one.to_string() == short(name)))
        };
        let here = |name: &String| name == ARCHITECTURE || name == DOCKER_ARCHITECTURE;
        let holds = move |calls: &&Calls| {
            let includes = calls.includes.as_ref().is_none_or(|wanted| {
                (wanted.caps.is_empty() || wanted.caps.iter().all(has))
                    && (wanted.arches.is_empty() || wanted.arches.iter().any(here))
            });
            let excludes = calls.excludes.as_ref().is_none_or(|unwanted| {
                !unwanted.caps.iter().any(has) && !unwanted.arches.iter().any(here)
            });
            includes && excludes
        };
        self.syscalls.iter().filter(holds)
    }

    /// Filters for a container with these capabilities in its bounding set, in the order of
    /// installation; `None` is a container without any that was named.
    ///
    /// # Errors
    /// [`IsolatorError::Seccomp`] if the profile cannot be expressed.
    pub fn compile(
        &self,
        capabilities: Option<&HashSet<Capability>>,
    ) -> Result<Vec<Filter>, IsolatorError> {
        let default = action(self.default_action, self.default_errno_ret);
        let kinds = self.kinds();
        let nothing = || -> Rules {
            let kinds = kinds.iter();
            kinds
                .map(|kind| (Machine::of(*kind), BTreeMap::new()))
                .collect()
        };
        // What any entry is about is let through by the first filter, and nothing else; the ones behind it say what
        // becomes of it instead. Of several answers the kernel takes the strictest.
        let mut listed = nothing();
        // Actions in order of appearance, each with what it applies to.
        let mut groups: Vec<(SeccompAction, Rules)> = Vec::new();
        for calls in self.entries(capabilities) {
            let wanted = action(calls.action, calls.errno_ret);
            if wanted == default {
                continue;
            }
            add(&mut listed, &kinds, calls)?;
            if wanted == SeccompAction::Allow {
                continue;
            }
            let place = groups.iter().position(|(action, _)| *action == wanted);
            let place = place.unwrap_or_else(|| {
                groups.push((wanted, nothing()));
                groups.len() - 1
            });
            add(&mut groups[place].1, &kinds, calls)?;
        }
        let mut filters = Vec::new();
        let foreign = |otherwise: &SeccompAction| match &default {
            _ if kinds.contains(&Kind::X32) => otherwise.clone(),
            SeccompAction::Allow | SeccompAction::Log => absent(),
            refused => refused.clone(),
        };
        if default != SeccompAction::Allow {
            let answers = tree::Answers {
                matched: SeccompAction::Allow,
                foreign: foreign(&default),
                otherwise: default.clone(),
            };
            filters.push(tree::assemble(listed, &answers)?);
        }
        for (matched, rules) in groups {
            let otherwise = SeccompAction::Allow;
            let answers = tree::Answers {
                matched,
                foreign: foreign(&otherwise),
                otherwise,
            };
            filters.push(tree::assemble(rules, &answers)?);
        }
        tree::fit(&filters)?;
        Ok(filters)
    }
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "SCMP_ARCH_X86_64";
#[cfg(target_arch = "x86_64")]
const DOCKER_ARCHITECTURE: &str = "amd64";
#[cfg(target_arch = "x86_64")]
const TARGET: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "SCMP_ARCH_AARCH64";
#[cfg(target_arch = "aarch64")]
const DOCKER_ARCHITECTURE: &str = "arm64";
#[cfg(target_arch = "aarch64")]
const TARGET: TargetArch = TargetArch::aarch64;

fn entry(names: &[&str], action: Action) -> Calls {
    Calls {
        names: names.iter().map(ToString::to_string).collect(),
        action,
        errno_ret: None,
        args: None,
        includes: None,
        excludes: None,
    }
}

fn short(capability: &str) -> &str {
    capability.strip_prefix("CAP_").unwrap_or(capability)
}

/// As a kernel answers that does not know a call.
fn absent() -> SeccompAction {
    SeccompAction::Errno(libc::ENOSYS.cast_unsigned())
}

fn action(action: Action, errno: Option<u32>) -> SeccompAction {
    match action {
        Action::Allow => SeccompAction::Allow,
        Action::Errno => SeccompAction::Errno(errno.unwrap_or(libc::EPERM.cast_unsigned())),
        Action::KillThread => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
        Action::Trap => SeccompAction::Trap,
        Action::Trace => SeccompAction::Trace(errno.unwrap_or(0)),
        Action::Log => SeccompAction::Log,
    }
}

/// Adds the rules of an entry for all kinds of programs.
fn add(rules: &mut Rules, kinds: &[Kind], calls: &Calls) -> Result<(), IsolatorError> {
    let arguments = calls.args.as_deref().unwrap_or_default();
    for kind in kinds {
        let rules = rules.entry(Machine::of(*kind)).or_default();
        let known = |name| Some((kind.number(name)?, name));
        for (number, _) in calls.names.iter().filter_map(|name| known(name)) {
            insert(rules, number, *kind, arguments)?;
        }
        if *kind != Kind::X86 {
            continue;
        }
        // What is handed over in memory cannot be looked at: where that matters nothing is let through, and all is refused.
        if !arguments.is_empty() && matches!(calls.action, Action::Allow | Action::Log) {
            continue;
        }
        for (door, which) in calls.names.iter().filter_map(|name| calls::behind(name)) {
            let is_it = Argument {
                index: 0,
                value: 0xffff,
                value_two: which,
                op: Operator::MaskedEq,
            };
            let number = kind.number(door).expect("both are in the table");
            insert(rules, number, *kind, &[is_it])?;
        }
    }
    Ok(())
}

/// Adds a rule for one system call; an empty list of rules matches always.
fn insert(
    rules: &mut BTreeMap<i64, Vec<SeccompRule>>,
    number: i64,
    kind: Kind,
    arguments: &[Argument],
) -> Result<(), IsolatorError> {
    if arguments.is_empty() {
        rules.insert(number, Vec::new());
        return Ok(());
    }
    let condition = |argument: &Argument| {
        let [value, value_two] = [argument.value, argument.value_two].map(|value| match kind {
            Kind::X86 => narrow(value),
            Kind::Native | Kind::X32 => value,
        });
        let (operator, value) = match argument.op {
            Operator::Ne => (SeccompCmpOp::Ne, value),
            Operator::Lt => (SeccompCmpOp::Lt, value),
            Operator::Le => (SeccompCmpOp::Le, value),
            Operator::Eq => (SeccompCmpOp::Eq, value),
            Operator::Ge => (SeccompCmpOp::Ge, value),
            Operator::Gt => (SeccompCmpOp::Gt, value),
            // The mask comes first, then what has to be left under it.
            Operator::MaskedEq => (SeccompCmpOp::MaskedEq(value), value_two),
        };
        SeccompCondition::new(argument.index, SeccompCmpArgLen::Qword, operator, value)
    };
    let conditions = arguments.iter().map(condition).collect::<Result<_, _>>();
    let rule = SeccompRule::new(conditions.map_err(|error| failed(&error))?);
    let rule = rule.map_err(|error| failed(&error))?;
    match rules.get_mut(&number) {
        // It matches always as it is.
        Some(known) if known.is_empty() => {}
        Some(known) => known.push(rule),
        None => drop(rules.insert(number, vec![rule])),
    }
    Ok(())
}

/// A value as a 32-bit program hands it over, which the kernel shows without a sign: what is meant as -1 has 32 bits.
fn narrow(value: u64) -> u64 {
    match i32::try_from(value.cast_signed()) {
        Ok(_) => value & u64::from(u32::MAX),
        Err(_) => value,
    }
}

fn failed(error: &dyn std::error::Error) -> IsolatorError {
    IsolatorError::Seccomp {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_profile_compiles_to_two_filters() {
        let filters = Profile::builtin().compile(None).unwrap();
        assert_eq!(filters.len(), 2);
        assert!(
            filters
                .iter()
                .all(|filter| filter.instructions.len() <= 4096)
        );
        // An administrator may clone as it likes: no exception is left.
        let administrator = HashSet::from([Capability::SysAdmin]);
        assert_eq!(
            Profile::builtin()
                .compile(Some(&administrator))
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn all_names_of_the_builtin_profile_are_known_here() {
        // Those of other architectures aside.
        let absent = |name: &&&str| calls::number(name).is_none();
        let unknown: Vec<_> = calls::ALWAYS.iter().filter(absent).collect();
        assert!(
            cfg!(not(target_arch = "x86_64")) || unknown.is_empty(),
            "{unknown:?}"
        );
    }

    #[test]
    fn profiles_are_read_in_both_forms() {
        let profile = br#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "archMap": [],
            "syscalls": [
                {"name": "read", "action": "SCMP_ACT_ALLOW", "args": []},
                {"names": ["write", "no_such_call"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
                 "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
                {"names": ["mkdir"], "action": "SCMP_ACT_KILL"}
            ]}"#;
        let filters = Profile::parse(profile).unwrap().compile(None).unwrap();
        assert_eq!(filters.len(), 2);
        assert!(Profile::parse(b"{}").is_err());
    }
}
