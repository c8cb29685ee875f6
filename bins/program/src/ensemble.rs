//! The servers where masters keep their state and elect a leader, as options name them.

use anyhow::{Context as _, ensure};
use dcos_core::config::{Spec, Values};
use dcos_store::{Ensemble, TlsFiles};

/// The options of etcd over TLS; who the servers are is said elsewhere.
pub const ENSEMBLE_OPTIONS: &[Spec] = &[
    Spec::path("etcd_ca_file").help(
        "Who signs the certificates of etcd's servers (PEM), with etcds://; LIBPROCESS_SSL_CA_FILE by default, else whoever the system trusts (ours).",
    ),
    Spec::path("etcd_cert_file").help(
        "The certificate that is shown to etcd (PEM), with etcds://; LIBPROCESS_SSL_CERT_FILE by default (ours).",
    ),
    Spec::path("etcd_key_file").help("Its key (PEM); LIBPROCESS_SSL_KEY_FILE by default (ours)."),
];

/// The ensemble that `url` names, spoken to as [`ENSEMBLE_OPTIONS`] say.
///
/// # Errors
/// It names none, or the files can't be used.
pub fn ensemble(values: &Values, url: &str) -> anyhow::Result<Ensemble> {
    let ensemble = Ensemble::parse(url)?;
    let [ca, cert, key] =
        ["etcd_ca_file", "etcd_cert_file", "etcd_key_file"].map(|name| values.opt_path(name));
    let is_said = ca.is_some() || cert.is_some() || key.is_some();
    ensure!(
        ensemble.is_over_tls() || !is_said,
        "{ensemble} is not over TLS: --etcd_ca_file, --etcd_cert_file and --etcd_key_file need etcds://"
    );
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
