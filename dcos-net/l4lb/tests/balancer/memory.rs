//! Nodes that begin anew: what they led where is remembered, and what the data path has goes on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_l4lb::{Balancer, Config, Reserved, View};
use dcos_net::{Cluster, Keeping, Origin, Remembered};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;
use dcos_wire::Told;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Double;

/// A process that balances, and whom it hears.
struct Process {
    master: mpsc::Sender<Told>,
    unreachable: watch::Sender<BTreeSet<IpAddr>>,
    reserved: watch::Sender<Reserved>,
    view: View,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Process {
    fn begin(double: &Double, memory: &Path, reserved: Reserved) -> Self {
        let keeping = Keeping::new(memory.to_owned(), Origin::default());
        Self::keeping(double, keeping, reserved)
    }

    fn keeping(double: &Double, keeping: Keeping, reserved: Reserved) -> Self {
        let (master, told) = mpsc::channel(64);
        let (unreachable, cut_off) = watch::channel(BTreeSet::new());
        let (reserve, reserved) = watch::channel(reserved);
        let config = Config {
            told,
            own: Vec::new(),
            reserved: Some(reserved),
            unreachable: Some(cut_off),
            memory: Some(keeping),
        };
        let balancer = Balancer::new(config, double.clone());
        let (view, stop) = (balancer.view(), CancellationToken::new());
        Self {
            master,
            unreachable,
            reserved: reserve,
            view,
            running: tokio::spawn(balancer.run(stop.clone())),
            stop,
        }
    }

    async fn tell(&self, event: &str) {
        let event: Event = json::from_slice(event.as_bytes(), Dialect::V1).unwrap();
        self.master.send(Told::Event(event.into())).await.unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// Waits until it is written down that so many tasks run.
async fn written(memory: &Path, tasks: usize) {
    let is_written = || {
        let file = std::fs::read(memory).ok()?;
        Some(Remembered::read(&file).ok()?.tasks.len() == tasks)
    };
    let wait = async {
        while is_written() != Some(true) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap();
}

fn none() -> Reserved {
    Reserved::default()
}

fn agents(lasts: &[u8]) -> String {
    let one = |last: &u8| {
        format!(
            r#"{{"agent_info": {{"id": {{"value": "S{last}"}}, "hostname": "h"}}, "active": true, "version": "1",
              "pid": "slave(1)@10.0.0.{last}:5051"}}"#
        )
    };
    lasts.iter().map(one).collect::<Vec<_>>().join(",")
}

/// A task on an agent, behind a virtual address.
type Task<'a> = (&'a str, u8, &'a str);

fn task((id, agent, vip): Task<'_>) -> String {
    format!(
        r#"{{"name": "{id}", "task_id": {{"value": "{id}"}}, "framework_id": {{"value": "f"}},
          "agent_id": {{"value": "S{agent}"}}, "state": "TASK_RUNNING", "discovery": {{"visibility": "CLUSTER",
          "ports": {{"ports": [{{"number": 80, "protocol": "tcp",
          "labels": {{"labels": [{{"key": "VIP_0", "value": "{vip}"}}]}}}}]}}}}}}"#
    )
}

/// What a leader tells first: where agents are, which it awaits, what runs.
fn led(there: &[u8], awaited: &[u8], tasks: &[Task<'_>]) -> String {
    let awaited = awaited.iter();
    let awaited =
        awaited.map(|last| format!(r#"{{"id": {{"value": "S{last}"}}, "hostname": "h"}}"#));
    let tasks = tasks.iter().map(|one| task(*one));
    format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{
          "get_agents": {{"agents": [{}], "recovered_agents": [{}]}},
          "get_frameworks": {{"frameworks": [{{"framework_info": {{"id": {{"value": "f"}}, "user": "root",
            "name": "marathon"}}, "active": true, "connected": true, "recovered": false}}]}},
          "get_tasks": {{"tasks": [{}]}}}}}}}}"#,
        agents(there),
        awaited.collect::<Vec<_>>().join(","),
        tasks.collect::<Vec<_>>().join(",")
    )
}

