//! Links that lead nowhere: for addresses of the node's own, and for routes that something else takes packets off.

use std::io;

use crate::{ACK, CREATE, EXCLUSIVE, Messages, Socket};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
/// `IFF_UP`
const UP: u32 = 1;
/// `EEXIST`, `EOPNOTSUPP`
const EXISTS: i32 = 17;
const NOT_SUPPORTED: i32 = 95;

/// Makes a link of that name (15 bytes at most) that leads nowhere, if it is not there, and sets it up; gives back its
/// number. It is a dummy, or a bridge without ports where the kernel has no such links.
///
/// # Errors
/// What the kernel said.
pub fn stand_link(socket: &mut Socket, name: &str) -> io::Result<u32> {
    match make(socket, name, "dummy") {
        Err(error) if error.raw_os_error() == Some(NOT_SUPPORTED) => make(socket, name, "bridge"),
        done => done,
    }?;
    let index = index(socket, name)?;
    let mut request = Messages::new();
    request.begin(NEW_LINK, ACK, &header(index)).end();
    socket.ask(&request, |_| {})?;
    Ok(index)
}

/// Removes the link of that name.
///
/// # Errors
/// What the kernel said.
pub fn remove_link(socket: &mut Socket, name: &str) -> io::Result<()> {
    let mut request = Messages::new();
    request
        .begin(DELETE_LINK, ACK, &[0; 16])
        .text(3, name)
        .end();
    socket.ask(&request, |_| {})
}

/// Has something made, if it is not there yet.
///
/// # Errors
/// What the kernel said.
pub fn made(socket: &mut Socket, request: &Messages) -> io::Result<()> {
    match socket.ask(request, |_| {}) {
        Err(error) if error.raw_os_error() != Some(EXISTS) => Err(error),
        _ => Ok(()),
    }
}

fn make(socket: &mut Socket, name: &str, kind: &str) -> io::Result<()> {
    let mut request = Messages::new();
    let message = request.begin(NEW_LINK, ACK | CREATE | EXCLUSIVE, &header(0));
    message.text(3, name).open(18).text(1, kind).close().end();
    made(socket, &request)
}

fn index(socket: &mut Socket, name: &str) -> io::Result<u32> {
    let mut request = Messages::new();
    request.begin(GET_LINK, ACK, &[0; 16]).text(3, name).end();
    let mut index = None;
    socket.ask(&request, |link| {
        index = link.get(4..8).and_then(|bytes| bytes.try_into().ok());
    })?;
    let index = index.ok_or(io::ErrorKind::NotFound)?;
    Ok(u32::from_ne_bytes(index))
}

/// A header of messages about the link with that number, which is to be up.
fn header(index: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&UP.to_ne_bytes());
    header[12..].copy_from_slice(&UP.to_ne_bytes());
    header
}
