//! Amounts by name alone, whoever they are kept for: what quota, shares and minimums speak of.

use std::collections::BTreeMap;
use std::fmt;

use dcos_proto::mesos::{Resource, value};

use super::Resources;
use super::resource::{items, ranges, scalar};
use super::value::Scalar;

/// Amounts of named scalars; what is not named is zero.
///
/// ```
/// use dcos_core::resources::Quantities;
///
/// let quota: Quantities = "cpus:10;mem:4096".parse().unwrap();
/// assert_eq!(quota.get("cpus").as_f64(), 10.0);
/// assert!(quota.contains(&"cpus:2.5".parse().unwrap()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quantities(BTreeMap<String, Scalar>);

/// Why a text does not hold quantities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `name:amount` pairs separated by `;`, got '{0}'")]
pub struct QuantityError(pub(crate) String);

impl Quantities {
    /// The scalars of `resources`, added up by name.
    pub fn from_scalars<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut quantities = Self::default();
        for resource in resources {
            if resource.r#type() == value::Type::Scalar {
                quantities.add(&resource.name, scalar(resource));
            }
        }
        quantities
    }

    /// The amount called `name`.
    pub fn get(&self, name: &str) -> Scalar {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Adds to the amount called `name`.
    pub fn add(&mut self, name: &str, amount: Scalar) {
        if amount.is_zero() {
            return;
        }
        match self.0.get_mut(name) {
            Some(total) => {
                *total += amount;
                if total.is_zero() {
                    self.0.remove(name);
                }
            }
            None => _ = self.0.insert(name.to_owned(), amount),
        }
    }

    /// Takes from the amount called `name`, down to zero.
    pub fn remove(&mut self, name: &str, amount: Scalar) {
        if let Some(total) = self.0.get_mut(name) {
            *total = total.saturating_sub(amount);
            if total.is_zero() {
                self.0.remove(name);
            }
        }
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        other
            .iter()
            .for_each(|(name, amount)| self.add(name, amount));
    }

    /// Takes away all of `other`, down to zero.
    pub fn remove_all(&mut self, other: &Self) {
        other
            .iter()
            .for_each(|(name, amount)| self.remove(name, amount));
    }

    /// Whether there is as much of everything as in `other`.
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(name, amount)| self.get(name) >= amount)
    }

    /// Whether everything is zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and amounts that are not zero, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Scalar)> {
        self.0.iter().map(|(name, amount)| (&**name, *amount))
    }
}

impl FromIterator<(String, Scalar)> for Quantities {
    fn from_iter<I: IntoIterator<Item = (String, Scalar)>>(amounts: I) -> Self {
        let mut quantities = Self::default();
        amounts
            .into_iter()
            .for_each(|(name, amount)| quantities.add(&name, amount));
        quantities
    }
}

impl std::str::FromStr for Quantities {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let error = || QuantityError(text.to_owned());
        let mut quantities = Self::default();
        for piece in text
            .split(';')
            .map(str::trim)
            .filter(|piece| !piece.is_empty())
        {
            let (name, amount) = piece.split_once(':').ok_or_else(error)?;
            let amount: f64 = amount.trim().parse().map_err(|_| error())?;
            if name.trim().is_empty() || !amount.is_finite() || amount < 0.0 {
                return Err(error());
            }
            quantities.add(name.trim(), Scalar::from_f64(amount));
        }
        Ok(quantities)
    }
}

impl fmt::Display for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self
            .iter()
            .map(|(name, amount)| format!("{name}:{amount}"))
            .collect();
        f.write_str(&shown.join("; "))
    }
}

impl Resources {
    /// The scalars, added up by name.
    pub fn scalar_quantities(&self) -> Quantities {
        Quantities::from_scalars(self.iter())
    }

    /// Whether there is as much of each name as `quantities` wants; ranges and sets count their
    /// members.
    pub fn contains_quantities(&self, quantities: &Quantities) -> bool {
        quantities.iter().all(|(name, wanted)| {
            let total = self
                .iter()
                .filter(|resource| resource.name == name)
                .map(|resource| match resource.r#type() {
                    value::Type::Scalar => scalar(resource),
                    value::Type::Ranges => members(ranges(resource).len()),
                    value::Type::Set => members(items(resource).len() as u64),
                    value::Type::Text => Scalar::ZERO,
                })
                .fold(Scalar::ZERO, std::ops::Add::add);
            total >= wanted
        })
    }
}

fn members(count: u64) -> Scalar {
    Scalar::from_millis(
        i64::try_from(count)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000),
    )
}
