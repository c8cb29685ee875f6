//! Containers in which root is nobody on the node. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;
mod until;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, Stdio, Stream, Universal,
};
use dcos_containerizer::isolator::{IdRange, PersistentVolume};
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::volume::source::{HostPath, Type};
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, Image, LinuxInfo, MountPropagation, Volume,
    container_info, image, mount_propagation, volume,
};
use node::Node;
use until::until;

const ISOLATION: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,filesystem/linux,\
    namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp,linux/seccomp,volume/image";

/// What is 0 inside.
const FIRST: u32 = 1_000_000_000;

/// A node to whose sandboxes the way is open for everybody; none where this cannot be tested.
fn node() -> Option<Node> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: user namespaces need root");
        return None;
    }
    assert_eq!(IdRange::default().first, FIRST);
    let mut node = Node::new(ISOLATION);
    let images = node.dir.path().join("images");
    make_image(&images);
    node.images = Some(images);
    open(node.dir.path(), 0o755);
    std::fs::write(node.dir.path().join("secret"), "secret\n").unwrap();
    open(&node.dir.path().join("secret"), 0o600);
    Some(node)
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn config(node: &Node, id: &ContainerId, command: &str) -> ContainerConfig {
    let mut config = node.task(id, command);
    config.user_namespace = true;
    config.container = Some(ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        ..ContainerInfo::default()
    });
    config
}

fn with_image(mut config: ContainerConfig) -> ContainerConfig {
    let image = Image {
        r#type: image::Type::Docker.into(),
        docker: Some(image::Docker {
            name: "test/tools:1".into(),
            ..image::Docker::default()
        }),
        ..Image::default()
    };
    let container = config.container.get_or_insert_default();
    container.mesos = Some(container_info::MesosInfo { image: Some(image) });
    config
}

fn host_path(path: &Path, at: &str, mode: mount_propagation::Mode) -> Volume {
    Volume {
        mode: Mode::Rw.into(),
        container_path: at.into(),
        source: Some(volume::Source {
            r#type: Some(Type::HostPath.into()),
            host_path: Some(HostPath {
                path: path.to_str().unwrap().into(),
                mount_propagation: Some(MountPropagation {
                    mode: Some(mode.into()),
                }),
            }),
            ..volume::Source::default()
        }),
        ..Volume::default()
    }
}

/// Runs a container to its end; what it said, both ways.
async fn run(
    node: &Node,
    universal: &Universal,
    id: &ContainerId,
    config: ContainerConfig,
) -> String {
    universal.launch(id, config).await.unwrap();
    universal.wait(id).await.unwrap();
    universal.remove(id).await.unwrap();
    node.read(id, "stdout") + &node.read(id, "stderr")
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

#[tokio::test]
async fn root_is_nobody_on_the_node() {
    let Some(node) = node() else { return };
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("plain");
    let secret = node.dir.path().join("secret");
    let script = format!(
        "id -u; tr -s ' ' < /proc/self/uid_map; cat {0} 2>/dev/null || echo refused
         {{ echo x > {0}; }} 2>/dev/null || echo refused; stat -c %u \"$MESOS_SANDBOX\"
         echo mine > \"$MESOS_SANDBOX/file\"; stat -c %u \"$MESOS_SANDBOX/file\"",
        secret.display()
    );
    let said = run(&node, &universal, &id, config(&node, &id, &script)).await;
    assert_eq!(
        said,
        format!("0\n 0 {FIRST} 65536\nrefused\nrefused\n0\n0\n")
    );
    let sandbox = node.dir.path().join("sandbox/plain");
    for name in ["", "file", "stdout"] {
        assert_eq!(owner(&sandbox.join(name)), (FIRST, FIRST), "{name}");
    }
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret\n");
    // Who does not ask has the node's ids.
    let id = ContainerId::root("other");
    let mut plain = config(&node, &id, "tr -s ' ' < /proc/self/uid_map");
    plain.user_namespace = false;
    let said = run(&node, &universal, &id, plain).await;
    assert_eq!(said, " 0 0 4294967295\n");
}

#[tokio::test]
async fn layers_of_images_are_mapped_and_volumes_of_the_node_are_not() {
    let Some(node) = node() else { return };
    let universal = node.recovered(&[]).await;
    let host = node.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("open"), "open\n").unwrap();
    std::fs::copy(node.dir.path().join("secret"), host.join("secret")).unwrap();
    let id = ContainerId::root("image");
    let script = "id -u; stat -c '%u %g' / /private /theirs; cat /private; cat /theirs
        echo more >> /private; cat /private; chown 77 /theirs; stat -c %u /theirs; echo new > /new
        cat /host/open; cat /host/secret || echo refused; echo x > /host/new || echo refused
        stat -c %u /host/secret /mnt/mesos/sandbox; echo x > /dev/null; cat /dev/null; ls -d /sys/kernel
        echo x > /sys/kernel/x || echo refused; cat /proc/1/comm; mount -t tmpfs x /mnt || echo refused
        touch ready; while [ ! -e go ]; do sleep 0.02; done";
    let mut wanted = with_image(config(&node, &id, script));
    let none = mount_propagation::Mode::Unknown;
    let container = wanted.container.as_mut().unwrap();
    container.volumes = vec![host_path(&host, "/host", none)];
    universal.launch(&id, wanted).await.unwrap();
    let sandbox = node.dir.path().join("sandbox/image");
    until("what it does", || sandbox.join("ready").exists()).await;
    // What it wrote is nobody's on the node, and the layer is as it was.
    let upper = node.dir.path().join("provisioner/image/upper");
    for name in ["", "private", "new"] {
        assert_eq!(owner(&upper.join(name)), (FIRST, FIRST), "{name}");
    }
    assert_eq!(owner(&upper.join("theirs")), (FIRST + 77, FIRST + 1235));
    let layers = mounts_below(&node.dir.path().join("provisioner/image/mapped"));
    assert_eq!(layers, 0, "nobody needs to see the layers any more");
    std::fs::write(sandbox.join("go"), "").unwrap();
    let end = universal.wait(&id).await.unwrap();
    let said = node.read(&id, "stdout");
    assert_eq!(
        end.exit_code(),
        Some(0),
        "{said}{}",
        node.read(&id, "stderr")
    );
    let expected = "0\n0 0\n0 0\n1234 1235\nprivate\ntheirs\nprivate\nmore\n77\nopen\nrefused\nrefused\n\
        65534\n0\n/sys/kernel\nrefused\ndcos-init\nrefused\n";
    assert_eq!(said, expected);
    universal.remove(&id).await.unwrap();
    assert_eq!(mounts_below(node.dir.path()), 0);
    // Another one finds the image as it is.
    let id = ContainerId::root("again");
    let again = with_image(config(&node, &id, "cat /private; stat -c %u /theirs"));
    assert_eq!(run(&node, &universal, &id, again).await, "private\n1234\n");
}