fn ended(id: &str) -> String {
    format!(
        r#"{{"type": "TASK_UPDATED", "task_updated": {{"framework_id": {{"value": "f"}}, "state": "TASK_FAILED",
          "status": {{"task_id": {{"value": "{id}"}}, "state": "TASK_FAILED", "timestamp": 9.0}}}}}}"#
    )
}

fn came(last: u8) -> String {
    let agent = agents(&[last]);
    format!(r#"{{"type": "AGENT_ADDED", "agent_added": {{"agent": {agent}}}}}"#)
}

const WEB: &str = "12.0.0.1:80";
const DB: &str = "12.0.0.2:80";

#[tokio::test]
async fn a_node_that_was_rebooted_while_no_master_leads_has_its_services() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let first = Process::begin(&double, &memory, none());
    first
        .tell(&led(
            &[7, 8],
            &[],
            &[("a", 7, WEB), ("b", 8, WEB), ("c", 7, DB)],
        ))
        .await;
    double
        .leads_to(&["10.0.0.7:80", "10.0.0.8:80", "10.0.0.7:80"])
        .await;
    assert_eq!(first.view.remembered_for(), None);
    // What happened last counts, too.
    first.tell(&ended("c")).await;
    double.leads_to(&["10.0.0.7:80", "10.0.0.8:80"]).await;
    written(&memory, 2).await;
    first.end().await;

    let double = Double::default();
    // Nobody knows which masters there are; names of others are being looked up.
    let waiting = Reserved {
        awaited: 1,
        masters_awaited: true,
        ..none()
    };
    let second = Process::begin(&double, &memory, waiting.clone());
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(second.view.list().len(), 1);
    assert!(second.view.remembered_for().is_some());
    double.leads_to(&[]).await;
    second.reserved.send_replace(Reserved {
        awaited: 0,
        ..waiting
    });
    double.leads_to(&["10.0.0.7:80", "10.0.0.8:80"]).await;
    second
        .unreachable
        .send_replace([[10, 0, 0, 8].into()].into());
    double.leads_to(&["10.0.0.7:80"]).await;
    // A leader comes, to whom one agent has come back, and knows of something new.
    second
        .reserved
        .send_modify(|now| now.masters_awaited = false);
    second.unreachable.send_replace(BTreeSet::new());
    second
        .tell(&led(&[8], &[7], &[("b", 8, WEB), ("d", 8, DB)]))
        .await;
    double
        .leads_to(&["10.0.0.7:80", "10.0.0.8:80", "10.0.0.8:80"])
        .await;
    assert_eq!(second.view.remembered_for(), None);
    second.end().await;
}

#[tokio::test]
async fn of_what_the_data_path_has_only_nodes_are_taken_that_nobody_reaches() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let first = Process::begin(&double, &memory, none());
    first
        .tell(&led(
            &[7, 8],
            &[],
            &[("a", 7, WEB), ("b", 8, WEB), ("c", 7, DB), ("d", 8, DB)],
        ))
        .await;
    let both = ["10.0.0.7:80", "10.0.0.8:80", "10.0.0.7:80", "10.0.0.8:80"];
    double.leads_to(&both).await;
    written(&memory, 4).await;
    first.end().await;
    // A process that was killed knew more than it had written.
    let (web, db) = {
        let mut kept = double.0.lock().unwrap();
        let services: Vec<_> = kept.services.keys().copied().collect();
        kept.services
            .insert(services[0], vec!["10.0.0.8:80".parse().unwrap()]);
        kept.services.remove(&services[1]);
        (services[0], services[1])
    };
    let second = Process::begin(&double, &memory, none());
    double
        .leads_to(&["10.0.0.8:80", "10.0.0.7:80", "10.0.0.8:80"])
        .await;
    second
        .unreachable
        .send_replace([[10, 0, 0, 8].into()].into());
    double.leads_to(&["10.0.0.7:80", "10.0.0.7:80"]).await;
    second.end().await;
    // Who is dead may be known sooner than that no master tells.
    let third = Process::begin(&double, &memory, none());
    third
        .unreachable
        .send_replace([[10, 0, 0, 7].into()].into());
    double.leads_to(&["10.0.0.8:80", "10.0.0.8:80"]).await;
    third.end().await;
    let kept = double.0.lock().unwrap();
    assert!(kept.services.contains_key(&web) && kept.services.contains_key(&db));
}

