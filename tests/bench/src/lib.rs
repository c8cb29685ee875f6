//! The table of every benchmark: what was measured, its median and spread, and how it compares to
//! the limit or the peer that was measured in the same run.
//!
//! ```
//! use bench::Table;
//!
//! let mut table = Table::new("copying a file", "ms");
//! table.limit("memcpy", vec![1.0, 1.1, 0.9]);
//! table.row("our copy", vec![2.0, 2.2, 2.1]);
//! table.print();
//! ```
//!
//! With `--json` among the program's arguments each row is an object on a line of its own.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::time::Instant;

/// A table that grows row by row and is printed at the end.
#[derive(Debug)]
pub struct Table {
    topic: String,
    unit: String,
    rows: Vec<Row>,
    limit: Option<f64>,
}

#[derive(Debug)]
struct Row {
    name: String,
    samples: Vec<f64>,
    ratio: Option<f64>,
    note: Option<String>,
}

/// Whether the program was asked for JSON.
pub fn wants_json() -> bool {
    std::env::args().any(|argument| argument == "--json")
}

/// What comes behind `name` among the program's arguments, such as a size: `--agents 1000`.
pub fn argument<T: std::str::FromStr>(name: &str) -> Option<T> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)?.parse().ok()
}

/// How long some work took, in milliseconds, with what came of it.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed().as_secs_f64() * 1000.0)
}

/// The same in milliseconds of a processor: what else the machine does counts less. Only what the calling thread does counts.
///
/// # Panics
/// If the kernel does not tell (`/proc/thread-self/schedstat`).
pub fn worked<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let spent = || {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat");
        let nanos = told.ok()?.split(' ').next()?.parse().ok()?;
        Some(std::time::Duration::from_nanos(nanos).as_secs_f64() * 1000.0)
    };
    let told = || spent().expect("the kernel tells how long a thread ran");
    let begin = told();
    let result = work();
    (result, told() - begin)
}

/// So many seconds of a processor this program has used, in all of its threads, with what the kernel did for them.
pub fn spent() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::try_from(spent).map_or(f64::NAN, |spent| spent.as_secs_f64())
}

/// The middle one of some samples.
pub fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

impl Table {
    /// A table about something, measured in `unit`, such as `ms` or `tasks/s`.
    pub fn new(topic: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            unit: unit.into(),
            rows: Vec::new(),
            limit: None,
        }
    }

    /// What the rows behind it are compared with: a program that does only what can't be left out,
    /// or a peer.
    pub fn limit(&mut self, name: impl Into<String>, samples: Vec<f64>) {
        self.limit = Some(median(&samples));
        self.row(name, samples);
    }

    /// A figure that was published by others, to compare with.
    pub fn published(&mut self, name: impl Into<String>, figure: f64) {
        self.limit = Some(figure);
        self.row(name, vec![figure]);
    }

    /// A contestant.
    pub fn row(&mut self, name: impl Into<String>, samples: Vec<f64>) {
        let middle = median(&samples);
        let ratio = self.limit.map(|limit| middle / limit);
        self.rows.push(Row {
            name: name.into(),
            samples,
            ratio,
            note: None,
        });
    }

    /// Says something about the last row.
    pub fn note(&mut self, note: impl Into<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.note = Some(note.into());
        }
    }

    /// Prints it, with what else the machine was doing.
    pub fn print(&self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default();
        if wants_json() {
            for row in &self.rows {
                println!("{}", self.json(row, load));
            }
            return;
        }
        println!("{}, {} (load {load})", self.topic, self.unit);
        println!("{:<44}{:>12}{:>24}{:>10}", "", "median", "spread", "ratio");
        for row in &self.rows {
            let sorted = sorted(&row.samples);
            let (low, high) = (sorted.first(), sorted.last());
            let spread = match (low, high) {
                (Some(low), Some(high)) if sorted.len() > 1 => {
                    format!("{} to {}", figure(*low), figure(*high))
                }
                _ => String::new(),
            };
            let ratio = row.ratio.map(|ratio| format!("{ratio:.3}"));
            println!(
                "{:<44}{:>12}{spread:>24}{:>10}{}",
                row.name,
                figure(median(&row.samples)),
                ratio.unwrap_or_default(),
                row.note
                    .as_ref()
                    .map(|note| format!("  {note}"))
                    .unwrap_or_default()
            );
        }
        println!();
    }

    fn json(&self, row: &Row, load: &str) -> serde_json::Value {
        serde_json::json!({
            "topic": self.topic,
            "unit": self.unit,
            "name": row.name,
            "median": median(&row.samples),
            "samples": row.samples,
            "ratio": row.ratio,
            "note": row.note,
            "load": load,
        })
    }
}

/// A number with three digits that count.
fn figure(number: f64) -> String {
    let size = number.abs();
    if size >= 100.0 {
        format!("{number:.0}")
    } else if size >= 10.0 {
        format!("{number:.1}")
    } else if size >= 1.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let mut table = Table::new("t", "ms");
        table.limit("limit", vec![3.0, 1.0, 2.0]);
        table.row("ours", vec![5.0, 4.0, 90.0]);
        assert_eq!(table.rows[1].ratio, Some(2.5));
        assert_eq!(figure(0.012_34), "0.0123");
    }
}
