//! Partway's transport: QUIC endpoints, framed streams, pacing and emulated links.
//!
//! This crate moves opaque bytes. It knows nothing about steps, rounds, models or messages: those stop
//! above it. What it offers:
//!
//! | module | holds |
//! |---|---|
//! | [`tls`] | the throw-away authority, the server's identity, the authority that a client trusts |
//! | [`endpoint`] | [`Listener`] and [`connect`]: sockets, handshakes and their typed failures |
//! | [`connection`] | [`Connection`]: the control stream, one stream per tensor, counters, closing |
//! | [`data_connection`] | [`DataListener`] and [`connect_data`]: tensors on a connection of their own |
//! | [`aligned`] | [`AlignedBytes`]: received bytes that become `f32`s without a copy |
//! | [`pacing`] | [`Pacer`]: holds a sender to a reserved rate |
//! | [`shaped`] | [`EmulatedLink`]: rate, queue, delay, jitter, loss and outages under QUIC |

pub mod aligned;
pub mod connection;
pub mod data_connection;
pub mod endpoint;
pub mod options;
pub mod pacing;
pub mod peer;
pub mod shaped;
pub mod timer;
pub mod tls;

pub use aligned::AlignedBytes;
pub use connection::{
    CloseReason, Connection, Counters, Priority,
    control::{ControlError, ControlReceiver, ControlSender},
    tensor::{Incoming, Outgoing, SendError, Sent, TensorError, TensorStream},
};
pub use data_connection::{DataListener, PairingKey, Unpaired, connect_data};
pub use endpoint::{
    Listener, connect,
    error::{AcceptError, BindError, ConnectError},
};
pub use options::{OptionsError, TransportOptions};
pub use pacing::{BytesPerSecond, Pacer};
pub use shaped::{
    EmulatedLink,
    link::{DropCause, Fate, Link},
    profile::{LinkProfile, ProfileError},
};
pub use tls::{Authority, ServerIdentity, TlsError, TrustedAuthority};
