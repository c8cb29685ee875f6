//! Cron expressions as Metronome reads them, and the moments they name in a time zone.
//!
//! Five fields (minute, hour, day of month, month, day of week) and a year that may be left out. Each is `*`, a value, a
//! range, a step over either, or a list of those; months and days of the week have names. Days of the month know `L`
//! (the last), `L-3`, `15W` (the working day nearest to the 15th) and `LW`; days of the week know `5L` (the last Friday)
//! and `5#3` (the third Friday); Monday is 1, Sunday 0 or 7.
//!
//! As in the original, and other than in a classic cron, **both** day fields must match when both are restricted, and
//! dates that never come, such as 31 February, are refused.

mod field;
mod next;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use field::{Days, Field, WeekDays};

/// A cron expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: Field,
    hours: Field,
    days: Days,
    months: Field,
    week_days: WeekDays,
    /// All years if absent.
    years: Option<Field>,
}

/// What was read as a cron expression is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Can not read cron expression \"{0}\"")]
pub struct CronError(pub String);

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEK_DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIRST_YEAR: u32 = 1970;
const LAST_YEAR: u32 = 2099;

impl Cron {
    fn parse(text: &str) -> Option<Self> {
        let mut words: Vec<String> = text.split_whitespace().map(str::to_uppercase).collect();
        if !(5..=6).contains(&words.len()) {
            return None;
        }
        for word in &mut words {
            // A step of one is no step; the original shows it that way.
            if word == "*/1" {
                "*".clone_into(word);
            }
        }
        named(&mut words[3], &MONTHS, 1);
        named(&mut words[4], &WEEK_DAYS, 0);
        let years = words
            .get(5)
            .filter(|word| *word != "*")
            .map(|word| Field::parse(word, FIRST_YEAR, LAST_YEAR).ok_or(()));
        let cron = Self {
            text: words.join(" "),
            minutes: Field::parse(&words[0], 0, 59)?,
            hours: Field::parse(&words[1], 0, 23)?,
            days: Days::parse(&words[2])?,
            months: Field::parse(&words[3], 1, 12)?,
            week_days: WeekDays::parse(&words[4])?,
            years: years.transpose().ok()?,
        };
        cron.ever_comes().then_some(cron)
    }
}

/// Replaces names by numbers.
fn named(word: &mut String, names: &[&str], first: usize) {
    if word.contains(|c: char| c.is_ascii_alphabetic()) {
        for (at, name) in names.iter().enumerate() {
            *word = word.replace(name, &(at + first).to_string());
        }
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::parse(text).ok_or_else(|| CronError(text.to_owned()))
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
