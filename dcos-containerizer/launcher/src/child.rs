//! The way from a fresh clone to the container's program, in the order of [`Step`].
//!
//! Everything here happens in the cloned process. It has its own copy of the launcher's memory
//! and no other thread, so it may allocate; it ends in `execve(2)`, in an init, or in a report of
//! the step that failed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use landlock::{
    ABI, AccessFs, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{
    DumpableBehavior, Signal, fchdir, getcwd, set_dumpable_behavior,
    set_parent_process_death_signal, setsid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set,
    move_into_link_name_space, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::init;
use crate::message::{Failure, Step};
use crate::mounts::{self, Outside};
use crate::plan::{Cgroup, CgroupVersion, First, Join, NamespaceKind, Plan, Variable};
use crate::report::{At, Report};
use crate::sys;

/// What a plan names and the launcher has opened before it clones.
pub(crate) struct Opened {
    /// Namespaces to enter that the launcher has not entered before the clone.
    joins: Vec<(File, PathBuf)>,
    /// `tasks` files of cgroups v1.
    tasks: Vec<(File, PathBuf)>,
    /// Folder of the cgroup v2 to be cloned into.
    pub(crate) cgroup: Option<File>,
    /// Descriptors 0, 1, 2, ... of the container.
    stdio: Vec<OwnedFd>,
    /// Where the steps are reported.
    report: OwnedFd,
    /// Where the launcher says that it answers for this process, and that the id maps are written.
    go: Option<OwnedFd>,
    /// What a user namespace cannot open itself.
    outside: Option<Outside>,
    /// Who changes users can be looked into by the new one: `fs.suid_dumpable` is 1, or not to be known.
    exposed: bool,
}

impl Opened {
    pub(crate) fn new(
        plan: &Plan,
        stdio: Vec<OwnedFd>,
        report: OwnedFd,
        go: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        // Where the container's own `/proc` is not in the way.
        LazyLock::force(&mounts::IN_USER_NAMESPACE);
        let apart = plan.new.user && plan.new.mount;
        let outside = apart.then(|| Outside::open(plan)).transpose()?;
        let open = |path: &Path| File::open(path).at(Step::Open, path.display());
        let late = |join: &&Join| !is_entered_first(plan, join);
        let joins = plan.join.iter().filter(late);
        let joins = joins.map(|join| Ok((open(&join.path)?, join.path.clone())));
        let is_v2 = |cgroup: &&Cgroup| cgroup.version == CgroupVersion::V2;
        let (v2, v1): (Vec<_>, Vec<_>) = plan.cgroups.iter().partition(is_v2);
        let tasks = v1.iter().map(|cgroup| {
            let path = cgroup.path.join("tasks");
            let file = File::options().write(true).open(&path);
            Ok((file.at(Step::Open, path.display())?, path))
        });
        let cgroup = v2.first().map(|cgroup| open(&cgroup.path));
        Ok(Self {
            joins: joins.collect::<Result<_, Failure>>()?,
            tasks: tasks.collect::<Result<_, Failure>>()?,
            cgroup: cgroup.transpose()?,
            stdio,
            report,
            go,
            outside,
            exposed: !fs::read("/proc/sys/fs/suid_dumpable").is_ok_and(|it| it != b"1\n"),
        })
    }
}

/// Whether a namespace is entered before the clone: process ids are those of
/// children only, and what is the node's is closed to a user namespace.
pub(crate) fn is_entered_first(plan: &Plan, join: &Join) -> bool {
    let inside = [NamespaceKind::Mount, NamespaceKind::User];
    join.kind == NamespaceKind::Pid || plan.new.user && !inside.contains(&join.kind)
}

/// Whether an init goes between the launcher and the command.
pub(crate) fn is_supervised(plan: &Plan) -> bool {
    plan.first == First::Init
        || plan.arguments.is_empty()
        || (!plan.new.pid && plan.cgroups.is_empty())
}

/// Carries out the plan in a process that was just cloned; never returns.
pub(crate) fn run(plan: &Plan, opened: Opened) -> ! {
    // Until it runs a program this is a copy of the launcher, and so not to be looked into by those whose
    // namespaces it enters (CVE-2016-9962). Their root is ours, so that no change of credentials sees to it.
    if rustix::process::geteuid().is_root() {
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    let Ok(report) = fcntl_dupfd_cloexec(&opened.report, 64) else {
        sys::exit(127)
    };
    let outcome = make(plan, opened, &report);
    let Err(failure) = outcome;
    Report::Failed { failure }.send(&report);
    sys::exit(127)
}

enum Never {}

fn make(plan: &Plan, opened: Opened, report: &OwnedFd) -> Result<Never, Failure> {
    drop((opened.report, opened.cgroup));
    if let Some(go) = opened.go {
        let count = rustix::io::read(&go, &mut [0; 1]).at(Step::Clone, "")?;
        if count == 0 {
            return Err(Errno::PIPE).at(Step::Clone, "");
        }
    }
    if plan.new.user {
        // Before there were id maps this process was nobody and could do nothing.
        become_user(0, 0, None).at(Step::IdMaps, "")?;
    } else {
        set_oom_score(plan, "self")?;
    }
    join_cgroups(opened.tasks)?;
    enter_namespaces(plan, opened.joins)?;
    let _ = setsid();
    name_host(plan)?;
    if plan.new.mount {
        mounts::make(plan, opened.outside)?;
    }

    if is_supervised(plan) {
        let pause = plan.arguments.is_empty();
        init::become_init(pause);
        let begin = || clone_command(plan, &opened.stdio, opened.exposed, report);
        let command = (!pause).then(begin).transpose()?;
        let report = isolate_init(opened.stdio, report).at(Step::Session, "")?;
        Report::Started.send(&report);
        init::serve(command, &report);
    }
    let outcome = become_command(plan, &opened.stdio, report);
    // It is closed already.
    std::mem::forget(opened.stdio);
    outcome
}

/// Clones the command from its init; its process id once its program runs, or it has reported why not and ended.
///
/// It borrows the init's memory until then, which is quicker than a copy that its program would replace at once.
fn clone_command(
    plan: &Plan,
    stdio: &[OwnedFd],
    exposed: bool,
    report: &OwnedFd,
) -> Result<i32, Failure> {
    // Its user might be somebody's who already runs here, and could look into it, and so into the init, until
    // the program has its own memory. Without root there is nothing to be had from it.
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).at(Step::Clone, "the command")?;
    }
    let cloned = sys::clone_waiting(!(is_root && exposed), &mut || {
        let Err(failure) = become_command(plan, stdio, report);
        Report::Failed { failure }.send(report);
    });
    cloned.at(Step::Clone, "the command")
}

