//! The next moment.
//!
//! Between two changes of the clock local time is a fixed distance from UTC. So the way goes from one such span to the
//! next one, and in each the expression is a matter of the calendar only. A time the clock leaps over in spring never
//! comes. Of a time that comes twice in autumn only the first counts, unless the expression names every hour: what runs
//! every ten minutes goes on to.

use dcos_marathon::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::field::Month;
use super::{Cron, LAST_YEAR};

/// Farther into the future nobody looks: the calendar repeats itself before.
const YEARS_AHEAD: i16 = 41;

impl Cron {
    /// The first moment after `after`, in the local time of `zone`; `None` if there will be none.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_millisecond(after.millis()).ok()?;
        let mut offset = zone.to_offset(after);
        let mut changes = zone.following(after);
        // Expressions know minutes, so the first that may be meant is the next full one.
        let mut from = full_minute(offset.to_datetime(after))?;
        let last_year = from.year().saturating_add(YEARS_AHEAD);
        loop {
            let change = changes.next();
            let span_ends = change.as_ref().map(jiff::tz::TimeZoneTransition::timestamp);
            while let Some(found) = self.next_local(from, last_year) {
                let moment = offset.to_timestamp(found).ok()?;
                if span_ends.is_some_and(|end| moment >= end) {
                    break;
                }
                if self.hours.is_any() || is_first(zone, found, offset) {
                    return Some(Timestamp::from_millis(moment.as_millisecond()));
                }
                from = found.checked_add(jiff::Span::new().minutes(1)).ok()?;
            }
            let change = change?;
            offset = change.offset();
            from = offset.to_datetime(change.timestamp());
            if from.second() != 0 {
                from = full_minute(from)?;
            }
            if from.year() > last_year {
                return None;
            }
        }
    }

    /// Whether there is a year in which some day matches.
    pub(super) fn ever_comes(&self) -> bool {
        let years = 2000..=2040;
        let mut months = years.flat_map(|year| (1..=12).map(move |month| (year, month)));
        months.any(|(year, month)| self.months.holds(month) && self.days_in(year, month) != 0)
    }

    /// The days of a month that match both fields for days.
    pub(super) fn days_in(&self, year: i16, month: u32) -> u32 {
        let month = i8::try_from(month).unwrap_or(1);
        let Ok(first) = Date::new(year, month, 1) else {
            return 0;
        };
        let month = Month {
            length: u32::from(first.days_in_month().unsigned_abs()),
            begins: u32::from(first.weekday().to_sunday_zero_offset().unsigned_abs()),
        };
        self.days.mask(month) & self.week_days.mask(month)
    }

    /// The first matching local time at or after `from`.
    fn next_local(&self, from: DateTime, last_year: i16) -> Option<DateTime> {
        let number = |part: i8| u32::from(part.unsigned_abs());
        let (mut month, mut day) = (number(from.month()), number(from.day()));
        let time = self
            .next_time(number(from.hour()), number(from.minute()))
            .or_else(|| {
                day += 1;
                None
            });
        let mut year = from.year();
        let mut first_day = time.map(|time| (year, month, day, time));
        let earliest = (self.hours.from(0)?, self.minutes.from(0)?);
        loop {
            let year_number = u32::from(year.unsigned_abs());
            let year_matches = self
                .years
                .as_ref()
                .is_none_or(|years| years.holds(year_number));
            let days = if year_matches && self.months.holds(month) && day <= 31 {
                self.days_in(year, month) & (u32::MAX << day)
            } else {
                0
            };
            if days != 0 {
                let found = days.trailing_zeros();
                let time = match first_day.take() {
                    Some((y, m, d, time)) if (y, m, d) == (year, month, found) => time,
                    _ => earliest,
                };
                return local(year, month, found, time);
            }
            day = 1;
            if let Some(next) = year_matches.then(|| self.months.from(month + 1)).flatten() {
                month = next;
            } else {
                year = year.checked_add(1)?;
                month = self.months.from(1)?;
            }
            if year > last_year || u32::from(year.unsigned_abs()) > LAST_YEAR + 100 {
                return None;
            }
        }
    }

    /// The first matching time of a day at or after `hour:minute`.
    fn next_time(&self, hour: u32, minute: u32) -> Option<(u32, u32)> {
        if self.hours.holds(hour)
            && let Some(minute) = self.minutes.from(minute)
        {
            return Some((hour, minute));
        }
        Some((self.hours.from(hour + 1)?, self.minutes.from(0)?))
    }
}

fn local(year: i16, month: u32, day: u32, (hour, minute): (u32, u32)) -> Option<DateTime> {
    let part = |number| i8::try_from(number).ok();
    DateTime::new(
        year,
        part(month)?,
        part(day)?,
        part(hour)?,
        part(minute)?,
        0,
        0,
    )
    .ok()
}

/// The full minute after a local time.
fn full_minute(at: DateTime) -> Option<DateTime> {
    let minute = at.with().second(0).subsec_nanosecond(0).build().ok()?;
    minute.checked_add(jiff::Span::new().minutes(1)).ok()
}

/// Whether `offset` is the one with which a local time comes first.
fn is_first(zone: &TimeZone, local: DateTime, offset: Offset) -> bool {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Fold { before, .. } => before == offset,
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => true,
    }
}
