//! What each isolator gives to a container or keeps from it: real processes, as root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and tells on standard output why it was skipped"
)]

mod confined;

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use confined::{Fixture, PATIENCE, Test};
use dcos_containerizer::isolator::cgroup::{IoLimit, NetClsHandles, StallLimit, Stalled};
use dcos_containerizer::isolator::devices::HostDevice;
use dcos_containerizer::isolator::gpu::DeviceNodes;
use dcos_containerizer::isolator::{ContainerConfig, IsolationConfig, Limits};
use dcos_launcher::Scope;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{ContainerId, ContainerStatus};

/// Set where the controllers that only version 1 has are mounted for the tests.
const MOUNTED: &str = "CONTROLLERS_ARE_MOUNTED";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "listen") {
        return listen(Path::new(&arguments.next().unwrap()));
    }
    let is_launcher = std::env::args_os().any(|word| word == "launcher");
    if !is_launcher && rustix::process::geteuid().is_root() && std::env::var_os(MOUNTED).is_none() {
        return with_controllers();
    }
    confined::main(TESTS)
}

/// Goes on in a mount namespace where `net_cls` and `net_prio` are mounted, if they are free.
fn with_controllers() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let script = "cd \"$1\"; for name in net_cls net_prio; do mkdir $name; \
                  mount -t cgroup -o $name cgroup $name 2>/dev/null; done; cd /; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(folder.path());
    command.arg(std::env::current_exe().unwrap());
    command.args(std::env::args_os().skip(1)).env(MOUNTED, "1");
    let status = command.status().unwrap();
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

/// What listens in a container: writes its port into a file, and stays.
fn listen(file: &Path) -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::fs::write(file, port).unwrap();
    // The socket outlives the program that made it.
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let error = Command::new("sleep").arg("1000").exec();
    panic!("{error}");
}

const TESTS: &[(&str, Test)] = confined::tests! {
    containers_have_a_cgroup_of_each_controller
    class_ids_are_given_and_told
    traffic_with_block_devices_is_counted_and_limited
    gpus_are_given_whole_and_to_one_container
    allowed_devices_have_nodes_in_images
    ports_that_were_not_given_end_a_container
    memory_is_told_key_for_key
    limits_of_a_running_container_change
    who_waits_for_too_long_is_ended
    roots_that_cannot_be_changed
    files_of_the_node_that_cannot_be_changed
};

async fn containers_have_a_cgroup_of_each_controller() {
    let Some(mut fixture) = Fixture::new("cgroups/all", |_| ()) else {
        return;
    };
    // In a cgroup namespace its own is the top, in each hierarchy there is.
    let config = fixture.config("cat /proc/self/cgroup; grep Cpus_allowed_list /proc/self/status");
    let isolators: Vec<_> = fixture.isolators.names().collect();
    let output = fixture.output(&config).await;
    let allowed = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = allowed
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"));
    assert!(output.contains(allowed.unwrap()), "{output}");
    let has = |controller: &str| {
        let mut lines = output
            .lines()
            .filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines.any(|(names, path)| names.split(',').any(|name| name == controller) && path == "/")
    };
    let unified = output.lines().any(|line| line == "0::/");
    for name in isolators
        .iter()
        .filter_map(|name| name.strip_prefix("cgroups/"))
    {
        let controller = name.replace("mem", "memory");
        assert!(
            has(&controller) || unified,
            "no cgroup for {controller}: {output}"
        );
    }
    println!("seen: {}", isolators.join(", "));
}