/// Tells the kernel how soon to end `process` for want of memory: a name below `/proc`.
///
/// Early, for everything begins with it, and the file belongs to root outside of user namespaces.
pub(crate) fn set_oom_score(plan: &Plan, process: &str) -> Result<(), Failure> {
    let Some(score) = plan.oom_score_adj else {
        return Ok(());
    };
    let file = format!("/proc/{process}/oom_score_adj");
    match fs::write(&file, score.to_string()) {
        // Below what it was takes a privilege.
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(()),
        written => written.at(Step::Rlimits, "oom_score_adj"),
    }
}

/// Writes "0" to each `tasks` file.
///
/// That means "this thread", for which the kernel takes a short way: attaching any other
/// process, or a whole one, waits for a grace period of some milliseconds.
fn join_cgroups(tasks: Vec<(File, PathBuf)>) -> Result<(), Failure> {
    for (file, path) in tasks {
        rustix::io::write(&file, b"0").at(Step::Cgroups, path.display())?;
    }
    Ok(())
}

fn enter_namespaces(plan: &Plan, joins: Vec<(File, PathBuf)>) -> Result<(), Failure> {
    for (file, path) in joins {
        move_into_link_name_space(file.as_fd(), None).at(Step::Namespaces, path.display())?;
    }
    if plan.joins(NamespaceKind::User) {
        become_user(0, 0, None).at(Step::Namespaces, "user")?;
    }
    if plan.new.cgroup {
        // Not at the clone: the new namespace is to begin at the cgroups just joined.
        sys::unshare(libc::CLONE_NEWCGROUP).at(Step::Namespaces, "cgroup")?;
    }
    Ok(())
}

fn name_host(plan: &Plan) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).at(Step::Hostname, name)?;
    }
    if plan.new.network {
        use rustix::net::{AddressFamily, SocketType, socket};
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).at(Step::Loopback, "")?;
        sys::loopback_up(socket.as_fd()).at(Step::Loopback, "")?;
    }
    Ok(())
}

