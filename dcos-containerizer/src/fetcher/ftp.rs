//! Files of FTP servers: `ftp://` in the clear, `ftps://` within TLS from the first byte on.
//!
//! Passive mode only, first the extended one, which knows IPv6 and no addresses; the address in a
//! plain one's answer is not believed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use suppaftp::tokio::{AsyncRustlsConnector, AsyncRustlsFtpStream as Server, TransferStream};
use suppaftp::types::{FileType, FtpResult, Mode};
use suppaftp::{FtpError, Status};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::stood_still;

/// A file of a server, and who asks for it.
pub(super) struct Place {
    tls: bool,
    host: String,
    port: u16,
    user: String,
    password: String,
    /// From where the server puts who logs in; the first may be absolute.
    folders: Vec<String>,
    file: String,
}

impl Place {
    /// Reads an `ftp` or `ftps` URI as RFC 1738 means it: `//` and `%2F` begin an absolute path.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        let (scheme, rest) = uri.split_once("://").ok_or("it has no scheme")?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_once('/').ok_or("it names no file")?;
        let (who, address) = match authority.rsplit_once('@') {
            Some((who, address)) => (Some(who), address),
            None => (None, authority),
        };
        let tls = scheme.eq_ignore_ascii_case("ftps");
        let (host, port) = address_of(address, if tls { 990 } else { 21 })?;
        let (user, password) = match who {
            Some(who) => who.split_once(':').unwrap_or((who, "")),
            None => ("anonymous", "anonymous@"),
        };
        let path = match path.rsplit_once(";type=") {
            Some((path, "i" | "I")) => path,
            Some((_, kind)) => {
                return Err(format!("';type={kind}' is not supported, ';type=i' is"));
            }
            None => path,
        };
        let mut folders: Vec<String> = path.split('/').map(decode).collect::<Result<_, _>>()?;
        let file = folders.pop().filter(|file| !file.is_empty());
        let file = file.ok_or("it names no file")?;
        if folders.first().is_some_and(String::is_empty) {
            "/".clone_into(&mut folders[0]);
        }
        folders.retain(|folder| !folder.is_empty());
        Ok(Self {
            tls,
            host,
            port,
            user: decode(user)?,
            password: decode(password)?,
            folders,
            file,
        })
    }

    /// Writes the file into `target`; fails when nothing comes for as long as `stall`.
    pub(super) async fn download(
        &self,
        tls: &Arc<ClientConfig>,
        stall: Duration,
        target: &mut File,
    ) -> Result<(), String> {
        let mut server = within(stall, self.connect(tls)).await?;
        let size = within(stall, size(&mut server, &self.file)).await?;
        let mut transfer = within(stall, open(&mut server, &self.file)).await?;
        let (mut received, mut chunk) = (0, vec![0; 64 << 10]);
        let mut cut = false;
        loop {
            match tokio::time::timeout(stall, transfer.read(&mut chunk)).await {
                Err(_) => return Err(stood_still(stall)),
                Ok(Ok(0)) => break,
                Ok(Ok(length)) => {
                    received += length;
                    let written = target.write_all(&chunk[..length]);
                    written.map_err(|error| error.to_string())?;
                }
                // Some servers end TLS without a word: all is well if nothing is missing.
                Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    cut = true;
                    break;
                }
                Ok(Err(error)) => return Err(error.to_string()),
            }
        }
        let finished = within(stall, transfer.finish()).await;
        match size {
            Some(size) if size != received => Err(format!(
                "the download broke off after {received} of {size} bytes"
            )),
            None if cut => Err(format!("the download broke off after {received} bytes")),
            _ => finished,
        }
    }

    async fn connect(&self, tls: &Arc<ClientConfig>) -> FtpResult<Server> {
        let address = (self.host.as_str(), self.port);
        let mut server = if self.tls {
            let tls = AsyncRustlsConnector::from(TlsConnector::from(Arc::clone(tls)));
            Server::connect_secure_implicit(address, tls, &self.host).await?
        } else {
            Server::connect(address).await?
        };
        server.login(&self.user, &self.password).await?;
        if self.tls {
            for command in ["PBSZ 0", "PROT P"] {
                let done = server.custom_command(command, &[Status::CommandOk]);
                done.await?;
            }
        }
        server.transfer_type(FileType::Image).await?;
        for folder in &self.folders {
            server.cwd(folder).await?;
        }
        Ok(server)
    }
}

