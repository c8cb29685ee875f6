//! Volumes of the node and of sandboxes, as containers see them. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, ContainerizerError, Universal,
};
use dcos_containerizer::isolator::{PersistentVolume, VolumeGids};
use dcos_proto::mesos::volume::source::{HostPath, SandboxPath, Type, sandbox_path};
use dcos_proto::mesos::volume::{Mode, Source};
use dcos_proto::mesos::{
    ContainerId, ContainerInfo, MountPropagation, Volume, container_info, mount_propagation,
};
use node::Node;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

const ISOLATION: &str = "filesystem/linux,namespaces/pid";

/// Whether this host can run these tests; says why not.
fn able() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: mounts need root");
    }
    root
}

fn volume(path: &str, mode: Mode, source: Source) -> Volume {
    Volume {
        mode: mode.into(),
        container_path: path.into(),
        source: Some(source),
        ..Volume::default()
    }
}

fn of_host(path: &Path, at: &str, mode: Mode, propagation: mount_propagation::Mode) -> Volume {
    let source = Source {
        r#type: Some(Type::HostPath.into()),
        host_path: Some(HostPath {
            path: path.to_str().unwrap().into(),
            mount_propagation: Some(MountPropagation {
                mode: Some(propagation.into()),
            }),
        }),
        ..Source::default()
    };
    volume(at, mode, source)
}

fn of_sandbox(kind: sandbox_path::Type, path: &str, at: &str) -> Volume {
    let source = Source {
        r#type: Some(Type::SandboxPath.into()),
        sandbox_path: Some(SandboxPath {
            r#type: Some(kind.into()),
            path: path.into(),
        }),
        ..Source::default()
    };
    volume(at, Mode::Rw, source)
}

fn config(node: &Node, id: &ContainerId, volumes: &[Volume], command: &str) -> ContainerConfig {
    ContainerConfig {
        container: Some(ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            volumes: volumes.to_vec(),
            ..ContainerInfo::default()
        }),
        ..node.task(id, command)
    }
}

/// Runs a container to its end; what it said, or why it was not launched.
async fn run(
    node: &Node,
    universal: &Universal,
    config: ContainerConfig,
) -> Result<String, String> {
    let name = config.directory.file_name().unwrap().to_str().unwrap();
    let mut parts = name.split('.');
    let root = ContainerId::root(parts.next().unwrap());
    let id = parts.fold(root, |id, part| id.child(part));
    match universal.launch(&id, config).await {
        Err(ContainerizerError::Launch { reason, .. }) => return Err(reason),
        launched => launched.unwrap(),
    }
    universal.wait(&id).await.unwrap();
    universal.remove(&id).await.unwrap();
    Ok(node.read(&id, "stdout") + &node.read(&id, "stderr"))
}

#[tokio::test]
async fn folders_and_files_of_the_node() {
    if !able() {
        return;
    }
    let node = Node::new(ISOLATION);
    let universal = node.recovered(&[]).await;
    let host = node.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "content\n").unwrap();
    let none = mount_propagation::Mode::Unknown;
    let volumes = [
        of_host(&host, "data/in", Mode::Rw, none),
        of_host(&host.join("file"), "conf/file", Mode::Ro, none),
        of_host(&host, "/mnt", Mode::Ro, none),
    ];
    let id = ContainerId::root("host");
    let script = "echo new > data/in/new; cat conf/file; ls /mnt
        { echo x > conf/file; } 2>/dev/null || echo kept; { echo x > /mnt/x; } 2>/dev/null || echo kept";
    let said = run(&node, &universal, config(&node, &id, &volumes, script)).await;
    assert_eq!(said.unwrap(), "content\nfile\nnew\nkept\nkept\n");
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "new\n");

    let refusals = [
        (
            of_host(&host.join("no"), "data", Mode::Rw, none),
            "does not exist",
        ),
        (
            of_host(Path::new("data"), "data", Mode::Rw, none),
            "is not absolute",
        ),
        (
            of_host(&host, "../data", Mode::Rw, none),
            "leads out of the sandbox",
        ),
        (
            of_host(&host, "/mnt/not/there", Mode::Rw, none),
            "there is no such path on this node",
        ),
    ];
    for (number, (volume, expected)) in refusals.into_iter().enumerate() {
        let id = ContainerId::root(format!("refused{number}"));
        let why = run(&node, &universal, config(&node, &id, &[volume], "true")).await;
        assert!(
            why.as_ref().is_err_and(|why| why.contains(expected)),
            "{why:?}"
        );
    }
    assert!(!Path::new("/mnt/not").exists());
}

