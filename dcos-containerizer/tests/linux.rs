//! Containers under the Linux isolators: what the sum of all of them makes. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;
mod until;

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, Stdio, Universal, testkit,
};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::{self, Scalar};
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, Image, Resource, TtyInfo, Volume, container_info,
    image, volume,
};
use node::{Node, shell};
use until::until;

/// All that a root agent isolates by default.
const LINUX_ISOLATION: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,\
    filesystem/linux,namespaces/pid,namespaces/ipc,posix/rlimits,linux/capabilities,linux/nnp,\
    linux/seccomp";

/// Whether this host can run these tests; says why not.
fn able() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: the Linux isolators need root");
    }
    root
}

fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(Scalar { value }),
        ..Resource::default()
    }
}

fn config(node: &Node, id: &ContainerId, command: &str) -> ContainerConfig {
    ContainerConfig {
        resources: vec![scalar("cpus", 0.5), scalar("mem", 64.0)],
        ..node.task(id, command)
    }
}

async fn run(node: &Node, universal: &Universal, name: &str, command: &str) -> String {
    let id = ContainerId::root(name);
    let launched = universal.launch(&id, config(node, &id, command)).await;
    launched.unwrap();
    let end = universal.wait(&id).await.unwrap();
    let said = node.read(&id, "stderr");
    assert_eq!(end.exit_code(), Some(0), "{said}");
    universal.remove(&id).await.unwrap();
    node.read(&id, "stdout")
}

#[tokio::test]
async fn isolated_containers_keep_the_promises_too() {
    if !able() {
        return;
    }
    let node = Node::new(LINUX_ISOLATION);
    let sandboxes = node.dir.path().join("sandbox");
    testkit::all(&node.containerizer().await, &sandboxes).await;
    testkit::outlives_its_process(async || node.containerizer().await, &sandboxes).await;
}

#[tokio::test]
async fn a_task_sees_itself_alone_and_its_sandbox() {
    if !able() {
        return;
    }
    let node = Node::new(LINUX_ISOLATION);
    let universal = node.recovered(&[]).await;
    let script = "echo $$; ls -d /proc/[0-9]* | wc -l; cd \"$MESOS_SANDBOX\"; echo x > file; pwd";
    let said = run(&node, &universal, "alone", script).await;
    let lines: Vec<_> = said.lines().collect();
    let seen: u32 = lines[1].parse().unwrap();
    assert!(seen < 6, "it sees {seen} processes: {said}");
    let sandbox = node.dir.path().join("sandbox/alone");
    assert_eq!(lines[2], sandbox.to_str().unwrap());
    assert_eq!(
        std::fs::read_to_string(sandbox.join("file")).unwrap(),
        "x\n"
    );
}

#[tokio::test]
async fn too_much_memory_ends_a_task_with_the_reason() {
    if !able() {
        return;
    }
    let node = Node::new(LINUX_ISOLATION);
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("greedy");
    let script = "x=x; while :; do x=$x$x; done";
    universal
        .launch(&id, config(&node, &id, script))
        .await
        .unwrap();
    let end = universal.wait(&id).await.unwrap();
    assert_eq!(
        end.reason,
        Some(Reason::ContainerLimitationMemory),
        "{end:?}"
    );
    assert!(end.message.is_some_and(|message| message.contains("emory")));
    assert_eq!(end.limited[0].name, "mem");
}

#[tokio::test]
async fn usage_and_status_tell_of_a_running_task() {
    if !able() {
        return;
    }
    let node = Node::new(LINUX_ISOLATION);
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("busy");
    universal
        .launch(&id, config(&node, &id, "sleep 1000"))
        .await
        .unwrap();
    let usage = universal.usage(&id).await.unwrap();
    assert_eq!(usage.mem_limit_bytes, Some(64 << 20), "{usage:?}");
    assert!(usage.mem_rss_bytes.is_some() && usage.cpus_user_time_secs.is_some());
    let more = [scalar("cpus", 1.0), scalar("mem", 128.0)];
    universal.update(&id, &more, &[].into()).await.unwrap();
    let usage = universal.usage(&id).await.unwrap();
    assert_eq!(usage.mem_limit_bytes, Some(128 << 20));
    universal.destroy(&id).await.unwrap();
}

