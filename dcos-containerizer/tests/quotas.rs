//! `disk/xfs` on file systems that count projects: ext4 and XFS, each in a file. Needs root, and a kernel with
//! project quotas; `make vm-test` has one.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and tells on standard output why it was skipped"
)]

mod confined;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use confined::{Fixture, PATIENCE, Test};
use dcos_containerizer::isolator::disk::{ProjectIds, ProjectQuotaIsolator, QuotaSettings};
use dcos_containerizer::isolator::{
    ContainerConfig, Draft, Isolator, Limits, PersistentVolume, testkit,
};
use dcos_image::root;
use dcos_proto::mesos::resource::disk_info::Persistence;
use dcos_proto::mesos::resource::{DiskInfo, ReservationInfo, reservation_info};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::{self, Scalar};
use dcos_proto::mesos::{ContainerId, Resource, ResourceStatistics, Volume};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "promises") {
        let work_dir = PathBuf::from(arguments.next().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(promises(&work_dir));
        return ExitCode::SUCCESS;
    }
    confined::main(TESTS)
}

const TESTS: &[(&str, Test)] = confined::tests! {
    the_promises_of_isolators_are_kept
    what_is_beyond_the_quota_cannot_be_written
    what_is_written_to_roots_counts
    volumes_are_bounded_by_what_they_have
    projects_cannot_be_left
    who_takes_too_much_is_told_where_that_is_wanted
    ids_are_free_again_when_the_sandbox_is_gone
    after_a_restart_all_is_as_it_was
    who_was_there_before_is_counted_too
    a_folder_that_cannot_be_asked_keeps_its_id_and_nobody_from_starting
    who_gets_no_id_after_a_restart_runs_on
    where_nothing_counts_it_says_so
};

const MB: u64 = 1 << 20;

/// A file system of its own, in a file.
struct Disk {
    folder: tempfile::TempDir,
    kind: &'static str,
}

impl Disk {
    /// One of each kind that counts projects here; none, and a word why, where there is none.
    fn each() -> Vec<Self> {
        let kinds: [(&'static str, &[&str]); 2] =
            [("ext4", &["-O", "quota,project"]), ("xfs", &[])];
        let made = kinds.map(|(kind, options)| Self::new(kind, options));
        made.into_iter().flatten().collect()
    }

    fn new(kind: &'static str, options: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        // The least that XFS makes of it.
        std::fs::File::create(&image)
            .unwrap()
            .set_len(512 * MB)
            .unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let done = command.arg("-q").args(arguments).arg(&image).output();
            let done = done.map_err(|error| format!("{program}: {error}"))?;
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            done.status.success().then_some(()).ok_or(said)
        };
        let mounted = run(&format!("mkfs.{kind}"), options).and_then(|()| {
            let place = folder.path().join("disk");
            std::fs::create_dir(&place).unwrap();
            let mut mount = Command::new("mount");
            mount
                .args(["-t", kind, "-o", "loop,prjquota"])
                .arg(&image)
                .arg(place);
            let done = mount.output().map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            done.status.success().then_some(()).ok_or(said)
        });
        match mounted {
            Ok(()) => {
                println!("on {kind}");
                Some(Self { folder, kind })
            }
            Err(why) => {
                println!("skipped: no project quotas on {kind} here: {why}");
                None
            }
        }
    }

    fn work_dir(&self) -> PathBuf {
        self.folder.path().join("disk/work")
    }

    fn sandbox(&self, id: &str) -> PathBuf {
        let runs = "slaves/s/frameworks/f/executors/e/runs";
        let sandbox = self.work_dir().join(runs).join(id);
        std::fs::create_dir_all(&sandbox).unwrap();
        sandbox
    }

    /// As an agent has it, with ids of its own.
    fn settings(&self, projects: &ProjectIds) -> QuotaSettings {
        QuotaSettings {
            projects: projects.clone(),
            enforce: true,
            kill: false,
            headroom: 10 * MB,
            interval: SOON,
            collect_interval: SOON,
            work_dir: self.work_dir(),
            disks: Vec::new(),
            runtime_dir: self.folder.path().join("run"),
        }
    }

    /// What a program is told that may write no more: XFS says of projects that the disk is full.
    fn full(&self) -> &'static str {
        match self.kind {
            "xfs" => "No space left on device",
            _ => "Disk quota exceeded",
        }
    }

