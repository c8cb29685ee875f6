//! `dcos migrate`: takes over what an original Marathon or Metronome keeps in `ZooKeeper`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use dcos_core::time::Time;
use dcos_marathon::migrate::{self, Fate, Import, MigrateError, Nodes, Options, Report, Written};
use dcos_store::{Election, EmbeddedStore, Ensemble, SingleElection, StateStore};
use serde_json::json;

use super::Context;
use crate::cli::{Migrate, MigrateArgs};
use crate::output;

/// How long the office may take to become free: longer than an ensemble takes to notice that its holder has gone.
const OFFICE: Duration = Duration::from_secs(30);

/// Rows of one kind of service, made of what an original left.
type Read = fn(&Nodes, Options, Time) -> Result<Import, MigrateError>;

pub(crate) async fn run(context: &Context, command: Migrate) -> anyhow::Result<()> {
    let (office, read, args): (_, Read, _) = match command {
        Migrate::Marathon(args) => ("marathon", migrate::import, args),
        Migrate::Metronome(args) => ("metronome", dcos_metronome::migrate::import, args),
    };
    let from = Ensemble::parse(&args.from)?;
    let nodes = from
        .nodes()
        .await
        .with_context(|| format!("reading {from}"))?;
    let running = migrate::running(&nodes);
    if running > 0 && !args.dry_run {
        bail!(
            "{running} of the original still run on {from}: stop them first, or look with --dry-run"
        );
    }
    let options = Options {
        new_framework: args.new_framework,
    };
    let import = read(&nodes, options, Time::from_system(SystemTime::now()))?;
    let losses = import.report.losses();
    let outcome = if args.dry_run {
        Ok("nothing was written")
    } else if losses > 0 && !args.force {
        Err(anyhow::anyhow!(
            "{losses} that run would end (see `lost` above): nothing was written; mend that, or pass --new-framework or --force"
        ))
    } else {
        write(&args, office, &import.rows)
            .await
            .map(|written| match written {
                Written::All => "written",
                Written::Nothing => "all of it was there already",
            })
    };
    let said = outcome.as_ref().map_or("nothing was written", |said| said);
    show(context, &import.report, said);
    outcome.map(|_| ())
}

/// Writes the rows as whoever holds the office may, so that nobody who serves does it at the same time.
async fn write(
    args: &MigrateArgs,
    office: &str,
    rows: &BTreeMap<String, Vec<u8>>,
) -> anyhow::Result<Written> {
    let (store, election) = place(args, office)?;
    let leadership = tokio::time::timeout(OFFICE, election.campaign(Bytes::new())).await;
    let leadership =
        leadership.with_context(|| format!("a {office} of ours runs: stop it first"))??;
    let prefix = format!("{office}/");
    let written = migrate::write(&*store, &leadership.fence(), &prefix, rows, args.overwrite).await;
    written.context("to replace it, pass --overwrite")
}

fn place(
    args: &MigrateArgs,
    office: &str,
) -> anyhow::Result<(Arc<dyn StateStore>, Arc<dyn Election>)> {
    if let Some(url) = &args.into {
        let ensemble = Ensemble::parse(url)?;
        return Ok((ensemble.store(), ensemble.election(office)));
    }
    let directory: PathBuf = args
        .work_dir
        .clone()
        .context("--work-dir or --into is needed")?;
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let store = EmbeddedStore::open(directory.join("state.redb"));
    let store = store.with_context(|| format!("opening the store in {}", directory.display()))?;
    Ok((
        Arc::new(store),
        Arc::new(SingleElection::new(directory, office)),
    ))
}

fn show(context: &Context, report: &Report, outcome: &str) {
    if context.json {
        output::json(&json!({"taken": report.taken, "notes": report.notes, "outcome": outcome}));
        return;
    }
    if context.quiet {
        return;
    }
    let taken = report.taken.iter();
    output::table(
        &["TAKEN OVER", "COUNT"],
        taken.map(|(kind, count)| vec![(*kind).to_owned(), count.to_string()]),
    );
    let mut notes: Vec<_> = report.notes.iter().collect();
    notes.sort_by_key(|note| std::cmp::Reverse(note.fate));
    if !notes.is_empty() {
        output::line("");
    }
    for note in notes {
        let fate = match note.fate {
            Fate::Changed => "changed",
            Fate::Left => "left",
            Fate::Lost => "lost",
        };
        output::line(format!("{fate}: {}: {}", note.what, note.why));
    }
    output::line("");
    output::line(outcome);
}