async fn class_ids_are_given_and_told() {
    let handles = NetClsHandles {
        primary: 0x12,
        secondary: 1..=2,
    };
    let change = |config: &mut IsolationConfig| config.net_cls_handles = Some(handles);
    let Some(mut fixture) = Fixture::new("cgroups/net_cls", change) else {
        return;
    };
    let isolators = fixture.isolators.clone();
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let config = ContainerConfig {
            id: ContainerId::root(name),
            ..fixture.config("true")
        };
        let prepared = isolators.prepare(&config).await;
        assert_eq!(prepared.is_ok(), name != "c", "there are two handles");
        ids.push(config.id);
    }
    let class = async |id: &ContainerId| {
        let status: ContainerStatus = isolators.status(id).await;
        status.cgroup_info.and_then(|info| info.net_cls?.classid)
    };
    assert_eq!(class(&ids[0]).await, Some(0x12_0001));
    assert_eq!(class(&ids[1]).await, Some(0x12_0002));
    isolators.cleanup(&ids[0]).await.unwrap();
    // The one that is free again is given again, and the kernel marks with it.
    let config = fixture.config("true");
    assert_eq!(fixture.run(&config, |_| false).await.status, 0);
    isolators.cleanup(&ids[1]).await.unwrap();
}

async fn traffic_with_block_devices_is_counted_and_limited() {
    let folder = tempfile::tempdir().unwrap();
    let found = Command::new("findmnt")
        .args(["-nvo", "SOURCE", "-T"])
        .arg(folder.path())
        .output();
    let device = found.map(|found| String::from_utf8_lossy(&found.stdout).trim().to_owned());
    let device = device.unwrap_or_default();
    let name = device.trim_start_matches("/dev/").to_owned();
    if !Path::new("/sys/block").join(&name).exists() {
        println!("skipped: the temporary folder is not on a whole disk, but on `{device}`");
        return;
    }
    let limit = IoLimit {
        device: device.into(),
        wbps: Some(1 << 30),
        ..IoLimit::default()
    };
    let change = |config: &mut IsolationConfig| config.io_limits = vec![limit];
    let Some(mut fixture) = Fixture::new("cgroups/blkio", change) else {
        return;
    };
    let script = "dd if=/dev/zero of=file bs=64k count=4 oflag=direct 2>/dev/null; exec sleep 1000";
    let config = fixture.config(script);
    let written = |usage: &dcos_proto::mesos::ResourceStatistics| {
        let all = usage
            .blkio_statistics
            .iter()
            .flat_map(|all| &all.throttling);
        let all = all.filter(|device| device.device.is_some());
        let bytes = all.flat_map(|device| &device.io_service_bytes);
        bytes.filter_map(|value| value.value).max().unwrap_or(0)
    };
    let outcome = fixture
        .run(&config, |usage| written(usage) >= 4 * 65_536)
        .await;
    assert!(written(&outcome.usage) >= 4 * 65_536, "{:?}", outcome.usage);
}

/// Nodes that look like those of a GPU driver, by devices that any node has and no container may
/// open.
fn fake_gpus(folder: &Path) -> bool {
    let nodes = [
        ("nvidia0", "/dev/fuse"),
        ("nvidia1", "/dev/loop-control"),
        ("nvidiactl", "/dev/kmsg"),
        ("nvidia-uvm", "/dev/kmsg"),
    ];
    let copies = nodes.map(|(name, of)| {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(of)
            .arg(folder.join(name))
            .status();
        copied.is_ok_and(|status| status.success())
    });
    copies.iter().all(|copied| *copied)
}