    fn fixture(&self) -> Fixture {
        Fixture::new("filesystem/linux,disk/xfs,linux/capabilities", |config| {
            config.work_dir = self.work_dir();
            config.enforce_container_disk_quota = true;
        })
        .unwrap()
    }

    /// A container with a sandbox, and so much disk.
    fn config(&self, id: &str, megabytes: f64) -> ContainerConfig {
        ContainerConfig {
            id: ContainerId::root(id),
            sandbox: self.sandbox(id),
            limits: Limits {
                disks: vec![disk(megabytes)],
                ..Limits::default()
            },
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("FULL".into(), self.full().into()),
            ],
            ..testkit::config(id)
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let place = self.folder.path().join("disk");
        let done = Command::new("umount").arg(place).status().unwrap();
        assert!(std::thread::panicking() || done.success());
    }
}

const SOON: Duration = Duration::from_millis(20);

fn disk(megabytes: f64) -> Resource {
    Resource {
        name: "disk".into(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(Scalar { value: megabytes }),
        ..Resource::default()
    }
}

async fn prepare(isolator: &dyn Isolator, config: &ContainerConfig) {
    let mut draft = Draft::new(config).unwrap();
    isolator.prepare(config, &mut draft).await.unwrap();
}

async fn usage(isolator: &dyn Isolator, id: &ContainerId) -> ResourceStatistics {
    let mut usage = ResourceStatistics::default();
    isolator.usage(id, &mut usage).await.unwrap();
    usage
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(SOON).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}"));
}

async fn promises(work_dir: &Path) {
    let settings = QuotaSettings {
        projects: ProjectIds::default(),
        enforce: true,
        kill: true,
        headroom: MB,
        interval: SOON,
        collect_interval: SOON,
        work_dir: work_dir.to_owned(),
        disks: Vec::new(),
        runtime_dir: work_dir.join("run"),
    };
    testkit::all(&|| Arc::new(ProjectQuotaIsolator::new(settings.clone()).unwrap())).await;
}

async fn the_promises_of_isolators_are_kept() {
    for disk in Disk::each() {
        // The kit's sandbox is the temporary folder.
        let sandbox = disk.sandbox("c");
        let kit = Command::new(std::env::current_exe().unwrap())
            .arg("promises")
            .arg(disk.work_dir())
            .env("TMPDIR", sandbox)
            .output()
            .unwrap();
        assert!(kit.status.success(), "{kit:?}");
    }
}

async fn what_is_beyond_the_quota_cannot_be_written() {
    for disk in Disk::each() {
        let mut fixture = disk.fixture();
        let script = "dd if=/dev/zero of=large bs=64k count=320 2>&1 | grep -oE \"$FULL\"; \
                      wc -c < large; mkdir deeper; echo x > deeper/more; echo $?; exec sleep 1000";
        let config = ContainerConfig {
            command: fixture.config(script).command,
            ..disk.config("c", 8.0)
        };
        let full = |usage: &ResourceStatistics| usage.disk_used_bytes > Some(7 * MB);
        let outcome = fixture.run(&config, full).await;
        assert_eq!(outcome.usage.disk_limit_bytes, Some(8 * MB));
        assert!(
            outcome.usage.disk_used_bytes <= Some(8 * MB),
            "{:?}",
            outcome.usage
        );
        assert_eq!(outcome.limitation, None, "nobody is ended for that");

        let script = "dd if=/dev/zero of=large bs=64k count=320 2>&1 | grep -oE \"$FULL\"; \
                      test $(wc -c < large) -le 8388608 && rm large && echo small > other && cat other";
        let config = ContainerConfig {
            command: fixture.config(script).command,
            ..disk.config("d", 8.0)
        };
        let output = fixture.output(&config).await;
        assert_eq!(output, format!("{}\nsmall\n", disk.full()));
    }
}

