//! Output that goes to journald, as DC/OS has it.
//!
//! The task prints to a file as ever ([`RotatingFiles`]), from which the agent sends what is new once a second: a task
//! never waits for journald, nor for an agent that is not there. With `journald` alone little of the file is kept.
//!
//! # Source
//! `com_mesosphere_mesos_JournaldLogger` of dcos-mesos-modules (`journald/`): its parameters, variables and fields.
//! There, output passes through a pipe and a process a stream. The departures are in `docs/container-logger.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dcos_core::units::parse_bytes;
use dcos_proto::mesos::ContainerId;
use rustix::fs::OFlags;

use super::files::{RotatingFiles, open_log};
use super::journal::{self, Journal};
use super::tail::{Progress, Tail};
use super::{ContainerLogger, LogRequest, LoggerError, Logs, Rotation, RotationError};
use crate::containerizer::sandbox;

/// What `--container_logger` calls it.
pub const JOURNALD: &str = "com_mesosphere_mesos_JournaldLogger";

/// What names of variables begin with by which a task asks for settings of its own.
const PREFIX: &str = "CONTAINER_LOGGER_";

/// How often it is looked for what is new.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the end of a container waits for a journald that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits in between, where the system has no room and says so at once.
const PAUSE: Duration = Duration::from_millis(20);

/// What a label takes in the original's JSON beside its key and value.
const PADDING: usize = r#"{"key":"","value":""},"#.len();

/// How a [`JournaldLogger`] works: the parameters of the original's module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournaldSettings {
    /// `destination_type`
    pub destination: Destination,
    /// How files are rotated where nobody says otherwise.
    pub rotation: Rotation,
    /// Settings of tasks that ask for nothing: `logrotate_max_stdout_size`, `logrotate_stdout_options`, and those of
    /// `stderr`, as a task would write them ([`Rotation::for_task`]).
    pub defaults: BTreeMap<String, String>,
    /// `extra_labels`
    pub extra_labels: BTreeMap<String, String>,
    /// `max_label_payload_size`, bytes.
    pub max_labels: usize,
    /// Where journald listens.
    pub socket: PathBuf,
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To files in the sandbox.
    Logrotate,
    /// To journald.
    Journald,
    /// To both.
    Both,
}

/// Parameters that say nothing here.
const UNUSED: [&str; 5] = [
    "companion_dir",
    "logrotate_path",
    "libprocess_num_worker_threads",
    "fluentbit_ip",
    "fluentbit_port",
];

/// Where the original's output goes by default.
const FLUENT_BIT: [&str; 2] = ["fluentbit", "fluentbit+logrotate"];

impl Destination {
    fn parse(variable: &str, value: &str) -> Result<Self, RotationError> {
        let reason = match value {
            "logrotate" => return Ok(Self::Logrotate),
            "journald" => return Ok(Self::Journald),
            "journald+logrotate" => return Ok(Self::Both),
            other if FLUENT_BIT.contains(&other) => "nothing speaks to Fluent Bit here",
            _ => "unknown",
        };
        let wanted = "`logrotate`, `journald` or `journald+logrotate` is wanted";
        Err(refused(variable, value, format!("{reason}: {wanted}")))
    }
}

fn refused(variable: &str, value: &str, reason: impl Into<String>) -> RotationError {
    RotationError {
        variable: variable.to_owned(),
        value: value.to_owned(),
        reason: reason.into(),
    }
}

