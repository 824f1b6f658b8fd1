//! Two ends of a connection, each with a thread and an event loop of its own, as two processes have them.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use partway_net::{
    Authority, Connection, EmulatedLink, LinkProfile, Listener, TransportOptions, TrustedAuthority, connect,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};

pub(super) type Broken = Box<dyn Error + Send + Sync>;

const NAME: &str = "coordinator";

/// What a measurement took, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// On the clock.
    pub(super) clock_s: f64,
    /// Of all threads of this process: of both ends.
    pub(super) cpu_s: f64,
}

/// Reads both clocks.
pub(super) struct Meter {
    begun: Instant,
    cpu: Duration,
}

impl Meter {
    /// Starts to measure.
    pub(super) fn start() -> Result<Self, Broken> {
        Ok(Self { begun: Instant::now(), cpu: cpu_time()? })
    }

    /// What was used since then.
    pub(super) fn used(&self) -> Result<Used, Broken> {
        let clock_s = self.begun.elapsed().as_secs_f64();
        Ok(Used { clock_s, cpu_s: cpu_time()?.saturating_sub(self.cpu).as_secs_f64() })
    }
}

fn cpu_time() -> Result<Duration, Broken> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}

fn event_loop() -> Result<Runtime, Broken> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Connects a client to a server, over an emulated link if one is given, and runs `serve` at one end and `ask` at the
/// other; returns what `ask` found.
pub(super) fn meet<S, C, R>(
    link: Option<&LinkProfile>,
    serve: impl FnOnce(Connection) -> S + Send + 'static,
    ask: impl FnOnce(Connection) -> C,
) -> Result<R, Broken>
where
    S: Future<Output = Result<(), Broken>>,
    C: Future<Output = Result<R, Broken>>,
{
    let authority = Authority::generate()?;
    let identity = authority.issue(&[NAME.to_owned()])?;
    let trusted = TrustedAuthority::from_pem(&authority.to_pem(), "ca.pem")?;
    let options = TransportOptions::default();
    let (listening, address) = std::sync::mpsc::channel::<SocketAddr>();
    let server_options = options.clone();
    let server: JoinHandle<Result<(), Broken>> = std::thread::spawn(move || {
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
