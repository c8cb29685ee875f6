//! `dcos-master`: a Mesos master, Marathon, Metronome and the cluster's names in one process.
//!
//! Each component is a call into its crate; what is said here is only which of them run, where they
//! listen and how they find each other. One that ends takes the process with it, so that whatever
//! supervises it starts all of them anew from what is stored.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use dcos_core::config::{Schema, Values};
use dcos_marathon::{GpuScheduling, entrance, standby};
use dcos_overlay::Desk;
use dcos_program::{BeginAnew, NodeNames, Part};
use dcos_sched::master::{self, MasterHandle, Node, RunError, Stance};
use dcos_sched::sdk::{HttpTransport, SchedulerTransport};
use dcos_security::{Credential, Secret};
use dcos_store::{ElectionError, Ensemble, Fence, Leadership, StateStore, masters};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientConfig, Credentials, Listener, MediaType, Server};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

mod door;
mod gossip;
mod guards;
mod house;
mod names;
mod network;
mod options;
mod overlay;

use house::House;

/// A master's memory is millions of small pieces; see `dcos-sched/docs/scale.md`.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As it is called.
const PROGRAM: &str = "dcos-master";

/// What can run in this process.
const COMPONENTS: [&str; 5] = ["master", "marathon", "metronome", "dns", "router"];

/// Before a framework that could not go on is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// How long the others have to stop once a component failed.
const LAST: Duration = Duration::from_secs(10);

/// What of Marathon can be switched on.
const FEATURES: [&str; 5] = [
    "external_volumes",
    "gpu_resources",
    "secrets",
    "task_killing",
    "vips",
];

fn main() -> ExitCode {
    let schema = Schema::new(PROGRAM, "The deciding node of a cluster.")
        .with(options::PROGRAM)
        .with(dcos_program::ADDRESS_OPTIONS)
        .with(dcos_program::SERVER_OPTIONS)
        .with(dcos_program::ENSEMBLE_OPTIONS)
        .with(master::OPTIONS)
        .with(master::SECURITY_OPTIONS)
        .with(options::NAMES)
        .with(dcos_program::NODE_NAMES_OPTIONS)
        .with(dcos_program::MEMORY_OPTIONS)
        .with(dcos_dns::OPTIONS)
        .with(options::OVERLAY)
        .with(network::OPTIONS)
        .with(dcos_program::BALANCE_OPTIONS)
        .with(dcos_program::GOSSIP_OPTIONS)
        .section("marathon", options::MARATHON)
        .section("metronome", options::METRONOME)
        .section("router", dcos_router::OPTIONS)
        .former(master::FORMER);
    dcos_program::main(schema, run)
}

/// What every component needs.
struct Components {
    values: Values,
    house: House,
    /// Where this process listens.
    ip: IpAddr,
    /// By which others know it.
    known: IpAddr,
    hostname: String,
    store: Arc<dyn StateStore>,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
    /// Whether there is one component only.
    is_alone: bool,
}

/// The master in this process.
#[derive(Clone)]
struct Local {
    handle: MasterHandle,
    stance: watch::Receiver<Stance>,
}

async fn run(values: Values, stop: CancellationToken) -> anyhow::Result<()> {
    if values.switch("dns_resolv_conf_leave") {
        return dcos_program::leave_resolv_conf(&values);
    }
    let components = components(&values)?;
    ensure!(
        !values.switch("dns") || components.contains(&"dns"),
        "--dns: this process answers no names, as --only or --without says: let it run dns, too"
    );
    let work_dir = values.path("work_dir");
    std::fs::create_dir_all(&work_dir).with_context(|| work_dir.display().to_string())?;
    let house = House::of(&values)?;
    let store = house.store()?;
    let ip = dcos_program::listening_ip(&values, Ipv4Addr::LOCALHOST.into())?;
    let (asked, values) = tokio::task::spawn_blocking(move || {
        let known = dcos_program::known_ip(&values, ip, told_by(&values));
        (known, values)
    })
    .await?;
    let known = asked?;
    let hostname = values
        .opt_text("hostname")
        .unwrap_or_else(|| known.to_string());
    let running = JoinSet::new();
    let parts = Components {
        values,
        house,
        ip,
        known,
        hostname,
        store,
        stop,
        running,
        is_alone: components.len() == 1,
    };

    let part = gossip::start(&parts).await?;
    let house = parts.house.clone();
    let ended = serve(parts, &components, part.as_ref()).await;
    house.leave().await;
    if let Some(part) = part {
        part.leave().await;
    }
    ended
}

