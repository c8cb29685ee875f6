//! What is forwarded for containers of ours, kept open where the node's firewall closes it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use dcos_core::error::chain;
use dcos_netlink::{Changes, Passage, PassageError, Porter};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

/// The table of `iptables` in which what is forwarded is refused.
const TABLE: &str = "filter";
/// Who changes the table changes much of it: Docker makes some thirty rules when it starts.
const SETTLING: Duration = Duration::from_millis(200);
/// How often it is looked where the kernel does not tell, and tried again what failed.
const REVIEW: Duration = Duration::from_secs(30);

/// Where passages are said. Clones say them to the same.
#[derive(Clone, Debug)]
pub struct Passages(mpsc::UnboundedSender<Order>);

/// What those who keep them are told.
#[derive(Debug)]
enum Order {
    Keep(Passage),
    /// Take away all that are kept, tell, and end.
    Close(oneshot::Sender<()>),
}

impl Passages {
    /// Keeps a passage like this from now on, instead of what was said of its chain before. One that is closed is closed once.
    pub fn say(&self, passage: Passage) {
        // Nobody keeps any when the process ends.
        let _ = self.0.send(Order::Keep(passage));
    }

    /// Takes away all that are kept, for a node that leaves; what is said later is not heard.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.0.send(Order::Close(done)).is_ok() {
            // An error: they are kept no more.
            let _ = closed.await;
        }
    }
}

/// Where passages are said, and what keeps them: at once when one is said or somebody changes the node's firewall. They stay
/// open when that is dropped, as what runs on needs them; [`Passages::close`] takes them away.
pub fn passages() -> (Passages, impl Future<Output = ()>) {
    let (say, said) = mpsc::unbounded_channel();
    (Passages(say), keep(said))
}

/// Takes the passages of these chains away, where this process keeps none.
pub async fn close(chains: Vec<&'static str>) {
    let closed = tokio::task::spawn_blocking(move || {
        let (standing, failures) = Porter::standing(&chains);
        for failure in failures {
            // Whoever may not ask, or has no such table, has opened nothing either.
            debug!(error = %chain(&failure), "asking what is open in this node's firewall");
        }
        let mut porter = Porter::new();
        for chain in standing {
            let passage = Passage::closed(chain);
            report(&passage, porter.keep(&passage), &mut None);
        }
    });
    if let Err(error) = closed.await {
        warn!(%error, "closing what was open in this node's firewall");
    }
}

/// Whether this node's firewall drops what it forwards, unless a rule accepts it.
pub async fn is_forwarding_closed() -> bool {
    let closed = tokio::task::spawn_blocking(Porter::is_closed).await;
    match closed.map_err(anyhow::Error::from) {
        Ok(Ok(closed)) => return closed,
        Ok(Err(error)) => {
            debug!(error = %chain(&error), "asking whether this node's firewall is closed");
        }
        Err(error) => warn!(%error, "asking whether this node's firewall is closed"),
    }
    false
}

/// What is kept, and how.
struct Keeper {
    porter: Porter,
    passages: BTreeMap<&'static str, Passage>,
    /// What was said of a chain that failed, so that it is said once.
    failures: BTreeMap<&'static str, String>,
}

impl Keeper {
    /// Keeps a passage like this from now on; says whether that is news.
    fn take_in(&mut self, passage: Passage) -> bool {
        let is_news = self.passages.get(passage.chain) != Some(&passage);
        self.passages.insert(passage.chain, passage);
        is_news
    }

    /// Looks after all of them.
    fn keep(&mut self) {
        let (porter, failures) = (&mut self.porter, &mut self.failures);
        self.passages.retain(|chain, passage| {
            let mut failure = failures.remove(chain);
            report(passage, porter.keep(passage), &mut failure);
            let stays = failure.is_some() || !passage.is_closed();
            failures.extend(failure.map(|failure| (*chain, failure)));
            stays
        });
    }

    /// Closes all of them.
    fn close(mut self) {
        for chain in self.passages.into_keys() {
            let passage = Passage::closed(chain);
            report(&passage, self.porter.keep(&passage), &mut None);
        }
    }
}

/// Tells what came of it, unless the same was told before.
fn report(passage: &Passage, kept: Result<bool, PassageError>, failure: &mut Option<String>) {
    let name = passage.chain;
    let known = failure.take();
    match kept {
        Ok(true) => info!(chain = name, "this node's firewall was told what passes"),
        Ok(false) => {}
        // It is that one's to close.
        Err(PassageError::Taken { .. }) if passage.is_closed() => {
            warn!(
                chain = name,
                "another process keeps this chain of this node's firewall: left to that one"
            );
        }
        Err(error) => {
            let text = chain(&error).to_string();
            if known.as_ref() != Some(&text) {
                let what = if passage.is_closed() {
                    "what passed this node's firewall may still pass"
                } else {
                    "what this node forwards for containers may be dropped"
                };
                warn!(chain = name, error = text, what);
            }
            *failure = Some(text);
        }
    }
}

