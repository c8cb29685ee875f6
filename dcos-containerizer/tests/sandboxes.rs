//! Sandboxes in sandboxes: whoever owns the outer one leads nobody out of it. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, ContainerizerError, Universal,
};
use dcos_proto::mesos::ContainerId;
use node::Node;
use rustix::fs::{CWD, RenameFlags, renameat_with};

const ISOLATION: &str = "filesystem/linux,namespaces/pid";
const CONTAINERS: usize = 60;

/// A pod whose sandbox belongs to `nobody`, and folders outside that anybody may write to.
struct Pod {
    node: Node,
    universal: Universal,
    id: ContainerId,
    sandbox: PathBuf,
    victim: PathBuf,
}

impl Pod {
    /// `None` where it cannot be; says why not.
    async fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: users need root");
            return None;
        }
        let node = Node::new(ISOLATION);
        fs::set_permissions(node.dir.path(), Permissions::from_mode(0o755)).unwrap();
        let universal = node.recovered(&[]).await;
        let id = ContainerId::root("pod");
        let holder = ContainerConfig {
            class: ContainerClass::Holder,
            command: None,
            user: Some("nobody".into()),
            ..node.task(&id, "")
        };
        universal.launch(&id, holder).await.unwrap();
        let sandbox = node.dir.path().join("sandbox/pod");
        assert_eq!(fs::metadata(&sandbox).unwrap().uid(), 65534);
        let victim = node.dir.path().join("victim");
        for number in 0..CONTAINERS {
            let folder = victim.join(number.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        }
        Some(Self {
            node,
            universal,
            id,
            sandbox,
            victim,
        })
    }

    /// Launches a container nested in the pod and waits for its end.
    async fn nested(&self, name: &str) -> Result<(), ContainerizerError> {
        let id = self.id.child(name);
        let config = ContainerConfig {
            directory: self.sandbox.join("containers").join(name),
            user: Some("nobody".into()),
            ..self.node.task(&id, "echo here > file")
        };
        self.universal.launch(&id, config).await?;
        self.universal.wait(&id).await?;
        self.universal.remove(&id).await
    }

    fn assert_untouched(&self) {
        let folders: Vec<_> = fs::read_dir(&self.victim).unwrap().flatten().collect();
        assert_eq!(folders.len(), CONTAINERS, "something was made outside");
        for folder in folders {
            let metadata = folder.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "given away");
            let files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
            assert!(files.is_empty(), "written outside: {files:?}");
        }
    }
}

#[tokio::test]
async fn nobody_is_somebody_else_by_number() {
    let Some(pod) = Pod::new().await else {
        return;
    };
    for user in ["0", "00", "0:0", "nobody:0", "root:root", "65534", ""] {
        let id = ContainerId::root("task");
        let as_own = ContainerConfig {
            user: Some(user.into()),
            ..pod.node.task(&id, "id -u")
        };
        let mut as_commands = pod.node.task(&id, "id -u");
        as_commands.command.as_mut().unwrap().user = Some(user.into());
        for config in [as_own, as_commands] {
            let error = pod.universal.launch(&id, config).await.unwrap_err();
            assert!(error.to_string().contains("no user"), "{user}: {error}");
        }
    }
    pod.universal.destroy(&pod.id).await.unwrap();
}

/// Who asks for a user is not heard, whatever was asked for.
#[tokio::test]
async fn nobody_is_somebody_else_where_users_are_not_switched() {
    let mut node = Node::new("");
    node.switch_user = false;
    let universal = node.recovered(&[]).await;
    let own = rustix::process::geteuid().as_raw();
    for (number, user) in ["", "0", "1000", "nobody"].into_iter().enumerate() {
        let id = ContainerId::root(format!("task{number}"));
        let mut config = node.task(&id, "id -u");
        config.command.as_mut().unwrap().user = Some(user.into());
        universal.launch(&id, config).await.unwrap();
        universal.wait(&id).await.unwrap();
        universal.remove(&id).await.unwrap();
        assert_eq!(node.read(&id, "stdout"), format!("{own}\n"), "{user}");
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_the_folder_of_containers_is_refused() {
    let Some(pod) = Pod::new().await else { return };
    let containers = pod.sandbox.join("containers");
    for target in [&*pod.victim, Path::new("../../victim")] {
        symlink(target, &containers).unwrap();
        // Both what is there and what would have to be made.
        for name in ["0", "new"] {
            let refused = pod.nested(name).await;
            let Err(ContainerizerError::Launch { reason, .. }) = refused else {
                panic!("{refused:?}");
            };
            assert!(
                reason.contains("a link or a file is on the way"),
                "{reason}"
            );
        }
        fs::remove_file(&containers).unwrap();
    }
    // The sandbox itself as a link, in a folder that its owner has made before the agent could.
    fs::create_dir(&containers).unwrap();
    chown(&containers, Some(65534), Some(65534)).unwrap();
    symlink(pod.victim.join("0"), containers.join("link")).unwrap();
    assert!(pod.nested("link").await.is_err());
    pod.assert_untouched();
    pod.nested("0").await.unwrap();
    assert_eq!(pod.node.read(&pod.id, "containers/0/file"), "here\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_come_and_go_during_launches_lead_nowhere() {
    let Some(pod) = Pod::new().await else { return };
    let (containers, decoy) = (pod.sandbox.join("containers"), pod.sandbox.join("decoy"));
    fs::create_dir(&containers).unwrap();
    symlink(&pod.victim, &decoy).unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    let (one, other) = (containers.clone(), decoy.clone());
    let swapping = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    });
    let mut launched = 0;
    for number in 0..CONTAINERS {
        // Some run, some are refused; which, chance decides.
        launched += usize::from(pod.nested(&number.to_string()).await.is_ok());
    }
    enough.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    println!("{launched} of {CONTAINERS} ran");
    pod.assert_untouched();
}