/// A root over `layer`, as the provisioner makes it.
fn with_root(disk: &Disk, config: &mut ContainerConfig, fixture: &Fixture) -> PathBuf {
    let folder = disk
        .work_dir()
        .join("provisioner")
        .join(config.id.to_string());
    let (layer, rootfs) = (folder.join("layer"), folder.join("rootfs"));
    std::fs::create_dir_all(layer.join("etc/deep")).unwrap();
    std::fs::write(layer.join("etc/known"), "of the image").unwrap();
    root::overlay(&[layer], &folder, &rootfs).unwrap();
    let mut image = config.clone();
    fixture.image(&mut image);
    config.container = image.container;
    config.ephemeral = root::written(&folder, &rootfs);
    config.rootfs = Some(rootfs.clone());
    rootfs
}

async fn what_is_written_to_roots_counts() {
    for disk in Disk::each() {
        let mut fixture = disk.fixture();
        let script = "echo more >> /etc/known && mv /etc/known /moved && mkdir /made && mv /moved /made && \
                      mkdir /etc/deep/er && rm -r /etc/deep && cat /made/moved; \
                      dd if=/dev/zero of=/large bs=64k count=320 2>&1 | grep -oE \"$FULL\"; \
                      dd if=/dev/zero of=/mnt/mesos/sandbox/file bs=64k count=9 \
                      2>&1 | grep -oE \"$FULL\"";
        let mut config = ContainerConfig {
            command: fixture.config(script).command,
            ..disk.config("c", 8.0)
        };
        let rootfs = with_root(&disk, &mut config, &fixture);
        let output = fixture.output(&config).await;
        root::undo(&rootfs).unwrap();
        // Sandbox and root share what was given.
        let full = disk.full();
        assert_eq!(output, format!("of the imagemore\n{full}\n{full}\n"));

        // What nested ones write counts for the one they are nested in, as long as they are there.
        let isolator = ProjectQuotaIsolator::new(disk.settings(&ProjectIds::default())).unwrap();
        isolator.recover(&[]).await.unwrap();
        let parent = disk.config("p", 8.0);
        prepare(&isolator, &parent).await;
        let before = usage(&isolator, &parent.id).await.disk_used_bytes.unwrap();
        let mut nested = ContainerConfig {
            id: parent.id.child("n"),
            ..disk.config("n", 1.0)
        };
        let rootfs = with_root(&disk, &mut nested, &fixture);
        prepare(&isolator, &nested).await;
        std::fs::write(rootfs.join("file"), vec![1; 2 << 20]).unwrap();
        rustix::fs::sync();
        let after = usage(&isolator, &parent.id).await.disk_used_bytes.unwrap();
        assert!(after - before >= 2 * MB, "{before} {after}");
        let none = usage(&isolator, &nested.id).await;
        assert_eq!(none, ResourceStatistics::default());
        root::undo(&rootfs).unwrap();
        isolator.cleanup(&nested.id).await.unwrap();
        isolator.cleanup(&parent.id).await.unwrap();
    }
}

