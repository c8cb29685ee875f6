//! Making namespaces and entering them, while this process has one thread.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use dcos_launcher::{Client, IdMap};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{KEEPER, RootlessError, Scope, Wanted, delegated, own};
use crate::callers;

/// Whose launcher listens at a socket.
#[derive(Debug)]
pub enum Found {
    /// Nobody's.
    Nobody,
    /// One in this process' own user namespace.
    Plain,
    /// One in another.
    Apart(Namespaces),
}

/// The namespaces of a process, open.
#[derive(Debug)]
pub struct Namespaces {
    /// Below which it was found.
    process: PathBuf,
    user: File,
    mount: File,
    /// Which ids there are.
    users: Vec<IdMap>,
}

impl Namespaces {
    fn of(pid: u32) -> Result<Self, RootlessError> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let open = |name: &str| {
            let path = process.join(name);
            File::open(&path).map_err(|source| RootlessError::Enter { path, source })
        };
        let (user, mount) = (open("ns/user")?, open("ns/mnt")?);
        let mut maps = String::new();
        let path = process.join("uid_map");
        open("uid_map")?
            .read_to_string(&mut maps)
            .map_err(|source| RootlessError::Enter { path, source })?;
        Ok(Self {
            users: own::maps(&maps),
            process,
            user,
            mount,
        })
    }

    /// Whether it is this process' user namespace as well.
    fn is_own(&self) -> io::Result<bool> {
        let (own, theirs) = (fs::metadata("/proc/self/ns/user")?, self.user.metadata()?);
        Ok((own.dev(), own.ino()) == (theirs.dev(), theirs.ino()))
    }
}

/// Looks who listens at `socket`, where the launcher of an agent before this one does if it still runs.
///
/// # Errors
/// [`RootlessError::Enter`] if it may not be looked at: it is somebody else's.
pub fn find(socket: &Path) -> Result<Found, RootlessError> {
    let Ok(client) = Client::connect(socket) else {
        return Ok(Found::Nobody);
    };
    // One whose process is not known is of a release that had no namespaces.
    let Some(pid) = client.launcher_pid() else {
        return Ok(Found::Plain);
    };
    let found = Namespaces::of(pid)?;
    let path = found.process.join("ns/user");
    let is_own = found.is_own();
    let is_own = is_own.map_err(|source| RootlessError::Enter { path, source })?;
    Ok(if is_own {
        Found::Plain
    } else {
        Found::Apart(found)
    })
}

/// Has this process, which is an ordinary user's and has one thread, go on as root of a user namespace and in a mount
/// namespace: those of the launcher at `socket`, else new ones. Where it has no control groups to divide `scope` is asked
/// for, if there are no containers yet.
///
/// `program` is one that calls [`keep`] when its first argument is [`KEEPER`], and
/// [`serve_callers`](super::serve_callers) when that is [`CALLERS`](super::CALLERS).
///
/// # Errors
/// [`RootlessError`]; this process is as it was then, but for [`RootlessError::Enter`].
pub fn enter(program: &Path, socket: &Path, scope: Option<&Scope>) -> Result<(), RootlessError> {
    let user = getuid().as_raw();
    let (namespaces, keeper) = match find(socket)? {
        Found::Plain => {
            let socket = socket.to_owned();
            return Err(RootlessError::Plain { socket });
        }
        Found::Apart(namespaces) => {
            tracing::info!("going on in the user namespace of the containers that run");
            delegated::follow(&namespaces.process, scope);
            (namespaces, None)
        }
        Found::Nobody => {
            delegated::take(scope);
            let keeper = Keeper::start(program)?;
            (Namespaces::of(keeper.child.id())?, Some(keeper))
        }
    };
    callers::start(program, &namespaces.users).map_err(|source| RootlessError::Start {
        program: program.display().to_string(),
        source,
    })?;
    join(&namespaces)?;
    drop(keeper);
    own::entered(user);
    Ok(())
}

