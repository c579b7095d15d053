//! Bounds on what a client can make large or slow.

use std::time::Duration;

/// Bounds on requests and connections. What exceeds one is answered with a status that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body (413).
    pub body_bytes: usize,
    /// Time to send a body (408).
    pub body_time: Duration,
    /// Bytes of a request's headers (431).
    pub header_bytes: usize,
    /// Time to send headers, and time that a connection may be idle. The connection is closed.
    pub header_time: Duration,
    /// Messages of a conversation (400).
    pub messages: usize,
    /// Prompts times choices of one request (400).
    pub choices: usize,
    /// Bytes of a stop string (400).
    pub stop_bytes: usize,
    /// Time of a request, waiting included (408, or an error in the stream).
    pub request_time: Duration,
    /// Time for which a client may take nothing of its answer. The connection is closed.
    pub stall_time: Duration,
    /// Pieces of an answer that wait for a slow reader; an answer that exceeds them is cut off.
    pub pieces: usize,
    /// Connections at once (503).
    pub connections: usize,
    /// Time in which `/health` expects a token.
    pub health_time: Duration,
    /// Time between comments that keep a silent stream open.
    pub comment_time: Duration,
    /// Time to finish requests after the server was stopped.
    pub drain_time: Duration,
}

impl Default for Limits {
    /// Bodies of 4 MiB, headers of 32 KiB, ten minutes for a request, 512 connections.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            body_bytes: 4 << 20,
            body_time: seconds(30),
            header_bytes: 32 << 10,
            header_time: seconds(15),
            messages: 1024,
            choices: 128,
            stop_bytes: 256,
            request_time: seconds(600),
            stall_time: seconds(30),
            pieces: 1 << 14,
            connections: 512,
            health_time: seconds(10),
            comment_time: seconds(15),
            drain_time: seconds(30),
        }
    }
}
