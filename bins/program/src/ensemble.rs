//! The servers where masters keep their state and elect a leader, as options name them.

use anyhow::{Context as _, ensure};
use dcos_core::config::{Spec, Values};
use dcos_store::{Engine, Ensemble, TlsFiles};

/// The options of ensembles over TLS; who the servers are is said elsewhere.
pub const ENSEMBLE_OPTIONS: &[Spec] = &[
    Spec::path("zk_ca_file").help(
        "Who signs the certificates of ZooKeeper's servers (PEM), with zks://; LIBPROCESS_SSL_CA_FILE by default (ours).",
    ),
    Spec::path("zk_cert_file").help(
        "The certificate that is shown to ZooKeeper (PEM), with zks://; LIBPROCESS_SSL_CERT_FILE by default (ours).",
    ),
    Spec::path("zk_key_file").help("Its key (PEM); LIBPROCESS_SSL_KEY_FILE by default (ours)."),
    Spec::path("etcd_ca_file").help(
        "Who signs the certificates of etcd's servers (PEM), with etcds://; LIBPROCESS_SSL_CA_FILE by default, else whoever the system trusts (ours).",
    ),
    Spec::path("etcd_cert_file").help(
        "The certificate that is shown to etcd (PEM), with etcds://; LIBPROCESS_SSL_CERT_FILE by default (ours).",
    ),
    Spec::path("etcd_key_file").help("Its key (PEM); LIBPROCESS_SSL_KEY_FILE by default (ours)."),
];

const FILES: [&str; 3] = ["ca", "cert", "key"];

/// The ensemble that `url` names, spoken to as [`ENSEMBLE_OPTIONS`] say.
///
/// # Errors
/// It names none, or the files can't be used.
pub fn ensemble(values: &Values, url: &str) -> anyhow::Result<Ensemble> {
    let ensemble = Ensemble::parse(url)?;
    for (engine, name) in [(Engine::ZooKeeper, "zk"), (Engine::Etcd, "etcd")] {
        let is_used = engine == ensemble.engine() && ensemble.is_over_tls();
        let mut files = FILES.into_iter();
        let is_said = files.any(|file| values.opt_path(&format!("{name}_{file}_file")).is_some());
        ensure!(
            is_used || !is_said,
            "{ensemble} is not {name}s://, which --{name}_ca_file, --{name}_cert_file and --{name}_key_file are for"
        );
    }
    let name = match ensemble.engine() {
        Engine::ZooKeeper => "zk",
        Engine::Etcd => "etcd",
    };
    let [ca, cert, key] = FILES.map(|file| values.opt_path(&format!("{name}_{file}_file")));
    let usual = TlsFiles::from_env();
    // A certificate and the key of another one do not fit.
    let (cert, key) = if cert.is_some() || key.is_some() {
        (cert, key)
    } else {
        (usual.cert, usual.key)
    };
    let ca = ca.or(usual.ca);
    let shown = ensemble.to_string();
    let tls = ensemble.with_tls(&TlsFiles { ca, cert, key });
    tls.with_context(|| format!("TLS to {shown}"))
}