/// What is written to the log, and is to be read again.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_of_changes_only_where_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let log = Log::default();
    let to = log.clone();
    let logging = tracing_subscriber::fmt().with_writer(move || to.clone());
    let _guard = tracing::subscriber::set_default(logging.finish());
    let told = || {
        let text = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        text.matches("a virtual address changed").count()
    };
    let first = Process::begin(&double, &memory, none());
    let tasks = [("a", 7, WEB), ("b", 8, WEB), ("c", 7, DB)];
    first.tell(&led(&[7, 8], &[], &tasks)).await;
    let all = ["10.0.0.7:80", "10.0.0.8:80", "10.0.0.7:80"];
    double.leads_to(&all).await;
    first.end().await;
    assert_eq!(told(), 2);
    // Nothing has changed for who begins anew.
    tokio::time::pause();
    let second = Process::begin(&double, &memory, none());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(told(), 0);
    tokio::time::resume();
    second.tell(&led(&[7, 8], &[], &tasks[..2])).await;
    double.leads_to(&all[..2]).await;
    second.end().await;
    assert_eq!(told(), 1);
}

#[tokio::test]
async fn what_the_data_path_has_goes_on_until_a_leader_tells_whatever_happens() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let first = Process::begin(&double, &memory, none());
    let tasks = [("a", 7, WEB), ("b", 8, WEB), ("c", 7, DB)];
    first.tell(&led(&[7, 8], &[], &tasks)).await;
    double
        .leads_to(&["10.0.0.7:80", "10.0.0.8:80", "10.0.0.7:80"])
        .await;
    first.end().await;
    // Reviews are made when nothing else is to do.
    tokio::time::pause();
    // What it heard last it could not write any more: `a` had ended, there was one more at 9.
    let had = ["10.0.0.8:80", "10.0.0.9:80"];
    let web = *double.0.lock().unwrap().services.keys().next().unwrap();
    for fails in [false, true] {
        {
            let mut kept = double.0.lock().unwrap();
            let backends = had.map(|place| place.parse().unwrap()).into();
            kept.services = [(web, backends)].into();
            kept.fails = fails;
        }
        let second = Process::begin(&double, &memory, none());
        let with_db = ["10.0.0.8:80", "10.0.0.9:80", "10.0.0.7:80"];
        double.leads_to(&with_db).await;
        // Somebody changes the host's tables.
        double.0.lock().unwrap().is_touched = true;
        while double.0.lock().unwrap().is_touched {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        double.leads_to(&with_db).await;
        let cut_off = |lasts: &[u8]| {
            let nodes = lasts.iter().map(|last| [10, 0, 0, *last].into()).collect();
            second.unreachable.send_replace(nodes);
        };
        cut_off(&[8]);
        double.leads_to(&["10.0.0.9:80", "10.0.0.7:80"]).await;
        cut_off(&[9]);
        double.leads_to(&["10.0.0.8:80", "10.0.0.7:80"]).await;
        // Better one who may have ended than those who cannot answer.
        cut_off(&[8, 9]);
        double.leads_to(&["10.0.0.7:80", "10.0.0.7:80"]).await;
        cut_off(&[7, 8, 9]);
        double.leads_to(&with_db).await;
        cut_off(&[]);
        double.leads_to(&with_db).await;
        if fails {
            // A leader knows best.
            second.tell(&led(&[7, 8], &[], &tasks[..1])).await;
            double.leads_to(&["10.0.0.7:80"]).await;
        } else {
            second.reserved.send_replace(Reserved {
                addresses: [[12, 0, 0, 1].into()].into(),
                ..none()
            });
            double.leads_to(&["10.0.0.7:80"]).await;
        }
        second.end().await;
    }
}