async fn volumes_are_bounded_by_what_they_have() {
    for disk_of in Disk::each() {
        let mut fixture = disk_of.fixture();
        let source = disk_of.work_dir().join("volumes/roles/db/v1");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("old"), vec![1; 1 << 20]).unwrap();
        let mut volume = disk(4.0);
        volume.reservations.push(ReservationInfo {
            r#type: Some(reservation_info::Type::Static.into()),
            role: Some("db".to_owned()),
            ..ReservationInfo::default()
        });
        volume.disk = Some(Box::new(DiskInfo {
            persistence: Some(Persistence {
                id: "v1".to_owned(),
                ..Persistence::default()
            }),
            volume: Some(Volume {
                container_path: "data".to_owned(),
                ..Volume::default()
            }),
            ..DiskInfo::default()
        }));
        let script = "dd if=/dev/zero of=data/large bs=64k count=160 2>&1 | grep -oE \"$FULL\"; \
                      dd if=/dev/zero of=large bs=64k count=90 2>&1 | grep -oE \"$FULL\"; exec sleep 1000";
        let mut config = ContainerConfig {
            command: fixture.config(script).command,
            ..disk_of.config("c", 8.0)
        };
        config.limits.disks.push(volume);
        config.volumes.push(PersistentVolume {
            source: source.clone(),
            container_path: "data".to_owned(),
            ..PersistentVolume::default()
        });
        let full = |usage: &ResourceStatistics| usage.disk_used_bytes > Some(5 * MB);
        let outcome = fixture.run(&config, full).await;
        let full = format!("{}\n", disk_of.full());
        assert_eq!(outcome.output, full, "its own has room");
        let [told] = &outcome.usage.disk_statistics[..] else {
            panic!("{:?}", outcome.usage);
        };
        assert_eq!(told.persistence.as_ref().unwrap().id, "v1");
        assert_eq!(told.limit_bytes, Some(4 * MB));
        assert!(
            told.used_bytes > Some(3 * MB) && told.used_bytes <= Some(4 * MB),
            "{told:?}"
        );

        // The volume keeps what it has; the next one finds it full, after a restart too.
        let ids = ProjectIds::default();
        let isolator = ProjectQuotaIsolator::new(disk_of.settings(&ids)).unwrap();
        isolator.recover(&[]).await.unwrap();
        // That of the sandbox and that of the volume.
        assert_eq!(ids.total() - ids.free(), 2);
        config.id = ContainerId::root("d");
        config.sandbox = disk_of.sandbox("d");
        prepare(&isolator, &config).await;
        assert_eq!(ids.total() - ids.free(), 3);
        let again = usage(&isolator, &config.id).await;
        assert_eq!(again.disk_statistics[0].used_bytes, told.used_bytes);
        isolator.cleanup(&config.id).await.unwrap();
        std::fs::remove_dir_all(&source).unwrap();
        until("the volume's id is free", || ids.total() - ids.free() == 2).await;
    }
}

/// The kernel lets whoever owns a file give it to any project, or a folder hand none down; the default filter of system calls does not.
async fn projects_cannot_be_left() {
    for disk in Disk::each() {
        let mut tried = Vec::new();
        for (id, filter) in [("c", ""), ("d", ",linux/nnp,linux/seccomp")] {
            let isolation = format!("filesystem/linux,disk/xfs,linux/capabilities{filter}");
            let mut fixture = Fixture::new(&isolation, |config| {
                config.work_dir = disk.work_dir();
            })
            .unwrap();
            let script = "echo x > file; chattr -p 4 file 2>/dev/null && echo changed; \
                          lsattr -p file | tr -s ' ' | cut -d ' ' -f 2; \
                          chattr -P . 2>/dev/null && echo left; echo x > other; \
                          lsattr -p other | tr -s ' ' | cut -d ' ' -f 2";
            let config = ContainerConfig {
                command: fixture.config(script).command,
                ..disk.config(id, 8.0)
            };
            tried.push(fixture.output(&config).await);
        }
        assert_eq!(tried, ["changed\n4\nleft\n0\n", "5000\n5000\n"]);
    }
}

async fn who_takes_too_much_is_told_where_that_is_wanted() {
    for disk in Disk::each() {
        let settings = QuotaSettings {
            kill: true,
            ..disk.settings(&ProjectIds::default())
        };
        let isolator = ProjectQuotaIsolator::new(settings).unwrap();
        let config = disk.config("c", 8.0);
        prepare(&isolator, &config).await;
        std::fs::write(config.sandbox.join("file"), vec![1; 12 << 20]).unwrap();
        // Until it is written, XFS has more set aside for a file that grows.
        rustix::fs::sync();
        let told = tokio::time::timeout(PATIENCE, isolator.watch(&config.id)).await;
        let told = told.unwrap();
        assert_eq!(told.reason, i32::from(Reason::ContainerLimitationDisk));
        assert!(told.message.ends_with("exceeded quota (8MB)"), "{told:?}");
        assert_eq!(told.resources[0].name, "disk");
        isolator.cleanup(&config.id).await.unwrap();
    }
}

