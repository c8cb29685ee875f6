//! `cgroups/net_cls`: a number on each packet of a container, by which `tc` and firewalls know it.
//!
//! The number is a `tc` handle: a primary half, the operator's, and a secondary half, which is
//! another one for each root container; nested ones share theirs. The kernel knows this controller
//! in version 1 only.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dcos_proto::mesos::cgroup_info::NetCls;
use dcos_proto::mesos::{CgroupInfo, ContainerId, ContainerStatus};

use super::{Cgroups, read_number, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

const NAME: &str = "cgroups/net_cls";
const CONTROLLER: &str = "net_cls";

/// Handles that containers get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetClsHandles {
    /// `--cgroups_net_cls_primary_handle`.
    pub primary: u16,
    /// `--cgroups_net_cls_secondary_handles`.
    pub secondary: RangeInclusive<u16>,
}

impl NetClsHandles {
    /// From the two flags, `0x10` and `0x1,0xffff`; all secondary handles if none are named.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] for anything else, and for the secondary handle 0.
    pub fn parse(primary: &str, secondary: Option<&str>) -> Result<Self, IsolatorError> {
        let number = |text: &str| {
            let text = text.trim();
            let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(digits) => u16::from_str_radix(digits, 16),
                None => text.parse(),
            };
            parsed.map_err(|_| IsolatorError::refused(format!("`{text}` is no net_cls handle")))
        };
        let secondary = match secondary {
            None => 1..=u16::MAX,
            Some(range) => {
                let (first, last) = range.split_once(',').ok_or_else(|| {
                    IsolatorError::refused("secondary net_cls handles: two numbers are wanted")
                })?;
                number(first)?..=number(last)?
            }
        };
        if *secondary.start() == 0 || secondary.is_empty() {
            return Err(IsolatorError::refused(
                "secondary net_cls handles begin above 0, and the last is not below the first",
            ));
        }
        let primary = number(primary)?;
        Ok(Self { primary, secondary })
    }
}

/// Gives root containers a class id each, if there are handles to give; else only a cgroup.
#[derive(Debug)]
pub struct NetClsIsolator {
    cgroups: Cgroups,
    handles: Option<NetClsHandles>,
    /// Secondary handles by root container.
    given: Mutex<BTreeMap<String, Given>>,
}

#[derive(Debug)]
struct Given {
    handle: u16,
    /// Its container ended. The handle is another's once the cgroup is gone: what stays in that may still send.
    ended: bool,
}

