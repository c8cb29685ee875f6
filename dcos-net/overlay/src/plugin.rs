//! A CNI plugin: attaches containers of others (containerd, CRI-O, podman, `cnitool`, …) to this node's part of an
//! overlay.
//!
//! The agent says in its CNI configurations ([`CniConfigurations`](crate::CniConfigurations)) which bridge and which
//! addresses an overlay has here, and where it is noted which of them are given out. This plugin hands exactly that to
//! the same plugins (`bridge`, `host-local`) that attach the agent's own containers: both take addresses from the same
//! notes, under the same lock, so that none is given out twice. An agent that is down or restarts keeps nobody waiting.
//!
//! ```json
//! {"cniVersion": "1.0.0", "name": "dcos", "type": "dcos-overlay", "configurations": "/var/lib/mesos/overlay/cni"}
//! ```
//!
//! Source: the Container Network Interface specification 1.0.0 (and 0.4.0, 0.3.1).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cni::{file_name, replace};

/// The name the plugin is called by.
pub const NAME: &str = "dcos-overlay";

/// The versions of the specification it speaks: those that have the same result and that `bridge` speaks.
const VERSIONS: [&str; 3] = ["0.3.1", "0.4.0", "1.0.0"];
/// No configuration is larger.
const LARGEST: u64 = 1 << 20;
/// Beside the agent's configurations: what each container was attached with, which is what it is detached with.
const ATTACHED: &str = ".attached";

/// Why a call fails, as the specification tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of the specification's codes.
    pub code: u32,
    /// In a few words.
    pub message: String,
    /// The rest.
    pub details: String,
}

impl Failure {
    const VERSION: u32 = 1;
    const ENVIRONMENT: u32 = 4;
    const IO: u32 = 5;
    const DECODING: u32 = 6;
    const CONFIGURATION: u32 = 7;
    const LATER: u32 = 11;

    fn new(code: u32, message: impl Into<String>, details: impl Into<String>) -> Self {
        let (message, details) = (message.into(), details.into());
        Self {
            code,
            message,
            details,
        }
    }

    fn of_file(doing: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(
            Self::IO,
            format!("{doing} {}", path.display()),
            error.to_string(),
        )
    }

    fn document(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code, "msg": self.message, "details": self.details})
    }
}

/// What an operator writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    #[serde(default = "oldest")]
    cni_version: String,
    name: String,
    /// The overlay, if the network has another name.
    overlay: Option<String>,
    /// Where the agent writes its configurations.
    configurations: PathBuf,
    prev_result: Option<Value>,
}

/// What a configuration without a version has.
fn oldest() -> String {
    "0.1.0".to_owned()
}

/// A call: the variables of the environment that begin with `CNI_`, and what came on standard input.
#[derive(Debug, Default)]
pub struct Call {
    /// `CNI_COMMAND` and the like.
    pub environment: BTreeMap<String, OsString>,
    /// The network's configuration.
    pub input: Vec<u8>,
}