async fn keep(mut said: mpsc::UnboundedReceiver<Order>) {
    let mut keeper = Keeper {
        porter: Porter::new(),
        passages: BTreeMap::new(),
        failures: BTreeMap::new(),
    };
    // Nothing is run or heard for a node that has nothing to let pass.
    match said.recv().await {
        Some(Order::Keep(first)) => keeper.passages.insert(first.chain, first),
        // Dropped, whoever asked is told.
        Some(Order::Close(_)) | None => return,
    };
    let mut changes = match Changes::open().and_then(readable) {
        Ok(changes) => Some(changes),
        Err(error) => {
            warn!(%error, "changes to this node's firewall are looked for every 30 s");
            None
        }
    };
    let told = tokio::task::spawn_blocking(Porter::is_told).await;
    let is_told = told.unwrap_or_default();
    loop {
        let work = tokio::task::spawn_blocking(move || {
            keeper.keep();
            keeper
        });
        keeper = match work.await {
            Ok(keeper) => keeper,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        let review = !is_told || changes.is_none() || !keeper.failures.is_empty();
        let due = Instant::now() + REVIEW;
        loop {
            tokio::select! {
                // Those that were said are kept when nobody is left to say more.
                Some(order) = said.recv() => {
                    let mut is_news = false;
                    // What was said meanwhile costs one look, all of it.
                    let mut waiting = Some(order);
                    while let Some(order) = waiting {
                        match order {
                            Order::Keep(passage) => is_news |= keeper.take_in(passage),
                            Order::Close(done) => {
                                let closed = tokio::task::spawn_blocking(|| keeper.close()).await;
                                if let Err(error) = closed {
                                    warn!(%error, "closing what was open in this node's firewall");
                                }
                                // Who asked may be gone.
                                let _ = done.send(());
                                return;
                            }
                        }
                        waiting = said.try_recv().ok();
                    }
                    if is_news {
                        break;
                    }
                }
                () = concerned(&mut changes) => {
                    sleep(SETTLING).await;
                    break;
                }
                () = sleep_until(due), if review => break,
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe to call for types that could give away what they own; this one does not"
)]
fn readable(changes: Changes) -> io::Result<AsyncFd<Changes>> {
    AsyncFd::with_interest(changes, Interest::READABLE)
}

/// Waits until somebody changes the table, or until nobody tells of that any more.
async fn concerned(changes: &mut Option<AsyncFd<Changes>>) {
    if changes.is_none() {
        return std::future::pending().await;
    }
    while let Some(open) = changes {
        let Ok(mut ready) = open.readable_mut().await else {
            break;
        };
        match ready.get_inner_mut().concern(TABLE) {
            Ok(concerned) => {
                ready.clear_ready();
                if concerned {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "changes to this node's firewall are looked for every 30 s");
                break;
            }
        }
    }
    // What was missed is looked for once now, and then as where nobody ever told.
    *changes = None;
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::process::Command;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use super::*;

    /// What a command says, if it succeeds.
    fn said(command: &str) -> Option<String> {
        let mut words = command.split(' ');
        let done = Command::new(words.next()?).args(words).output().ok()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        done.status.success().then_some(text)
    }

    /// A network namespace; gone when dropped.
    struct Host(String);

    impl Host {
        fn new() -> Option<Self> {
            let host = Self(format!("passages{}", std::process::id()));
            said(&format!("ip netns add {}", host.0))?;
            host.run("iptables -P FORWARD DROP")?;
            Some(host)
        }

        fn run(&self, command: &str) -> Option<String> {
            said(&format!("ip netns exec {} {command}", self.0))
        }

        /// Waits until the rules have, or have not, this line.
        fn wait(&self, line: &str, is_there: bool) {
            let begin = Instant::now();
            loop {
                let rules = self.run("iptables -S").expect("it was there before");
                if rules.lines().any(|found| found == line) == is_there {
                    return;
                }
                let patience = Duration::from_secs(60);
                assert!(begin.elapsed() < patience, "{line}: {is_there} in {rules}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            said(&format!("ip netns del {}", self.0));
        }
    }

    #[test]
    fn what_is_said_once_passes_whoever_changes_the_firewall_later() {
        let Some(host) = Host::new() else {
            eprintln!("skipped: this takes root, `ip` and `iptables`");
            return;
        };
        let namespace = std::fs::File::open(format!("/run/netns/{}", host.0));
        let namespace = namespace.expect("it was made");
        let (stop, stopped) = oneshot::channel::<()>();
        let keeping = std::thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("it is one");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let (say, keeping) = passages();
            let passage = || Passage {
                before_docker: true,
                v4: vec!["-i ours".to_owned()],
                ..Passage::closed("DCOS-TEST")
            };
            say.say(passage());
            runtime.block_on(async {
                let kept = tokio::spawn(keeping);
                stopped.await.expect("somebody stops it");
                // It is looked for at once, and closed all the same.
                say.say(Passage::closed("DCOS-TEST"));
                say.say(passage());
                say.close().await;
                kept.await.expect("it ends");
            });
            assert!(runtime.block_on(is_forwarding_closed()));
        });
        host.wait("-A DCOS-TEST -i ours -j ACCEPT", true);
        host.wait("-A FORWARD -j DCOS-TEST", true);
        for docker in [
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-I FORWARD -j DOCKER-USER",
        ] {
            host.run(&format!("iptables {docker}")).expect("a rule");
        }
        host.wait("-A DOCKER-USER -j DCOS-TEST", true);
        host.wait("-A FORWARD -j DCOS-TEST", false);
        host.run("iptables -F DCOS-TEST").expect("it is there");
        host.wait("-A DCOS-TEST -i ours -j ACCEPT", true);
        stop.send(()).expect("it waits");
        keeping.join().expect("it ends");
        let rules = host.run("iptables -S").expect("it was there before");
        assert!(!rules.contains("DCOS-TEST"), "{rules}");
    }
}
