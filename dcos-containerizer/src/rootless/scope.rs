//! A cgroup of the agent's own, from its user's systemd.
//!
//! Of the cgroups that systemd keeps most are not a user's to divide: those of logins are root's, in those of a desktop
//! are others' processes, and a unit cannot be begun again where there are cgroups with controllers below its own. So a
//! user's systemd is asked for a scope with `Delegate=yes`, as other rootless engines do, and this process goes there
//! (systemd moves it: from the cgroup of a login only root may). The scope has a name that the agent's runtime directory
//! tells, so that whoever comes back finds it; it ends with the last process in it.
//!
//! `busctl`, a part of systemd, speaks to it: no library is wanted for a few calls.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dcos_core::config::Values;
use rustix::process::getuid;

use super::delegated::{AGENT, own_cgroup};
use super::subordinate;
use crate::checkpoint::format;
use crate::systemd::SLICE;

/// How long a scope of before, which is about to end, may take for that.
const LEAVE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);
/// How long systemd may take to answer, and then to move a process.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(10);

/// A name on the bus, an object of it, and which of its interfaces.
const SYSTEMD: [&str; 3] = [
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
];
const DBUS: [&str; 3] = [
    "org.freedesktop.DBus",
    "/org/freedesktop/DBus",
    "org.freedesktop.DBus",
];

/// A scope that may be had, or be there.
#[derive(Debug, Clone)]
pub struct Scope {
    unit: String,
    socket: PathBuf,
}

impl Scope {
    /// That of the agent whose launcher listens at `socket`: `None` where no systemd runs, and where
    /// `--systemd_enable_support` says no.
    pub fn from_values(values: &Values, socket: &Path) -> Option<Self> {
        let runs = values.path("systemd_runtime_directory").is_dir();
        let wanted = values.switch("systemd_enable_support");
        (runs && wanted).then(|| Self::of(socket))
    }

    fn of(socket: &Path) -> Self {
        // Elsewhere a relative one is another.
        let socket = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
        let mut name = format::hex(socket.as_os_str().as_bytes());
        name.truncate(12);
        Self {
            unit: format!("dcos-agent-{name}.scope"),
            socket,
        }
    }

    /// Whether a cgroup is this scope's.
    pub(super) fn is_at(&self, cgroup: &Path) -> bool {
        cgroup.file_name().is_some_and(|name| *name == *self.unit)
    }

    /// Has this process go on there; it was there before if that is so.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn enter(&self) -> Result<(), String> {
        if self.has_this() {
            return Ok(());
        }
        let bus = Bus::of_user()?;
        bus.knows_us()?;
        let ends_with_sessions = bus.is_for_sessions_only();
        if ends_with_sessions && !own_cgroup(Path::new("/proc/self"))?.starts_with("user.slice") {
            return Err(
                "this user's systemd ends with the user's last session, and what begins with the node would end there, \
                 too: `loginctl enable-linger` has it stay"
                    .to_owned(),
            );
        }
        let last = Instant::now() + LEAVE;
        // It may be there already, or be about to end.
        while let Err(error) = self
            .start(&bus)
            .or_else(|error| self.attach(&bus).map_err(|_| error))
        {
            if Instant::now() > last {
                return Err(error);
            }
            thread::sleep(PAUSE);
        }
        for _ in 0..PATIENCE.as_millis() / GLANCE.as_millis() {
            if self.has_this() {
                if ends_with_sessions {
                    tracing::warn!(
                        "agent and tasks end with the last session of their user (`loginctl enable-linger` has them stay)"
                    );
                }
                return Ok(());
            }
            thread::sleep(GLANCE);
        }
        Err(format!(
            "systemd did not move this process to {} within {} s",
            self.unit,
            PATIENCE.as_secs()
        ))
    }

    fn has_this(&self) -> bool {
        let own = own_cgroup(Path::new("/proc/self"));
        own.is_ok_and(|own| own.components().any(|part| *part.as_os_str() == *self.unit))
    }

    fn start(&self, bus: &Bus) -> Result<(), String> {
        let says = format!("DC/OS agent and its containers ({})", self.socket.display());
        let pid = std::process::id().to_string();
        let unlimited = u64::MAX.to_string();
        let mut words = vec!["StartTransientUnit", "ssa(sv)a(sa(sv))", &self.unit, "fail"];
        let properties: [&[&str]; 6] = [
            &["Description", "s", &says],
            &["Slice", "s", SLICE],
            &["Delegate", "b", "true"],
            &["PIDs", "au", "1", &pid],
            &["TasksMax", "t", &unlimited],
            &["CollectMode", "s", "inactive-or-failed"],
        ];
        let count = properties.len().to_string();
        words.push(&count);
        words.extend(properties.concat());
        words.push("0");
        bus.call(SYSTEMD, &words).map(drop)
    }

    fn attach(&self, bus: &Bus) -> Result<(), String> {
        let (place, pid) = (format!("/{AGENT}"), std::process::id().to_string());
        let words = [
            "AttachProcessesToUnit",
            "ssau",
            &self.unit,
            &place,
            "1",
            &pid,
        ];
        bus.call(SYSTEMD, &words).map(drop)
    }
}

