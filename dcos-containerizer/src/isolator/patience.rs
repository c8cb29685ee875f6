//! Work with files of the node whose file system may be gone, as one of a server that died: it is done on a thread
//! that can be missed, and given up after a while.
//!
//! What did not answer is remembered until it does. Whoever asks for it meanwhile is refused at once, so that a volume
//! that is asked for again and again costs no more threads, and others none of their time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::IsolatorError;
use super::volume::unescape;

/// How long a folder of the node may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// Threads at work for launches that are waited for; their turn comes within [`PATIENCE`].
static THREADS: Semaphore = Semaphore::const_new(64);
/// Threads that nobody waits for any more; with [`THREADS`] below the 512 that the runtime has for all that blocks.
const MISSED: usize = 256;
/// What they wait for, and how many: file systems that servers have, else paths.
static SILENT: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// A piece of work, as it sees itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Going(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What it may be waiting for.
    at: PathBuf,
    /// Nobody waits for it any more; what [`SILENT`] has for it.
    missed: Option<PathBuf>,
    /// Nobody wants what comes of it.
    unwanted: bool,
    /// How often something came of it.
    moves: u64,
    over: bool,
}

impl Going {
    /// From here on it may wait for `path`.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if that does not answer to others, or the work was given up.
    pub(crate) fn at(&self, path: &Path) -> Result<(), IsolatorError> {
        self.on()?;
        // What never came to its turn waits for nothing.
        let is_place = |place: &&PathBuf| place.is_absolute() && path.starts_with(place);
        if let Some(place) = silent().keys().find(is_place) {
            return Err(IsolatorError::refused(format!(
                "{} is in {}, which has not answered since an earlier launch: is its file system there?",
                path.display(),
                place.display()
            )));
        }
        path.clone_into(&mut self.state().at);
        Ok(())
    }

    /// Asked before anything is changed: it goes on while somebody waits for it.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if nobody does, and what it is for was refused.
    pub(crate) fn on(&self) -> Result<(), IsolatorError> {
        let state = self.state();
        if state.unwanted || state.missed.is_some() {
            return Err(IsolatorError::refused("given up".to_owned()));
        }
        Ok(())
    }

    /// Something came of it: who waits by [`wait_on`] goes on waiting.
    ///
    /// # Errors
    /// As [`on`](Self::on).
    pub(crate) fn moved(&self) -> Result<(), IsolatorError> {
        self.state().moves += 1;
        self.on()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for it from now on; what it was waiting for. `None` if it has ended.
    fn give_up(&self) -> Option<PathBuf> {
        let at = self.state().at.clone();
        let place = place(&at);
        let (mut state, mut silent) = (self.state(), silent());
        if state.over {
            return None;
        }
        *silent.entry(place.clone()).or_default() += 1;
        state.missed = Some(place);
        Some(at)
    }
}

/// Ends a piece of work, however it ends.
struct End(Going);

impl Drop for End {
    fn drop(&mut self) {
        let (mut state, mut silent) = (self.0.state(), silent());
        state.over = true;
        if let Some(place) = &state.missed
            && let Some(count) = silent.get_mut(place)
        {
            *count -= 1;
            silent.retain(|_, count| *count > 0);
        }
    }
}

fn silent() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever waits for a piece of work.
struct Waiting(Going);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state().unwanted = true;
    }
}

/// Does `work`, waiting for it no longer than `patience`. It says where it goes by [`Going::at`], and asks
/// [`Going::on`] before it changes anything: what was refused, or whose future was dropped, is not to be done later.
///
/// # Errors
/// Those of `work`; [`IsolatorError::Refused`] if it takes too long, or too much did before.
pub(crate) async fn wait<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce(&Going) -> Result<T, IsolatorError> + Send + 'static,
) -> Result<T, IsolatorError> {
    let waiting = Waiting(Going::default());
    // Its thread is known of until it ends or is missed, whoever waits.
    let done = tokio::spawn(see_to(patience, waiting.0.clone(), work));
    let done = done.await;
    done.map_err(|error| IsolatorError::refused(error.to_string()))?
}

async fn see_to<T: Send + 'static>(
    patience: Duration,
    going: Going,
    work: impl FnOnce(&Going) -> Result<T, IsolatorError> + Send + 'static,
) -> Result<T, IsolatorError> {
    let permit = THREADS.acquire().await.expect("it is never closed");
    let missed: usize = silent().values().sum();
    if missed >= MISSED {
        return Err(IsolatorError::refused(format!(
            "{missed} launches still wait for volumes of this node that do not answer; it takes no more with such \
             volumes until those file systems answer or the agent is restarted"
        )));
    }
    going.on()?;
    let end = End(going.clone());
    let mut done = tokio::task::spawn_blocking(move || work(&end.0));
    let in_time = tokio::time::timeout(patience, &mut done).await;
    drop(permit);
    let done = match in_time {
        Ok(done) => done,
        Err(_) => match going.give_up() {
            None => done.await,
            Some(at) if at.as_os_str().is_empty() => {
                return Err(IsolatorError::refused(format!(
                    "no thread of the agent was free for a volume of the node within {patience:?}"
                )));
            }
            Some(at) => return Err(silence(&at, patience)),
        },
    };
    // It panicked, or the runtime ends.
    done.map_err(|error| IsolatorError::refused(error.to_string()))?
}

