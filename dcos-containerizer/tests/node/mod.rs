//! A node of its own for tests: a launcher, a runtime directory, sandboxes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dcos_containerizer::containerizer::{
    ContainerConfig, Containerizer, LauncherProgram, SwitchboardProgram, Universal, UniversalConfig,
};
use dcos_containerizer::fetcher::{FetchError, FetchRequest, Fetcher};
use dcos_containerizer::isolator::network::{ContainerNetwork, NoNetworks};
use dcos_containerizer::isolator::{IsolationConfig, Isolators, UserNamespaces, VolumeGids};
use dcos_containerizer::logger::{
    ContainerLogger, JournaldLogger, JournaldSettings, RotatingFiles, Rotation,
};
use dcos_containerizer::oci::Runtimes;
use dcos_containerizer::provisioner::{
    Backend, ImageProvisioner, ImageProvisionerConfig, Provisioner,
};
use dcos_containerizer::secret::{SecretResolver, ValuesOnly};
use dcos_proto::mesos::{CommandInfo, ContainerId};

/// Fetches nothing.
#[derive(Debug)]
struct NoFetcher;

#[async_trait]
impl Fetcher for NoFetcher {
    async fn fetch(&self, _: &FetchRequest) -> Result<(), FetchError> {
        Ok(())
    }
}

/// A node of its own: a launcher, a runtime directory, sandboxes. Gone when dropped.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    /// `--isolation`.
    pub(crate) isolation: &'static str,
    pub(crate) images: Option<PathBuf>,
    /// `--switch_user`.
    pub(crate) switch_user: bool,
    /// What is begun if no launcher runs, and what one of another version becomes.
    pub(crate) launcher: PathBuf,
    /// What containers may name.
    pub(crate) networks: Arc<dyn ContainerNetwork>,
    /// `--volume_gid_range`.
    pub(crate) volume_gids: Option<VolumeGids>,
    /// Where secrets come from.
    pub(crate) secrets: Arc<dyn SecretResolver>,
    /// Where output goes, besides files.
    pub(crate) journald: Option<PathBuf>,
    universals: Mutex<Vec<Universal>>,
}

impl Node {
    /// Without any isolator if `isolation` is empty.
    pub(crate) fn new(isolation: &'static str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            isolation,
            images: None,
            switch_user: true,
            launcher: launcher(),
            networks: Arc::new(NoNetworks),
            volume_gids: None,
            secrets: Arc::new(ValuesOnly),
            journald: None,
            universals: Mutex::default(),
        }
    }

    /// What makes images into roots.
    fn provisioner(&self) -> Option<ImageProvisioner> {
        let images = self.images.clone()?;
        Some(ImageProvisioner::new(ImageProvisionerConfig {
            docker: Some(dcos_image::Source::Directory(images)),
            appc: None,
            store: self.dir.path().join("store"),
            roots: self.dir.path().join("provisioner"),
            backend: Backend::Auto,
            kept: Vec::new(),
            secrets: Arc::clone(&self.secrets),
            max_layer: 1 << 30,
        }))
    }

    pub(crate) async fn containerizer(&self) -> Universal {
        let provisioner = self.provisioner();
        let isolators = if self.isolation.is_empty() {
            Isolators::default()
        } else {
            let config = IsolationConfig {
                isolation: self.isolation.to_owned(),
                cgroups_root: self.cgroups(),
                cgroups_enable_cfs: true,
                networks: Arc::clone(&self.networks),
                volume_gids: self.volume_gids.clone(),
                secrets: Arc::clone(&self.secrets),
                runtime_dir: self.dir.path().join("run"),
                docker_volume_plugin_dirs: vec![self.dir.path().join("plugins")],
                loop_volumes_dir: Some(self.dir.path().join("loop")),
                volume_images: provisioner.as_ref().map(|images| {
                    let images: Arc<dyn Provisioner> = Arc::new(images.for_volumes());
                    images
                }),
                ..IsolationConfig::default()
            };
            Isolators::from_config(&config).unwrap()
        };
        let provisioner = provisioner.map(|images| Arc::new(images) as Arc<dyn Provisioner>);
        let config = UniversalConfig {
            runtime_dir: self.dir.path().join("run"),
            launcher: LauncherProgram {
                program: self.launcher.clone(),
                arguments: Vec::new(),
            },
            switchboard: Self::switchboard(),
            runtimes: Runtimes::default(),
            isolators,
            provisioner,
            fetcher: Arc::new(NoFetcher),
            logger: self.logger(),
            switch_user: self.switch_user,
            sandbox_directory: "/mnt/mesos/sandbox".into(),
            user_namespaces: UserNamespaces::default(),
            destroy_timeout: Duration::from_mins(1),
        };
        self.detach();
        let universal = Universal::new(config).await.unwrap();
        self.universals.lock().unwrap().push(universal.clone());
        universal
    }

    fn logger(&self) -> Arc<dyn ContainerLogger> {
        let rotation = Rotation::default();
        let Some(socket) = self.journald.clone() else {
            return Arc::new(RotatingFiles::new(rotation));
        };
        let settings = JournaldSettings::from_parameters(&BTreeMap::new(), rotation);
        let settings = JournaldSettings {
            socket,
            ..settings.unwrap()
        };
        Arc::new(JournaldLogger::new(settings).unwrap())
    }

    /// A folder of our own in each hierarchy: other nodes take unknown cgroups for leftovers.
    fn cgroups(&self) -> PathBuf {
        let name = self.dir.path().file_name().unwrap();
        format!("mesos-test{}", name.display()).into()
    }

    /// This program again; it can be one if it has a test of that name.
    fn switchboard() -> SwitchboardProgram {
        SwitchboardProgram {
            program: std::env::current_exe().unwrap(),
            arguments: ["--exact", "switchboard", "--"].map(str::to_owned).into(),
        }
    }

    /// What a dying agent does.
    pub(crate) fn detach(&self) {
        for universal in self.universals.lock().unwrap().drain(..) {
            universal.detach();
        }
    }

    pub(crate) async fn recovered(&self, known: &[&ContainerId]) -> Universal {
        let universal = self.containerizer().await;
        let known = known.iter().map(|&id| id.clone()).collect();
        universal.recover(&known).await.unwrap();
        universal
    }

    pub(crate) fn task(&self, id: &ContainerId, command: &str) -> ContainerConfig {
        ContainerConfig {
            command: Some(shell(command)),
            environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
            directory: self.dir.path().join("sandbox").join(id.to_string()),
            ..ContainerConfig::default()
        }
    }

    pub(crate) fn read(&self, id: &ContainerId, name: &str) -> String {
        let path = self.dir.path().join("sandbox").join(id.to_string());
        std::fs::read_to_string(path.join(name)).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.detach();
        let socket = self.dir.path().join("run/launcher.sock");
        if let Ok(client) = dcos_launcher::Client::connect(&socket) {
            client.stop().ok();
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            std::fs::remove_dir(hierarchy.path().join(self.cgroups())).ok();
        }
    }
}

/// The launcher program, built beside this test.
pub(crate) fn launcher() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("dcos-launcher");
    if !program.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let built = Command::new(cargo)
            .args([
                "build",
                "-q",
                "-p",
                "dcos-launcher",
                "--bin",
                "dcos-launcher",
            ])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .status()
            .unwrap();
        assert!(built.success(), "building the launcher");
    }
    program
}

pub(crate) fn shell(value: &str) -> CommandInfo {
    CommandInfo {
        value: Some(value.into()),
        ..CommandInfo::default()
    }
}
