//! Output of containers in a journal, by Debian's `systemd-journald` in mounts of its own. Needs root.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and tells why it was skipped"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dcos_containerizer::logger::{
    ContainerLogger, JournaldLogger, JournaldSettings, LogOrigin, LogRequest, Rotation,
};
use dcos_proto::mesos::ContainerId;
use dcos_wire::files::Files;

const JOURNALD: &str = "/lib/systemd/systemd-journald";

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

struct Journald {
    folder: tempfile::TempDir,
    process: Option<Child>,
}

type Entry = serde_json::Map<String, serde_json::Value>;

impl Journald {
    /// A running one; none, and a word why, where there is none.
    fn new() -> Option<Self> {
        let has = |path: &str| Path::new(path).exists();
        let missing = if !rustix::process::geteuid().is_root() {
            "mounts need root"
        } else if !has(JOURNALD) || !has("/usr/bin/journalctl") {
            "there is no systemd-journald"
        } else if std::fs::read("/etc/machine-id")
            .unwrap_or_default()
            .is_empty()
        {
            "journald needs /etc/machine-id"
        } else {
            let folder = tempfile::tempdir().unwrap();
            for part in ["systemd/journal", "systemd/journald.conf.d", "log/journal"] {
                std::fs::create_dir_all(folder.path().join(part)).unwrap();
            }
            let settings = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n\
                            ForwardToConsole=no\nForwardToSyslog=no\nForwardToWall=no\n";
            let file = folder.path().join("systemd/journald.conf.d/test.conf");
            std::fs::write(file, settings).unwrap();
            let mut journald = Self {
                folder,
                process: None,
            };
            journald.start();
            return Some(journald);
        };
        eprintln!("skipped: {missing}");
        None
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("systemd/journal/socket")
    }

    fn start(&mut self) {
        let script = format!(
            "mount -t tmpfs run /run && mkdir /run/systemd /run/log && mount --bind \"$0/systemd\" /run/systemd && \
             mount --bind \"$0/log\" /run/log && exec {JOURNALD}"
        );
        let process = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn();
        self.process = Some(process.unwrap());
        // It is there when it has written something.
        let begin = Instant::now();
        while !self.socket().exists()
            || self
                .entries("SYSLOG_IDENTIFIER=systemd-journald")
                .is_empty()
        {
            assert!(begin.elapsed() < PATIENCE, "journald does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    fn entries(&self, of: &str) -> Vec<Entry> {
        let read = Command::new("journalctl")
            .arg("--directory")
            .arg(self.folder.path().join("log/journal"))
            .args(["--output=json", "--all", "--quiet", of])
            .output()
            .unwrap();
        let text = String::from_utf8(read.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The entries of a container, once there are so many.
    async fn said(&self, container: &str, count: usize) -> Vec<Entry> {
        let begin = Instant::now();
        loop {
            let entries = self.entries(&format!("CONTAINER_ID={container}"));
            if entries.len() >= count {
                return entries;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{} of {count} came",
                entries.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn logger(&self, destination: &str) -> JournaldLogger {
        let parameters = [
            ("destination_type", destination),
            ("extra_labels", r#"{"region": "eu"}"#),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings =
            JournaldSettings::from_parameters(&BTreeMap::from(parameters), Rotation::default());
        let settings = JournaldSettings {
            socket: self.socket(),
            ..settings.unwrap()
        };
        JournaldLogger::new(settings).unwrap()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

fn request(id: &str, sandbox: &Path) -> LogRequest {
    LogRequest {
        id: ContainerId::root(id),
        directory: sandbox.to_owned(),
        origin: Some(LogOrigin {
            framework: "f-1".into(),
            executor: "web.1".into(),
            agent: "a-1".into(),
            name: "web".into(),
            labels: vec![
                ("DCOS_SPACE".into(), "/prod".into()),
                ("note".into(), "a\nb".into()),
            ],
        }),
        ..LogRequest::default()
    }
}

fn texts(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .map(|entry| entry["MESSAGE"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_is_in_the_journal_with_its_fields() {
    let Some(journald) = Journald::new() else {
        return;
    };
    let sandbox = tempfile::tempdir().unwrap();
    let logger = journald.logger("journald+logrotate");
    let request = request("c-1", sandbox.path());
    let mut logs = logger.prepare(&request).await.unwrap();
    // More than a datagram holds.
    let long = "x".repeat(250_000);
    let text = format!("first\n\n{long}\nlast");
    logs.stdout.write_all(text.as_bytes()).unwrap();
    logs.stderr.write_all(b"\xff\x00\n").unwrap();
    logger.cleanup(&request.id).await;
    let entries = journald.said("c-1", 4).await;
    assert_eq!(entries.len(), 4);
    let (out, err): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|one| one["STREAM"] == "STDOUT");
    assert_eq!(texts(&out), ["first", &long, "last"]);
    assert_eq!(err[0]["MESSAGE"], serde_json::json!([255, 0]));
    for (name, value) in [
        ("FRAMEWORK_ID", "f-1"),
        ("EXECUTOR_ID", "web.1"),
        ("AGENT_ID", "a-1"),
        ("CONTAINER_ID", "c-1"),
        ("SYSLOG_IDENTIFIER", "web"),
        ("DCOS_SPACE", "/prod"),
        ("NOTE", "a\nb"),
        ("REGION", "eu"),
    ] {
        assert!(
            out.iter().chain(&err).all(|one| one[name] == value),
            "{name}"
        );
    }
    // The files are what they are without it.
    let files = Files::default();
    files.attach("/box", sandbox.path());
    let piece = files.read("/box/stdout", 0, None).unwrap();
    assert_eq!(piece.size, text.len() as u64);
    assert!(piece.data.starts_with(b"first\n\nxxx"));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_restart_of_ours_nor_one_of_journalds_loses_or_repeats_a_line() {
    let Some(mut journald) = Journald::new() else {
        return;
    };
    for destination in ["journald", "journald+logrotate"] {
        let sandbox = tempfile::tempdir().unwrap();
        let logger = journald.logger(destination);
        let id = format!("c-{}", destination.len());
        let request = request(&id, sandbox.path());
        let mut logs = logger.prepare(&request).await.unwrap();
        let mut say = |text: &str| logs.stdout.write_all(text.as_bytes()).unwrap();
        say("one\ntw");
        let said = journald.said(&id, 1).await;
        assert_eq!(texts(&said)[0], "one");
        journald.stop();
        // A task goes on, whoever listens.
        say("o\nthree\n");
        let lines: Vec<_> = (0..5000).map(|number| format!("line {number}")).collect();
        say(&lines.join("\n"));
        say("\n");
        drop(logger);
        let logger = journald.logger(destination);
        logger.recover(&request).await.unwrap();
        journald.start();
        say("end\n");
        let mut expected = vec!["one"];
        let said = journald.said(&id, 5003).await;
        let said = texts(&said);
        // What had no end for a while is a line of its own, as in the original.
        expected.extend(if said[1] == "tw" {
            &["tw", "o"][..]
        } else {
            &["two"]
        });
        expected.push("three");
        expected.extend(lines.iter().map(String::as_str));
        expected.push("end");
        let all = journald.said(&id, expected.len()).await;
        assert_eq!(texts(&all), expected);
        logger.cleanup(&request.id).await;
        assert_eq!(
            journald.said(&id, expected.len()).await.len(),
            expected.len()
        );
    }
}
