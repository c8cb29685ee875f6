//! What frameworks wish for.

use dcos_core::resources::Quantities;
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::call;

use super::Master;
use crate::allocator::Event as Allocation;

impl Master {
    /// REQUEST: each request is a piece that the framework would use on one agent.
    pub(crate) fn wish(&mut self, framework: &FrameworkId, request: &call::Request) {
        let pieces = request
            .requests
            .iter()
            .map(|piece| Quantities::from_scalars(&piece.resources))
            .filter(|piece| !piece.is_empty())
            .collect();
        let event = Allocation::Wish {
            framework: framework.clone(),
            pieces,
        };
        self.allocator.handle(self.now, event);
    }
}
