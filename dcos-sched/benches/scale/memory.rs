//! What an agent and a task cost the master's memory.

use std::process::Command;
use std::time::Duration;

use bench::Table;
use dcos_core::time::Time;

use super::cluster::{recovered, returning};
use super::failover::{core, feed, message};
use super::{Size, runtime};

/// Each stage is a process of its own: freed memory of one would hide what the next takes.
pub(crate) fn run(size: Size) {
    let resident = |agents: usize, tasks: usize| {
        let stage = format!("{agents}x{tasks}");
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program)
            .args(["--memory-stage", &stage])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().parse::<f64>().unwrap()
    };
    let empty = resident(0, 0);
    let agents = resident(size.agents, 0);
    let tasks = resident(size.agents, size.tasks);
    let mut table = Table::new(
        format!(
            "resident memory, {} agents x {} tasks",
            size.agents, size.tasks
        ),
        "kB",
    );
    table.row("the whole core", vec![(tasks - empty) / 1024.0]);
    table.row(
        "an agent",
        vec![(agents - empty) / 1024.0 / size.agents as f64],
    );
    let count = (size.agents * size.tasks) as f64;
    table.row(
        "a task with 10 labels",
        vec![(tasks - agents) / 1024.0 / count],
    );
    table.note(format!("{} bytes on the wire", task_bytes()));
    table.print();
}

fn task_bytes() -> usize {
    (returning(1, 11, 0).len() - returning(1, 1, 0).len()) / 10
}

/// Fills a core and prints the resident memory of this process in bytes.
#[expect(clippy::print_stdout, reason = "it is what the parent process reads")]
pub(crate) fn stage(size: &str) {
    let (agents, tasks) = size.split_once('x').unwrap();
    let (agents, tasks): (usize, usize) = (agents.parse().unwrap(), tasks.parse().unwrap());
    let registry = runtime().block_on(recovered(agents));
    let mut master = core(&registry);
    drop(registry);
    let mut now = Time::from_secs(2);
    for agent in 0..agents {
        now += Duration::from_micros(1);
        let input = message(agent, returning(agent, tasks, 0));
        feed(&mut master, now, input);
    }
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: f64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    println!("{}", resident * 4096.0);
    drop(master);
}
