//! `dcos migrate`: takes over what an original Marathon or Metronome keeps in `ZooKeeper`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use dcos_core::time::Time;
use dcos_marathon::migrate::{
    self, Fate, Import, MigrateError, Nodes, Options, Report, WriteError, Written,
};
use dcos_store::{Election, EmbeddedStore, Ensemble, SingleElection, StateStore, TlsFiles};
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
    let from = ensemble(&args.from)?;
    let nodes = nodes_at(&from).await?;
    if !args.dry_run {
        still(&from, &nodes)?;
    }
    let options = Options {
        new_framework: args.new_framework,
    };
    let mut import = read(&nodes, options, Time::from_system(SystemTime::now()))?;
    let losses = import.report.losses();
    let outcome = if args.dry_run {
        Ok("nothing was written")
    } else if losses > 0 && !args.force {
        Err(anyhow::anyhow!(
            "{losses} that run would end (see `lost` above): nothing was written; mend that, or pass --new-framework or --force"
        ))
    } else {
        write(&args, office, &import.rows, async || {
            let now = nodes_at(&from).await?;
            still(&from, &now)?;
            let state = |nodes: &Nodes| {
                let mut state = nodes.clone();
                state.retain(|path, _| path.starts_with("state/"));
                state
            };
            ensure!(
                state(&now) == state(&nodes),
                "the original changed what is on {from} meanwhile: stop it for good and try again"
            );
            Ok(())
        })
        .await
        .map(|written| match written {
            Written::All(replaced) => {
                if let Some(replaced) = replaced {
                    let told = replaced.to_string();
                    import
                        .report
                        .note(Fate::Left, "what was there before", told);
                }
                "written"
            }
            Written::Nothing => "all of it was there already",
        })
    };
    let said = outcome.as_ref().map_or("nothing was written", |said| said);
    show(context, &import.report, said);
    outcome.map(|_| ())
}

/// Where an ensemble is: a URL, or the file that has it, as for the masters' `--zk`.
fn ensemble(text: &str) -> anyhow::Result<Ensemble> {
    let Some(path) = text.strip_prefix("file://") else {
        return Ok(Ensemble::parse(text)?.with_tls(&TlsFiles::from_env())?);
    };
    let url = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let ensemble = Ensemble::parse(url.trim()).with_context(|| format!("in {path}"))?;
    Ok(ensemble.with_tls(&TlsFiles::from_env())?)
}

async fn nodes_at(from: &Ensemble) -> anyhow::Result<Nodes> {
    let nodes = from.nodes().await;
    nodes.with_context(|| format!("reading {from}"))
}

/// Refuses what an original may still change.
fn still(from: &Ensemble, nodes: &Nodes) -> anyhow::Result<()> {
    let running = migrate::running(nodes);
    ensure!(
        running == 0,
        "{running} of the original still run on {from}: stop them first, or look with --dry-run"
    );
    Ok(())
}

/// Writes the rows as whoever holds the office may, so that nobody who serves does it at the same time, after a
/// `last_look` at what they were made of.
async fn write(
    args: &MigrateArgs,
    office: &str,
    rows: &BTreeMap<String, Vec<u8>>,
    last_look: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Written> {
    let (store, election) = place(args, office)?;
    let leadership = tokio::time::timeout(OFFICE, election.campaign(Bytes::new())).await;
    let leadership =
        leadership.with_context(|| format!("a {office} of ours runs: stop it first"))??;
    last_look().await?;
    let prefix = format!("{office}/");
    let written = migrate::write(&*store, &leadership.fence(), &prefix, rows, args.overwrite).await;
    written.map_err(|error| match error {
        WriteError::Occupied(_) => {
            anyhow::Error::new(error).context("to replace what is there, pass --overwrite")
        }
        other => other.into(),
    })
}

fn place(
    args: &MigrateArgs,
    office: &str,
) -> anyhow::Result<(Arc<dyn StateStore>, Arc<dyn Election>)> {
    if let Some(url) = &args.into {
        let into = ensemble(url)?;
        return Ok((into.store(), into.election(office)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "zk://user:password@host:2181/marathon\n").unwrap();
        let named = format!("file://{}", path.display());
        assert_eq!(ensemble(&named).unwrap().path(), "/marathon");
        assert_eq!(ensemble("zk://host:2181/a").unwrap().path(), "/a");
        std::fs::write(&path, "zk://user:password@host:2181").unwrap();
        for wrong in [named.as_str(), "file:///nowhere/at/all"] {
            let error = format!("{:#}", ensemble(wrong).unwrap_err());
            let path = wrong.strip_prefix("file://").unwrap();
            assert!(
                error.contains(path) && !error.contains("password"),
                "{error}"
            );
        }
    }
}
