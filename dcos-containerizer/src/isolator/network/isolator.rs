//! The isolator: a namespace, its files, and the order of things.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dcos_proto::mesos::network_info::{IpAddress, Protocol};
use dcos_proto::mesos::{
    ContainerId, ContainerStatus, NetworkInfo, ResourceStatistics, container_info,
};
use oci_spec::runtime::LinuxNamespaceType;

use super::record::{Folder, Joined};
use super::{ContainerNetwork, DefaultDns, NetworkError, files};
use crate::isolator::filesystem::bind;
use crate::isolator::notes::Notes;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};
use crate::netns;

/// Attaches containers to the networks they name.
#[derive(Debug)]
pub struct NetworkIsolator {
    root: PathBuf,
    networks: Arc<dyn ContainerNetwork>,
    default_dns: DefaultDns,
    metrics: bool,
}

/// Files of a container's network in `/etc`, by their names there and with us.
const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

impl NetworkIsolator {
    /// Keeps its files below `root`; `metrics` counts what goes over each device
    /// (`--network_cni_metrics`).
    pub fn new(
        root: PathBuf,
        networks: Arc<dyn ContainerNetwork>,
        default_dns: DefaultDns,
        metrics: bool,
    ) -> Self {
        Self {
            root,
            networks,
            default_dns,
            metrics,
        }
    }

    /// The folder and networks of `id`, or of whom it shares them with.
    fn find(&self, id: &ContainerId) -> Result<Option<(Folder, Vec<Joined>)>, NetworkError> {
        let mut next = Some(id);
        while let Some(id) = next {
            let folder = Folder::of(&self.root, id);
            if let Some(networks) = folder.read()? {
                return Ok(Some((folder, networks)));
            }
            next = id.parent.as_deref();
        }
        Ok(None)
    }

    /// Makes the namespace and attaches it, or finds that it was done.
    async fn join(
        &self,
        id: &ContainerId,
        wanted: Vec<Joined>,
    ) -> Result<Vec<Joined>, NetworkError> {
        let folder = Folder::of(&self.root, id);
        let known = folder.read()?;
        if let Some(known) = known.filter(|all| all.iter().all(|one| one.attached.is_some())) {
            return Ok(known);
        }
        fs::create_dir_all(&folder.0)
            .map_err(|error| NetworkError::file("making", &folder.0, error))?;
        folder.write(&wanted)?;
        let namespace = folder.namespace();
        if !netns::is_held(&namespace) {
            let made = netns::make(namespace.clone()).await;
            made.map_err(|error| NetworkError::file("making the namespace", &namespace, error))?;
        }
        let mut joined = wanted;
        for one in &mut joined {
            let attachment = folder.attachment(id, one);
            fs::create_dir_all(&attachment.folder)
                .map_err(|error| NetworkError::file("making", &attachment.folder, error))?;
            one.attached = Some(self.networks.attach(&attachment).await?);
        }
        folder.write(&joined)?;
        Ok(joined)
    }

    fn write_files(
        &self,
        folder: &Folder,
        hostname: &str,
        joined: &[Joined],
    ) -> Result<(), NetworkError> {
        let attached = || {
            joined
                .iter()
                .filter_map(|one| Some((one, one.attached.as_ref()?)))
        };
        let addresses = attached()
            .map(|(_, attached)| &attached.addresses)
            .find(|addresses| !addresses.is_empty());
        let addresses = addresses.into_iter().flatten().map(|address| address.ip);
        folder.save("hosts", files::hosts(hostname, addresses).as_bytes())?;
        folder.save("hostname", format!("{hostname}\n").as_bytes())?;
        let dns = attached().map(|(one, attached)| (&*one.name, &attached.dns));
        match files::resolver(dns, &self.default_dns) {
            Some(text) => folder.save("resolv.conf", text.as_bytes()),
            None => Ok(()),
        }
    }

    async fn leave(&self, id: &ContainerId) -> Result<(), NetworkError> {
        let folder = Folder::of(&self.root, id);
        let joined = match folder.read() {
            Ok(joined) => joined.unwrap_or_default(),
            // Nobody can tell what it joined; the rest can go.
            Err(error) => {
                tracing::warn!(container = %id, %error, "networks are not left");
                Vec::new()
            }
        };
        for one in joined.iter().rev() {
            let attachment = folder.attachment(id, one);
            if attachment.folder.exists() {
                self.networks.detach(&attachment).await?;
            }
        }
        let namespace = folder.namespace();
        netns::remove(&namespace)
            .map_err(|error| NetworkError::file("removing the namespace", &namespace, error))?;
        folder
            .remove()
            .map_err(|error| NetworkError::file("removing", &folder.0, error))
    }
}

