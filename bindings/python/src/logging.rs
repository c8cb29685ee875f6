//! What the library warns of goes to Python's `logging`, to the logger `dcos`.

use std::fmt::{self, Write as _};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// How many lines may wait for Python; more are lost, as in a process that was forked and has nobody who takes them.
const WAITING: usize = 1024;

/// Hands warnings and errors on from here on, once for the whole process.
pub(crate) fn begin() {
    let (said, told) = sync_channel(WAITING);
    let layer = ToPython(said).with_filter(LevelFilter::WARN);
    // A program that loaded this module may have a subscriber of its own.
    let begun = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    if begun.is_ok() {
        // On the main thread Python would raise there what a signal (^C) raises, in the middle of what is logged.
        thread::spawn(move || {
            for (level, text) in told {
                log(level, text);
            }
        });
    }
}

fn log(level: Level, text: String) {
    let method = if level == Level::ERROR {
        "error"
    } else {
        "warning"
    };
    // An interpreter that ends logs nothing more.
    Python::try_attach(|python| {
        let logger = python
            .import("logging")?
            .call_method1("getLogger", ("dcos",))?;
        logger.call_method1(method, ("%s", text))?;
        PyResult::Ok(())
    });
}

struct ToPython(SyncSender<(Level, String)>);

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let _ = self.0.try_send((*event.metadata().level(), text.0));
    }
}

/// The message, then the fields: `can't subscribe error=…`.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            // It comes first among the fields.
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