/// The option by which other hosts are told where this process is, if any does that.
fn told_by(values: &Values) -> Option<&'static str> {
    let said = |option: &&str| values.opt_text(option).is_some();
    let option = ["zk", "etcd"].into_iter().find(said);
    let gossip = || values.opt_path("gossip_key").map(|_| "gossip_key");
    let overlay = || values.switch("join_overlay").then_some("join_overlay");
    option.or_else(gossip).or_else(overlay)
}

/// Runs the components until one ends; nothing of them is left then.
async fn serve(
    mut parts: Components,
    components: &[&'static str],
    part: Option<&Part>,
) -> anyhow::Result<()> {
    let mut local = None;
    let network::Joined { routes, mut api } = network::join(&mut parts, components, part).await?;
    if components.contains(&"master") {
        local = Some(parts.master(part, routes).await?);
    }
    if components.contains(&"marathon") {
        parts.marathon(local.clone()).await?;
    }
    if components.contains(&"metronome") {
        parts.metronome(local.clone()).await?;
    }
    if components.contains(&"dns") {
        api.names = Some(parts.dns(local).await?);
    }
    let net = network::serve(&mut parts, api).await?;
    if components.contains(&"router") {
        parts.router(components, net).await?;
    }
    info!(?components, "running");
    let mut reason = Ok(());
    let mut patience = None;
    while let Some(ended) = next(&mut parts.running, patience).await {
        if let Err(error) = ended {
            let is_deposed = parts.house.ensemble().is_some() && !is_refused(&error);
            if is_deposed && !parts.stop.is_cancelled() {
                // Another one may lead by now: nothing of this process may act any more, not even to stop in order.
                error!("{error:#}: standing for election anew");
                return Err(BeginAnew.into());
            }
            if is_deposed || reason.is_err() {
                warn!("{error:#}, while it was stopping");
            } else {
                reason = Err(error);
            }
            patience.get_or_insert_with(|| Instant::now() + LAST);
        }
        // The others stop in order before the reason is told.
        parts.stop.cancel();
    }
    reason
}

/// How the next component ended, unless it takes longer than `patience`.
async fn next(
    running: &mut JoinSet<anyhow::Result<()>>,
    patience: Option<Instant>,
) -> Option<anyhow::Result<()>> {
    let next = async {
        let ended = running.join_next().await?;
        Some(
            ended
                .context("a component panicked")
                .and_then(|ended| ended),
        )
    };
    let Some(patience) = patience else {
        return next.await;
    };
    timeout_at(patience, next).await.unwrap_or_else(|_| {
        warn!("not all components stopped within {} s", LAST.as_secs());
        None
    })
}

impl Components {
    /// Runs what is never done before the process ends.
    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            work.await;
            Ok(())
        });
    }

    /// The master, which answers `routes` as well.
    async fn master(&mut self, part: Option<&Part>, routes: Router) -> anyhow::Result<Local> {
        let mut config =
            master::Config::from_values(&self.values, self.known, self.hostname.clone())?;
        config.own_log = dcos_program::log_file(&self.values, PROGRAM);
        config.tls = Ssl::from_env()?;
        config.settings.process_start = Some(dcos_core::time::steady());
        config.require_peer_match = dcos_program::require_peer_match()?;
        config.metrics_limit = dcos_program::metrics_limit()?;
        config.server = dcos_program::server_config(&self.values);
        config.origins = dcos_program::origins(&self.values)?;
        let desk = overlay::desk(&self.values)?;
        config.routes = routes;
        if let Some(desk) = &desk {
            config.routes = config.routes.merge(desk.router());
        }
        if let Some(part) = part {
            config.routes = config.routes.merge(gossip::routes(part));
        }
        let listener = self.listen("port").await?;
        let node = Node::new(config);
        let local = Local {
            handle: node.handle(),
            stance: node.stance(),
        };
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        let election = self.house.election("master");
        self.running.spawn(async move {
            let master = node.stand(store, election, listener, stop);
            Box::pin(master).await.context("the master")
        });
        if let Some(desk) = desk {
            self.overlay(desk, &local);
        }
        if let Some(part) = part {
            let (tell, stance) = (part.leaders(), local.stance.clone());
            self.spawn(gossip::follow(tell, stance, self.stop.clone()));
        }
        Ok(local)
    }

    /// Gives out overlays whenever the master of this process leads.
    fn overlay(&mut self, desk: Desk, local: &Local) {
        let election = self.house.election("overlay");
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        let stance = local.stance.clone();
        self.running
            .spawn(overlay::serve(desk, stance, election, store, stop));
    }

    /// Marathon as a framework of the master in this process, or of the one `--master` names; where the log is shared
    /// with other components, its clients do not change how much is logged.
    async fn marathon(&mut self, local: Option<Local>) -> anyhow::Result<()> {
        for feature in self
            .values
            .opt_list("marathon_enable_features")
            .unwrap_or_default()
        {
            // Switched on, the others would be accepted and then left out of the task.
            ensure!(
                FEATURES.contains(&feature.as_str()),
                "--marathon_enable_features={feature}: there are only {}",
                FEATURES.join(", ")
            );
        }
        let transport = self.transport("marathon", local.as_ref())?;
        let listener = self.listen("marathon_port").await?;
        let config = dcos_marathon::Config {
            tls: Ssl::from_env()?,
            guard: guards::of(&self.values, "marathon")?,
            origins: guards::origins(&self.values, "marathon")?,
            log_is_shared: !self.is_alone,
            ..self.marathon_config(&listener)?
        };
        ensure!(
            config.local_port_min <= config.local_port_max,
            "--marathon_local_port_min={} is above --marathon_local_port_max={}",
            config.local_port_min,
            config.local_port_max
        );
        let own = format!("{}:{}", config.hostname, config.http_port);
        let run = move |store, fence, listener, stop| {
            let (config, transport) = (config.clone(), Arc::clone(&transport));
            Box::pin(dcos_marathon::run(
                config, store, fence, transport, listener, stop,
            ))
        };
        self.framework("marathon", own, listener, local, run)
    }

    /// Metronome, in the same way.
    async fn metronome(&mut self, local: Option<Local>) -> anyhow::Result<()> {
        let transport = self.transport("metronome", local.as_ref())?;
        let listener = self.listen("metronome_port").await?;
        let config = dcos_metronome::Config {
            engine: Arc::new(dcos_marathon::Config {
                tls: Ssl::from_env()?,
                guard: guards::of(&self.values, "metronome")?,
                origins: guards::origins(&self.values, "metronome")?,
                ..self.metronome_config(&listener)
            }),
            history_count: usize::try_from(self.values.integer("metronome_history_count"))
                .context("--metronome_history_count")?,
        };
        let own = format!("{}:{}", config.engine.hostname, config.engine.http_port);
        let run = move |store, fence, listener, stop| {
            let (config, transport) = (config.clone(), Arc::clone(&transport));
            Box::pin(dcos_metronome::run(
                config, store, fence, transport, listener, stop,
            ))
        };
        self.framework("metronome", own, listener, local, run)
    }

    /// The way of a framework to its master.
    fn transport(
        &self,
        name: &str,
        local: Option<&Local>,
    ) -> anyhow::Result<Arc<dyn SchedulerTransport>> {
        Ok(match (local, self.values.opt_text("master")) {
            (_, Some(named)) => Arc::new(self.transport_to(&named, self.client_of_masters(name)?)?),
            (Some(local), None) => Arc::new(local.handle.clone()),
            (None, None) => anyhow::bail!("{name} without a master here needs --master"),
        })
    }

    /// Runs a framework whenever it is elected; answers with what its leader says until then. What is wrong with it
    /// alone does not end its neighbours: another one may lead, and it stands for election again. Without neighbours
    /// it ends the process with the reason.
    fn framework<R>(
        &mut self,
        office: &'static str,
        own: String,
        listener: Listener,
        local: Option<Local>,
        run: impl Fn(Arc<dyn StateStore>, Fence, Listener, CancellationToken) -> R
        + Send
        + Sync
        + 'static,
    ) -> anyhow::Result<()>
    where
        R: Future<Output = Result<(), dcos_marathon::RunError>> + Send,
    {
        let election = self.house.election(office);
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        let (is_alone, has_rivals) = (self.is_alone, self.house.ensemble().is_some());
        let tls = Ssl::from_env()?;
        // Whoever answers at its port, in its place as well.
        let guard = guards::of(&self.values, office)?;
        let origins = guards::origins(&self.values, office)?;
        let guarded = move |router| entrance(&origins, guard.as_ref(), router);
        self.running.spawn(async move {
            // It follows the master of its process, so that it speaks to it without a detour.
            let mut stance = local.map(|local| local.stance);
            loop {
                let elected = CancellationToken::new();
                // Ends with this life: whoever was asked while standing by is still answered.
                let mut standing_by = JoinSet::new();
                if has_rivals {
                    let leaders = election.observe();
                    let standby = standby::router(&own, leaders, elected.clone(), tls.as_ref())?;
                    let server = Server::new(guarded(standby)).ssl(tls.as_ref());
                    standing_by.spawn(server.serve(listener.try_clone()?, elected.clone()));
                }
                let leadership = async {
                    if let Some(stance) = &mut stance {
                        let led = stance.wait_for(|stance| *stance == Stance::Leading);
                        led.await.context("the master ended")?;
                    }
                    let campaign = election.campaign(own.clone().into()).await;
                    campaign.with_context(|| format!("leading as {office}"))
                };
                let leadership: Leadership = tokio::select! {
                    leadership = leadership => leadership?,
                    () = stop.cancelled() => return Ok(()),
                };
                elected.cancel();
                let life = run(
                    Arc::clone(&store),
                    leadership.fence(),
                    listener.try_clone()?,
                    stop.clone(),
                );
                let ended = tokio::select! {
                    ended = life => ended,
                    () = leadership.lost() => return Err(RunError::Deposed).context(office),
                };
                let Err(reason) = ended else {
                    return Ok(());
                };
                if is_alone || matches!(reason, dcos_marathon::RunError::Store(_)) {
                    return Err(reason).context(office);
                }
                let reason = dcos_core::error::chain(&reason).to_string();
                error!(office, reason, "it is down: trying again in {RETRY:?}");
                // Whatever is wrong may be so in this process only.
                drop(leadership);
                let pause = CancellationToken::new();
                let down = guarded(standby::down(office, RETRY));
                let server = Server::new(down).ssl(tls.as_ref());
                standing_by.spawn(server.serve(listener.try_clone()?, pause.clone()));
                let _over = pause.drop_guard();
                let wait = tokio::time::sleep(RETRY);
                if stop.run_until_cancelled(wait).await.is_none() {
                    return Ok(());
                }
            }
        });
        Ok(())
    }

    /// The way to the masters that `named` names: a list, or the URL of the ensemble in which they elect their leader.
    fn transport_to(&self, named: &str, client: Client) -> anyhow::Result<HttpTransport> {
        let media = MediaType::Protobuf;
        if Ensemble::is_named_by(named) {
            let leading = masters(&dcos_program::ensemble(&self.values, named)?);
            return Ok(HttpTransport::following(leading, media, client));
        }
        Ok(HttpTransport::with_client(named.split(','), media, client))
    }

    /// A client of a master that is elsewhere.
    fn client_of_masters(&self, of: &str) -> anyhow::Result<Client> {
        let option = |name: &str| format!("{of}_mesos_authentication_{name}");
        let principal = self.values.opt_text(&option("principal"));
        let secret = self.values.opt_path(&option("secret_file"));
        let secret = secret.map(|path| Secret::read(&path)).transpose()?;
        let authorization = principal
            .zip(secret)
            .map(|(principal, secret)| Credential::new(principal, secret.trimmed()).basic());
        Ok(Client::with_config(ClientConfig {
            tls: Ssl::from_env()?.map(|ssl| ssl.client),
            authorization,
            credentials: Credentials::FollowRedirects,
            ..ClientConfig::default()
        })?)
    }

    /// The name server; gives back what it answers of dcos-net's API.
    async fn dns(&mut self, local: Option<Local>) -> anyhow::Result<Router> {
        let master = local.context("names are made of the state of a master in this process")?;
        let port = match self.values.port("advertise_port") {
            0 => self.values.port("port"),
            port => port,
        };
        let own = SocketAddr::new(self.known, port);
        let mut config = names::config(&self.values, self.ip)?;
        if self.values.switch("dns") {
            names::has_room(&config)?;
        }
        let source = names::Source::new(&self.values, &self.house, master, own)?;
        let node = NodeNames::open(&self.values).await?;
        config
            .listen
            .extend(node.iter().flat_map(NodeNames::listen));
        if node.is_some() {
            config.later = dcos_dns::Spartan::places().collect();
        }
        let server = dcos_dns::Server::bind(config)
            .await
            .context("serving names")?;
        let (client, stop) = (self.client_of_masters("marathon")?, self.stop.clone());
        let routes = server.router();
        if let Some(node) = node {
            let keeping = node.keep(server.doors(), stop.clone())?;
            self.spawn(keeping);
        }
        self.spawn(names::serve(server, source, client, stop));
        Ok(routes)
    }

    /// The one door, if a port is given for it.
    async fn router(
        &mut self,
        components: &[&'static str],
        net: Option<SocketAddr>,
    ) -> anyhow::Result<()> {
        if !dcos_router::options::is_wanted(&self.values) {
            ensure!(
                components.len() > 1,
                "a router needs --router_port or --router_https_port"
            );
            return Ok(());
        }
        let beside = door::Beside {
            values: &self.values,
            house: &self.house,
            ip: self.ip,
            known: self.known,
            hostname: &self.hostname,
            components,
            net,
            client: self.client_of_masters("marathon")?,
        };
        let opened = door::open(beside, self.stop.clone()).await;
        let (router, ports) = opened.context("the router")?;
        self.spawn(router.serve(ports));
        Ok(())
    }

    async fn listen(&self, option: &str) -> anyhow::Result<Listener> {
        let address = SocketAddr::new(self.ip, self.values.port(option));
        Listener::tcp(address)
            .await
            .with_context(|| format!("listening on {address} (--{option})"))
    }

    /// How people are told where the master is: without a password.
    fn shown_master(&self) -> String {
        let Some(named) = self.values.opt_text("master") else {
            return format!("{}:{}", self.hostname, self.values.port("port"));
        };
        match Ensemble::parse(&named) {
            Ok(ensemble) if Ensemble::is_named_by(&named) => ensemble.to_string(),
            _ => named,
        }
    }

    fn marathon_config(&self, listener: &Listener) -> anyhow::Result<dcos_marathon::Config> {
        let values = &self.values;
        let service_port = |option| u16::try_from(values.integer(option));
        let defaults = dcos_marathon::Config::default();
        let user = values
            .opt_text("marathon_mesos_user")
            .or_else(|| std::env::var("USER").ok());
        let features = values
            .opt_list("marathon_enable_features")
            .unwrap_or_default();
        let backups = values
            .opt_path("marathon_backup_dir")
            .unwrap_or_else(|| values.path("work_dir").join("marathon-backups"));
        Ok(dcos_marathon::Config {
            framework_name: values.text("marathon_framework_name"),
            mesos_user: user.unwrap_or(defaults.mesos_user),
            mesos_role: values.text("marathon_mesos_role"),
            principal: values.opt_text("marathon_mesos_authentication_principal"),
            hostname: self.hostname.clone(),
            http_port: listener
                .address()
                .map_or(defaults.http_port, |address| address.port()),
            master: self.shown_master(),
            failover_timeout: values.duration("marathon_failover_timeout"),
            backup_dir: Some(backups),
            features: features.into_iter().collect(),
            gpu_scheduling_behavior: GpuScheduling::named(
                &values.text("marathon_gpu_scheduling_behavior"),
            )
            .unwrap_or_default(),
            checkpoint: values.switch("marathon_checkpoint"),
            task_launch_timeout: values.duration("marathon_task_launch_timeout"),
            task_launch_confirm_timeout: values.duration("marathon_task_launch_confirm_timeout"),
            default_network_name: values.opt_text("marathon_default_network_name"),
            mesos_bridge_name: values.text("marathon_mesos_bridge_name"),
            env_vars_prefix: values.opt_text("marathon_env_vars_prefix"),
            local_port_min: service_port("marathon_local_port_min")?,
            local_port_max: service_port("marathon_local_port_max")?,
            new_group_enforce_role: values.text("marathon_new_group_enforce_role") == "top",
            max_instances_per_offer: values.count("marathon_max_instances_per_offer"),
            max_running_deployments: values.count("marathon_max_running_deployments"),
            max_apps: values
                .opt_integer("marathon_max_apps")
                .map(usize::try_from)
                .transpose()?,
            decline_offer_duration: values.duration("marathon_decline_offer_duration"),
            reconciliation_interval: values.duration("marathon_reconciliation_interval"),
            kill_chunk_size: values.count("marathon_kill_chunk_size"),
            kill_retry_timeout: values.duration("marathon_kill_retry_timeout"),
            max_versions: values.count("marathon_zk_max_versions"),
            event_stream_max_outstanding_messages: values
                .count("marathon_event_stream_max_outstanding_messages"),
            webui_url: values.opt_text("marathon_webui_url"),
            ..dcos_marathon::Config::default()
        })
    }

    fn metronome_config(&self, listener: &Listener) -> dcos_marathon::Config {
        let values = &self.values;
        let defaults = dcos_marathon::Config::default();
        let user = values
            .opt_text("metronome_mesos_user")
            .or_else(|| std::env::var("USER").ok());
        let features = values
            .opt_list("metronome_features_enable")
            .unwrap_or_default();
        // As in Metronome: whoever says what becomes of GPUs wants some.
        let gpus = values.opt_text("metronome_gpu_scheduling_behavior");
        let features = features
            .into_iter()
            .chain(gpus.is_some().then(|| "gpu_resources".to_owned()));
        dcos_marathon::Config {
            framework_name: values.text("metronome_framework_name"),
            mesos_user: user.unwrap_or(defaults.mesos_user),
            mesos_role: values.text("metronome_mesos_role"),
            principal: values.opt_text("metronome_mesos_authentication_principal"),
            hostname: self.hostname.clone(),
            http_port: listener.address().map_or(9000, |address| address.port()),
            master: self.shown_master(),
            failover_timeout: values.duration("metronome_failover_timeout"),
            task_launch_timeout: values.duration("metronome_task_launch_timeout"),
            task_launch_confirm_timeout: values.duration("metronome_task_launch_confirm_timeout"),
            min_revive_offers_interval: dcos_metronome::config::REVIVE_INTERVAL,
            revive_interval_per_offer: Some(dcos_metronome::config::REVIVE_INTERVAL_PER_OFFER),
            features: features.collect(),
            gpu_scheduling_behavior: gpus
                .and_then(|name| GpuScheduling::named(&name))
                .unwrap_or_default(),
            ..dcos_marathon::Config::default()
        }
    }
}