/// Lets go of everything the init has from the launcher and its container but the report.
///
/// Else it would hold the agent's connection and the container's output open.
fn isolate_init(stdio: Vec<OwnedFd>, report: &OwnedFd) -> io::Result<OwnedFd> {
    connect(&[])?;
    // From here on only the copy at 3 counts. All other owners are forgotten, never dropped:
    // closing numbers that were closed before could hit somebody else's.
    std::mem::forget(stdio);
    let report = sys::move_to(report.as_fd(), 3)?;
    sys::close_range(4, u32::MAX);
    let _ = rustix::process::chdir("/");
    Ok(report)
}

/// Makes `fds` the descriptors 0, 1, 2, ... of this process, filled up with `/dev/null`.
pub(crate) fn connect(fds: &[OwnedFd]) -> io::Result<()> {
    // First out of the way of the numbers they shall get.
    let mut sources = fds
        .iter()
        .map(|fd| fcntl_dupfd_cloexec(fd, 64))
        .collect::<Result<Vec<_>, _>>()?;
    let null = || File::options().read(true).write(true).open("/dev/null");
    let null = (sources.len() < 3).then(null).transpose()?;
    while let Some(null) = null.as_ref().filter(|_| sources.len() < 3) {
        sources.push(fcntl_dupfd_cloexec(null, 64)?);
    }
    for (number, source) in (0..).zip(&sources) {
        let target = sys::move_to(source.as_fd(), number)?;
        fcntl_setfd(&target, FdFlags::empty())?;
        std::mem::forget(target);
    }
    Ok(())
}

fn become_command(plan: &Plan, stdio: &[OwnedFd], report: &OwnedFd) -> Result<Never, Failure> {
    let _ = setsid();
    connect(stdio).at(Step::Session, "standard streams")?;
    // Who may look into it as soon as it is another user finds nothing open of the launcher.
    let kept = report.as_raw_fd().cast_unsigned();
    sys::close_range(u32::try_from(stdio.len().max(3)).unwrap_or(3), kept - 1);
    sys::close_range(kept + 1, u32::MAX);
    if plan.terminal {
        name_terminal(plan).at(Step::Session, "terminal")?;
        rustix::process::ioctl_tiocsctty(io::stdin()).at(Step::Session, "terminal")?;
    }
    for limit in &plan.rlimits {
        sys::set_limit(limit.resource, limit.soft, limit.hard).at(Step::Rlimits, limit.resource)?;
    }
    enter_directory(plan)?;
    if let Some(writable) = &plan.writable {
        confine_files(writable, plan.no_new_privileges).at(Step::Landlock, "")?;
    }
    if !plan.no_new_privileges {
        // Needs a capability that may be gone afterwards.
        install_filters(plan)?;
    }
    become_credentials(plan)?;
    if plan.no_new_privileges {
        set_no_new_privs(true).at(Step::Seccomp, "no_new_privs")?;
    }
    let programs = programs(plan);
    let arguments: Vec<_> = plan.arguments.iter().cloned().map(text).collect();
    let variable = |v: &Variable| text(format!("{}={}", v.name, v.value));
    let environment: Vec<_> = plan.environment.iter().map(variable).collect();
    sys::reset_signals();
    // Late, since a change of credentials clears it, and before filters may forbid it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if plan.no_new_privileges {
        install_filters(plan)?;
    }
    execute(&programs, &arguments, &environment)
}

/// Opens the terminal again by the name that a root of its own may have for it, so that programs find one.
fn name_terminal(plan: &Plan) -> io::Result<()> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let named = plan
        .root
        .is_some()
        .then(|| open("/dev/console", flags, Mode::empty()));
    let Some(Ok(named)) = named else {
        return Ok(());
    };
    let (found, given) = (fstat(&named)?, fstat(io::stdin())?);
    if (found.st_dev, found.st_ino) == (given.st_dev, given.st_ino) {
        connect(&[named.try_clone()?, named.try_clone()?, named])?;
    }
    Ok(())
}