impl Call {
    /// The one this process was started for.
    ///
    /// # Errors
    /// If standard input cannot be read.
    pub fn of_process() -> io::Result<Self> {
        let mut input = Vec::new();
        io::stdin().lock().take(LARGEST).read_to_end(&mut input)?;
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with("CNI_").then_some((name, value))
        });
        let environment = environment.collect();
        Ok(Self { environment, input })
    }

    /// Does what is asked for; the result is empty where there is none.
    ///
    /// # Errors
    /// [`Failure`], with the version of the specification it is to be told in.
    pub fn run(&self) -> Result<Option<Value>, (String, Failure)> {
        let latest = VERSIONS[VERSIONS.len() - 1];
        let command = self
            .text("CNI_COMMAND")
            .map_err(|failure| (latest.to_owned(), failure))?;
        if command == "VERSION" {
            return Ok(Some(
                json!({"cniVersion": latest, "supportedVersions": VERSIONS}),
            ));
        }
        let wanted: Wanted = serde_json::from_slice(&self.input).map_err(|error| {
            let failure = Failure::new(
                Failure::DECODING,
                "reading the configuration",
                error.to_string(),
            );
            (latest.to_owned(), failure)
        })?;
        let done = self.attach_or_detach(command, &wanted);
        done.map_err(|failure| {
            let known = VERSIONS.contains(&wanted.cni_version.as_str());
            let version = if known {
                wanted.cni_version
            } else {
                latest.to_owned()
            };
            (version, failure)
        })
    }

    fn attach_or_detach(&self, command: &str, wanted: &Wanted) -> Result<Option<Value>, Failure> {
        let version = wanted.cni_version.as_str();
        if !VERSIONS.contains(&version) {
            let known = VERSIONS.join(", ");
            return Err(Failure::new(
                Failure::VERSION,
                format!("version {version} of CNI"),
                format!("known are {known}"),
            ));
        }
        let overlay = wanted.overlay.as_ref().unwrap_or(&wanted.name);
        if !is_name(overlay) {
            return Err(Failure::new(
                Failure::CONFIGURATION,
                "the name of the overlay",
                format!("{overlay:?} is none"),
            ));
        }
        let note = self.note(wanted, overlay)?;
        match command {
            "ADD" => {
                // Before: a plugin that fails half-way is told to take back what it did.
                let delegate = delegate(wanted, overlay)?;
                write(&note, &delegate)?;
                self.delegate("ADD", wanted, delegate)
            }
            "CHECK" => {
                if version == "0.3.1" {
                    return Err(Failure::new(
                        Failure::VERSION,
                        "CHECK",
                        "version 0.3.1 of CNI has no such command",
                    ));
                }
                let delegate = noted(&note)?;
                let delegate = delegate.ok_or_else(|| {
                    Failure::new(
                        3,
                        "the container is not attached by this plugin",
                        note.display().to_string(),
                    )
                })?;
                self.delegate("CHECK", wanted, delegate)
            }
            "DEL" => {
                // Gone already, or never there: that is no error.
                let Some(delegate) = noted(&note)? else {
                    return Ok(None);
                };
                self.delegate("DEL", wanted, delegate)?;
                match std::fs::remove_file(&note) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Failure::of_file("removing", &note, &error))
                    }
                    _ => Ok(None),
                }
            }
            other => Err(Failure::new(
                Failure::ENVIRONMENT,
                "CNI_COMMAND",
                format!("{other:?} is not ADD, DEL, CHECK or VERSION"),
            )),
        }
    }

    /// Where it is noted how the container is attached.
    fn note(&self, wanted: &Wanted, overlay: &str) -> Result<PathBuf, Failure> {
        let (container, interface) = (self.text("CNI_CONTAINERID")?, self.text("CNI_IFNAME")?);
        let bad = |what: &str, value: &str| {
            Err(Failure::new(
                Failure::ENVIRONMENT,
                what,
                format!("{value:?} is none"),
            ))
        };
        if !is_name(container) {
            return bad("CNI_CONTAINERID", container);
        }
        if !is_name(interface) || interface.len() > 15 {
            return bad("CNI_IFNAME", interface);
        }
        let folder = wanted.configurations.join(ATTACHED).join(overlay);
        // Neither has a comma.
        Ok(folder.join(format!("{container},{interface}.json")))
    }

    /// Has the plugin of a configuration do it, in the same environment.
    fn delegate(
        &self,
        command: &str,
        wanted: &Wanted,
        mut configuration: Value,
    ) -> Result<Option<Value>, Failure> {
        configuration["cniVersion"] = json!(wanted.cni_version);
        if let Some(before) = &wanted.prev_result {
            configuration["prevResult"] = before.clone();
        }
        let kind = configuration["type"].as_str().unwrap_or_default();
        let program = self.find(kind)?;
        let failed = |error: io::Error| Failure::of_file("running", &program, &error);
        let mut child = Command::new(&program)
            .envs(&self.environment)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let written = match child.stdin.take() {
            Some(mut input) => input.write_all(configuration.to_string().as_bytes()),
            None => Ok(()),
        };
        let output = child.wait_with_output().map_err(failed)?;
        let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            written.map_err(failed)?;
            return match (command, said) {
                ("ADD", None) => Err(Failure::new(
                    Failure::DECODING,
                    format!("the result of {kind}"),
                    String::from_utf8_lossy(&output.stdout),
                )),
                ("ADD", result) => Ok(result),
                _ => Ok(None),
            };
        }
        // Its own words, if it has any.
        let said = said.unwrap_or_default();
        let code = said["code"].as_u64().and_then(|code| code.try_into().ok());
        let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
        let message = match text("msg") {
            none if none.is_empty() => format!("it ended with {}", output.status),
            message => message,
        };
        Err(Failure::new(
            code.unwrap_or(Failure::IO),
            format!("{kind}: {message}"),
            text("details"),
        ))
    }

    /// A plugin of that name.
    fn find(&self, kind: &str) -> Result<PathBuf, Failure> {
        let folders = self.environment.get("CNI_PATH");
        let folders: Vec<PathBuf> = folders
            .map(|folders| std::env::split_paths(folders).collect())
            .unwrap_or_default();
        let mut files = folders.iter().map(|folder| folder.join(kind));
        let found = files.find(|file| is_name(kind) && file.is_file());
        found.ok_or_else(|| {
            let message = format!("there is no plugin {kind:?} in CNI_PATH");
            Failure::new(Failure::ENVIRONMENT, message, format!("{folders:?}"))
        })
    }

    fn text(&self, name: &str) -> Result<&str, Failure> {
        let value = self.environment.get(name).and_then(|value| value.to_str());
        let value = value.filter(|value| !value.is_empty());
        value.ok_or_else(|| Failure::new(Failure::ENVIRONMENT, name, "it is not set"))
    }
}

