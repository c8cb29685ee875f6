//! Secrets in containers: in the environment, and as files. Files need root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::sync::Arc;

use async_trait::async_trait;
use dcos_containerizer::containerizer::{ContainerConfig, Containerizer, ContainerizerError};
use dcos_containerizer::secret::{SecretError, SecretResolver, ValuesOnly};
use dcos_proto::mesos::environment::{Variable, variable};
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, Environment, Secret, Volume, container_info, secret,
    volume,
};
use node::Node;

/// A store that holds one secret.
#[derive(Debug)]
struct Store;

#[async_trait]
impl SecretResolver for Store {
    async fn resolve(&self, secret: &Secret) -> Result<Vec<u8>, SecretError> {
        match &secret.reference {
            Some(reference) if reference.name == "db/password" => Ok(b"open sesame".to_vec()),
            _ => ValuesOnly.resolve(secret).await,
        }
    }
}

fn reference(name: &str) -> Secret {
    Secret {
        r#type: Some(secret::Type::Reference.into()),
        reference: Some(secret::Reference {
            name: name.into(),
            key: None,
        }),
        value: None,
    }
}

fn value(data: &str) -> Secret {
    Secret {
        r#type: Some(secret::Type::Value.into()),
        reference: None,
        value: Some(secret::Value { data: data.into() }),
    }
}

fn file(path: &str, secret: Secret) -> Volume {
    Volume {
        mode: volume::Mode::Ro.into(),
        container_path: path.into(),
        source: Some(volume::Source {
            r#type: Some(volume::source::Type::Secret.into()),
            secret: Some(secret),
            ..volume::Source::default()
        }),
        ..Volume::default()
    }
}

fn config(
    node: &Node,
    id: &ContainerId,
    variables: &[(&str, Secret)],
    files: Vec<Volume>,
    command: &str,
) -> ContainerConfig {
    let variables = variables.iter().map(|(name, secret)| Variable {
        name: (*name).into(),
        r#type: Some(variable::Type::Secret.into()),
        secret: Some(secret.clone()),
        value: None,
    });
    let plain = node.task(id, command);
    ContainerConfig {
        command: Some(CommandInfo {
            environment: Some(Environment {
                variables: variables.collect(),
            }),
            ..plain.command.clone().unwrap()
        }),
        container: Some(ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            volumes: files,
            ..ContainerInfo::default()
        }),
        ..plain
    }
}

async fn refusal(node: &Node, config: impl FnOnce(&ContainerId) -> ContainerConfig) -> String {
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("refused");
    match universal.launch(&id, config(&id)).await.unwrap_err() {
        ContainerizerError::Launch { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_task_without_its_secret_does_not_start() {
    let node = Node::new("posix/cpu");
    let missing = [("PASSWORD", reference("db/password"))];
    let why = refusal(&node, |id| config(&node, id, &missing, Vec::new(), "true")).await;
    assert_eq!(
        why,
        "environment variable PASSWORD: secret 'db/password' cannot be looked up: this agent has no store of secrets (--secrets_dir)"
    );
    let files = vec![file("token", value("x"))];
    let why = refusal(&node, |id| config(&node, id, &[], files, "true")).await;
    assert!(why.contains("filesystem/linux"), "{why}");
}

#[tokio::test]
async fn secrets_are_seen_inside_and_nowhere_else() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: secret files need root");
        return;
    }
    let mut node = Node::new("filesystem/linux,namespaces/pid");
    node.secrets = Arc::new(Store);
    let universal = node.recovered(&[]).await;
    let id = ContainerId::root("keeper");
    let command = "echo $PASSWORD $TOKEN; cat keys/password; echo; stat -c %a keys/password
        { echo changed > keys/password; } 2>/dev/null || echo kept; sleep 1000";
    let variables = [
        ("PASSWORD", reference("db/password")),
        ("TOKEN", value("t")),
    ];
    let files = vec![file("keys/password", reference("db/password"))];
    let launched = universal
        .launch(&id, config(&node, &id, &variables, files, command))
        .await;
    launched.unwrap();
    let expected = "open sesame t\nopen sesame\n400\nkept\n";
    for _ in 0..200 {
        if node.read(&id, "stdout") == expected {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(node.read(&id, "stdout"), expected);
    // It stays for who is known, and goes with the container.
    let kept = node.dir.path().join("run/isolators/volume/secret/keeper");
    let universal = {
        drop(universal);
        node.recovered(&[&id]).await
    };
    assert_eq!(std::fs::read(kept.join("0")).unwrap(), b"open sesame");
    universal.destroy(&id).await.unwrap();
    assert!(!kept.exists());
    assert_eq!(node.read(&id, "keys/password"), "");
    let found = std::process::Command::new("grep")
        .args(["-rl", "--exclude=stdout", "open sesame"])
        .arg(node.dir.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(found.stdout).unwrap(),
        "",
        "it is on disk"
    );
}

#[tokio::test]
async fn volumes_that_cannot_be_made_are_refused() {
    let node = Node::new("posix/cpu");
    let volume = Volume {
        mode: volume::Mode::Rw.into(),
        container_path: "data".into(),
        source: Some(volume::Source {
            r#type: Some(volume::source::Type::DockerVolume.into()),
            ..volume::Source::default()
        }),
        ..Volume::default()
    };
    let why = refusal(&node, |id| config(&node, id, &[], vec![volume], "true")).await;
    assert_eq!(
        why,
        "volume data: this agent cannot mount volumes of type DOCKER_VOLUME"
    );
}
