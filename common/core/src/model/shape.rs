//! Shape inference: what each layer makes of one sample.

use thiserror::Error;

use super::spec::{LayerOp, ModelSpec};

/// A spec that no model can be built from.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ShapeError {
    /// A layer does not accept what reaches it.
    #[error(
        "model `{model}`, layer {index} ({kind} `{name}`): expects {expected}, but its input is {actual:?}"
    )]
    Mismatch {
        /// The model's name.
        model: String,
        /// The layer's index.
        index: usize,
        /// The layer's kind.
        kind: &'static str,
        /// The layer's name.
        name: String,
        /// What would fit, in words.
        expected: String,
        /// The shape of one sample that reaches it.
        actual: Vec<usize>,
    },
    /// A layer's own numbers make no sense.
    #[error("model `{model}`, layer {index} ({kind} `{name}`): {problem}")]
    Invalid {
        /// The model's name.
        model: String,
        /// The layer's index.
        index: usize,
        /// The layer's kind.
        kind: &'static str,
        /// The layer's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The last layer does not produce one logit per class.
    #[error("model `{model}`: the last layer's output is {actual:?}, but {classes} classes need [{classes}]")]
    Output {
        /// The model's name.
        model: String,
        /// Classes asked for.
        classes: usize,
        /// What the last layer produces.
        actual: Vec<usize>,
    },
    /// Nothing to train, or nothing to train on.
    #[error("model `{model}`: {problem}")]
    Empty {
        /// The model's name.
        model: String,
        /// What is missing.
        problem: &'static str,
    },
}

/// Largest number of elements of one sample at any layer: far above any real model, far below overflow.
const MAX_ELEMENTS: usize = 1 << 28;

/// Side of the output of a window of `kernel` moved by `stride` over `side + 2 * padding`, or `None`
/// if it does not fit once.
fn window(side: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    let padded = side.checked_add(padding.checked_mul(2)?)?;
    Some(padded.checked_sub(kernel)? / stride + 1)
}

/// Why a layer cannot follow what reaches it.
pub(crate) enum Problem {
    /// What would fit instead.
    Expected(String),
    /// What is wrong with its own numbers.
    Invalid(String),
}

impl Problem {
    /// In words, where `input` reaches the layer.
    pub(crate) fn words(&self, input: &[usize]) -> String {
        match self {
            Self::Expected(expected) => format!("it expects {expected}, but its input is {input:?}"),
            Self::Invalid(problem) => problem.clone(),
        }
    }
}

/// Shape of one sample after `op`.
pub(crate) fn after(op: &LayerOp, input: &[usize]) -> Result<Vec<usize>, Problem> {
    if let Some(problem) = own_problem(op) {
        return Err(Problem::Invalid(problem));
    }
    let shape = output(op, input)?;
    if elements(&shape).is_none_or(|n| n > MAX_ELEMENTS) {
        let problem = format!("its output {shape:?} has more than {MAX_ELEMENTS} elements per sample");
        return Err(Problem::Invalid(problem));
    }
    Ok(shape)
}

/// Shape of one sample after `op`, whose own numbers make sense.
fn output(op: &LayerOp, input: &[usize]) -> Result<Vec<usize>, Problem> {
    let plane = |channels: Option<usize>| match *input {
        [c, h, w] if channels.is_none_or(|n| n == c) => Ok([c, h, w]),
        _ => Err(Problem::Expected(match channels {
            Some(n) => format!("[{n}, height, width]"),
            None => "[channels, height, width]".into(),
        })),
    };
    let slide = |[c, h, w]: [usize; 3], kernel: usize, stride: usize, padding: usize| {
        let fits = |side| {
            window(side, kernel, stride, padding).ok_or_else(|| {
                Problem::Expected(format!("[{c}, height, width] of at least {kernel} with padding {padding}"))
            })
        };
        Ok([fits(h)?, fits(w)?])
    };
    Ok(match *op {
        LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups, .. } => {
            let [h, w] = slide(plane(Some(in_channels))?, kernel, stride, padding)?;
            if in_channels % groups != 0 || out_channels % groups != 0 {
                return Err(Problem::Invalid(format!(
                    "groups = {groups} must divide in_channels = {in_channels} and out_channels = {out_channels}"
                )));
            }
            vec![out_channels, h, w]
        }
        LayerOp::BatchNorm2d { channels } => plane(Some(channels))?.to_vec(),
        LayerOp::GroupNorm { channels, groups } => {
            let shape = plane(Some(channels))?;
            if channels % groups != 0 {
                return Err(Problem::Invalid(format!("groups = {groups} must divide channels = {channels}")));
            }
            shape.to_vec()
        }
        LayerOp::LocalResponseNorm { .. } => plane(None)?.to_vec(),
        LayerOp::Linear { inputs, outputs, .. } => match *input {
            [n] if n == inputs => vec![outputs],
            _ => return Err(Problem::Expected(format!("[{inputs}]"))),
        },
        LayerOp::Relu | LayerOp::Relu6 | LayerOp::Gelu | LayerOp::Dropout { .. } => input.to_vec(),
        LayerOp::MaxPool2d { kernel, stride, padding } | LayerOp::AvgPool2d { kernel, stride, padding } => {
            let [c, h, w] = plane(None)?;
            let [h, w] = slide([c, h, w], kernel, stride, padding)?;
            vec![c, h, w]
        }
        LayerOp::GlobalAvgPool => vec![plane(None)?[0], 1, 1],
        LayerOp::Flatten => vec![plane(None)?.iter().product()],
        LayerOp::Residual { in_channels, out_channels, stride } => {
            let [h, w] = slide(plane(Some(in_channels))?, 3, stride, 1)?;
            vec![out_channels, h, w]
        }
        LayerOp::InvertedResidual { in_channels, out_channels, stride, expansion } => {
            let [c, h, w] = plane(Some(in_channels))?;
            let inside = [expansion, c, h, w];
            if elements(&inside).is_none_or(|n| n > MAX_ELEMENTS) {
                return Err(Problem::Invalid(format!(
                    "with expansion = {expansion} it has more than {MAX_ELEMENTS} elements inside per sample"
                )));
            }
            let [h, w] = slide([c, h, w], 3, stride, 1)?;
            vec![out_channels, h, w]
        }
    })
}

