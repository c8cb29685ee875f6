//! The algebra, by example and by property.

use dcos_proto::mesos::resource::disk_info::{Persistence, Source, source};
use dcos_proto::mesos::resource::{DiskInfo, RevocableInfo, SharedInfo};
use proptest::prelude::*;

use super::convert::{downgrade, dynamic_reservation, static_reservation, to_endpoint, upgrade};
use super::*;

fn parse(text: &str) -> Resources {
    Resources::parse(text).unwrap()
}

fn volume(id: &str, role: &str, amount: f64) -> Resource {
    let mut disk = scalar_resource("disk", amount);
    disk.reservations.push(dynamic_reservation(role, None));
    disk.disk = Some(Box::new(DiskInfo {
        persistence: Some(Persistence {
            id: id.into(),
            principal: None,
        }),
        ..DiskInfo::default()
    }));
    disk
}

fn disk_of(kind: source::Type, amount: f64) -> Resource {
    let mut disk = scalar_resource("disk", amount);
    let mut source = Source::default();
    source.set_type(kind);
    disk.disk = Some(Box::new(DiskInfo {
        source: Some(source),
        ..DiskInfo::default()
    }));
    disk
}

fn bag(messages: &[Resource]) -> Resources {
    Resources::from_messages(messages)
}

#[test]
fn text_is_read_and_printed() {
    for (text, shown) in [
        ("cpus:4;mem:1024", "cpus:4; mem:1024"),
        ("cpus:0.1;cpus:0.2", "cpus:0.3"),
        (
            "cpus(web):4;cpus:1",
            "cpus(reservations: [(STATIC,web)]):4; cpus:1",
        ),
        ("ports:[1-2, 5-9, 3-4]", "ports:[1-9]"),
        ("disks:{sda, sdb}", "disks:{sda, sdb}"),
        ("cpus:0", "{}"),
        ("", "{}"),
        (
            r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":2},"role":"eng"}]"#,
            "cpus(reservations: [(STATIC,eng)]):2",
        ),
    ] {
        assert_eq!(parse(text).to_string(), shown, "{text}");
    }
    let eng = Resources::parse_for("cpus:1;mem(*):5", "eng").unwrap();
    assert_eq!(
        eng.to_string(),
        "cpus(reservations: [(STATIC,eng)]):1; mem:5"
    );
}

