//! [`Porter`]: what is forwarded for us passes where a node's firewall closes its chain `FORWARD`, as Docker does.
//!
//! A chain of one's own says what passes. With the policy `DROP` it is called at the end of `FORWARD`: what operators and Docker
//! refuse before it stays refused. Else there is no chain. What Docker itself refuses of ours is accepted before that, at the
//! end of `DOCKER-USER`, which Docker leaves to operators.
//!
//! Only `iptables` knows in which of the kernel's two tables an operator's and Docker's rules are, and only what it wrote
//! is read by every release of it; so it is asked, and given, all of a change in one transaction.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;

use crate::Lock;
use crate::program::{self, Ran};

/// The chain for operators that Docker calls before its own.
const DOCKER_USER: &str = "DOCKER-USER";
/// What everything that is forwarded goes through.
const FORWARD: &str = "FORWARD";
/// What names of all our chains begin with.
const FAMILY: &str = "DCOS-";
/// How long `iptables` waits, in seconds, while another one is at work.
const WAIT: &str = "--wait=10";

/// What is to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The chain that says it; of that name a node has one, whichever process keeps it.
    pub chain: &'static str,
    /// Whether Docker's own rules refuse it: then it has to pass before them.
    pub before_docker: bool,
    /// What passes of IPv4, each as `iptables` takes it: `-i ucr-br0`.
    pub v4: Vec<String>,
    /// The same for IPv6.
    pub v6: Vec<String>,
}

impl Passage {
    /// One through which nothing passes: its chain is taken away.
    pub fn closed(chain: &'static str) -> Self {
        let (v4, v6) = (Vec::new(), Vec::new());
        let before_docker = false;
        Self {
            chain,
            before_docker,
            v4,
            v6,
        }
    }