/// Lets this process and its descendants change files below `writable` only.
fn confine_files(writable: &[PathBuf], no_new_privileges: bool) -> io::Result<()> {
    // What an older kernel does not know it cannot refuse; one without Landlock is an error.
    let changes = AccessFs::from_write(ABI::V5);
    let rules = path_beneath_rules(writable, changes);
    let confined = Ruleset::default()
        .handle_access(changes)
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.no_new_privs(no_new_privileges).add_rules(rules))
        .and_then(RulesetCreated::restrict_self);
    match confined.map_err(io::Error::other)?.ruleset {
        RulesetStatus::NotEnforced => Err(Errno::NOSYS.into()),
        _ => Ok(()),
    }
}

fn install_filters(plan: &Plan) -> Result<(), Failure> {
    for filter in &plan.seccomp {
        sys::install_filter(&filter.instructions).at(Step::Seccomp, "")?;
    }
    Ok(())
}

fn enter_directory(plan: &Plan) -> Result<(), Failure> {
    let directory = match &plan.directory {
        Some(directory) => directory.as_path(),
        None if plan.root.is_some() => Path::new("/"),
        None => return Ok(()),
    };
    let at_home = plan.root.is_none() && !plan.joins(NamespaceKind::Mount);
    let place = if at_home {
        // On the node a link could lead anywhere, with our rights.
        mounts::reach(directory)
    } else {
        mounts::folder(directory)
    };
    let entered = place.and_then(|place| {
        fchdir(place)?;
        // The kernel says so of what is out of the root's reach (CVE-2024-21626).
        let inside = getcwd(Vec::new())?.as_bytes().starts_with(b"/");
        let refused = io::ErrorKind::PermissionDenied.into();
        inside.then_some(()).ok_or(refused)
    });
    entered.at(Step::Directory, directory.display())
}

fn become_credentials(plan: &Plan) -> Result<(), Failure> {
    let set = CapabilitySet::from_bits_retain;
    if let Some(capabilities) = &plan.capabilities {
        for bit in (0..64).filter(|bit| capabilities.bounding & (1 << bit) == 0) {
            match remove_capability_from_bounding_set(set(1 << bit)) {
                // This kernel knows neither it nor those above.
                Err(Errno::INVAL) => break,
                dropped => dropped.at(Step::Capabilities, bit)?,
            }
        }
        set_keep_capabilities(true).at(Step::Capabilities, "")?;
    }
    if let Some(who) = &plan.credentials {
        become_user(who.uid, who.gid, Some(&who.groups)).at(Step::Credentials, who.uid)?;
    }
    if let Some(capabilities) = &plan.capabilities {
        set_keep_capabilities(false).at(Step::Capabilities, "")?;
        let sets = CapabilitySets {
            effective: set(capabilities.effective),
            permitted: set(capabilities.permitted),
            inheritable: set(capabilities.inheritable),
        };
        set_capabilities(None, sets).at(Step::Capabilities, "")?;
        for bit in (0..64).filter(|bit| capabilities.ambient & (1 << bit) != 0) {
            configure_capability_in_ambient_set(set(1 << bit), true).at(Step::Capabilities, bit)?;
        }
    }
    Ok(())
}

fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if let Some(groups) = groups {
        let groups: Vec<_> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
        set_thread_groups(&groups)?;
    }
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn text(text: String) -> CString {
    CString::new(text).expect("no text of a plan holds NUL")
}

/// The files to try, in order: the program itself, or each of that name in `PATH`.
fn programs(plan: &Plan) -> Vec<CString> {
    let name = &plan.arguments[0];
    if name.contains('/') {
        return vec![text(name.clone())];
    }
    let path = plan.environment.iter().find(|v| v.name == "PATH");
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", |variable| &variable.value);
    path.split(':')
        .map(|folder| if folder.is_empty() { "." } else { folder })
        .map(|folder| text(format!("{folder}/{name}")))
        .collect()
}

fn execute(
    programs: &[CString],
    arguments: &[CString],
    environment: &[CString],
) -> Result<Never, Failure> {
    let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
    for program in programs {
        let error = sys::execute(program, arguments, environment);
        // As a shell does: a file that may not be executed is told only if no other can be.
        if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) {
            worst = error;
            if worst.raw_os_error() != Some(libc::EACCES) {
                break;
            }
        }
    }
    Err(worst).at(Step::Execute, arguments[0].to_string_lossy())
}
