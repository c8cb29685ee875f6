//! The promises of [`Containerizer`] as functions, one each.
//!
//! Call them from the tests of an implementation. Each takes a containerizer that was recovered
//! and runs nothing, and a directory for sandboxes, and panics with what was expected if the
//! promise is broken. [`all`] runs every one that needs no second containerizer;
//! [`outlives_its_process`] is for those that [survive](Containerizer::survives).
//!
//! ```
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use dcos_containerizer::containerizer::{Processes, testkit};
//!
//! let sandboxes = std::env::temp_dir().join(format!("testkit-{}", std::process::id()));
//! testkit::all(&Processes::new(), &sandboxes).await;
//! # std::fs::remove_dir_all(&sandboxes)
//! # })?;
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use dcos_proto::mesos::{CommandInfo, ContainerId};

use super::{ContainerClass, ContainerConfig, Containerizer, ContainerizerError, Recovered};

/// How long the kit waits for what must come: far longer than any containerizer takes, so that
/// only a broken promise runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every promise but [`outlives_its_process`].
pub async fn all(containerizer: &impl Containerizer, sandboxes: &Path) {
    starts_empty(containerizer).await;
    ends_once(containerizer, sandboxes).await;
    runs_with_what_it_was_given(containerizer, sandboxes).await;
    leaves_nothing_of_a_failed_launch(containerizer, sandboxes).await;
    names_are_unique(containerizer, sandboxes).await;
    destroys_and_removes(containerizer, sandboxes).await;
    takes_nested_ones_along(containerizer, sandboxes).await;
    completes_what_nobody_waits_for(containerizer, sandboxes).await;
    assert!(
        containerizer.containers().await.is_empty(),
        "the kit has removed all it launched"
    );
}

/// A task that runs a shell command.
pub fn task(sandboxes: &Path, id: &ContainerId, command: &str) -> ContainerConfig {
    ContainerConfig {
        command: Some(CommandInfo {
            value: Some(command.to_owned()),
            ..CommandInfo::default()
        }),
        environment: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        directory: sandboxes.join(id.to_string()),
        ..ContainerConfig::default()
    }
}

/// Waits for a container's end, for as long as the kit waits for anything.
async fn end_of(
    containerizer: &impl Containerizer,
    id: &ContainerId,
) -> super::ContainerTermination {
    let end = tokio::time::timeout(PATIENCE, containerizer.wait(id)).await;
    end.unwrap_or_else(|_| panic!("container {id} did not end"))
        .unwrap_or_else(|error| panic!("waiting for a known container: {error}"))
}

/// Promise 1: recovery without known containers leaves none.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn starts_empty(containerizer: &impl Containerizer) {
    let recovered = containerizer.recover(&BTreeSet::new()).await;
    assert_eq!(recovered.expect("nothing to recover").len(), 0);
    assert!(containerizer.containers().await.is_empty());
}

/// Promise 3: one termination, told to everybody until removal.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn ends_once(containerizer: &impl Containerizer, sandboxes: &Path) {
    let id = ContainerId::root("kit-ends");
    let config = task(sandboxes, &id, "exit 7");
    containerizer.launch(&id, config).await.expect("a launch");
    let first = end_of(containerizer, &id).await;
    assert_eq!(first.exit_code(), Some(7), "the command's own exit code");
    for _ in 0..2 {
        let again = end_of(containerizer, &id).await;
        assert_eq!(again, first, "the same termination, however late");
    }
    containerizer
        .kill(&id, libc::SIGTERM)
        .await
        .expect("signalling one that ended succeeds");
    assert!(containerizer.containers().await.contains(&id));
    containerizer
        .remove(&id)
        .await
        .expect("removing one that ended");
    let unknown = containerizer.wait(&id).await;
    assert!(
        matches!(unknown, Err(ContainerizerError::Unknown(_))),
        "a removed container is unknown: {unknown:?}"
    );
    containerizer
        .remove(&id)
        .await
        .expect("removing an unknown one");
}