    /// Whether nothing passes through it.
    pub fn is_closed(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Why something may not pass.
#[derive(Debug, thiserror::Error)]
pub enum PassageError {
    /// A program cannot be run.
    #[error("running `{program}`")]
    Program {
        /// Which.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It was run, and refused.
    #[error("`{program}` refused: {said}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Its own words.
        said: String,
    },
    /// Another process keeps the chain.
    #[error("another process keeps the chain {chain}")]
    Taken {
        /// Which.
        chain: &'static str,
    },
    /// The chain cannot be claimed.
    #[error("claiming the chain {chain}")]
    Claim {
        /// Which.
        chain: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A family's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn programs(self) -> (&'static str, &'static str) {
        match self {
            Self::V4 => ("iptables", "iptables-restore"),
            Self::V6 => ("ip6tables", "ip6tables-restore"),
        }
    }
}

/// What was written, and how `iptables` tells it.
#[derive(Debug)]
struct Stands {
    wanted: Vec<String>,
    told: Vec<String>,
}

/// Keeps passages open, in the network namespace of the threads that call it.
#[derive(Debug, Default)]
pub struct Porter {
    locks: HashMap<&'static str, Lock>,
    stands: HashMap<(&'static str, Family), Stands>,
}

impl Porter {
    /// One that keeps nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the kernel tells of changes ([`Changes`](crate::Changes)): it does of those to nftables, not of those to the
    /// tables before it, which `iptables-legacy` writes. `true` without the program: whoever installs it changes nothing.
    pub fn is_told() -> bool {
        match program::run("iptables", &["-V"], "") {
            Ok(Ran(output, _)) => String::from_utf8_lossy(&output.stdout).contains("nf_tables"),
            Err(_) => true,
        }
    }

    /// Whether `FORWARD` drops what no rule accepts, of IPv4 or IPv6: then what this node forwards for containers has to be accepted.
    ///
    /// # Errors
    /// [`PassageError`]
    pub fn is_closed() -> Result<bool, PassageError> {
        for family in [Family::V4, Family::V6] {
            let (program, _) = family.programs();
            let listing = asked(program, &[WAIT, "-S", FORWARD], "")?;
            if listing.is_some_and(|listing| drops(&listing)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those of the chains that there are, of IPv4 or IPv6, and why a family could not be asked.
    pub fn standing(chains: &[&'static str]) -> (Vec<&'static str>, Vec<PassageError>) {
        let (mut listings, mut failures) = (Vec::new(), Vec::new());
        for family in [Family::V4, Family::V6] {
            match asked(family.programs().0, &[WAIT, "-S"], "") {
                Ok(listing) => listings.extend(listing),
                Err(failure) => failures.push(failure),
            }
        }
        let stands = |chain: &&&'static str| {
            let declared = format!("-N {chain}");
            let mut lines = listings.iter().flat_map(|listing| listing.lines());
            lines.any(|line| line == declared)
        };
        (chains.iter().filter(stands).copied().collect(), failures)
    }

    /// Makes a passage as it should be, and says whether it was not. One that is closed may be another process's from then on.
    ///
    /// # Errors
    /// [`PassageError::Taken`] where another process keeps the same one, and others. What is right then is unknown, and it
    /// may be tried again.
    pub fn keep(&mut self, passage: &Passage) -> Result<bool, PassageError> {
        if passage.is_closed() && !self.locks.contains_key(passage.chain) {
            // Who only looks takes nothing from one that begins to keep it.
            let (standing, failures) = Self::standing(&[passage.chain]);
            if standing.is_empty() {
                return failures.into_iter().next().map_or(Ok(false), Err);
            }
        }
        self.claim(passage.chain)?;
        let v4 = self.keep_family(passage, Family::V4, &passage.v4);
        let v6 = self.keep_family(passage, Family::V6, &passage.v6);
        let changed = v4? | v6?;
        if passage.is_closed() {
            self.locks.remove(passage.chain);
        }
        Ok(changed)
    }

    /// Makes sure that no other process keeps this chain, before anything it leads to is changed.
    ///
    /// # Errors
    /// [`PassageError::Taken`] where another process keeps it, and that it could not be claimed.
    pub fn claim(&mut self, chain: &'static str) -> Result<(), PassageError> {
        if self.locks.contains_key(chain) {
            return Ok(());
        }
        let lock = Lock::take(&format!("dcos-passage-{chain}"));
        let lock = lock.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => PassageError::Taken { chain },
            _ => PassageError::Claim { chain, source },
        })?;
        self.locks.insert(chain, lock);
        Ok(())
    }

    fn keep_family(
        &mut self,
        passage: &Passage,
        family: Family,
        wanted: &[String],
    ) -> Result<bool, PassageError> {
        let chain = passage.chain;
        let (program, restore) = family.programs();
        let Some(listing) = asked(program, &[WAIT, "-S"], "")? else {
            return Ok(false);
        };
        let known = self.stands.get(&(chain, family));
        let told = known.filter(|stands| stands.wanted == wanted);
        let told = told.map(|stands| stands.told.as_slice());
        let Some(change) = Firewall::read(&listing, passage).change(wanted, told) else {
            return Ok(false);
        };
        self.stands.remove(&(chain, family));
        if asked(restore, &[WAIT, "--noflush"], &change)?.is_none() {
            return Ok(false);
        }
        if let Some(listing) = asked(program, &[WAIT, "-S"], "")? {
            let told = Firewall::read(&listing, passage).own;
            let stands = Stands {
                wanted: wanted.to_vec(),
                told: told.into_iter().map(str::to_owned).collect(),
            };
            self.stands.insert((chain, family), stands);
        }
        Ok(true)
    }
}

/// What a program answers; nothing where it is not installed, since then nobody closed anything by it.
fn asked(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<Option<String>, PassageError> {
    match program::run(program, arguments, input) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PassageError::Program { program, source }),
        Ok(Ran(output, written)) => {
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(PassageError::Refused { program, said });
            }
            written.map_err(|source| PassageError::Program { program, source })?;
            Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
    }
}

/// Whether this listing says that what no rule of `FORWARD` accepts is dropped.
fn drops(listing: &str) -> bool {
    let policy = format!("-P {FORWARD} DROP");
    listing.lines().any(|line| line == policy)
}

/// What `iptables -S` tells, as far as it is about one chain of ours.
#[derive(Debug)]
struct Firewall<'a> {
    chain: &'a str,
    /// Where it has to be called, if anywhere.
    gate: Option<&'static str>,
    is_there: bool,
    /// Its rules.
    own: Vec<&'a str>,
    /// Chains that call it, each as often as it does.
    callers: Vec<&'a str>,
    /// What the gate does, in order.
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Calls,
    /// Calls another chain of ours: which of them comes first changes nothing.
    Sibling,
    Ends,
    Other,
}

impl<'a> Firewall<'a> {
    fn read(listing: &'a str, passage: &Passage) -> Self {
        let chain = passage.chain;
        let has = |line: &str| listing.lines().any(|found| found == line);
        // Docker leaves its chain there when it does not call it: after an upgrade, a restored firewall, or a flush.
        let is_dockers = has(&format!("-A {FORWARD} -j {DOCKER_USER}"));
        let gate = if passage.before_docker && is_dockers {
            Some(DOCKER_USER)
        } else {
            drops(listing).then_some(FORWARD)
        };
        let mut firewall = Self {
            chain,
            gate,
            is_there: has(&format!("-N {chain}")),
            own: Vec::new(),
            callers: Vec::new(),
            steps: Vec::new(),
        };
        let rules = listing.lines().filter_map(|line| line.strip_prefix("-A "));
        for rule in rules {
            let (of, does) = rule.split_once(' ').unwrap_or((rule, ""));
            let step = match does.strip_prefix("-j ") {
                Some(to) if to == chain => Step::Calls,
                Some(to) if to.starts_with(FAMILY) => Step::Sibling,
                // One that drops all stays what it is: an operator's word.
                Some("RETURN" | "ACCEPT") => Step::Ends,
                _ => Step::Other,
            };
            if of == chain {
                firewall.own.push(does);
            }
            if step == Step::Calls {
                firewall.callers.push(of);
            }
            if Some(of) == gate {
                firewall.steps.push(step);
            }
        }
        firewall
    }

    /// What `iptables-restore` has to be given so that exactly what is wanted passes; `None` if it does, `told` being how
    /// what is wanted was told before.
    fn change(&self, wanted: &[String], told: Option<&[String]>) -> Option<String> {
        let chain = self.chain;
        let gate = self.gate.filter(|_| !wanted.is_empty());
        let Some(gate) = gate else {
            let calls = self.uncalled();
            let gone = format!("*filter\n{calls}-F {chain}\n-X {chain}\nCOMMIT\n");
            return self.is_there.then_some(gone);
        };
        let reached = self.steps.split(|step| *step == Step::Ends).next();
        let mut last = reached
            .unwrap_or_default()
            .rsplit(|step| *step == Step::Calls);
        // What somebody appended is his word as well, and comes before.
        let is_last = last
            .next()
            .is_some_and(|after| after.iter().all(|step| *step == Step::Sibling))
            && last.next().is_some();
        let is_called = is_last && self.callers == [gate];
        if is_called && told.is_some_and(|told| told == self.own) {
            return None;
        }
        // Declared, it is made, or emptied.
        let mut change = format!("*filter\n:{chain} - [0:0]\n");
        for rule in wanted {
            let _ = writeln!(change, "-A {chain} {rule} -j ACCEPT");
        }
        if !is_called {
            change.push_str(&self.uncalled());
            let mut others = self.steps.iter().filter(|step| **step != Step::Calls);
            let place = others.position(|step| *step == Step::Ends);
            let _ = match place {
                Some(before) => writeln!(change, "-I {gate} {} -j {chain}", before + 1),
                None => writeln!(change, "-A {gate} -j {chain}"),
            };
        }
        change.push_str("COMMIT\n");
        Some(change)
    }

    /// Takes away every call of the chain.
    fn uncalled(&self) -> String {
        let call = |of: &&str| format!("-D {of} -j {}\n", self.chain);
        self.callers.iter().map(call).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(listing: &str, wanted: &[&str], told: Option<&[&str]>) -> Option<String> {
        let list =
            |texts: &[&str]| -> Vec<String> { texts.iter().map(|&text| text.into()).collect() };
        let told = told.map(list);
        let passage = Passage {
            before_docker: true,
            ..Passage::closed("OURS")
        };
        Firewall::read(listing, &passage).change(&list(wanted), told.as_deref())
    }

    const OPEN: &str = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n";
    const CLOSED: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-A FORWARD -i eth1 -j LOG\n";
    const DOCKER: &str = "-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -s 10.0.0.9/32 -j DROP\n-A DOCKER-USER -j RETURN\n";

    #[test]
    fn nothing_is_opened_that_is_open_or_that_nobody_wants() {
        assert_eq!(change(OPEN, &["-i ours"], None), None);
        assert_eq!(change(DOCKER, &[], None), None);
    }

    #[test]
    fn it_is_called_after_all_that_an_operator_says() {
        let text = change(DOCKER, &["-i ours"], None).unwrap();
        let wanted =
            "*filter\n:OURS - [0:0]\n-A OURS -i ours -j ACCEPT\n-I DOCKER-USER 2 -j OURS\nCOMMIT\n";
        assert_eq!(text, wanted);
        let text = change(CLOSED, &["-i ours"], None).unwrap();
        assert!(text.ends_with("-A FORWARD -j OURS\nCOMMIT\n"), "{text}");
    }

    #[test]
    fn what_stands_is_left_and_what_somebody_changed_is_not() {
        let stands = DOCKER.replace(
            "-A DOCKER-USER -j RETURN",
            "-A DOCKER-USER -j OURS\n-A DOCKER-USER -j RETURN\n-N OURS\n-A OURS -i ours -j ACCEPT",
        );
        let told: &[&str] = &["-i ours -j ACCEPT"];
        assert_eq!(change(&stands, &["-i ours"], Some(told)), None);
        // Another process left it: whether it says what we want is not known.
        let again = change(&stands, &["-i ours"], None).unwrap();
        assert!(!again.contains("DOCKER-USER"), "{again}");
        let closed = stands.replace("-i ours -j ACCEPT", "-i ours -j DROP");
        assert!(change(&closed, &["-i ours"], Some(told)).is_some());
        let hidden = stands.replace(
            "-A DOCKER-USER -s",
            "-A DOCKER-USER -j RETURN\n-A DOCKER-USER -s",
        );
        let text = change(&hidden, &["-i ours"], Some(told)).unwrap();
        assert!(
            text.ends_with("-D DOCKER-USER -j OURS\n-I DOCKER-USER 1 -j OURS\nCOMMIT\n"),
            "{text}"
        );
    }

    #[test]
    fn what_an_operator_appends_comes_first_and_chains_of_ours_do_not_take_turns() {
        let rules = "-N OURS\n-A OURS -i ours -j ACCEPT\n";
        let told: &[&str] = &["-i ours -j ACCEPT"];
        for (gate, end) in [("DOCKER-USER", DOCKER), ("FORWARD", CLOSED)] {
            let end = end.replace("-A DOCKER-USER -j RETURN\n", "");
            let stands = format!("{end}{rules}-A {gate} -j OURS\n-A {gate} -j DCOS-OTHER\n");
            assert_eq!(change(&stands, &["-i ours"], Some(told)), None);
            let moved = change(
                &format!("{stands}-A {gate} -s 10.0.0.8/32 -j DROP\n"),
                &["-i ours"],
                Some(told),
            );
            let wanted = format!("-D {gate} -j OURS\n-A {gate} -j OURS\nCOMMIT\n");
            assert!(
                moved.as_ref().is_some_and(|text| text.ends_with(&wanted)),
                "{moved:?}"
            );
        }
    }

    #[test]
    fn what_docker_does_not_refuse_passes_after_it() {
        let firewall = Firewall::read(DOCKER, &Passage::closed("OURS"));
        let text = firewall.change(&["-i ours".to_owned()], None).unwrap();
        assert!(text.ends_with("-A FORWARD -j OURS\nCOMMIT\n"), "{text}");
        let open = DOCKER.replace("FORWARD DROP", "FORWARD ACCEPT");
        let firewall = Firewall::read(&open, &Passage::closed("OURS"));
        assert_eq!(firewall.change(&["-i ours".to_owned()], None), None);
    }

    #[test]
    fn a_chain_of_dockers_that_nobody_calls_is_no_gate() {
        let restored = DOCKER.replace("-A FORWARD -j DOCKER-USER\n", "");
        let text = change(&restored, &["-i ours"], None).unwrap();
        assert!(text.ends_with("-A FORWARD -j OURS\nCOMMIT\n"), "{text}");
    }

    #[test]
    fn it_moves_when_docker_comes_and_goes_when_nobody_wants_it() {
        let stands = format!("{DOCKER}-N OURS\n-A OURS -i ours -j ACCEPT\n-A FORWARD -j OURS\n");
        let told: &[&str] = &["-i ours -j ACCEPT"];
        let moved = change(&stands, &["-i ours"], Some(told)).unwrap();
        assert!(
            moved.ends_with("-D FORWARD -j OURS\n-I DOCKER-USER 2 -j OURS\nCOMMIT\n"),
            "{moved}"
        );
        let gone = change(&stands, &[], None).unwrap();
        assert_eq!(
            gone,
            "*filter\n-D FORWARD -j OURS\n-F OURS\n-X OURS\nCOMMIT\n"
        );
        let open = stands.replace("FORWARD DROP", "FORWARD ACCEPT");
        let open = open.replace("-A FORWARD -j DOCKER-USER\n", "");
        assert_eq!(change(&open, &["-i ours"], Some(told)), Some(gone));
    }
}
