use dcos_proto::mesos::offer::operation as kinds;
use dcos_proto::mesos::resource::disk_info::{Persistence, Source, source};
use dcos_proto::mesos::resource::{DiskInfo, SharedInfo};
use dcos_proto::mesos::{Volume, value, volume};
use proptest::prelude::*;

use super::super::convert::{dynamic_reservation, static_reservation};
use super::super::scalar_resource;
use super::*;

fn amount(name: &str, value: f64) -> Resource {
    scalar_resource(name, value)
}

fn reserved(mut resource: Resource, role: &str) -> Resource {
    resource
        .reservations
        .push(dynamic_reservation(role, Some("ops".to_owned())));
    resource
}

fn as_volume(mut disk: Resource, id: &str) -> Resource {
    let info = disk.disk.get_or_insert_default();
    info.persistence = Some(Persistence {
        id: id.to_owned(),
        principal: None,
    });
    info.volume = Some(Volume {
        container_path: "data".to_owned(),
        mode: volume::Mode::Rw.into(),
        ..Volume::default()
    });
    disk
}

fn mount(megabytes: f64) -> Resource {
    let mut disk = amount("disk", megabytes);
    disk.disk = Some(Box::new(DiskInfo {
        source: Some(Source {
            r#type: source::Type::Mount.into(),
            mount: Some(source::Mount {
                root: Some("/mnt/a".to_owned()),
            }),
            ..Source::default()
        }),
        ..DiskInfo::default()
    }));
    disk
}

fn reserve(resources: Vec<Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Reserve.into()),
        reserve: Some(kinds::Reserve {
            resources,
            source: Vec::new(),
        }),
        ..Operation::default()
    }
}

fn unreserve(resources: Vec<Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Unreserve.into()),
        unreserve: Some(kinds::Unreserve { resources }),
        ..Operation::default()
    }
}

fn create(volumes: Vec<Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Create.into()),
        create: Some(kinds::Create { volumes }),
        ..Operation::default()
    }
}

fn destroy(volumes: Vec<Resource>) -> Operation {
    Operation {
        r#type: Some(Type::Destroy.into()),
        destroy: Some(kinds::Destroy { volumes }),
        ..Operation::default()
    }
}

fn after(held: &Resources, operation: &Operation) -> Result<Resources, Inapplicable> {
    held.convert_all(&conversions(operation)?)
}

#[test]
fn a_disk_is_reserved_made_a_volume_and_given_back() {
    let start = Resources::parse("cpus:4;disk:1000").unwrap();
    let disk = reserved(amount("disk", 300.0), "db");
    let held = after(&start, &reserve(vec![disk.clone()])).unwrap();
    assert_eq!(held.reserved("db").disk(), Some(300.0));
    assert_eq!(held.unreserved().disk(), Some(700.0));
    let volume = as_volume(reserved(amount("disk", 100.0), "db"), "v1");
    let held = after(&held, &create(vec![volume.clone()])).unwrap();
    assert!(held.contains_message(&volume));
    let kept = held.checkpointed();
    assert_eq!(kept.disk(), Some(300.0));
    assert_eq!(start.with_checkpointed(&kept).unwrap(), held);

    let missing = after(&held, &unreserve(vec![disk.clone()])).unwrap_err();
    assert!(
        missing.to_string().contains("does not contain disk"),
        "{missing}"
    );
    let held = after(&held, &destroy(vec![volume])).unwrap();
    let held = after(&held, &unreserve(vec![disk])).unwrap();
    assert_eq!(held, start);
}

#[test]
fn a_mounted_disk_is_taken_whole() {
    let start = Resources::from_messages([mount(500.0)]);
    let part = {
        let mut part = reserved(mount(500.0), "db");
        part.scalar = Some(value::Scalar { value: 100.0 });
        part
    };
    assert!(after(&start, &reserve(vec![part])).is_err());
    let whole = reserved(mount(500.0), "db");
    let held = after(&start, &reserve(vec![whole.clone()])).unwrap();
    let volume = as_volume(whole, "v");
    let held = after(&held, &create(vec![volume.clone()])).unwrap();
    assert_eq!(without_volume(&volume), reserved(mount(500.0), "db"));
    assert_eq!(start.with_checkpointed(&held.checkpointed()).unwrap(), held);
}

