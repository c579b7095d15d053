//! A client of few lines.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: Option<&[u8]>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|header| header.starts_with("host:")) {
        text += "host: localhost\r\n";
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    if let Some(body) = body {
        text += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    let mut bytes = (text + "\r\n").into_bytes();
    bytes.extend(body.unwrap_or_default());
    bytes
}

/// A request and its answer, on a connection of their own.
pub(crate) fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&[u8]>,
) -> Reply {
    let mut socket = connect(address);
    let headers: Vec<&str> = headers.iter().copied().chain(["connection: close"]).collect();
    // A server that refuses a body may close before it has read all.
    let _ = socket.write_all(&request(method, path, &headers, body));
    read(socket)
}

/// Reads an answer up to the end of the connection.
pub(crate) fn read(socket: impl Read) -> Reply {
    let mut reader = BufReader::new(socket);
    let (status, headers) = head(&mut reader);
    let mut body = vec![];
    // A connection that ends with unread bytes on the way is reset behind the answer.
    let _ = reader.read_to_end(&mut body);
    let chunked =
        headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunked(&body) } else { body };
    Reply { status, headers, body }
}

/// Reads an answer that states its length.
pub(crate) fn read_one(reader: &mut impl BufRead) -> Reply {
    let (status, headers) = head(reader);
    let reply = Reply { status, headers, body: vec![] };
    let length = reply.header("content-length").expect("a length").parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Reply { body, ..reply }
}

fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {line:?}"));
    let (status, mut headers) = (status.parse().unwrap(), vec![]);
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    (status, headers)
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = vec![];
    while let Some(end) = body.windows(2).position(|pair| pair == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let start = end + 2;
        let stop = (start + size).min(body.len());
        whole.extend(&body[start..stop]);
        body = &body[(stop + 2).min(body.len())..];
        if size == 0 {
            break;
        }
    }
    whole
}

/// An answer that comes in pieces.
pub(crate) struct Stream {
    pub(crate) status: u16,
    reader: BufReader<TcpStream>,
    headers: Vec<(String, String)>,
}

impl Stream {
    /// Asks for a stream and reads the head of the answer.
    pub(crate) fn open(address: SocketAddr, path: &str, body: &Value) -> Stream {
        let mut body = body.clone();
        body["stream"] = true.into();
        let mut socket = connect(address);
        socket.write_all(&request("POST", path, &[], Some(body.to_string().as_bytes()))).unwrap();
        let mut reader = BufReader::new(socket);
        let (status, headers) = head(&mut reader);
        Stream { status, reader, headers }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The data of the next event; `None` at the end.
    pub(crate) fn data(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.reader.read_line(&mut line).ok()? > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
            // Sizes of chunks, comments and empty lines are passed over.
            if line == "0\r\n" {
                return None;
            }
            line.clear();
        }
        None
    }

    /// All chunks up to `[DONE]`, which must come.
    pub(crate) fn chunks(mut self) -> Vec<Value> {
        assert_eq!(self.status, 200);
        let mut chunks = vec![];
        loop {
            match self.data().expect("a stream ends with [DONE]").as_str() {
                "[DONE]" => break,
                data => chunks.push(serde_json::from_str(data).unwrap()),
            }
        }
        assert_eq!(self.data(), None, "nothing follows [DONE]");
        chunks
    }
}