/// A file system in memory that shares what is mounted in it. Gone when dropped.
struct Shared<'a>(&'a Path);

impl<'a> Shared<'a> {
    fn new(path: &'a Path) -> Self {
        std::fs::create_dir(path).unwrap();
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(path, MountPropagationFlags::SHARED).unwrap();
        Self(path)
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        for path in [&self.0.join("by-task"), &self.0.join("by-host"), self.0] {
            unmount(path, UnmountFlags::DETACH).ok();
        }
    }
}

#[tokio::test]
async fn mounts_are_seen_both_ways_only_if_asked_for() {
    if !able() {
        return;
    }
    let node = Node::new(ISOLATION);
    let universal = node.recovered(&[]).await;
    let shared = node.dir.path().join("shared");
    let guard = Shared::new(&shared);
    for name in ["by-task", "by-host"] {
        std::fs::create_dir(shared.join(name)).unwrap();
    }
    let script = "mount -t tmpfs tmpfs data/by-task && touch data/by-task/seen ready
        while [ ! -e go ]; do sleep 0.02; done; ls data/by-host; umount data/by-task";
    let ways = [
        ("both", mount_propagation::Mode::Bidirectional, true),
        ("down", mount_propagation::Mode::HostToContainer, false),
        ("none", mount_propagation::Mode::Unknown, false),
    ];
    for (name, mode, seen) in ways {
        let id = ContainerId::root(name);
        let volumes = [of_host(&shared, "data", Mode::Rw, mode)];
        universal
            .launch(&id, config(&node, &id, &volumes, script))
            .await
            .unwrap();
        let sandbox = node.dir.path().join("sandbox").join(name);
        while !sandbox.join("ready").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(shared.join("by-task/seen").exists(), seen, "{name}");
        let by_host = shared.join("by-host");
        mount("tmpfs", &by_host, "tmpfs", MountFlags::empty(), None).unwrap();
        std::fs::write(by_host.join("from-host"), "").unwrap();
        std::fs::write(sandbox.join("go"), "").unwrap();
        universal.wait(&id).await.unwrap();
        assert_eq!(
            node.read(&id, "stdout"),
            "from-host\n",
            "{name}: {}",
            node.read(&id, "stderr")
        );
        unmount(&by_host, UnmountFlags::DETACH).unwrap();
        assert!(!shared.join("by-task/seen").exists());
    }
    // A mount that is private cannot be made to share.
    mount_change(&shared, MountPropagationFlags::PRIVATE).unwrap();
    let id = ContainerId::root("private");
    let volumes = [of_host(
        &shared,
        "data",
        Mode::Rw,
        mount_propagation::Mode::Bidirectional,
    )];
    let why = run(&node, &universal, config(&node, &id, &volumes, "true")).await;
    assert!(
        why.as_ref()
            .is_err_and(|why| why.contains("not under a shared mount")),
        "{why:?}"
    );
    drop(guard);
}

