//! The scheduler driver against a scripted master.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::{FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskState, TaskStatus};
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_sched::sdk::{
    Acknowledge, DriverConfig, DriverError, Handle, Scheduler, SchedulerDriver, SchedulerTransport,
    Stopped, Subscription, TOO_SLOW, TransportError,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the master does with the next subscription.
#[derive(Debug)]
enum Answer {
    /// Sends these events; then keeps the stream open, or closes it.
    Events {
        events: Vec<Event>,
        close: bool,
    },
    Error(TransportError),
}

#[derive(Debug, Default)]
struct ScriptedMaster {
    answers: Mutex<VecDeque<Answer>>,
    calls: Mutex<Vec<Call>>,
    open: Mutex<Vec<mpsc::Sender<Event>>>,
}

#[async_trait]
impl SchedulerTransport for ScriptedMaster {
    async fn subscribe(&self, call: Call) -> Result<Subscription, TransportError> {
        self.calls.lock().unwrap().push(call);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer.unwrap_or(Answer::Events {
            events: Vec::new(),
            close: false,
        }) {
            Answer::Error(error) => Err(error),
            Answer::Events { events, close } => {
                let (sender, receiver) = mpsc::channel(64);
                for event in events {
                    sender.try_send(event).unwrap();
                }
                if !close {
                    self.open.lock().unwrap().push(sender);
                }
                Ok(Subscription {
                    stream_id: "s".into(),
                    events: receiver,
                })
            }
        }
    }

    async fn call(&self, _: &str, call: Call) -> Result<(), TransportError> {
        self.calls.lock().unwrap().push(call);
        Ok(())
    }
}

/// Stops (or tears down) when a task has finished.
#[derive(Debug, Default)]
struct Recorder {
    seen: Vec<String>,
    tear_down: bool,
}

#[async_trait]
impl Scheduler for Recorder {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
        self.seen.push(format!("subscribed {id}"));
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        self.seen.push(format!("{} offers", offers.len()));
        handle
            .decline(offers.into_iter().map(|offer| offer.id).collect(), None)
            .await
            .unwrap();
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        self.seen
            .push(format!("{} {:?}", status.task_id, status.state()));
        if status.state() == TaskState::TaskFinished {
            if self.tear_down {
                handle.teardown().await.unwrap()
            } else {
                handle.stop()
            }
        }
    }

    async fn disconnected(&mut self) {
        self.seen.push("disconnected".into());
    }

    async fn error(&mut self, message: String) {
        self.seen.push(format!("error {message}"));
    }
}

fn subscribed(id: &str) -> Event {
    Event {
        r#type: Some(event::Type::Subscribed.into()),
        subscribed: Some(event::Subscribed {
            framework_id: id.into(),
            heartbeat_interval_seconds: Some(15.0),
            ..event::Subscribed::default()
        }),
        ..Event::default()
    }
}

