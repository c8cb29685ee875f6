//! `dcos quota`: what roles are guaranteed, and what they may have at most.

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::{Context, items, text};
use crate::cli::{Quota, QuotaAmounts};
use crate::output;

pub(crate) async fn run(context: &Context, command: Quota) -> anyhow::Result<()> {
    match command {
        Quota::List => list(context).await,
        Quota::Get { role } => get(context, &role).await,
        Quota::Create(amounts) => {
            if find(context, &amounts.role).await?.is_some() {
                bail!("role {} has a quota: use `dcos quota update`", amounts.role);
            }
            set(context, &amounts, &Value::Null).await
        }
        Quota::Update(amounts) => match find(context, &amounts.role).await? {
            Some(quota) => set(context, &amounts, &quota).await,
            None => bail!(
                "role {} has no quota: use `dcos quota create`",
                amounts.role
            ),
        },
        Quota::Delete { role } => {
            if find(context, &role).await?.is_none() {
                bail!("role {role} has no quota");
            }
            change(context, &json!({ "role": role }), false).await
        }
    }
}

async fn change(context: &Context, config: &Value, force: bool) -> anyhow::Result<()> {
    let update = json!({"force": force, "quota_configs": [config]});
    let call = json!({"type": "UPDATE_QUOTA", "update_quota": update});
    let master = context.master().await?;
    master.send("POST", "/api/v1", Some(&call)).await?;
    Ok(())
}

/// The quotas of all roles that have one, as `/roles` shows them.
async fn quotas(context: &Context) -> anyhow::Result<Vec<Value>> {
    let roles = context.master().await?.get("/roles").await?;
    let quotas = items(&roles, "roles").iter().map(|role| &role["quota"]);
    let is_set = |key: &str, quota: &Value| {
        let amounts = quota[key].as_object();
        amounts.is_some_and(|amounts| !amounts.is_empty())
    };
    Ok(quotas
        .filter(|quota| is_set("guarantee", quota) || is_set("limit", quota))
        .cloned()
        .collect())
}

async fn find(context: &Context, role: &str) -> anyhow::Result<Option<Value>> {
    let quotas = quotas(context).await?;
    Ok(quotas.into_iter().find(|quota| text(quota, "role") == role))
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let quotas = quotas(context).await?;
    if context.json {
        output::json(&json!(quotas));
    } else if context.quiet {
        output::lines(quotas.iter().map(|quota| text(quota, "role")));
    } else {
        show(&quotas);
    }
    Ok(())
}

async fn get(context: &Context, role: &str) -> anyhow::Result<()> {
    let Some(quota) = find(context, role).await? else {
        bail!("role {role} has no quota");
    };
    if context.json {
        output::json(&quota);
    } else {
        show(&[quota]);
    }
    Ok(())
}

fn show(quotas: &[Value]) {
    let headings = ["ROLE", "RESOURCE", "GUARANTEE", "LIMIT", "CONSUMED"];
    let rows = quotas.iter().flat_map(|quota| {
        let names = ["cpus", "mem", "disk", "gpus"];
        let rows = names.into_iter().filter_map(|name| row(quota, name));
        rows.collect::<Vec<_>>()
    });
    output::table(&headings, rows);
}

fn row(quota: &Value, name: &str) -> Option<Vec<String>> {
    let amount = |key: &str| quota[key][name].as_f64();
    let (guarantee, limit) = (amount("guarantee"), amount("limit"));
    if guarantee.is_none() && limit.is_none() {
        return None;
    }
    let shown = |amount: Option<f64>, none: &str| {
        amount.map_or_else(|| none.to_owned(), |amount| amount.to_string())
    };
    Some(vec![
        text(quota, "role"),
        name.to_owned(),
        shown(guarantee, "-"),
        shown(limit, "-"),
        shown(amount("consumed"), "0"),
    ])
}

/// Sets what is named, and keeps what there `was`.
async fn set(context: &Context, amounts: &QuotaAmounts, was: &Value) -> anyhow::Result<()> {
    let named = [
        ("cpus", amounts.cpu),
        ("mem", amounts.mem),
        ("disk", amounts.disk),
        ("gpus", amounts.gpu),
    ];
    if named.iter().all(|(_, amount)| amount.is_none()) {
        bail!("nothing was named: give --cpu, --mem, --disk or --gpu");
    }
    let with = |key: &str, change: bool| -> Map<String, Value> {
        let mut all = was[key].as_object().cloned().unwrap_or_default();
        for (name, amount) in named.iter().filter(|_| change) {
            if let Some(amount) = amount {
                all.insert((*name).to_owned(), json!(amount));
            }
        }
        let scalar = |(name, amount)| (name, json!({ "value": amount }));
        all.into_iter().map(scalar).collect()
    };
    let config = json!({
        "role": amounts.role,
        "guarantees": with("guarantee", amounts.guarantee),
        "limits": with("limit", true),
    });
    change(context, &config, amounts.force).await
}
