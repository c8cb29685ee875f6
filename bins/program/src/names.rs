//! The addresses at which a node is asked for names, and the file that has the node itself ask there: the same for
//! masters and agents.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dcos_core::config::{Spec, Values};
use dcos_dns::{Doors, ResolvConf, Spartan, SpartanError, Upstream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::unless_taken;

/// Options of our own: in DC/OS another program has them.
pub const NODE_NAMES_OPTIONS: &[Spec] = &[
    Spec::switch("dns").help(
        "Answer names on this node, at 198.51.100.1 to .3 on the link `spartan`, also while no master does; it takes root, and a node of one's own: of several masters and agents on a node one does it, and another one once that has ended. An agent's containers with networks of their own ask there, unless --default_container_dns says otherwise (ours).",
    ),
    Spec::path("dns_resolv_conf").help(
        "With --dns, a file such as /etc/resolv.conf that is kept so that the node itself asks there; whom else it asks is said by --dns_resolvers, and it asks them when this process stops (ours).",
    ),
    Spec::list("dns_search").help("In that file: where names without a dot are looked for (ours)."),
    Spec::switch("dns_resolv_conf_leave").help(
        "Do nothing but have that file name --dns_resolvers again, if a master or agent wrote it last and none answers on this node now: for ExecStopPost= of the unit, which comes also after it was killed (ours).",
    ),
];

/// How often it is looked whether somebody took the link away.
const REVIEW: Duration = Duration::from_secs(30);
/// When it is looked whether another process still has it, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// The addresses, which a name server of this process is to listen at.
#[derive(Debug)]
pub struct NodeNames {
    /// Nothing, while another process of the node has them.
    spartan: Option<Spartan>,
    listen: Vec<SocketAddr>,
    file: Option<File>,
}

impl NodeNames {
    /// Makes the link with the addresses, if it is asked for; where another process of this node has it, that is left to it for
    /// now. Options are judged before.
    ///
    /// # Errors
    /// The link can't be made; the node would ask nobody who knows other names, or nobody when this process stops.
    pub async fn open(values: &Values) -> anyhow::Result<Option<Self>> {
        if !values.switch("dns") {
            return Ok(None);
        }
        let upstream = dcos_dns::upstream(values)?;
        let others = upstream.now();
        let is_own = |resolver: &SocketAddr| Spartan::places().any(|own| own == *resolver);
        ensure!(
            others.is_empty() || !others.iter().all(is_own),
            "--dns: the node asks only this name server itself, which would answer nothing about other names: \
             name those it is to ask with --dns_resolvers"
        );
        let file = resolv_conf(values, &upstream)?;
        let opened = tokio::task::spawn_blocking(Spartan::open).await?;
        let is_taken = |error: &_| matches!(error, SpartanError::Taken { .. });
        let spartan = unless_taken(opened, is_taken, "--dns")?;
        Ok(Some(Self {
            listen: spartan.iter().flat_map(Spartan::listen).collect(),
            spartan,
            file: file.map(|file| File { file, others }),
        }))
    }

    /// Where to listen at once.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Has the node ask there, now that somebody answers, and gives back what goes on with that until `stop`. While another
    /// process of the node has the addresses that waits until it has ended, and then has the server behind `doors` listen there.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep(
        self,
        doors: Doors,
        stop: CancellationToken,
    ) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
        let Self { spartan, file, .. } = self;
        let mut begun = None;
        if let Some(spartan) = spartan {
            let kept = file.clone().map(|file| Kept::of(file, &spartan));
            if let Some(kept) = &kept {
                kept.ask().context("--dns_resolv_conf")?;
            }
            begun = Some((spartan, kept));
        }
        let keeping = async move {
            let (spartan, kept) = match begun {
                Some(begun) => begun,
                None => take_over(&doors, file).await,
            };
            keep(spartan, kept).await;
        };
        Ok(async move {
            stop.run_until_cancelled(keeping).await;
        })
    }
}

/// Waits until no other process of the node has the addresses, answers there, and has the node ask there.
async fn take_over(doors: &Doors, file: Option<File>) -> (Spartan, Option<Kept>) {
    let (mut pause, mut said) = (RETRY.0, Said::default());
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
        match take(doors).await {
            Ok(Some(spartan)) => {
                info!("no other process of this node answers names any more: this one does");
                let kept = file.map(|file| Kept::of(file, &spartan));
                if let Some(Err(error)) = kept.as_ref().map(Kept::ask) {
                    warn!("{error:#}");
                }
                return (spartan, kept);
            }
            Ok(None) => said.well(),
            Err(error) => said.failed(&error),
        }
    }
}

