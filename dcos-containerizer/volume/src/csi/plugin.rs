//! One plugin: the way of its volumes to containers and back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::client::Client;
use super::messages::{
    AccessMode, AccessType, BlockVolume, Capabilities, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerRpc, ControllerUnpublishVolumeRequest, Empty,
    MountVolume, NodeGetInfoResponse, NodePublishVolumeRequest, NodeRpc, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};
use super::state::{State, Step};
use super::{PluginInfo, Service};
use crate::files::{self, gone};
use crate::{VolumeDriver, VolumeError, VolumeRequest};

/// Where the kernel tells its starts apart.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A plugin of the Container Storage Interface.
#[derive(Debug, Clone)]
pub struct CsiPlugin {
    info: PluginInfo,
    states: PathBuf,
    points: PathBuf,
    boot_id: String,
    node: Client,
    controller: Option<Client>,
}

/// What is asked of a plugin before anything else.
struct Abilities {
    stages: bool,
    /// The controller, and how it calls this node.
    attaches: Option<(Client, String)>,
}

impl CsiPlugin {
    /// The plugin that `info` describes. What is known of its volumes, and where they are
    /// published unless it says so, is below `work`.
    ///
    /// # Errors
    /// [`VolumeError::NoDriver`] without a node service; [`VolumeError::File`] if the kernel does
    /// not tell its start.
    pub fn new(info: PluginInfo, work: &Path) -> Result<Self, VolumeError> {
        let boot_id = fs::read_to_string(BOOT_ID).map_err(VolumeError::file("reading", BOOT_ID))?;
        let folder = work.join(&info.kind);
        let socket = info.socket(Service::NodeService);
        let node = socket.ok_or_else(|| VolumeError::NoDriver {
            name: info.kind.clone(),
            reason: "it has no endpoint of the service NODE_SERVICE".to_owned(),
        })?;
        let controller = info.socket(Service::ControllerService);
        let root = info.target_path_root.clone();
        Ok(Self {
            node: Client::new(&info.kind, &node),
            controller: controller.map(|socket| Client::new(&info.kind, &socket)),
            states: folder.join("volumes"),
            points: root.unwrap_or_else(|| folder.join("mounts")),
            boot_id: boot_id.trim().to_owned(),
            info,
        })
    }

    /// As if the kernel had told this of its start.
    #[cfg(test)]
    pub(super) fn booted(mut self, boot_id: &str) -> Self {
        boot_id.clone_into(&mut self.boot_id);
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        let name = files::file_name(name);
        self.states.join(name).with_added_extension("json")
    }

    fn point(&self, name: &str) -> PathBuf {
        self.points.join(files::file_name(name))
    }

    fn staging(&self, name: &str) -> PathBuf {
        self.point(name).join("staging")
    }

    fn target(&self, name: &str) -> PathBuf {
        self.point(name).join("target")
    }

