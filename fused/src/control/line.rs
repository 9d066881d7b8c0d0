//! Saying something on a control connection: one JSON object a line.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

use super::protocol::Reply;

/// Sends one line.
pub(super) async fn say(writer: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// Sends what went wrong.
pub(super) async fn say_error(
    writer: &mut OwnedWriteHalf,
    message: impl std::fmt::Display,
) -> io::Result<()> {
    let message = message.to_string();
    say(writer, &Reply::Error { message }).await
}