#[tokio::test]
async fn checks_enter_what_they_check() {
    if !able() {
        return;
    }
    let node = Node::new(LINUX_ISOLATION);
    let universal = node.recovered(&[]).await;
    let pod = ContainerId::root("pod");
    let holder = ContainerConfig {
        class: ContainerClass::Holder,
        command: None,
        ..config(&node, &pod, "")
    };
    universal.launch(&pod, holder).await.unwrap();
    let task = pod.child("task");
    let script = "touch started; exec sleep 1000";
    universal
        .launch(&task, config(&node, &task, script))
        .await
        .unwrap();
    let started = node.dir.path().join("sandbox/pod.task/started");
    until("the start", || started.exists()).await;
    let check = task.child("check");
    // The file is there a moment before the shell becomes the `sleep` that is looked for.
    let script = "until grep -q sleep /proc/[0-9]*/comm; do sleep 0.01; done; \
        test -e started && exit 6";
    let debug = ContainerConfig {
        class: ContainerClass::Debug,
        stdio: Stdio::null(),
        directory: PathBuf::new(),
        ..node.task(&check, script)
    };
    universal.launch(&check, debug).await.unwrap();
    assert_eq!(universal.wait(&check).await.unwrap().exit_code(), Some(6));
    universal.destroy(&pod).await.unwrap();
    assert_eq!(universal.wait(&task).await.unwrap().signal(), Some(9));
    universal.remove(&pod).await.unwrap();
}

/// Until it runs its program, what enters a container is a copy of the launcher.
#[tokio::test]
async fn what_enters_a_container_cannot_be_looked_into() {
    if !able() {
        return;
    }
    let node = Node::new(LINUX_ISOLATION);
    let universal = node.recovered(&[]).await;
    let task = ContainerId::root("task");
    let script = "touch started; \
        until test -e stop; do \
          for it in /proc/[0-9]*; do \
            case \"$(readlink $it/exe 2>&1)\" in *launcher*) echo $it;; esac; \
          done; \
        done";
    let watching = config(&node, &task, script);
    universal.launch(&task, watching).await.unwrap();
    let sandbox = node.dir.path().join("sandbox/task");
    until("the start", || sandbox.join("started").exists()).await;
    // It takes some time to find the program.
    let path = "/none:".repeat(10_000) + "/usr/bin:/bin";
    for number in 0..20 {
        let check = task.child(format!("check-{number}"));
        let mut debug = ContainerConfig {
            class: ContainerClass::Debug,
            stdio: Stdio::null(),
            directory: PathBuf::new(),
            environment: [("PATH".to_owned(), path.clone())].into_iter().collect(),
            ..node.task(&check, "")
        };
        debug.command = Some(CommandInfo {
            shell: Some(false),
            value: Some("true".into()),
            arguments: vec!["true".into()],
            ..CommandInfo::default()
        });
        universal.launch(&check, debug).await.unwrap();
        let end = universal.wait(&check).await.unwrap();
        assert_eq!(end.exit_code(), Some(0), "{end:?}");
        universal.remove(&check).await.unwrap();
    }
    std::fs::write(sandbox.join("stop"), "").unwrap();
    universal.wait(&task).await.unwrap();
    assert_eq!(node.read(&task, "stdout"), "", "copies of the launcher");
}

#[tokio::test]
async fn containers_of_an_image_have_its_files_and_survive_the_agent() {
    if !able() {
        return;
    }
    let mut node = Node::new(LINUX_ISOLATION);
    let images = node.dir.path().join("images");
    make_image(&images);
    node.images = Some(images);
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("image");
    let mut config = config(&node, &id, "");
    config.container = Some(of_image());
    // The entry point of the image is the shell.
    config.command = Some(CommandInfo {
        shell: Some(false),
        arguments: vec![
            "-c".into(),
            "echo $FROM_IMAGE; cat /hello; echo new > /hello; pwd; echo $MESOS_SANDBOX; \
             while [ ! -e $MESOS_SANDBOX/go ]; do sleep 0.02; done"
                .into(),
        ],
        ..CommandInfo::default()
    });
    universal.launch(&id, config.clone()).await.unwrap();
    let universal = node.recovered(&[&id]).await;
    std::fs::write(node.dir.path().join("sandbox/image/go"), "").unwrap();
    let end = universal.wait(&id).await.unwrap();
    assert_eq!(end.exit_code(), Some(0), "{}", node.read(&id, "stderr"));
    let said = node.read(&id, "stdout");
    assert_eq!(said, "yes\nhello\n/work\n/mnt/mesos/sandbox\n");
    universal.remove(&id).await.unwrap();
    let roots = std::fs::read_dir(node.dir.path().join("provisioner")).unwrap();
    assert_eq!(roots.count(), 0, "its root is still there");
    // The image is as it was.
    let id = ContainerId::root("again");
    config.directory = node.dir.path().join("sandbox/again");
    std::fs::create_dir_all(&config.directory).unwrap();
    std::fs::write(config.directory.join("go"), "").unwrap();
    universal.launch(&id, config).await.unwrap();
    universal.wait(&id).await.unwrap();
    assert!(node.read(&id, "stdout").contains("hello"));
}

