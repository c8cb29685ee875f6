//! Resources as v0 endpoints show them: `{"cpus": 4.0, "gpus": 0, "ports": "[1-9]", ...}`.

use std::collections::BTreeMap;
use std::io::Write as _;

use dcos_proto::mesos::{Resource, value};
use serde_json::{Map, Value as Json};

use super::Resources;
use super::resource::{ResourceExt, items, ranges, scalar};
use super::value::{Ranges, Scalar, set_plus};

/// The scalars that are always there, in the order of the object's keys.
const ALWAYS: [&str; 4] = ["cpus", "disk", "gpus", "mem"];

/// What stands before each of them.
const HEADS: [&str; 4] = ["{\"cpus\":", ",\"disk\":", ",\"gpus\":", ",\"mem\":"];

/// Appends the object of [`Resources::to_endpoint_json`] for messages that were checked before,
/// without making a bag of them if they are as plain as those of most tasks: this is what takes
/// the time when a cluster's state is written.
pub fn append_endpoint_json(resources: &[Resource], document: &mut Vec<u8>) {
    if !append_plain(resources.iter(), document) {
        Resources::from(resources).append_endpoint_json(document);
    }
}

/// Appends the object of [`Resources::to_endpoint_json`] for the sum of some, without making that if they are plain.
pub fn append_endpoint_json_of<'a>(
    parts: impl Iterator<Item = &'a Resources> + Clone,
    document: &mut Vec<u8>,
) {
    if !append_plain(parts.clone().flat_map(Resources::iter), document) {
        let mut sum = Resources::new();
        parts.for_each(|part| sum += part);
        sum.append_endpoint_json(document);
    }
}

/// Appends the object if it has nothing but ports and plain scalars; `false` if there is more.
fn append_plain<'a>(resources: impl Iterator<Item = &'a Resource>, document: &mut Vec<u8>) -> bool {
    let found = plain(resources);
    if let Some((scalars, ports)) = &found {
        append_open(scalars, document);
        if let Some(ports) = ports {
            write(document, format_args!(",\"ports\":\"{ports}\""));
        }
        document.push(b'}');
    }
    found.is_some()
}

/// Which of the scalars that are always there this one is.
pub fn endpoint_scalar(name: &str) -> Option<usize> {
    ALWAYS.iter().position(|always| *always == name)
}

/// Appends the object of [`Resources::to_endpoint_json`] for nothing but scalars that are always there; those there
/// are none of are `None`.
pub fn append_endpoint_scalars(scalars: &[Option<Scalar>; 4], document: &mut Vec<u8>) {
    append_open(scalars, document);
    document.push(b'}');
}

/// The same without its end.
fn append_open(scalars: &[Option<Scalar>; 4], document: &mut Vec<u8>) {
    for (head, total) in HEADS.iter().zip(scalars) {
        document.extend_from_slice(head.as_bytes());
        match total {
            Some(total) => append_amount(document, *total),
            None => document.push(b'0'),
        }
    }
}

/// Appends an amount as serde writes the number it is: its decimals are the shortest text of it, so that nobody has to
/// look for that.
fn append_amount(document: &mut Vec<u8>, amount: Scalar) {
    let (millis, number) = (amount.as_millis(), amount.as_f64());
    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "fifteen digits fit, and the nearest number is asked for"
    )]
    let is_nearest =
        (0..1_000_000_000_000_000).contains(&millis) && millis as f64 / 1000.0 == number;
    if !is_nearest {
        return serde_json::to_writer(document, &number).expect("writing to memory does not fail");
    }
    let (mut whole, mut rest) = (millis / 1000, millis % 1000);
    let mut text = [b'0'; 20];
    // The point stands at 16; before it the whole number, behind it at least one digit.
    let (mut begin, mut end) = (16, 20);
    text[16] = b'.';
    for place in text[17..].iter_mut().rev() {
        *place = digit(rest);
        rest /= 10;
    }
    while end > 18 && text[end - 1] == b'0' {
        end -= 1;
    }
    loop {
        begin -= 1;
        text[begin] = digit(whole);
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    document.extend_from_slice(&text[begin..end]);
}

/// The last digit of a number that is not negative.
fn digit(number: i64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}

fn write(document: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    document
        .write_fmt(text)
        .expect("writing to memory does not fail");
}

