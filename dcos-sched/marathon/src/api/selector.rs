//! Label selectors: `env==prod,tier in (web, api),!=...` as Marathon 1.11 reads them.

use std::collections::BTreeMap;

use crate::Error;

/// Conditions on labels, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Exists(String),
    Equals(String, String),
    Differs(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut input = Input { rest: text };
        let mut terms = Vec::new();
        loop {
            let term = input.term().ok_or_else(|| {
                Error::Unprocessable(format!("Can not parse label selector '{text}'"))
            })?;
            terms.push(term);
            input.space();
            if input.rest.is_empty() {
                return Ok(Self { terms });
            }
            if !input.take(",") {
                let text = format!("Can not parse label selector '{text}'");
                return Err(Error::Unprocessable(text));
            }
        }
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Exists(key) => labels.contains_key(key),
            Term::Equals(key, value) => labels.get(key) == Some(value),
            Term::Differs(key, value) => labels.get(key) != Some(value),
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        })
    }
}

struct Input<'a> {
    rest: &'a str,
}

impl Input<'_> {
    fn term(&mut self) -> Option<Term> {
        let key = self.word()?;
        self.space();
        if self.take("==") {
            return Some(Term::Equals(key, self.word()?));
        }
        if self.take("!=") {
            return Some(Term::Differs(key, self.word()?));
        }
        if self.take("notin") {
            return Some(Term::NotIn(key, self.list()?));
        }
        if self.take("in") {
            return Some(Term::In(key, self.list()?));
        }
        Some(Term::Exists(key))
    }

    fn list(&mut self) -> Option<Vec<String>> {
        self.space();
        if !self.take("(") {
            return None;
        }
        let mut words = vec![self.word()?];
        loop {
            self.space();
            if self.take(")") {
                return Some(words);
            }
            if !self.take(",") {
                return None;
            }
            words.push(self.word()?);
        }
    }

    /// Letters, digits, `.`, `_`, `-`, and anything after a backslash.
    fn word(&mut self) -> Option<String> {
        self.space();
        let mut word = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = 0;
        while let Some((at, c)) = chars.next() {
            if c == '\\' {
                let (next, escaped) = chars.next()?;
                word.push(escaped);
                end = next + escaped.len_utf8();
            } else if c.is_ascii_alphanumeric() || "._-".contains(c) {
                word.push(c);
                end = at + c.len_utf8();
            } else {
                break;
            }
        }
        self.rest = &self.rest[end..];
        (!word.is_empty()).then_some(word)
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let labels = BTreeMap::from(
            [("env", "prod"), ("a/b", "x y")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        for (text, expected) in [
            ("env", true),
            ("none", false),
            ("env==prod", true),
            ("env != prod", false),
            ("none != prod", true),
            ("env in (test, prod)", true),
            ("env notin (test,prod)", false),
            ("none notin (x)", true),
            (r"a\/b==x\ y", true),
            ("env, env==prod", true),
            ("env, env==test", false),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().matches(&labels),
                expected,
                "{text}"
            );
        }
        for text in [
            "",
            "env==",
            "env in",
            "env in (",
            "env in (a",
            "a b",
            ",",
            "env,",
        ] {
            assert_eq!(Selector::parse(text).unwrap_err().status(), 422, "{text}");
        }
    }
}
