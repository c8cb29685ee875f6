//! The text of what did not change since it was last read.
//!
//! Cores publish their maps as trees whose pages never change ([`dcos_core::tree`]), so the text
//! of a page is good for as long as the page is part of the state. A document of a large cluster is
//! composed of such texts: after a change, only the pages that changed are written anew.
//!
//! Whoever is alone is sent a document while it is written, and its texts are kept only when they are written for
//! the second time: most of what is read once is not read again before it changes. Then, too, each document keeps
//! only so much that its reader hardly waits for the memory; those who go on reading soon have everything kept.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use dcos_core::tree::Page;
use dcos_wire::{FlowWriter, Piece, Rope};

use super::text;

/// In which form records are written. A page holds records of one kind, so this tells texts of it
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// For v0 endpoints.
    V0,
    /// For `/slaves`.
    V0Whole,
    /// JSON of API v1.
    Json,
    /// Protobuf of API v1: fields of the message around.
    Protobuf,
}

impl Form {
    fn has_commas(self) -> bool {
        self != Self::Protobuf
    }
}

/// Texts by page. Dropped with it, or when nobody asked for it for a while.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    known: HashMap<Key, Known>,
    round: u64,
    /// How many bytes were laid by in this round, for others than those who read now.
    laid_by: usize,
    /// Where the text of a page is written before its size is known: memory that was never used
    /// costs more than the copy.
    draft: Vec<u8>,
}

/// Which page, in which form, and whether its first record is the first of its list: the others
/// begin with a comma.
type Key = (usize, Form, bool);

#[derive(Debug)]
struct Known {
    /// While it is held, no other page has this address.
    page: Weak<dyn Any + Send + Sync>,
    /// None if it was written once, and was not kept.
    piece: Option<Arc<Piece>>,
    used: u64,
}

/// How many bytes of texts a document keeps for others while it is sent.
const LAID_BY: usize = 64 << 20;

/// After how many documents a text that was in none of them is dropped.
const PATIENCE: u64 = 16;

impl Pieces {
    /// Forgets what belongs to no state any more, or was not asked for lately.
    pub(crate) fn tidy(&mut self) {
        self.round += 1;
        self.laid_by = 0;
        let oldest = self.round.saturating_sub(PATIENCE);
        self.known
            .retain(|_, known| known.used >= oldest && known.page.strong_count() > 0);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.known = HashMap::new();
        self.draft = Vec::new();
    }

    /// The text of a page; one that is not kept is written, and kept from now on.
    fn text_of<K, V>(
        &mut self,
        page: &Page<K, V>,
        form: Form,
        first: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Arc<Piece>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let draft = &mut self.draft;
        let known = Self::known(&mut self.known, self.round, page, form, first).0;
        let piece = known.piece.get_or_insert_with(|| {
            draft.clear();
            write(draft);
            Piece::new(Bytes::copy_from_slice(draft))
        });
        Arc::clone(piece)
    }

    /// The same for a document that is read once: its texts are kept if they are asked for again, and only so
    /// many of them.
    fn wanted_again<K, V>(
        &mut self,
        page: &Page<K, V>,
        form: Form,
        first: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Arc<Piece>>
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let (known, again) = Self::known(&mut self.known, self.round, page, form, first);
        if let Some(piece) = &known.piece {
            return Some(Arc::clone(piece));
        }
        if !again || self.laid_by >= LAID_BY {
            return None;
        }
        let piece = self.text_of(page, form, first, write);
        self.laid_by += piece.bytes().len();
        Some(piece)
    }

    /// What is known of a page, and whether something was.
    fn known<'a, K, V>(
        known: &'a mut HashMap<Key, Known>,
        round: u64,
        page: &Page<K, V>,
        form: Form,
        first: bool,
    ) -> (&'a mut Known, bool)
    where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        let key = (Arc::as_ptr(page).addr(), form, first);
        let mut again = true;
        let known = known.entry(key).or_insert_with(|| {
            again = false;
            let page: Weak<Vec<(K, V)>> = Arc::downgrade(page);
            Known {
                page,
                piece: None,
                used: round,
            }
        });
        known.used = round;
        (known, again)
    }
}

/// A list that is being written.
pub(crate) struct Items<'a> {
    out: &'a mut Vec<u8>,
    commas: bool,
    first: bool,
}

impl Items<'_> {
    /// Where to write the next item.
    pub(crate) fn next(&mut self) -> &mut Vec<u8> {
        if self.commas && !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out
    }
}

/// Where a document is put together.
#[derive(Debug)]
pub(crate) enum Paper {
    /// For many, and for as long as they read.
    Whole(Rope),
    /// For one, who is sent it meanwhile.
    Flow(FlowWriter),
}

impl Paper {
    fn text(&mut self, text: impl AsRef<[u8]>) {
        match self {
            Self::Whole(rope) => rope.text(text),
            Self::Flow(flow) => flow.text(text),
        }
    }

    /// Has `write` append something; whether it did.
    fn draft(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        match self {
            Self::Whole(rope) => {
                let mut text = Vec::new();
                write(&mut text);
                rope.text(&text);
                !text.is_empty()
            }
            Self::Flow(flow) => {
                let buffer = flow.buffer();
                let before = buffer.len();
                write(buffer);
                let written = buffer.len() > before;
                flow.turn();
                written
            }
        }
    }

    fn push(&mut self, piece: Arc<Piece>) {
        match self {
            Self::Whole(rope) => rope.push(piece),
            Self::Flow(flow) => flow.push(&piece),
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Flow(flow) if flow.is_closed())
    }
}

/// Puts a document together.
pub(crate) struct Composer<'a> {
    paper: Paper,
    /// None if the document shows only a part of the state: its texts are good for nobody else.
    pieces: Option<&'a mut Pieces>,
    first: bool,
}