/// Whether trying again cannot help: the ensemble wants nothing of this process, such as for a wrong password, the
/// master can't lead with what it finds, or the program itself is wrong.
fn is_refused(reason: &anyhow::Error) -> bool {
    reason.chain().any(|cause| {
        let election = cause.downcast_ref::<ElectionError>();
        let master = cause.downcast_ref::<RunError>();
        cause.is::<tokio::task::JoinError>()
            || matches!(election, Some(ElectionError::Refused { .. }))
            || matches!(
                master,
                Some(
                    RunError::Outdated { .. }
                        | RunError::Region { .. }
                        | RunError::Whitelist { .. }
                        | RunError::Stopped { .. }
                )
            )
    })
}

/// The chosen components: all, or those of `--only`, less those of `--without`.
fn components(values: &Values) -> anyhow::Result<Vec<&'static str>> {
    let only = values.opt_list("only").unwrap_or_default();
    let without = values.opt_list("without").unwrap_or_default();
    for name in only.iter().chain(&without) {
        ensure!(
            COMPONENTS.contains(&name.as_str()),
            "there is no component {name:?}; there are {}",
            COMPONENTS.join(", ")
        );
    }
    let named = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
    let chosen = COMPONENTS
        .into_iter()
        .filter(|name| (only.is_empty() || named(&only, name)) && !named(&without, name));
    Ok(chosen.collect())
}
