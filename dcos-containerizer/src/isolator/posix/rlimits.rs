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
        let limits = info
            .rlimits
            .iter()
            .map(translate)
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(process) = draft.spec.process_mut() {
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
