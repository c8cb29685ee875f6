//! [`Machine`]: a host with one program on it, which can lose its power and come back.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    network::Network,
    process::{Process, command},
};

/// A host, and what it runs.
#[derive(Debug)]
pub struct Machine {
    /// The host's name.
    pub name: String,
    /// The last part of its address.
    number: u8,
    /// The control group that all of its containers are below.
    cgroup: String,
    /// Where its files are.
    pub directory: PathBuf,
    /// The program and its arguments.
    words: Vec<String>,
    /// How often it was switched on.
    boots: u32,
    /// The program, while the machine is on.
    pub process: Option<Process>,
}

impl Machine {
    /// One that is off, on a host that is in the network.
    pub fn new(
        name: &str,
        number: u8,
        cgroup: String,
        directory: &Path,
        words: Vec<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            number,
            cgroup,
            directory: directory.join(name),
            words,
            boots: 0,
            process: None,
        }
    }

    /// Starts its program in a mount namespace and with a boot id of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn switch_on(&mut self) -> anyhow::Result<()> {
        self.boots += 1;
        fs::create_dir_all(&self.directory)?;
        let boot = self.directory.join("boot_id");
        let (number, boots) = (self.number, self.boots);
        fs::write(&boot, format!("{number:08x}-0000-4000-8000-{boots:012x}\n"))?;
        // What is in memory only is lost with the power.
        let _ = fs::remove_dir_all(self.directory.join("run"));
        let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
        let mut command = command(Some(&self.name), "unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .arg(boot)
            .args(&self.words);
        let logs = self.directory.parent().context("it is below the drill's")?;
        self.process = Some(Process::start(&self.name, logs, command)?);
        Ok(())
    }

    /// Cuts the power: nothing of it gets out any more, and all that runs there is killed.
    ///
    /// # Errors
    /// Something can't be killed.
    pub fn power_off(&mut self, network: &Network) -> anyhow::Result<()> {
        network.cut(&self.name)?;
        let begin = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            ensure!(
                begin.elapsed() < Duration::from_secs(20),
                "{left:?} can't be killed"
            );
            for pid in left {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process = None;
        remove_cgroups(&self.cgroup);
        Ok(())
    }

    /// Switches it on again, with what is on its disk.
    ///
    /// # Errors
    /// The host or its program cannot be made.
    pub fn power_on(&mut self, network: &mut Network) -> anyhow::Result<()> {
        network.remove(&self.name)?;
        network.add(&self.name, self.number)?;
        self.switch_on()
    }

    /// What runs on it, in its containers and in their networks.
    fn processes(&self) -> Vec<Pid> {
        let host = fs::metadata(format!("/run/netns/{}", self.name));
        let host = host.map(|file| std::os::unix::fs::MetadataExt::ino(&file));
        let host = host
            .map(|inode| format!("net:[{inode}]"))
            .unwrap_or_default();
        let own = fs::read_link("/proc/self/ns/net").unwrap_or_default();
        let all: Vec<(Pid, PathBuf)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|process| {
                let pid = process.file_name().to_str()?.parse().ok()?;
                let network = fs::read_link(process.path().join("ns/net")).ok()?;
                Some((Pid::from_raw(pid)?, network))
            })
            .collect();
        let below = format!("/{}", self.cgroup);
        let is_contained = |pid: Pid| {
            let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
            groups.is_ok_and(|groups| groups.contains(&below))
        };
        let networks: BTreeSet<&PathBuf> = all
            .iter()
            .filter(|(pid, network)| {
                *network != own && (network.as_os_str() == &*host || is_contained(*pid))
            })
            .map(|(_, network)| network)
            .collect();
        let here = all
            .iter()
            .filter(|(pid, network)| networks.contains(network) || is_contained(*pid));
        here.map(|(pid, _)| *pid).collect()
    }

    /// Whether its program runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }
}

/// The control group of a drill with its files in `directory`.
pub fn cgroup_of(directory: &Path) -> String {
    let path = directory.to_string_lossy().replace('/', "-");
    format!("dcos-drill{path}")
}

/// Removes control groups of that name and all below, in every hierarchy; those whose processes still end are tried
/// again for a while.
pub fn remove_cgroups(name: &str) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten();
    let roots = hierarchies.map(|entry| entry.path().join(name));
    let roots = roots.chain([Path::new("/sys/fs/cgroup").join(name)]);
    for root in roots.filter(|root| root.is_dir()) {
        for _ in 0..100 {
            remove(&root);
            if !root.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