impl JournaldSettings {
    /// From parameters of the original's module; `rotation` holds where they say nothing.
    ///
    /// # Errors
    /// [`RotationError`] naming the parameter that makes no sense or is unknown.
    pub fn from_parameters(
        parameters: &BTreeMap<String, String>,
        rotation: Rotation,
    ) -> Result<Self, RotationError> {
        let mut settings = Self {
            destination: Destination::Journald,
            rotation,
            defaults: BTreeMap::new(),
            extra_labels: BTreeMap::new(),
            max_labels: 10 << 10,
            socket: journal::SOCKET.into(),
        };
        for (name, value) in parameters {
            match &**name {
                // DC/OS's own units say that: what they print is in files all the same.
                "destination_type" if FLUENT_BIT.contains(&&**value) => {
                    tracing::warn!(
                        "not used here: {name}={value}: nothing speaks to Fluent Bit; output goes to files"
                    );
                    settings.destination = Destination::Logrotate;
                }
                "destination_type" => settings.destination = Destination::parse(name, value)?,
                "extra_labels" => settings.extra_labels = labels(name, value)?,
                "max_label_payload_size" => {
                    let size = parse_bytes(value).ok().filter(|size| *size <= 1 << 20);
                    let size = size.and_then(|size| usize::try_from(size).ok());
                    settings.max_labels =
                        size.ok_or_else(|| refused(name, value, "expected 1MB at most"))?;
                }
                "environment_variable_prefix" if value != PREFIX => {
                    return Err(refused(name, value, format!("it is `{PREFIX}` here")));
                }
                "environment_variable_prefix" => {}
                name if UNUSED.contains(&name) => {
                    tracing::warn!(
                        "not used here: {name}={value}: only the original's programs need it"
                    );
                }
                "logrotate_max_stdout_size"
                | "logrotate_max_stderr_size"
                | "logrotate_stdout_options"
                | "logrotate_stderr_options" => {
                    let variable = format!("{PREFIX}{}", name.to_ascii_uppercase());
                    settings.defaults.insert(variable, value.clone());
                }
                _ => return Err(refused(name, value, "unknown parameter")),
            }
        }
        let defaults = settings.rotation_of(&BTreeMap::new());
        for stream in ["STDOUT", "STDERR"] {
            settings.rotation.for_task(stream, &defaults)?;
        }
        Ok(settings)
    }

    /// What a task asks for about rotation, and what it is given where it does not. As in the original, how many files
    /// are kept is not its to say.
    fn rotation_of(&self, environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = self.defaults.clone();
        let sizes = environment
            .iter()
            .filter(|(name, _)| name.ends_with("_SIZE"));
        all.extend(sizes.map(|(name, value)| (name.clone(), value.clone())));
        // The module's name of it is longer than Mesos's.
        let own = |name: &str| name.replacen("_LOGROTATE_MAX_", "_MAX_", 1);
        all.into_iter()
            .map(|(name, value)| (own(&name), value))
            .collect()
    }

    fn destination_of(&self, request: &LogRequest) -> Result<Destination, RotationError> {
        let variable = format!("{PREFIX}DESTINATION_TYPE");
        let asked = request.environment.get(&variable);
        asked.map_or(Ok(self.destination), |value| {
            Destination::parse(&variable, value)
        })
    }

    /// The fields that each entry of `stream` has besides its text.
    fn fields(&self, request: &LogRequest, stream: &str) -> Result<Vec<u8>, RotationError> {
        let variable = format!("{PREFIX}EXTRA_LABELS");
        let extra = match request.environment.get(&variable) {
            Some(value) => labels(&variable, value)?,
            None => self.extra_labels.clone(),
        };
        let origin = request.origin.as_ref();
        let own = origin.map_or(&[][..], |origin| &origin.labels[..]);
        let mut entry = Vec::new();
        let mut size = 0;
        let extra = extra.iter();
        for (key, value) in own.iter().map(|(key, value)| (key, value)).chain(extra) {
            size += PADDING + key.len() + value.len();
            if size > self.max_labels {
                break;
            }
            let name = key.to_ascii_uppercase();
            if !is_reserved(&name) {
                journal::add(&mut entry, &name, value.as_bytes());
            }
        }
        let mut add = |name: &str, value: &str| journal::add(&mut entry, name, value.as_bytes());
        if let Some(origin) = origin {
            add("FRAMEWORK_ID", &origin.framework);
            add("EXECUTOR_ID", &origin.executor);
            add("AGENT_ID", &origin.agent);
        }
        add("CONTAINER_ID", &request.id.to_string());
        let name = origin.map_or("mesos-container", |origin| &origin.name);
        add("SYSLOG_IDENTIFIER", name);
        add("STREAM", stream);
        Ok(entry)
    }
}