/// Does `work` with what lies at `path`, on a thread of its own; waiting for it as long as it has [moved](Going::moved)
/// within the last `patience`.
///
/// # Errors
/// As [`wait`].
pub(crate) async fn wait_on<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    work: impl FnOnce(&Going) -> Result<T, IsolatorError> + Send + 'static,
) -> Result<T, IsolatorError> {
    let waiting = Waiting(Going::default());
    let going = waiting.0.clone();
    going.at(path)?;
    let (tell, mut done) = oneshot::channel();
    let end = End(going.clone());
    let thread = std::thread::Builder::new().name("patience".into());
    let thread = thread.spawn(move || {
        let done = work(&end.0);
        drop(end);
        tell.send(done).ok();
    });
    thread.map_err(|error| IsolatorError::refused(format!("beginning a thread: {error}")))?;
    // It is known of until it ends or is missed, whoever waits.
    let seen_to = tokio::spawn(async move {
        let mut seen = 0;
        loop {
            match tokio::time::timeout(patience, &mut done).await {
                Ok(Ok(done)) => return done,
                Ok(Err(_)) => return Err(IsolatorError::refused("it panicked".to_owned())),
                Err(_) => {}
            }
            let moves = going.state().moves;
            if moves == seen
                && let Some(at) = going.give_up()
            {
                return Err(silence(&at, patience));
            }
            seen = moves;
        }
    });
    let done = seen_to.await;
    done.map_err(|error| IsolatorError::refused(error.to_string()))?
}

fn silence(at: &Path, patience: Duration) -> IsolatorError {
    IsolatorError::refused(format!(
        "{} does not answer within {patience:?}: is its file system there?",
        at.display()
    ))
}

/// What is silent if `path` is: all that is mounted there from a server, else the path alone. That is told without
/// looking there, so a link may lead elsewhere: what is the node's own is not blamed for it.
fn place(path: &Path) -> PathBuf {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    served(&table, path).unwrap_or_else(|| path.to_owned())
}