/// A command sees its environment, its sandbox, and prints to the logs.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn runs_with_what_it_was_given(containerizer: &impl Containerizer, sandboxes: &Path) {
    let id = ContainerId::root("kit-given");
    let mut config = task(
        sandboxes,
        &id,
        "echo $WHO; pwd; echo $MESOS_SANDBOX; echo bad >&2",
    );
    config.environment.insert("WHO".into(), "kit".into());
    containerizer.launch(&id, config).await.expect("a launch");
    assert_eq!(end_of(containerizer, &id).await.exit_code(), Some(0));
    let read = |name| std::fs::read_to_string(sandboxes.join("kit-given").join(name));
    let sandbox = sandboxes.join("kit-given");
    let expected = format!("kit\n{0}\n{0}\n", sandbox.display());
    assert_eq!(read("stdout").expect("the log of stdout"), expected);
    assert_eq!(read("stderr").expect("the log of stderr"), "bad\n");
    containerizer
        .remove(&id)
        .await
        .expect("removing one that ended");
}

/// Promise 2: a failed launch is an error, and leaves nothing.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn leaves_nothing_of_a_failed_launch(
    containerizer: &impl Containerizer,
    sandboxes: &Path,
) {
    let id = ContainerId::root("kit-fails");
    let mut config = task(sandboxes, &id, "");
    config.command = Some(CommandInfo {
        shell: Some(false),
        value: Some("/there/is/no/such/program".into()),
        ..CommandInfo::default()
    });
    let failed = containerizer.launch(&id, config).await;
    assert!(
        matches!(failed, Err(ContainerizerError::Launch { .. })),
        "a program that is not there fails the launch: {failed:?}"
    );
    assert!(containerizer.containers().await.is_empty(), "it is unknown");
    let config = task(sandboxes, &id, "true");
    containerizer
        .launch(&id, config)
        .await
        .expect("its id is free again");
    end_of(containerizer, &id).await;
    containerizer
        .remove(&id)
        .await
        .expect("removing one that ended");
}

/// An id names one container, until it is removed.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn names_are_unique(containerizer: &impl Containerizer, sandboxes: &Path) {
    let id = ContainerId::root("kit-unique");
    let config = task(sandboxes, &id, "true");
    containerizer
        .launch(&id, config.clone())
        .await
        .expect("a launch");
    end_of(containerizer, &id).await;
    let again = containerizer.launch(&id, config).await;
    assert!(
        matches!(again, Err(ContainerizerError::Exists(_))),
        "the id is taken: {again:?}"
    );
    containerizer
        .remove(&id)
        .await
        .expect("removing one that ended");
}

/// Running containers can be signalled and destroyed, and are not removed.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn destroys_and_removes(containerizer: &impl Containerizer, sandboxes: &Path) {
    let id = ContainerId::root("kit-runs");
    let config = task(sandboxes, &id, "sleep 1000");
    containerizer.launch(&id, config).await.expect("a launch");
    let status = containerizer.status(&id).await.expect("its status");
    assert_eq!(status.container_id.as_ref(), Some(&id));
    containerizer.usage(&id).await.expect("its usage");
    let removed = containerizer.remove(&id).await;
    assert!(
        matches!(removed, Err(ContainerizerError::Running(_))),
        "one that runs is not removed: {removed:?}"
    );
    let destroyed = tokio::time::timeout(PATIENCE, containerizer.destroy(&id)).await;
    let destroyed = destroyed
        .expect("it can be destroyed")
        .expect("it is known");
    assert_eq!(destroyed.signal(), Some(libc::SIGKILL));
    assert_eq!(end_of(containerizer, &id).await, destroyed);
    let usage = containerizer.usage(&id).await;
    assert!(usage.is_err(), "one that ended uses nothing");
    containerizer
        .remove(&id)
        .await
        .expect("removing one that ended");
}

