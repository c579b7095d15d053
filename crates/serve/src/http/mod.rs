//! Connections: accepted up to a limit, given little time for headers, closed when they stall.

mod patient;

use crate::app::{self, App};
use crate::error::ApiError;
use crate::limits::Limits;
use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use patient::Patient;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Pause after the system refused a connection, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stopped`, then finishes those that had begun.
pub(crate) async fn run(
    listener: std::net::TcpListener,
    app: Arc<App>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let limits = app.limits().clone();
    let router = app::router(Arc::clone(&app));
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = {
            let stop = pin!(stopped.wait_for(|stopped| *stopped));
            match select(pin!(listener.accept()), stop).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => break,
            }
        };
        match (accepted, Arc::clone(&connections).try_acquire_owned()) {
            (Err(_), _) => sleep(PAUSE).await,
            (Ok((socket, _)), Ok(permit)) => {
                converse(socket, permit, &router, &limits, &graceful);
            }
            (Ok((socket, _)), Err(_)) => drop(tokio::spawn(turn_away(socket))),
        }
    }
    drop(listener);
    let _ = timeout(limits.drain_time, graceful.shutdown()).await;
    Ok(())
}

/// Starts the conversation on a connection.
fn converse(
    socket: TcpStream,
    permit: OwnedSemaphorePermit,
    router: &Router,
    limits: &Limits,
    graceful: &GracefulShutdown,
) {
    // Pieces of a text are small, and each is to arrive at once.
    let _ = socket.set_nodelay(true);
    let socket = TokioIo::new(Patient::new(socket, limits.stall_time));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_header_size(limits.header_bytes)
        .serve_connection(socket, TowerToHyperService::new(router.clone()));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // A client that breaks off is no fault of ours.
        let _ = connection.await;
        drop(permit);
    });
}

/// Answers 503 to a connection too many.
async fn turn_away(socket: TcpStream) {
    let error = ApiError::unavailable("too many connections: try again later");
    let body = error.body().to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: \
         {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len(),
    );
    // The answer is short: the system takes it whole.
    if timeout(PAUSE, socket.writable()).await.is_ok() {
        let _ = socket.try_write(answer.as_bytes());
    }
    let mut socket = socket;
    let end = std::future::poll_fn(|context| pin!(&mut socket).poll_shutdown(context));
    let _ = timeout(PAUSE, end).await;
}