/// No test, but what stands beside containers with terminals.
#[test]
fn switchboard() {
    let mut arguments = std::env::args_os().skip_while(|argument| argument != "--");
    if arguments.next().is_some() {
        let ended = dcos_containerizer::switchboard::main(arguments);
        std::process::exit(i32::from(ended != ExitCode::SUCCESS));
    }
}

fn of_image() -> ContainerInfo {
    ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        mesos: Some(container_info::MesosInfo {
            image: Some(Image {
                r#type: image::Type::Docker.into(),
                docker: Some(image::Docker {
                    name: "test/sh:1".into(),
                    ..image::Docker::default()
                }),
                ..Image::default()
            }),
        }),
        ..ContainerInfo::default()
    }
}

#[tokio::test]
async fn terminals_have_names_inside() {
    if !able() {
        return;
    }
    let mut node = Node::new(LINUX_ISOLATION);
    let images = node.dir.path().join("images");
    make_image(&images);
    node.images = Some(images);
    let universal = node.recovered(&[]).await;
    // Who is root in a user namespace is somebody else on the node.
    std::fs::set_permissions(node.dir.path(), Permissions::from_mode(0o755)).unwrap();
    terminals(&node, &universal, "terminal", false).await;
    terminals(&node, &universal, "mapped", true).await;
}

async fn terminals(node: &Node, universal: &Universal, name: &str, user_namespace: bool) {
    let id = ContainerId::root(name);
    let mut config = config(node, &id, "");
    config.user_namespace = user_namespace;
    config.container = Some(ContainerInfo {
        tty_info: Some(TtyInfo::default()),
        ..of_image()
    });
    let script = "tty; readlink /proc/self/fd/0; echo again > $(tty); \
        while [ ! -e $MESOS_SANDBOX/go ]; do sleep 0.02; done";
    config.command = Some(CommandInfo {
        shell: Some(false),
        arguments: vec!["-c".into(), script.into()],
        ..CommandInfo::default()
    });
    universal.launch(&id, config).await.unwrap();
    let sandbox = node.dir.path().join("sandbox").join(name);
    for name in ["first", "second"] {
        let session = id.child(name);
        let script = format!(
            "cd /mnt/mesos/sandbox; {{ tty; readlink /proc/self/fd/0; }} > {name}; test -w $(tty)"
        );
        let debug = ContainerConfig {
            class: ContainerClass::Debug,
            stdio: Stdio::null(),
            directory: PathBuf::new(),
            container: Some(ContainerInfo {
                r#type: container_info::Type::Mesos.into(),
                tty_info: Some(TtyInfo::default()),
                ..ContainerInfo::default()
            }),
            ..node.task(&session, &script)
        };
        universal.launch(&session, debug).await.unwrap();
        let end = universal.wait(&session).await.unwrap();
        let said = std::fs::read_to_string(sandbox.join(name)).unwrap();
        // The number of one that ended is free again in a while.
        let names: Vec<_> = said.lines().collect();
        assert!(names[0].starts_with("/dev/pts/"), "{said}");
        assert_eq!(names, [names[0]; 2]);
        assert_eq!(end.exit_code(), Some(0));
        universal.remove(&session).await.unwrap();
    }
    std::fs::write(sandbox.join("go"), "").unwrap();
    let end = universal.wait(&id).await.unwrap();
    let said = node.read(&id, "stdout");
    assert_eq!(said, "/dev/console\r\n/dev/console\r\nagain\r\n");
    assert_eq!(end.exit_code(), Some(0));
}

