//! The three kinds of amounts: fixed-point scalars, ranges of whole numbers, sets of words; and
//! the syntax they are written in.
//!
//! Source: Mesos 1.11 `common/values.cpp`.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use dcos_proto::mesos::value as proto;

/// An amount with three decimals, the precision Mesos keeps.
///
/// ```
/// use dcos_core::resources::Scalar;
///
/// let third = Scalar::from_f64(0.1) + Scalar::from_f64(0.2);
/// assert_eq!(third, Scalar::from_f64(0.3));
/// assert_eq!(third.to_string(), "0.3");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Scalar(i64);

impl Scalar {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount in thousandths.
    pub const fn from_millis(thousandths: i64) -> Self {
        Self(thousandths)
    }

    /// The nearest amount with three decimals; halves round away from zero.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, as intended"
    )]
    pub fn from_f64(value: f64) -> Self {
        Self((value * 1000.0).round() as i64)
    }

    /// The amount in thousandths.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The amount as messages carry it.
    #[expect(clippy::cast_precision_loss, reason = "messages carry doubles")]
    pub fn as_f64(self) -> f64 {
        (self.0 / 1000) as f64 + (self.0 % 1000) as f64 / 1000.0
    }

    /// Whether nothing is left.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `self - other`, but not below zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }
}

impl Add for Scalar {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Scalar {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Scalar {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Scalar {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_f64())
    }
}

/// Whole numbers as disjoint, ascending, inclusive ranges that do not touch each other.
///
/// ```
/// use dcos_core::resources::Ranges;
///
/// let ports = Ranges::from_pairs([(31000, 31009), (31010, 31019)]);
/// assert_eq!(ports.to_string(), "[31000-31019]");
/// let rest = ports.minus(&Ranges::from_pairs([(31005, 31005)]));
/// assert_eq!(rest.to_string(), "[31000-31004, 31006-31019]");
/// assert_eq!(rest.len(), 19);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Brings `(first, last)` pairs into order and merges what overlaps or touches. Pairs that
    /// run backwards hold nothing.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut pairs: Vec<_> = pairs
            .into_iter()
            .filter(|(first, last)| first <= last)
            .collect();
        pairs.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(pairs.len());
        for (first, last) in pairs {
            match merged.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// From a message, whatever the order of its ranges.
    pub fn from_proto(ranges: &proto::Ranges) -> Self {
        Self::from_pairs(ranges.range.iter().map(|range| (range.begin, range.end)))
    }

    /// As a message.
    pub fn to_proto(&self) -> proto::Ranges {
        let range = |&(begin, end): &(u64, u64)| proto::Range { begin, end };
        proto::Ranges {
            range: self.0.iter().map(range).collect(),
        }
    }

    /// The `(first, last)` pairs, ascending.
    pub fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Each number, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// How many numbers there are; saturates.
    pub fn len(&self) -> u64 {
        self.0.iter().fold(0, |sum: u64, (first, last)| {
            sum.saturating_add((last - first).saturating_add(1))
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is in either.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self::from_pairs(self.0.iter().chain(&other.0).copied())
    }

    /// What is in `self` but not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut result = Vec::with_capacity(self.0.len());
        let mut holes = other.0.iter().peekable();
        for &(mut first, last) in &self.0 {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut open = true;
            while let Some(&&(from, to)) = holes.peek() {
                if from > last {
                    break;
                }
                if first < from {
                    result.push((first, from - 1));
                }
                if to >= last {
                    open = false;
                    break;
                }
                first = to + 1;
                holes.next();
            }
            if open {
                result.push((first, last));
            }
        }
        Self(result)
    }

    /// Whether every number of `other` is in `self`.
    pub fn contains(&self, other: &Self) -> bool {
        let mut mine = self.0.iter().peekable();
        other.0.iter().all(|&(first, last)| {
            while mine.next_if(|range| range.1 < first).is_some() {}
            mine.peek()
                .is_some_and(|range| range.0 <= first && last <= range.1)
        })
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self
            .0
            .iter()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        write!(f, "[{}]", shown.join(", "))
    }
}

/// Adds the words of `other` that `set` does not hold yet.
pub(crate) fn set_plus(set: &mut Vec<String>, other: &[String]) {
    for item in other {
        if !set.contains(item) {
            set.push(item.clone());
        }
    }
}

/// Whether every word of `other` is in `set`.
pub(crate) fn set_contains(set: &[String], other: &[String]) -> bool {
    other.len() <= set.len() && other.iter().all(|item| set.contains(item))
}

/// What a text turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parsed {
    Scalar(f64),
    Ranges(Ranges),
    Set(Vec<String>),
    Text(String),
}

/// Why a text is not a value. Messages are Mesos's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Nothing but spaces.
    #[error("Expecting non-empty string")]
    Empty,
    /// A bracket is missing.
    #[error("Mismatched brackets")]
    Brackets,
    /// A range has one end only.
    #[error("Expecting one or more \"ranges\"")]
    Ranges,
    /// A range's end is not a whole number.
    #[error("Expecting non-negative integers in '{0}'")]
    Integer(String),
    /// The number is too close to zero to be represented.
    #[error("Subnormal values not supported")]
    Subnormal,
    /// A bracket stands in the middle.
    #[error("Unexpected '{0}' found")]
    Unexpected(char),
}

