//! What the agent is compared with, and what makes its life hard.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const AT_ONCE: usize = 8;

/// `true` in containers of `crun`, a second; `None` where it is not installed.
pub(crate) fn crun(count: usize, folder: &Path) -> Option<f64> {
    let bundle = folder.join("bundle");
    fs::create_dir(&bundle).unwrap();
    let made = Command::new("crun")
        .arg("spec")
        .current_dir(&bundle)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let path = bundle.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["true"]);
    spec["root"] = serde_json::json!({"path": "/", "readonly": true});
    fs::write(&path, spec.to_string()).unwrap();
    let run = |number: usize| {
        let ran = Command::new("crun")
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(format!("bench-{}-{number}", std::process::id()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ran.is_ok_and(|status| status.success())
    };
    // It refuses hosts where cgroup2 has controllers beside version 1.
    if !run(count) {
        return None;
    }
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for lane in 0..AT_ONCE {
            let run = &run;
            scope.spawn(move || {
                let mut numbers = (lane..count).step_by(AT_ONCE);
                assert!(numbers.all(run), "crun failed");
            });
        }
    });
    Some(super::per_second(count, begin))
}

/// Mounts that the node has beside those of containers; gone when dropped.
pub(crate) struct Mounts(Vec<PathBuf>);

impl Mounts {
    pub(crate) fn new(folder: &Path, count: usize) -> Self {
        let mounts = (0..count).map(|number| {
            let path = folder.join(number.to_string());
            fs::create_dir_all(&path).unwrap();
            mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
            path
        });
        Self(mounts.collect())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in &self.0 {
            unmount(path, UnmountFlags::DETACH).ok();
        }
    }
}

/// All processes.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
