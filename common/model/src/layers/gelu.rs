//! Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv 1606.08415).

use std::f64::consts::SQRT_2;

use burn::tensor::Tensor;

/// `x / 2 * (1 + erf(x / sqrt 2))`.
///
/// burn's own has the gradient of the approximation with tanh, which is off by up to a thousandth.
pub(super) fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    let twice_probability = input.clone().div_scalar(SQRT_2).erf().add_scalar(1.0);
    input.mul_scalar(0.5) * twice_probability
}
