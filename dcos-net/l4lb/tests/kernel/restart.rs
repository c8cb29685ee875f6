//! What an earlier process left, taken for what it is.

use std::collections::BTreeSet;

use dcos_l4lb::{DataPath, Dataplane as _, Repairs, Services};
use dcos_net::vip::Protocol;

use super::hosts::ask;
use super::{answers, at, open, set, vip};

pub(super) fn what_an_earlier_process_left_can_be_gone_on_with(path: DataPath) {
    let hosts = super::hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let (a, b) = (at("a", true, 8000), at("b", true, 8000));
    let [shared, ends, comes, strange] =
        [80, 81, 82, 83].map(|port| vip(true, Protocol::Tcp, port));
    let mut kernel = open(&hosts, path);
    let left = [
        (shared, Some(vec![a, b])),
        (ends, Some(vec![a])),
        (strange, Some(vec![a])),
    ];
    kernel.apply(&left).unwrap();
    drop(kernel);

    let mut kernel = open(&hosts, path);
    let asked = BTreeSet::from([shared, ends, comes]);
    let there = kernel.adopt(&asked).unwrap();
    let expected = Services::from([(shared, vec![a, b]), (ends, vec![a])]);
    assert_eq!(there, expected);
    // Nothing has changed by that.
    assert!(kernel.is_untouched().unwrap());
    assert_eq!(answers(&hosts, "node", shared.address), set(&["A", "B"]));
    let changes = [
        (shared, Some(vec![b])),
        (ends, None),
        (comes, Some(vec![b])),
    ];
    kernel.apply(&changes).unwrap();
    for from in ["node", "a"] {
        assert_eq!(answers(&hosts, from, shared.address), set(&["B"]));
        assert_eq!(answers(&hosts, from, comes.address), set(&["B"]));
    }
    // Whoever was not asked for goes on.
    assert_eq!(answers(&hosts, "a", strange.address), set(&["A"]));
    let now = Services::from([(shared, vec![b]), (comes, vec![b]), (strange, vec![a])]);
    let repairs = kernel.reconcile(&now, true).unwrap();
    assert_eq!(repairs.strangers, Repairs::default().strangers);
    let gone = hosts.on("a", || ask(ends.address));
    assert!(gone != "A" && gone != "B", "{gone}");
    kernel.remove().unwrap();
}