#[tokio::test]
async fn an_image_can_be_a_volume() {
    if !able() {
        return;
    }
    let mut node = Node::new("filesystem/linux,namespaces/pid,volume/image");
    let images = node.dir.path().join("images");
    make_image(&images);
    node.images = Some(images);
    let universal = node.recovered(&[]).await;
    let volume = |path: &str, mode: volume::Mode| Volume {
        mode: mode.into(),
        container_path: path.into(),
        image: Some(Image {
            r#type: image::Type::Docker.into(),
            docker: Some(image::Docker {
                name: "test/sh:1".into(),
                ..image::Docker::default()
            }),
            ..Image::default()
        }),
        ..Volume::default()
    };
    let with = |id: &ContainerId, command: &str| ContainerConfig {
        container: Some(ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            volumes: vec![
                volume("data/ro", volume::Mode::Ro),
                volume("rw", volume::Mode::Rw),
            ],
            ..ContainerInfo::default()
        }),
        ..node.task(id, command)
    };
    let id = ContainerId::root("first");
    let script = "cat data/ro/hello; { echo x > data/ro/hello; } 2>/dev/null || echo kept
        echo mine > rw/hello; touch ready; while [ ! -e go ]; do sleep 0.02; done; cat rw/hello";
    universal.launch(&id, with(&id, script)).await.unwrap();
    let sandbox = node.dir.path().join("sandbox/first");
    until("what it does", || sandbox.join("ready").exists()).await;
    // They are those of who is known, over a restart, and no others.
    let roots = || std::fs::read_dir(node.dir.path().join("provisioner-volumes")).unwrap();
    let universal = {
        drop(universal);
        node.recovered(&[&id]).await
    };
    assert_eq!(roots().count(), 2);
    std::fs::write(sandbox.join("go"), "").unwrap();
    let end = universal.wait(&id).await.unwrap();
    assert_eq!(end.exit_code(), Some(0), "{}", node.read(&id, "stderr"));
    assert_eq!(node.read(&id, "stdout"), "hello\nkept\nmine\n");
    assert_eq!(roots().count(), 0);
    let id = ContainerId::root("second");
    universal
        .launch(&id, with(&id, "cat rw/hello; sleep 1000"))
        .await
        .unwrap();
    while node.read(&id, "stdout") != "hello\n" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Nobody knows it after this restart.
    drop(universal);
    node.recovered(&[]).await;
    assert_eq!(roots().count(), 0);
}

/// Writes what `docker save test/sh:1` would: this host's shell and what it needs, and a second
/// layer over it.
fn make_image(folder: &Path) {
    let mut base = tar::Builder::new(Vec::new());
    let mut add = |path: &Path| {
        let inside = path.strip_prefix("/").unwrap();
        base.append_path_with_name(path.canonicalize().unwrap(), inside)
            .unwrap();
    };
    for program in ["sh", "cat", "sleep", "tty", "readlink"].map(|name| format!("/bin/{name}")) {
        add(Path::new(&program));
        let needs = Command::new("ldd").arg(&program).output().unwrap();
        let needs = String::from_utf8(needs.stdout).unwrap();
        for word in needs
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            add(Path::new(word));
        }
    }
    append(&mut base, "gone", "x");
    append(&mut base, "hello", "old\n");
    let base = base.into_inner().unwrap();
    let mut top = tar::Builder::new(Vec::new());
    append(&mut top, "hello", "hello\n");
    append(&mut top, ".wh.gone", "");
    append(&mut top, "work/empty", "");
    let top = top.into_inner().unwrap();

    let document = serde_json::json!({
        "config": {
            "Entrypoint": ["/bin/sh"],
            "Env": ["FROM_IMAGE=yes", "PATH=/bin"],
            "WorkingDir": "/work",
        },
        "rootfs": {"diff_ids": [digest(&base), digest(&top)]},
    });
    let manifest = serde_json::json!([{
        "Config": "config.json",
        "RepoTags": ["test/sh:1"],
        "Layers": ["base/layer.tar", "top/layer.tar"],
    }]);
    let mut image = tar::Builder::new(Vec::new());
    append(&mut image, "config.json", document.to_string());
    append(&mut image, "manifest.json", manifest.to_string());
    for (name, layer) in [("base/layer.tar", &base), ("top/layer.tar", &top)] {
        append(&mut image, name, layer);
    }
    std::fs::create_dir_all(folder.join("test")).unwrap();
    let mut file = std::fs::File::create(folder.join("test/sh:1.tar")).unwrap();
    file.write_all(&image.into_inner().unwrap()).unwrap();
}

fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: impl AsRef<[u8]>) {
    let content = content.as_ref();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
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

#[tokio::test]
async fn an_image_that_is_not_there_is_told() {
    if !able() {
        return;
    }
    let mut node = Node::new(LINUX_ISOLATION);
    node.images = Some(node.dir.path().join("images"));
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("missing");
    let mut config = config(&node, &id, "true");
    config.command = Some(shell("true"));
    config.container = Some(ContainerInfo {
        r#type: container_info::Type::Mesos.into(),
        mesos: Some(container_info::MesosInfo {
            image: Some(Image {
                r#type: image::Type::Docker.into(),
                docker: Some(image::Docker {
                    name: "alpine".into(),
                    ..image::Docker::default()
                }),
                ..Image::default()
            }),
        }),
        ..ContainerInfo::default()
    });
    let error = universal.launch(&id, config).await.unwrap_err().to_string();
    let expected = "provision image: there is no image 'alpine.tar' in";
    assert!(error.contains(expected), "{error}");
}