fn finished(task: &str) -> Event {
    let status = TaskStatus {
        task_id: task.into(),
        state: TaskState::TaskFinished.into(),
        agent_id: Some("a".into()),
        uuid: Some(vec![7; 16]),
        ..TaskStatus::default()
    };
    Event {
        r#type: Some(event::Type::Update.into()),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}

fn kinds(master: &ScriptedMaster) -> Vec<call::Type> {
    master
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(Call::r#type)
        .collect()
}

async fn run(
    master: &Arc<ScriptedMaster>,
    recorder: &mut Recorder,
    acknowledge: Acknowledge,
) -> Result<Stopped, DriverError> {
    let info = FrameworkInfo {
        user: "u".into(),
        name: "n".into(),
        ..FrameworkInfo::default()
    };
    let config = DriverConfig {
        acknowledge,
        ..DriverConfig::new(info)
    };
    let driver = SchedulerDriver::new(config, Arc::clone(master) as Arc<dyn SchedulerTransport>);
    driver.run(recorder, &CancellationToken::new()).await
}

fn master(answers: Vec<Answer>) -> Arc<ScriptedMaster> {
    Arc::new(ScriptedMaster {
        answers: Mutex::new(answers.into()),
        ..ScriptedMaster::default()
    })
}

#[tokio::test(start_paused = true)]
async fn updates_are_acknowledged_before_the_driver_stops() {
    let events = vec![subscribed("f"), finished("t")];
    let master = master(vec![Answer::Events {
        events,
        close: false,
    }]);
    let mut recorder = Recorder::default();
    let stopped = run(&master, &mut recorder, Acknowledge::Automatic)
        .await
        .unwrap();
    assert_eq!(stopped, Stopped::MayReturn);
    assert_eq!(recorder.seen, ["subscribed f", "t TaskFinished"]);
    assert_eq!(
        kinds(&master),
        [call::Type::Subscribe, call::Type::Acknowledge]
    );
}

#[tokio::test(start_paused = true)]
async fn explicit_acknowledgement_is_left_to_the_scheduler() {
    let events = vec![subscribed("f"), finished("t")];
    let master = master(vec![Answer::Events {
        events,
        close: false,
    }]);
    let mut recorder = Recorder {
        tear_down: true,
        ..Recorder::default()
    };
    let stopped = run(&master, &mut recorder, Acknowledge::Explicit)
        .await
        .unwrap();
    assert_eq!(stopped, Stopped::TornDown);
    assert_eq!(
        kinds(&master),
        [call::Type::Subscribe, call::Type::Teardown]
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_opened_again_under_the_same_id() {
    let unreachable = TransportError::Unreachable {
        target: "m:5050".into(),
        source: "refused".into(),
    };
    let master = master(vec![
        Answer::Events {
            events: vec![subscribed("f")],
            close: true,
        },
        Answer::Error(unreachable),
        Answer::Error(TransportError::NotReady {
            reason: "recovering".into(),
        }),
        Answer::Events {
            events: vec![subscribed("f"), finished("t")],
            close: false,
        },
    ]);
    let mut recorder = Recorder::default();
    run(&master, &mut recorder, Acknowledge::Automatic)
        .await
        .unwrap();
    assert_eq!(
        recorder.seen,
        [
            "subscribed f",
            "disconnected",
            "subscribed f",
            "t TaskFinished"
        ]
    );
    let calls = master.calls.lock().unwrap();
    assert_eq!(calls[0].framework_id, None);
    let again = calls
        .iter()
        .filter(|call| call.r#type() == call::Type::Subscribe)
        .skip(1);
    for call in again {
        assert_eq!(call.framework_id, Some("f".into()));
        let info = &call.subscribe.as_ref().unwrap().framework_info;
        assert_eq!(info.id, Some("f".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn silence_counts_as_a_dead_link() {
    let events = vec![subscribed("f"), finished("t")];
    let master = master(vec![
        Answer::Events {
            events: vec![subscribed("f")],
            close: false,
        },
        Answer::Events {
            events,
            close: false,
        },
    ]);
    let start = tokio::time::Instant::now();
    run(&master, &mut Recorder::default(), Acknowledge::Automatic)
        .await
        .unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(75),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_or_an_error_event_ends_the_driver() {
    let refused = TransportError::Refused {
        status: 403,
        reason: "no".into(),
    };
    let refusing = master(vec![Answer::Error(refused)]);
    let end = run(&refusing, &mut Recorder::default(), Acknowledge::Automatic).await;
    assert!(matches!(end, Err(DriverError::Refused { .. })), "{end:?}");

    let error = Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error {
            message: "Framework failed over".into(),
        }),
        ..Event::default()
    };
    let ending = master(vec![Answer::Events {
        events: vec![subscribed("f"), error],
        close: false,
    }]);
    let mut recorder = Recorder::default();
    let end = run(&ending, &mut recorder, Acknowledge::Automatic).await;
    assert!(matches!(end, Err(DriverError::Ended { .. })), "{end:?}");
    assert_eq!(
        recorder.seen,
        ["subscribed f", "error Framework failed over"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_cut_for_slowness_is_opened_again() {
    let told = Event {
        r#type: Some(event::Type::Error.into()),
        error: Some(event::Error {
            message: TOO_SLOW.to_owned(),
        }),
        ..Event::default()
    };
    let answer = |events| Answer::Events {
        events,
        close: false,
    };
    let master = master(vec![
        answer(vec![subscribed("f"), told]),
        answer(vec![subscribed("f"), finished("t")]),
    ]);
    let mut recorder = Recorder::default();
    let end = run(&master, &mut recorder, Acknowledge::Explicit).await;
    assert_eq!(end.unwrap(), Stopped::MayReturn);
    assert_eq!(
        recorder.seen,
        [
            "subscribed f",
            "disconnected",
            "subscribed f",
            "t TaskFinished"
        ]
    );
}
