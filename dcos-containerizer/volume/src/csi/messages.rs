//! The messages of CSI 1 that are used here, with the field numbers of its `csi.proto`.

use std::collections::BTreeMap;

use prost::{Enumeration, Message, Oneof};

type Map = BTreeMap<String, String>;

/// `VolumeCapability`: how a volume is used.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VolumeCapability {
    #[prost(oneof = "AccessType", tags = "1, 2")]
    pub(super) access_type: Option<AccessType>,
    #[prost(message, optional, tag = "3")]
    pub(super) access_mode: Option<AccessMode>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum AccessType {
    #[prost(message, tag = "1")]
    Block(BlockVolume),
    #[prost(message, tag = "2")]
    Mount(MountVolume),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BlockVolume {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MountVolume {
    #[prost(string, tag = "1")]
    pub(super) fs_type: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) mount_flags: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AccessMode {
    #[prost(int32, tag = "1")]
    pub(super) mode: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerPublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(string, tag = "2")]
    pub(super) node_id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "4")]
    pub(super) readonly: bool,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(super) volume_context: Map,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerPublishVolumeResponse {
    #[prost(btree_map = "string, string", tag = "1")]
    pub(super) publish_context: Map,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ControllerUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(string, tag = "2")]
    pub(super) node_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeStageVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) publish_context: Map,
    #[prost(string, tag = "3")]
    pub(super) staging_target_path: String,
    #[prost(message, optional, tag = "4")]
    pub(super) volume_capability: Option<VolumeCapability>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) secrets: Map,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(super) volume_context: Map,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeUnstageVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(string, tag = "2")]
    pub(super) staging_target_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodePublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) publish_context: Map,
    #[prost(string, tag = "3")]
    pub(super) staging_target_path: String,
    #[prost(string, tag = "4")]
    pub(super) target_path: String,
    #[prost(message, optional, tag = "5")]
    pub(super) volume_capability: Option<VolumeCapability>,
    #[prost(bool, tag = "6")]
    pub(super) readonly: bool,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(super) secrets: Map,
    #[prost(btree_map = "string, string", tag = "8")]
    pub(super) volume_context: Map,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeUnpublishVolumeRequest {
    #[prost(string, tag = "1")]
    pub(super) volume_id: String,
    #[prost(string, tag = "2")]
    pub(super) target_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeGetInfoResponse {
    #[prost(string, tag = "1")]
    pub(super) node_id: String,
}

/// The answer of `ControllerGetCapabilities` and `NodeGetCapabilities`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Capabilities {
    #[prost(message, repeated, tag = "1")]
    pub(super) capabilities: Vec<Capability>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Capability {
    #[prost(message, optional, tag = "1")]
    pub(super) rpc: Option<Rpc>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Rpc {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
}

/// `ControllerServiceCapability.RPC.Type`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum ControllerRpc {
    PublishUnpublishVolume = 2,
}

/// `NodeServiceCapability.RPC.Type`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(super) enum NodeRpc {
    StageUnstageVolume = 1,
}

impl Capabilities {
    pub(super) fn has(&self, kind: impl Into<i32>) -> bool {
        let kind = kind.into();
        let mut all = self.capabilities.iter().filter_map(|one| one.rpc.as_ref());
        all.any(|rpc| rpc.kind == kind)
    }
}
