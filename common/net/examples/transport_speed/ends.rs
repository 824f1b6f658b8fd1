//! Two ends of a connection, each with a thread and an event loop of its own, as two processes have them.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use partway_net::{
    Authority, Connection, EmulatedLink, LinkProfile, Listener, TransportOptions, TrustedAuthority, connect,
};
use tokio::runtime::{Builder, Runtime};

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

const NAME: &str = "coordinator";

fn event_loop() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Connects a client to a server, over an emulated link if one is given, and runs `serve` at one end and `ask` at the
/// other; returns what `ask` found.
pub(crate) fn meet<S, C, R>(
    link: Option<&LinkProfile>,
    serve: impl FnOnce(Connection) -> S + Send + 'static,
    ask: impl FnOnce(Connection) -> C,
) -> Result<R, Failure>
where
    S: Future<Output = Result<(), Failure>>,
    C: Future<Output = Result<R, Failure>>,
{
    let authority = Authority::generate()?;
    let identity = authority.issue(&[NAME.to_owned()])?;
    let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem")?;
    let options = TransportOptions::default();
    let (listening, address) = std::sync::mpsc::channel::<SocketAddr>();
    let server_options = options.clone();
    let server: JoinHandle<Result<(), Failure>> = std::thread::spawn(move || {
        event_loop()?.block_on(async {
            let mut listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), &identity, server_options)?;
            listening.send(listener.local_addr())?;
            let connection = listener.accept().await.ok_or("the listener was closed")??;
            let served = serve(connection).await;
            listener.shutdown(0, "measured").await;
            served
        })
    });
    let found = event_loop()?.block_on(async {
        let address = address.recv()?;
        let link = link.map(EmulatedLink::start).transpose()?;
        let connection = connect(address, NAME, &trusted, &options, link.as_ref()).await?;
        let found = ask(connection.clone()).await;
        connection.shutdown(0, "measured").await;
        found
    })?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(found)
}
