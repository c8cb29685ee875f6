//! What may become of the instances of one app: who is launched, who goes, and how many serve meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Scalar;
use serde_json::Value;

use super::{keeping, moment, text};

/// An instance, as its row tells.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) app: String,
    pub(super) version: String,
    pub(super) config: String,
    /// What shall become of it.
    goal: String,
    pub(super) is_to_be_killed: bool,
    pub(super) condition: String,
    pub(super) task: String,
    /// When it began to run, or was launched.
    pub(super) since: u64,
    /// Since when its condition is what it is.
    pub(super) changed: u64,
    /// Both, as they were written.
    written: [u64; 2],
    /// The agent it is on.
    pub(super) agent: String,
    /// How many tasks were launched on what is kept for it; 0 if nothing is.
    pub(super) life: u64,
    /// The names of its volumes.
    pub(super) volumes: BTreeSet<String>,
    /// Where its containers see them.
    pub(super) paths: BTreeSet<String>,
    /// Whether those are known to be there.
    pub(super) is_confirmed: bool,
}

impl Copy {
    pub(super) fn read(row: &Value) -> Self {
        let kept = &row["reservation"];
        let volumes = || kept["volumes"].as_array().into_iter().flatten();
        let since = match moment(&row["startedAt"]) {
            0 => moment(&row["stagedAt"]),
            started => started,
        };
        let changed = moment(&row["since"]);
        Self {
            app: text(&row["app"]),
            version: text(&row["version"]),
            config: text(&row["configVersion"]),
            goal: text(&row["goal"]),
            is_to_be_killed: row["kill"] == true,
            condition: text(&row["condition"]),
            task: text(&row["taskId"]),
            since,
            changed,
            written: [since, changed],
            agent: text(&row["agent"]["id"]),
            life: kept["incarnation"].as_u64().unwrap_or_default(),
            volumes: volumes().map(|it| text(&it["persistenceId"])).collect(),
            paths: volumes().map(|it| text(&it["containerPath"])).collect(),
            is_confirmed: kept["confirmed"] == true,
        }
    }

    /// A life whose clock shows `now` reads it: no moment lies ahead.
    pub(super) fn read_at(&mut self, now: u64) {
        [self.since, self.changed] = self.written.map(|it| it.min(now));
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.goal != "Running"
    }

    /// Whether it leaves with all that is kept for it.
    pub(super) fn is_forsaken(&self) -> bool {
        self.goal == "Decommissioned"
    }

    /// Whether it takes one of its app's places, or did and leaves.
    pub(super) fn is_active(&self) -> bool {
        !["UnreachableInactive", "Reserved"].contains(&&*self.condition)
    }

    pub(super) fn stays(&self) -> bool {
        self.is_active() && !self.is_leaving()
    }

    /// Whether it waits without a task for room on what is kept for it.
    pub(super) fn is_parked(&self) -> bool {
        self.condition == "Reserved" && !self.volumes.is_empty()
    }

    /// What it was made as, it stays.
    pub(super) fn goes_on(&self, id: &str, next: &Self) -> Result<(), String> {
        let is_same =
            (&self.app, &self.agent, &self.volumes) == (&next.app, &next.agent, &next.volumes);
        let is_again = self.task != next.task;
        if !is_same || (!is_again && (&self.version, &self.config) != (&next.version, &next.config))
        {
            return Err(format!("{id} is another one: {self:?}, {next:?}"));
        }
        if is_again && (self.condition != "Reserved" || next.condition != "Provisioned") {
            return Err(format!(
                "{id} is launched again while it is {}",
                self.condition
            ));
        }
        if !is_again && self.is_leaving() && !next.is_leaving() {
            return Err(format!("{id} was to leave, and stays"));
        }
        Ok(())
    }

