//! Long lists, written piece by piece: the first byte leaves long before the last item is rendered.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use serde_json::Value;

use super::typed;

/// How many items are rendered in one go: some hundred kilobytes, in about a millisecond.
const PIECE: usize = 64;

/// A document whose only field is a list; a short one is sent whole, with its length.
pub(super) fn listed<T, F>(name: &str, items: Vec<T>, render: F) -> Response
where
    T: Send + 'static,
    F: Fn(&T) -> Value + Send + 'static,
{
    between(format!("{{\"{name}\":["), items, "]}", render)
}

/// A list; a short one is sent whole, with its length.
pub fn list<T, F>(items: Vec<T>, render: F) -> Response
where
    T: Send + 'static,
    F: Fn(&T) -> Value + Send + 'static,
{
    between("[".to_owned(), items, "]", render)
}

fn between<T, F>(begin: String, items: Vec<T>, end: &'static str, render: F) -> Response
where
    T: Send + 'static,
    F: Fn(&T) -> Value + Send + 'static,
{
    let mut pieces = Pieces {
        begin: Some(begin.into_bytes()),
        left: items.into_iter(),
        end,
        render,
    };
    let body = if pieces.left.len() <= PIECE {
        Body::from(pieces.next().unwrap_or_default())
    } else {
        let pieces = pieces.map(Ok::<_, std::convert::Infallible>);
        Body::from_stream(stream::iter(pieces))
    };
    typed(StatusCode::OK, "application/json", body)
}

struct Pieces<T, F> {
    /// What stands before the first item, until it is written.
    begin: Option<Vec<u8>>,
    left: std::vec::IntoIter<T>,
    /// What stands after the last one.
    end: &'static str,
    render: F,
}

impl<T, F: Fn(&T) -> Value> Iterator for Pieces<T, F> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (mut piece, mut comma) = match self.begin.take() {
            Some(begin) => (begin, false),
            None if self.left.len() == 0 => return None,
            None => (Vec::new(), true),
        };
        for item in self.left.by_ref().take(PIECE) {
            if std::mem::replace(&mut comma, true) {
                piece.push(b',');
            }
            // Documents have string keys and finite numbers only, so that writing them cannot fail.
            let _ = serde_json::to_writer(&mut piece, &(self.render)(&item));
        }
        if self.left.len() == 0 {
            piece.extend_from_slice(self.end.as_bytes());
        }
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_list() {
        for length in [0, 1, PIECE, PIECE + 1, 3 * PIECE, 1_000] {
            let pieces = Pieces {
                begin: Some(b"{\"all\":[".to_vec()),
                left: (0..length).collect::<Vec<_>>().into_iter(),
                end: "]}",
                render: |item: &usize| Value::from(*item),
            };
            let pieces: Vec<_> = pieces.collect();
            assert_eq!(pieces.len(), length.div_ceil(PIECE).max(1), "{length}");
            let whole: Value = serde_json::from_slice(&pieces.concat()).unwrap();
            let items: Vec<usize> = serde_json::from_value(whole["all"].clone()).unwrap();
            assert!(items.into_iter().eq(0..length), "{length}");
        }
    }
}
