//! One message, and how it stands in a request.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ORIGIN, USER_AGENT};
use http::{HeaderMap, Method};

use super::Upid;

/// The header with the sender's UPID.
pub(super) const LIBPROCESS_FROM: &str = "libprocess-from";
/// What stands before the sender's UPID in `User-Agent`.
pub(super) const AGENT_PREFIX: &str = "libprocess/";

/// What one actor tells another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it; claimed, not proved.
    pub from: Upid,
    /// Its full name in API v0, such as `mesos.internal.RegisterSlaveMessage`.
    pub name: String,
    /// The protobuf bytes.
    pub body: Bytes,
}

/// Whether a request is a message rather than a call of an HTTP endpoint. Browsers send none, whatever a page has them say.
pub fn is_message(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST && sender(headers).is_some() && !headers.contains_key(ORIGIN)
}

/// The text of the sender's UPID, from either of the headers that carry it.
pub(super) fn sender(headers: &HeaderMap) -> Option<&str> {
    let from = headers.get(LIBPROCESS_FROM);
    let from = from.and_then(|from| from.to_str().ok());
    from.or_else(|| {
        let agent = headers.get(USER_AGENT)?.to_str().ok()?;
        agent.strip_prefix(AGENT_PREFIX)
    })
}

/// The actor and the message's name in a path such as `/slave(1)/mesos.internal.PingSlaveMessage`.
pub(super) fn address(path: &str) -> Option<(String, String)> {
    let (actor, name) = path.strip_prefix('/')?.split_once('/')?;
    let valid = !actor.is_empty() && !name.is_empty() && !name.contains('/');
    valid.then(|| (unescape(actor), unescape(name)))
}

/// Replaces `%28` and the like; some clients escape the parentheses of an actor's name.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%');
        let code = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// About as many bytes stand around a message in its request.
pub(super) const HEAD: usize = 320;

/// Writes the requests that carry messages to one process, chunked as libprocess sends them.
#[derive(Debug)]
pub(super) struct Renderer {
    /// Where they go.
    host: String,
    /// Who sent the last one: mostly the next one, too.
    from: Option<(Upid, String)>,
}

impl Renderer {
    pub(super) fn new(host: SocketAddr) -> Self {
        Self {
            host: host.to_string(),
            from: None,
        }
    }

    /// Appends the request that carries `message` to `actor`.
    pub(super) fn render(&mut self, out: &mut BytesMut, actor: &str, message: &Message) {
        let (name, body) = (&message.name, &message.body);
        let known = self.from.take().filter(|(from, _)| *from == message.from);
        let (_, from) = self
            .from
            .insert(known.unwrap_or_else(|| (message.from.clone(), message.from.to_string())));
        let parts = [
            "POST /",
            actor,
            "/",
            name,
            " HTTP/1.1\r\nUser-Agent: ",
            AGENT_PREFIX,
            from,
            "\r\nLibprocess-From: ",
            from,
            "\r\nConnection: Keep-Alive\r\nHost: ",
            &self.host,
            "\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        out.reserve(HEAD + body.len());
        for part in parts {
            out.put_slice(part.as_bytes());
        }
        if !body.is_empty() {
            out.put_slice(format!("{:x}\r\n", body.len()).as_bytes());
            out.put_slice(body);
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"0\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_actor_and_message() {
        let expected = Some(("slave(1)".to_owned(), "mesos.internal.Ping".to_owned()));
        assert_eq!(address("/slave(1)/mesos.internal.Ping"), expected);
        assert_eq!(address("/slave%281%29/mesos.internal.Ping"), expected);
        for path in ["/", "/master", "//x", "/master/", "/master/a/b", "master/x"] {
            assert_eq!(address(path), None, "{path}");
        }
        assert_eq!(unescape("a%2"), "a%2");
    }

    #[test]
    fn a_message_is_told_by_either_header() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        let from = headers("libprocess-from", "a@1.2.3.4:5");
        assert!(is_message(&Method::POST, &from));
        assert!(!is_message(&Method::GET, &from));
        let mut of_a_page = from.clone();
        of_a_page.insert(ORIGIN, "null".parse().unwrap());
        assert!(!is_message(&Method::POST, &of_a_page));
        let agent = headers("user-agent", "libprocess/a@1.2.3.4:5");
        assert_eq!(sender(&agent), Some("a@1.2.3.4:5"));
        assert!(!is_message(&Method::POST, &headers("user-agent", "curl/8")));
    }

    #[test]
    fn the_request_reads_as_libprocess_writes_it() {
        let from: Upid = "slave(1)@10.0.0.7:5051".parse().unwrap();
        let to: Upid = "master@10.0.0.1:5050".parse().unwrap();
        let text = "POST /master/mesos.internal.PongSlaveMessage HTTP/1.1\r\n\
            User-Agent: libprocess/slave(1)@10.0.0.7:5051\r\n\
            Libprocess-From: slave(1)@10.0.0.7:5051\r\n\
            Connection: Keep-Alive\r\n\
            Host: 10.0.0.1:5050\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        let name = "mesos.internal.PongSlaveMessage";
        let message = |from: &Upid, body: &'static str| Message {
            from: from.clone(),
            name: name.to_owned(),
            body: body.into(),
        };
        let mut renderer = Renderer::new(to.address());
        let mut rendered = |message: &Message| {
            let mut out = BytesMut::new();
            renderer.render(&mut out, to.name(), message);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let empty = rendered(&message(&from, ""));
        assert_eq!(empty, format!("{text}0\r\n\r\n"));
        let filled = rendered(&message(&from, "0123456789abcdef"));
        let chunks = "10\r\n0123456789abcdef\r\n0\r\n\r\n";
        assert_eq!(filled, format!("{text}{chunks}"));
        let other = "slave(2)@10.0.0.7:5051".parse().unwrap();
        let text = text.replace("slave(1)", "slave(2)");
        let filled = rendered(&message(&other, "0123456789abcdef"));
        assert_eq!(filled, format!("{text}{chunks}"));
    }
}
