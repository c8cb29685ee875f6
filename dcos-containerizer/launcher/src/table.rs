//! The containers a launcher answers for: made, signalled, ended, acknowledged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::child::{self, Opened, is_supervised};
use crate::message::{Container, Exit, Failure, Scope, Step};
use crate::plan::{Cgroup, IdMap, NamespaceKind, Namespaces, Plan};
use crate::process;
use crate::report::{At, Report};
use crate::sys::{self, Cloned, Reaped};

/// All containers that are not acknowledged, by id.
#[derive(Default)]
pub(crate) struct Table(pub(crate) BTreeMap<String, Entry>);

/// A container as the launcher remembers it.
pub(crate) struct Entry {
    /// Counts launches, for a list in their order.
    pub(crate) order: u64,
    pub(crate) pid: i32,
    pub(crate) cgroups: Vec<Cgroup>,
    /// It has a pid namespace of its own, which dies with its first process.
    pub(crate) owns_pids: bool,
    /// Its first process is an init.
    pub(crate) supervised: bool,
    /// What the first process reports; kept while more may come.
    pub(crate) report: Option<OwnedFd>,
    /// Who waits for it to start.
    pub(crate) asker: Option<Asker>,
    /// The step that failed, to be told when the first process is collected: only then is
    /// nothing left of it.
    pub(crate) failure: Option<Failure>,
    /// How the init says that its command ended.
    pub(crate) status: Option<i32>,
    /// How it ended.
    pub(crate) exit: Option<Exit>,
}

/// The request that a launch came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) client: u64,
    pub(crate) sequence: u64,
}

/// What is to be told.
pub(crate) enum News {
    Started { asker: Asker, pid: i32 },
    Failed { asker: Asker, failure: Failure },
    Exited(Exit),
}

impl Entry {
    pub(crate) fn is_starting(&self) -> bool {
        self.asker.is_some()
    }

    /// Takes in what has been reported; the news that it runs, if that is new.
    fn read_report(&mut self) -> Option<News> {
        let (reports, closed) = Report::receive(self.report.as_ref()?);
        let mut started = closed;
        for report in reports {
            match report {
                Report::Started => started = true,
                Report::Ended { status } => self.status = Some(status),
                Report::Failed { failure } => self.failure = Some(failure),
            }
        }
        if closed {
            self.report = None;
        }
        if !started || self.failure.is_some() {
            return None;
        }
        let asker = self.asker.take()?;
        Some(News::Started {
            asker,
            pid: self.pid,
        })
    }

    pub(crate) fn signal(&self, number: i32, scope: Scope) {
        let everything = scope == Scope::All;
        let fatal = number == libc::SIGKILL;
        if self.owns_pids && fatal {
            process::signal(self.pid, number);
        } else if everything && !self.cgroups.is_empty() {
            process::signal_cgroups(&self.cgroups, number);
        } else if self.supervised && (everything || fatal) {
            // The init must live to tell how its command ended; it ends by itself then.
            if process::signal_descendants(self.pid, number) == 0 {
                process::signal(self.pid, number);
            }
        } else {
            process::signal(self.pid, number);
        }
    }
}

impl Table {
    /// Makes a container; what came of it is told later.
    pub(crate) fn launch(
        &mut self,
        plan: &Plan,
        fds: Vec<OwnedFd>,
        asker: Asker,
    ) -> Result<(), Failure> {
        let (receiving, sending) = pipe_with(PipeFlags::CLOEXEC).at(Step::Open, "a pipe")?;
        rustix::fs::fcntl_setfl(&receiving, OFlags::NONBLOCK).at(Step::Open, "a pipe")?;
        let go = if plan.new.user {
            Some(pipe_with(PipeFlags::CLOEXEC).at(Step::Open, "a pipe")?)
        } else {
            None
        };
        let (go_receiving, go_sending) = go.unzip();
        let opened = Opened::new(plan, fds, sending, go_receiving)?;
        let pid = match clone_into(plan, opened.cgroup.as_ref())? {
            Cloned::Parent(pid) => pid,
            Cloned::Child => {
                // Else its own copy of the sending end would keep it waiting for ever.
                drop(go_sending);
                child::run(plan, opened)
            }
        };
        drop(opened);
        let order = 1 + self.0.values().map(|entry| entry.order).max().unwrap_or(0);
        let mut entry = Entry {
            order,
            pid,
            cgroups: plan.cgroups.clone(),
            owns_pids: plan.new.pid,
            supervised: is_supervised(plan),
            report: Some(receiving),
            asker: Some(asker),
            failure: None,
            status: None,
            exit: None,
        };
        let mapped = match go_sending {
            None => Ok(()),
            Some(go) => write_id_maps(plan, pid)
                .and_then(|()| rustix::io::write(&go, b"g").map(drop).at(Step::IdMaps, "")),
        };
        if mapped.is_err() {
            // It is collected like any other; nobody hears of it.
            process::signal(pid, libc::SIGKILL);
            entry.asker = None;
            return mapped;
        }
        self.0.insert(plan.id.clone(), entry);
        Ok(())
    }

    /// Takes in what the first process of `id` has reported.
    pub(crate) fn hear(&mut self, id: &str) -> Option<News> {
        self.0.get_mut(id)?.read_report()
    }

