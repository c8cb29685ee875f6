//! The connection to the master through the public SDK.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskStatus, framework_info,
};
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_sched::sdk::{
    Acknowledge, DriverConfig, DriverError, Handle, Scheduler, SchedulerDriver, SchedulerTransport,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Mailbox;
use crate::config::Config;
use crate::core::Input;
use crate::engine::{Machine, Registration};

/// Who this framework is to the master.
pub fn framework_info(
    config: &Config,
    id: Option<FrameworkId>,
    roles: BTreeSet<String>,
) -> FrameworkInfo {
    use framework_info::capability::Type;
    let mut abilities = vec![
        Type::PartitionAware,
        Type::TaskKillingState,
        Type::MultiRole,
        Type::RegionAware,
    ];
    if config.features.contains("gpu_resources") {
        abilities.push(Type::GpuResources);
    }
    let capability = |ability: Type| framework_info::Capability {
        r#type: Some(ability as i32),
    };
    FrameworkInfo {
        user: config.mesos_user.clone(),
        name: config.framework_name.clone(),
        id,
        failover_timeout: Some(config.failover_timeout.as_secs_f64()),
        checkpoint: Some(config.checkpoint),
        hostname: Some(config.hostname.clone()),
        principal: config.principal.clone(),
        webui_url: Some(config.webui_url.clone().unwrap_or_else(|| config.url())),
        capabilities: abilities.into_iter().map(capability).collect(),
        roles: roles.into_iter().collect(),
        ..FrameworkInfo::default()
    }
}

/// Stays subscribed, sends what comes through `calls`, and subscribes anew whenever there are other
/// roles than before. Ends with `ending`, or when the master wants nothing of this framework.
pub(super) async fn run<M: Machine>(
    mailbox: Mailbox<M>,
    transport: Arc<dyn SchedulerTransport>,
    mut calls: mpsc::Receiver<Call>,
    ending: &CancellationToken,
) -> Result<(), DriverError> {
    loop {
        let view = mailbox.view();
        let roles = view.roles().clone();
        let id = view.framework_id().map(FrameworkId::from);
        info!(?roles, "subscribing");
        let driver = driver(mailbox.config(), id, roles.clone(), Arc::clone(&transport));
        let handle = driver.handle();
        let mut inbound = Inbound {
            mailbox: mailbox.clone(),
        };
        tokio::select! {
            ended = driver.run(&mut inbound, ending) => return ended.map(|_| ()),
            () = send(&handle, &mut calls) => return Ok(()),
            () = other_roles(mailbox.clone(), &roles) => {}
        }
        mailbox.tell(Input::Disconnected).await;
    }
}

fn driver(
    config: &Config,
    id: Option<FrameworkId>,
    roles: BTreeSet<String>,
    transport: Arc<dyn SchedulerTransport>,
) -> SchedulerDriver {
    let driver = DriverConfig {
        // Updates are durable before they are acknowledged, so the core does it.
        acknowledge: Acknowledge::Explicit,
        ..DriverConfig::new(framework_info(config, id, roles))
    };
    SchedulerDriver::new(driver, transport)
}

/// Returns once a role is needed that `known` lacks; one too many does no harm until then.
async fn other_roles<M: Machine>(mut mailbox: Mailbox<M>, known: &BTreeSet<String>) {
    while mailbox.view().roles().is_subset(known) {
        if !mailbox.changed().await {
            // No core, no roles: something else ends this Marathon.
            std::future::pending::<()>().await;
        }
    }
}

/// Sends calls in order until there can be no more.
///
/// No call is lost for good: launches are found missing by reconciliation, kills are repeated,
/// updates come again, and offers are asked for after each subscription.
async fn send(handle: &Handle, calls: &mut mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        let kind = call.r#type();
        if let Err(error) = handle.call(call).await {
            let error = dcos_core::error::chain(&error);
            match kind {
                call::Type::Accept | call::Type::Kill => warn!(?kind, %error, "call failed"),
                _ => debug!(?kind, %error, "call failed"),
            }
        }
    }
}

/// Puts what the master says into the mailbox.
struct Inbound<M: Machine> {
    mailbox: Mailbox<M>,
}

impl<M: Machine> Inbound<M> {
    async fn tell(&self, kind: event::Type, fill: impl FnOnce(&mut Event)) {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Event::default()
        };
        fill(&mut event);
        self.mailbox.tell(Input::Event(Box::new(event))).await;
    }
}

#[async_trait]
impl<M: Machine> Scheduler for Inbound<M> {
    async fn subscribed(
        &mut self,
        _: &Handle,
        framework_id: FrameworkId,
        master_info: Option<MasterInfo>,
    ) {
        let subscribed = event::Subscribed {
            framework_id,
            master_info,
            heartbeat_interval_seconds: None,
        };
        self.tell(event::Type::Subscribed, |event| {
            event.subscribed = Some(subscribed)
        })
        .await;
    }

    async fn offers(&mut self, _: &Handle, offers: Vec<Offer>) {
        let offers = event::Offers { offers };
        self.tell(event::Type::Offers, |event| event.offers = Some(offers))
            .await;
    }

    async fn update(&mut self, _: &Handle, status: TaskStatus) {
        let update = event::Update { status };
        self.tell(event::Type::Update, |event| event.update = Some(update))
            .await;
    }

    async fn message(
        &mut self,
        _: &Handle,
        agent_id: AgentId,
        executor_id: ExecutorId,
        data: Vec<u8>,
    ) {
        let message = event::Message {
            agent_id,
            executor_id,
            data,
        };
        self.tell(event::Type::Message, |event| event.message = Some(message))
            .await;
    }

    async fn disconnected(&mut self) {
        self.mailbox.tell(Input::Disconnected).await;
    }
}