/// Fields that say whose an entry is: no label of a task may claim to be somebody else's.
fn is_reserved(name: &str) -> bool {
    let ours = [
        "FRAMEWORK_ID",
        "EXECUTOR_ID",
        "AGENT_ID",
        "CONTAINER_ID",
        "SYSLOG_IDENTIFIER",
        "STREAM",
        "MESSAGE",
        // What kind of entry it is: `journalctl -u` shows root's about a core dump as the unit's.
        "MESSAGE_ID",
    ];
    // Of root journald believes what process, and so which unit, an entry is about.
    ours.contains(&name) || name.starts_with("OBJECT_") || name.starts_with("COREDUMP_")
}

fn labels(variable: &str, value: &str) -> Result<BTreeMap<String, String>, RotationError> {
    let labels: serde_json::Map<String, serde_json::Value> = serde_json::from_str(value)
        .map_err(|error| refused(variable, value, format!("no object of JSON: {error}")))?;
    // As in the original, what is no text is passed over.
    let text = |(key, value): (String, serde_json::Value)| {
        value.as_str().map(|value| (key, value.to_owned()))
    };
    Ok(labels.into_iter().filter_map(text).collect())
}

/// Keeps output in files and sends it to journald, as settings and tasks say.
#[derive(Debug)]
pub struct JournaldLogger {
    settings: JournaldSettings,
    /// For those whose files are kept.
    kept: RotatingFiles,
    /// For those whose output is sent only: what was not sent yet.
    passing: RotatingFiles,
    forwarder: Arc<Forwarder>,
}

#[derive(Debug)]
struct Forwarder {
    journal: Journal,
    tails: Mutex<BTreeMap<ContainerId, Tails>>,
}

type Tails = Arc<Mutex<Vec<Tail>>>;

impl JournaldLogger {
    /// A logger as `settings` say.
    ///
    /// Call it inside a tokio runtime: it looks after the files from there until it is dropped.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn new(settings: JournaldSettings) -> io::Result<Self> {
        let forwarder = Arc::new(Forwarder {
            journal: Journal::new(&settings.socket)?,
            tails: Mutex::default(),
        });
        tokio::spawn(forward(Arc::downgrade(&forwarder)));
        // So much waits for a journald that is away; the oldest goes first.
        let passing = Rotation {
            max_size: 1 << 20,
            max_age: None,
            keep: 1,
            compress: false,
        };
        Ok(Self {
            kept: RotatingFiles::new(settings.rotation),
            passing: RotatingFiles::new(passing),
            settings,
            forwarder,
        })
    }

    /// Who keeps a container's files, and what that is asked.
    fn files(&self, request: &LogRequest) -> Result<(&RotatingFiles, LogRequest), LoggerError> {
        let mut asked = request.clone();
        let files = match self.settings.destination_of(request)? {
            Destination::Journald => {
                asked.environment = BTreeMap::new();
                &self.passing
            }
            Destination::Logrotate | Destination::Both => {
                asked.environment = self.settings.rotation_of(&request.environment);
                &self.kept
            }
        };
        Ok((files, asked))
    }

    /// Has what a container prints sent from `files`.
    fn follow(&self, request: &LogRequest, files: [File; 2]) -> Result<(), LoggerError> {
        let [stdout, stderr] = files;
        let mut tails = Vec::new();
        for (name, stream, file) in [("stdout", "STDOUT", stdout), ("stderr", "STDERR", stderr)] {
            let fields = self.settings.fields(request, stream)?;
            tails.push(Tail::new(&request.directory, name, file, fields));
        }
        let tails = Arc::new(Mutex::new(tails));
        self.forwarder.lock().insert(request.id.clone(), tails);
        Ok(())
    }
}

fn opened(directory: &Path, name: &str, file: io::Result<File>) -> Result<File, LoggerError> {
    file.map_err(|source| LoggerError::Open {
        path: directory.join(name),
        source,
    })
}