fn mounts_below(folder: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = |line: &&str| {
        let place = line.split(' ').nth(4).map(PathBuf::from);
        place.is_some_and(|place| place.starts_with(folder))
    };
    table.lines().filter(below).count()
}

#[tokio::test]
async fn volumes_go_from_one_container_to_another() {
    let Some(node) = node() else { return };
    let universal = node.recovered(&[]).await;
    let data = node.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    open(&data, 0o700);
    std::fs::write(data.join("old"), "old\n").unwrap();
    let volume = PersistentVolume {
        source: data.clone(),
        container_path: "data".into(),
        ..PersistentVolume::default()
    };
    for (name, image, own) in [
        ("plain", false, true),
        ("image", true, true),
        ("nodes", true, false),
    ] {
        let id = ContainerId::root(name);
        let script = format!("cat data/old; echo {name} > data/{name}; stat -c %u data/{name}");
        let mut wanted = config(&node, &id, &script);
        if image {
            wanted = with_image(wanted);
        }
        wanted.user_namespace = own;
        wanted.volumes = vec![volume.clone()];
        assert_eq!(
            run(&node, &universal, &id, wanted).await,
            "old\n0\n",
            "{name}"
        );
        assert_eq!(
            owner(&data.join(name)),
            (0, 0),
            "on the disk it is what it is inside"
        );
    }
}