impl<'a> Composer<'a> {
    pub(crate) fn new(pieces: Option<&'a mut Pieces>, paper: Paper) -> Self {
        Self {
            paper,
            pieces,
            first: true,
        }
    }

    /// Appends text.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) {
        self.paper.text(text);
    }

    /// Appends fields of an object that is open.
    pub(crate) fn fields(&mut self, fill: impl FnOnce(&mut text::Object<'_>)) {
        let mut written = Vec::new();
        text::object(&mut written, fill);
        // Without its braces.
        self.paper.text(&written[1..written.len() - 1]);
    }

    /// Begins a list; what follows is its items.
    pub(crate) fn open(&mut self, text: &str) {
        self.paper.text(text);
        self.first = true;
    }

    /// Appends items made of one page after the other.
    pub(crate) fn items<'p, K, V>(
        &mut self,
        pages: impl Iterator<Item = &'p Page<K, V>>,
        form: Form,
        write: impl Fn(&mut Items<'_>, &K, &V),
    ) where
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        for page in pages.filter(|page| !page.is_empty()) {
            if self.paper.is_closed() {
                return;
            }
            let first = self.first;
            let make = |out: &mut Vec<u8>| {
                let mut items = Items {
                    out,
                    commas: form.has_commas(),
                    first,
                };
                for (key, value) in page.iter() {
                    write(&mut items, key, value);
                }
            };
            let leads = first && form.has_commas();
            let kept = self.pieces.as_mut().and_then(|pieces| match &self.paper {
                Paper::Whole(_) => Some(pieces.text_of(page, form, leads, make)),
                Paper::Flow(_) => pieces.wanted_again(page, form, leads, make),
            });
            let written = if let Some(piece) = kept {
                let written = !piece.bytes().is_empty();
                self.paper.push(piece);
                written
            } else {
                self.paper.draft(make)
            };
            self.first = first && !written;
        }
    }

    /// Appends items that are written anew each time.
    pub(crate) fn each<T>(
        &mut self,
        things: impl IntoIterator<Item = T>,
        form: Form,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        for thing in things {
            let mut first = self.first;
            self.paper.draft(|out| {
                let mut items = Items {
                    out,
                    commas: form.has_commas(),
                    first,
                };
                write(items.next(), thing);
                first = items.first;
            });
            self.first = first;
        }
    }

    /// Takes what was composed so far of a whole document.
    pub(crate) fn take(&mut self) -> Rope {
        match &mut self.paper {
            Paper::Whole(rope) => std::mem::take(rope),
            Paper::Flow(_) => unreachable!("what is sent already can't be taken back"),
        }
    }

    /// Ends the document; it is empty if it was sent already.
    pub(crate) fn finish(self) -> Rope {
        match self.paper {
            Paper::Whole(rope) => rope,
            Paper::Flow(flow) => {
                flow.finish();
                Rope::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dcos_core::tree::Tree;

    use super::*;

    fn write(pieces: &mut Pieces, tree: &Tree<u32, u32>) -> (String, usize) {
        pieces.tidy();
        let written = std::cell::Cell::new(0);
        let mut composer = Composer::new(Some(pieces), Paper::Whole(Rope::new()));
        composer.open("[");
        composer.items(tree.pages(), Form::Json, |items, key, value| {
            written.set(written.get() + 1);
            text::value(items.next(), key * value);
        });
        composer.text("]");
        let text = composer.finish().to_bytes();
        (String::from_utf8_lossy(&text).into_owned(), written.get())
    }

    #[test]
    fn only_what_changed_is_written_anew() {
        let mut tree: Tree<u32, u32> = (0..1000).map(|key| (key, 1)).collect();
        let mut pieces = Pieces::default();
        let (first, written) = write(&mut pieces, &tree);
        assert_eq!(written, 1000);
        assert_eq!(first.split(',').count(), 1000);
        assert_eq!(write(&mut pieces, &tree), (first, 0));
        // Nobody else holds the tree, so it is changed in place; its text must still change.
        tree.insert(500, 2);
        let (second, written) = write(&mut pieces, &tree);
        assert!(written > 0 && written <= 64, "{written}");
        let numbers: Vec<u32> = second[1..second.len() - 1]
            .split(',')
            .map(|number| number.parse().expect("a number"))
            .collect();
        let expected: Vec<u32> = tree.iter().map(|(key, value)| key * value).collect();
        assert_eq!(numbers, expected);
        tree.remove(&0);
        let (third, _) = write(&mut pieces, &tree);
        assert!(third.starts_with("[1,2,"), "{third}");
        pieces.tidy();
        let pages = tree.pages().count();
        assert!(pieces.known.len() <= pages + 1, "{}", pieces.known.len());
    }

    #[test]
    fn what_is_read_once_is_not_kept() {
        let tree: Tree<u32, u32> = (0..1000).map(|key| (key, 1)).collect();
        let mut pieces = Pieces::default();
        let flow = |pieces: &mut Pieces| {
            pieces.tidy();
            let (writer, flow) = dcos_wire::flow(std::time::Duration::ZERO);
            let mut composer = Composer::new(Some(pieces), Paper::Flow(writer));
            composer.items(tree.pages(), Form::Json, |items, key, value| {
                text::value(items.next(), key * value);
            });
            composer.finish();
            drop(flow);
        };
        let kept = |pieces: &Pieces| {
            let known = pieces.known.values();
            known.filter(|known| known.piece.is_some()).count()
        };
        flow(&mut pieces);
        assert_eq!(kept(&pieces), 0);
        flow(&mut pieces);
        assert_eq!(kept(&pieces), tree.pages().count());
    }
}
