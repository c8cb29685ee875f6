//! The large documents: the state and its parts, for endpoints of v0 and calls of v1.
//!
//! They are written from a [`Snapshot`], outside the core, and composed of texts that are kept
//! while what they show does not change ([`pieces`](super::pieces)).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dcos_proto::json::{Dialect, JsonEnum as _, append};
use dcos_proto::mesos::{AgentId, ExecutorId, ExecutorInfo, FrameworkId};
use dcos_wire::{FlowWriter, MediaType, Rope};

use super::pieces::{Composer, Form, Paper, Pieces};
use super::sight::Sight;
use super::{json, packed, text, views};
use crate::master::{Agent, Config, Framework, Snapshot, TaskRecord};

/// A document that shows all there is of something, to whoever may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Document {
    /// `/state`
    State,
    /// `/state-summary`
    Summary,
    /// `/slaves`
    Agents,
    /// `/frameworks`
    Frameworks,
    /// The answer to a call of API v1.
    Answer(Part, MediaType),
    /// `SUBSCRIBED`, the first event of a stream.
    Subscribed(MediaType),
}

/// What a call of API v1 asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    State,
    Tasks,
    Executors,
    Frameworks,
    Agents,
}

/// Writes documents of one moment for one kind of reader.
pub(crate) struct Writer<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) config: &'a Config,
    pub(crate) sight: &'a Sight,
}

impl Document {
    /// The whole document. `pieces` are those of readers who see everything.
    pub(crate) fn write(self, from: &Writer<'_>, pieces: &mut Pieces) -> Rope {
        self.write_on(Paper::Whole(Rope::new()), from, pieces)
    }

    /// Whether it can be sent while it is written: what says in front how long it is can't.
    pub(crate) fn can_flow(self) -> bool {
        match self {
            Self::State | Self::Summary | Self::Agents | Self::Frameworks => true,
            Self::Answer(_, media) => media == MediaType::Json,
            Self::Subscribed(_) => false,
        }
    }

    /// The same document for one reader, who is sent it meanwhile. Only for those that
    /// [can](Self::can_flow).
    pub(crate) fn flow(self, to: FlowWriter, from: &Writer<'_>, pieces: &mut Pieces) {
        debug_assert!(self.can_flow(), "{self:?}");
        self.write_on(Paper::Flow(to), from, pieces);
    }

    fn write_on(self, paper: Paper, from: &Writer<'_>, pieces: &mut Pieces) -> Rope {
        let pieces = from.sight.is_whole().then(|| {
            pieces.tidy();
            pieces
        });
        let mut to = Composer::new(pieces, paper);
        match self {
            Self::State => from.state(&mut to),
            Self::Summary => super::summary::summary(from, &mut to),
            Self::Agents => {
                to.text("{");
                from.agents(&mut to, Form::V0Whole);
                to.text("}");
            }
            Self::Frameworks => {
                to.text("{");
                from.frameworks(&mut to);
                to.text(",\"unregistered_frameworks\":[]}");
            }
            Self::Answer(part, MediaType::Json) => {
                let name = part.name();
                to.text(format!(
                    "{{\"type\":\"{}\",\"{name}\":{{",
                    name.to_uppercase()
                ));
                from.part(part, &mut to);
                to.text("}}");
            }
            Self::Answer(part, MediaType::Protobuf) => {
                return from.answer_bytes(part, to);
            }
            Self::Subscribed(MediaType::Json) => {
                to.text("{\"type\":\"SUBSCRIBED\",\"subscribed\":{\"get_state\":{");
                from.part(Part::State, &mut to);
                let seconds = crate::master::watchers::HEARTBEAT.as_secs_f64();
                to.text(format!("}},\"heartbeat_interval_seconds\":{seconds:?}}}}}"));
            }
            Self::Subscribed(MediaType::Protobuf) => return from.subscribed_bytes(to),
        }
        to.finish()
    }
}

impl Part {
    /// The name of the field that holds it.
    fn name(self) -> &'static str {
        match self {
            Self::State => "get_state",
            Self::Tasks => "get_tasks",
            Self::Executors => "get_executors",
            Self::Frameworks => "get_frameworks",
            Self::Agents => "get_agents",
        }
    }
}