fn join(namespaces: &Namespaces) -> Result<(), RootlessError> {
    let failed = |name: &str| {
        let path = namespaces.process.join(name);
        move |source| RootlessError::Enter { path, source }
    };
    // Afterwards it is entered by its path, which takes the right to do so: looked at while nothing is done yet.
    let here = std::env::current_dir();
    let here = here.and_then(|here| std::env::set_current_dir(&here).map(|()| here));
    let enter = |file: &File, kind, name| {
        move_into_link_name_space(file.as_fd(), Some(kind))
            .map_err(|error| failed(name)(error.into()))
    };
    enter(&namespaces.user, LinkNameSpaceType::User, "ns/user")?;
    enter(&namespaces.mount, LinkNameSpaceType::Mount, "ns/mnt")?;
    // The new one begins at its root. Where one was may not be there, or not be this user's to enter: then relative
    // paths meant nothing before.
    match here {
        Ok(path) => std::env::set_current_dir(&path)
            .map_err(|source| RootlessError::Enter { path, source })?,
        Err(error) => {
            tracing::warn!(%error, "going on at /: the folder this was started in cannot be entered")
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Err(failed("ns/user")(io::ErrorKind::PermissionDenied.into()));
    }
    Ok(())
}

/// A process with new namespaces; it ends when this is dropped.
struct Keeper {
    child: Child,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Keeper {
    fn start(program: &Path) -> Result<Self, RootlessError> {
        let named = |source| RootlessError::Start {
            program: program.display().to_string(),
            source,
        };
        let child = Command::new(program)
            .arg(KEEPER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(named)?;
        let mut keeper = Self { child };
        let said = keeper.child.stdout.take().expect("it is a pipe");
        let mut said = BufReader::new(said).lines();
        let mut hear = || match said.next() {
            Some(Ok(line)) if line.is_empty() => Ok(()),
            Some(Ok(reason)) => Err(forbidden(reason)),
            Some(Err(error)) => Err(forbidden(error.to_string())),
            None => Err(forbidden("the process that makes them ended".to_owned())),
        };
        hear()?;
        map_ids(keeper.child.id())?;
        let told = keeper.child.stdin.as_mut().expect("it is a pipe");
        told.write_all(b"\n").map_err(named)?;
        hear()?;
        Ok(keeper)
    }
}

/// Makes new namespaces, waits until ids are mapped into them, looks whether one may mount there, and keeps them until
/// its standard input is closed; what a program's `main` calls. It says an empty line for each that is done, else why
/// it could not be.
pub fn keep() -> ExitCode {
    let say = |done: Result<(), String>| {
        let is_done = done.is_ok();
        let mut out = io::stdout();
        let text = done.err().unwrap_or_default().replace('\n', " ") + "\n";
        let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        is_done && said.is_ok()
    };
    let made = dcos_launcher::unshare_users_and_mounts();
    if !say(made.map_err(|error| format!("making a user namespace: {error}"))) {
        return ExitCode::FAILURE;
    }
    let mut line = String::new();
    if !io::stdin()
        .read_line(&mut line)
        .is_ok_and(|count| count > 0)
    {
        return ExitCode::FAILURE;
    }
    // What the node mounts comes in; nothing goes out in any case.
    let host = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    let may = mount_change("/", host);
    if !say(may.map_err(|error| format!("mounting in a user namespace: {error}"))) {
        return ExitCode::FAILURE;
    }
    let _ = io::stdin().read_line(&mut line);
    ExitCode::SUCCESS
}

/// Who forbids it, as far as settings tell.
fn forbidden(reason: String) -> RootlessError {
    let is =
        |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let settings = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "15000"),
    ];
    let set = settings
        .iter()
        .find(|(name, value, _)| is(&format!("/proc/sys/{}", name.replace('.', "/")), value));
    let remedy = match set {
        Some((name, _, good)) => format!("`sysctl {name}={good}` as root permits it"),
        None => "the kernel, or what confines this agent (a container's seccomp profile, a chroot), has to permit it"
            .to_owned(),
    };
    RootlessError::Forbidden { reason, remedy }
}

/// Maps ids into the user namespace of a process: by the programs of `uidmap(1)`, which root lets do so, or the own one alone.
fn map_ids(pid: u32) -> Result<(), RootlessError> {
    let wanted = Wanted::find(getuid().as_raw(), getgid().as_raw());
    if wanted.is_alone() {
        tracing::warn!(
            "this user has no subordinate ids in /etc/subuid and /etc/subgid (`usermod --add-subuids 100000-165535 \
             --add-subgids 100000-165535 <user>`): tasks run as root of their namespace, which is this user, and \
             images with files of other owners cannot be unpacked"
        );
        return map_alone(pid, &wanted);
    }
    match map_by("newuidmap", pid, &wanted.users) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(
                "there is no `newuidmap` (Debian's package `uidmap`): this user's subordinate ids are not used, tasks \
                 run as root of their namespace, which is this user, and images with files of other owners cannot be \
                 unpacked"
            );
            map_alone(pid, &wanted.alone())
        }
        mapped => {
            let refused = |path: &str| {
                let path = path.into();
                move |error: io::Error| RootlessError::Maps {
                    path,
                    reason: error.to_string(),
                }
            };
            mapped.map_err(refused("/etc/subuid"))?;
            map_by("newgidmap", pid, &wanted.groups).map_err(refused("/etc/subgid"))
        }
    }
}

fn map_by(program: &str, pid: u32, maps: &[IdMap]) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.inside, map.outside, map.count].map(|number| number.to_string()));
    }
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", said.trim())))
}

fn map_alone(pid: u32, wanted: &Wanted) -> Result<(), RootlessError> {
    let line = |map: &IdMap| format!("{} {} {}\n", map.inside, map.outside, map.count);
    // Who may not set groups may only map the own one, and only after giving that up.
    let texts = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", line(&wanted.users[0])),
        ("gid_map", line(&wanted.groups[0])),
    ];
    for (name, text) in texts {
        let path = PathBuf::from(format!("/proc/{pid}/{name}"));
        fs::write(&path, text).map_err(|error| RootlessError::Maps {
            path,
            reason: error.to_string(),
        })?;
    }
    Ok(())
}
