//! Clusters on a virtual clock: they agree on who is there, whatever the network does meanwhile.

mod world;

use std::time::Duration;

use dcos_core::time::Time;
use dcos_gossip::{Keyring, Presence};
use proptest::prelude::*;
use world::{World, about, keyring};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn all_who_begin_come_to_know_each_other() {
    for (nodes, loss) in [(3, 0.0), (10, 0.1), (50, 0.0), (200, 0.1)] {
        let mut world = World::new(nodes as u64, nodes);
        world.loss = loss;
        for node in 0..nodes {
            world.start(node);
        }
        world.must(60 * SECOND, "all to know all", World::agrees);
        assert_eq!(world.deaths, [], "{nodes} nodes, loss {loss}");
    }
}

#[test]
fn nobody_dies_of_lost_packets_and_who_dies_is_known_to_all() {
    for (nodes, loss) in [(3, 0.0), (20, 0.05), (60, 0.05)] {
        let mut world = World::settled(5, nodes);
        world.loss = loss;
        world.run(120 * SECOND);
        assert_eq!(world.deaths, [], "{nodes} nodes, loss {loss}");
        let died = world.now;
        world.kill(1);
        world.must(30 * SECOND, "a death to be known", |world| {
            world.all_see(1, Presence::Dead)
        });
        let first = world.deaths[0].0 - died;
        assert!(world.deaths.iter().all(|(_, _, dead)| *dead == 1));
        // Suspicion gives everybody the time to contradict.
        assert!(first >= 2 * SECOND, "{first:?}");
    }
}

#[test]
fn who_comes_back_to_its_address_is_there_again() {
    let mut world = World::settled(6, 20);
    // So soon that nobody noticed.
    world.kill(3);
    world.run(SECOND / 2);
    world.start(3);
    world.must(20 * SECOND, "a quick restart", World::agrees);
    world.run(20 * SECOND);
    assert_eq!(world.deaths, []);
    // After it was thought dead, and with a clock that was set back by a day, or ahead and back.
    for clock in [0, -86_400, 3_600, -3_600] {
        world.kill(3);
        world.must(30 * SECOND, "a death", |world| {
            world.all_see(3, Presence::Dead)
        });
        let now = world.now.as_secs();
        let clock = Time::from_secs(now.checked_add_signed(clock).unwrap());
        world.start_at(3, clock, keyring());
        world.must(30 * SECOND, "a restart", World::agrees);
        world.run(20 * SECOND);
        assert!(world.agrees());
    }
}

#[test]
fn nobody_stays_dead_once_a_partition_heals() {
    for (nodes, cut) in [(4, 2), (31, 15), (60, 1)] {
        let mut world = World::settled(7, nodes);
        world.split(|node| u32::from(node < cut));
        world.must(60 * SECOND, "the halves to lose each other", |world| {
            (0..cut).all(|one| {
                (cut..nodes).all(|other| {
                    world.presence(one, other) == Some(Presence::Dead)
                        && world.presence(other, one) == Some(Presence::Dead)
                })
            })
        });
        let crossed = |(_, by, dead): &(Time, usize, usize)| (*by < cut) != (*dead < cut);
        assert!(
            world.deaths.iter().all(crossed),
            "nobody dies on one's own side"
        );
        world.heal();
        world.deaths.clear();
        world.must(90 * SECOND, "the halves to find each other", World::agrees);
        world.run(60 * SECOND);
        assert!(world.agrees());
        let wrong: Vec<_> = world
            .deaths
            .iter()
            .filter(|death| !crossed(death))
            .collect();
        assert!(wrong.is_empty(), "died of old news: {wrong:?}");
    }
}

#[test]
fn who_leaves_is_expected_back_for_a_while() {
    let mut world = World::settled(8, 12);
    world.leave(4);
    world.must(10 * SECOND, "a leave", |world| {
        world.all_see(4, Presence::Left)
    });
    world.run(20 * SECOND);
    assert!(world.all_see(4, Presence::Left));
    world.start(4);
    world.must(20 * SECOND, "a return", World::agrees);
    world.run(90 * SECOND);
    assert!(world.agrees());
    assert_eq!(world.deaths, []);
    world.leave(4);
    world.must(80 * SECOND, "a leave for good", |world| {
        world.all_see(4, Presence::Dead)
    });
}

