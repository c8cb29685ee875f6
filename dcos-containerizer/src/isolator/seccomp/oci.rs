//! A profile as the OCI runtime specification writes it, for runtimes that compile it themselves.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde_json::{Value, json};

use super::{ARCHITECTURE, Action, Argument, Calls, Kind, Operator, Profile, failed};
use crate::isolator::IsolatorError;

impl Profile {
    /// The profile for a container with these capabilities in its bounding set: conditions that
    /// the specification has no words for are decided.
    ///
    /// # Errors
    /// [`IsolatorError::Seccomp`] if the specification cannot express it.
    pub fn to_oci(
        &self,
        capabilities: Option<&HashSet<Capability>>,
    ) -> Result<LinuxSeccomp, IsolatorError> {
        // A rule that says what holds anyway is refused by the library behind most runtimes.
        let says_more = |calls: &&Calls| {
            calls.action != self.default_action || calls.errno_ret != self.default_errno_ret
        };
        let entries = self.entries(capabilities).filter(says_more);
        let kinds = self.kinds();
        let others = Kind::OTHERS.iter().filter(|(kind, _)| kinds.contains(kind));
        let others = others.map(|(_, name)| *name);
        let architectures: Vec<_> = std::iter::once(ARCHITECTURE).chain(others).collect();
        let mut profile = json!({
            "defaultAction": word_of_action(self.default_action),
            "architectures": architectures,
            "syscalls": entries.map(entry).collect::<Vec<_>>(),
        });
        if let Some(errno) = self.default_errno_ret {
            profile["defaultErrnoRet"] = errno.into();
        }
        serde_json::from_value(profile).map_err(|error| failed(&error))
    }
}

fn entry(calls: &Calls) -> Value {
    let mut entry = json!({"names": calls.names, "action": word_of_action(calls.action)});
    if let Some(errno) = calls.errno_ret {
        entry["errnoRet"] = errno.into();
    }
    let arguments = calls.args.iter().flatten().map(argument);
    let arguments: Vec<_> = arguments.collect();
    if !arguments.is_empty() {
        entry["args"] = arguments.into();
    }
    entry
}

fn argument(argument: &Argument) -> Value {
    json!({
        "index": argument.index,
        "value": argument.value,
        "valueTwo": argument.value_two,
        "op": word_of_operator(argument.op),
    })
}

fn word_of_action(action: Action) -> &'static str {
    match action {
        Action::Allow => "SCMP_ACT_ALLOW",
        Action::Errno => "SCMP_ACT_ERRNO",
        Action::KillThread => "SCMP_ACT_KILL_THREAD",
        Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
        Action::Trap => "SCMP_ACT_TRAP",
        Action::Trace => "SCMP_ACT_TRACE",
        Action::Log => "SCMP_ACT_LOG",
    }
}

fn word_of_operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Ne => "SCMP_CMP_NE",
        Operator::Lt => "SCMP_CMP_LT",
        Operator::Le => "SCMP_CMP_LE",
        Operator::Eq => "SCMP_CMP_EQ",
        Operator::Ge => "SCMP_CMP_GE",
        Operator::Gt => "SCMP_CMP_GT",
        Operator::MaskedEq => "SCMP_CMP_MASKED_EQ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(capabilities: Option<&HashSet<Capability>>) -> Value {
        serde_json::to_value(Profile::builtin().to_oci(capabilities).unwrap()).unwrap()
    }

    #[test]
    fn conditions_are_decided() {
        let ordinary = text(None);
        assert_eq!(ordinary["defaultAction"], "SCMP_ACT_ERRNO");
        let named = |profile: &Value, name: &str| {
            let entries = profile["syscalls"].as_array().unwrap().clone();
            let has = |entry: &Value| entry["names"].as_array().unwrap().contains(&name.into());
            entries.into_iter().find(|entry| has(entry))
        };
        assert!(named(&ordinary, "mount").is_none());
        let clone3 = named(&ordinary, "clone3").unwrap();
        assert_eq!(clone3["errnoRet"], libc::ENOSYS);
        let clone = named(&ordinary, "clone").unwrap();
        assert_eq!(clone["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
        let administrator = text(Some(&HashSet::from([Capability::SysAdmin])));
        assert!(named(&administrator, "mount").is_some());
    }

    #[test]
    fn what_the_default_says_is_not_said_again() {
        let profile = br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
        let profile = Profile::parse(profile).unwrap().to_oci(None).unwrap();
        let profile = serde_json::to_value(profile).unwrap();
        assert_eq!(profile["syscalls"].as_array().unwrap().len(), 1);
        assert_eq!(profile["syscalls"][0]["names"][0], "reboot");
    }
}
