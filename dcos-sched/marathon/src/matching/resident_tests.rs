use dcos_proto::mesos::value;
use serde_json::{Value, json};

use super::*;
use crate::PathId;
use crate::model::PersistentVolume;

fn disk(size: f64, source: Option<(source::Type, &str)>) -> Resource {
    let source = source.map(|(kind, root)| Source {
        r#type: kind as i32,
        path: (kind == source::Type::Path).then(|| source::Path {
            root: Some(root.to_owned()),
        }),
        mount: (kind == source::Type::Mount).then(|| source::Mount {
            root: Some(root.to_owned()),
        }),
        ..Source::default()
    });
    Resource {
        name: "disk".into(),
        scalar: Some(value::Scalar { value: size }),
        disk: source.map(|source| {
            Box::new(resource::DiskInfo {
                source: Some(source),
                ..resource::DiskInfo::default()
            })
        }),
        ..Resource::default()
    }
}

fn offered() -> Vec<Resource> {
    vec![
        disk(100.0, None),
        disk(500.0, Some((source::Type::Path, "/disks/slow"))),
        disk(300.0, Some((source::Type::Mount, "/mnt/small"))),
        disk(900.0, Some((source::Type::Mount, "/mnt/large"))),
    ]
}

/// The sizes of the disks for these volumes.
fn sizes(volumes: &[Value]) -> Option<Vec<f64>> {
    let volumes: Vec<PersistentVolume> = volumes
        .iter()
        .map(|volume| serde_json::from_value(volume.clone()).unwrap())
        .collect();
    let wanted: Vec<&PersistentVolume> = volumes.iter().collect();
    let disks = disks(&wanted, &mut Supply::new(&offered()))?;
    Some(
        disks
            .iter()
            .map(|disk| disk.scalar.as_ref().unwrap().value)
            .collect(),
    )
}

#[test]
fn each_kind_of_disk_has_its_rules() {
    let cases = [
        (vec![json!({"size": 60})], Some(vec![60.0])),
        (vec![json!({"size": 60}), json!({"size": 60})], None),
        (
            vec![json!({"type": "path", "size": 400})],
            Some(vec![400.0]),
        ),
        (
            vec![
                json!({"type": "path", "size": 400}),
                json!({"type": "path", "size": 200}),
            ],
            None,
        ),
        (
            vec![json!({"type": "mount", "size": 10})],
            Some(vec![300.0]),
        ),
        (
            vec![
                json!({"type": "mount", "size": 10}),
                json!({"type": "mount", "size": 10}),
            ],
            Some(vec![300.0, 900.0]),
        ),
        (
            vec![json!({"type": "mount", "size": 400, "maxSize": 800})],
            None,
        ),
        (
            vec![
                json!({"type": "mount", "size": 1, "constraints": [["path", "LIKE", "/mnt/l.*"]]}),
            ],
            Some(vec![900.0]),
        ),
        (
            vec![
                json!({"type": "path", "size": 1, "constraints": [["path", "UNLIKE", "/disks/.*"]]}),
            ],
            None,
        ),
    ];
    for (volumes, expected) in cases {
        assert_eq!(sizes(&volumes), expected, "{volumes:?}");
    }
}

#[test]
fn labels_name_the_instance_and_survive_both_notations() {
    let id = InstanceId::new(&PathId::from("/g/db"), "u");
    let owner_of = Owner {
        framework: "f",
        principal: Some("p"),
        role: "g",
        instance: &id,
    };
    let reserved = owner_of.reserve(&disk(1.0, None));
    assert_eq!(
        owner(&reserved, &["e".into(), "f".into()]),
        Some(id.clone())
    );
    assert_eq!(owner(&reserved, &["another".into()]), None);
    assert_eq!(owner(&disk(1.0, None), &["f".into()]), None);
    let refined = Resource {
        reservations: reserved.reservation.clone().into_iter().collect(),
        reservation: None,
        ..reserved.clone()
    };
    assert_eq!(owner(&refined, &["f".into()]), Some(id));
    let made = volume(reserved, "v", "data", None);
    assert!(is_volume(&made) && !is_volume(&without_volume(&made)));
}