/// What the agent's own containers are attached with.
fn delegate(wanted: &Wanted, overlay: &str) -> Result<Value, Failure> {
    let path = wanted.configurations.join(file_name(overlay));
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Failure::LATER,
            format!("this node has no part of the overlay {overlay:?} (yet)"),
            format!("the agent has not written {}", path.display()),
        ),
        _ => Failure::of_file("reading", &path, &error),
    })?;
    let mut found: Value = serde_json::from_slice(&text).map_err(|error| {
        Failure::new(
            Failure::DECODING,
            path.display().to_string(),
            error.to_string(),
        )
    })?;
    let mut delegate = found["delegate"].take();
    if !delegate.is_object() {
        return Err(Failure::new(
            Failure::CONFIGURATION,
            path.display().to_string(),
            "it is none of the agent's",
        ));
    }
    // By this name addresses are noted.
    delegate["name"] = found["name"].take();
    Ok(delegate)
}

fn write(note: &Path, delegate: &Value) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::of_file("writing", note, &error);
    let folder = note.parent().unwrap_or(note);
    std::fs::create_dir_all(folder).map_err(failed)?;
    replace(note, delegate.to_string().as_bytes()).map_err(failed)
}

fn noted(note: &Path) -> Result<Option<Value>, Failure> {
    match std::fs::read(note) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            Failure::new(
                Failure::DECODING,
                note.display().to_string(),
                error.to_string(),
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::of_file("reading", note, &error)),
    }
}