#[test]
fn what_cannot_be_read_says_why() {
    for (text, message) in [
        (
            "cpus",
            "Bad value for resources, missing or extra ':' in cpus",
        ),
        (
            "cpus:1:2",
            "Bad value for resources, missing or extra ':' in cpus:1:2",
        ),
        (
            "cpus(web:1",
            "Bad value for resources, mismatched parentheses in cpus(web:1",
        ),
        ("cpus:x", "Bad type for resource cpus value x type TEXT"),
        ("cpus:-1", "Bad type for resource cpus value -1 type TEXT"),
        (
            "cpus:[1-2",
            "Failed to parse resource cpus value [1-2 error Mismatched brackets",
        ),
        ("cpus:0.0001", "Invalid scalar resource: value <= 0"),
        (
            "cpus(a b):1",
            "Role component 'a b' is invalid because it contains backspace or whitespace",
        ),
        ("x:{a,a}", "Invalid set resource: duplicated elements"),
        (
            "x:1;x:[1-2]",
            "Resources with the same name ('x') but different types are not allowed",
        ),
        (
            r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":2},"revocable":{}}]"#,
            "Revocable resources cannot be specified at the command line; do not include a \
             'revocable' key in the resources JSON",
        ),
    ] {
        assert_eq!(
            Resources::parse(text).unwrap_err().to_string(),
            message,
            "{text}"
        );
    }
    let bad = Resources::parse(r#"[{"name":"cpus"}]"#)
        .unwrap_err()
        .to_string();
    assert!(
        bad.starts_with("Some JSON resources were not formatted properly: "),
        "{bad}"
    );
}

#[test]
fn scalars_keep_three_decimals() {
    let mut total = parse("cpus:1");
    let tenth = parse("cpus:0.1");
    for _ in 0..10 {
        total -= &tenth;
    }
    assert!(total.is_empty());
    assert_eq!(parse("cpus:1.0005").cpus(), Some(1.001));
    assert_eq!(
        (&parse("cpus:1.0005") + &parse("cpus:1")).cpus(),
        Some(2.001)
    );
}

#[test]
fn kinds_are_kept_apart() {
    let both = parse("cpus(a):1;cpus(b):2;cpus:4");
    assert_eq!(both.cpus(), Some(7.0));
    assert!(!both.contains(&parse("cpus:5")));
    assert!(both.contains(&parse("cpus(b):2")));
    let mut revocable = scalar_resource("cpus", 1.0);
    revocable.revocable = Some(RevocableInfo {});
    let mixed = &bag(&[revocable]) + &parse("cpus:1");
    assert_eq!(mixed.len(), 2);
    assert_eq!(mixed.to_string(), "cpus{REV}:1; cpus:1");
}

#[test]
fn allocation_is_part_of_the_kind() {
    let offered = parse("cpus:1;mem:5").allocated_to("web");
    assert!(!offered.contains(&parse("cpus:1")));
    assert!(offered.contains(&parse("cpus:1").allocated_to("web")));
    let sum = &offered + &parse("cpus:2").allocated_to("db");
    assert_eq!(sum.allocations()["db"].cpus(), Some(2.0));
    assert_eq!(sum.unallocated(), parse("cpus:3;mem:5"));
}

#[test]
fn mounted_disks_and_volumes_are_indivisible() {
    let mount = bag(&[disk_of(source::Type::Mount, 10.0)]);
    let less = bag(&[disk_of(source::Type::Mount, 5.0)]);
    assert!(!mount.contains(&less));
    assert_eq!((&mount + &mount).len(), 2);
    assert!((&mount - &mount).is_empty());
    let path = bag(&[disk_of(source::Type::Path, 10.0)]);
    assert!(path.contains(&bag(&[disk_of(source::Type::Path, 5.0)])));

    let data = bag(&[volume("v1", "db", 10.0)]);
    assert!(!data.contains(&bag(&[volume("v1", "db", 5.0)])));
    assert!(!data.contains(&bag(&[volume("v1", "db", 10.0), volume("v1", "db", 10.0)])));
    let mut raw = disk_of(source::Type::Mount, 10.0);
    assert!(!shrink(&mut raw, Scalar::from_f64(3.0)));
    let mut cpus = scalar_resource("cpus", 4.0);
    assert!(shrink(&mut cpus, Scalar::from_f64(3.0)));
    assert_eq!(cpus, scalar_resource("cpus", 3.0));
}

#[test]
fn shared_volumes_are_counted() {
    let mut shared = volume("v1", "db", 10.0);
    shared.shared = Some(SharedInfo {});
    let one = bag(std::slice::from_ref(&shared));
    let two = &one + &one;
    assert_eq!((two.len(), two.count(&shared)), (1, 2));
    assert!(two.contains(&one) && !one.contains(&two));
    assert_ne!(one, two);
    assert_eq!(&two - &one, one);
    assert!((&(&two - &one) - &one).is_empty());
    assert!(two.to_string().ends_with("<SHARED>:10<2>"), "{two}");
    shared.disk.as_mut().unwrap().persistence = None;
    assert!(
        bag(&[shared]).is_empty(),
        "only persistent volumes can be shared"
    );
}

#[test]
fn finding_looks_in_the_own_role_first() {
    let total = parse("cpus(a):2;cpus:2;cpus(b):2");
    let found = |wanted: &str| total.find(&parse(wanted)).map(|found| found.to_string());
    let a = "cpus(reservations: [(STATIC,a)])";
    assert_eq!(found("cpus(a):1"), Some(format!("{a}:1")));
    assert_eq!(found("cpus(a):3"), Some(format!("{a}:2; cpus:1")));
    assert_eq!(
        found("cpus:5"),
        None,
        "one partial match in each choice, as in Mesos"
    );
    assert_eq!(found("cpus(c):3"), Some(format!("cpus:2; {a}:1")));
    assert_eq!(found("cpus:7"), None);
}

#[test]
fn reservations_convert_between_formats() {
    let mut old = scalar_resource("cpus", 1.0);
    old.role = Some("web".into());
    let before = old.clone();
    upgrade(&mut old);
    assert_eq!(old.reservations, [static_reservation("web")]);
    upgrade(&mut old);
    downgrade(&mut old).unwrap();
    assert_eq!(old, before);

    let mut dynamic = scalar_resource("cpus", 1.0);
    dynamic
        .reservations
        .push(dynamic_reservation("web", Some("ops".into())));
    to_endpoint(&mut dynamic);
    assert_eq!(dynamic.role.as_deref(), Some("web"));
    assert_eq!(
        dynamic.reservation.as_ref().unwrap().principal.as_deref(),
        Some("ops")
    );
    assert_eq!(
        validate(&dynamic),
        Ok(()),
        "both formats may stand side by side"
    );

    let mut refined = scalar_resource("cpus", 1.0);
    refined.reservations = vec![static_reservation("a"), dynamic_reservation("a/b", None)];
    assert!(downgrade(&mut refined).is_err());
    let mut plain = scalar_resource("cpus", 1.0);
    downgrade(&mut plain).unwrap();
    assert_eq!(plain.role.as_deref(), Some("*"));
}

#[test]
fn reservations_are_a_stack() {
    let base = parse("cpus(a):1");
    let refined = base
        .push_reservation(&dynamic_reservation("a/b", None))
        .unwrap();
    assert_eq!(refined.reserved("a/b").cpus(), Some(1.0));
    assert!(refined.allocatable_to("a/b/c").cpus().is_some());
    assert!(refined.allocatable_to("a").is_empty());
    assert_eq!(refined.pop_reservation(), base);
    let error = base
        .push_reservation(&dynamic_reservation("x", None))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Invalid refined reservation: role 'x' is not a refinement of 'a'"
    );
}

