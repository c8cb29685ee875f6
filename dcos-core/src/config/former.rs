//! Names that operators of another program still write: which mean something here, which can be left
//! out, and which must not be passed over.

use super::values::Origin;

/// A name of a flag, or of its variable in the environment, that is no option here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Former {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Renamed(&'static str),
    Unneeded(&'static str),
    Only(&'static [&'static str], &'static str),
}

impl Former {
    /// An older name of the option `now`.
    pub const fn renamed(name: &'static str, now: &'static str) -> Self {
        let fate = Fate::Renamed(now);
        Self { name, fate }
    }

    /// Taken without effect, and told with the reason: `why` says what holds instead.
    pub const fn unneeded(name: &'static str, why: &'static str) -> Self {
        let fate = Fate::Unneeded(why);
        Self { name, fate }
    }

    /// Taken without a word if the value is one of `values`, which is what holds here anyway. Any other stops
    /// the start: `instead` says what to do.
    pub const fn only(
        name: &'static str,
        values: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        let fate = Fate::Only(values, instead);
        Self { name, fate }
    }

    /// Stops the start, since to pass over it would be dangerous: `instead` says what to do.
    pub const fn refused(name: &'static str, instead: &'static str) -> Self {
        Self::only(name, &[], instead)
    }
}

/// A former name somebody used and that changes nothing here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The name.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// Why it can be left out.
    pub why: &'static str,
}

/// What is to be done about a former name with this value.
pub(crate) enum Verdict {
    /// It is the value of another option.
    Means(&'static str),
    /// It changes nothing; worth a word.
    Told(&'static str),
    /// It changes nothing, and was so before.
    Silent,
    /// It stops the start.
    Refused(String),
}

impl Former {
    pub(crate) fn judge(&self, value: &str) -> Verdict {
        match self.fate {
            Fate::Renamed(now) => Verdict::Means(now),
            Fate::Unneeded(why) => Verdict::Told(why),
            Fate::Only(values, _) if values.contains(&value) => Verdict::Silent,
            Fate::Only([], instead) => Verdict::Refused(format!("is not there: {instead}")),
            Fate::Only(values, instead) => Verdict::Refused(format!(
                "can only be {}, got `{value}`: {instead}",
                values.join(" or ")
            )),
        }
    }
}