#[tokio::test]
async fn what_is_nested_has_the_same_ids() {
    let Some(node) = node() else { return };
    let universal = node.recovered(&[]).await;
    let pod = ContainerId::root("pod");
    let mut holder = with_image(config(&node, &pod, ""));
    holder.class = ContainerClass::Holder;
    holder.command = None;
    universal.launch(&pod, holder).await.unwrap();
    let script = "tr -s ' ' < /proc/self/uid_map; id -u; cat /private; cat /proc/1/comm
        echo x > file; stat -c %u file; while :; do sleep 0.02; done";
    let member = pod.child("member");
    let mut nested = with_image(config(&node, &member, script));
    // It is its parent's, not its own wish.
    nested.user_namespace = false;
    universal.launch(&member, nested).await.unwrap();
    let expected = format!(" 0 {FIRST} 65536\n0\nprivate\ndcos-init\n0\n");
    until("its report", || {
        assert_eq!(node.read(&member, "stderr"), "");
        let said = node.read(&member, "stdout");
        assert!(expected.starts_with(&said), "{said}");
        said == expected
    })
    .await;
    assert_eq!(
        owner(&node.dir.path().join("sandbox/pod.member/file")),
        (FIRST, FIRST)
    );
    // A session sees what its container sees, over a restart of the agent.
    let universal = {
        drop(universal);
        node.recovered(&[&pod]).await
    };
    let output = node.dir.path().join("output");
    let file = std::fs::File::create(&output).unwrap();
    let session = member.child("session");
    let debug = ContainerConfig {
        class: ContainerClass::Debug,
        directory: PathBuf::new(),
        stdio: Stdio {
            output: Stream::File(file.try_clone().unwrap().into()),
            error: Stream::File(file.into()),
            ..Stdio::default()
        },
        ..node.task(
            &session,
            "tr -s ' ' < /proc/self/uid_map; id -u; cat /private; cat /proc/1/comm",
        )
    };
    universal.launch(&session, debug).await.unwrap();
    universal.wait(&session).await.unwrap();
    let said = std::fs::read_to_string(&output).unwrap();
    assert_eq!(said, format!(" 0 {FIRST} 65536\n0\nprivate\ndcos-init\n"));
    universal.destroy(&pod).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_told() {
    let Some(node) = node() else { return };
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("refused");
    let both = mount_propagation::Mode::Bidirectional;
    let mut shared = with_image(config(&node, &id, "true"));
    shared.container.as_mut().unwrap().linux_info = Some(LinuxInfo {
        share_pid_namespace: Some(true),
        ..LinuxInfo::default()
    });
    let mut stranger = with_image(config(&node, &id, "true"));
    stranger.command = Some(CommandInfo {
        user: Some("stranger".into()),
        ..stranger.command.unwrap()
    });
    let mut mapped = config(&node, &id, "true");
    mapped.volumes = vec![PersistentVolume {
        // A file system whose ids cannot be mapped.
        source: "/proc/tty".into(),
        container_path: "data".into(),
        keep_owner: true,
        ..PersistentVolume::default()
    }];
    let mut two_ways = config(&node, &id, "true");
    let place = node.dir.path().join("place");
    std::fs::create_dir(&place).unwrap();
    two_ways.container.as_mut().unwrap().volumes = vec![host_path(&place, "data", both)];
    for (wanted, why) in [
        (shared, "needs processes of its own"),
        (stranger, "id 70000 is beyond the 65536"),
        (mapped, "knows no id-mapped mounts"),
        (two_ways, "seen"),
    ] {
        let error = universal.launch(&id, wanted).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(mounts_below(node.dir.path()), 0);
}

/// Writes what `docker save test/tools:1` would: some programs of this host, a file of root's, and
/// in a second layer one of somebody else's.
fn make_image(folder: &Path) {
    let mut base = tar::Builder::new(Vec::new());
    let mut add = |path: &Path| {
        let inside = path.strip_prefix("/").unwrap();
        base.append_path_with_name(path.canonicalize().unwrap(), inside)
            .unwrap();
    };
    let programs = [
        "sh", "cat", "sleep", "stat", "id", "tr", "chown", "touch", "ls", "mount",
    ];
    for program in programs.map(|name| format!("/bin/{name}")) {
        let found = [program.clone(), format!("/usr{program}")];
        let found = found.iter().find(|path| Path::new(path).exists()).unwrap();
        let needs = Command::new("ldd").arg(found).output().unwrap();
        let needs = String::from_utf8(needs.stdout).unwrap();
        add(Path::new(&program));
        for word in needs
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            add(Path::new(word));
        }
    }
    append(&mut base, "private", "private\n", (0, 0));
    let users = "stranger:x:70000:70000::/:/bin/sh\nadmin:x:0:0::/:/bin/sh\n";
    append(&mut base, "etc/passwd", users, (0, 0));
    let base = base.into_inner().unwrap();
    let mut top = tar::Builder::new(Vec::new());
    append(&mut top, "theirs", "theirs\n", (1234, 1235));
    let top = top.into_inner().unwrap();
    let document = serde_json::json!({
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"diff_ids": [digest(&base), digest(&top)]},
    });
    let manifest = serde_json::json!([{
        "Config": "config.json",
        "RepoTags": ["test/tools:1"],
        "Layers": ["base/layer.tar", "top/layer.tar"],
    }]);
    let mut image = tar::Builder::new(Vec::new());
    append(&mut image, "config.json", document.to_string(), (0, 0));
    append(&mut image, "manifest.json", manifest.to_string(), (0, 0));
    append(&mut image, "base/layer.tar", &base, (0, 0));
    append(&mut image, "top/layer.tar", &top, (0, 0));
    std::fs::create_dir_all(folder.join("test")).unwrap();
    let mut file = std::fs::File::create(folder.join("test/tools:1.tar")).unwrap();
    file.write_all(&image.into_inner().unwrap()).unwrap();
}

fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    name: &str,
    content: impl AsRef<[u8]>,
    (user, group): (u64, u64),
) {
    let content = content.as_ref();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    header.set_uid(user);
    header.set_gid(group);
    builder.append_data(&mut header, name, content).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    let digest = Sha256::digest(bytes);
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