#[test]
fn a_shared_volume_goes_when_its_last_copy_does() {
    let mut volume = as_volume(reserved(amount("disk", 10.0), "db"), "v");
    volume.shared = Some(SharedInfo {});
    let two = Resources::from_messages([&volume, &volume]);
    let refused = after(&two, &destroy(vec![volume.clone()])).unwrap_err();
    assert!(matches!(refused, Inapplicable::StillShared(_)), "{refused}");
    let one = Resources::from_messages([&volume]);
    let left = after(&one, &destroy(vec![volume])).unwrap();
    assert_eq!(
        left,
        Resources::from_messages([reserved(amount("disk", 10.0), "db")])
    );
}

#[test]
fn volumes_grow_and_shrink() {
    let volume = as_volume(reserved(amount("disk", 10.0), "db"), "v");
    let held = Resources::from_messages([&volume, &reserved(amount("disk", 5.5), "db")]);
    let grow = Operation {
        r#type: Some(Type::GrowVolume.into()),
        grow_volume: Some(kinds::GrowVolume {
            volume: volume.clone(),
            addition: reserved(amount("disk", 5.5), "db"),
        }),
        ..Operation::default()
    };
    let grown = as_volume(reserved(amount("disk", 15.5), "db"), "v");
    assert_eq!(
        after(&held, &grow).unwrap(),
        Resources::from_messages([&grown])
    );
    let shrink = Operation {
        r#type: Some(Type::ShrinkVolume.into()),
        shrink_volume: Some(kinds::ShrinkVolume {
            volume: grown.clone(),
            subtract: value::Scalar { value: 5.5 },
        }),
        ..Operation::default()
    };
    let shrunk = after(&Resources::from_messages([&grown]), &shrink).unwrap();
    assert_eq!(shrunk, held);
}

#[test]
fn a_source_is_reserved_anew_in_one_step() {
    let held = Resources::from_messages([reserved(amount("cpus", 2.0), "a")]);
    let mut operation = reserve(vec![reserved(amount("cpus", 2.0), "b")]);
    if let Some(reserve) = &mut operation.reserve {
        reserve.source = vec![reserved(amount("cpus", 2.0), "a")];
    }
    assert_eq!(
        after(&held, &operation).unwrap(),
        Resources::from_messages([reserved(amount("cpus", 2.0), "b")])
    );
}

#[test]
fn what_was_kept_must_fit_what_is_there() {
    let small = Resources::parse("cpus:1").unwrap();
    let kept = Resources::from_messages([reserved(amount("cpus", 2.0), "a")]);
    let error = small.with_checkpointed(&kept).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Incompatible agent resources: cpus:1 does not contain cpus:2"
    );
    let mut fixed = amount("cpus", 1.0);
    fixed.reservations.push(static_reservation("a"));
    let kept = Resources::from_messages([&fixed]);
    assert!(matches!(
        small.with_checkpointed(&kept),
        Err(Incompatible::Unexpected(_))
    ));
    // A refinement of a static reservation stands on it.
    let refined = reserved(fixed.clone(), "a/b");
    let total = Resources::from_messages([&fixed]);
    let kept = Resources::from_messages([&refined]);
    assert_eq!(total.with_checkpointed(&kept).unwrap(), kept);
}

/// One of the operations that a role could ask for, of `tenths` of a unit.
fn operations() -> impl Strategy<Value = Operation> {
    let tenths = 1..30_u32;
    (0..5_u8, tenths, 0..3_u8).prop_map(|(kind, tenths, id)| {
        let disk = reserved(amount("disk", f64::from(tenths) / 10.0), "db");
        let volume = as_volume(disk.clone(), &format!("v{id}"));
        match kind {
            0 => reserve(vec![
                disk,
                reserved(amount("cpus", f64::from(tenths) / 10.0), "db"),
            ]),
            1 => unreserve(vec![disk]),
            2 => create(vec![volume]),
            3 => destroy(vec![volume]),
            _ => reserve(vec![reserved(disk, "db/a")]),
        }
    })
}

proptest! {
    /// Whatever is asked: amounts stay what they are, what was kept leads back to the same total,
    /// and every step can be taken back.
    #[test]
    fn nothing_is_lost_and_nothing_appears(steps in proptest::collection::vec(operations(), 0..40)) {
        let start = Resources::parse("cpus:6;mem:128;disk:9").unwrap();
        let mut held = start.clone();
        for operation in steps {
            let conversions = conversions(&operation).unwrap();
            let Ok(next) = held.convert_all(&conversions) else { continue };
            prop_assert_eq!(next.scalar_quantities(), start.scalar_quantities());
            prop_assert_eq!(&start.with_checkpointed(&next.checkpointed()).unwrap(), &next);
            let back = conversions.iter().rev().map(Conversion::reversed).collect::<Vec<_>>();
            prop_assert_eq!(&next.convert_all(&back).unwrap(), &held);
            held = next;
        }
    }
}