#[async_trait]
impl ContainerLogger for JournaldLogger {
    fn name(&self) -> &'static str {
        JOURNALD
    }

    async fn prepare(&self, request: &LogRequest) -> Result<Logs, LoggerError> {
        let (files, asked) = self.files(request)?;
        let logs = files.prepare(&asked).await?;
        if self.settings.destination_of(request)? != Destination::Logrotate {
            let clone = |name, file: &File| opened(&request.directory, name, file.try_clone());
            let streams = [
                clone("stdout", &logs.stdout)?,
                clone("stderr", &logs.stderr)?,
            ];
            self.follow(request, streams)?;
        }
        Ok(logs)
    }

    async fn recover(&self, request: &LogRequest) -> Result<(), LoggerError> {
        let (files, asked) = self.files(request)?;
        files.recover(&asked).await?;
        if self.settings.destination_of(request)? != Destination::Logrotate {
            let open = |name: &str| {
                let file = sandbox::open(&request.directory)
                    .and_then(|(_, folder)| open_log(&folder, name, OFlags::empty()));
                opened(&request.directory, name, file)
            };
            let streams = [open("stdout")?, open("stderr")?];
            self.follow(request, streams)?;
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) {
        let tails = self.forwarder.lock().remove(id);
        if let Some(tails) = tails {
            let forwarder = Arc::clone(&self.forwarder);
            let drained = tokio::task::spawn_blocking(move || forwarder.drain(&tails)).await;
            if let Ok(left @ 1..) = drained {
                tracing::warn!(container = %id, left, "bytes of its output were not sent to the journal");
            }
        }
        self.kept.cleanup(id).await;
        self.passing.cleanup(id).await;
    }
}

impl Forwarder {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Tails>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is new; whether there is more.
    fn forward(&self) -> bool {
        let all: Vec<_> = self
            .lock()
            .iter()
            .map(|(id, one)| (id.clone(), Arc::clone(one)))
            .collect();
        let mut more = false;
        for (id, tails) in all {
            let mut tails = tails.lock().unwrap_or_else(PoisonError::into_inner);
            for tail in &mut *tails {
                match tail.forward(&self.journal, Instant::now(), false) {
                    Ok(Progress::Done) => {}
                    Ok(Progress::More) => more = true,
                    // Nor does it take anything of the others'.
                    Ok(Progress::Stuck(_)) => return false,
                    Err(error) => {
                        tracing::debug!(container = %id, %error, "its log cannot be read");
                    }
                }
            }
        }
        more
    }

    /// Sends all that is left of a container that ended; how many bytes could not be sent.
    fn drain(&self, tails: &Tails) -> u64 {
        let mut tails = tails.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + PATIENCE;
        for tail in &mut *tails {
            loop {
                match tail.forward(&self.journal, Instant::now(), true) {
                    Ok(Progress::More) => {}
                    Ok(Progress::Stuck(journal::Sent::Busy)) if Instant::now() < deadline => {
                        std::thread::sleep(PAUSE);
                    }
                    _ => break,
                }
            }
        }
        tails.iter().map(Tail::left).sum()
    }
}