#[tokio::test]
async fn members_of_a_pod_share_a_folder() {
    if !able() {
        return;
    }
    let node = Node::new(ISOLATION);
    let universal = node.recovered(&[]).await;
    let pod = ContainerId::root("pod");
    let holder = ContainerConfig {
        class: ContainerClass::Holder,
        command: None,
        ..node.task(&pod, "")
    };
    universal.launch(&pod, holder).await.unwrap();
    let sandbox = node.dir.path().join("sandbox/pod");
    let nobody = Some(65534);
    chown(&sandbox, nobody, nobody).unwrap();
    let parent = sandbox_path::Type::Parent;
    let shared = [
        of_sandbox(parent, "shared/deep", "common"),
        of_sandbox(sandbox_path::Type::Self_, "mine", "alias"),
    ];
    let writer = pod.child("writer");
    let script = "echo hello > common/file; echo own > mine/x; cat alias/x";
    let said = run(&node, &universal, config(&node, &writer, &shared, script)).await;
    assert_eq!(said.unwrap(), "own\n");
    // The folder belongs to whom the sandbox belongs to.
    let made = std::fs::metadata(sandbox.join("shared/deep")).unwrap();
    assert_eq!((made.uid(), made.gid()), (65534, 65534));
    let reader = pod.child("reader");
    let said = run(
        &node,
        &universal,
        config(&node, &reader, &shared, "cat common/file"),
    )
    .await;
    assert_eq!(said.unwrap(), "hello\n");

    // Whoever has the sandbox puts links into it, which lead nowhere.
    let outside = node.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, sandbox.join("trap")).unwrap();
    for (number, path) in ["trap", "trap/x", "../outside", "/etc"]
        .into_iter()
        .enumerate()
    {
        let id = pod.child(format!("trapped{number}"));
        let volumes = [of_sandbox(parent, path, "data")];
        let why = run(&node, &universal, config(&node, &id, &volumes, "true")).await;
        assert!(why.is_err(), "{path}: {why:?}");
    }
    // The same at the other end: a mount point that is a link.
    let id = pod.child("point");
    let mut trapped = config(
        &node,
        &id,
        &[of_sandbox(parent, "shared", "trap/x")],
        "true",
    );
    std::fs::create_dir_all(&trapped.directory).unwrap();
    symlink(&outside, trapped.directory.join("trap")).unwrap();
    let why = run(&node, &universal, trapped.clone()).await;
    assert!(
        why.as_ref().is_err_and(|why| why.contains("trap/x")),
        "{why:?}"
    );
    trapped.container.as_mut().unwrap().volumes[0].container_path = "trap".into();
    assert!(run(&node, &universal, trapped).await.is_err());
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);

    let orphan = ContainerId::root("orphan");
    let why = run(
        &node,
        &universal,
        config(&node, &orphan, &[of_sandbox(parent, "x", "y")], "true"),
    )
    .await;
    assert!(why.is_err_and(|why| why.contains("has no parent")));
    universal.destroy(&pod).await.unwrap();
}

fn group_and_mode(path: &Path) -> (u32, u32) {
    let found = path.symlink_metadata().unwrap();
    (found.gid(), found.mode() & 0o7777)
}