async fn ids_are_free_again_when_the_sandbox_is_gone() {
    for disk in Disk::each() {
        let ids = ProjectIds::parse("[700-701]").unwrap();
        let isolator = ProjectQuotaIsolator::new(disk.settings(&ids)).unwrap();
        let (first, second) = (disk.config("a", 1.0), disk.config("b", 1.0));
        prepare(&isolator, &first).await;
        prepare(&isolator, &second).await;
        let third = disk.config("c", 1.0);
        let refused = isolator
            .prepare(&third, &mut Draft::new(&third).unwrap())
            .await;
        let why = refused.unwrap_err().to_string();
        assert!(
            why.starts_with("all 2 project ids of --xfs_project_range"),
            "{why}"
        );
        isolator.cleanup(&third.id).await.unwrap();
        isolator.cleanup(&first.id).await.unwrap();
        let refused = isolator
            .prepare(&third, &mut Draft::new(&third).unwrap())
            .await;
        refused.unwrap_err();
        std::fs::remove_dir_all(&first.sandbox).unwrap();
        until("an id is free", || ids.free() == 1).await;
        prepare(&isolator, &third).await;
        assert_eq!(usage(&isolator, &third.id).await.disk_limit_bytes, Some(MB));
    }
}

async fn after_a_restart_all_is_as_it_was() {
    for disk in Disk::each() {
        let make = |ids: &ProjectIds, enforce: bool| {
            let settings = QuotaSettings {
                enforce,
                ..disk.settings(ids)
            };
            ProjectQuotaIsolator::new(settings).unwrap()
        };
        let isolator = make(&ProjectIds::default(), false);
        let (live, dead) = (disk.config("live", 2.0), disk.config("dead", 2.0));
        prepare(&isolator, &live).await;
        prepare(&isolator, &dead).await;
        std::fs::write(live.sandbox.join("file"), vec![1; 1 << 20]).unwrap();
        rustix::fs::sync();
        let before = usage(&isolator, &live.id).await;
        assert!(before.disk_used_bytes >= Some(MB));
        drop(isolator);

        let ids = ProjectIds::default();
        let isolator = make(&ids, true);
        isolator
            .recover(std::slice::from_ref(&live.id))
            .await
            .unwrap();
        assert_eq!(usage(&isolator, &live.id).await, before);
        assert_eq!(
            usage(&isolator, &dead.id).await,
            ResourceStatistics::default()
        );
        // The sandbox of the dead one is kept a while, and so is its id.
        assert_eq!(ids.total() - ids.free(), 2);
        prepare(&isolator, &disk.config("new", 2.0)).await;
        assert_eq!(ids.total() - ids.free(), 3);
        std::fs::remove_dir_all(&dead.sandbox).unwrap();
        until("the id of the dead one is free", || {
            ids.total() - ids.free() == 2
        })
        .await;
        // What is enforced is what is said now.
        let mut fixture = disk.fixture();
        let script = "dd if=/dev/zero of=large bs=64k count=160 2>&1 | grep -oE \"$FULL\"";
        let intruder = ContainerConfig {
            id: ContainerId::root("writer"),
            command: fixture.config(script).command,
            // It has a project already, and keeps none of its own: whatever lies there counts.
            sandbox: live.sandbox.clone(),
            ..disk.config("writer", 2.0)
        };
        let output = fixture.output(&intruder).await;
        assert_eq!(output, format!("{}\n", disk.full()));
    }
}