/// Where in a table as `/proc/self/mountinfo` the innermost mount above `path` is, if a server is behind it.
fn served(table: &str, path: &Path) -> Option<PathBuf> {
    let mounts = table.lines().filter_map(|line| {
        // Fields, any number of optional ones, a dash, then type, source, options.
        let (before, after) = line.split_once(" - ")?;
        let point = PathBuf::from(unescape(before.split(' ').nth(4)?));
        Some((point, after.split(' ').next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    // The last of several at one place hides the others.
    let (point, kind) = above.max_by_key(|(point, _)| point.components().count())?;
    // Much else is in `/`.
    (has_server(kind) && point.parent().is_some()).then_some(point)
}

/// Whether a file system of that type is silent as a whole, with whom it asks. An automounter is none: each folder
/// below it may be another server's.
fn has_server(kind: &str) -> bool {
    const KINDS: [&str; 17] = [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb3",
        "smbfs",
        "virtiofs",
    ];
    KINDS.contains(&kind) || kind.starts_with("fuse")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Work at `path` that waits until what is returned is dropped, and then changes something.
    fn stuck(path: &Path) -> (mpsc::Sender<()>, mpsc::Receiver<bool>, Box<Work>) {
        let ((hold, held), (told, tell)) = (mpsc::channel(), mpsc::channel());
        let path = path.to_owned();
        let work = move |going: &Going| {
            going.at(&path)?;
            held.recv().ok();
            told.send(going.on().is_ok()).ok();
            going.on()
        };
        (hold, tell, Box::new(work))
    }
    type Work = dyn FnOnce(&Going) -> Result<(), IsolatorError> + Send;

    const SOON: Duration = Duration::from_millis(100);
    /// Nothing here waits that long.
    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn what_does_not_answer_is_asked_once_and_others_go_on() {
        let dead = Path::new("/no/such/dead");
        let (hold, changed, work) = stuck(dead);
        let error = wait(SOON, work).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/dead does not answer"), "{error}");
        // More than there are threads for.
        for _ in 0..100 {
            let (_, _, work) = stuck(&dead.join("below"));
            let error = wait(LONG, work).await.unwrap_err().to_string();
            assert!(error.contains("has not answered since"), "{error}");
        }
        let (free, _, work) = stuck(Path::new("/no/such/deadly"));
        drop(free);
        wait(LONG, work).await.unwrap();

        drop(hold);
        assert!(!changed.recv().unwrap(), "it was given up");
        while silent().contains_key(dead) {
            tokio::task::yield_now().await;
        }
        let (free, changed, work) = stuck(dead);
        drop(free);
        wait(LONG, work).await.unwrap();
        assert!(changed.recv().unwrap());
    }

    #[tokio::test]
    async fn what_moves_is_waited_for_and_what_stops_is_remembered() {
        let slow = Path::new("/no/such/slow");
        let (hold, held) = mpsc::channel::<()>();
        let work = move |going: &Going| {
            for _ in 0..4 {
                std::thread::sleep(SOON / 2);
                going.moved()?;
            }
            held.recv().ok();
            going.moved()
        };
        let error = wait_on(SOON, slow, work).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/slow does not answer"), "{error}");
        let again = wait_on(LONG, slow, |_| Ok(())).await;
        let error = again.unwrap_err().to_string();
        assert!(error.contains("has not answered since"), "{error}");
        drop(hold);
        while silent().contains_key(slow) {
            tokio::task::yield_now().await;
        }
        wait_on(LONG, slow, |_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn what_nobody_waits_for_stops_when_it_moves() {
        let dead = Path::new("/no/such/unwanted");
        let ((hold, held), (told, tell)) = (mpsc::channel::<()>(), mpsc::channel());
        let work = move |going: &Going| {
            held.recv().ok();
            told.send(going.moved().is_ok()).ok();
            going.on()
        };
        let waited = tokio::time::timeout(SOON, wait_on(SOON * 2, dead, work));
        waited.await.unwrap_err();
        // It is remembered all the same.
        while !silent().contains_key(dead) {
            tokio::task::yield_now().await;
        }
        drop(hold);
        assert!(!tell.recv().unwrap());
    }

    #[tokio::test]
    async fn who_is_destroyed_meanwhile_leaves_nothing_to_be_done() {
        let dead = Path::new("/no/such/left");
        let (hold, changed, work) = stuck(dead);
        tokio::time::timeout(SOON, wait(SOON * 2, work))
            .await
            .unwrap_err();
        // It is remembered all the same.
        while !silent().contains_key(dead) {
            tokio::task::yield_now().await;
        }
        drop(hold);
        assert!(!changed.recv().unwrap());
    }

    #[tokio::test]
    async fn many_dead_places_leave_threads_for_others() {
        let mut held = Vec::new();
        for number in 0..70 {
            let (hold, _, work) = stuck(&Path::new("/no/such").join(number.to_string()));
            held.push(hold);
            wait(Duration::from_millis(1), work).await.unwrap_err();
        }
        let (free, _, work) = stuck(Path::new("/no/such/healthy"));
        drop(free);
        wait(LONG, work).await.unwrap();
    }

    #[test]
    fn a_place_is_what_a_server_has_mounted_there() {
        let table = r"
21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
22 21 8:2 / /var rw,noatime shared:2 - xfs /dev/sda2 rw
23 21 0:30 / /mnt/nfs rw shared:3 master:1 - nfs4 server:/a rw,hard
24 23 8:3 / /mnt/nfs/local rw - ext4 /dev/sdb1 rw
25 21 0:31 / /net rw - autofs /etc/auto.net rw,fd=6
26 25 0:32 / /net/one/export rw - nfs one:/export rw
27 21 0:33 / /mnt/a\040b rw - fuse.sshfs host:/ rw
28 21 0:34 / /mnt/hidden rw - nfs old:/ rw
29 28 8:4 / /mnt/hidden rw - ext4 /dev/sdc1 rw
30 21 0:35 / /mnt/disk rw - tmpfs tmpfs rw";
        let place = |path: &str| {
            let place = served(table, path.as_ref());
            place.map(|place| place.to_str().unwrap().to_owned())
        };
        let of = |place: &str| Some(place.to_owned());
        assert_eq!(place("/mnt/nfs/data/x"), of("/mnt/nfs"));
        assert_eq!(place("/net/one/export/x"), of("/net/one/export"));
        assert_eq!(place("/mnt/a b/x"), of("/mnt/a b"));
        for own in [
            "/srv/x",
            "/var/data/x",
            "/mnt/nfsx",
            "/mnt/nfs/local/x",
            "/net/dead/export",
            "/mnt/hidden/x",
            "/mnt/disk/x",
        ] {
            assert_eq!(place(own), None, "{own}");
        }
        assert_eq!(
            served("21 1 0:9 / / rw - nfs boot:/ rw", "/x".as_ref()),
            None
        );
    }
}