#[tokio::test]
async fn a_restart_during_a_failover_loses_no_backend_that_is_awaited_and_keeps_none_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let first = Process::begin(&double, &memory, none());
    first
        .tell(&led(
            &[7, 8],
            &[],
            &[("a", 7, WEB), ("b", 8, WEB), ("c", 7, DB)],
        ))
        .await;
    double
        .leads_to(&["10.0.0.7:80", "10.0.0.8:80", "10.0.0.7:80"])
        .await;
    written(&memory, 3).await;
    // Killed: nothing is written any more.
    first.running.abort();
    let second = Process::begin(&double, &memory, none());
    // While it was away `c` ended, and another leader came, which awaits an agent.
    second.tell(&led(&[7], &[8], &[("a", 7, WEB)])).await;
    double.leads_to(&["10.0.0.7:80", "10.0.0.8:80"]).await;
    let strict = || double.0.lock().unwrap().strict.clone();
    let second_time = async {
        while strict().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), second_time).await.unwrap();
    assert_eq!(strict(), [true, false]);
    written(&memory, 2).await;
    // Killed once more, while that is so.
    second.running.abort();
    let third = Process::begin(&double, &memory, none());
    third.tell(&led(&[7], &[8], &[("a", 7, WEB)])).await;
    third.tell(&ended("a")).await;
    double.leads_to(&["10.0.0.8:80"]).await;
    third.tell(&came(8)).await;
    let gone = async {
        while !third.view.list().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // It came back without its task.
    timeout(Duration::from_secs(60), gone).await.unwrap();
    double.leads_to(&[]).await;
    third.end().await;
}

#[tokio::test]
async fn where_masters_were_is_nobodys_address_though_nobody_tells_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let master = Reserved {
        addresses: [[12, 0, 0, 2].into()].into(),
        ..none()
    };
    let first = Process::begin(&double, &memory, master);
    let tasks = [("a", 7, WEB), ("b", 8, DB)];
    first.tell(&led(&[7, 8], &[], &tasks)).await;
    double.leads_to(&["10.0.0.7:80"]).await;
    written(&memory, 2).await;
    first.end().await;
    let double = Double::default();
    let waiting = Reserved {
        masters_awaited: true,
        ..none()
    };
    let second = Process::begin(&double, &memory, waiting);
    double.leads_to(&["10.0.0.7:80"]).await;
    let at = |last: u8| IpAddr::from([12, 0, 0, last]);
    assert!(!double.0.lock().unwrap().ever.contains(&at(2)));
    // Until those who stand are known a leader may tell what it wants; then it is nobody's any more.
    second.tell(&led(&[7, 8], &[], &tasks)).await;
    second.reserved.send_modify(|now| {
        now.masters_awaited = false;
        now.addresses.insert(at(3));
    });
    double.leads_to(&["10.0.0.7:80", "10.0.0.8:80"]).await;
    second.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_or_written_keeps_no_service_from_working() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    std::fs::create_dir_all(&memory).unwrap();
    let double = Double::default();
    let process = Process::begin(&double, &memory, none());
    process.tell(&led(&[7], &[], &[("a", 7, WEB)])).await;
    double.leads_to(&["10.0.0.7:80"]).await;
    process.tell(&ended("a")).await;
    double.leads_to(&[]).await;
    // As soon as it can be written it is.
    std::fs::remove_dir(&memory).unwrap();
    process.tell(&led(&[7], &[], &[("b", 7, DB)])).await;
    double.leads_to(&["10.0.0.7:80"]).await;
    let is_written = async {
        while !memory.is_file() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), is_written).await.unwrap();
    process.end().await;
}

fn of(election: &str, boot: &str, memory: &Path) -> Keeping {
    let origin = Origin {
        cluster: Cluster {
            election: election.to_owned(),
            places: ["m:2181".to_owned()].into(),
        },
        boot: Some(boot.to_owned()),
        own: [[10, 0, 0, 7].into()].into(),
    };
    Keeping::new(memory.to_owned(), origin)
}

