//! A tree is a `BTreeMap` whose copies stay what they were.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    Change(u16),
    Copy,
    RetainBelow(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || prop_oneof![0..400_u16, 0..20_u16];
    let step = prop_oneof![
        8 => (key(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        5 => key().prop_map(Step::Remove),
        3 => key().prop_map(Step::Change),
        1 => Just(Step::Copy),
        1 => (200..400_u16).prop_map(Step::RetainBelow),
    ];
    proptest::collection::vec(step, 0..800)
}

fn check(tree: &Tree<u16, u8>, model: &BTreeMap<u16, u8>) {
    assert_eq!(tree.len(), model.len());
    assert!(tree.iter().eq(model.iter()), "{tree:?} is not {model:?}");
    let pages: usize = tree.pages().map(|page| page.len()).sum();
    assert_eq!(pages, model.len());
}

proptest! {
    #[test]
    fn a_tree_is_a_map_and_a_copy_stays_as_it_was(steps in steps()) {
        let (mut tree, mut model) = (Tree::new(), BTreeMap::new());
        let mut copies = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    prop_assert_eq!(tree.insert(key, value), model.insert(key, value));
                }
                Step::Remove(key) => prop_assert_eq!(tree.remove(&key), model.remove(&key)),
                Step::Change(key) => {
                    let changed = tree.get_mut(&key).map(|value| *value ^= 1);
                    prop_assert_eq!(changed, model.get_mut(&key).map(|value| *value ^= 1));
                }
                Step::Copy => copies.push((tree.clone(), model.clone())),
                Step::RetainBelow(limit) => {
                    tree.retain(|key, _| *key < limit);
                    model.retain(|key, _| *key < limit);
                }
            }
            for key in [0, 7, 100, 399] {
                prop_assert_eq!(tree.get(&key), model.get(&key));
            }
        }
        check(&tree, &model);
        for (tree, model) in copies {
            check(&tree, &model);
        }
    }
}

#[test]
fn a_change_copies_one_page() {
    let mut tree: Tree<u32, u32> = (0..100_000).map(|key| (key, 0)).collect();
    let before = tree.clone();
    *tree.get_mut(&77_777).expect("it is there") = 1;
    let shared = before
        .pages()
        .zip(tree.pages())
        .filter(|(one, other)| Arc::ptr_eq(one, other))
        .count();
    assert_eq!(shared + 1, before.pages().count());
}

#[test]
fn a_missing_key_copies_nothing() {
    let mut tree: Tree<u32, u32> = (0..1000).map(|key| (key * 2, 0)).collect();
    let before = tree.clone();
    assert_eq!(tree.get_mut(&3), None);
    assert_eq!(tree.remove(&5), None);
    assert!(
        before
            .pages()
            .zip(tree.pages())
            .all(|(one, other)| Arc::ptr_eq(one, other))
    );
}

#[test]
fn what_comes_and_goes_leaves_no_crumbs() {
    let mut tree: Tree<u32, u32> = Tree::new();
    for key in 0..100_000 {
        tree.insert(key, key);
        if key >= 1000 {
            tree.remove(&(key - 1000));
        }
    }
    assert_eq!(tree.len(), 1000);
    assert!(tree.pages().count() < 70, "{} pages", tree.pages().count());
    tree.retain(|key, _| key % 100 == 0);
    assert_eq!((tree.len(), tree.pages().count()), (10, 1));
}
