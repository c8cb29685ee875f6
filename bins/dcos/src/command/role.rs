//! `dcos role`: what roles are due beside each other, and who comes first.

use serde_json::{Value, json};

use super::{Context, items, number, text};
use crate::cli::Role;
use crate::output;

pub(crate) async fn run(context: &Context, command: Role) -> anyhow::Result<()> {
    let (path, named): (_, Vec<Value>) = match command {
        Role::List => return list(context).await,
        Role::Priority { roles } => {
            let of = |(role, priority)| json!({"role": role, "priority": priority});
            ("/priorities", roles.into_iter().map(of).collect())
        }
        Role::Weight { roles } => {
            let of = |(role, weight)| json!({"role": role, "weight": weight});
            ("/weights", roles.into_iter().map(of).collect())
        }
    };
    let master = context.master().await?;
    master.send("PUT", path, Some(&named.into())).await?;
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let answer = context.master().await?.get("/roles").await?;
    let roles = items(&answer, "roles");
    if context.json {
        output::json(&answer["roles"]);
    } else if context.quiet {
        output::lines(roles.iter().map(|role| text(role, "name")));
    } else {
        let rows = roles.iter().map(|role| {
            let priority = number(role, "priority");
            vec![
                text(role, "name"),
                if priority.is_empty() {
                    "0".to_owned()
                } else {
                    priority
                },
                number(role, "weight"),
                items(role, "frameworks").len().to_string(),
            ]
        });
        output::table(&["ROLE", "PRIORITY", "WEIGHT", "FRAMEWORKS"], rows);
    }
    Ok(())
}