#[test]
fn rules_have_mesos_words() {
    let check = |change: fn(&mut Resource), message: &str| {
        let mut resource = scalar_resource("cpus", 1.0);
        change(&mut resource);
        assert_eq!(validate(&resource).unwrap_err().to_string(), message);
    };
    check(|r| r.name.clear(), "Empty resource name");
    check(|r| r.r#type = 77, "Invalid resource type");
    check(
        |r| r.set_type(proto::Type::Text),
        "Unsupported resource type",
    );
    check(|r| r.scalar = None, "Invalid scalar resource");
    check(
        |r| r.scalar = Some(proto::Scalar { value: -1.0 }),
        "Invalid scalar resource: value <= 0",
    );
    check(
        |r| r.scalar = Some(proto::Scalar { value: f64::NAN }),
        "Invalid scalar resource: value <= 0",
    );
    check(
        |r| r.disk = Some(Box::new(DiskInfo::default())),
        "DiskInfo should not be set for cpus resource",
    );
    check(
        |r| r.shared = Some(SharedInfo {}),
        "Resource cpus cannot be shared",
    );
    check(
        |r| r.role = Some("a/".into()),
        "Role 'a/' cannot end with a slash",
    );
    check(
        |r| r.reservation = Some(ReservationInfo::default()),
        "Invalid reservation: role \"*\" cannot be dynamically reserved",
    );
    check(
        |r| r.reservations = vec![ReservationInfo::default()],
        "Invalid reservation: 'Resource.ReservationInfo.type' field must be set.",
    );
    check(
        |r| r.reservations = vec![static_reservation("*")],
        "Invalid reservation: role \"*\" cannot be reserved",
    );
    check(
        |r| r.reservations = vec![static_reservation("a"), static_reservation("a/b")],
        "Invalid refined reservation: A refined reservation cannot be STATIC",
    );
    let mut bad = scalar_resource("cpus", 1.0);
    bad.r#type = proto::Type::Ranges.into();
    assert_eq!(
        validate_all(&[bad]).unwrap_err().to_string(),
        "Resource 'cpus:[]' is invalid: Invalid ranges resource"
    );
}

#[test]
fn endpoints_show_totals() {
    let mut revocable = scalar_resource("cpus", 1.5);
    revocable.revocable = Some(RevocableInfo {});
    let all = &bag(&[revocable]) + &parse("cpus(a):1;cpus:2;ports:[1-3];ports(a):[4-5]");
    let json = serde_json::Value::Object(all.to_endpoint_json());
    let expected = serde_json::json!({
        "cpus": 3.0, "cpus_revocable": 1.5, "disk": 0, "gpus": 0, "mem": 0, "ports": "[1-5]"
    });
    assert_eq!(json, expected);
    let reserved = serde_json::Value::Object(all.reservations_to_endpoint_json());
    assert_eq!(reserved["a"]["cpus"], 1.0);
}

#[test]
fn quantities_ignore_reservations() {
    let all = parse("cpus(a):1;cpus:2;mem:10;ports:[1-5]");
    assert_eq!(all.scalar_quantities().to_string(), "cpus:3; mem:10");
    assert!(all.contains_quantities(&"cpus:3;ports:5".parse().unwrap()));
    assert!(!all.contains_quantities(&"ports:6".parse().unwrap()));
    assert!("cpus".parse::<Quantities>().is_err());
}

fn some_resources() -> impl Strategy<Value = Resources> {
    let role = prop::sample::select(vec!["*", "a", "a/b"]);
    let scalar = (
        prop::sample::select(vec!["cpus", "mem"]),
        role.clone(),
        1_i32..5000,
    )
        .prop_map(|(name, role, thousandths)| {
            let mut resource = scalar_resource(name, f64::from(thousandths) / 1000.0);
            resource.role = Some(role.into());
            resource
        });
    let ranges = (
        role.clone(),
        prop::collection::vec((0_u64..30, 0_u64..4), 1..4),
    )
        .prop_map(|(role, pairs)| {
            let pairs = pairs.into_iter().map(|(first, more)| (first, first + more));
            let mut resource = ranges_resource("ports", &Ranges::from_pairs(pairs));
            resource.role = Some(role.into());
            resource
        });
    let shared = (0_u32..3).prop_map(|id| {
        let mut resource = volume(&id.to_string(), "a", 8.0);
        resource.shared = Some(SharedInfo {});
        resource
    });
    prop::collection::vec(prop_oneof![scalar, ranges, shared], 0..8)
        .prop_map(|all| Resources::from_messages(&all))
}

proptest! {
    #[test]
    fn adding_is_commutative_and_associative(
        a in some_resources(), b in some_resources(), c in some_resources()
    ) {
        prop_assert_eq!(&a + &b, &b + &a);
        prop_assert_eq!(&(&a + &b) + &c, &a + &(&b + &c));
    }

    #[test]
    fn taking_away_what_is_contained_and_adding_it_again_changes_nothing(
        a in some_resources(), b in some_resources()
    ) {
        if a.contains(&b) {
            prop_assert_eq!(&(&a - &b) + &b, a);
        }
    }

    #[test]
    fn the_sum_contains_its_parts(a in some_resources(), b in some_resources()) {
        let sum = &a + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        // Ranges are sets of numbers: taking one part away may take numbers of the other.
        if a.ports().minus(&b.ports()) == a.ports() {
            prop_assert_eq!(&sum - &b, a);
        }
    }

    #[test]
    fn containing_each_other_is_being_equal(a in some_resources(), b in some_resources()) {
        prop_assert_eq!(a == b, a.contains(&b) && b.contains(&a));
        prop_assert!(a.contains(&a));
        prop_assert!((&a - &a).is_empty());
    }

    #[test]
    fn allocation_can_be_undone(a in some_resources()) {
        prop_assert_eq!(a.allocated_to("x").unallocated(), a);
    }

    #[test]
    fn messages_hold_everything_but_counts(a in some_resources()) {
        let once = Resources::from_messages(a.to_messages());
        prop_assert!(a.contains(&once));
        prop_assert_eq!(once.scalar_quantities(), a.scalar_quantities());
    }

    #[test]
    fn parsing_never_panics(text in "[a-c:;()\\[\\]{}0-9. ,*-]{0,30}") {
        _ = Resources::parse(&text);
        _ = crate::attributes::parse(&text);
    }
}
