//! Messages over quinn alone, with the connection's own settings: each on a stream of its own, handed over and taken
//! without a copy, and not looked at. No transport on quinn can be faster.

use std::time::Instant;

use bytes::Bytes;
use partway_net::{Connection, LinkProfile};

use crate::ends::{Failure, meet};

/// Pieces of a message that are taken at a time.
const PIECES: usize = 64;

async fn send(connection: &Connection, message: Bytes) -> Result<(), Failure> {
    let mut stream = connection.quic().open_uni().await?;
    stream.write_chunk(message).await?;
    stream.finish()?;
    Ok(())
}

/// Takes the next message, if there is one; returns its length.
async fn take(connection: &Connection) -> Result<Option<usize>, Failure> {
    let Ok(mut stream) = connection.quic().accept_uni().await else { return Ok(None) };
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    let mut length = 0;
    while let Some(count) = stream.read_chunks(&mut pieces).await? {
        length += pieces[..count].iter().map(Bytes::len).sum::<usize>();
    }
    Ok(Some(length))
}

/// Seconds that each of `steps` round trips of a message of so many bytes takes, after `before` others.
pub(crate) fn round_trips(
    bytes: usize,
    before: usize,
    steps: usize,
    link: Option<&LinkProfile>,
) -> Result<Vec<f64>, Failure> {
    let answer = async move |connection: Connection| {
        let message = Bytes::from(vec![1; bytes]);
        while take(&connection).await?.is_some() {
            send(&connection, message.clone()).await?;
        }
        Ok(())
    };
    meet(link, answer, async |connection| {
        let message = Bytes::from(vec![1; bytes]);
        let mut seconds = Vec::with_capacity(steps);
        for step in 0..before + steps {
            let begun = Instant::now();
            send(&connection, message.clone()).await?;
            take(&connection).await?.ok_or("the connection was lost")?;
            if step >= before {
                seconds.push(begun.elapsed().as_secs_f64());
            }
        }
        Ok(seconds)
    })
}

/// Seconds that `count` messages of so many bytes take one after the other, after as many others.
pub(crate) fn stream(bytes: usize, count: usize, link: Option<&LinkProfile>) -> Result<f64, Failure> {
    let acknowledge = async move |connection: Connection| {
        for _ in 0..2 {
            for _ in 0..count {
                take(&connection).await?.ok_or("the connection was lost")?;
            }
            send(&connection, Bytes::from_static(b"all")).await?;
        }
        take(&connection).await.map(drop)
    };
    meet(link, acknowledge, async |connection| {
        let message = Bytes::from(vec![1; bytes]);
        let mut seconds = 0.0;
        for _ in 0..2 {
            let begun = Instant::now();
            for _ in 0..count {
                send(&connection, message.clone()).await?;
            }
            take(&connection).await?.ok_or("the connection was lost")?;
            seconds = begun.elapsed().as_secs_f64();
        }
        Ok(seconds)
    })
}
