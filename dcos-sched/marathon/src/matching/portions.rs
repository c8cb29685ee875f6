//! Dealing out what was matched for several who share it.

use dcos_proto::mesos::Resource;

use super::Supply;

/// Matched resources, of which parts are taken one after the other.
#[derive(Clone, Debug)]
pub struct Portions {
    scalars: Vec<Resource>,
    others: Vec<Resource>,
}

impl Portions {
    /// All of `resources`.
    pub fn new(resources: Vec<Resource>) -> Self {
        let divisible = |resource: &Resource| resource.scalar.is_some() && resource.disk.is_none();
        let (scalars, others) = resources.into_iter().partition(divisible);
        Self { scalars, others }
    }

    /// The parts that make up these amounts, or as much of them as there is.
    pub fn take(&mut self, cpus: f64, mem: f64, disk: f64, gpus: u32) -> Vec<Resource> {
        let mut all = Vec::new();
        for (name, amount) in [
            ("cpus", cpus),
            ("mem", mem),
            ("disk", disk),
            ("gpus", f64::from(gpus)),
        ] {
            all.extend(Supply::divide(&mut self.scalars, name, amount));
        }
        all
    }

    /// What cannot be divided, such as ports.
    pub fn rest(self) -> Vec<Resource> {
        self.others
    }
}
