//! The containers a launcher answers for: made, signalled, ended, acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::move_into_link_name_space;

use crate::child::{self, Opened, is_entered_first, is_supervised};
use crate::codec::{Input, Wire};
use crate::message::{Answer, Container, Exit, Failure, Scope, Step};
use crate::plan::{Cgroup, IdMap, Join, Namespaces, Plan};
use crate::process;
use crate::report::{At, Report};
use crate::sys::{self, Cloned};

/// All containers that are not acknowledged.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) entries: BTreeMap<String, Entry>,
    /// The ids of those that live, by first process: however many live, one is found at once.
    living: BTreeMap<i32, String>,
    /// Those of which it is not known yet whether they run.
    starting: BTreeSet<String>,
    launches: u64,
}

record! {
/// What is known of a container, and told to the next program at an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub id: String,
    /// Counts launches, for a list in their order.
    pub order: u64,
    pub pid: i32,
    pub cgroups: Vec<Cgroup>,
    /// It has a pid namespace of its own, which dies with its first process.
    pub owns_pids: bool,
    /// Its first process is an init.
    pub supervised: bool,
    /// At an upgrade, the number of its report.
    pub report: Option<i32>,
    /// How the init says that its command ended.
    pub status: Option<i32>,
    /// How it ended.
    pub exit: Option<Exit>,
}}

/// A container as the launcher remembers it.
pub(crate) struct Entry {
    pub(crate) known: Known,
    /// What the first process reports; kept while more may come.
    pub(crate) report: Option<OwnedFd>,
    /// Who waits for it to start.
    asker: Option<Asker>,
    /// The step that failed, to be told when the first process is collected: only then is
    /// nothing left of it.
    failure: Option<Failure>,
}

/// The request that a launch came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) client: u64,
    pub(crate) sequence: u64,
}

/// What is to be told.
pub(crate) enum News {
    Answer(Asker, Answer),
    Exited(Exit),
}

impl Entry {
    /// One that runs or has ended.
    pub(crate) fn new(known: Known, report: Option<OwnedFd>) -> Self {
        Self {
            known,
            report,
            asker: None,
            failure: None,
        }
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.asker.is_some()
    }

    /// Takes in what has been reported; the news that it runs, if that is new. Of one that has `ended` no more comes,
    /// although whoever cloned it may have the pipe open for another moment.
    fn read_report(&mut self, ended: bool) -> Option<News> {
        let (reports, closed) = Report::receive(self.report.as_ref()?);
        let closed = closed || ended;
        let mut started = closed;
        for report in reports {
            match report {
                Report::Started => started = true,
                Report::Ended { status } => self.known.status = Some(status),
                Report::Failed { failure } => self.failure = Some(failure),
            }
        }
        if closed {
            self.report = None;
        }
        if !started || self.failure.is_some() {
            return None;
        }
        let pid = self.known.pid.cast_unsigned();
        Some(News::Answer(self.asker.take()?, Answer::Launched { pid }))
    }

