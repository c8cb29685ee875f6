//! `posix/rlimits`: limits of processes, as `setrlimit(2)` knows them.

use async_trait::async_trait;
use dcos_proto::mesos::ContainerId;
use dcos_proto::mesos::r_limit_info::RLimit;
use dcos_proto::mesos::r_limit_info::r_limit::Type;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::isolator::draft::refused;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

/// Sets the limits that `ContainerInfo.rlimit_info` asks for.
#[derive(Debug)]
pub struct RlimitsIsolator;

#[async_trait]
impl Isolator for RlimitsIsolator {
    fn name(&self) -> &'static str {
        "posix/rlimits"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let info = config
            .container
            .as_ref()
            .and_then(|container| container.rlimit_info.as_ref());
        let Some(info) = info else { return Ok(()) };
        let mut limits = info
            .rlimits
            .iter()
            .map(translate)
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(process) = draft.spec.process_mut() {
            // What is not asked for stays as it was drafted.
            let mut drafted = process.rlimits().clone().unwrap_or_default();
            drafted.retain(|limit| limits.iter().all(|asked| asked.typ() != limit.typ()));
            limits.append(&mut drafted);
            process.set_rlimits(Some(limits));
        }
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

fn translate(limit: &RLimit) -> Result<PosixRlimit, IsolatorError> {
    let kind = limit
        .r#type
        .and_then(|kind| Type::try_from(kind).ok())
        .unwrap_or_default();
    let typ = match kind {
        Type::RlmtAs => PosixRlimitType::RlimitAs,
        Type::RlmtCore => PosixRlimitType::RlimitCore,
        Type::RlmtCpu => PosixRlimitType::RlimitCpu,
        Type::RlmtData => PosixRlimitType::RlimitData,
        Type::RlmtFsize => PosixRlimitType::RlimitFsize,
        Type::RlmtLocks => PosixRlimitType::RlimitLocks,
        Type::RlmtMemlock => PosixRlimitType::RlimitMemlock,
        Type::RlmtMsgqueue => PosixRlimitType::RlimitMsgqueue,
        Type::RlmtNice => PosixRlimitType::RlimitNice,
        Type::RlmtNofile => PosixRlimitType::RlimitNofile,
        Type::RlmtNproc => PosixRlimitType::RlimitNproc,
        Type::RlmtRss => PosixRlimitType::RlimitRss,
        Type::RlmtRtprio => PosixRlimitType::RlimitRtprio,
        Type::RlmtRttime => PosixRlimitType::RlimitRttime,
        Type::RlmtSigpending => PosixRlimitType::RlimitSigpending,
        Type::RlmtStack => PosixRlimitType::RlimitStack,
        Type::Unknown => return Err(IsolatorError::refused("a resource limit of unknown type")),
    };
    // Both or none; none is unlimited.
    let (soft, hard) = match (limit.soft, limit.hard) {
        (Some(soft), Some(hard)) => (soft, hard),
        (None, None) => (u64::MAX, u64::MAX),
        _ => {
            return Err(IsolatorError::refused(format!(
                "resource limit {} needs both a soft and a hard value, or neither",
                kind.as_str_name()
            )));
        }
    };
    PosixRlimitBuilder::default()
        .typ(typ)
        .soft(soft)
        .hard(hard)
        .build()
        .map_err(refused)
}

#[cfg(test)]
mod tests {
    use dcos_proto::mesos::{ContainerInfo, RLimitInfo};
    use dcos_wire::limits::{open_files, raise_open_files};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    async fn prepared(asked: &[(Type, u64)]) -> Vec<(PosixRlimitType, u64)> {
        let rlimits = asked.iter().map(|(kind, limit)| RLimit {
            r#type: Some((*kind).into()),
            soft: Some(*limit),
            hard: Some(*limit),
        });
        let info = RLimitInfo {
            rlimits: rlimits.collect(),
        };
        let mut config = ContainerConfig {
            container: Some(ContainerInfo {
                rlimit_info: (!asked.is_empty()).then_some(info),
                ..ContainerInfo::default()
            }),
            ..ContainerConfig::default()
        };
        config.command.value = Some("true".to_owned());
        let mut draft = Draft::new(&config).unwrap();
        RlimitsIsolator.prepare(&config, &mut draft).await.unwrap();
        let process = draft.spec.process().as_ref().unwrap();
        let limits = process.rlimits().iter().flatten();
        limits.map(|limit| (limit.typ(), limit.soft())).collect()
    }

    #[tokio::test]
    async fn containers_begin_with_the_open_files_that_their_agent_was_given() {
        assert_eq!(prepared(&[]).await, []);
        let soft = open_files().hard - 1;
        let given = Rlimit {
            current: Some(soft),
            ..getrlimit(Resource::Nofile)
        };
        setrlimit(Resource::Nofile, given).unwrap();
        raise_open_files().unwrap();
        let given = (PosixRlimitType::RlimitNofile, soft);
        assert_eq!(prepared(&[]).await, [given]);
        let core = (PosixRlimitType::RlimitCore, 0);
        assert_eq!(prepared(&[(Type::RlmtCore, 0)]).await, [core, given]);
        let own = (PosixRlimitType::RlimitNofile, 17);
        assert_eq!(prepared(&[(Type::RlmtNofile, 17)]).await, [own]);
    }
}
