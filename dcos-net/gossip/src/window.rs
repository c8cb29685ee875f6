//! [`Window`]: which packets of one sender were taken in already.

/// The last 128 numbers of the sender's present life: later ones may come in any order, each once,
/// and what is older than that was delayed too long to matter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) life: u64,
    highest: u64,
    seen: u128,
}

impl Window {
    /// Of a sender whose first packet is `number`.
    pub(crate) fn new(life: u64, number: u64) -> Self {
        Self {
            life,
            highest: number,
            seen: 1,
        }
    }

    /// Takes in `number`; `false` if it came before, or may have.
    pub(crate) fn take(&mut self, number: u64) -> bool {
        if number > self.highest {
            let ahead = u32::try_from(number - self.highest).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
            return true;
        }
        let behind = u32::try_from(self.highest - number).unwrap_or(u32::MAX);
        let bit = 1_u128.checked_shl(behind).unwrap_or(0);
        let fresh = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_number_is_taken_once(numbers in prop::collection::vec(0..400_u64, 1..300)) {
            let mut window = Window::new(1, numbers[0]);
            let mut taken = std::collections::BTreeSet::from([numbers[0]]);
            for number in &numbers[1..] {
                let highest = taken.last().copied().unwrap_or_default();
                let fresh = !taken.contains(number) && number + 128 > highest;
                prop_assert_eq!(window.take(*number), fresh);
                taken.insert(*number);
            }
        }
    }
}