/// The sums of scalars and the ports, if there is nothing else.
fn plain<'a>(
    resources: impl Iterator<Item = &'a Resource>,
) -> Option<([Option<Scalar>; 4], Option<Ranges>)> {
    let (mut scalars, mut ports) = ([None; 4], None);
    for resource in resources {
        if resource.is_revocable() || resource.is_shared() {
            return None;
        }
        if resource.r#type() == value::Type::Scalar {
            let at = endpoint_scalar(&resource.name)?;
            let amount = scalar(resource);
            if amount < Scalar::ZERO {
                return None;
            }
            if amount > Scalar::ZERO {
                scalars[at] = Some(scalars[at].map_or(amount, |sum: Scalar| sum + amount));
            }
        } else if resource.name == "ports"
            && resource.r#type() == value::Type::Ranges
            && ports.is_none()
        {
            ports = Some(ranges(resource)).filter(|ranges| !ranges.is_empty());
        } else {
            return None;
        }
    }
    Some((scalars, ports))
}

enum Total {
    Scalar(Scalar),
    Ranges(Ranges),
    Set(Vec<String>),
}

impl Resources {
    /// The object of v0 endpoints: totals by name, revocable ones under `<name>_revocable`.
    /// `cpus`, `gpus`, `mem` and `disk` are always there.
    pub fn to_endpoint_json(&self) -> Map<String, Json> {
        let mut object: Map<String, Json> = ALWAYS
            .map(|name| (name.to_owned(), 0.into()))
            .into_iter()
            .collect();
        for (name, total) in self.totals() {
            let json = match total {
                Total::Scalar(amount) => amount.as_f64().into(),
                Total::Ranges(ranges) => ranges.to_string().into(),
                Total::Set(items) => format!("{{{}}}", items.join(", ")).into(),
            };
            object.insert(name, json);
        }
        object
    }

    /// Appends the object of v0 endpoints.
    pub fn append_endpoint_json(&self, document: &mut Vec<u8>) {
        if !append_plain(self.iter(), document) {
            let object = Json::Object(self.to_endpoint_json());
            write(document, format_args!("{object}"));
        }
    }

    /// For each role that resources are kept for, the object of those.
    pub fn reservations_to_endpoint_json(&self) -> Map<String, Json> {
        self.reservations()
            .into_iter()
            .map(|(role, resources)| (role, Json::Object(resources.to_endpoint_json())))
            .collect()
    }

    fn totals(&self) -> BTreeMap<String, Total> {
        let mut totals: BTreeMap<String, Total> = BTreeMap::new();
        for resource in self.iter() {
            let suffix = if resource.is_revocable() {
                "_revocable"
            } else {
                ""
            };
            let name = format!("{}{suffix}", resource.name);
            match (resource.r#type(), totals.get_mut(&name)) {
                (value::Type::Scalar, Some(Total::Scalar(total))) => *total += scalar(resource),
                (value::Type::Ranges, Some(Total::Ranges(total))) => {
                    *total = total.plus(&ranges(resource));
                }
                (value::Type::Set, Some(Total::Set(total))) => set_plus(total, items(resource)),
                (value::Type::Scalar, _) => {
                    totals.insert(name, Total::Scalar(scalar(resource)));
                }
                (value::Type::Ranges, _) => {
                    totals.insert(name, Total::Ranges(ranges(resource)));
                }
                (value::Type::Set, _) => {
                    totals.insert(name, Total::Set(items(resource).to_vec()));
                }
                (value::Type::Text, _) => {}
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn amounts_are_as_serde_writes_them(
            millis in prop_oneof![0..5000_i64, 0..10_000_000_000_i64, any::<i64>()]
        ) {
            let amount = Scalar::from_millis(millis);
            let mut document = Vec::new();
            append_amount(&mut document, amount);
            let expected = serde_json::to_vec(&amount.as_f64()).unwrap();
            prop_assert_eq!(String::from_utf8(document), String::from_utf8(expected));
        }
    }

    #[test]
    fn a_sum_is_written_without_being_made() {
        let parts = |texts: &[&str]| {
            let parts = texts.iter().map(|text| Resources::parse(text).unwrap());
            parts.collect::<Vec<_>>()
        };
        for texts in [
            &[][..],
            &["cpus:1.5;mem:64"],
            &["cpus:0.1;mem:64", "cpus:0.2;disk:1", "gpus:1"],
            &["ports:[1-5]", "cpus:1;ports:[7-9]"],
            &["cpus:1", "cpus(a):2;other:3"],
        ] {
            let parts = parts(texts);
            let mut document = Vec::new();
            append_endpoint_json_of(parts.iter(), &mut document);
            let mut sum = Resources::new();
            for part in &parts {
                sum += part;
            }
            let expected = serde_json::to_vec(&sum.to_endpoint_json()).unwrap();
            assert_eq!(String::from_utf8(document), String::from_utf8(expected));
        }
    }
}
