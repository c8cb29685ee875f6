//! `POST /api/v1`: the operator API.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dcos_core::resources::validate_all;
use dcos_core::verbosity;
use dcos_proto::master::call::Type;
use dcos_proto::master::{Call, Response as Answer, response};
use dcos_proto::mesos::{Flag, Metric};
use dcos_security::{Action, Caller, Object};
use dcos_wire::files::Piece;
use dcos_wire::{MediaType, Refusal, logging, reply};

use super::desk::{Order, Takes};
use super::documents::{Document, Part};
use super::sight::Sight;
use super::{Api, answer, body, files, metrics, name_of, only, views};
use crate::master::Snapshot;
use crate::master::operator::is_order;
use crate::master::shell::encode;

pub(super) async fn call(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    takes: Takes,
    headers: HeaderMap,
    content: Bytes,
) -> Response {
    if let Err(refusal) = name_of(&caller) {
        return refusal.into_response();
    }
    if let Err(refused) = only(&Method::POST, &method) {
        return *refused;
    }
    match Box::pin(perform(&api, &caller, takes, &headers, &content)).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn perform(
    api: &Api,
    caller: &Caller,
    takes: Takes,
    headers: &HeaderMap,
    content: &Bytes,
) -> Result<Response, Refusal> {
    let call: Call = body::read(headers, content)?;
    let kind = check(&call).map_err(|error| {
        Refusal::bad_request(format!("Failed to validate master::Call: {error}"))
    })?;
    let media = body::wanted(headers)?;
    match kind {
        Type::Subscribe => {
            let stream = api.master.watch(media, api.sight(caller)).await?;
            Ok(reply::message(media, stream))
        }
        Type::GetMetrics => {
            let metrics = metrics::now(api).await?.into_iter();
            let metrics = metrics.map(|(name, value)| Metric {
                name,
                value: Some(value),
            });
            let get_metrics = response::GetMetrics {
                metrics: metrics.collect(),
            };
            Ok(message(
                media,
                &Answer {
                    get_metrics: Some(get_metrics),
                    ..typed(response::Type::GetMetrics)
                },
            ))
        }
        Type::GetState => whole(api, caller, takes, media, Part::State).await,
        Type::GetTasks => whole(api, caller, takes, media, Part::Tasks).await,
        Type::GetAgents => whole(api, caller, takes, media, Part::Agents).await,
        Type::GetFrameworks => whole(api, caller, takes, media, Part::Frameworks).await,
        Type::GetExecutors => whole(api, caller, takes, media, Part::Executors).await,
        Type::SetLoggingLevel => {
            api.allow(caller, Action::SetLogLevel, &Object::ANY)?;
            let set = call.set_logging_level.unwrap_or_default();
            let time = u64::try_from(set.duration.nanoseconds).unwrap_or_default();
            logging::raise(set.level, Duration::from_nanos(time));
            Ok(reply::empty(StatusCode::OK))
        }
        kind if is_order(kind) => {
            let principal = caller.name().map(ToOwned::to_owned);
            Ok(answer(api.master.order(principal, call).await?))
        }
        Type::ListFiles => {
            let path = call.list_files.map(|list| list.path).unwrap_or_default();
            files::allow(api, caller, &path)?;
            let file_infos = api.files.listed(path).await?;
            let list = response::ListFiles { file_infos };
            Ok(message(
                media,
                &Answer {
                    list_files: Some(list),
                    ..typed(response::Type::ListFiles)
                },
            ))
        }
        Type::ReadFile => {
            let read = call.read_file.unwrap_or_default();
            files::allow(api, caller, &read.path)?;
            let piece = api.files.piece(read.path, read.offset, read.length);
            let Piece { size, data } = piece.await?;
            let read = response::ReadFile { size, data };
            Ok(message(
                media,
                &Answer {
                    read_file: Some(read),
                    ..typed(response::Type::ReadFile)
                },
            ))
        }
        _ => {
            if kind == Type::GetFlags {
                api.allow(caller, Action::ViewFlags, &Object::ANY)?;
            }
            let (snapshot, sight) = (api.snapshot().await?, api.sight(caller));
            let config = Arc::clone(&api.config);
            let built = tokio::task::spawn_blocking(move || {
                answer_read(kind, &snapshot, &config, &sight).map(|answer| encode(&answer, media))
            });
            let built = built.await.map_err(|_| {
                Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The answer could not be written",
                )
            })?;
            match built {
                Some(bytes) => Ok(reply::message(media, bytes)),
                None => Err(Refusal::not_implemented(format!(
                    "{} is not supported yet",
                    kind.as_str_name()
                ))),
            }
        }
    }
}

/// The answer to a call that shows much of the state.
async fn whole(
    api: &Api,
    caller: &Caller,
    takes: Takes,
    media: MediaType,
    part: Part,
) -> Result<Response, Refusal> {
    let sight = api.sight(caller);
    let order = Order {
        document: Document::Answer(part, media),
        takes,
        config: &api.config,
        sight: &sight,
    };
    let written = api.desk.document(order, &api.master).await?;
    Ok(written.into_response(media, takes.gzip))
}

fn message(media: MediaType, answer: &Answer) -> Response {
    reply::message(media, encode(answer, media))
}

fn typed(kind: response::Type) -> Answer {
    Answer {
        r#type: Some(kind.into()),
        ..Answer::default()
    }
}