/// Reads `4.5`, `[1-10, 20-30]`, `{a, b}` or any other text. Spaces do not count.
pub(crate) fn parse_value(text: &str) -> Result<Parsed, ValueError> {
    let text: String = text.chars().filter(|c| *c != ' ').collect();
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if !['{', '[', '(']
        .into_iter()
        .zip(['}', ']', ')'])
        .all(|pair| is_balanced(&text, pair))
    {
        return Err(ValueError::Brackets);
    }
    match (text.find('['), text.find('{')) {
        (Some(0), _) => parse_ranges(&text).map(Parsed::Ranges),
        (Some(_), _) => Err(ValueError::Unexpected('[')),
        (None, Some(0)) => Ok(Parsed::Set(
            tokens(&text, &['{', '}', ',', '\n'])
                .map(Into::into)
                .collect(),
        )),
        (None, Some(_)) => Err(ValueError::Unexpected('{')),
        (None, None) => parse_scalar(text),
    }
}

fn parse_ranges(text: &str) -> Result<Ranges, ValueError> {
    let tokens: Vec<&str> = tokens(text, &['[', ']', '-', ',', '\n']).collect();
    if !tokens.len().is_multiple_of(2) {
        return Err(ValueError::Ranges);
    }
    let mut pairs = Vec::with_capacity(tokens.len() / 2);
    for pair in tokens.chunks_exact(2) {
        match (pair[0].parse(), pair[1].parse()) {
            (Ok(first), Ok(last)) => pairs.push((first, last)),
            _ => return Err(ValueError::Integer(pair[0].to_owned())),
        }
    }
    Ok(Ranges::from_pairs(pairs))
}

fn parse_scalar(text: String) -> Result<Parsed, ValueError> {
    match text.parse::<f64>() {
        Ok(number) if number.is_subnormal() => Err(ValueError::Subnormal),
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(Parsed::Scalar(number)),
        _ => Ok(Parsed::Text(text)),
    }
}

fn tokens<'a>(text: &'a str, separators: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(separators).filter(|token| !token.is_empty())
}

fn is_balanced(text: &str, (open, close): (char, char)) -> bool {
    let mut depth = 0_usize;
    for c in text.chars() {
        if c == open {
            depth += 1;
        } else if c == close {
            let Some(less) = depth.checked_sub(1) else {
                return false;
            };
            depth = less;
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn values_are_told_apart_by_their_syntax() {
        for (text, expected) in [
            ("4.5", Parsed::Scalar(4.5)),
            ("[ 5-9, 1-4 ]", Parsed::Ranges(Ranges::from_pairs([(1, 9)]))),
            ("[]", Parsed::Ranges(Ranges::default())),
            ("{a, b}", Parsed::Set(vec!["a".into(), "b".into()])),
            ("hello", Parsed::Text("hello".into())),
            ("-1", Parsed::Text("-1".into())),
            ("nan", Parsed::Text("nan".into())),
        ] {
            assert_eq!(parse_value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_says_why() {
        for (text, message) in [
            (" ", "Expecting non-empty string"),
            ("[1-2", "Mismatched brackets"),
            (")(", "Mismatched brackets"),
            ("[1-2,3]", "Expecting one or more \"ranges\""),
            ("[a-b]", "Expecting non-negative integers in 'a'"),
            ("x[1-2]", "Unexpected '[' found"),
            ("x{a}", "Unexpected '{' found"),
            ("1e-310", "Subnormal values not supported"),
        ] {
            assert_eq!(parse_value(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn ranges_reach_to_the_end_of_numbers() {
        let all = Ranges::from_pairs([(0, u64::MAX)]);
        assert_eq!(all.len(), u64::MAX);
        assert_eq!(all.minus(&all), Ranges::default());
        assert_eq!(
            all.minus(&Ranges::from_pairs([(u64::MAX, u64::MAX)]))
                .pairs()
                .len(),
            1
        );
        assert_eq!(Ranges::from_pairs([(5, 3)]), Ranges::default());
    }

    fn model(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().collect()
    }

    fn some_ranges() -> impl Strategy<Value = Ranges> {
        prop::collection::vec((0_u64..40, 0_u64..6), 0..8).prop_map(|pairs| {
            Ranges::from_pairs(pairs.into_iter().map(|(first, more)| (first, first + more)))
        })
    }

    proptest! {
        #[test]
        fn ranges_behave_like_sets_of_numbers(a in some_ranges(), b in some_ranges()) {
            let (x, y) = (model(&a), model(&b));
            prop_assert_eq!(model(&a.plus(&b)), &x | &y);
            prop_assert_eq!(model(&a.minus(&b)), &x - &y);
            prop_assert_eq!(a.contains(&b), x.is_superset(&y));
            prop_assert_eq!(a.len(), x.len() as u64);
            prop_assert_eq!(Ranges::from_pairs(a.minus(&b).pairs().iter().copied()), a.minus(&b));
        }
    }
}