    /// How far it has come; who has come least far goes first.
    fn rank(&self, is_ready: bool) -> (usize, bool) {
        let stages = ["Unreachable", "Provisioned", "Starting", "Running"];
        let stage = match &*self.condition {
            "Staging" => "Provisioned",
            "Killing" => "Running",
            other => other,
        };
        (
            stages.iter().position(|it| *it == stage).unwrap_or(0),
            is_ready,
        )
    }
}

/// A version of an app, as its row tells.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) version: String,
    pub(super) config: String,
    pub(super) instances: usize,
    /// How many must serve while it is upgraded, and how many may be there.
    least: usize,
    most: usize,
    is_youngest_first: bool,
    checks: Vec<(u64, u64)>,
    awaits_readiness: bool,
    /// How much of everything an instance needs, volumes included.
    pub(super) needs: BTreeMap<String, Scalar>,
    /// Where containers see its volumes.
    pub(super) paths: BTreeSet<String>,
}

impl Spec {
    pub(super) fn read(row: &Value) -> Self {
        let version = text(&row["version"]);
        let config = row["versionInfo"]["lastConfigChangeAt"].as_str();
        let instances = usize::try_from(row["instances"].as_u64().unwrap_or(0)).unwrap_or(0);
        let strategy = &row["upgradeStrategy"];
        let share = |name: &str| percent(&strategy[name]);
        let mut least = (instances * share("minimumHealthCapacity")).div_ceil(100);
        let mut most = instances + instances * share("maximumOverCapacity") / 100;
        let volumes = row["container"]["volumes"].as_array().into_iter().flatten();
        let persistent = volumes.filter(|volume| volume["persistent"].is_object());
        let paths: BTreeSet<String> = persistent.map(|it| text(&it["containerPath"])).collect();
        // Something must move.
        if most <= least && !paths.is_empty() {
            least = most.saturating_sub(1);
        } else if most <= least {
            most = least + 1;
        }
        let checks = row["healthChecks"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let number = |check: &Value, name: &str| check[name].as_u64().unwrap_or(0);
        let limits = |check| {
            (
                number(check, "gracePeriodSeconds"),
                number(check, "maxConsecutiveFailures"),
            )
        };
        Self {
            config: config.map_or_else(|| version.clone(), ToOwned::to_owned),
            version,
            instances,
            least,
            most,
            is_youngest_first: row["killSelection"] != "OLDEST_FIRST",
            checks: checks.iter().map(limits).collect(),
            awaits_readiness: row["readinessChecks"]
                .as_array()
                .is_some_and(|all| !all.is_empty()),
            needs: keeping::needs(row),
            paths,
        }
    }

    /// The grace period of a check in seconds, and how often it may fail in a row.
    pub(super) fn check(&self, at: usize) -> (u64, u64) {
        self.checks.get(at).copied().unwrap_or_default()
    }
}

/// A share of the simulation's, all of which are whole percents.
fn percent(value: &Value) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 100"
    )]
    let percent = (value.as_f64().unwrap_or(1.0) * 100.0).round() as usize;
    percent
}

/// What checks found of an instance.
#[derive(Debug, Default)]
pub(super) struct Health {
    checks: BTreeMap<usize, Check>,
    pub(super) is_admitted: bool,
    /// Whether it failed more often than it may.
    pub(super) is_condemned: bool,
}

#[derive(Debug, Default)]
struct Check {
    has_passed: bool,
    failures: u64,
}

impl Health {
    /// A check found something of an instance that runs for so many milliseconds.
    pub(super) fn probed(&mut self, at: usize, passes: bool, (grace, most): (u64, u64), age: u64) {
        let check = self.checks.entry(at).or_default();
        if passes {
            (check.has_passed, check.failures) = (true, 0);
        } else if check.has_passed || age / 1000 >= grace {
            check.failures += 1;
        }
        self.is_condemned |= most > 0 && check.failures >= most;
    }

    pub(super) fn is_failing(&self) -> bool {
        self.checks.values().any(|check| check.failures > 0)
    }

