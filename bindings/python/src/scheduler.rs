//! A scheduler whose methods are Python.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::json::{self, Dialect, Json};
use dcos_proto::mesos::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, MasterInfo, Offer, OfferId, OperationStatus,
    TaskStatus,
};
use dcos_proto::scheduler::{Call, event};
use dcos_sched::sdk::{
    Acknowledge, DriverConfig, DriverError, Handle, HttpTransport, Scheduler, SchedulerTransport,
    Stopped, TransportError,
};
use dcos_sched::why::Wish;
use dcos_wire::{ClientConfig, MediaType};
use pyo3::exceptions::{PyConnectionError, PyConnectionRefusedError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tokio_util::sync::CancellationToken;

/// Keeps a framework subscribed and hands its events to a Python function.
#[pyclass(frozen)]
pub(crate) struct SchedulerDriver {
    /// Taken by `run`.
    driver: Mutex<Option<dcos_sched::sdk::SchedulerDriver>>,
    handle: Handle,
    on_event: Arc<Py<PyAny>>,
}

#[pymethods]
impl SchedulerDriver {
    #[new]
    #[pyo3(signature = (master, framework, on_event, *, suppressed_roles = Vec::new(),
        explicit_acknowledgement = false, protobuf = false, token = None))]
    fn new(
        master: &str,
        framework: &str,
        on_event: Py<PyAny>,
        suppressed_roles: Vec<String>,
        explicit_acknowledgement: bool,
        protobuf: bool,
        token: Option<&str>,
    ) -> PyResult<Self> {
        let framework: FrameworkInfo = read(framework)?;
        let media = if protobuf {
            MediaType::Protobuf
        } else {
            MediaType::Json
        };
        let client = crate::http::client(token, ClientConfig::default())?;
        let transport = if let Some(leading) = crate::leader::followed(master)? {
            HttpTransport::following(leading, media, client)
        } else {
            HttpTransport::with_client(master.split(',').map(str::trim), media, client)
        };
        let transport: Arc<dyn SchedulerTransport> = Arc::new(transport);
        let acknowledge = if explicit_acknowledgement {
            Acknowledge::Explicit
        } else {
            Acknowledge::Automatic
        };
        let config = DriverConfig {
            suppressed_roles,
            acknowledge,
            ..DriverConfig::new(framework)
        };
        let driver = dcos_sched::sdk::SchedulerDriver::new(config, transport);
        let handle = driver.handle();
        Ok(Self {
            driver: Mutex::new(Some(driver)),
            handle,
            on_event: Arc::new(on_event),
        })
    }

    #[getter]
    fn framework_id(&self) -> Option<String> {
        self.handle.framework_id().map(|id| id.value)
    }

    fn run(&self, python: Python<'_>) -> PyResult<bool> {
        let driver = self
            .driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let driver = driver.ok_or_else(|| PyRuntimeError::new_err("a driver runs once"))?;
        let mut scheduler = PythonScheduler {
            on_event: Arc::clone(&self.on_event),
        };
        let runtime = crate::runtime()?;
        let ended = python.detach(|| {
            let cancel = CancellationToken::new();
            let running = driver.run(&mut scheduler, &cancel);
            runtime.block_on(until_interrupted(running, &cancel))
        })?;
        match ended {
            Ok(stopped) => Ok(stopped == Stopped::TornDown),
            Err(DriverError::Ended { message }) => Err(PyConnectionRefusedError::new_err(message)),
            Err(error) => {
                let text = dcos_core::error::chain(&error).to_string();
                Err(PyConnectionRefusedError::new_err(text))
            }
        }
    }

    fn call(&self, python: Python<'_>, call: &str) -> PyResult<()> {
        let call: Call = read(call)?;
        let runtime = crate::runtime()?;
        let handle = self.handle.clone();
        python
            .detach(|| runtime.handle().block_on(handle.call(call)))
            .map_err(|error| refusal(&error))
    }

    #[pyo3(signature = (role, resources, conditions))]
    fn why(
        &self,
        python: Python<'_>,
        role: Option<&str>,
        resources: Option<&str>,
        conditions: Option<&str>,
    ) -> PyResult<String> {
        let wish = (resources.is_some() || conditions.is_some())
            .then(|| {
                Wish::parse(
                    resources.unwrap_or_default(),
                    conditions.unwrap_or_default(),
                )
            })
            .transpose()
            .map_err(|error| PyValueError::new_err(dcos_core::error::chain(&error).to_string()))?;
        let runtime = crate::runtime()?;
        let handle = self.handle.clone();
        let explanations = python
            .detach(|| runtime.handle().block_on(handle.why(role, wish)))
            .map_err(|error| refusal(&error))?;
        serde_json::to_string(&explanations)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn stop(&self) {
        self.handle.stop();
    }

    fn teardown(&self, python: Python<'_>) -> PyResult<()> {
        let runtime = crate::runtime()?;
        let handle = self.handle.clone();
        python
            .detach(|| runtime.handle().block_on(handle.teardown()))
            .map_err(|error| refusal(&error))
    }
}