/// How large the file is, if the server says it.
async fn size(server: &mut Server, file: &str) -> FtpResult<Option<usize>> {
    match server.size(file).await {
        Ok(size) => Ok(Some(size)),
        Err(FtpError::UnexpectedResponse(_) | FtpError::BadResponse) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn open(
    server: &mut Server,
    file: &str,
) -> FtpResult<TransferStream<suppaftp::tokio::AsyncRustlsStream>> {
    server.set_mode(Mode::ExtendedPassive);
    match server.retr_as_stream(file).await {
        Err(FtpError::UnexpectedResponse(answer)) if answer.status == Status::FileUnavailable => {
            Err(FtpError::UnexpectedResponse(answer))
        }
        // A server, or what is between, that does not know it.
        Err(FtpError::UnexpectedResponse(_) | FtpError::ConnectionError(_)) => {
            server.set_mode(Mode::Passive);
            server.set_passive_nat_workaround(true);
            server.retr_as_stream(file).await
        }
        opened => opened,
    }
}

async fn within<T>(stall: Duration, step: impl Future<Output = FtpResult<T>>) -> Result<T, String> {
    match tokio::time::timeout(stall, step).await {
        Err(_) => Err(stood_still(stall)),
        Ok(Err(FtpError::UnexpectedResponse(answer))) => {
            let said = String::from_utf8_lossy(&answer.body);
            Err(format!(
                "the FTP server said '{}'",
                said.trim().escape_debug()
            ))
        }
        Ok(Err(FtpError::ConnectionError(error))) => {
            Err(format!("speaking to the FTP server: {error}"))
        }
        Ok(done) => done.map_err(|error| error.to_string()),
    }
}

fn address_of(address: &str, otherwise: u16) -> Result<(String, u16), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("its address lacks a ']'")?,
        None => address.split_at(address.find(':').unwrap_or(address.len())),
    };
    let port = match port.strip_prefix(':') {
        None | Some("") => otherwise,
        Some(port) => port.parse().map_err(|_| format!("'{port}' is no port"))?,
    };
    if host.is_empty() {
        return Err("it names no host".into());
    }
    Ok((host.to_owned(), port))
}

/// Undoes `%xx`. What would end a command of FTP is refused.
fn decode(part: &str) -> Result<String, String> {
    let decoded = percent_decode_str(part).decode_utf8();
    let decoded = decoded.map_err(|_| "its escapes are no UTF-8")?;
    if decoded.contains(char::is_control) {
        return Err("a control character is escaped in it".into());
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_server_user_folders_and_file() {
        let place = Place::parse("ftp://joe%40x:p%3Aw@h:2121/a/b%20c/d.tgz;type=i#x").unwrap();
        assert_eq!((&*place.host, place.port, place.tls), ("h", 2121, false));
        assert_eq!((&*place.user, &*place.password), ("joe@x", "p:w"));
        assert_eq!(
            (place.folders, &*place.file),
            (vec!["a".into(), "b c".into()], "d.tgz")
        );
        let place = Place::parse("FTPS://[::1]//etc/x").unwrap();
        assert_eq!((&*place.host, place.port, place.tls), ("::1", 990, true));
        assert_eq!((&*place.user, &*place.file), ("anonymous", "x"));
        assert_eq!(place.folders, ["/", "etc"]);
        let place = Place::parse("ftp://h/%2Fetc/x").unwrap();
        assert_eq!(place.folders, ["/etc"]);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for uri in [
            "ftp://h",
            "ftp://h/",
            "ftp://h/a/",
            "ftp:///a",
            "ftp://h:x/a",
            "ftp://[::1/a",
            "ftp://h/a;type=d",
            "ftp://h/a%0D%0ADELE%20b",
            "ftp://u%00:p@h/a",
            "ftp://h/%ff",
        ] {
            assert!(Place::parse(uri).is_err(), "{uri}");
        }
    }
}