    pub(super) fn is_ready(&self, spec: &Spec) -> bool {
        let passes = |at: usize| {
            let check = self.checks.get(&at);
            check.is_some_and(|check| check.has_passed && check.failures == 0)
        };
        (0..spec.checks.len()).all(passes) && (self.is_admitted || !spec.awaits_readiness)
    }
}

/// Whose turn it is, of an app.
#[derive(Debug, Clone)]
pub(super) enum Turn {
    /// It was, or there is nothing to wait for: it is as it is wanted.
    Past,
    /// Others come first: until then it is what it was before.
    ToCome(Option<Spec>),
    /// The same, but it was in an earlier life.
    Again(Option<Spec>),
    /// It is restarted.
    Restart,
}

/// What may happen to an app.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// What is wanted.
    pub(super) spec: Option<Spec>,
    pub(super) turn: Turn,
}

impl Case {
    /// How many instances may be wanted.
    pub(super) fn most(&self) -> usize {
        let before = match &self.turn {
            Turn::ToCome(before) | Turn::Again(before) => before.as_ref(),
            Turn::Past | Turn::Restart => None,
        };
        let all = self.spec.iter().chain(before);
        all.map(|spec| spec.instances).max().unwrap_or_default()
    }
}

/// What happened to the instances of an app.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) launched: BTreeSet<String>,
    /// Those that are meant to leave, as they were then.
    pub(super) dismissed: BTreeMap<String, Copy>,
}

impl Moves {
    /// Launches and dismissals, each by themselves: between the two it may have become another's turn.
    pub(super) fn apart(&self) -> [Self; 2] {
        let launched = Self {
            launched: self.launched.clone(),
            ..Self::default()
        };
        let dismissed = Self {
            dismissed: self.dismissed.clone(),
            ..Self::default()
        };
        [launched, dismissed]
    }
}