async fn gpus_are_given_whole_and_to_one_container() {
    let nodes = tempfile::tempdir().unwrap();
    let folder = nodes.path().to_owned();
    let state = tempfile::tempdir().unwrap();
    let runtime = state.path().to_owned();
    let change = |config: &mut IsolationConfig| {
        config.gpus = Arc::new(DeviceNodes::new(folder));
        config.runtime_dir = runtime;
    };
    if !fake_gpus(nodes.path()) {
        println!("skipped: this node lacks the devices that stand in for GPUs");
        return;
    }
    let Some(mut fixture) = Fixture::new("cgroups/devices,gpu/nvidia", change) else {
        return;
    };
    let script = format!(
        "for name in nvidia0 nvidia1 nvidiactl; do \
           (: < {}/$name) 2>/dev/null && echo $name; done; true",
        nodes.path().display()
    );
    let with = |fixture: &Fixture, name: &str, gpus: f64| ContainerConfig {
        id: ContainerId::root(name),
        limits: Limits {
            gpus,
            ..Limits::default()
        },
        ..fixture.config(&script)
    };
    let one = with(&fixture, "c", 1.0);
    assert_eq!(fixture.output(&one).await, "nvidia0\nnvidiactl\n");
    let none = with(&fixture, "c", 0.0);
    assert_eq!(fixture.output(&none).await, "nvidiactl\n");

    // One is taken: the next container gets the other, and a third none.
    let isolators = fixture.isolators.clone();
    let first = with(&fixture, "first", 1.0);
    isolators.prepare(&first).await.unwrap();
    assert_eq!(fixture.output(&one).await, "nvidia1\nnvidiactl\n");
    let error = isolators
        .prepare(&with(&fixture, "greedy", 2.0))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "2 GPUs were asked for, and 1 are free");
    let error = isolators
        .prepare(&with(&fixture, "odd", 0.5))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("whole"), "{error}");

    // It is still taken for an agent that comes after.
    let config = IsolationConfig {
        isolation: "cgroups/devices,gpu/nvidia".to_owned(),
        cgroups_root: fixture.cgroups_root.clone(),
        gpus: Arc::new(DeviceNodes::new(nodes.path())),
        runtime_dir: state.path().to_owned(),
        ..IsolationConfig::default()
    };
    let again = dcos_containerizer::isolator::Isolators::from_config(&config).unwrap();
    again
        .recover(std::slice::from_ref(&first.id))
        .await
        .unwrap();
    assert!(again.prepare(&with(&fixture, "greedy", 2.0)).await.is_err());
    fixture.isolators = again.clone();
    assert_eq!(fixture.output(&one).await, "nvidia1\nnvidiactl\n");
    again.cleanup(&first.id).await.unwrap();
    let two = with(&fixture, "c", 2.0);
    assert_eq!(fixture.output(&two).await, "nvidia0\nnvidia1\nnvidiactl\n");
}

async fn allowed_devices_have_nodes_in_images() {
    let device = HostDevice::open(Path::new("/dev/kmsg"), "r");
    let Ok(device) = device else {
        println!("skipped: there is no /dev/kmsg");
        return;
    };
    let isolation = "filesystem/linux,cgroups/devices,linux/devices";
    let change = |config: &mut IsolationConfig| config.allowed_devices = vec![device];
    let Some(mut fixture) = Fixture::new(isolation, change) else {
        return;
    };
    let script = "stat -c %a /dev/kmsg; (: < /dev/kmsg) && echo read; \
                  (: > /dev/kmsg) 2>/dev/null || echo not written; ls /dev/fuse 2>&1 | wc -l";
    let mut config = fixture.config(script);
    fixture.image(&mut config);
    let output = fixture.output(&config).await;
    assert_eq!(output, "644\nread\nnot written\n1\n");
}

async fn ports_that_were_not_given_end_a_container() {
    let state = tempfile::tempdir().unwrap();
    let runtime = state.path().to_owned();
    let change = |config: &mut IsolationConfig| {
        config.runtime_dir = runtime;
        config.enforce_container_ports = true;
        config.container_ports_watch_interval = std::time::Duration::from_millis(20);
    };
    let Some(mut fixture) = Fixture::new("network/ports", change) else {
        return;
    };
    let program = std::env::current_exe().unwrap();
    let mut config = fixture.config(&format!("exec {} listen port", program.display()));
    config.limits.ports = vec![1..=u16::MAX];
    let isolators = fixture.isolators.clone();
    let draft = isolators.prepare(&config).await.unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    launcher.launch(&draft.to_plan("c").unwrap(), &[]).unwrap();
    let file = config.sandbox.join("port");
    let port = loop {
        match std::fs::read_to_string(&file) {
            Ok(text) if !text.is_empty() => break text,
            _ => tokio::task::yield_now().await,
        }
    };
    let mut watch = Box::pin(isolators.watch(&config.id));
    // It has all ports, and is left alone; then it has others.
    let soon = std::time::Duration::from_millis(100);
    assert!(tokio::time::timeout(soon, &mut watch).await.is_err());
    let number: u16 = port.parse().unwrap();
    let less = Limits {
        ports: vec![1..=number - 1],
        ..Limits::default()
    };
    isolators.update(&config.id, &less).await.unwrap();
    let limitation = tokio::time::timeout(PATIENCE, watch).await.unwrap();
    assert_eq!(limitation.reason, i32::from(Reason::ContainerLimitation));
    let expected = format!("Container is listening on unallocated port(s): {port}");
    assert_eq!(limitation.message, expected);
    assert_eq!(limitation.resources[0].name, "ports");
    launcher.kill("c", libc::SIGKILL, Scope::All).unwrap();
    launcher.next_event(Some(PATIENCE)).unwrap().unwrap();
    isolators.cleanup(&config.id).await.unwrap();
}