#[async_trait]
impl Isolator for NetworkIsolator {
    fn name(&self) -> &'static str {
        "network/cni"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        let known: BTreeSet<_> = containers.iter().collect();
        for id in Notes::in_folder(self.root.clone()).ids()? {
            if known.contains(&id) {
                continue;
            }
            tracing::info!(container = %id, "leaving the networks of a container that is gone");
            if let Err(error) = self.leave(&id).await {
                // It is tried again at the next start; the node is not to wait for that.
                tracing::error!(container = %id, %error, "networks are not left");
            }
        }
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let id = &config.id;
        let wanted = if config.debug {
            Vec::new()
        } else {
            wanted(config)?
        };
        let own = !wanted.is_empty();
        let folder = if own {
            let joined = self.join(id, wanted).await.map_err(refused)?;
            let folder = Folder::of(&self.root, id);
            let hostname = hostname(config);
            self.write_files(&folder, hostname, &joined)
                .map_err(refused)?;
            draft.namespace(LinuxNamespaceType::Network, Some(folder.namespace()));
            draft.namespace(LinuxNamespaceType::Uts, None);
            draft.spec.set_hostname(Some(hostname.to_owned()));
            folder
        } else {
            let parent = id.parent.as_deref();
            let shared = parent.map(|parent| self.find(parent)).transpose();
            let Some((folder, _)) = shared.map_err(refused)?.flatten() else {
                // On the node's network.
                return Ok(());
            };
            let of_parent = |file| {
                config
                    .parent_pid
                    .map(|pid| format!("/proc/{pid}/ns/{file}"))
            };
            draft.namespace(LinuxNamespaceType::Network, Some(folder.namespace()));
            draft.namespace(LinuxNamespaceType::Uts, of_parent("uts").map(PathBuf::from));
            folder
        };
        // Who listens on the address the node told it would not be found.
        let process = draft.spec.process_mut().as_mut();
        if let Some(environment) = process.and_then(|process| process.env_mut().as_mut()) {
            environment.retain(|variable| !variable.starts_with("LIBPROCESS_IP="));
            environment.push("LIBPROCESS_IP=0.0.0.0".to_owned());
        }
        if !config.debug {
            draft.namespace(LinuxNamespaceType::Mount, None);
            for name in FILES {
                let (source, target) = (folder.file(name), Path::new("/etc").join(name));
                // Without an image nothing may be made in the node's own `/etc`.
                if source.exists() && (config.has_rootfs() || target.exists()) {
                    draft.mount(bind(&source, &target, false));
                }
            }
        }
        Ok(())
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let folder = Folder::of(&self.root, id);
        let Some(joined) = folder.read().map_err(refused)?.filter(|_| self.metrics) else {
            return Ok(());
        };
        let namespace = folder.namespace();
        let failed = || IsolatorError::file("counting the traffic of", namespace.clone());
        let handle = File::open(&namespace).map_err(failed())?;
        let read = || fs::read_to_string("/proc/thread-self/net/dev");
        let devices = netns::within(handle, read).await.map_err(failed())?;
        let devices = devices.lines().filter_map(|line| line.split_once(':'));
        for (_, counts) in
            devices.filter(|(name, _)| joined.iter().any(|one| one.interface == name.trim()))
        {
            count(counts, statistics);
        }
        Ok(())
    }

    async fn status(
        &self,
        id: &ContainerId,
        status: &mut ContainerStatus,
    ) -> Result<(), IsolatorError> {
        if let Some((_, joined)) = self.find(id).map_err(refused)? {
            status.network_infos = joined.iter().map(network_info).collect();
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        if !Folder::of(&self.root, id).0.exists() {
            return Ok(());
        }
        self.leave(id).await.map_err(refused)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn refused(error: NetworkError) -> IsolatorError {
    IsolatorError::refused(error.to_string())
}

/// The networks that a container names.
fn wanted(config: &ContainerConfig) -> Result<Vec<Joined>, IsolatorError> {
    let Some(container) = &config.container else {
        return Ok(Vec::new());
    };
    let named = container.network_infos.iter();
    let named = named.filter_map(|info| Some((info.name.as_deref()?, info)));
    let mut joined: Vec<Joined> = Vec::new();
    for (number, (name, info)) in named.enumerate() {
        if container.r#type() != container_info::Type::Mesos {
            let reason = "Can only prepare CNI networks for a MESOS container";
            return Err(IsolatorError::refused(reason));
        }
        if joined.iter().any(|other| other.name == name) {
            let reason = format!("Attempted to join CNI network '{name}' multiple times");
            return Err(IsolatorError::refused(reason));
        }
        // It becomes the name of a folder.
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let reason = format!("there cannot be a network of the name `{name}`");
            return Err(IsolatorError::refused(reason));
        }
        joined.push(Joined::new(name, number, info));
    }
    Ok(joined)
}

/// The name asked for, or the container's id: of a nested one the last part, to be short enough.
fn hostname(config: &ContainerConfig) -> &str {
    let asked = config
        .container
        .as_ref()
        .and_then(|info| info.hostname.as_deref());
    asked.unwrap_or(&config.id.value)
}

/// A network as a status tells of it.
fn network_info(joined: &Joined) -> NetworkInfo {
    let asked = joined.info();
    let addresses = joined
        .attached
        .iter()
        .flat_map(|attached| &attached.addresses);
    let ip_addresses = addresses.map(|address| {
        let protocol = if address.ip.is_ipv4() {
            Protocol::IPv4
        } else {
            Protocol::IPv6
        };
        IpAddress {
            protocol: Some(protocol.into()),
            ip_address: Some(address.ip.to_string()),
        }
    });
    NetworkInfo {
        name: Some(joined.name.clone()),
        labels: asked.labels,
        port_mappings: asked.port_mappings,
        ip_addresses: ip_addresses.collect(),
        ..NetworkInfo::default()
    }
}

/// Adds the counters of a device: a line of `/proc/net/dev`, received and sent.
fn count(line: &str, statistics: &mut ResourceStatistics) {
    let counts: Vec<u64> = line
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let s = statistics;
    let fields = [
        (0, &mut s.net_rx_bytes),
        (1, &mut s.net_rx_packets),
        (2, &mut s.net_rx_errors),
        (3, &mut s.net_rx_dropped),
        (8, &mut s.net_tx_bytes),
        (9, &mut s.net_tx_packets),
        (10, &mut s.net_tx_errors),
        (11, &mut s.net_tx_dropped),
    ];
    for (place, field) in fields {
        if let Some(count) = counts.get(place) {
            *field.get_or_insert_default() += count;
        }
    }
}