#[tokio::test]
async fn users_share_a_volume_by_its_group() {
    if !able() {
        return;
    }
    let mut node = Node::new(ISOLATION);
    std::fs::set_permissions(node.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let work_dir = node.dir.path().to_owned();
    let gids = || VolumeGids::open("[70000-70001]", &work_dir).unwrap();
    let given = gids();
    assert_eq!((given.total(), given.free()), (2, 2));
    let folder = |name: &str| {
        let path = work_dir.join(name);
        std::fs::create_dir_all(path.join("old/deep")).unwrap();
        symlink("/etc/hostname", path.join("old/link")).unwrap();
        path
    };
    let (one, two, three) = (folder("one"), folder("two"), folder("three"));
    let hostname = group_and_mode(Path::new("/etc/hostname"));
    node.volume_gids = Some(given.clone());
    let universal = node.recovered(&[]).await;
    let used = |name: &str, user: &str, source: &Path, script: &str| {
        let id = ContainerId::root(name);
        ContainerConfig {
            user: Some(user.into()),
            volumes: vec![PersistentVolume {
                source: source.to_owned(),
                container_path: "data".into(),
                readonly: false,
                keep_owner: true,
            }],
            ..node.task(&id, script)
        }
    };
    let script = "umask 002; id -G | grep -o 7000.; echo hello > data/old/deep/file";
    let said = run(&node, &universal, used("a", "nobody", &one, script)).await;
    assert_eq!(said.unwrap(), "70000\n");
    let script =
        "cat data/old/deep/file; echo more >> data/old/deep/file; stat -c %g data/old/deep/file";
    let said = run(&node, &universal, used("b", "daemon", &one, script)).await;
    assert_eq!(said.unwrap(), "hello\n70000\n");
    for path in ["", "old", "old/deep"] {
        assert_eq!(group_and_mode(&one.join(path)), (70000, 0o2775), "{path}");
    }
    assert_eq!(group_and_mode(&one.join("old/link")).0, 70000);
    assert_eq!(group_and_mode(Path::new("/etc/hostname")), hostname);
    // Root needs no group, whoever is in another has not this one, and there are no more than two.
    let said = run(&node, &universal, used("c", "root", &two, "id -G")).await;
    assert!(!said.unwrap().contains("7000"));
    let said = run(
        &node,
        &universal,
        used("d", "daemon", &two, "id -G | grep -o 7000."),
    )
    .await;
    assert_eq!(said.unwrap(), "70001\n");
    let refused = run(&node, &universal, used("e", "daemon", &three, "true")).await;
    assert!(
        refused
            .as_ref()
            .is_err_and(|why| why.contains("all 2 groups")),
        "{refused:?}"
    );
    // It is known to the next agent, and free once its volume is gone.
    assert_eq!(gids().free(), 0);
    std::fs::remove_dir_all(&one).unwrap();
    let said = run(
        &node,
        &universal,
        used("f", "daemon", &three, "id -G | grep -o 7000."),
    )
    .await;
    assert_eq!(said.unwrap(), "70000\n");
}

#[tokio::test]
async fn folders_of_a_pod_have_a_group_as_long_as_it_runs() {
    if !able() {
        return;
    }
    let mut node = Node::new(ISOLATION);
    std::fs::set_permissions(node.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let given = VolumeGids::open("[70000-70009]", node.dir.path()).unwrap();
    node.volume_gids = Some(given.clone());
    let universal = node.recovered(&[]).await;
    let begin = async |pod: &ContainerId| {
        let holder = ContainerConfig {
            class: ContainerClass::Holder,
            command: None,
            ..node.task(pod, "")
        };
        universal.launch(pod, holder).await.unwrap();
    };
    let end = async |pod: &ContainerId| {
        universal.destroy(pod).await.unwrap();
        universal.wait(pod).await.unwrap();
        universal.remove(pod).await.unwrap();
    };
    let shared = [of_sandbox(sandbox_path::Type::Parent, "shared", "common")];
    let said = |id: ContainerId, user: &str, script: &str| {
        let config = ContainerConfig {
            user: Some(user.into()),
            ..config(&node, &id, &shared, script)
        };
        run(&node, &universal, config)
    };
    let pod = ContainerId::root("pod");
    begin(&pod).await;
    let first = said(
        pod.child("first"),
        "nobody",
        "echo hello > common/file; stat -c %g common/file",
    )
    .await;
    assert_eq!(first.unwrap(), "70000\n");
    let second = said(pod.child("second"), "daemon", "cat common/file").await;
    assert_eq!(second.unwrap(), "hello\n");
    let folder = node.dir.path().join("sandbox/pod/shared");
    assert_eq!(group_and_mode(&folder), (70000, 0o2775));
    assert_eq!(given.free(), 9);
    end(&pod).await;
    assert_eq!(group_and_mode(&folder), (0, 0o755));
    assert_eq!(group_and_mode(&folder.join("file")).0, 0);
    assert_eq!(given.free(), 10);

    // A task puts a link in the place of the folder: its group stays given, and the next agent starts.
    let pod = ContainerId::root("other");
    begin(&pod).await;
    // What is free again is not another's at once: something may still have it.
    let script = "echo hello > common/file; stat -c %g common/file";
    let first = said(pod.child("first"), "nobody", script).await;
    assert_eq!(first.unwrap(), "70001\n");
    let folder = node.dir.path().join("sandbox/other/shared");
    std::fs::rename(&folder, folder.with_file_name("away")).unwrap();
    symlink("away", &folder).unwrap();
    end(&pod).await;
    assert_eq!(given.free(), 9);
    node.recovered(&[]).await;
}
