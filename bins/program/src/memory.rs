//! What a node keeps of what masters told it, and of which cluster that is.

use std::net::IpAddr;

use dcos_core::config::{Spec, Values};
use dcos_net::{Cluster, Keeping, Origin};
use dcos_store::{Engine, Ensemble};

/// The options of what is kept.
pub const MEMORY_OPTIONS: &[Spec] = &[Spec::duration("net_memory_max_age").default("1days").help(
    "How long ago what this node knew of names and virtual addresses may have been so at last, when it starts while no master leads, to be used until one does; 0secs for never (ours).",
)];

/// Where the kernel tells one run of the host from another.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How a node with the addresses `own` keeps what it knows in a file of its work directory, where `masters` says whom it follows.
pub fn keeping(
    values: &Values,
    file: &str,
    masters: &str,
    own: impl IntoIterator<Item = IpAddr>,
) -> Keeping {
    let boot = std::fs::read_to_string(BOOT).ok();
    let origin = Origin {
        cluster: cluster(masters),
        boot: boot.map(|id| id.trim().to_owned()),
        own: own.into_iter().collect(),
    };
    Keeping {
        max_age: values.duration("net_memory_max_age"),
        ..Keeping::new(values.path("work_dir").join(file), origin)
    }
}

/// The cluster whose masters an option names: the URL of an ensemble, or `host:port`, of several with commas between. Who shows
/// which password makes no other cluster of it, nor does TLS at the same port.
fn cluster(masters: &str) -> Cluster {
    if let Ok(ensemble) = Ensemble::parse(masters) {
        let engine = match ensemble.engine() {
            Engine::ZooKeeper => "zk",
            Engine::Etcd => "etcd",
        };
        return Cluster {
            election: format!("{engine}:{}", ensemble.path()),
            places: ensemble.servers().iter().map(|it| place(it)).collect(),
        };
    }
    let listed = masters.split(',').map(place);
    Cluster {
        election: String::new(),
        places: listed.filter(|place| !place.is_empty()).collect(),
    }
}

/// A server, however it is written.
fn place(server: &str) -> String {
    let server = server.trim();
    let (_, address) = server.rsplit_once('@').unwrap_or(("", server));
    address.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_where_its_masters_are_in_whichever_way_that_is_said() {
        let zk = "zk://u:p@Z1,z2:2182/mesos";
        for (one, other, is) in [
            (zk, "zk://z2:2182,z1:2181/mesos/", true),
            (zk, "zk://z2:2182,z3,z4/mesos", true),
            (zk, "zk://z3,z4/mesos", false),
            (zk, "zk://z1,z2:2182/other", false),
            (zk, "zk://z2/mesos", false),
            (zk, "etcd://z1:2181/mesos", false),
            ("etcds://e1/mesos", "etcd://e1:2379/mesos", true),
            ("10.0.0.1:5050", "master@10.0.0.1:5050", true),
            ("10.0.0.1:5050", "10.0.0.2:5050, 10.0.0.1:5050,", true),
            ("10.0.0.1:5050", "10.0.0.1:5051", false),
            ("10.0.0.1:2181", "zk://10.0.0.1:2181/mesos", false),
            ("", "10.0.0.1:5050", false),
            ("", "", true),
        ] {
            assert_eq!(cluster(one).is(&cluster(other)), is, "{one} {other}");
            assert_eq!(cluster(other).is(&cluster(one)), is, "{other} {one}");
        }
        assert_eq!(cluster(zk).to_string(), "zk:/mesos at z1:2181,z2:2182");
        assert_eq!(cluster("M1:5050").to_string(), "m1:5050");
        assert_eq!(cluster("").to_string(), "no masters named");
    }
}