/// The answer to a call that only reads; `None` for those that are not supported.
fn answer_read(
    kind: Type,
    snapshot: &Snapshot,
    config: &crate::master::Config,
    sight: &Sight,
) -> Option<Answer> {
    use response::Type as Kind;
    Some(match kind {
        Type::GetHealth => Answer {
            get_health: Some(response::GetHealth { healthy: true }),
            ..typed(Kind::GetHealth)
        },
        Type::GetFlags => Answer {
            get_flags: Some(response::GetFlags {
                flags: config
                    .flags
                    .iter()
                    .map(|(name, value)| Flag {
                        name: name.clone(),
                        value: Some(value.clone()),
                    })
                    .collect(),
            }),
            ..typed(Kind::GetFlags)
        },
        Type::GetVersion => Answer {
            get_version: Some(response::GetVersion {
                version_info: views::version(),
            }),
            ..typed(Kind::GetVersion)
        },
        Type::GetLoggingLevel => Answer {
            get_logging_level: Some(response::GetLoggingLevel {
                level: verbosity::level(),
            }),
            ..typed(Kind::GetLoggingLevel)
        },
        Type::GetOperations => Answer {
            get_operations: Some(views::operations(snapshot, sight)),
            ..typed(Kind::GetOperations)
        },
        Type::GetRoles => Answer {
            get_roles: Some(views::roles(snapshot, sight)),
            ..typed(Kind::GetRoles)
        },
        Type::GetWeights => Answer {
            get_weights: Some(views::seen_weights(snapshot, sight))
                .filter(|weights| !weights.weight_infos.is_empty()),
            ..typed(Kind::GetWeights)
        },
        Type::GetMaster => Answer {
            get_master: Some(response::GetMaster {
                master_info: Some(snapshot.settings.info.clone()),
                start_time: Some(snapshot.process_start().as_secs_f64()),
                elected_time: Some(snapshot.started.as_secs_f64()),
            }),
            ..typed(Kind::GetMaster)
        },
        Type::GetMaintenanceStatus => Answer {
            get_maintenance_status: Some(response::GetMaintenanceStatus {
                status: sight.status(snapshot.maintenance_status()),
            }),
            ..typed(Kind::GetMaintenanceStatus)
        },
        Type::GetMaintenanceSchedule => Answer {
            get_maintenance_schedule: Some(response::GetMaintenanceSchedule {
                schedule: sight.schedule(snapshot.standing.schedule.clone()),
            }),
            ..typed(Kind::GetMaintenanceSchedule)
        },
        Type::GetQuota => Answer {
            get_quota: Some(response::GetQuota {
                status: sight.quota(views::quota(snapshot)),
            }),
            ..typed(Kind::GetQuota)
        },
        _ => return None,
    })
}

/// Whether a call has what its type needs.
fn check(call: &Call) -> Result<Type, String> {
    let kind = call.r#type.and_then(|number| Type::try_from(number).ok());
    let Some(kind) = kind.filter(|kind| *kind != Type::Unknown) else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    let present = match kind {
        Type::GetMetrics => call.get_metrics.is_some(),
        Type::SetLoggingLevel => call.set_logging_level.is_some(),
        Type::ListFiles => call.list_files.is_some(),
        Type::ReadFile => call.read_file.is_some(),
        Type::UpdateWeights => call.update_weights.is_some(),
        Type::ReserveResources => call.reserve_resources.is_some(),
        Type::UnreserveResources => call.unreserve_resources.is_some(),
        Type::CreateVolumes => call.create_volumes.is_some(),
        Type::DestroyVolumes => call.destroy_volumes.is_some(),
        Type::Teardown => call.teardown.is_some(),
        Type::MarkAgentGone => call.mark_agent_gone.is_some(),
        Type::UpdateMaintenanceSchedule => call.update_maintenance_schedule.is_some(),
        Type::StartMaintenance => call.start_maintenance.is_some(),
        Type::StopMaintenance => call.stop_maintenance.is_some(),
        Type::DrainAgent => call.drain_agent.is_some(),
        Type::DeactivateAgent => call.deactivate_agent.is_some(),
        Type::ReactivateAgent => call.reactivate_agent.is_some(),
        Type::UpdateQuota => call.update_quota.is_some(),
        Type::SetQuota => call.set_quota.is_some(),
        Type::RemoveQuota => call.remove_quota.is_some(),
        Type::GrowVolume => call.grow_volume.is_some(),
        Type::ShrinkVolume => call.shrink_volume.is_some(),
        _ => true,
    };
    let listed = match kind {
        Type::ReserveResources => call.reserve_resources.as_ref().map(|call| &call.resources),
        Type::UnreserveResources => call
            .unreserve_resources
            .as_ref()
            .map(|call| &call.resources),
        _ => None,
    };
    if let Some(resources) = listed {
        validate_all(resources).map_err(|error| error.to_string())?;
    }
    let placed = match kind {
        Type::GrowVolume => call
            .grow_volume
            .as_ref()
            .map(|grow| grow.agent_id.is_some()),
        Type::ShrinkVolume => call
            .shrink_volume
            .as_ref()
            .map(|shrink| shrink.agent_id.is_some()),
        _ => None,
    };
    if placed == Some(false) {
        return Err("Expecting 'agent_id' to be present; only agent default resources are supported right now".to_owned());
    }
    if present {
        Ok(kind)
    } else {
        let name = kind.as_str_name().to_lowercase();
        Err(format!("Expecting '{name}' to be present"))
    }
}
