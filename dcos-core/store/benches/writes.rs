//! Durable writes a second, by one writer and by 64, beside the physical limit in the same run:
//! appending to a file and `fdatasync`.
//!
//! `cargo bench -p dcos-store`; `-- --json` for machines.

use std::{
    env,
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use bench::Table;
use dcos_store::{EmbeddedStore, Fence, StateStore, Term, Transaction};

const RUN: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const VALUE: [u8; 200] = [7; 200];

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let directory = tempfile::tempdir_in(env::var_os("BENCH_DIR").unwrap_or_else(|| ".".into()))?;
    let mut table = Table::new("durable writes", "writes/s");
    for writers in [1, 64] {
        let mut limit = Vec::new();
        let mut store = Vec::new();
        for round in 0..ROUNDS {
            let path = |kind: &str| directory.path().join(format!("{kind}-{writers}-{round}"));
            limit.push(append(&path("limit"), writers)?);
            store.push(runtime.block_on(embedded(&path("store"), writers))?);
        }
        table.limit(format!("append+fdatasync, {writers}"), limit);
        table.row(format!("EmbeddedStore, {writers}"), store);
    }
    table.print();
    Ok(())
}

/// Errors of a bench end it; they need no type.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The limit: as many records as there are writers in one append, then one sync.
fn append(path: &Path, writers: usize) -> Outcome<f64> {
    let mut file = File::create(path)?;
    let records = VALUE.repeat(writers);
    let begin = Instant::now();
    let mut written = 0_u32;
    while begin.elapsed() < RUN {
        file.write_all(&records)?;
        file.sync_data()?;
        written += u32::try_from(writers)?;
    }
    Ok(f64::from(written) / begin.elapsed().as_secs_f64())
}

async fn embedded(path: &Path, writers: usize) -> Outcome<f64> {
    let store = EmbeddedStore::open(path)?;
    let begin = Instant::now();
    let write = |writer: usize| {
        let store = &store;
        async move {
            let mut written = 0_u32;
            while begin.elapsed() < RUN {
                let key = format!("{writer}/{}", written % 1000);
                let put = Transaction::new(Fence::new("bench", Term(1))).put(key, &VALUE[..]);
                store.transact(put).await?;
                written += 1;
            }
            Ok::<u32, dcos_store::StoreError>(written)
        }
    };
    let written = futures::future::try_join_all((0..writers).map(write)).await?;
    Ok(f64::from(written.iter().sum::<u32>()) / begin.elapsed().as_secs_f64())
}
