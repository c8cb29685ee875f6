//! What a framework keeps for itself: reservations and volumes, and the operations that make and
//! unmake them.

use std::collections::BTreeMap;

use dcos_core::resources::operation::conversions;
use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::time::Time;
use dcos_proto::mesos::offer::{Operation, operation};
use dcos_proto::mesos::resource::disk_info::Persistence;
use dcos_proto::mesos::resource::{DiskInfo, ReservationInfo, reservation_info};
use dcos_proto::mesos::{
    AgentId, Label, Labels, Offer, OperationId, OperationState, OperationStatus, Resource, Volume,
    value, volume,
};
use dcos_proto::scheduler::{Call, call};

use super::Framework;
use crate::guard::GUEST;
use crate::watch::holdings::{LABEL, volume_id};

/// After this long no copy of a call is under way any more.
const LOST: std::time::Duration = std::time::Duration::from_mins(2);

/// What a framework knows of an operation it named.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    agent: AgentId,
    since: Time,
    /// Since when its agent is out of reach.
    away: Option<Time>,
    /// How its agent said it ended.
    ended: Option<OperationState>,
}

/// What is left of an offer while an answer to it is made up.
struct Answer<'a> {
    now: Time,
    agent: &'a AgentId,
    left: &'a mut Resources,
    operations: &'a mut Vec<Operation>,
}

impl Answer<'_> {
    /// Adds an operation, if it fits what is left; says whether.
    fn add(&mut self, operation: Operation) -> bool {
        let after = conversions(&operation)
            .ok()
            .and_then(|conversions| self.left.convert_all(&conversions).ok());
        let Some(after) = after else { return false };
        *self.left = after;
        self.operations.push(operation);
        true
    }
}

impl Framework {
    /// Reserves, creates, destroys, unreserves; and launches on what is reserved.
    pub(super) fn keep_house(
        &mut self,
        now: Time,
        offer: &Offer,
        left: &mut Resources,
        operations: &mut Vec<Operation>,
    ) {
        let role = offer.allocation_info.clone().unwrap_or_default();
        let role = role.role().to_owned();
        let mut answer = Answer {
            now,
            agent: &offer.agent_id,
            left,
            operations,
        };
        if self.is_calm {
            return self.give_up(&mut answer);
        }
        for (_, kept) in by_label(answer.left) {
            self.use_kept(&kept, &mut answer);
        }
        if self.wanted == 0 || !self.seed.chance(self.keep) {
            return;
        }
        let chunk = Resources::parse("cpus:1;mem:64;disk:64").expect("it is well formed");
        let label = self.new_name();
        let principal = self.is_guest.then_some(GUEST);
        if let Some(kept) = keep(&chunk, &role, &label, principal) {
            let kept = kept.allocated_to(&role);
            let resources = kept.to_messages();
            let reserve = Operation {
                reserve: Some(operation::Reserve {
                    resources,
                    source: Vec::new(),
                }),
                ..of_kind(operation::Type::Reserve)
            };
            if self.ask(reserve, &mut answer) && self.seed.chance(0.5) {
                self.use_kept(&kept, &mut answer);
            }
        }
    }

    /// Destroys and unreserves all it was offered.
    fn give_up(&mut self, answer: &mut Answer<'_>) {
        let volumes = answer
            .left
            .filter(is_ours)
            .filter(ResourceExt::is_persistent_volume);
        if !volumes.is_empty() {
            let destroy = destroy(&volumes);
            self.ask(destroy, answer);
        }
        let kept = answer.left.filter(is_ours);
        if !kept.is_empty() {
            let unreserve = unreserve(&kept);
            self.ask(unreserve, answer);
        }
    }

    /// Does something with what one reservation holds.
    fn use_kept(&mut self, kept: &Resources, answer: &mut Answer<'_>) {
        let volumes = kept.filter(ResourceExt::is_persistent_volume);
        let dice = self.seed.unit();
        if volumes.is_empty() {
            if dice < 0.15 {
                let unreserve = unreserve(kept);
                self.ask(unreserve, answer);
                return;
            }
            if dice < 0.5
                && let Some(disk) = kept.named("disk").iter().next()
            {
                let volume = volume_on(disk, &self.new_name());
                let create = Operation {
                    create: Some(operation::Create {
                        volumes: vec![volume.clone()],
                    }),
                    ..of_kind(operation::Type::Create)
                };
                if self.ask(create, answer) && self.seed.chance(0.6) {
                    let mut used = kept.filter(|it| it.name != "disk");
                    used.add_message(&volume);
                    self.launch_on(&used, answer);
                }
                return;
            }
        } else if dice < 0.15 {
            let destroy = destroy(&volumes);
            self.ask(destroy, answer);
            return;
        }
        if dice > 0.4 {
            let used = kept.filter(|it| it.name != "disk" || volume_id(it).is_some());
            self.launch_on(&used, answer);
        }
    }

    fn launch_on(&mut self, used: &Resources, answer: &mut Answer<'_>) {
        let is_enough = used.cpus().is_some() && used.mem().is_some();
        if self.wanted == 0 || !is_enough || !answer.left.contains(used) {
            return;
        }
        *answer.left -= used;
        self.wanted -= 1;
        let task_infos = vec![self.new_task(answer.agent, used)];
        answer.operations.push(Operation {
            r#type: Some(operation::Type::Launch.into()),
            launch: Some(operation::Launch { task_infos }),
            ..Operation::default()
        });
    }

    fn new_name(&mut self) -> String {
        self.next += 1;
        format!("{}-{}", self.name, self.next)
    }