#[test]
fn who_starts_while_another_is_expected_back_expects_it_too() {
    let mut world = World::settled(14, 12);
    world.kill(5);
    world.must(30 * SECOND, "a death", |world| {
        world.all_see(5, Presence::Dead)
    });
    world.leave(4);
    world.must(10 * SECOND, "a leave", |world| {
        world.all_see(4, Presence::Left)
    });
    world.deaths.clear();
    world.start(5);
    world.must(20 * SECOND, "the leave to be known", |world| {
        world.presence(5, 4) == Some(Presence::Left)
    });
    world.run(20 * SECOND);
    assert!(world.all_see(4, Presence::Left));
    assert_eq!(world.deaths, [], "nobody takes it for dead meanwhile");
    // It has the rest of its minute, wherever one was when it left.
    world.must(40 * SECOND, "a leave for good", |world| {
        world.all_see(4, Presence::Dead)
    });
    world.start(4);
    world.must(30 * SECOND, "a return", World::agrees);
}

#[test]
fn what_a_member_says_reaches_all_and_who_was_cut_off_catches_up() {
    let mut world = World::settled(9, 30);
    world.split(|node| u32::from(node == 5));
    world.run(SECOND);
    // While one does not hear it, and so soon that nobody misses it.
    for node in [2, 3] {
        let mut said = about(node);
        said.attributes
            .insert("rack".to_owned(), format!("r{node}"));
        let now = world.now;
        world.core(node).set_about(now, said).unwrap();
        world.act(node);
    }
    world.run(2 * SECOND);
    let rack = |world: &World, by, of| {
        let about = world.seen(by, of).and_then(|member| member.about.clone());
        about.and_then(|about| about.attributes.get("rack").cloned())
    };
    assert_eq!(rack(&world, 4, 2).as_deref(), Some("r2"));
    assert_eq!(rack(&world, 5, 2), None);
    world.heal();
    world.must(60 * SECOND, "the one to catch up", World::agrees);
    assert_eq!(rack(&world, 5, 2).as_deref(), Some("r2"));
    assert_eq!(rack(&world, 5, 3).as_deref(), Some("r3"));
}

#[test]
fn a_process_that_was_stopped_blames_nobody() {
    let mut world = World::settled(10, 8);
    // For shorter than the others take to give it up, several times, and once for longer.
    for time in [1_500, 1_500, 10_000] {
        world.freeze(2, true);
        world.run(Duration::from_millis(time));
        world.freeze(2, false);
        world.must(60 * SECOND, "all to agree again", World::agrees);
        world.run(10 * SECOND);
    }
    let blamed: Vec<_> = world.deaths.iter().filter(|(_, by, _)| *by == 2).collect();
    assert!(blamed.is_empty(), "{blamed:?}");
}

#[test]
fn strangers_change_nothing_and_are_counted() {
    let mut world = World::settled(11, 5);
    let before = world.counters();
    let stranger = 4;
    world.kill(stranger);
    world.must(30 * SECOND, "a death", |world| {
        world.all_see(stranger, Presence::Dead)
    });
    let now = world.now;
    world.start_at(stranger, now, Keyring::new([[8; 32]]).unwrap());
    world.run(60 * SECOND);
    let running: Vec<usize> = (0..4).collect();
    for by in running {
        assert_eq!(world.presence(by, stranger), Some(Presence::Dead));
    }
    let after = world.counters();
    assert!(after.strangers > before.strangers);
    assert_eq!((after.malformed, after.impostors), (0, 0));
}

#[test]
fn old_packets_change_nothing() {
    let mut world = World::new(12, 6);
    world.tapped = Some(Vec::new());
    for node in 0..6 {
        world.start(node);
    }
    world.must(30 * SECOND, "all to know all", World::agrees);
    world.run(30 * SECOND);
    let tapped = world.tapped.take().unwrap();
    let before = world.counters();
    world.kill(3);
    // Somebody plays all that was ever said, again and again, while one of them dies.
    for _ in 0..40 {
        for (to, packet) in tapped.iter().filter(|(to, _)| *to != 3) {
            world.inject(*to, packet);
        }
        world.run(SECOND / 4);
    }
    assert!(
        world.all_see(3, Presence::Dead),
        "it is not kept alive by its old answers"
    );
    let others = [0, 1, 2, 4, 5];
    assert!(others.iter().all(|by| {
        others
            .iter()
            .all(|of| world.presence(*by, *of) == Some(Presence::Alive))
    }));
    let after = world.counters();
    let heard = tapped.iter().filter(|(to, _)| *to != 3).count() as u64 * 40;
    assert_eq!(
        after.replayed + after.outdated - before.replayed - before.outdated,
        heard
    );
    // Of a life that is over, all in one instant bring its address one answer.
    world.start(3);
    world.must(30 * SECOND, "a return", World::agrees);
    let before = world.counters();
    for (_, packet) in tapped.iter().filter(|(to, _)| *to == 1) {
        world.inject(1, packet);
    }
    let after = world.counters();
    assert!(after.outdated > before.outdated + 1);
    assert_eq!(after.sent, before.sent + 1);
    world.kill(3);
    world.must(30 * SECOND, "a death", |world| {
        world.all_see(3, Presence::Dead)
    });
    // One that starts anew has not heard them before; they are not for its new life.
    world.kill(2);
    world.run(SECOND);
    world.start(2);
    world.must(20 * SECOND, "a restart", |world| {
        world.presence(2, 4) == Some(Presence::Alive)
    });
    for (to, packet) in &tapped {
        if *to == 2 {
            world.inject(2, packet);
        }
    }
    world.run(20 * SECOND);
    assert_eq!(world.presence(2, 3), Some(Presence::Dead));
    assert!(world.agrees());
}

