//! Partway's transport: QUIC endpoints, framed streams, pacing and emulated links.
