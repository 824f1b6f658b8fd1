//! Messages over quinn alone, with the connection's own settings: each on a stream of its own, handed over and taken
//! without a copy, and not looked at. No transport on quinn can be faster.

use bytes::Bytes;
use partway_net::{Connection, LinkProfile};

use super::ends::{Broken, Meter, Used, meet};

/// Pieces of a message that are taken at a time.
const PIECES: usize = 64;

async fn send(connection: &Connection, message: Bytes) -> Result<(), Broken> {
    let mut stream = connection.quic().open_uni().await?;
    stream.write_chunk(message).await?;
    stream.finish()?;
    Ok(())
}

/// Takes the next message, if there is one; returns its length.
async fn take(connection: &Connection) -> Result<Option<usize>, Broken> {
    let Ok(mut stream) = connection.quic().accept_uni().await else { return Ok(None) };
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    let mut length = 0;
    while let Some(count) = stream.read_chunks(&mut pieces).await? {
        length += pieces[..count].iter().map(Bytes::len).sum::<usize>();
    }
    Ok(Some(length))
}

/// What `steps` round trips of a message of so many bytes take, after `before` others.
pub(super) fn round_trips(
    bytes: usize,
    before: usize,
    steps: usize,
    link: Option<&LinkProfile>,
) -> Result<Used, Broken> {
    let answer = async move |connection: Connection| {
        let message = Bytes::from(vec![1; bytes]);
        while take(&connection).await?.is_some() {
            send(&connection, message.clone()).await?;
        }
        Ok(())
    };
    meet(link, answer, async |connection| {
        let message = Bytes::from(vec![1; bytes]);
        let mut meter = Meter::start()?;
        for step in 0..before + steps {
            if step == before {
                meter = Meter::start()?;
            }
            send(&connection, message.clone()).await?;
            take(&connection).await?.ok_or("the connection was lost")?;
        }
        meter.used()
    })
}

/// What `count` messages of so many bytes take one after the other, after as many others.
pub(super) fn stream(bytes: usize, count: usize, link: Option<&LinkProfile>) -> Result<Used, Broken> {
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
        let mut used = Used::default();
        for _ in 0..2 {
            let meter = Meter::start()?;
            for _ in 0..count {
                send(&connection, message.clone()).await?;
            }
            take(&connection).await?.ok_or("the connection was lost")?;
            used = meter.used()?;
        }
        Ok(used)
    })
}
