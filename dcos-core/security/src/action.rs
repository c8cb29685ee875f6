//! What can be allowed or forbidden.

use std::fmt;

/// Whether an action reads, changes, or takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// It filters what is shown.
    View,
    /// It does something.
    Do,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)+) => {
        /// What can be allowed or forbidden, numbered and named as in Mesos 1.11
        /// (`include/mesos/authorizer/authorizer.proto`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Action {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Action {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, such as `RUN_TASK`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

actions! {
    /// Subscribing with these roles.
    RegisterFramework = 1, "REGISTER_FRAMEWORK";
    /// Running a task or executor as this user of the operating system.
    RunTask = 2, "RUN_TASK";
    /// Removing a framework of this principal.
    TeardownFramework = 3, "TEARDOWN_FRAMEWORK";
    /// Reserving for this role.
    ReserveResources = 4, "RESERVE_RESOURCES";
    /// Taking back what this principal reserved.
    UnreserveResources = 5, "UNRESERVE_RESOURCES";
    /// Making a persistent volume for this role.
    CreateVolume = 6, "CREATE_VOLUME";
    /// Destroying a volume that this principal made.
    DestroyVolume = 7, "DESTROY_VOLUME";
    /// Reading one of the endpoints for debugging.
    GetEndpointWithPath = 8, "GET_ENDPOINT_WITH_PATH";
    /// Seeing a role and what is reserved for it.
    ViewRole = 9, "VIEW_ROLE";
    /// Changing a role's weight.
    UpdateWeight = 10, "UPDATE_WEIGHT";
    /// Seeing a role's quota.
    GetQuota = 11, "GET_QUOTA";
    /// Changing a role's quota through the old calls.
    UpdateQuota = 12, "UPDATE_QUOTA";
    /// Seeing a framework.
    ViewFramework = 13, "VIEW_FRAMEWORK";
    /// Seeing a task.
    ViewTask = 14, "VIEW_TASK";
    /// Seeing an executor.
    ViewExecutor = 15, "VIEW_EXECUTOR";
    /// Looking into a sandbox.
    AccessSandbox = 16, "ACCESS_SANDBOX";
    /// Reading the log of a master or agent.
    AccessMesosLog = 17, "ACCESS_MESOS_LOG";
    /// Seeing how a master or agent is set up.
    ViewFlags = 18, "VIEW_FLAGS";
    /// Launching a container inside an executor's.
    LaunchNestedContainer = 19, "LAUNCH_NESTED_CONTAINER";
    /// Sending it a signal.
    KillNestedContainer = 20, "KILL_NESTED_CONTAINER";
    /// Waiting for its end.
    WaitNestedContainer = 21, "WAIT_NESTED_CONTAINER";
    /// Launching one that ends with the connection.
    LaunchNestedContainerSession = 22, "LAUNCH_NESTED_CONTAINER_SESSION";
    /// Writing to a container's input.
    AttachContainerInput = 23, "ATTACH_CONTAINER_INPUT";
    /// Reading a container's output.
    AttachContainerOutput = 24, "ATTACH_CONTAINER_OUTPUT";
    /// Seeing a container.
    ViewContainer = 25, "VIEW_CONTAINER";
    /// Changing what is logged.
    SetLogLevel = 26, "SET_LOG_LEVEL";
    /// Forgetting a nested container.
    RemoveNestedContainer = 27, "REMOVE_NESTED_CONTAINER";
    /// Joining the cluster as an agent.
    RegisterAgent = 28, "REGISTER_AGENT";
    /// Changing when machines are maintained.
    UpdateMaintenanceSchedule = 29, "UPDATE_MAINTENANCE_SCHEDULE";
    /// Seeing when machines are maintained.
    GetMaintenanceSchedule = 30, "GET_MAINTENANCE_SCHEDULE";
    /// Taking a machine down.
    StartMaintenance = 31, "START_MAINTENANCE";
    /// Taking a machine up.
    StopMaintenance = 32, "STOP_MAINTENANCE";
    /// Seeing which machines are down.
    GetMaintenanceStatus = 33, "GET_MAINTENANCE_STATUS";
    /// Declaring that an agent never comes back.
    MarkAgentGone = 34, "MARK_AGENT_GONE";
    /// Launching a container that belongs to no executor.
    LaunchStandaloneContainer = 35, "LAUNCH_STANDALONE_CONTAINER";
    /// Sending it a signal.
    KillStandaloneContainer = 36, "KILL_STANDALONE_CONTAINER";
    /// Waiting for its end.
    WaitStandaloneContainer = 37, "WAIT_STANDALONE_CONTAINER";
    /// Forgetting it.
    RemoveStandaloneContainer = 38, "REMOVE_STANDALONE_CONTAINER";
    /// Adding, changing, removing resource providers.
    ModifyResourceProviderConfig = 39, "MODIFY_RESOURCE_PROVIDER_CONFIG";
    /// Seeing a container that belongs to no executor.
    ViewStandaloneContainer = 40, "VIEW_STANDALONE_CONTAINER";
    /// Deleting images that are not used.
    PruneImages = 41, "PRUNE_IMAGES";
    /// Growing or shrinking a volume of this role.
    ResizeVolume = 42, "RESIZE_VOLUME";
    /// Making a block disk.
    CreateBlockDisk = 43, "CREATE_BLOCK_DISK";
    /// Destroying a block disk.
    DestroyBlockDisk = 44, "DESTROY_BLOCK_DISK";
    /// Making a mount disk.
    CreateMountDisk = 45, "CREATE_MOUNT_DISK";
    /// Destroying a mount disk.
    DestroyMountDisk = 46, "DESTROY_MOUNT_DISK";
    /// Seeing resource providers.
    ViewResourceProvider = 47, "VIEW_RESOURCE_PROVIDER";
    /// Declaring that a resource provider never comes back.
    MarkResourceProviderGone = 48, "MARK_RESOURCE_PROVIDER_GONE";
    /// Destroying a raw disk.
    DestroyRawDisk = 49, "DESTROY_RAW_DISK";
    /// Changing a role's quota.
    UpdateQuotaWithConfig = 50, "UPDATE_QUOTA_WITH_CONFIG";
    /// Draining an agent.
    DrainAgent = 51, "DRAIN_AGENT";
    /// Making no more offers of an agent.
    DeactivateAgent = 52, "DEACTIVATE_AGENT";
    /// Making offers of it again.
    ReactivateAgent = 53, "REACTIVATE_AGENT";
}

impl Action {
    /// Its number in Mesos.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// Whether it reads or does something.
    pub fn category(self) -> Category {
        let name = self.name();
        let views = name.starts_with("VIEW_") || name.starts_with("GET_");
        if views { Category::View } else { Category::Do }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
