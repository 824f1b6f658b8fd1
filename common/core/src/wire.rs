//! What crosses the wire: control messages ([`message`]) and tensors ([`header`], [`tensor`]), a step's
//! ([`batch`]) and states ([`state`]) among them.

pub mod batch;
pub mod header;
pub mod message;
pub mod state;
pub mod tensor;

pub use batch::{Activations, decode_activations, decode_gradient, encode_activations, encode_gradient};
pub use header::{HEADER_BYTES, TensorHeader, TensorKind};
pub use message::{
    Assignment, CloudMessage, EdgeMessage, MAX_MESSAGE_BYTES, MessageError, PROTOCOL_VERSION, ResumePoint,
    RoundPlan, Score, StartFrom, StepReport, TrainingRequest,
};
pub use state::{StateTensorError, decode_state, encode_model, encode_state};
pub(crate) use tensor::WeakBody;
pub use tensor::{Body, TensorError, TensorMessage};