async fn memory_is_told_key_for_key() {
    let Some(mut fixture) = Fixture::new("cgroups/mem", |_| ()) else {
        return;
    };
    let mut config = fixture.config("exec sleep 1000");
    config.limits.mem = Some(64 << 20);
    let usage = fixture
        .run(&config, |usage| usage.mem_total_bytes.is_some())
        .await
        .usage;
    let told = [
        ("limit", usage.mem_limit_bytes),
        ("rss", usage.mem_rss_bytes),
        ("anon", usage.mem_anon_bytes),
        ("file", usage.mem_file_bytes),
        ("cache", usage.mem_cache_bytes),
        ("mapped", usage.mem_mapped_file_bytes),
        ("unevictable", usage.mem_unevictable_bytes),
        ("low", usage.mem_low_pressure_counter),
        ("medium", usage.mem_medium_pressure_counter),
        ("critical", usage.mem_critical_pressure_counter),
    ];
    for (name, value) in told {
        assert!(value.is_some(), "{name} is missing: {usage:?}");
    }
}

async fn limits_of_a_running_container_change() {
    let change = |config: &mut IsolationConfig| config.cgroups_enable_cfs = true;
    let Some(mut fixture) = Fixture::new("cgroups/cpu,cgroups/mem", change) else {
        return;
    };
    let mut config = fixture.config("exec sleep 1000");
    let limits = |cpus, megabytes: u64| Limits {
        cpus: Some(cpus),
        mem: Some(megabytes << 20),
        ..Limits::default()
    };
    config.limits = limits(0.5, 64);
    let isolators = fixture.isolators.clone();
    let draft = isolators.prepare(&config).await.unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    launcher.launch(&draft.to_plan("c").unwrap(), &[]).unwrap();
    let check = async |cpus, megabytes: u64| {
        let usage = isolators.usage(&config.id).await;
        assert_eq!(usage.cpus_limit, Some(cpus));
        assert_eq!(usage.mem_limit_bytes, Some(megabytes << 20));
    };
    check(0.5, 64).await;
    isolators
        .update(&config.id, &limits(1.5, 256))
        .await
        .unwrap();
    check(1.5, 256).await;
    // Down again, since it uses far less.
    isolators
        .update(&config.id, &limits(0.1, 48))
        .await
        .unwrap();
    check(0.1, 48).await;
    let unlimited = Limits {
        cpus_limit: Some(f64::INFINITY),
        mem_limit: Some(u64::MAX),
        ..limits(0.1, 48)
    };
    isolators.update(&config.id, &unlimited).await.unwrap();
    let usage = isolators.usage(&config.id).await;
    assert_eq!((usage.cpus_limit, usage.mem_limit_bytes), (None, None));
    launcher.kill("c", libc::SIGKILL, Scope::All).unwrap();
    launcher.next_event(Some(PATIENCE)).unwrap().unwrap();
    isolators.cleanup(&config.id).await.unwrap();
}

