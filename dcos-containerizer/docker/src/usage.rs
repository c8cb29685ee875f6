//! Statistics and status, in Mesos's words.

use bollard::models::{ContainerInspectResponse, ContainerStatsResponse, HostConfig};
use bollard::query_parameters::StatsOptionsBuilder;
use dcos_proto::mesos::network_info::{IpAddress, Protocol};
use dcos_proto::mesos::{ContainerId, ContainerStatus, NetworkInfo, ResourceStatistics};
use futures::StreamExt as _;
use prost::Message as _;

use crate::engine::{self, Engine};
use crate::store::Record;

/// What the engine measures, once.
pub(crate) async fn stats(engine: &Engine, name: &str) -> Option<ContainerStatsResponse> {
    let options = StatsOptionsBuilder::new()
        .stream(false)
        .one_shot(true)
        .build();
    let mut stats = engine.api().stats(name, Some(options)).boxed();
    stats.next().await?.ok()
}

/// In Mesos's words. Times are seconds since launch.
pub(crate) fn statistics(stats: &ContainerStatsResponse, host: &HostConfig) -> ResourceStatistics {
    let mut all = ResourceStatistics::default();
    if let Some(cpu) = &stats.cpu_stats {
        let usage = cpu.cpu_usage.as_ref();
        all.cpus_user_time_secs = usage.and_then(|one| one.usage_in_usermode).map(seconds);
        all.cpus_system_time_secs = usage.and_then(|one| one.usage_in_kernelmode).map(seconds);
        if let Some(throttled) = &cpu.throttling_data {
            all.cpus_nr_periods = throttled.periods.map(low);
            all.cpus_nr_throttled = throttled.throttled_periods.map(low);
            all.cpus_throttled_time_secs = throttled.throttled_time.map(seconds);
        }
    }
    all.cpus_limit = host
        .cpu_quota
        .filter(|&quota| quota > 0)
        .map(|quota| share(quota) / 100_000.0)
        .or_else(|| Some(share(host.cpu_shares.filter(|&shares| shares > 0)?) / 1024.0));
    if let Some(memory) = &stats.memory_stats {
        all.mem_total_bytes = memory.usage;
        let of = |names: &[&str]| {
            let found = memory.stats.as_ref()?;
            names.iter().find_map(|&name| found.get(name).copied())
        };
        all.mem_rss_bytes = of(&["total_rss", "rss", "anon"]);
        all.mem_anon_bytes = all.mem_rss_bytes;
        all.mem_cache_bytes = of(&["total_cache", "cache", "file"]);
        all.mem_file_bytes = all.mem_cache_bytes;
        all.mem_mapped_file_bytes = of(&["total_mapped_file", "mapped_file", "file_mapped"]);
        all.mem_swap_bytes = of(&["total_swap", "swap"]);
        all.mem_unevictable_bytes = of(&["total_unevictable", "unevictable"]);
    }
    all.mem_limit_bytes = bytes(host.memory);
    all.mem_soft_limit_bytes = bytes(host.memory_reservation);
    if let Some(pids) = &stats.pids_stats {
        all.threads = pids.current.map(low);
    }
    if let Some(networks) = stats.networks.as_ref().filter(|all| !all.is_empty()) {
        let sum = |of: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            Some(networks.values().filter_map(of).sum::<u64>())
        };
        all.net_rx_bytes = sum(|one| one.rx_bytes);
        all.net_rx_packets = sum(|one| one.rx_packets);
        all.net_rx_errors = sum(|one| one.rx_errors);
        all.net_rx_dropped = sum(|one| one.rx_dropped);
        all.net_tx_bytes = sum(|one| one.tx_bytes);
        all.net_tx_packets = sum(|one| one.tx_packets);
        all.net_tx_errors = sum(|one| one.tx_errors);
        all.net_tx_dropped = sum(|one| one.tx_dropped);
    }
    all
}

/// First process and addresses. What the task said of its network is told with them.
pub(crate) fn status(
    id: &ContainerId,
    record: &Record,
    inspected: &ContainerInspectResponse,
) -> ContainerStatus {
    let mut addresses = Vec::new();
    let networks = inspected.network_settings.as_ref();
    for network in networks
        .and_then(|all| all.networks.as_ref())
        .into_iter()
        .flatten()
    {
        let (v4, v6) = (&network.1.ip_address, &network.1.global_ipv6_address);
        addresses.extend(address(v4.as_ref(), Protocol::IPv4));
        addresses.extend(address(v6.as_ref(), Protocol::IPv6));
    }
    let asked = record.network.as_deref();
    let mut network = asked
        .and_then(|bytes| NetworkInfo::decode(bytes).ok())
        .unwrap_or_default();
    let networked = !addresses.is_empty();
    network.ip_addresses = addresses;
    ContainerStatus {
        container_id: Some(id.clone()),
        executor_pid: engine::pid(inspected),
        network_infos: networked.then_some(network).into_iter().collect(),
        ..ContainerStatus::default()
    }
}

fn address(text: Option<&String>, protocol: Protocol) -> Option<IpAddress> {
    let ip_address = text.filter(|text| !text.is_empty())?.clone();
    Some(IpAddress {
        protocol: Some(protocol.into()),
        ip_address: Some(ip_address),
    })
}

fn bytes(value: Option<i64>) -> Option<u64> {
    u64::try_from(value?).ok().filter(|&value| value > 0)
}

fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds are exact for centuries"
)]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "amounts are far below")]
fn share(value: i64) -> f64 {
    value as f64
}
