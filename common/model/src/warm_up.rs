//! The first steps of a process, which take several times as long as those behind them: memory is touched for the
//! first time, the program's code is read, and a graphics processor compiles its kernels.

use crate::step::Pending;
use crate::{Half, StepContext, StepError};

/// The second pass allocates beside what the first one left.
const PASSES: usize = 2;

impl Half {
    /// Takes that time now: passes forward and backward over as many zeros as the step has values, and keeps nothing
    /// of them.
    ///
    /// # Errors
    /// If the step itself would be refused.
    pub fn warm_up(&self, step: &StepContext) -> Result<(), StepError> {
        let zeros = |shape: &[usize]| vec![0.0; step.samples() * shape.iter().product::<usize>()];
        for _ in 0..PASSES {
            let (Pending { tape, .. }, _) = self.forward(zeros(self.input_shape()), step)?;
            let Some(tape) = tape else { continue };
            let gradient = zeros(self.output_shape());
            self.compute.run(|| drop(tape.output.backward(gradient, self.compute.kernels())));
        }
        Ok(())
    }
}