    fn load(&self, name: &str) -> Result<Option<State>, VolumeError> {
        let file = self.file(name);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(VolumeError::file("reading", &file))?,
        };
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| VolumeError::file("understanding", file)(error.into()))?;
        Ok(Some(state.on(&self.boot_id)))
    }

    fn save(&self, state: &State) -> Result<(), VolumeError> {
        let file = self.file(&state.volume_id);
        let text = serde_json::to_vec(state).expect("it has text keys only");
        files::make_private(&self.states)
            .and_then(|()| files::replace(&file, &text))
            .map_err(VolumeError::file("writing", file))
    }

    async fn abilities(&self) -> Result<Abilities, VolumeError> {
        let node = "/csi.v1.Node/NodeGetCapabilities";
        let of_node: Capabilities = self.node.call(node, &Empty {}).await?;
        let mut attaches = None;
        if let Some(controller) = &self.controller {
            let method = "/csi.v1.Controller/ControllerGetCapabilities";
            let of_controller: Capabilities = controller.call(method, &Empty {}).await?;
            if of_controller.has(ControllerRpc::PublishUnpublishVolume) {
                let method = "/csi.v1.Node/NodeGetInfo";
                let info: NodeGetInfoResponse = self.node.call(method, &Empty {}).await?;
                attaches = Some((controller.clone(), info.node_id));
            }
        }
        Ok(Abilities {
            stages: of_node.has(NodeRpc::StageUnstageVolume),
            attaches,
        })
    }

    async fn make(
        &self,
        step: Step,
        abilities: &Abilities,
        volume: &VolumeRequest,
        state: &mut State,
    ) -> Result<(), VolumeError> {
        let volume_id = volume.name.clone();
        let volume_capability = Some(capability(volume));
        let volume_context = volume.options.clone();
        let (staging, target) = (self.staging(&volume_id), self.target(&volume_id));
        match step {
            Step::Attached => {
                let Some((controller, node_id)) = &abilities.attaches else {
                    return Ok(());
                };
                let request = ControllerPublishVolumeRequest {
                    volume_id,
                    node_id: node_id.clone(),
                    volume_capability,
                    // Not every plugin takes it; the access mode says the same.
                    readonly: false,
                    volume_context,
                };
                let method = "/csi.v1.Controller/ControllerPublishVolume";
                let answer = controller.call(method, &request).await?;
                let ControllerPublishVolumeResponse { publish_context } = answer;
                state.publish_context = publish_context;
            }
            Step::Staged if abilities.stages => {
                files::make_private(&staging).map_err(VolumeError::file("making", &staging))?;
                let request = NodeStageVolumeRequest {
                    volume_id,
                    publish_context: state.publish_context.clone(),
                    staging_target_path: text(&staging),
                    volume_capability,
                    secrets: volume.secrets.stage.clone(),
                    volume_context,
                };
                let method = "/csi.v1.Node/NodeStageVolume";
                let _: Empty = self.node.call(method, &request).await?;
            }
            Step::Published => {
                let made = if self.info.target_path_exists {
                    &target
                } else {
                    &self.point(&volume_id)
                };
                files::make_private(made).map_err(VolumeError::file("making", made))?;
                let staging_target_path = if abilities.stages {
                    text(&staging)
                } else {
                    String::new()
                };
                let request = NodePublishVolumeRequest {
                    volume_id,
                    publish_context: state.publish_context.clone(),
                    staging_target_path,
                    target_path: text(&target),
                    volume_capability,
                    readonly: volume.access.mode.is_read_only(),
                    secrets: volume.secrets.publish.clone(),
                    volume_context,
                };
                let method = "/csi.v1.Node/NodePublishVolume";
                let _: Empty = self.node.call(method, &request).await?;
                fs::metadata(&target)
                    .map_err(VolumeError::file("finding what it published", &target))?;
            }
            Step::Staged | Step::Away => {}
        }
        Ok(())
    }

    async fn undo(&self, step: Step, abilities: &Abilities, name: &str) -> Result<(), VolumeError> {
        let volume_id = name.to_owned();
        match step {
            Step::Published => {
                let target_path = text(&self.target(name));
                let request = NodeUnpublishVolumeRequest {
                    volume_id,
                    target_path,
                };
                self.node
                    .undo("/csi.v1.Node/NodeUnpublishVolume", &request)
                    .await
            }
            Step::Staged if abilities.stages => {
                let staging_target_path = text(&self.staging(name));
                let request = NodeUnstageVolumeRequest {
                    volume_id,
                    staging_target_path,
                };
                self.node
                    .undo("/csi.v1.Node/NodeUnstageVolume", &request)
                    .await
            }
            Step::Attached => {
                let Some((controller, node_id)) = &abilities.attaches else {
                    return Ok(());
                };
                let request = ControllerUnpublishVolumeRequest {
                    volume_id,
                    node_id: node_id.clone(),
                };
                let method = "/csi.v1.Controller/ControllerUnpublishVolume";
                controller.undo(method, &request).await
            }
            Step::Staged | Step::Away => Ok(()),
        }
    }

    /// Removes what was made for a volume; never what is in one.
    fn forget(&self, name: &str) -> Result<(), VolumeError> {
        let target = self.target(name);
        // Of a device it is a file.
        if fs::symlink_metadata(&target).is_ok_and(|target| !target.is_dir()) {
            gone(fs::remove_file(&target)).map_err(VolumeError::file("removing", &target))?;
        }
        for folder in [target, self.staging(name), self.point(name)] {
            gone(fs::remove_dir(&folder)).map_err(VolumeError::file("removing", folder))?;
        }
        let file = self.file(name);
        gone(fs::remove_file(&file)).map_err(VolumeError::file("removing", file))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn capability(volume: &VolumeRequest) -> VolumeCapability {
    let access = &volume.access;
    VolumeCapability {
        access_type: Some(if access.block {
            AccessType::Block(BlockVolume {})
        } else {
            AccessType::Mount(MountVolume {
                fs_type: access.file_system.clone().unwrap_or_default(),
                mount_flags: access.mount_flags.clone(),
            })
        }),
        access_mode: Some(AccessMode {
            mode: access.mode as i32,
        }),
    }
}

#[async_trait]
impl VolumeDriver for CsiPlugin {
    fn name(&self) -> &str {
        &self.info.kind
    }

    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError> {
        let name = &volume.name;
        let known = self.load(name)?;
        let mut state = known.unwrap_or_else(|| State::new(name, &self.boot_id));
        if state.done < Step::Published {
            let abilities = self.abilities().await?;
            while let Some(step) = state.next_up() {
                self.save(&state)?;
                self.make(step, &abilities, volume, &mut state).await?;
                state.made(step);
                self.save(&state)?;
            }
        }
        Ok(self.target(name))
    }

    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        let state = self.load(name)?;
        let there = state.is_some_and(|state| state.done == Step::Published);
        Ok(there.then(|| self.target(name)))
    }

    async fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        let Some(mut state) = self.load(name)? else {
            return Ok(());
        };
        if state.begun > Step::Away {
            let abilities = self.abilities().await?;
            while let Some(step) = state.next_down() {
                self.save(&state)?;
                self.undo(step, &abilities, name).await?;
                state.undone(step);
                self.save(&state)?;
            }
        }
        self.forget(name)
    }

    /// Volumes are made by others.
    async fn remove(&self, _: &str) -> Result<(), VolumeError> {
        Ok(())
    }
}
