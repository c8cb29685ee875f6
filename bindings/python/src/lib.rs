//! `dcos._native`: the compiled half of the Python package.
//!
//! Everything here converts, releases the interpreter's lock, calls the library and converts back.
//! Messages travel as JSON text, which Python reads faster than objects can be built field by field;
//! what the user sees is made of it in `dcos/*.py`.

use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;

mod http;
mod leader;
mod logging;
mod scheduler;

/// The runtime below all blocking calls of this module.
fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let build = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(2)
            .thread_name("dcos")
            .enable_all()
            .build()
            .ok()
    };
    let runtime = RUNTIME.get_or_init(build).as_ref();
    runtime.ok_or_else(|| PyRuntimeError::new_err("can't start the threads for I/O"))
}

/// The compiled half of the package `dcos`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    logging::begin();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<http::HttpClient>()?;
    module.add_class::<scheduler::SchedulerDriver>()
}