    pub(crate) fn signal(&self, number: i32, scope: Scope) {
        let Known { pid, cgroups, .. } = &self.known;
        let everything = scope == Scope::All;
        let fatal = number == libc::SIGKILL;
        let takes_all_along = self.known.owns_pids && fatal;
        if everything && !cgroups.is_empty() && !takes_all_along {
            return process::signal_cgroups(cgroups, number);
        }
        // The init must live to tell how its command ended; it ends by itself then.
        let spared = self.known.supervised && (everything || fatal) && !takes_all_along;
        if !spared || process::signal_descendants(*pid, number) == 0 {
            process::signal(*pid, number);
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
        let pipe = || pipe_with(PipeFlags::CLOEXEC).at(Step::Open, "a pipe");
        let (receiving, sending) = pipe()?;
        rustix::fs::fcntl_setfl(&receiving, OFlags::NONBLOCK).at(Step::Open, "a pipe")?;
        let waits = plan.new.user || is_cloned_for_us(plan);
        let (go_receiving, go_sending) = waits.then(pipe).transpose()?.unzip();
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
        self.launches += 1;
        let known = Known {
            id: plan.id.clone(),
            order: self.launches,
            pid,
            cgroups: plan.cgroups.clone(),
            owns_pids: plan.new.pid,
            supervised: is_supervised(plan),
            report: None,
            status: None,
            exit: None,
        };
        let told = go_sending.map_or(Ok(()), |go| let_go(plan, pid, &go));
        if told.is_err() {
            // It is collected like any other; nobody hears of it.
            process::signal(pid, libc::SIGKILL);
            return told;
        }
        let mut entry = Entry::new(known, Some(receiving));
        entry.asker = Some(asker);
        self.insert(entry);
        Ok(())
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let id = entry.known.id.clone();
        self.launches = self.launches.max(entry.known.order);
        if entry.known.exit.is_none() {
            self.living.insert(entry.known.pid, id.clone());
        }
        if entry.is_starting() {
            self.starting.insert(id.clone());
        }
        self.entries.insert(id, entry);
    }

    /// Takes in what the first process of `id` has reported.
    pub(crate) fn hear(&mut self, id: &str) -> Option<News> {
        let news = self.entries.get_mut(id)?.read_report(false)?;
        self.starting.remove(id);
        Some(news)
    }

    /// A child of this process was collected.
    pub(crate) fn reaped(&mut self, pid: i32, status: i32) -> Vec<News> {
        let Some(id) = self.living.remove(&pid) else {
            return Vec::new();
        };
        self.starting.remove(&id);
        let Some(entry) = self.entries.get_mut(&id) else {
            return Vec::new();
        };
        let mut news: Vec<_> = entry.read_report(true).into_iter().collect();
        if !entry.known.owns_pids {
            process::signal_cgroups(&entry.known.cgroups, libc::SIGKILL);
        }
        if let (Some(asker), Some(failure)) = (entry.asker, entry.failure.take()) {
            self.entries.remove(&id);
            return vec![News::Answer(asker, Answer::Failed { failure })];
        }
        // What an init leaves behind comes here, unless its namespace or cgroup died with it.
        let confined = entry.known.owns_pids || !entry.known.cgroups.is_empty();
        let killed = entry.known.supervised && !confined && entry.known.status.is_none();
        let status = entry.known.status.unwrap_or(status);
        let exit = Exit { id, status };
        entry.known.exit = Some(exit.clone());
        news.push(News::Exited(exit));
        if killed {
            self.kill_orphans();
        }
        news
    }

    pub(crate) fn kill(&self, id: &str, signal: i32, scope: Scope) -> bool {
        let entry = self.entries.get(id);
        if let Some(living) = entry.filter(|entry| entry.known.exit.is_none()) {
            living.signal(signal, scope);
        }
        entry.is_some()
    }

    /// Forgets a container that ended; whether there was one.
    pub(crate) fn acknowledge(&mut self, id: &str) -> bool {
        let entry = self.entries.get(id);
        let ended = entry.is_some_and(|entry| entry.known.exit.is_some());
        ended && self.entries.remove(id).is_some()
    }

    pub(crate) fn list(&self) -> Vec<Container> {
        let started = self.entries.values().filter(|entry| !entry.is_starting());
        let mut known: Vec<_> = started.map(|entry| &entry.known).collect();
        known.sort_by_key(|known| known.order);
        let container = |known: &Known| Container {
            id: known.id.clone(),
            pid: known.pid.cast_unsigned(),
            exit: known.exit.clone(),
        };
        known.into_iter().map(container).collect()
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = &Entry> {
        self.living.values().filter_map(|id| self.entries.get(id))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// All report pipes.
    pub(crate) fn reports(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let reports = self.entries.values().map(|entry| entry.report.as_ref());
        reports.flatten().map(AsFd::as_fd)
    }

    /// Whether none is starting.
    pub(crate) fn is_settled(&self) -> bool {
        self.starting.is_empty()
    }

    /// The report pipes of those that are starting.
    pub(crate) fn starting(&self) -> impl Iterator<Item = (&String, &OwnedFd)> {
        let report = |id| Some((id, self.entries.get(id)?.report.as_ref()?));
        self.starting.iter().filter_map(report)
    }

    /// Kills children of this process that belong to no container.
    fn kill_orphans(&self) {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut orphans = process::children(own);
        orphans.retain(|pid| !self.living.contains_key(pid));
        if orphans.is_empty() {
            return;
        }
        let cgroups = self.living().filter_map(|one| one.known.cgroups.first());
        let confined = cgroups.flat_map(|cgroup| process::members(&cgroup.path));
        let confined: Vec<_> = confined.collect();
        for pid in orphans.into_iter().filter(|pid| !confined.contains(pid)) {
            process::signal_descendants(pid, libc::SIGKILL);
            process::signal(pid, libc::SIGKILL);
        }
    }
}

/// Whether another process clones the first one.
fn is_cloned_for_us(plan: &Plan) -> bool {
    plan.join.iter().any(|join| is_entered_first(plan, join))
}

/// Clones the first process. Where namespaces have to be entered before, another process enters them, clones a child of
/// this one, and ends: this one could not always go back, as out of a user namespace to what root of the node owns. If that is killed before it
/// has told of the child nobody answers for that one: it waits until it is [let go](let_go), and ends with this call.
fn clone_into(plan: &Plan, cgroup: Option<&File>) -> Result<Cloned, Failure> {
    let first = plan.join.iter().filter(|join| is_entered_first(plan, join));
    let open = |join: &Join| {
        let detail = join.path.display().to_string();
        Ok((File::open(&join.path).at(Step::Open, &detail)?, detail))
    };
    let joins: Vec<_> = first.map(open).collect::<Result<_, Failure>>()?;
    let clone = |more| {
        let flags = clone_flags(plan.new) | more;
        sys::clone(flags, cgroup.map(AsFd::as_fd)).at(Step::Clone, "")
    };
    if !is_cloned_for_us(plan) {
        return clone(0);
    }
    let (hearing, telling) = pipe_with(PipeFlags::CLOEXEC).at(Step::Open, "a pipe")?;
    if let Cloned::Child = sys::clone(0, None).at(Step::Clone, "")? {
        let enter = |(file, detail): &(File, String)| {
            move_into_link_name_space(file.as_fd(), None).at(Step::Namespaces, detail)
        };
        let entered = joins.iter().try_for_each(enter);
        let told = match entered.and_then(|()| clone(libc::CLONE_PARENT)) {
            Ok(Cloned::Parent(pid)) => pid.to_bytes(),
            Err(failure) => [0_i32.to_bytes(), failure.to_bytes()].concat(),
            child => return child,
        };
        let _ = rustix::io::write(&telling, &told);
        sys::exit(0);
    }
    drop(telling);
    // One write, and no more than a pipe takes at once.
    let mut told = [0; 8192];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(&hearing, &mut told));
    let mut told = Input::new(&told[..count.at(Step::Clone, "")?]);
    let said = i32::take(&mut told).and_then(|pid| match pid {
        0 => Failure::take(&mut told).map(Err),
        pid => Ok(Ok(Cloned::Parent(pid))),
    });
    said.unwrap_or_else(|_| Err(Errno::SRCH).at(Step::Clone, ""))
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
    let wanted = flags.iter().filter(|(wanted, _)| *wanted);
    wanted.fold(0, |all, (_, flag)| all | flag)
}

/// Has a first process that waits for it go on, once it has its ids.
fn let_go(plan: &Plan, pid: i32, go: &OwnedFd) -> Result<(), Failure> {
    if plan.new.user {
        write_id_maps(plan, pid)?;
        child::set_oom_score(plan, &pid.to_string())?;
    }
    rustix::io::write(go, b"g").map(drop).at(Step::Clone, "")
}

fn write_id_maps(plan: &Plan, pid: i32) -> Result<(), Failure> {
    let line = |m: &IdMap| format!("{} {} {}\n", m.inside, m.outside, m.count);
    let text = |maps: &[IdMap]| maps.iter().map(line).collect::<String>();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever cloned it may end later, and has its report open until then.
    #[test]
    fn what_ended_before_its_report_is_closed_was_launched() {
        let (receiving, _still_open) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&receiving, OFlags::NONBLOCK).unwrap();
        let mut table = Table::default();
        let known = Known {
            id: "task.check".to_owned(),
            order: 1,
            pid: 7,
            cgroups: Vec::new(),
            owns_pids: true,
            supervised: false,
            report: None,
            status: None,
            exit: None,
        };
        let mut entry = Entry::new(known, Some(receiving));
        entry.asker = Some(Asker {
            client: 1,
            sequence: 2,
        });
        table.insert(entry);
        let told = table.reaped(7, 3 << 8);
        let [
            News::Answer(asker, Answer::Launched { pid: 7 }),
            News::Exited(exit),
        ] = &told[..]
        else {
            panic!("{} told", told.len());
        };
        assert_eq!((asker.sequence, exit.status), (2, 3 << 8));
        assert!(table.is_settled());
    }
}
