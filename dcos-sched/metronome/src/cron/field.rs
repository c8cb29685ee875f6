//! One field of a cron expression: the values it lets pass.

/// A set of values out of `first..=last`, at most 192 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    first: u32,
    bits: [u64; 3],
    /// Whether it was `*`.
    any: bool,
}

impl Field {
    fn none(first: u32) -> Self {
        Self {
            first,
            bits: [0; 3],
            any: false,
        }
    }

    fn add(&mut self, value: u32) {
        let at = value - self.first;
        self.bits[at as usize / 64] |= 1 << (at % 64);
    }

    pub(super) fn holds(&self, value: u32) -> bool {
        let Some(at) = value.checked_sub(self.first).filter(|at| *at < 192) else {
            return false;
        };
        self.bits[at as usize / 64] & (1 << (at % 64)) != 0
    }

    /// The least value that is at least `from`.
    pub(super) fn from(&self, from: u32) -> Option<u32> {
        let at = from.saturating_sub(self.first);
        let mut word = at as usize / 64;
        let mut bits = self.bits.get(word)? & (u64::MAX << (at % 64));
        loop {
            if bits != 0 {
                let word = u32::try_from(word).unwrap_or(u32::MAX);
                return Some(self.first + word * 64 + bits.trailing_zeros());
            }
            word += 1;
            bits = *self.bits.get(word)?;
        }
    }

    pub(super) fn is_any(&self) -> bool {
        self.any
    }

    /// Reads a list of values, ranges and steps.
    pub(super) fn parse(text: &str, first: u32, last: u32) -> Option<Self> {
        let mut field = Self::none(first);
        for item in text.split(',') {
            field.add_item(item, first, last)?;
        }
        field.any = text == "*";
        Some(field)
    }

    /// `*`, `5`, `1-5`, `*/2`, `1-9/2` or `5/10`; a range may go over the end, as in `22-2`.
    fn add_item(&mut self, item: &str, first: u32, last: u32) -> Option<()> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (item, None),
        };
        let within = |text| number(text).filter(|value| (first..=last).contains(value));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (within(from)?, within(to)?),
            None if range == "*" => (first, last),
            None if step.is_some() => (within(range)?, last),
            None => (within(range)?, within(range)?),
        };
        let count = last - first + 1;
        let length = (to + count - from) % count;
        let steps = (0..=length).step_by(step.unwrap_or(1) as usize);
        for value in steps.map(|at| first + (from - first + at) % count) {
            self.add(value);
        }
        Some(())
    }
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The days of one month as bits; bit 1 is the first.
pub(super) type Mask = u32;

/// What is to be known of a month.
#[derive(Clone, Copy, Debug)]
pub(super) struct Month {
    /// How many days it has.
    pub(super) length: u32,
    /// The day of the week of its first day; Sunday is 0.
    pub(super) begins: u32,
}

impl Month {
    /// The day of the week of one of its days.
    fn week_day(self, day: u32) -> u32 {
        (self.begins + day - 1) % 7
    }

    /// The working day nearest to `day` without leaving the month.
    fn working_day(self, day: u32) -> u32 {
        match self.week_day(day) {
            6 if day == 1 => 3,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        }
    }

    fn all(self) -> Mask {
        (u32::MAX >> (31 - self.length)) & !1
    }
}

/// The field for days of the month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    plain: Field,
    /// `L`, and so many days before it.
    before_last: Vec<u32>,
    /// `15W`.
    near: Vec<u32>,
    /// `LW`.
    last_working: bool,
}

impl Days {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut days = Self {
            plain: Field::none(1),
            before_last: Vec::new(),
            near: Vec::new(),
            last_working: false,
        };
        for item in text.split(',') {
            if item == "L" {
                days.before_last.push(0);
            } else if item == "LW" {
                days.last_working = true;
            } else if let Some(before) = item.strip_prefix("L-") {
                days.before_last.push(number(before).filter(|n| *n < 31)?);
            } else if let Some(near) = item.strip_suffix('W') {
                days.near
                    .push(number(near).filter(|n| (1..=31).contains(n))?);
            } else {
                days.plain.add_item(item, 1, 31)?;
            }
        }
        Some(days)
    }

    pub(super) fn mask(&self, month: Month) -> Mask {
        let plain = u32::try_from(self.plain.bits[0] << 1 & u64::from(month.all())).unwrap_or(0);
        let last = self.before_last.iter();
        let last = last.filter_map(|before| month.length.checked_sub(*before).filter(|d| *d > 0));
        let near = self.near.iter().filter(|day| **day <= month.length);
        let near = near.map(|day| month.working_day(*day));
        let working = self.last_working.then(|| month.working_day(month.length));
        last.chain(near)
            .chain(working)
            .fold(plain, |mask, day| mask | 1 << day)
    }
}

/// The field for days of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeekDays {
    /// Sunday is bit 0.
    plain: u32,
    /// `5L`.
    last: Vec<u32>,
    /// `5#3`.
    nth: Vec<(u32, u32)>,
}

impl WeekDays {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut days = Self {
            plain: 0,
            last: Vec::new(),
            nth: Vec::new(),
        };
        let day = |text| number(text).filter(|day| *day <= 7).map(|day| day % 7);
        for item in text.split(',') {
            if item == "L" {
                // The last day of the week, which begins on Monday.
                days.plain |= 1;
            } else if let Some(last) = item.strip_suffix('L') {
                days.last.push(day(last)?);
            } else if let Some((of, nth)) = item.split_once('#') {
                let nth = number(nth).filter(|nth| (1..=5).contains(nth))?;
                days.nth.push((day(of)?, nth));
            } else if item == "*" {
                days.plain |= 0x7f;
            } else {
                days.plain |= plain(item)?;
            }
        }
        Some(days)
    }

    pub(super) fn mask(&self, month: Month) -> Mask {
        let days = 1..=month.length;
        let matches = |day: &u32| {
            let of = month.week_day(*day);
            self.plain & 1 << of != 0
                || (self.last.contains(&of) && *day + 7 > month.length)
                || self.nth.contains(&(of, (*day - 1) / 7 + 1))
        };
        days.filter(matches).fold(0, |mask, day| mask | 1 << day)
    }
}

/// Values, ranges and steps where 0 and 7 are the same day.
fn plain(item: &str) -> Option<u32> {
    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
    let step = number(step).filter(|step| *step > 0)?;
    let within = |text| number(text).filter(|day| *day <= 7);
    let (from, to) = match range.split_once('-') {
        Some((from, to)) => (within(from)?, within(to)?),
        None if range == "*" => (0, 6),
        None if item.contains('/') => (within(range)?, 6),
        None => (within(range)?, within(range)?),
    };
    // Sunday ends a range as 7, and begins one as 0.
    let to = if to < from { to + 7 } else { to };
    let days = (from..=to).step_by(step as usize);
    Some(days.fold(0, |mask, day| mask | 1 << (day % 7)))
}