    /// A child of this process was collected.
    pub(crate) fn reaped(&mut self, reaped: &Reaped) -> Vec<News> {
        let found = self
            .0
            .iter_mut()
            .find(|(_, e)| e.pid == reaped.pid && e.exit.is_none());
        let Some((id, entry)) = found else {
            return Vec::new();
        };
        let id = id.clone();
        let mut news: Vec<_> = entry.read_report().into_iter().collect();
        entry.report = None;
        if !entry.owns_pids {
            process::signal_cgroups(&entry.cgroups, libc::SIGKILL);
        }
        if let (Some(asker), Some(failure)) = (entry.asker, entry.failure.take()) {
            self.0.remove(&id);
            return vec![News::Failed { asker, failure }];
        }
        let killed = entry.supervised && entry.status.is_none();
        let status = entry.status.unwrap_or(reaped.status);
        let pid = reaped.pid.cast_unsigned();
        let exit = Exit {
            id,
            pid,
            status,
            usage: reaped.usage,
        };
        entry.exit = Some(exit.clone());
        news.push(News::Exited(exit));
        if killed {
            self.kill_orphans();
        }
        news
    }

    pub(crate) fn kill(&self, id: &str, signal: i32, scope: Scope) -> bool {
        let Some(entry) = self.0.get(id) else {
            return false;
        };
        if entry.exit.is_none() {
            entry.signal(signal, scope);
        }
        true
    }

    /// Forgets a container that ended; whether there was one.
    pub(crate) fn acknowledge(&mut self, id: &str) -> bool {
        let ended = self.0.get(id).is_some_and(|entry| entry.exit.is_some());
        ended && self.0.remove(id).is_some()
    }

    pub(crate) fn list(&self) -> Vec<Container> {
        let mut entries: Vec<_> = self
            .0
            .iter()
            .filter(|(_, entry)| !entry.is_starting())
            .collect();
        entries.sort_by_key(|(_, entry)| entry.order);
        let container = |(id, entry): (&String, &Entry)| Container {
            id: id.clone(),
            pid: entry.pid.cast_unsigned(),
            exit: entry.exit.clone(),
        };
        entries.into_iter().map(container).collect()
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.0.iter().filter(|(_, entry)| entry.exit.is_none())
    }

    /// Kills children of this process that belong to no container.
    ///
    /// What an init leaves behind when it is killed itself comes here.
    fn kill_orphans(&self) {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut orphans = process::children(own);
        orphans.retain(|pid| self.living().all(|(_, entry)| entry.pid != *pid));
        if orphans.is_empty() {
            return;
        }
        let mut confined = Vec::new();
        for (_, entry) in self.living() {
            for cgroup in entry.cgroups.iter().take(1) {
                confined.extend(process::members(&cgroup.path));
            }
        }
        for pid in orphans.into_iter().filter(|pid| !confined.contains(pid)) {
            process::signal_descendants(pid, libc::SIGKILL);
            process::signal(pid, libc::SIGKILL);
        }
    }
}

/// Clones the first process; in a joined pid namespace by entering that for a moment.
fn clone_into(plan: &Plan, cgroup: Option<&File>) -> Result<Cloned, Failure> {
    let cgroup = cgroup.map(AsFd::as_fd);
    let flags = clone_flags(plan.new);
    let Some(join) = plan
        .join
        .iter()
        .find(|join| join.kind == NamespaceKind::Pid)
    else {
        return sys::clone(flags, cgroup).at(Step::Clone, "");
    };
    let detail = join.path.display();
    let wanted = File::open(&join.path).at(Step::Open, &detail)?;
    let own = File::open("/proc/self/ns/pid").at(Step::Open, "/proc/self/ns/pid")?;
    let enter =
        |file: BorrowedFd<'_>| move_into_link_name_space(file, Some(LinkNameSpaceType::ProcessID));
    enter(wanted.as_fd()).at(Step::Namespaces, &detail)?;
    let cloned = sys::clone(flags, cgroup).at(Step::Clone, "");
    if !matches!(cloned, Ok(Cloned::Child)) {
        // Entering one's own namespace again is always allowed.
        enter(own.as_fd()).at(Step::Namespaces, "back")?;
    }
    cloned
}

fn clone_flags(new: Namespaces) -> i32 {
    let flags = [
        (new.pid, libc::CLONE_NEWPID),
        (new.mount, libc::CLONE_NEWNS),
        (new.ipc, libc::CLONE_NEWIPC),
        (new.uts, libc::CLONE_NEWUTS),
        (new.network, libc::CLONE_NEWNET),
        (new.user, libc::CLONE_NEWUSER),
    ];
    flags
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |all, (_, flag)| all | flag)
}

fn write_id_maps(plan: &Plan, pid: i32) -> Result<(), Failure> {
    let text = |maps: &[IdMap]| {
        let line = |m: &IdMap| format!("{} {} {}", m.inside, m.outside, m.count);
        maps.iter().map(line).collect::<Vec<_>>().join(
            "
",
        )
    };
    let write = |name: &str, text: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::write(&path, text).at(Step::IdMaps, &path)
    };
    if !rustix::process::geteuid().is_root() {
        // Who may not set groups may only map the own one, and only after giving that up.
        write("setgroups", "deny")?;
    }
    write("uid_map", &text(&plan.uid_maps))?;
    write("gid_map", &text(&plan.gid_maps))
}

/// Number of an entry's report pipe, for the next program after an upgrade.
pub(crate) fn report_number(entry: &Entry) -> Option<RawFd> {
    entry.report.as_ref().map(AsRawFd::as_raw_fd)
}
