//! What gossip costs by the number of nodes, and how soon all know: on the virtual clock of the
//! tests, in a network that takes 0.2 to 5 ms and loses nothing.
//!
//! `cargo bench -p dcos-gossip --bench gossip -- --nodes 200`
#![expect(clippy::cast_precision_loss, reason = "counts are small")]

#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "tests do more")]
mod world;

use std::time::Duration;

use bench::{Table, argument, timed};
use dcos_gossip::Presence;
use world::World;

const SECOND: Duration = Duration::from_secs(1);

fn main() {
    let sizes = match argument("--nodes") {
        Some(nodes) => vec![nodes],
        None => vec![3, 10, 50, 100, 200, 500],
    };
    let mut rest = Table::new("gossip at rest, packets sent a node", "1/s");
    let mut bytes = Table::new("gossip at rest, bytes of datagrams sent a node", "B/s");
    let mut joined = Table::new("all nodes begin at once: until all know all", "s");
    let mut known = Table::new("a node dies: until all know", "s");
    let mut first = Table::new("a node dies: until the first knows", "s");
    let mut spent = Table::new("a minute at rest on one processor, a node", "ms");
    for nodes in sizes {
        let name = format!("{nodes} nodes");
        let mut world = World::new(1, nodes);
        for node in 0..nodes {
            world.start(node);
        }
        let took = world.must(120 * SECOND, "all to know all", World::agrees);
        joined.row(&name, vec![took.as_secs_f64()]);
        world.run(60 * SECOND);
        let before = world.counters();
        let ((), cost) = timed(|| world.run(60 * SECOND));
        let after = world.counters();
        let per = |count: u64| count as f64 / 60.0 / nodes as f64;
        rest.row(&name, vec![per(after.sent - before.sent)]);
        bytes.row(&name, vec![per(after.sent_bytes - before.sent_bytes)]);
        spent.row(&name, vec![cost / nodes as f64]);
        let (mut all, mut one) = (Vec::new(), Vec::new());
        for node in (0..nodes).rev().take(if nodes > 3 { 5 } else { 1 }) {
            world.deaths.clear();
            let died = world.now;
            world.kill(node);
            world.must(60 * SECOND, "a death to be known", |world| {
                world.all_see(node, Presence::Dead)
            });
            let times = world.deaths.iter().filter(|(_, _, dead)| *dead == node);
            let times: Vec<f64> = times.map(|(at, ..)| (*at - died).as_secs_f64()).collect();
            one.push(times.iter().copied().fold(f64::MAX, f64::min));
            all.push(times.iter().copied().fold(0.0, f64::max));
            world.run(10 * SECOND);
        }
        known.row(&name, all);
        first.row(&name, one);
    }
    for table in [rest, bytes, joined, first, known, spent] {
        table.print();
    }
}