#[test]
fn keys_change_one_node_at_a_time() {
    let (old, new) = ([7; 32], [9; 32]);
    let mut world = World::settled(13, 6);
    for keys in [vec![old, new], vec![new, old], vec![new]] {
        for node in 0..6 {
            let keyring = Keyring::new(keys.clone()).unwrap();
            world.core(node).set_keyring(keyring);
            world.run(3 * SECOND);
        }
    }
    world.run(30 * SECOND);
    assert!(world.agrees());
    assert_eq!((world.deaths.len(), world.counters().strangers), (0, 0));
}

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    Kill(usize),
    Leave(usize),
    Start(usize),
    Split(u32),
    Heal,
    Loss(u8),
    Say(usize),
    Freeze(usize, bool),
    Wait(u64),
}

fn event(nodes: usize) -> impl Strategy<Value = Event> {
    let node = 0..nodes;
    prop_oneof![
        2 => node.clone().prop_map(Event::Kill),
        1 => node.clone().prop_map(Event::Leave),
        3 => node.clone().prop_map(Event::Start),
        2 => any::<u32>().prop_map(Event::Split),
        1 => Just(Event::Heal),
        1 => (0..60_u8).prop_map(Event::Loss),
        1 => node.clone().prop_map(Event::Say),
        1 => (node, any::<bool>()).prop_map(|(node, frozen)| Event::Freeze(node, frozen)),
        4 => (1..20_000_u64).prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_agree_once_trouble_ends(
        seed in any::<u64>(),
        events in (3..12_usize).prop_flat_map(|nodes| {
            (Just(nodes), prop::collection::vec(event(nodes), 1..40))
        }),
    ) {
        let (nodes, events) = events;
        let mut world = World::new(seed, nodes);
        world.start(0);
        let runs = |world: &World, node: usize| world.running().contains(&node);
        // No process begins within the milliseconds that the words of the one before it were given.
        let start = |world: &mut World, node: usize| {
            world.run(SECOND / 20);
            world.start(node);
        };
        for event in events {
            match event {
                Event::Kill(node) => world.kill(node),
                Event::Leave(node) if runs(&world, node) => world.leave(node),
                Event::Start(node) => {
                    world.freeze(node, false);
                    start(&mut world, node);
                }
                Event::Split(bits) => world.split(|node| bits >> node & 1),
                Event::Heal => world.heal(),
                Event::Loss(percent) => world.loss = f64::from(percent) / 100.0,
                Event::Say(node) if runs(&world, node) => {
                    let mut said = about(node);
                    said.attributes.insert("said".to_owned(), world.now.to_string());
                    let now = world.now;
                    world.core(node).set_about(now, said).unwrap();
                    world.act(node);
                }
                Event::Freeze(node, frozen) => world.freeze(node, frozen),
                Event::Wait(millis) => world.run(Duration::from_millis(millis)),
                Event::Leave(_) | Event::Say(_) => {}
            }
        }
        world.heal();
        world.loss = 0.0;
        for node in 0..nodes {
            world.freeze(node, false);
            if node < 2 && !runs(&world, node) {
                // Seeds: without them nobody would know where to look.
                start(&mut world, node);
            }
        }
        world.must(200 * SECOND, "all to agree", World::agrees);
        world.deaths.clear();
        world.run(100 * SECOND);
        prop_assert!(world.agrees());
        let there = world.running();
        let wrong: Vec<_> = world.deaths.iter().filter(|(_, _, dead)| there.contains(dead)).collect();
        prop_assert!(wrong.is_empty(), "{:?}", wrong);
        prop_assert_eq!(world.counters().malformed, 0);
    }
}
