//! The addresses at which a node is asked for names, and the file that has the node itself ask there: the same for
//! masters and agents.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use dcos_core::config::{Spec, Values};
use dcos_dns::{ResolvConf, Spartan, SpartanError, Upstream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::unless_taken;

/// Options of our own: in DC/OS another program has them.
pub const NODE_NAMES_OPTIONS: &[Spec] = &[
    Spec::switch("dns").help(
        "Answer names on this node, at 198.51.100.1 to .3 on the link `spartan`, also while no master does; it takes root, and a node of one's own: of several masters and agents on a node one does it. An agent's containers with networks of their own ask there, unless --default_container_dns says otherwise (ours).",
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

/// The addresses, which a name server of this process is to listen at.
#[derive(Debug)]
pub struct NodeNames {
    spartan: Spartan,
    listen: Vec<SocketAddr>,
    kept: Option<Kept>,
}

impl NodeNames {
    /// Makes the link with the addresses, if it is asked for and no other process of this node has it. Options are judged before.
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
        let Some(spartan) = unless_taken(opened, is_taken, "--dns")? else {
            return Ok(None);
        };
        let listen = spartan.listen();
        let kept = file.map(|file| Kept {
            file,
            own: listen.clone(),
            others,
        });
        Ok(Some(Self {
            spartan,
            listen,
            kept,
        }))
    }

    /// Where to listen.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Has the node ask there, now that somebody answers, and gives back what goes on with that until `stop`.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep(
        self,
        stop: CancellationToken,
    ) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
        if let Some(kept) = &self.kept {
            kept.file.ask(&kept.own).context("--dns_resolv_conf")?;
        }
        Ok(keep(self.spartan, self.kept, stop))
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

/// A file that has the node ask here as long as somebody answers.
#[derive(Debug)]
struct Kept {
    file: ResolvConf,
    own: Vec<SocketAddr>,
    others: Vec<SocketAddr>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.file.leave(&self.others) {
            warn!("{:#}", anyhow::Error::new(error));
        }
    }
}

/// Puts the link right now and then, and the file.
async fn keep(mut spartan: Spartan, kept: Option<Kept>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(REVIEW))
        .await
        .is_some()
    {
        let stood = tokio::task::spawn_blocking(move || {
            let stood = spartan.stand();
            (spartan, stood)
        });
        let Ok((again, stood)) = stood.await else {
            return;
        };
        spartan = again;
        if let Err(error) = stood {
            warn!("{:#}", anyhow::Error::new(error));
        }
        let Some(kept) = &kept else { continue };
        match kept.file.ask(&kept.own) {
            Ok(false) => {}
            Ok(true) => warn!("somebody had this node ask others for names: put right"),
            Err(error) => warn!("{:#}", anyhow::Error::new(error)),
        }
    }
}