    /// Asks for an operation, if it fits what is left; mostly for one whose outcome is to be told.
    fn ask(&mut self, mut operation: Operation, answer: &mut Answer<'_>) -> bool {
        // Feedback is not for drivers.
        let is_named = self.seed.chance(0.7) && !self.is_driver;
        let id = format!("operation-{}", self.new_name());
        operation.id = is_named.then(|| OperationId::from(&*id));
        let fits = answer.add(operation);
        if fits && is_named {
            let asked = Asked {
                agent: answer.agent.clone(),
                since: answer.now,
                away: None,
                ended: None,
            };
            self.asked.insert(id.clone(), asked);
            self.pending.insert(id);
        }
        fits
    }

    /// Takes in how an operation went.
    pub(super) fn operation_status(&mut self, now: Time, status: &OperationStatus) -> Option<Call> {
        let id = status.operation_id.clone()?.value;
        let state = status.state();
        let Some(asked) = self.asked.get_mut(&id) else {
            self.complaint = Some(format!("an update for {id}, which was never asked for"));
            return None;
        };
        let uuid = status.uuid.clone().map(|uuid| uuid.value);
        if is_over(state) {
            if let Some(ended) = asked.ended
                && ended != state
                && uuid.is_some()
            {
                let (was, is) = (ended.as_str_name(), state.as_str_name());
                self.complaint = Some(format!("{id} ended twice: {was} and then {is}"));
            }
            if uuid.is_some() {
                asked.ended = Some(state);
            }
            self.pending.remove(&id);
        } else if state == OperationState::OperationUnknown {
            if now.since(asked.since) > LOST {
                self.pending.remove(&id);
            }
        } else if state == OperationState::OperationUnreachable {
            let away = *asked.away.get_or_insert(now);
            if now.since(away) > super::GIVE_UP {
                self.pending.remove(&id);
            }
        } else {
            asked.away = None;
        }
        let uuid = uuid?;
        Some(Call {
            acknowledge_operation_status: Some(call::AcknowledgeOperationStatus {
                agent_id: status.agent_id.clone(),
                resource_provider_id: None,
                uuid,
                operation_id: OperationId::from(id),
            }),
            ..self.call(call::Type::AcknowledgeOperationStatus)
        })
    }

    /// Asks what became of the operations nobody has told of.
    pub(super) fn reconcile_operations(&self) -> Call {
        let operations = self.pending.iter().filter_map(|id| {
            let asked = self.asked.get(id)?;
            Some(call::reconcile_operations::Operation {
                operation_id: OperationId::from(id.clone()),
                agent_id: Some(asked.agent.clone()),
                resource_provider_id: None,
            })
        });
        let operations = operations.collect();
        Call {
            reconcile_operations: Some(call::ReconcileOperations { operations }),
            ..self.call(call::Type::ReconcileOperations)
        }
    }
}

fn of_kind(kind: operation::Type) -> Operation {
    Operation {
        r#type: Some(kind.into()),
        ..Operation::default()
    }
}

fn unreserve(kept: &Resources) -> Operation {
    let resources = kept.to_messages();
    Operation {
        unreserve: Some(operation::Unreserve { resources }),
        ..of_kind(operation::Type::Unreserve)
    }
}

fn destroy(volumes: &Resources) -> Operation {
    let volumes = volumes.to_messages();
    Operation {
        destroy: Some(operation::Destroy { volumes }),
        ..of_kind(operation::Type::Destroy)
    }
}

fn is_over(state: OperationState) -> bool {
    matches!(
        state,
        OperationState::OperationFinished
            | OperationState::OperationFailed
            | OperationState::OperationError
            | OperationState::OperationDropped
            | OperationState::OperationGoneByOperator
    )
}

fn is_ours(resource: &Resource) -> bool {
    label_of(resource).is_some()
}

fn label_of(resource: &Resource) -> Option<&str> {
    let labels = resource.reservations.last()?.labels.as_ref()?;
    let label = labels.labels.iter().find(|label| label.key == LABEL)?;
    label.value.as_deref()
}

/// Whether some of it is reserved by the one of this name.
pub(super) fn is_kept_by(offered: &[Resource], name: &str) -> bool {
    let mut labels = offered.iter().filter_map(label_of);
    labels.any(|label| label.starts_with(name) && label[name.len()..].starts_with('-'))
}

/// What is offered of each reservation.
fn by_label(offered: &Resources) -> BTreeMap<String, Resources> {
    let mut all: BTreeMap<String, Resources> = BTreeMap::new();
    for resource in offered.to_messages() {
        if let Some(label) = label_of(&resource) {
            all.entry(label.to_owned())
                .or_default()
                .add_message(&resource);
        }
    }
    all
}

/// Resources as they are when they are kept for a role, by a reservation with this label.
pub(crate) fn keep(
    what: &Resources,
    role: &str,
    label: &str,
    principal: Option<&str>,
) -> Option<Resources> {
    let label = Label {
        key: LABEL.to_owned(),
        value: Some(label.to_owned()),
    };
    let reservation = ReservationInfo {
        r#type: Some(reservation_info::Type::Dynamic.into()),
        role: Some(role.to_owned()),
        labels: Some(Labels {
            labels: vec![label],
        }),
        principal: principal.map(ToOwned::to_owned),
    };
    what.push_reservation(&reservation).ok()
}

/// Half of a reserved disk as a persistent volume.
pub(crate) fn volume_on(disk: &Resource, id: &str) -> Resource {
    let half = disk.scalar_value().unwrap_or_default().as_f64() / 2.0;
    Resource {
        scalar: Some(value::Scalar { value: half }),
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence {
                id: id.to_owned(),
                principal: None,
            }),
            volume: Some(Volume {
                container_path: "volume".to_owned(),
                mode: volume::Mode::Rw.into(),
                ..Volume::default()
            }),
            source: None,
        })),
        ..disk.clone()
    }
}