/// How many elements a shape has, unless that overflows.
fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side))
}

/// What is wrong with the layer's own numbers, whatever its input.
fn own_problem(op: &LayerOp) -> Option<String> {
    let zero = |fields: &[(&str, usize)]| {
        fields.iter().find(|(_, value)| *value == 0).map(|(field, _)| format!("{field} must be at least 1"))
    };
    match *op {
        LayerOp::Conv2d { in_channels, out_channels, kernel, stride, groups, .. } => zero(&[
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("kernel", kernel),
            ("stride", stride),
            ("groups", groups),
        ]),
        LayerOp::BatchNorm2d { channels } => zero(&[("channels", channels)]),
        LayerOp::GroupNorm { channels, groups } => zero(&[("channels", channels), ("groups", groups)]),
        LayerOp::LocalResponseNorm { size, alpha, beta, k } => {
            let positive = |value: f32| value > 0.0 && value.is_finite();
            let fits =
                size % 2 == 1 && [alpha, beta].iter().all(|x| *x == 0.0 || positive(*x)) && positive(k);
            (!fits).then(|| {
                format!(
                    "size = {size} must be odd, alpha = {alpha} and beta = {beta} at least 0, k = {k} above 0"
                )
            })
        }
        LayerOp::Linear { inputs, outputs, .. } => zero(&[("inputs", inputs), ("outputs", outputs)]),
        LayerOp::MaxPool2d { kernel, stride, padding } | LayerOp::AvgPool2d { kernel, stride, padding } => {
            zero(&[("kernel", kernel), ("stride", stride)]).or_else(|| {
                // Beyond that a window could lie in the padding altogether.
                (padding > kernel / 2)
                    .then(|| format!("padding = {padding} must be at most half of kernel = {kernel}"))
            })
        }
        LayerOp::Residual { in_channels, out_channels, stride } => {
            zero(&[("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)])
        }
        LayerOp::InvertedResidual { in_channels, out_channels, stride, expansion } => zero(&[
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("stride", stride),
            ("expansion", expansion),
        ]),
        LayerOp::Dropout { p } if !(0.0..1.0).contains(&p) => {
            Some(format!("p = {p} must be at least 0 and below 1"))
        }
        LayerOp::Dropout { .. }
        | LayerOp::Relu
        | LayerOp::Relu6
        | LayerOp::Gelu
        | LayerOp::GlobalAvgPool
        | LayerOp::Flatten => None,
    }
}

/// Shapes of one sample before the first layer and after each.
pub(super) fn infer(spec: &ModelSpec) -> Result<Vec<Vec<usize>>, ShapeError> {
    let empty = |problem| ShapeError::Empty { model: spec.name.clone(), problem };
    if spec.layers.is_empty() {
        return Err(empty("it has no layers"));
    }
    if spec.classes == 0 {
        return Err(empty("it has no classes"));
    }
    if spec.input.contains(&0) {
        return Err(empty("its input has a side of 0"));
    }
    let mut shapes = vec![spec.input.to_vec()];
    for (index, layer) in spec.layers.iter().enumerate() {
        let kind = layer.op.kind().name();
        let invalid = |problem| ShapeError::Invalid {
            model: spec.name.clone(),
            index,
            kind,
            name: layer.name.clone(),
            problem,
        };
        let input = &shapes[index];
        let shape = after(&layer.op, input).map_err(|problem| match problem {
            Problem::Invalid(problem) => invalid(problem),
            Problem::Expected(expected) => ShapeError::Mismatch {
                model: spec.name.clone(),
                index,
                kind,
                name: layer.name.clone(),
                expected,
                actual: input.clone(),
            },
        })?;
        shapes.push(shape);
    }
    match shapes.last() {
        Some(last) if **last == [spec.classes] => Ok(shapes),
        last => Err(ShapeError::Output {
            model: spec.name.clone(),
            classes: spec.classes,
            actual: last.cloned().unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests;
