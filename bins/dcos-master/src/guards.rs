//! Who may speak with Marathon and Metronome.

use std::env::{self, VarError};

use anyhow::Context as _;
use dcos_core::config::Values;
use dcos_marathon::Guard;
use dcos_wire::Origins;

/// The guard of a service, from `--<service>_http_credentials` or the variables the originals read.
pub(crate) fn of(values: &Values, service: &str) -> anyhow::Result<Option<Guard>> {
    let option = format!("{service}_http_credentials");
    let variables = match service {
        "marathon" => &["MARATHON_HTTP_CREDENTIALS", "MESOSPHERE_HTTP_CREDENTIALS"][..],
        _ => &["METRONOME_HTTP_CREDENTIALS"],
    };
    let mut said = values.opt_text(&option);
    for name in variables {
        match env::var(name) {
            // What a flag takes is read from the file that it names.
            Ok(value) if value.starts_with("file://") => anyhow::bail!(
                "{name} holds 'user:password'; a file of it is named with --{option}={value}"
            ),
            // Units leave variables empty that they do not need.
            Ok(value) if !value.is_empty() && said.is_none() => said = Some(value),
            Ok(_) | Err(VarError::NotPresent) => {}
            Err(error) => return Err(error).context(*name),
        }
    }
    let Some(credentials) = said else {
        return Ok(None);
    };
    let realm = values.text(&format!("{service}_http_realm"));
    let guard = Guard::new(&realm, &credentials);
    Ok(Some(guard.with_context(|| format!("--{option}"))?))
}

/// The option of a service that names whose web pages it lets in.
pub(crate) fn allowing(service: &str) -> String {
    format!("{service}_access_control_allow_origin")
}

/// Whose web pages a service lets in, from `--<service>_access_control_allow_origin`; those of the whole program by default.
pub(crate) fn origins(values: &Values, service: &str) -> anyhow::Result<Origins> {
    let option = allowing(service);
    let Some(allowed) = values.opt_list(&option) else {
        return dcos_program::origins(values);
    };
    Origins::new(allowed).with_context(|| format!("--{option}"))
}
