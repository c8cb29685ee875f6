//! Whether a scheduler call has what its type needs.

use dcos_proto::scheduler::{Call, call};

use call::Type;

/// The type of a call; an unknown number counts as absent.
pub(crate) fn type_of(call: &Call) -> Option<Type> {
    call.r#type
        .and_then(|number| Type::try_from(number).ok())
        .filter(|kind| *kind != Type::Unknown)
}

/// Checks a call on its own.
pub(crate) fn call(call: &Call, principal: Option<&str>) -> Result<Type, String> {
    let Some(kind) = type_of(call) else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    if kind == Type::Subscribe {
        return subscribe(call, principal).map(|()| kind);
    }
    let present = |present: bool, name: &str| {
        if present {
            Ok(())
        } else {
            Err(format!("Expecting '{name}' to be present"))
        }
    };
    present(call.framework_id.is_some(), "framework_id")?;
    match kind {
        Type::Accept => present(call.accept.is_some(), "accept")?,
        Type::Decline => present(call.decline.is_some(), "decline")?,
        Type::AcceptInverseOffers => {
            present(
                call.accept_inverse_offers.is_some(),
                "accept_inverse_offers",
            )?;
        }
        Type::DeclineInverseOffers => {
            present(
                call.decline_inverse_offers.is_some(),
                "decline_inverse_offers",
            )?;
        }
        Type::Kill => present(call.kill.is_some(), "kill")?,
        Type::Shutdown => present(call.shutdown.is_some(), "shutdown")?,
        Type::Acknowledge => {
            present(call.acknowledge.is_some(), "acknowledge")?;
            uuid(call.acknowledge.iter().map(|acknowledge| &acknowledge.uuid))?;
        }
        Type::AcknowledgeOperationStatus => {
            let acknowledge = call.acknowledge_operation_status.as_ref();
            present(acknowledge.is_some(), "acknowledge_operation_status")?;
            uuid(acknowledge.map(|acknowledge| &acknowledge.uuid))?;
            present(
                acknowledge.is_some_and(|acknowledge| acknowledge.agent_id.is_some()),
                "agent_id",
            )?;
        }
        Type::Reconcile => present(call.reconcile.is_some(), "reconcile")?,
        Type::ReconcileOperations => {
            present(call.reconcile_operations.is_some(), "reconcile_operations")?;
        }
        Type::Message => present(call.message.is_some(), "message")?,
        Type::Request => present(call.request.is_some(), "request")?,
        Type::UpdateFramework => {
            present(call.update_framework.is_some(), "update_framework")?;
            let info = call
                .update_framework
                .as_ref()
                .map(|update| &update.framework_info);
            if info.is_some_and(|info| info.id != call.framework_id) {
                return Err(
                    "'framework_id' differs from 'update_framework.framework_info.id'".to_owned(),
                );
            }
        }
        Type::Teardown | Type::Revive | Type::Suppress | Type::Subscribe | Type::Unknown => {}
    }
    Ok(kind)
}

fn subscribe(call: &Call, principal: Option<&str>) -> Result<(), String> {
    let Some(subscribe) = &call.subscribe else {
        return Err("Expecting 'subscribe' to be present".to_owned());
    };
    let info = &subscribe.framework_info;
    if info.id != call.framework_id {
        return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
    }
    match (principal, &info.principal) {
        (Some(principal), Some(claimed)) if principal != claimed => Err(format!(
            "Authenticated principal '{principal}' does not match principal '{claimed}' set in `FrameworkInfo`"
        )),
        _ => Ok(()),
    }
}

fn uuid<'a>(bytes: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<(), String> {
    if bytes.into_iter().all(|bytes| bytes.len() == 16) {
        Ok(())
    } else {
        Err("Not a valid UUID".to_owned())
    }
}
