//! What crosses the wire: control messages ([`message`]) and tensors ([`tensor`]), states among them
//! ([`state`]).

pub mod message;
pub mod state;
pub mod tensor;

pub use message::{
    Assignment, CloudMessage, EdgeMessage, MAX_MESSAGE_BYTES, MessageError, PROTOCOL_VERSION, ResumePoint,
    RoundPlan, Score, StartFrom, StepReport, TrainingRequest,
};
pub use state::{StateTensorError, decode_state, encode_model, encode_state};
pub use tensor::{Body, HEADER_BYTES, TensorError, TensorHeader, TensorKind, TensorMessage};
