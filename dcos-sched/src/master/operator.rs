//! What operators order over the API v1 and the v0 endpoints: which call reaches which part.
//!
//! Both dialects arrive as the same [`Call`]; what only reads is answered from a snapshot outside
//! the core. An order is answered after what it changed is in the registry.

use dcos_proto::master::Call;
use dcos_proto::master::call::Type;

use super::{Master, Reply, RequestId};

/// Whether a call changes something, so that the core has to see it.
pub(crate) fn is_order(kind: Type) -> bool {
    matches!(
        kind,
        Type::Teardown
            | Type::UpdateQuota
            | Type::SetQuota
            | Type::RemoveQuota
            | Type::UpdateWeights
            | Type::UpdateMaintenanceSchedule
            | Type::StartMaintenance
            | Type::StopMaintenance
            | Type::DrainAgent
            | Type::DeactivateAgent
            | Type::ReactivateAgent
            | Type::MarkAgentGone
            | Type::ReserveResources
            | Type::UnreserveResources
            | Type::CreateVolumes
            | Type::DestroyVolumes
            | Type::GrowVolume
            | Type::ShrinkVolume
    )
}

impl Master {
    /// Carries out an order. `principal` is who gave it, if anybody authenticated.
    pub(crate) fn operator_call(
        &mut self,
        request: RequestId,
        principal: Option<&str>,
        call: Call,
    ) {
        self.order(request, |master| master.obey(principal, call));
    }

    /// Answers an order with how it was carried out.
    pub(crate) fn order(&mut self, request: RequestId, carry_out: impl FnOnce(&mut Self) -> Reply) {
        let reply = if self.recovered {
            carry_out(self)
        } else {
            Reply::refused(503, "Master has not finished recovery")
        };
        self.reply(request, reply);
    }

    fn obey(&mut self, principal: Option<&str>, call: Call) -> Reply {
        if !self.authorize_order(principal, &call) {
            return Reply::refused(403, "403 Forbidden.");
        }
        match call.r#type() {
            Type::Teardown => {
                let teardown = call.teardown.unwrap_or_default();
                self.operator_teardown(&teardown.framework_id)
            }
            Type::UpdateQuota => {
                let update = call.update_quota.unwrap_or_default();
                let force = update.force();
                self.update_quota(&update.quota_configs, force)
            }
            Type::SetQuota => {
                let set = call.set_quota.unwrap_or_default();
                self.set_quota(principal, set.quota_request)
            }
            Type::RemoveQuota => {
                let remove = call.remove_quota.unwrap_or_default();
                self.remove_quota(&remove.role)
            }
            Type::UpdateWeights => {
                let update = call.update_weights.unwrap_or_default();
                self.update_weights(update.weight_infos)
            }
            Type::UpdateMaintenanceSchedule => {
                let update = call.update_maintenance_schedule.unwrap_or_default();
                self.update_schedule(update.schedule)
            }
            Type::StartMaintenance => {
                let start = call.start_maintenance.unwrap_or_default();
                self.start_maintenance(&start.machines)
            }
            Type::StopMaintenance => {
                let stop = call.stop_maintenance.unwrap_or_default();
                self.stop_maintenance(&stop.machines)
            }
            Type::DrainAgent => self.drain_agent(&call.drain_agent.unwrap_or_default()),
            Type::DeactivateAgent => {
                let deactivate = call.deactivate_agent.unwrap_or_default();
                self.order_deactivation(&deactivate.agent_id)
            }
            Type::ReactivateAgent => {
                let reactivate = call.reactivate_agent.unwrap_or_default();
                self.order_reactivation(&reactivate.agent_id)
            }
            Type::MarkAgentGone => {
                let mark = call.mark_agent_gone.unwrap_or_default();
                self.order_gone(&mark.agent_id)
            }
            Type::ReserveResources
            | Type::UnreserveResources
            | Type::CreateVolumes
            | Type::DestroyVolumes
            | Type::GrowVolume
            | Type::ShrinkVolume => self.operate(principal, &call),
            other => Reply::refused(501, format!("{} is not supported", other.as_str_name())),
        }
    }
}