async fn who_waits_for_too_long_is_ended() {
    // More processes than processors: at least one always waits.
    let limit = StallLimit {
        some: Some(0.2),
        full: None,
        window: 2.0,
    };
    let change = |config: &mut IsolationConfig| {
        config.pressure_limits = [(Stalled::Cpu, limit)].into();
    };
    let Some(mut fixture) = Fixture::new("cgroups/pressure", change) else {
        return;
    };
    let busy = std::thread::available_parallelism().unwrap().get() * 4;
    let script = format!("for i in $(seq {busy}); do while :; do :; done & done; wait");
    let config = fixture.config(&script);
    let isolators = fixture.isolators.clone();
    let draft = isolators.prepare(&config).await.unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    launcher.launch(&draft.to_plan("c").unwrap(), &[]).unwrap();
    let limitation = tokio::time::timeout(PATIENCE, isolators.watch(&config.id));
    let limitation = limitation.await.unwrap();
    assert_eq!(
        limitation.message,
        "Pressure limit exceeded: one process waited for cpu in 20 % of 2secs"
    );
    assert_eq!(limitation.reason, i32::from(Reason::ContainerLimitation));
    launcher.kill("c", libc::SIGKILL, Scope::All).unwrap();
    launcher.next_event(Some(PATIENCE)).unwrap().unwrap();
    launcher.acknowledge("c").unwrap();
    isolators.cleanup(&config.id).await.unwrap();
}

async fn roots_that_cannot_be_changed() {
    let isolation = "filesystem/linux,namespaces/pid";
    let Some(mut fixture) = Fixture::new(isolation, |_| ()) else {
        return;
    };
    let script = "touch /etc/new 2>/dev/null && echo root; mkdir /new 2>/dev/null && echo root; \
                  mount -o remount,rw / 2>/dev/null; \
                  echo x > $MESOS_SANDBOX/file && echo sandbox; echo x > /dev/shm/file && echo memory; \
                  echo x > /dev/null && echo null";
    let mut config = fixture.config(script);
    let rootfs = fixture.image(&mut config);
    let output = fixture.output(&config).await;
    assert_eq!(output, "root\nroot\nsandbox\nmemory\nnull\n");
    std::fs::remove_file(rootfs.join("etc/new")).unwrap();
    std::fs::remove_dir(rootfs.join("new")).unwrap();

    config.readonly_rootfs = true;
    let output = fixture.output(&config).await;
    assert_eq!(output, "sandbox\nmemory\nnull\n", "by the task");
    assert!(!rootfs.join("new").exists());

    config.readonly_rootfs = false;
    let Some(mut fixture) = Fixture::new(isolation, |config| config.readonly_rootfs = true) else {
        return;
    };
    let output = fixture.output(&config).await;
    assert_eq!(output, "sandbox\nmemory\nnull\n", "by the agent");
}

async fn files_of_the_node_that_cannot_be_changed() {
    let folder = tempfile::tempdir_in("/var").unwrap();
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let change = |config: &mut IsolationConfig| config.landlock_writable = vec![shared.clone()];
    let isolation = "filesystem/linux,linux/capabilities,linux/nnp,linux/seccomp,linux/landlock";
    let Some(mut fixture) = Fixture::new(isolation, change) else {
        return;
    };
    let at = folder.path().display();
    std::fs::write(folder.path().join("kept"), "kept\n").unwrap();
    let script = format!(
        "cat {at}/kept; cd {at}; exec 2>/dev/null
         ( echo x > kept ) && echo written; ( echo x >> kept ) && echo added; rm kept && echo removed
         mkdir new && echo made; mv kept other && echo moved; ln -s a b && echo linked
         truncate -s 0 kept && echo cut; sh -c 'echo x > new' && echo child
         echo x > shared/file && echo shared; echo x > $MESOS_SANDBOX/file && echo sandbox
         mv shared/file $MESOS_SANDBOX/moved && echo across
         ln -s {at}/kept $MESOS_SANDBOX/link; ( echo x > $MESOS_SANDBOX/link ) && echo followed
         echo x > /dev/null && echo null"
    );
    let mut config = fixture.config(&script);
    let sandbox = config.sandbox.display().to_string();
    config.environment.push(("MESOS_SANDBOX".into(), sandbox));
    let output = fixture.output(&config).await;
    assert_eq!(output, "kept\nshared\nsandbox\nacross\nnull\n");
    assert_eq!(
        std::fs::read(folder.path().join("kept")).unwrap(),
        b"kept\n"
    );

    // An image's root is its own.
    let mut config = fixture.config("echo x > /etc/new && echo own");
    fixture.image(&mut config);
    assert_eq!(fixture.output(&config).await, "own\n");
}