/// Sends what is new, again and again.
async fn forward(forwarder: Weak<Forwarder>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            let Some(forwarder) = forwarder.upgrade() else {
                return;
            };
            let work = tokio::task::spawn_blocking(move || forwarder.forward());
            match work.await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "sending to the journal");
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logger::LogOrigin;

    fn parameters(all: &[(&str, &str)]) -> Result<JournaldSettings, RotationError> {
        let all = all
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        JournaldSettings::from_parameters(&all.collect(), Rotation::default())
    }

    fn request(environment: &[(&str, &str)]) -> LogRequest {
        let environment = environment.iter();
        LogRequest {
            id: ContainerId::root("p").child("c"),
            environment: environment
                .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()))
                .collect(),
            ..LogRequest::default()
        }
    }

    fn fields(settings: &JournaldSettings, request: &LogRequest) -> String {
        String::from_utf8(settings.fields(request, "STDOUT").unwrap()).unwrap()
    }

    #[test]
    fn parameters_are_those_of_the_module() {
        let settings = parameters(&[
            ("destination_type", "journald+logrotate"),
            ("logrotate_max_stdout_size", "2MB"),
            ("logrotate_stdout_options", "rotate 4\ncompress"),
            ("companion_dir", "/opt/mesosphere/bin"),
            ("environment_variable_prefix", "CONTAINER_LOGGER_"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.destination, Destination::Both);
        // A task says how large, and not how many.
        let asked = request(&[
            ("LOGROTATE_MAX_STDERR_SIZE", "1MB"),
            ("LOGROTATE_STDOUT_OPTIONS", "rotate 0"),
        ]);
        let rotation = settings.rotation_of(&asked.environment);
        let of = |stream| settings.rotation.for_task(stream, &rotation).unwrap();
        let stdout = of("STDOUT");
        assert_eq!(
            (stdout.max_size, stdout.keep, stdout.compress),
            (2 << 20, 4, true)
        );
        assert_eq!((of("STDERR").max_size, of("STDERR").keep), (1 << 20, 9));
        assert_eq!(settings.destination_of(&asked), Ok(Destination::Both));
        let asked = request(&[("DESTINATION_TYPE", "logrotate")]);
        assert_eq!(settings.destination_of(&asked), Ok(Destination::Logrotate));
        let asked = request(&[("DESTINATION_TYPE", "fluentbit")]);
        assert!(settings.destination_of(&asked).is_err());
        assert_eq!(parameters(&[]).unwrap().destination, Destination::Journald);
        let of_dcos = parameters(&[("destination_type", "fluentbit+logrotate")]).unwrap();
        assert_eq!(of_dcos.destination, Destination::Logrotate);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (name, value, reason) in [
            ("destination_type", "syslog", "unknown: `logrotate`"),
            ("max_label_payload_size", "2MB", "expected 1MB at most"),
            ("extra_labels", "[]", "no object of JSON"),
            (
                "environment_variable_prefix",
                "X_",
                "it is `CONTAINER_LOGGER_` here",
            ),
            ("colour", "red", "unknown parameter"),
            ("logrotate_max_stdout_szie", "2MB", "unknown parameter"),
            ("logrotate_max_stdout_size", "1KB", "expected 4KB at least"),
        ] {
            let error = parameters(&[(name, value)]).unwrap_err();
            assert!(error.reason.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn entries_say_whose_they_are_and_labels_do_not() {
        let settings = parameters(&[("extra_labels", r#"{"region": "r", "count": 1}"#)]).unwrap();
        let labels = [
            ("DCOS_SPACE", "/a"),
            ("tier", "x\ny"),
            ("framework_id", "another"),
            ("OBJECT_PID", "1"),
            ("message_id", "fc2e22bc6ee647b6b90729ab34a250b1"),
            ("COREDUMP_UNIT", "sshd.service"),
            ("not.a.name", "x"),
        ];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let with = |environment| LogRequest {
            origin: Some(LogOrigin {
                framework: "f".into(),
                executor: "e".into(),
                agent: "a".into(),
                name: "web".into(),
                labels: labels.to_vec(),
            }),
            ..request(environment)
        };
        let own = "FRAMEWORK_ID=f\nEXECUTOR_ID=e\nAGENT_ID=a\nCONTAINER_ID=p.c\nSYSLOG_IDENTIFIER=web\nSTREAM=STDOUT\n";
        let tier = "TIER\n\u{3}\0\0\0\0\0\0\0x\ny\n";
        assert_eq!(
            fields(&settings, &with(&[])),
            format!("DCOS_SPACE=/a\n{tier}REGION=r\n{own}")
        );
        assert_eq!(
            fields(&settings, &with(&[("EXTRA_LABELS", r#"{"region": "s"}"#)])),
            format!("DCOS_SPACE=/a\n{tier}REGION=s\n{own}")
        );
        let few = JournaldSettings {
            max_labels: PADDING + 12,
            ..settings.clone()
        };
        assert_eq!(fields(&few, &with(&[])), format!("DCOS_SPACE=/a\n{own}"));
        assert_eq!(
            fields(&settings, &request(&[])),
            "REGION=r\nCONTAINER_ID=p.c\nSYSLOG_IDENTIFIER=mesos-container\nSTREAM=STDOUT\n"
        );
    }
}
