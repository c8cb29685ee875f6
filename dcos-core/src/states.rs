//! What a task's state means for those who wait for its end.
//!
//! Source: Mesos 1.11 `protobuf::isTerminalState`.

use dcos_proto::mesos::TaskState;

/// Whether no update can follow this state. Unreachable and unknown tasks may come back.
pub fn is_terminal(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::TaskFinished
            | TaskState::TaskFailed
            | TaskState::TaskKilled
            | TaskState::TaskError
            | TaskState::TaskLost
            | TaskState::TaskDropped
            | TaskState::TaskGone
            | TaskState::TaskGoneByOperator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_come_back_has_not_ended() {
        for name in [
            "TASK_STAGING",
            "TASK_STARTING",
            "TASK_RUNNING",
            "TASK_KILLING",
            "TASK_UNREACHABLE",
            "TASK_UNKNOWN",
        ] {
            assert!(
                !is_terminal(TaskState::from_str_name(name).unwrap()),
                "{name}"
            );
        }
        assert!(is_terminal(TaskState::TaskLost) && is_terminal(TaskState::TaskGone));
    }
}