/// Promise 4: what is nested in a container ends before it does.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn takes_nested_ones_along(containerizer: &impl Containerizer, sandboxes: &Path) {
    let (pod, early) = (ContainerId::root("kit-pod"), ContainerId::root("kit-none"));
    let early = early.child("early");
    let refused = containerizer
        .launch(&early, task(sandboxes, &early, "true"))
        .await;
    assert!(
        matches!(refused, Err(ContainerizerError::NoParent(_))),
        "a parent has to run: {refused:?}"
    );
    let holder = ContainerConfig {
        class: ContainerClass::Holder,
        command: None,
        ..task(sandboxes, &pod, "")
    };
    containerizer.launch(&pod, holder).await.expect("a holder");
    let nested = pod.child("nested");
    let config = task(sandboxes, &nested, "sleep 1000");
    containerizer
        .launch(&nested, config)
        .await
        .expect("a nested container");
    let destroyed = tokio::time::timeout(PATIENCE, containerizer.destroy(&pod)).await;
    destroyed
        .expect("it can be destroyed")
        .expect("it is known");
    let end = tokio::time::timeout(Duration::from_millis(1), containerizer.wait(&nested)).await;
    let end = end.expect("nested ones ended before").expect("it is known");
    assert!(!end.succeeded());
    containerizer
        .remove(&pod)
        .await
        .expect("removing one that ended");
    assert!(
        !containerizer.containers().await.contains(&nested),
        "nested ones are removed with it"
    );
}

/// Promise 6: a launch completes, whether somebody waits for it or not.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn completes_what_nobody_waits_for(containerizer: &impl Containerizer, sandboxes: &Path) {
    let id = ContainerId::root("kit-dropped");
    let config = task(sandboxes, &id, "exit 3");
    let launch = containerizer.launch(&id, config);
    // Polled at least once, and dropped.
    tokio::time::timeout(Duration::ZERO, launch).await.ok();
    assert_eq!(end_of(containerizer, &id).await.exit_code(), Some(3));
    containerizer
        .remove(&id)
        .await
        .expect("removing one that ended");
}

/// Promise 5: containers outlive the process that launched them. `next` lets go of the last
/// containerizer, if there was one, and makes another over the same state, not yet recovered.
///
/// # Panics
/// If the containerizer breaks it.
pub async fn outlives_its_process<C: Containerizer>(next: impl AsyncFn() -> C, sandboxes: &Path) {
    let ids = ["kit-stays", "kit-went", "kit-orphan", "kit-lost"].map(ContainerId::root);
    let [stays, went, orphan, lost] = &ids;
    let first = next().await;
    assert!(first.survives(), "it says that it can");
    first
        .recover(&BTreeSet::new())
        .await
        .expect("nothing to recover");
    let go = sandboxes.join("kit-go");
    let waits = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; exit 5",
        go.display()
    );
    for (id, command) in [
        (stays, "sleep 1000"),
        (went, &waits),
        (orphan, "sleep 1000"),
    ] {
        let config = task(sandboxes, id, command);
        first.launch(id, config).await.expect("a launch");
    }
    let second = next().await;
    std::fs::write(&go, "").expect("the sandboxes' directory can be written");
    let known: BTreeSet<_> = [stays, went, lost].into_iter().cloned().collect();
    let told = second.recover(&known).await.expect("a recovery");
    let told_of: BTreeSet<_> = told.keys().cloned().collect();
    assert_eq!(told_of, known, "each known one is told of, and no other");
    assert_eq!(told[stays], Recovered::Running);
    assert!(
        matches!(&told[lost], Recovered::Ended(end) if end.status.is_none()),
        "one without a trace has no status"
    );
    assert_eq!(end_of(&second, went).await.exit_code(), Some(5));
    let third = next().await;
    let told = third.recover(&known).await.expect("a recovery");
    assert!(
        matches!(&told[went], Recovered::Ended(end) if end.exit_code() == Some(5)),
        "an end is told again until removal"
    );
    third.destroy(stays).await.expect("it is known");
    for id in third.containers().await {
        third.remove(&id).await.expect("removing one that ended");
    }
}
