//! What foca is given, and what becomes of what it answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use dcos_core::seed::Seed;
use foca::{Notification, PeriodicParams, Runtime, State};
use rand::TryRng;

use super::{
    Codec, Core, Due, Entry, Foca, Heard, Id, Malformed, OwnedNotification, Presence, RETURN, SWIM,
    Time, Timer,
};
use crate::letter::Kind;

/// How often each member asks another whether it is there.
const PERIOD: Duration = Duration::from_millis(500);
/// How long an answer takes at most, before others are asked to ask.
const ANSWER: Duration = Duration::from_millis(200);
/// How long dead members are remembered, so that nobody takes old news of them for new.
const FORGET: Duration = Duration::from_secs(24 * 60 * 60);

/// What suits a cluster of `members`: as many repetitions, and as long a time to contradict, as news
/// takes to reach all (both grow with the logarithm, as in `memberlist`).
pub(super) fn settings(members: usize) -> foca::Config {
    let digits = u32::try_from(members + 1).map_or(10.0, |count| f64::from(count).log10());
    let some = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let every = |frequency, count| {
        Some(PeriodicParams {
            frequency,
            num_members: some(count),
        })
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 4 and 40"
    )]
    let transmissions = (4.0 * digits).ceil().clamp(4.0, 40.0) as u8;
    foca::Config {
        probe_period: PERIOD,
        probe_rtt: ANSWER,
        num_indirect_probes: some(3),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: PERIOD.mul_f64(4.0 * digits.max(1.0)),
        remove_down_after: Some(FORGET),
        max_packet_size: some(SWIM),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(30), 1),
        periodic_announce_to_down_members: every(Duration::from_secs(15), 1),
        periodic_gossip: every(Duration::from_millis(200), 3),
    }
}

/// A seed as foca draws from it.
#[derive(Debug)]
pub(super) struct Draws(pub(super) Seed);

impl TryRng for Draws {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.0.next_u64() >> 32).unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for word in dst.chunks_mut(8) {
            word.copy_from_slice(&self.0.next_u64().to_be_bytes()[..word.len()]);
        }
        Ok(())
    }
}

/// What foca wants done.
#[derive(Debug, Default)]
pub(super) struct Effects {
    letters: Vec<(SocketAddr, Vec<u8>)>,
    timers: Vec<(Duration, Timer<Id>)>,
    notes: Vec<OwnedNotification<Id>>,
}

impl Runtime<Id> for Effects {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        self.notes.push(notification.to_owned());
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.letters.push((to.address, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((after, event));
    }
}

impl Core {
    /// Has foca work, and does what it wants done.
    pub(super) fn swim(
        &mut self,
        now: Time,
        work: impl FnOnce(&mut Foca<Id, Codec, Draws, Heard>, &mut Effects) -> Result<(), foca::Error>,
    ) -> Result<(), Malformed> {
        self.swim_with(now, &BTreeMap::new(), work)
    }

    /// The same, where the dead that are new were dead for so many seconds.
    pub(super) fn swim_with(
        &mut self,
        now: Time,
        ages: &BTreeMap<SocketAddr, u16>,
        work: impl FnOnce(&mut Foca<Id, Codec, Draws, Heard>, &mut Effects) -> Result<(), foca::Error>,
    ) -> Result<(), Malformed> {
        let mut effects = Effects::default();
        let done = work(&mut self.swim, &mut effects);
        for (to, letter) in effects.letters {
            self.post(Kind::Swim, to, &letter);
        }
        while let Ok(id) = self.suspects.try_recv() {
            self.suspect(now, id);
        }
        for (after, timer) in effects.timers {
            if let Timer::ChangeSuspectToDown { member_id, .. } = timer {
                self.suspect(now, member_id);
            }
            self.schedule(now + after, Due::Swim(timer));
        }
        for note in &effects.notes {
            self.note(now, note);
        }
        while let Ok(record) = self.heard.try_recv() {
            self.hear(now, record);
        }
        if self.swim.iter_membership_state().len() != self.entries.len() {
            self.mirror(now, ages);
        }
        Ok(done?)
    }

    fn note(&mut self, now: Time, note: &OwnedNotification<Id>) {
        match *note {
            OwnedNotification::MemberUp(id) => {
                let entry = self.entry(now, id);
                entry.is_down = false;
                if entry.presence != Presence::Alive {
                    entry.presence = Presence::Alive;
                    entry.since = now;
                }
                self.is_news = true;
                self.resize();
            }
            OwnedNotification::MemberDown(id) => {
                let entry = self.entry(now, id);
                entry.is_down = true;
                entry.fell = now;
                self.fall(now, id.address);
                self.resize();
            }
            OwnedNotification::Rename(_, id) => {
                self.entry(now, id);
            }
            OwnedNotification::Active => {
                self.is_connected = true;
                self.schedule(now, Due::Greet);
            }
            OwnedNotification::Rejoin(_) => {
                self.is_connected = false;
                self.is_news = true;
                // Others may have dropped what they knew of the last life.
                self.own.version += 1;
                self.publish();
                self.hurry(now);
            }
            OwnedNotification::Idle => {
                self.is_connected = false;
                self.hurry(now);
            }
            OwnedNotification::Defunct => self.is_connected = false,
        }
    }

    fn entry(&mut self, now: Time, id: Id) -> &mut Entry {
        let entry = self.entries.entry(id.address).or_insert(Entry {
            life: id.life,
            is_down: false,
            presence: Presence::Alive,
            since: now,
            fell: now,
            dies: Time::MAX,
            suspected: Time::EPOCH,
        });
        entry.life = id.life;
        entry
    }

    pub(super) fn suspect(&mut self, now: Time, id: Id) {
        let entry = self.entries.get_mut(&id.address);
        if let Some(entry) = entry.filter(|entry| entry.life == id.life) {
            entry.suspected = now;
        }
    }

    /// Makes the list what foca's is: it does not tell of the dead whom nobody saw alive here, nor of
    /// those it forgets.
    fn mirror(&mut self, now: Time, ages: &BTreeMap<SocketAddr, u16>) {
        let known = self.swim.iter_membership_state();
        let known: BTreeMap<SocketAddr, (u64, bool)> = known
            .map(|member| {
                let Id { address, life } = *member.id();
                (address, (life, member.state() == State::Down))
            })
            .collect();
        self.entries
            .retain(|address, _| known.contains_key(address));
        for (address, (life, is_down)) in known {
            if self.entries.contains_key(&address) {
                continue;
            }
            let age = ages.get(&address).copied().unwrap_or_default();
            let age = Duration::from_secs(age.into());
            // Who went a moment ago may be expected back: its own words say so, and come next.
            let is_dead = is_down && age >= RETURN;
            let entry = Entry {
                life,
                is_down,
                presence: if is_dead {
                    Presence::Dead
                } else {
                    Presence::Alive
                },
                since: now - age,
                fell: now - age,
                dies: now,
                suspected: Time::EPOCH,
            };
            self.entries.insert(address, entry);
            if is_down && !is_dead {
                self.fall(now, address);
            }
        }
        self.is_news = true;
        // A later life at this very address is one of an earlier process.
        let own = *self.swim.identity();
        let other = self.entries.get(&own.address).map(|entry| entry.life);
        if let Some(life) = other.filter(|life| *life > own.life) {
            let _ = self.outlive(now, life);
        }
    }

    /// Suits foca to the size of the cluster.
    fn resize(&mut self) {
        let wanted = settings(self.swim.num_members() + 1);
        self.swim
            .set_config(wanted)
            .expect("only what may change differs");
    }
}