impl Writer<'_> {
    /// Frameworks that are not completed and that the reader may see.
    pub(super) fn visible(&self) -> impl Iterator<Item = (&FrameworkId, &Arc<Framework>)> {
        let all = self.snapshot.frameworks.iter();
        all.filter(|(_, framework)| self.sight.framework(&framework.info))
    }

    fn visible_completed(&self) -> impl Iterator<Item = &Arc<Framework>> {
        let all = self.snapshot.completed.iter();
        all.filter(|framework| self.sight.framework(&framework.info))
    }

    fn state(&self, to: &mut Composer<'_>) {
        let (snapshot, config) = (self.snapshot, self.config);
        let info = &snapshot.settings.info;
        let agents = snapshot.agents.values();
        let active = agents.filter(|agent| agent.active).count();
        to.text("{");
        to.fields(|o| {
            for (key, content) in super::reads::version_object() {
                o.put(&key, content);
            }
            o.put("start_time", snapshot.process_start().as_secs_f64());
            o.put("elected_time", snapshot.started.as_secs_f64());
            o.put("id", &info.id);
            o.put("pid", &info.pid);
            o.put("hostname", &info.hostname);
            o.list("capabilities", &info.capabilities, |out, capability| {
                text::value(out, capability.r#type().name());
            });
            o.put("activated_slaves", active);
            o.put("deactivated_slaves", snapshot.agents.len() - active);
            o.put("unreachable_slaves", snapshot.unreachable.len());
            o.put("leader", &info.pid);
            o.object("leader_info", |o| {
                o.put("id", &info.id);
                o.put("pid", &info.pid);
                o.put("port", info.port);
                o.put("hostname", &info.hostname);
            });
            o.put("orphan_tasks", [0_u8; 0]);
            o.put("unregistered_frameworks", [0_u8; 0]);
            if self.sight.flags() {
                o.put("flags", &config.flags);
            }
            o.message("domain", info.domain.as_ref());
            o.put_some("cluster", config.cluster.as_ref());
            let shown = |path: &Path| path.display().to_string();
            let own = config.own_log.as_deref().and_then(Path::parent);
            o.put_some("log_dir", own.map(shown));
            o.put_some("external_log_file", config.log_file.as_deref().map(shown));
        });
        to.text(",");
        self.agents(to, Form::V0);
        to.text(",");
        self.frameworks(to);
        to.text("}");
    }

    fn agents(&self, to: &mut Composer<'_>, form: Form) {
        let snapshot = self.snapshot;
        to.open("\"slaves\":[");
        to.items(
            snapshot.agents.pages(),
            form,
            |items, _: &AgentId, agent: &Arc<Agent>| {
                text::object(items.next(), |o| {
                    json::agent(o, snapshot, self.sight, agent, form == Form::V0Whole);
                });
            },
        );
        to.open("],\"recovered_slaves\":[");
        to.items(snapshot.recovered_agents.pages(), form, |items, _, info| {
            text::object(items.next(), |o| json::agent_info(o, info));
        });
        to.text("]");
    }

    fn frameworks(&self, to: &mut Composer<'_>) {
        to.text("\"frameworks\":[");
        for (at, (_, framework)) in self.visible().enumerate() {
            to.text(if at > 0 { "," } else { "" });
            self.framework(to, framework);
        }
        to.text("],\"completed_frameworks\":[");
        for (at, framework) in self.visible_completed().enumerate() {
            to.text(if at > 0 { "," } else { "" });
            self.framework(to, framework);
        }
        to.text("]");
    }

    fn framework(&self, to: &mut Composer<'_>, framework: &Framework) {
        let (snapshot, info) = (self.snapshot, &framework.info);
        to.text("{");
        to.fields(|o| {
            json::framework_head(o, snapshot, framework);
            json::framework_rest(o, snapshot, framework);
        });
        let tasks = |to: &mut Composer<'_>, key: &str, pages: &mut dyn Iterator<Item = _>| {
            to.open(key);
            to.items(pages, Form::V0, |items, _: &u64, task: &TaskRecord| {
                if self.sight.task(task, info) {
                    packed::task(items.next(), task);
                }
            });
        };
        to.open(",\"tasks\":[");
        to.items(framework.tasks.pages(), Form::V0, |items, _, task| {
            if self.sight.task(task, info) {
                packed::task(items.next(), task);
            }
        });
        tasks(
            to,
            "],\"unreachable_tasks\":[",
            &mut framework.unreachable_tasks.pages(),
        );
        tasks(
            to,
            "],\"completed_tasks\":[",
            &mut framework.completed_tasks.pages(),
        );
        to.open("],\"executors\":[");
        to.items(
            framework.executors.pages(),
            Form::V0,
            |items, agent: &AgentId, executors: &Executors| {
                for executor in executors.values() {
                    if self.sight.executor(executor, info) {
                        json::executor(items.next(), executor, &agent.value);
                    }
                }
            },
        );
        to.text("]}");
    }

    /// The fields of one part in JSON; lists stand there even if they are empty, as the original
    /// writes them.
    fn part(&self, part: Part, to: &mut Composer<'_>) {
        match part {
            Part::State => {
                for (at, part) in [Part::Tasks, Part::Executors, Part::Frameworks, Part::Agents]
                    .into_iter()
                    .enumerate()
                {
                    let comma = if at > 0 { "," } else { "" };
                    to.text(format!("{comma}\"{}\":{{", part.name()));
                    self.part(part, to);
                    to.text("}");
                }
            }
            Part::Tasks => {
                to.open("\"tasks\":[");
                self.live_tasks(to, Form::Json);
                to.open("],\"completed_tasks\":[");
                self.completed_tasks(to, Form::Json);
                to.open("],\"unreachable_tasks\":[");
                self.unreachable_tasks(to, Form::Json);
                to.text("]");
            }
            Part::Executors => {
                to.open("\"executors\":[");
                self.executors(to, Form::Json);
                to.text("]");
            }
            Part::Frameworks => {
                let view = |framework| self.snapshot.framework_view(framework);
                to.open("\"frameworks\":[");
                to.each(self.visible(), Form::Json, |out, (_, framework)| {
                    append(out, &view(framework), Dialect::V1);
                });
                to.open("],\"completed_frameworks\":[");
                to.each(self.visible_completed(), Form::Json, |out, framework| {
                    append(out, &view(framework), Dialect::V1);
                });
                to.text("]");
            }
            Part::Agents => {
                to.open("\"agents\":[");
                self.agent_views(to, Form::Json);
                to.open("],\"recovered_agents\":[");
                self.recovered_views(to, Form::Json);
                to.text("]");
            }
        }
    }

    fn live_tasks(&self, to: &mut Composer<'_>, form: Form) {
        for framework in self.all() {
            to.items(framework.tasks.pages(), form, |items, _, task| {
                if self.sight.task(task, &framework.info) {
                    form.task(2, items.next(), task);
                }
            });
        }
    }

    fn completed_tasks(&self, to: &mut Composer<'_>, form: Form) {
        for framework in self.all() {
            to.items(framework.completed_tasks.pages(), form, |items, _, task| {
                if self.sight.task(task, &framework.info) {
                    form.task(3, items.next(), task);
                }
            });
        }
    }

    fn unreachable_tasks(&self, to: &mut Composer<'_>, form: Form) {
        for framework in self.all() {
            to.items(
                framework.unreachable_tasks.pages(),
                form,
                |items, _, task| {
                    if self.sight.task(task, &framework.info) {
                        form.task(5, items.next(), task);
                    }
                },
            );
        }
    }

    /// Frameworks the reader may see, completed ones behind the others.
    fn all(&self) -> impl Iterator<Item = &Arc<Framework>> {
        let live = self.visible().map(|(_, framework)| framework);
        live.chain(self.visible_completed())
    }

    fn executors(&self, to: &mut Composer<'_>, form: Form) {
        for (_, framework) in self.visible() {
            let write = |items: &mut super::pieces::Items<'_>, agent: &_, executors: &Executors| {
                for executor in executors.values() {
                    if self.sight.executor(executor, &framework.info) {
                        form.message(1, items.next(), &views::executor(executor, agent));
                    }
                }
            };
            to.items(framework.executors.pages(), form, write);
        }
    }

    fn agent_views(&self, to: &mut Composer<'_>, form: Form) {
        to.items(self.snapshot.agents.pages(), form, |items, _, agent| {
            let view = self.sight.agent(self.snapshot.agent_view(agent));
            form.message(1, items.next(), &view);
        });
    }

    fn recovered_views(&self, to: &mut Composer<'_>, form: Form) {
        let pages = self.snapshot.recovered_agents.pages();
        to.items(pages, form, |items, _, info| {
            form.message(2, items.next(), &*self.sight.recovered(info));
        });
    }
}

