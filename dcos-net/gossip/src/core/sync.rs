//! Comparing notes: whoever missed something gets it from anybody.
//!
//! ```text
//! a ─ Summary ─► b      a number for who is there and what they say; the same as b's: nothing more
//! a ◄─ Digest ─ b       a line a member, in as many packets as that takes
//! a ─ Records ─► b      what a knows better
//! a ─ Want ────► b      what b knows better
//! a ◄─ Records ─ b
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Member, State};

use super::{BODY, Core, Id, Time};
use crate::id::Malformed;
use crate::letter::{Digest, Kind, Letter, Line, read_records, read_wants, records, wants};

/// For how long others are told of a death they did not hear of. The dead are remembered longer, but
/// who tells of them for ever keeps them remembered for ever.
const TOLD: Duration = Duration::from_secs(600);

impl Core {
    /// Begins to compare notes with somebody.
    pub(super) fn greet(&mut self, now: Time) {
        let summary = summary(&self.lines(now)).to_be_bytes();
        self.summarise(&summary);
    }

    /// Has somebody tell everything: of the dead, too, whom no summary counts.
    pub(super) fn ask_all(&mut self) {
        self.summarise(&[]);
    }

    fn summarise(&mut self, summary: &[u8]) {
        let there = self.entries.iter().filter(|(_, entry)| !entry.is_down);
        let there: Vec<Id> = there
            .map(|(address, entry)| Id {
                address: *address,
                life: entry.life,
            })
            .collect();
        if let Some(one) = self.picks.pick(&there).copied() {
            self.tell(Kind::Summary, one, summary);
        }
    }

    pub(super) fn compare(&mut self, now: Time, letter: &Letter<'_>) -> Result<(), Malformed> {
        match letter.kind {
            Kind::Summary => {
                let lines = self.lines(now);
                if letter.body != summary(&lines).to_be_bytes() {
                    for body in Digest::bodies(&lines, BODY) {
                        self.tell(Kind::Digest, letter.from, &body);
                    }
                }
            }
            Kind::Digest => self.digest(now, letter.from, &Digest::read(letter.body)?)?,
            Kind::Records => {
                let told = read_records(letter.body)?;
                let members = told.iter().map(|(member, _)| member.clone()).collect();
                self.learn(now, members, &BTreeMap::new())?;
                for record in told.into_iter().filter_map(|(_, record)| record) {
                    self.hear(now, record);
                }
            }
            Kind::Want => {
                let wanted = read_wants(letter.body)?;
                let lines = self.lines(now).into_iter();
                let lines = lines.filter(|line| wanted.contains(&line.member.id().address));
                self.tell_records(letter.from, lines.collect());
            }
            Kind::Swim | Kind::Outdated => {}
        }
        Ok(())
    }

    fn digest(&mut self, now: Time, from: Id, digest: &Digest) -> Result<(), Malformed> {
        let own = self.own.address;
        // Before their notes change ours.
        let ours = self.lines(now);
        let theirs = digest.lines.iter();
        let theirs: BTreeMap<SocketAddr, &Line> = theirs
            .map(|line| (line.member.id().address, line))
            .collect();
        let better = |line: &Line| {
            let address = line.member.id().address;
            let is_down = line.member.state() == State::Down;
            match theirs.get(&address) {
                None => digest.covers(address) && !is_down && address != from.address,
                Some(other) => {
                    let lives = (line.member.id().life, other.member.id().life);
                    let is_news = is_down && other.member.state() != State::Down;
                    line.version > other.version
                        || lives.0 > lives.1
                        || (is_news && lives.0 == lives.1)
                }
            }
        };
        let give: Vec<Line> = ours.iter().filter(|line| better(line)).cloned().collect();
        let versions: BTreeMap<SocketAddr, u64> = ours
            .iter()
            .map(|line| (line.member.id().address, line.version))
            .collect();
        let known = |address: &SocketAddr| versions.get(address).copied().unwrap_or_default();
        let want = theirs
            .iter()
            .filter(|(address, line)| line.version > known(address));
        let want: Vec<SocketAddr> = want.map(|(address, _)| *address).collect();

        let told = |line: &&Line| {
            let is_old = Duration::from_secs(line.age.into()) >= TOLD;
            let address = line.member.id().address;
            !(line.member.state() == State::Down && is_old && !self.entries.contains_key(&address))
        };
        let members = digest.lines.iter().filter(told);
        let members = members.map(|line| line.member.clone()).collect();
        let ages = digest.lines.iter();
        let ages = ages.map(|line| (line.member.id().address, line.age));
        self.learn(now, members, &ages.collect())?;

        self.tell_records(from, give);
        for body in wants(&want, BODY) {
            self.tell(Kind::Want, from, &body);
        }
        // Somebody remembers words of ours that we do not: an earlier life's.
        if let Some(line) = theirs
            .get(&own)
            .filter(|line| line.version > self.own.version)
        {
            self.own.version = line.version + 1;
            self.publish();
        }
        Ok(())
    }

    fn learn(
        &mut self,
        now: Time,
        members: Vec<Member<Id>>,
        ages: &BTreeMap<SocketAddr, u16>,
    ) -> Result<(), Malformed> {
        for member in members.iter().filter(|one| one.state() == State::Suspect) {
            self.suspect(now, *member.id());
        }
        self.swim_with(now, ages, |swim, effects| {
            swim.apply_many(members.into_iter(), true, effects)
        })
    }

    fn tell_records(&mut self, to: Id, lines: Vec<Line>) {
        let told = lines.into_iter().map(|line| {
            let address = line.member.id().address;
            let record = if address == self.own.address {
                Some(self.own.clone())
            } else {
                self.records.get(&address).cloned()
            };
            (line.member, record)
        });
        for body in records(told.collect::<Vec<_>>(), BODY) {
            self.tell(Kind::Records, to, &body);
        }
    }

    /// All that others may want to know, by address.
    fn lines(&self, now: Time) -> Vec<Line> {
        let known = self.swim.iter_membership_state();
        let mut lines: Vec<Line> = known
            .filter_map(|member| {
                let address = member.id().address;
                let entry = self.entries.get(&address)?;
                let age = if entry.is_down {
                    now - entry.fell
                } else {
                    Duration::ZERO
                };
                if address == self.own.address || age >= TOLD {
                    return None;
                }
                Some(Line {
                    member: member.clone(),
                    version: self
                        .records
                        .get(&address)
                        .map_or(0, |record| record.version),
                    age: u16::try_from(age.as_secs()).unwrap_or(u16::MAX),
                })
            })
            .collect();
        lines.push(Line {
            member: Member::alive(*self.swim.identity()),
            version: self.own.version,
            age: 0,
        });
        lines.sort_unstable_by_key(|line| line.member.id().address);
        lines
    }
}

/// A number for those who are there and what they say; FNV-1a, since nobody gains by two that are alike.
fn summary(lines: &[Line]) -> u64 {
    let mut words = Vec::new();
    for line in lines {
        if line.member.state() != State::Down {
            line.member.id().write(&mut words);
            words.extend(line.version.to_be_bytes());
        }
    }
    words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