/// The instances of an app now, with whether they are ready and whether they fail.
type All<'a> = BTreeMap<&'a String, (&'a Copy, bool, bool)>;

/// Whether that is what may happen.
pub(super) fn judge(
    app: &str,
    case: &Case,
    moves: &Moves,
    all: &All<'_>,
    named: &BTreeSet<String>,
) -> Result<(), String> {
    let of = |id: &String| all.get(id).map(|(copy, ..)| *copy);
    let launched: Vec<&Copy> = moves.launched.iter().filter_map(of).collect();
    let dismissed = moves
        .dismissed
        .iter()
        .filter(|(id, _)| !named.contains(*id));
    let staying = all.values().filter(|(copy, ..)| copy.stays()).count();
    let active = all.values().filter(|(copy, ..)| copy.is_active()).count();
    let is_of = |copy: &Copy, spec: &Spec| copy.version == spec.version;
    // What is out of reach and of an old version need not come back.
    let outdated = |copy: &Copy| {
        let spec = case.spec.as_ref();
        !copy.is_active() && spec.is_none_or(|spec| spec.config != copy.config)
    };
    let mut dismissed = dismissed.filter(|(_, copy)| !outdated(copy));
    match (&case.turn, &case.spec) {
        (Turn::ToCome(before), spec) => {
            let other = |copy: &&&Copy| before.as_ref().is_none_or(|it| !is_of(copy, it));
            if let Some(copy) = launched.iter().find(other) {
                return Err(format!(
                    "{} is launched before the turn of {app}",
                    copy.task
                ));
            }
            if let (Some((id, _)), Some(_)) = (dismissed.next(), spec) {
                return Err(format!("{id} goes before the turn of {app}"));
            }
            fits(app, &launched, staying, before.as_ref())
        }
        (Turn::Again(before), spec) => {
            let specs = before.iter().chain(spec);
            let is_known = |copy: &Copy| specs.clone().any(|spec| is_of(copy, spec));
            match launched.iter().find(|copy| !is_known(copy)) {
                Some(copy) => Err(format!("{} is of no version {app} may have", copy.task)),
                None => Ok(()),
            }
        }
        (_, None) => match launched.first() {
            Some(copy) => Err(format!("{} is launched, though {app} is gone", copy.task)),
            None => Ok(()),
        },
        (turn, Some(spec)) => {
            if let Some(copy) = launched.iter().find(|copy| !is_of(copy, spec)) {
                return Err(format!(
                    "{} is not of the version {app} is to have",
                    copy.task
                ));
            }
            if matches!(turn, Turn::Restart) {
                let dismissed: Vec<_> = dismissed.collect();
                if !launched.is_empty() && active > spec.most {
                    let most = spec.most;
                    return Err(format!(
                        "{active} instances of {app} are there, {most} may be"
                    ));
                }
                let is_new = |copy: &Copy| copy.config == spec.config;
                let new = all
                    .values()
                    .filter(|(copy, ..)| copy.stays() && is_new(copy))
                    .count();
                if !launched.is_empty() && new > spec.instances {
                    return Err(format!("{app} gets {new} new instances"));
                }
                return replaced(app, spec, &dismissed, all, new);
            }
            fits(app, &launched, staying, Some(spec))?;
            scaled(app, spec, dismissed, all, staying)
        }
    }
}

/// Nothing is launched for a place that is taken.
fn fits(app: &str, launched: &[&Copy], staying: usize, spec: Option<&Spec>) -> Result<(), String> {
    let wanted = spec.map_or(0, |spec| spec.instances);
    if launched.is_empty() || staying <= wanted {
        return Ok(());
    }
    Err(format!(
        "{app} gets {staying} instances, {wanted} are wanted"
    ))
}

/// Outside of an upgrade nobody goes but who is too many, and those first whom the app gives up first.
fn scaled<'a>(
    app: &str,
    spec: &Spec,
    dismissed: impl Iterator<Item = (&'a String, &'a Copy)>,
    all: &All<'_>,
    staying: usize,
) -> Result<(), String> {
    for (id, copy) in dismissed {
        if staying < spec.instances {
            let wanted = spec.instances;
            return Err(format!(
                "{id} goes, and {staying} of {wanted} of {app} are left"
            ));
        }
        // One that is gone already was out of reach.
        let Some((_, is_ready, _)) = all.get(id) else {
            continue;
        };
        let rank = copy.rank(*is_ready);
        for (other, (kept, is_ready, _)) in all.iter().filter(|(_, (kept, ..))| kept.stays()) {
            let of_kept = kept.rank(*is_ready);
            let is_out_of_turn = if spec.is_youngest_first {
                copy.since < kept.since
            } else {
                copy.since > kept.since
            };
            if rank > of_kept || (rank == of_kept && is_out_of_turn) {
                return Err(format!("{id} goes, and it is the turn of {other}"));
            }
        }
    }
    Ok(())
}

/// Nobody who serves goes in an upgrade before enough others do.
fn replaced(
    app: &str,
    spec: &Spec,
    dismissed: &[(&String, &Copy)],
    all: &All<'_>,
    new: usize,
) -> Result<(), String> {
    let serves = |copy: &Copy, is_ready: bool, is_failing: bool| {
        let is_new = copy.config == spec.config;
        copy.condition == "Running" && if is_new { is_ready } else { !is_failing }
    };
    let left = all.values().filter(|(copy, is_ready, is_failing)| {
        copy.stays() && serves(copy, *is_ready, *is_failing)
    });
    let left = left.count();
    for (id, copy) in dismissed {
        let (is_ready, is_failing) = all.get(*id).map_or((false, true), |it| (it.1, it.2));
        let least = spec.least;
        if serves(copy, is_ready, is_failing) && left < least {
            return Err(format!("{id} goes, and {left} of {app} serve, not {least}"));
        }
        let is_room_made =
            dismissed.len() + all.values().filter(|it| it.0.stays()).count() > spec.most;
        if copy.config == spec.config && new < spec.instances && (is_ready || !is_room_made) {
            return Err(format!("{id} goes, and is new and no one too many"));
        }
    }
    Ok(())
}