async fn who_was_there_before_is_counted_too() {
    for disk in Disk::each() {
        let ids = ProjectIds::default();
        let sandbox = disk.sandbox("old");
        std::fs::create_dir_all(sandbox.join("a/b")).unwrap();
        std::fs::write(sandbox.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/etc", sandbox.join("link")).unwrap();
        rustix::fs::sync();
        let isolator = ProjectQuotaIsolator::new(disk.settings(&ids)).unwrap();
        let id = ContainerId::root("old");
        isolator.recover(std::slice::from_ref(&id)).await.unwrap();
        let found = usage(&isolator, &id).await;
        assert!(found.disk_used_bytes >= Some(MB), "{found:?}");
        assert_eq!(
            found.disk_limit_bytes, None,
            "nobody said what it was given"
        );
        let limits = Limits {
            disks: vec![self::disk(4.0)],
            ..Limits::default()
        };
        isolator.update(&id, &limits).await.unwrap();
        assert_eq!(usage(&isolator, &id).await.disk_limit_bytes, Some(4 * MB));
    }
}

async fn a_folder_that_cannot_be_asked_keeps_its_id_and_nobody_from_starting() {
    for disk in Disk::each() {
        let ids = ProjectIds::default();
        let isolator = ProjectQuotaIsolator::new(disk.settings(&ids)).unwrap();
        let (dead, live) = (disk.config("dead", 2.0), disk.config("live", 2.0));
        prepare(&isolator, &dead).await;
        prepare(&isolator, &live).await;
        std::fs::write(dead.sandbox.join("file"), vec![1; 1 << 20]).unwrap();
        rustix::fs::sync();
        drop(isolator);
        // Files of it know no projects.
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("proc", &dead.sandbox, "proc", flags, None).unwrap();

        let ids = ProjectIds::default();
        let isolator = ProjectQuotaIsolator::new(disk.settings(&ids)).unwrap();
        let recovered = isolator.recover(std::slice::from_ref(&live.id)).await;
        let new = disk.config("new", 2.0);
        if recovered.is_ok() {
            prepare(&isolator, &new).await;
        }
        let none = rustix::mount::UnmountFlags::empty();
        rustix::mount::unmount(&dead.sandbox, none).unwrap();
        recovered.unwrap();
        for id in [&live.id, &new.id] {
            let used = usage(&isolator, id).await.disk_used_bytes;
            assert!(used < Some(MB), "the dead one's counts for {id}: {used:?}");
        }
        assert_eq!(ids.total() - ids.free(), 3);
        std::fs::remove_dir_all(&dead.sandbox).unwrap();
        until("its id is free", || ids.total() - ids.free() == 2).await;
    }
}

async fn who_gets_no_id_after_a_restart_runs_on() {
    for disk in Disk::each() {
        let only = ProjectIds::parse("[700-700]").unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            disk.sandbox(name);
            ContainerId::root(name)
        });
        let isolator = ProjectQuotaIsolator::new(disk.settings(&only)).unwrap();
        let live = [first.clone(), second.clone()];
        isolator.recover(&live).await.unwrap();
        let used = usage(&isolator, &first).await.disk_used_bytes;
        assert!(used.is_some());
        let nothing = ResourceStatistics::default();
        assert_eq!(usage(&isolator, &second).await, nothing);
        let limits = Limits {
            disks: vec![self::disk(4.0)],
            ..Limits::default()
        };
        isolator.update(&second, &limits).await.unwrap();
        isolator.cleanup(&second).await.unwrap();
    }
}

async fn where_nothing_counts_it_says_so() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: there is no /dev/shm");
        return;
    };
    let settings = QuotaSettings {
        projects: ProjectIds::default(),
        enforce: false,
        kill: false,
        headroom: 0,
        interval: SOON,
        collect_interval: SOON,
        work_dir: folder.path().to_owned(),
        disks: Vec::new(),
        runtime_dir: folder.path().join("run"),
    };
    let error = ProjectQuotaIsolator::new(settings).unwrap_err().to_string();
    assert!(
        error.contains("isolator `disk/xfs` is not supported"),
        "{error}"
    );
    assert!(
        error.contains("wanted is XFS mounted with `prjquota`, or ext4"),
        "{error}"
    );
}