/// How often Python is asked whether a signal came: it can do nothing about one while it waits here.
const SIGNALS: Duration = Duration::from_millis(100);

/// The end of `running`; what a signal raises (^C) has it end by `cancel`, between two methods of the scheduler.
/// A second one ends it at once.
async fn until_interrupted<T>(
    running: impl Future<Output = T>,
    cancel: &CancellationToken,
) -> PyResult<T> {
    let mut running = pin!(running);
    let mut raised = None;
    loop {
        tokio::select! {
            ended = &mut running => return raised.map_or(Ok(ended), Err),
            () = tokio::time::sleep(SIGNALS) => {}
        }
        let signals = Python::attach(|python| {
            python.check_signals()?;
            PyResult::Ok(())
        });
        if let Err(error) = signals {
            cancel.cancel();
            if raised.is_some() {
                return Err(error);
            }
            raised = Some(error);
        }
    }
}

fn read<M: Json>(text: &str) -> PyResult<M> {
    json::from_slice(text.as_bytes(), Dialect::V1)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

fn refusal(error: &TransportError) -> PyErr {
    let text = dcos_core::error::chain(error).to_string();
    match error {
        TransportError::Refused { .. } => PyConnectionRefusedError::new_err(text),
        _ => PyConnectionError::new_err(text),
    }
}

/// Hands each event to `on_event(name, json)`; that function keeps its exceptions to itself.
struct PythonScheduler {
    on_event: Arc<Py<PyAny>>,
}

impl PythonScheduler {
    /// Runs the Python function on a thread that may block: its methods may take their time, or wait
    /// for an event loop of Python's.
    async fn tell(&self, name: &'static str, text: String) {
        let on_event = Arc::clone(&self.on_event);
        tokio::task::spawn_blocking(move || {
            Python::attach(|python| {
                if let Err(error) = on_event.call1(python, (name, text)) {
                    error.print(python);
                }
            });
        })
        .await
        .ok();
    }

    async fn tell_message(&self, name: &'static str, message: impl Json) {
        self.tell(name, json::to_string(&message, Dialect::V1))
            .await;
    }
}

#[async_trait]
impl Scheduler for PythonScheduler {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, master: Option<MasterInfo>) {
        let event = event::Subscribed {
            framework_id: id,
            master_info: master,
            heartbeat_interval_seconds: None,
        };
        self.tell_message("SUBSCRIBED", event).await;
    }

    async fn offers(&mut self, _: &Handle, offers: Vec<Offer>) {
        self.tell_message("OFFERS", event::Offers { offers }).await;
    }

    async fn update(&mut self, _: &Handle, status: TaskStatus) {
        self.tell_message("UPDATE", event::Update { status }).await;
    }

    async fn operation_update(&mut self, _: &Handle, status: OperationStatus) {
        let event = event::UpdateOperationStatus { status };
        self.tell_message("UPDATE_OPERATION_STATUS", event).await;
    }

    async fn rescinded(&mut self, _: &Handle, offer_id: OfferId) {
        self.tell_message("RESCIND", event::Rescind { offer_id })
            .await;
    }

    async fn message(
        &mut self,
        _: &Handle,
        agent_id: AgentId,
        executor_id: ExecutorId,
        data: Vec<u8>,
    ) {
        self.tell_message(
            "MESSAGE",
            event::Message {
                agent_id,
                executor_id,
                data,
            },
        )
        .await;
    }

    async fn failure(
        &mut self,
        _: &Handle,
        agent_id: Option<AgentId>,
        executor_id: Option<ExecutorId>,
        status: Option<i32>,
    ) {
        self.tell_message(
            "FAILURE",
            event::Failure {
                agent_id,
                executor_id,
                status,
            },
        )
        .await;
    }

    async fn disconnected(&mut self) {
        self.tell("DISCONNECTED", String::new()).await;
    }

    async fn error(&mut self, message: String) {
        self.tell_message("ERROR", event::Error { message }).await;
    }
}