type Executors = BTreeMap<ExecutorId, Arc<ExecutorInfo>>;

/// Protobuf: what is inside a message is written before it, since its length stands in front.
impl Writer<'_> {
    fn answer_bytes(&self, part: Part, mut to: Composer<'_>) -> Rope {
        use dcos_proto::master::response::Type;
        let (kind, field) = match part {
            Part::State => (Type::GetState, 9),
            Part::Agents => (Type::GetAgents, 10),
            Part::Frameworks => (Type::GetFrameworks, 11),
            Part::Executors => (Type::GetExecutors, 12),
            Part::Tasks => (Type::GetTasks, 13),
        };
        let inner = self.part_bytes(part, &mut to);
        let mut rope = typed(kind.into());
        rope.append(wrapped(field, inner));
        rope
    }

    fn subscribed_bytes(&self, mut to: Composer<'_>) -> Rope {
        let state = self.part_bytes(Part::State, &mut to);
        let mut inner = wrapped(1, state);
        let mut seconds = Vec::new();
        let heartbeat = crate::master::watchers::HEARTBEAT.as_secs_f64();
        prost::encoding::double::encode(2, &heartbeat, &mut seconds);
        inner.text(seconds);
        let mut rope = typed(dcos_proto::master::event::Type::Subscribed.into());
        rope.append(wrapped(2, inner));
        rope
    }

    fn part_bytes(&self, part: Part, to: &mut Composer<'_>) -> Rope {
        match part {
            Part::State => {
                let mut rope = Rope::new();
                let parts = [Part::Tasks, Part::Executors, Part::Frameworks, Part::Agents];
                for (field, part) in (1..).zip(parts) {
                    let inner = self.part_bytes(part, to);
                    rope.append(wrapped(field, inner));
                }
                return rope;
            }
            Part::Tasks => {
                self.live_tasks(to, Form::Protobuf);
                self.completed_tasks(to, Form::Protobuf);
                self.unreachable_tasks(to, Form::Protobuf);
            }
            Part::Executors => self.executors(to, Form::Protobuf),
            Part::Frameworks => {
                let view = |framework| self.snapshot.framework_view(framework);
                to.each(self.visible(), Form::Protobuf, |out, (_, framework)| {
                    Form::Protobuf.message(1, out, &view(framework));
                });
                to.each(
                    self.visible_completed(),
                    Form::Protobuf,
                    |out, framework| {
                        Form::Protobuf.message(2, out, &view(framework));
                    },
                );
            }
            Part::Agents => {
                self.agent_views(to, Form::Protobuf);
                self.recovered_views(to, Form::Protobuf);
            }
        }
        to.take()
    }
}