/// Letters, digits, `_`, `.` and `-`, of which the first is a letter or digit: nothing that leads elsewhere in a path.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The plugin as a program.
pub fn main() -> ExitCode {
    let done = match Call::of_process() {
        Ok(call) => call.run(),
        Err(error) => {
            let failure = Failure::new(Failure::IO, "reading standard input", error.to_string());
            Err((oldest(), failure))
        }
    };
    let (said, code) = match done {
        Ok(result) => (result, ExitCode::SUCCESS),
        Err((version, failure)) => (Some(failure.document(&version)), ExitCode::FAILURE),
    };
    if let Some(said) = said {
        // Whoever does not listen knows by the status.
        let _ = writeln!(io::stdout(), "{said}");
    }
    code
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A plugin that notes what it is asked, answers to `ADD`, and fails once it is told to.
    const BRIDGE: &str = "#!/bin/sh\nhere=$(dirname \"$0\")\ncat >\"$here/$CNI_COMMAND\"\n\
        if [ -e \"$here/broken\" ]; then echo '{\"code\": 117, \"msg\": \"no bridge\", \"details\": \"d\"}'; exit 1; fi\n\
        [ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\": \"1.0.0\", \"ips\": [{\"address\": \"9.0.0.2/25\"}]}'\nexit 0\n";
    /// As the agent writes it.
    const WRITTEN: &str = r#"{"name": "dcos", "cniVersion": "0.3.1", "type": "mesos-cni-port-mapper",
        "delegate": {"type": "bridge", "bridge": "m-dcos", "ipam": {"type": "host-local", "dataDir": "/leases"}}}"#;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let bridge = folder.path().join("bridge");
            std::fs::write(&bridge, BRIDGE).unwrap();
            std::fs::set_permissions(&bridge, PermissionsExt::from_mode(0o755)).unwrap();
            Self(folder)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn is_known(&self) {
            std::fs::write(self.path("overlay-dcos.conf"), WRITTEN).unwrap();
        }

        fn call(&self, command: &str, more: &Value) -> Result<Option<Value>, (String, Failure)> {
            let mut input = json!({"cniVersion": "1.0.0", "name": "dcos", "type": NAME, "configurations": self.0.path()});
            for (name, value) in more.as_object().unwrap() {
                input[name] = value.clone();
            }
            self.ask(command, "c1", &input.to_string())
        }

        fn ask(
            &self,
            command: &str,
            container: &str,
            input: &str,
        ) -> Result<Option<Value>, (String, Failure)> {
            let variables = [
                ("CNI_COMMAND", command.into()),
                ("CNI_CONTAINERID", container.into()),
                ("CNI_NETNS", "/var/run/netns/n".into()),
                ("CNI_IFNAME", "eth0".into()),
                ("CNI_PATH", self.0.path().into()),
            ];
            let environment =
                variables.map(|(name, value): (&str, OsString)| (name.to_owned(), value));
            let environment = environment
                .into_iter()
                .filter(|(_, value)| !value.is_empty());
            let call = Call {
                environment: environment.collect(),
                input: input.as_bytes().to_vec(),
            };
            call.run()
        }

        /// What the plugin behind was told at a command.
        fn told(&self, command: &str) -> Value {
            serde_json::from_slice(&std::fs::read(self.path(command)).unwrap()).unwrap()
        }

        fn notes(&self) -> usize {
            std::fs::read_dir(self.path(".attached/dcos")).map_or(0, Iterator::count)
        }
    }

    fn code(answer: Result<Option<Value>, (String, Failure)>) -> u32 {
        answer.unwrap_err().1.code
    }

    #[test]
    fn a_container_gets_what_the_agents_own_get() {
        let place = Place::new();
        place.is_known();
        let result = place.call("ADD", &json!({})).unwrap().unwrap();
        assert_eq!(result["ips"][0]["address"], "9.0.0.2/25");
        let told = place.told("ADD");
        assert_eq!(
            (&told["name"], &told["cniVersion"]),
            (&json!("dcos"), &json!("1.0.0"))
        );
        assert_eq!(told["ipam"]["dataDir"], "/leases");
        let before = json!({"prevResult": result});
        assert_eq!(place.call("CHECK", &before).unwrap(), None);
        assert_eq!(place.told("CHECK")["prevResult"], result);
        // Even where the agent has been told of another part meanwhile, or the overlay is no more.
        std::fs::remove_file(place.path("overlay-dcos.conf")).unwrap();
        assert_eq!(place.call("DEL", &before).unwrap(), None);
        assert_eq!(place.told("DEL")["bridge"], "m-dcos");
        assert_eq!(place.notes(), 0);
        // Again, as the specification lets callers do.
        std::fs::remove_file(place.path("DEL")).unwrap();
        assert_eq!(place.call("DEL", &json!({})).unwrap(), None);
        assert!(!place.path("DEL").exists());
        assert_eq!(code(place.call("CHECK", &json!({}))), 3);
    }

    #[test]
    fn a_network_may_have_a_name_of_its_own() {
        let place = Place::new();
        place.is_known();
        let named = json!({"name": "pods", "overlay": "dcos"});
        place.call("ADD", &named).unwrap();
        assert_eq!(
            place.told("ADD")["name"],
            "dcos",
            "where addresses are noted"
        );
        assert_eq!(
            code(place.call("ADD", &json!({"name": "pods"}))),
            Failure::LATER
        );
    }

    #[test]
    fn what_fails_half_way_can_be_taken_back() {
        let place = Place::new();
        place.is_known();
        std::fs::write(place.path("broken"), "").unwrap();
        let (version, failure) = place.call("ADD", &json!({})).unwrap_err();
        assert_eq!(version, "1.0.0");
        assert_eq!(failure, Failure::new(117, "bridge: no bridge", "d"));
        assert_eq!(code(place.call("DEL", &json!({}))), 117);
        assert_eq!(place.notes(), 1, "to be tried again");
        std::fs::remove_file(place.path("broken")).unwrap();
        place.call("DEL", &json!({})).unwrap();
        assert_eq!(place.notes(), 0);
    }

    #[test]
    fn mistakes_have_the_codes_of_the_specification() {
        let place = Place::new();
        let version = place.ask("VERSION", "", "").unwrap().unwrap();
        assert_eq!(version["supportedVersions"], json!(VERSIONS));
        assert_eq!(code(place.call("ADD", &json!({}))), Failure::LATER);
        place.is_known();
        assert_eq!(
            code(place.call("ADD", &json!({"cniVersion": "0.2.0"}))),
            Failure::VERSION
        );
        assert_eq!(
            code(place.call("CHECK", &json!({"cniVersion": "0.3.1"}))),
            Failure::VERSION
        );
        assert_eq!(code(place.call("GET", &json!({}))), Failure::ENVIRONMENT);
        assert_eq!(
            code(place.call("ADD", &json!({"name": "../dcos"}))),
            Failure::CONFIGURATION
        );
        assert_eq!(code(place.ask("ADD", "c1", "{")), Failure::DECODING);
        let input =
            json!({"cniVersion": "0.4.0", "name": "dcos", "configurations": place.0.path()})
                .to_string();
        for container in ["", "../c", "a/b", "-c"] {
            assert_eq!(
                code(place.ask("ADD", container, &input)),
                Failure::ENVIRONMENT,
                "{container:?}"
            );
        }
        std::fs::remove_file(place.path("bridge")).unwrap();
        assert_eq!(code(place.ask("ADD", "c1", &input)), Failure::ENVIRONMENT);
        let (version, failure) = place.ask("ADD", "c1", &input).unwrap_err();
        assert_eq!(failure.document(&version)["cniVersion"], "0.4.0");
    }
}