#[tokio::test]
async fn a_node_of_another_cluster_remembers_nothing_until_that_one_tells() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let double = Double::default();
    let begin =
        |double: &Double, cluster| Process::keeping(double, of(cluster, "1", &memory), none());
    let first = begin(&double, "zk:/one");
    first.tell(&led(&[7], &[], &[("a", 7, WEB)])).await;
    double.leads_to(&["10.0.0.7:80"]).await;
    first.end().await;
    // It may be the same one by another name: what the kernel has stays until a master tells, and nothing is added.
    tokio::time::pause();
    let second = begin(&double, "zk:/two");
    tokio::time::sleep(Duration::from_secs(100)).await;
    double.leads_to(&["10.0.0.7:80"]).await;
    assert!(second.view.list().is_empty());
    second.end().await;
    // After a reboot it has nothing. What the file says stays there.
    let empty = Double::default();
    let third = begin(&empty, "zk:/two");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(third.view.list().is_empty() && empty.0.lock().unwrap().ever.is_empty());
    third.end().await;
    let back = begin(&empty, "zk:/one");
    empty.leads_to(&["10.0.0.7:80"]).await;
    back.end().await;
    // The other one's leader tells, sooner than anything is taken away. What is written takes real time.
    tokio::time::resume();
    let fourth = begin(&empty, "zk:/two");
    fourth.tell(&led(&[8], &[], &[("b", 8, WEB)])).await;
    empty.leads_to(&["10.0.0.8:80"]).await;
    fourth.end().await;
    let double = Double::default();
    let fifth = begin(&double, "zk:/two");
    double.leads_to(&["10.0.0.8:80"]).await;
    fifth.end().await;
}

#[tokio::test]
async fn a_node_that_was_rebooted_leads_to_none_of_its_own_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let begin = |double: &Double, boot| Process::keeping(double, of("", boot, &memory), none());
    let double = Double::default();
    let first = begin(&double, "1");
    let tasks = [("a", 7, WEB), ("b", 8, WEB), ("c", 7, DB)];
    first.tell(&led(&[7, 8], &[], &tasks)).await;
    let all = ["10.0.0.7:80", "10.0.0.8:80", "10.0.0.7:80"];
    double.leads_to(&all).await;
    first.end().await;
    tokio::time::pause();
    let same = Double::default();
    let second = begin(&same, "1");
    same.leads_to(&all).await;
    second.end().await;
    let rebooted = Double::default();
    let third = begin(&rebooted, "2");
    rebooted.leads_to(&["10.0.0.8:80"]).await;
    // What begins there anew counts. What is written takes real time.
    tokio::time::resume();
    third.tell(&led(&[7, 8], &[], &tasks[..2])).await;
    rebooted.leads_to(&all[..2]).await;
    third.end().await;
    let again = Double::default();
    let fourth = begin(&again, "2");
    again.leads_to(&all[..2]).await;
    fourth.end().await;
}

/// As the time of the test goes on.
fn clock() -> Time {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    Time::from_secs(1_000_000) + BEGIN.get_or_init(Instant::now).elapsed()
}

#[tokio::test(start_paused = true)]
async fn that_nothing_changed_is_noted_until_the_process_ends_and_what_is_older_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("vips/state");
    let keeping = || Keeping {
        clock,
        max_age: Duration::from_secs(100),
        ..of("", "1", &memory)
    };
    let double = Double::default();
    let first = Process::keeping(&double, keeping(), none());
    first.tell(&led(&[7], &[], &[("a", 7, WEB)])).await;
    double.leads_to(&["10.0.0.7:80"]).await;
    let written = || {
        let file = std::fs::read(&memory).ok()?;
        Some(Remembered::read(&file).ok()?.written)
    };
    // Nobody says anything more. What is written takes real time, in which that of the test stands still.
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begin = std::time::Instant::now();
        while written().is_none_or(|written| clock() - written > Duration::from_secs(60)) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", written());
            tokio::task::yield_now().await;
        }
    }
    // Killed.
    first.running.abort();
    let double = Double::default();
    let second = Process::keeping(&double, keeping(), none());
    double.leads_to(&["10.0.0.7:80"]).await;
    second.running.abort();
    let last = written();
    tokio::time::sleep(Duration::from_secs(101)).await;
    assert_eq!(written(), last, "who only remembers notes nothing");
    let double = Double::default();
    let third = Process::keeping(&double, keeping(), none());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(third.view.list().is_empty() && double.0.lock().unwrap().ever.is_empty());
    third.end().await;
}