impl Form {
    /// Appends a task, in protobuf as the field of that number.
    fn task(self, field: u32, out: &mut Vec<u8>, task: &TaskRecord) {
        if self == Self::Protobuf {
            self.message(field, out, &views::task(task));
        } else {
            packed::answer::task(out, task);
        }
    }

    /// Appends a message, in protobuf as the field of that number.
    fn message<M: dcos_proto::Message>(self, field: u32, out: &mut Vec<u8>, message: &M) {
        if self == Self::Protobuf {
            prost::encoding::message::encode(field, message, out);
        } else {
            append(out, message, Dialect::V1);
        }
    }
}

/// The field `type`, which is the first of answers and events.
fn typed(kind: i32) -> Rope {
    let mut field = Vec::new();
    prost::encoding::int32::encode(1, &kind, &mut field);
    let mut rope = Rope::new();
    rope.text(field);
    rope
}

/// A field that holds a message.
fn wrapped(field: u32, message: Rope) -> Rope {
    let mut head = Vec::new();
    prost::encoding::encode_key(field, prost::encoding::WireType::LengthDelimited, &mut head);
    prost::encoding::encode_varint(message.len() as u64, &mut head);
    let mut rope = Rope::new();
    rope.text(head);
    rope.append(message);
    rope
}

#[cfg(test)]
mod tests;
