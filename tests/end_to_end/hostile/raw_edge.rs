//! A peer that writes what it likes: frames are put together by hand, as the wire format documents them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use partway_core::wire::{CloudMessage, EdgeMessage, RoundPlan, TensorHeader, TensorMessage, message};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The protocol of this version.
pub(super) const PROTOCOL: &str = "partway/1";

pub(super) struct RawEdge {
    connection: Connection,
    sender: SendStream,
    receiver: RecvStream,
    /// Lives as long as its connection.
    _endpoint: Endpoint,
}

impl RawEdge {
    /// Connects with TLS and opens the control stream.
    pub(super) async fn connect(
        address: SocketAddr,
        ca: &str,
        protocol: &str,
    ) -> Result<Self, ConnectionError> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(ca.as_bytes()).expect("the coordinator's own");
        roots.add(authority).expect("it is an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("a suite for QUIC");
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
        let connecting = endpoint.connect_with(ClientConfig::new(Arc::new(tls)), address, "localhost");
        let connection = connecting.expect("a proper name").await?;
        let (sender, receiver) = connection.open_bi().await?;
        Ok(Self { connection, sender, receiver, _endpoint: endpoint })
    }

    /// Writes to the control stream as it is.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        // The coordinator may have turned this away already.
        let _ = self.sender.write_all(bytes).await;
    }

    /// Writes a frame of the control stream.
    pub(super) async fn write_frame(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("a short message");
        self.write(&[&length.to_le_bytes(), message].concat()).await;
    }

    pub(super) fn finish_control(&mut self) {
        self.sender.finish().expect("it is open");
    }

    pub(super) async fn say(&mut self, said: &EdgeMessage) {
        self.write_frame(&message::encode(said).expect("a short message")).await;
    }

    /// The next message, or `None` at the stream's end.
    pub(super) async fn hear(&mut self) -> Option<CloudMessage> {
        let mut length = [0; 4];
        self.receiver.read_exact(&mut length).await.ok()?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.receiver.read_exact(&mut bytes).await.ok()?;
        Some(message::decode(&bytes).expect("the coordinator speaks properly"))
    }

    /// Waits for the plan of the next round.
    pub(super) async fn next_round(&mut self) -> RoundPlan {
        loop {
            match self.hear().await {
                Some(CloudMessage::Round(plan)) => return plan,
                Some(CloudMessage::Refused { reason }) => panic!("refused too early: {reason}"),
                Some(_) => {}
                None => panic!("the connection ended too early"),
            }
        }
    }

    /// Why the coordinator turned it away.
    pub(super) async fn refusal(mut self) -> String {
        loop {
            match self.hear().await {
                Some(CloudMessage::Refused { reason }) => return reason,
                Some(_) => {}
                None => return format!("nothing was said: {:?}", self.connection.close_reason()),
            }
        }
    }

    /// A stream of its own with these bytes.
    pub(super) async fn write_stream(&self, bytes: &[u8]) {
        let mut stream = self.connection.open_uni().await.expect("the connection is there");
        // The coordinator may stop it before its end.
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.finish();
        }
        // A stream that is dropped before it is read would be reset.
        let _ = stream.stopped().await;
    }

    /// A tensor stream with a body that need not have the announced length.
    pub(super) async fn write_tensor(&self, header: TensorHeader, announced: u64, body: &[u8]) {
        let header = header.encode();
        let length = u16::try_from(header.len()).expect("32").to_le_bytes();
        self.write_stream(&[b"PW", &length[..], &announced.to_le_bytes(), &header, body].concat()).await;
    }

    /// A tensor as it should be.
    pub(super) async fn send_tensor(&self, tensor: TensorMessage) {
        let body = tensor.body.as_ref();
        self.write_tensor(tensor.header, body.len() as u64, body).await;
    }
}
