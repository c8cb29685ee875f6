//! What every [`ContainerNetwork`] must pass: one function a promise of its contract, named after
//! it. Each needs root, and panics with what was expected if the promise is broken.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use dcos_proto::mesos::{ContainerId, NetworkInfo};

use super::{Attached, Attachment, ContainerNetwork};
use crate::netns;

/// Runs everything below: `network` is a name that `networks` knows, `folder` is empty.
pub async fn all(networks: &dyn ContainerNetwork, network: &str, folder: &Path) {
    attaching_gives_a_device(networks, network, folder).await;
    two_containers_have_two_addresses(networks, network, folder).await;
    detaching_may_be_repeated(networks, network, folder).await;
    detaching_works_when_the_namespace_is_gone(networks, network, folder).await;
    nobody_is_attached_to_what_is_unknown(networks, folder).await;
}

/// A container without processes: a namespace, which goes when it is dropped, and a folder.
struct Case {
    attachment: Attachment,
    namespace: PathBuf,
}

impl Case {
    async fn new(network: &str, name: &str, folder: &Path) -> Self {
        let own = folder.join(name);
        fs::create_dir(&own).expect("each case has its own folder");
        let namespace = folder.join(format!("{name}.ns"));
        let made = netns::make(namespace.clone()).await;
        made.expect("the kit needs root, to make network namespaces");
        let attachment = Attachment {
            container: ContainerId::root(format!("testkit-{}-{name}", std::process::id())),
            network: network.to_owned(),
            interface: "eth0".to_owned(),
            namespace: Some(namespace.clone()),
            info: NetworkInfo {
                name: Some(network.to_owned()),
                ..NetworkInfo::default()
            },
            folder: own,
        };
        Self {
            attachment,
            namespace,
        }
    }

    async fn attach(&self, networks: &dyn ContainerNetwork) -> Attached {
        let attached = networks.attach(&self.attachment).await;
        attached.unwrap_or_else(|error| panic!("attaching: {error}"))
    }

    async fn detach(&self, networks: &dyn ContainerNetwork) {
        let detached = networks.detach(&self.attachment).await;
        detached.unwrap_or_else(|error| panic!("detaching: {error}"));
    }

    async fn devices(&self) -> String {
        let handle = File::open(&self.namespace).expect("the namespace is held");
        let read = || fs::read_to_string("/proc/thread-self/net/dev");
        netns::within(handle, read).await.expect("devices")
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        netns::remove(&self.namespace).ok();
    }
}

/// Contract 1.
pub async fn attaching_gives_a_device(
    networks: &dyn ContainerNetwork,
    network: &str,
    folder: &Path,
) {
    let case = Case::new(network, "device", folder).await;
    let attached = case.attach(networks).await;
    assert!(!attached.addresses.is_empty(), "it has no address");
    let devices = case.devices().await;
    assert!(devices.contains("eth0:"), "it has no eth0: {devices}");
    case.detach(networks).await;
    let devices = case.devices().await;
    assert!(!devices.contains("eth0:"), "it still has eth0: {devices}");
}

/// An address belongs to one container at a time.
pub async fn two_containers_have_two_addresses(
    networks: &dyn ContainerNetwork,
    network: &str,
    folder: &Path,
) {
    let (one, two) = (
        Case::new(network, "one", folder).await,
        Case::new(network, "two", folder).await,
    );
    let (first, second) = (one.attach(networks).await, two.attach(networks).await);
    assert_ne!(first.addresses, second.addresses);
    one.detach(networks).await;
    two.detach(networks).await;
}

/// Contract 3: what was never attached, or is detached already, is detached.
pub async fn detaching_may_be_repeated(
    networks: &dyn ContainerNetwork,
    network: &str,
    folder: &Path,
) {
    let case = Case::new(network, "repeated", folder).await;
    case.detach(networks).await;
    case.attach(networks).await;
    case.detach(networks).await;
    case.detach(networks).await;
}

/// Contract 3: after a restart of the host there is no namespace, but there may be a lease.
pub async fn detaching_works_when_the_namespace_is_gone(
    networks: &dyn ContainerNetwork,
    network: &str,
    folder: &Path,
) {
    let mut case = Case::new(network, "gone", folder).await;
    case.attach(networks).await;
    netns::remove(&case.namespace).expect("the namespace was held");
    case.attachment.namespace = None;
    case.detach(networks).await;
}

/// A name that means nothing is an error that repeats it.
pub async fn nobody_is_attached_to_what_is_unknown(networks: &dyn ContainerNetwork, folder: &Path) {
    let case = Case::new("no-such-network", "unknown", folder).await;
    let refused = networks.attach(&case.attachment).await;
    let error = refused.expect_err("there is no such network").to_string();
    assert!(error.contains("no-such-network"), "{error}");
    case.detach(networks).await;
}
