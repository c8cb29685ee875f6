//! `dcos marathon debug`: why instances wait.

use anyhow::bail;
use serde_json::{Value, json};

use crate::cli::Debug;
use crate::command::{Context, items, text};
use crate::http::Server;
use crate::output;

pub(super) async fn run(
    context: &Context,
    marathon: &Server,
    command: Debug,
) -> anyhow::Result<()> {
    let queue = marathon.get("/v2/queue?embed=lastUnusedOffers").await?;
    match command {
        Debug::List if context.json => output::json(&queue["queue"]),
        Debug::List if context.quiet => output::lines(items(&queue, "queue").iter().map(id_of)),
        Debug::List => {
            let row = |entry: &Value| {
                let offers = &entry["processedOffersSummary"];
                vec![
                    id_of(entry),
                    text(entry, "since"),
                    text(entry, "count"),
                    text(&entry["delay"], "timeLeftSeconds"),
                    text(offers, "processedOffersCount"),
                    text(offers, "unusedOffersCount"),
                    text(offers, "lastUnusedOfferAt"),
                    text(offers, "lastUsedOfferAt"),
                ]
            };
            let headings = [
                "ID",
                "SINCE",
                "INSTANCES",
                "DELAY",
                "OFFERS",
                "UNUSED",
                "LAST UNUSED",
                "LAST USED",
            ];
            output::table(&headings, items(&queue, "queue").iter().map(row));
        }
        Debug::Summary { id } => summary(context, find(&queue, &id)?),
        Debug::Details { id } => details(context, find(&queue, &id)?),
    }
    Ok(())
}

/// The id of the app or pod that waits.
pub(crate) fn id_of(entry: &Value) -> String {
    let of = |kind: &str| entry[kind]["id"].as_str().map(str::to_owned);
    of("app").or_else(|| of("pod")).unwrap_or_default()
}

fn find<'a>(queue: &'a Value, id: &str) -> anyhow::Result<&'a Value> {
    let id = format!("/{}", id.trim_start_matches('/'));
    let found = items(queue, "queue")
        .iter()
        .find(|entry| id_of(entry) == id);
    match found {
        Some(entry) => Ok(entry),
        None => bail!("no instance of {id} waits"),
    }
}

fn summary(context: &Context, entry: &Value) {
    let reasons = items(&entry["processedOffersSummary"], "rejectSummaryLastOffers");
    if context.json {
        output::json(&json!(reasons));
        return;
    }
    let row = |reason: &Value| {
        let (declined, processed) = (&reason["declined"], &reason["processed"]);
        let matched =
            processed.as_u64().unwrap_or_default() - declined.as_u64().unwrap_or_default();
        vec![
            text(reason, "reason"),
            format!("{matched} / {}", text(reason, "processed")),
            share(matched, processed.as_u64().unwrap_or_default()),
        ]
    };
    output::table(
        &["RESOURCE", "MATCHED", "PERCENTAGE"],
        reasons.iter().map(row),
    );
}

#[expect(clippy::cast_precision_loss, reason = "numbers of offers are small")]
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.2}%", part as f64 * 100.0 / whole as f64)
}

/// Each agent's last offer, and what of it would have done.
fn details(context: &Context, entry: &Value) {
    let offers = items(entry, "lastUnusedOffers");
    if context.json {
        output::json(&json!(offers));
        return;
    }
    let columns = [
        "UnfulfilledRole",
        "UnfulfilledConstraint",
        "InsufficientCpus",
        "InsufficientMemory",
        "InsufficientDisk",
        "InsufficientGpus",
        "InsufficientPorts",
        "DeclinedScarceResources",
        "NoCorrespondingReservationFound",
    ];
    let row = |refused: &Value| {
        let reasons = items(refused, "reason");
        let mut row = vec![text(&refused["offer"], "hostname")];
        let against = |column: &str| reasons.iter().any(|reason| reason == column);
        row.extend(columns.map(|column| if against(column) { "-" } else { "ok" }.to_owned()));
        row.push(text(refused, "timestamp"));
        row
    };
    let headings = [
        "HOSTNAME",
        "ROLE",
        "CONSTRAINTS",
        "CPUS",
        "MEM",
        "DISK",
        "GPUS",
        "PORTS",
        "SCARCE",
        "RESERVATION",
        "RECEIVED",
    ];
    output::table(&headings, offers.iter().map(row));
}