impl NetClsIsolator {
    /// Gives out `handles`.
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the controller.
    pub fn new(cgroups: Cgroups, handles: Option<NetClsHandles>) -> Result<Self, IsolatorError> {
        cgroups.require(CONTROLLER, NAME)?;
        Ok(Self {
            cgroups,
            handles,
            given: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of a root container, a free one if it has none yet.
    fn give(&self, id: &ContainerId) -> Result<Option<u32>, IsolatorError> {
        let Some(handles) = &self.handles else {
            return Ok(None);
        };
        let mut given = self.lock();
        given.retain(|name, one| !one.ended || self.is_there(name));
        let known = given.get(&id.root_id().value).map(|one| one.handle);
        let free = || {
            handles
                .secondary
                .clone()
                .find(|handle| !given.values().any(|other| other.handle == *handle))
        };
        let secondary = known.or_else(free).ok_or_else(|| {
            IsolatorError::refused("all secondary net_cls handles are given to containers")
        })?;
        let one = Given {
            handle: secondary,
            ended: false,
        };
        given.insert(id.root_id().value.clone(), one);
        Ok(Some(
            u32::from(handles.primary) << 16 | u32::from(secondary),
        ))
    }

    /// Whether the cgroup of a root container is there, and maybe processes in it that send.
    fn is_there(&self, name: &str) -> bool {
        let folder = self.cgroups.folder(CONTROLLER, &ContainerId::root(name));
        folder.is_some_and(|folder| folder.path.exists())
    }

    /// The class id that the kernel has for a container; none if it is 0.
    fn class_of(&self, id: &ContainerId) -> Option<u32> {
        let folder = self.cgroups.folder(CONTROLLER, id)?;
        let number = read_number(&folder.path.join("net_cls.classid")).ok()?;
        u32::try_from(number).ok().filter(|class| *class != 0)
    }
}

#[async_trait]
impl Isolator for NetClsIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        let place = self.cgroups.v1.get(CONTROLLER);
        let entries = place.and_then(|place| fs::read_dir(place.join(&self.cgroups.root)).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let id = ContainerId::root(entry.file_name().to_string_lossy());
            // Given by an agent with other handles, it stays what it is and takes none of ours.
            if let (Some(class), Some(handles)) = (self.class_of(&id), &self.handles)
                && class >> 16 == u32::from(handles.primary)
                && let Ok(handle) = u16::try_from(class & 0xffff)
            {
                let ended = !containers.iter().any(|known| *known.root_id() == id);
                self.lock().insert(id.value, Given { handle, ended });
            }
        }
        self.cgroups.remove_unknown(CONTROLLER, containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let folder = self.cgroups.join(CONTROLLER, &config.id, draft)?;
        match self.give(&config.id)? {
            Some(class) => write(&folder.path.join("net_cls.classid"), &class.to_string()),
            None => Ok(()),
        }
    }

    async fn status(
        &self,
        id: &ContainerId,
        status: &mut ContainerStatus,
    ) -> Result<(), IsolatorError> {
        if let Some(classid) = self.class_of(id) {
            status.cgroup_info = Some(CgroupInfo {
                net_cls: Some(NetCls {
                    classid: Some(classid),
                }),
            });
        }
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.cgroups.remove(CONTROLLER, id).await?;
        if id.parent.is_none()
            && let Some(given) = self.lock().get_mut(&id.value)
        {
            given.ended = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file in its folder stands for a process that nothing ends.
    #[tokio::test]
    async fn a_handle_is_free_when_nothing_can_send_by_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| place.path().join("m").join(name);
        let handles = NetClsHandles::parse("0x10", Some("1,2")).unwrap();
        let make = || {
            let cgroups = Cgroups::at(place.path(), "cgroup cgroup rw,net_cls");
            NetClsIsolator::new(cgroups, Some(handles.clone())).unwrap()
        };
        let launch = async |isolator: &NetClsIsolator, name: &str| {
            let mut config = crate::isolator::testkit::config(name);
            config.id = ContainerId::root(name);
            let mut draft = Draft::new(&config).unwrap();
            isolator.prepare(&config, &mut draft).await?;
            let class = fs::read_to_string(folder(name).join("net_cls.classid")).unwrap();
            Ok::<_, IsolatorError>((config.id, class))
        };
        let isolator = make();
        let (first, class) = launch(&isolator, "first").await.unwrap();
        assert_eq!(class, (0x10_0001).to_string());
        isolator.cgroups.removals.remove_later(&folder("first"));
        isolator.cleanup(&first).await.unwrap();
        let (second, class) = launch(&isolator, "second").await.unwrap();
        assert_eq!(class, (0x10_0002).to_string(), "the first may still send");

        // Nor is it given away by the next agent.
        let isolator = make();
        let known = std::slice::from_ref(&second);
        isolator.recover(known).await.unwrap();
        launch(&isolator, "third").await.unwrap_err();
        fs::remove_dir_all(folder("first")).unwrap();
        let (_, class) = launch(&isolator, "third").await.unwrap();
        assert_eq!(class, (0x10_0001).to_string());
    }

    #[test]
    fn handles_are_read_as_operators_write_them() {
        let read = |primary, secondary| NetClsHandles::parse(primary, secondary).ok();
        let some = |primary, secondary| Some(NetClsHandles { primary, secondary });
        assert_eq!(read("0x0012", None), some(0x12, 1..=0xffff));
        assert_eq!(
            read("18", Some("0x0001,0x0010")),
            some(0x12, 1..=16),
            "decimal is fine, too"
        );
        for (primary, secondary) in [("x", None), ("0x12345", None)] {
            assert_eq!(read(primary, secondary), None, "{primary}");
        }
        for secondary in ["5", "0,5", "6,5", "1,2,3"] {
            assert_eq!(read("1", Some(secondary)), None, "{secondary}");
        }
    }
}