/// The addresses, if no other process of the node has them.
async fn take(doors: &Doors) -> anyhow::Result<Option<Spartan>> {
    match tokio::task::spawn_blocking(Spartan::open).await? {
        Err(SpartanError::Taken { .. }) => Ok(None),
        opened => {
            let spartan = opened?;
            doors.open(&spartan.listen()).await?;
            Ok(Some(spartan))
        }
    }
}

/// What was said of what fails: the same is not said again until it went well, or something else failed.
#[derive(Debug, Default)]
struct Said(Option<String>);

impl Said {
    fn well(&mut self) {
        self.0 = None;
    }

    fn failed(&mut self, error: &anyhow::Error) {
        let error = Some(format!("{error:#}"));
        if self.0 != error {
            warn!("{}", error.as_deref().unwrap_or_default());
            self.0 = error;
        }
    }
}

/// The file that has the node ask here, if one is to be kept.
fn resolv_conf(values: &Values, upstream: &Upstream) -> anyhow::Result<Option<ResolvConf>> {
    let Some(path) = values.opt_path("dns_resolv_conf") else {
        return Ok(None);
    };
    let Upstream::Named(named) = upstream else {
        bail!(
            "--dns_resolv_conf: what the file says now would be forgotten: name those who know other names with --dns_resolvers"
        );
    };
    ensure!(
        named
            .iter()
            .any(|resolver| resolver.port() == dcos_dns::PORT),
        "--dns_resolv_conf: when this process stops the node asks those of --dns_resolvers, at port 53 alone, and none of them is there"
    );
    let search = values.opt_list("dns_search").unwrap_or_default();
    Ok(Some(ResolvConf::new(path, search)))
}

/// Has the node ask others again, where a process that had it ask here is no more, and no other one answers here.
///
/// # Errors
/// The options name no file, or nobody else to ask; writing it.
pub fn leave_resolv_conf(values: &Values) -> anyhow::Result<()> {
    let upstream = dcos_dns::upstream(values)?;
    let file = resolv_conf(values, &upstream)?;
    let file = file.context("--dns_resolv_conf_leave: --dns_resolv_conf says which file")?;
    if Spartan::is_taken() {
        info!("another process of this node answers names: the file stays as it is");
    } else if file.leave(&upstream.now())? {
        info!("this node asks those of --dns_resolvers for names");
    }
    Ok(())
}

/// A file that says whom the node asks, and whom it asks while nobody answers here.
#[derive(Clone, Debug)]
struct File {
    file: ResolvConf,
    others: Vec<SocketAddr>,
}

/// That file, which has the node ask here as long as somebody answers.
#[derive(Debug)]
struct Kept {
    file: File,
    own: Vec<SocketAddr>,
}

impl Kept {
    fn of(file: File, spartan: &Spartan) -> Self {
        Self {
            file,
            own: spartan.listen(),
        }
    }

    /// Says whether somebody had the node ask others.
    fn ask(&self) -> anyhow::Result<bool> {
        Ok(self.file.file.ask(&self.own)?)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let File { file, others } = &self.file;
        if let Err(error) = file.leave(others) {
            warn!("{:#}", anyhow::Error::new(error));
        }
    }
}

/// Puts the link right now and then, and the file.
async fn keep(mut spartan: Spartan, kept: Option<Kept>) {
    let (mut of_link, mut of_file) = (Said::default(), Said::default());
    loop {
        tokio::time::sleep(REVIEW).await;
        let stood = tokio::task::spawn_blocking(move || {
            let stood = spartan.stand();
            (spartan, stood)
        });
        let Ok((again, stood)) = stood.await else {
            return;
        };
        spartan = again;
        match stood {
            Ok(()) => of_link.well(),
            Err(error) => of_link.failed(&error.into()),
        }
        match kept.as_ref().map(Kept::ask).transpose() {
            Ok(changed) => {
                of_file.well();
                if changed == Some(true) {
                    warn!("somebody had this node ask others for names: put right");
                }
            }
            Err(error) => of_file.failed(&error),
        }
    }
}