/// What the user's systemd listens at.
struct Bus {
    runtime_dir: PathBuf,
}

impl Bus {
    /// That of who runs this, which the environment need not say: who changed the user may have that of another.
    fn of_user() -> Result<Self, String> {
        let user = getuid().as_raw();
        let usual = PathBuf::from(format!("/run/user/{user}"));
        let told = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let is_own = |path: &Path| {
            let bus = fs::metadata(path.join("bus"));
            bus.is_ok_and(|bus| bus.uid() == user)
        };
        let find = || told.iter().chain([&usual]).find(|path| is_own(path));
        let mut found = find();
        // With the node an agent may begin before its user's systemd does.
        let last = Instant::now() + PATIENCE;
        while found.is_none() && stays(user) && Instant::now() < last {
            thread::sleep(PAUSE);
            found = find();
        }
        let runtime_dir = found.cloned().ok_or_else(|| {
            format!(
                "no systemd of this user is to be asked for some: there is no {} (a login, or `loginctl enable-linger`, \
                 begins it; Debian's package `dbus-user-session` has it listen)",
                usual.join("bus").display()
            )
        })?;
        Ok(Self { runtime_dir })
    }

    /// That systemd means the same processes by their numbers: in a container with the host's bus it would move another.
    fn knows_us(&self) -> Result<(), String> {
        let words = ["GetConnectionUnixProcessID", "s", SYSTEMD[0]];
        // The bus begins with who asks first, and systemd comes there later.
        let last = Instant::now() + PATIENCE;
        let told = loop {
            match self.call(DBUS, &words) {
                Err(_) if Instant::now() < last => thread::sleep(PAUSE),
                told => break told?,
            }
        };
        let pid = told.trim().trim_start_matches("u ");
        let is_systemd =
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n");
        let are_here = [pid, "self"].into_iter().all(|process| {
            let status = fs::read_to_string(format!("/proc/{process}/status"));
            status.is_ok_and(|status| has_one_number(&status))
        });
        if is_systemd && are_here {
            return Ok(());
        }
        Err("this user's systemd is in another PID namespace, and gives none here".to_owned())
    }

    /// Whether the user's systemd ends when the user has logged out, as far as that is known.
    fn is_for_sessions_only(&self) -> bool {
        let user = format!("/org/freedesktop/login1/user/_{}", getuid().as_raw());
        let of_user = [
            "org.freedesktop.login1",
            &user,
            "org.freedesktop.login1.User",
        ];
        let told = self.ask(&["--system", "get-property"], of_user, &["Linger"]);
        told.is_ok_and(|told| told.trim() == "b false")
    }

    fn call(&self, who: [&str; 3], words: &[&str]) -> Result<String, String> {
        self.ask(&["--user", "call"], who, words)
    }

    /// What `who` answers, as `busctl` writes it.
    fn ask(&self, how: &[&str], who: [&str; 3], words: &[&str]) -> Result<String, String> {
        let output = Command::new("busctl")
            .arg(format!("--timeout={}", PATIENCE.as_secs()))
            .args(how)
            .args(who)
            .args(words)
            .env("XDG_RUNTIME_DIR", &self.runtime_dir)
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| {
                format!("running `busctl`, to ask this user's systemd for some: {error}")
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("this user's systemd gives none: {}", said.trim()))
    }
}

/// Whether systemd keeps a user's part of it though nobody has logged in.
fn stays(user: u32) -> bool {
    let name = subordinate::name_of(&fs::read_to_string("/etc/passwd").unwrap_or_default(), user);
    name.is_some_and(|name| Path::new("/var/lib/systemd/linger").join(name).exists())
}

/// Whether a process is in the PID namespace that its `/proc` is of, by its `status`: which anybody may read, where the link to the
/// namespace is kept from who lacks a capability that the process has, as a user's systemd since 254.
fn has_one_number(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_namespace_has_more_numbers() {
        assert!(has_one_number("Name:\tsystemd\nNSpid:\t812\nNSsid:\t812\n"));
        assert!(!has_one_number(
            "Name:\tsystemd\nNSpid:\t812\t1\nNSsid:\t812\t1\n"
        ));
        assert!(!has_one_number("Name:\tsystemd\n"));
    }

    #[test]
    fn an_agent_has_the_same_scope_each_time() {
        let scope = Scope::of(Path::new("/var/run/a/launcher.sock"));
        assert_eq!(
            scope.unit,
            Scope::of(Path::new("/var/run/a/launcher.sock")).unit
        );
        assert_ne!(
            scope.unit,
            Scope::of(Path::new("/var/run/b/launcher.sock")).unit
        );
        assert!(scope.is_at(&Path::new("/sys/fs/cgroup/x.slice").join(&scope.unit)));
        assert!(!scope.is_at(&Path::new("/sys/fs/cgroup").join(&scope.unit).join("agent")));
    }
}
