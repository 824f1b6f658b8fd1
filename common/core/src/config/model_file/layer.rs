//! One layer of a model file: its keys by kind.

use toml::{Table, Value};

use crate::config::{
    number::{NonNegativeF64, PositiveF64, Probability, Whole},
    reader::Reader,
    setting::{Faults, Name, Plain, not_allowed},
};
use crate::model::{LayerKind, LayerOp, LayerSpec};

/// Kernel, stride, padding, expansion.
type Small<const MIN: usize> = Whole<MIN, 1024>;
/// Channels, features, groups.
type Width = Whole<1, 16_777_216>;

impl Plain for LayerKind {
    fn allowed() -> String {
        Self::ALL.map(|kind| format!("{:?}", kind.name())).join(", ")
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }

    fn to_value(&self) -> Value {
        self.name().into()
    }
}

/// `out`: a number, or as many as there are classes.
#[derive(Clone, Copy, Debug)]
enum Out {
    Width(Width),
    Classes,
}

impl Plain for Out {
    fn allowed() -> String {
        format!("{}, or \"classes\"", Width::allowed())
    }

    fn parse(value: &Value) -> Option<Self> {
        if value.as_str() == Some("classes") {
            return Some(Self::Classes);
        }
        Width::parse(value).map(Self::Width)
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Width(width) => width.to_value(),
            Self::Classes => "classes".into(),
        }
    }
}

/// Reads one layer, for an input of the shape `reaching`, if that is known, in a model of so many
/// classes.
pub(super) fn read(
    value: &Value,
    at: &str,
    reaching: Option<&[usize]>,
    classes: usize,
    faults: &mut Faults,
) -> Option<LayerOp> {
    let mut reader = Reader::of(value, at, faults)?;
    // The caller has the name; here it only has to be one.
    reader.field::<Option<Name>>("name", None);
    let kind = reader.field::<LayerKind>("kind", None)?;
    if let (LayerKind::Linear, Some([_, _, _])) = (kind, reaching) {
        let allowed = "a kind that takes maps; `linear` takes a flat vector, which `flatten` makes of them";
        reader.fault("kind", not_allowed(&kind.to_value(), allowed));
    }
    let width = reaching.map_or(1, |shape| shape[0]);
    let op = read_kind(&mut reader, kind, width, classes);
    reader.finish();
    op
}

/// The keys of a layer of this kind that takes `width` channels or features.
fn read_kind(reader: &mut Reader<'_>, kind: LayerKind, width: usize, classes: usize) -> Option<LayerOp> {
    match kind {
        LayerKind::Conv2d => read_conv(reader, width, classes),
        LayerKind::BatchNorm2d => Some(LayerOp::BatchNorm2d { channels: width }),
        LayerKind::GroupNorm => {
            let groups = reader.field::<Width>("groups", None)?;
            Some(LayerOp::GroupNorm { channels: width, groups: groups.get() })
        }
        LayerKind::LocalResponseNorm => read_local_response_norm(reader),
        LayerKind::Linear => {
            let (out, bias) = (read_out(reader, classes), reader.field("bias", Some(true)));
            Some(LayerOp::Linear { inputs: width, outputs: out?, bias: bias? })
        }
        LayerKind::Relu => Some(LayerOp::Relu),
        LayerKind::Relu6 => Some(LayerOp::Relu6),
        LayerKind::Gelu => Some(LayerOp::Gelu),
        LayerKind::MaxPool2d => {
            let [kernel, stride, padding] = read_window(reader)?;
            Some(LayerOp::MaxPool2d { kernel, stride, padding })
        }
        LayerKind::AvgPool2d => {
            let [kernel, stride, padding] = read_window(reader)?;
            Some(LayerOp::AvgPool2d { kernel, stride, padding })
        }
        LayerKind::GlobalAvgPool => Some(LayerOp::GlobalAvgPool),
        LayerKind::Flatten => Some(LayerOp::Flatten),
        LayerKind::Dropout => {
            let p = reader.field("p", Probability::new(0.5))?;
            Some(LayerOp::Dropout { p: p.get() as f32 })
        }
        LayerKind::Residual => {
            let (out, stride) = (read_out(reader, classes), reader.field("stride", Small::<1>::new(1)));
            Some(LayerOp::Residual { in_channels: width, out_channels: out?, stride: stride?.get() })
        }
        LayerKind::InvertedResidual => {
            let (out, stride) = (read_out(reader, classes), reader.field("stride", Small::<1>::new(1)));
            let expansion = reader.field("expansion", Small::<1>::new(6));
            let (out_channels, stride, expansion) = (out?, stride?.get(), expansion?.get());
            Some(LayerOp::InvertedResidual { in_channels: width, out_channels, stride, expansion })
        }
    }
}

fn read_conv(reader: &mut Reader<'_>, in_channels: usize, classes: usize) -> Option<LayerOp> {
    let out = read_out(reader, classes);
    let kernel = reader.field::<Small<1>>("kernel", None);
    let stride = reader.field("stride", Small::<1>::new(1));
    let padding = reader.field("padding", Small::<0>::new(0));
    let groups = reader.field("groups", Width::new(1));
    let bias = reader.field("bias", Some(true));
    Some(LayerOp::Conv2d {
        in_channels,
        out_channels: out?,
        kernel: kernel?.get(),
        stride: stride?.get(),
        padding: padding?.get(),
        groups: groups?.get(),
        bias: bias?,
    })
}

fn read_local_response_norm(reader: &mut Reader<'_>) -> Option<LayerOp> {
    let size = reader.field("size", Small::<1>::new(5));
    let alpha = reader.field("alpha", NonNegativeF64::new(1e-4));
    let beta = reader.field("beta", NonNegativeF64::new(0.75));
    let k = reader.field("k", PositiveF64::new(1.0));
    Some(LayerOp::LocalResponseNorm {
        size: size?.get(),
        alpha: alpha?.get() as f32,
        beta: beta?.get() as f32,
        k: k?.get() as f32,
    })
}

fn read_out(reader: &mut Reader<'_>, classes: usize) -> Option<usize> {
    match reader.field::<Out>("out", None)? {
        Out::Width(width) => Some(width.get()),
        Out::Classes => Some(classes),
    }
}

/// Kernel, stride and padding of a pool; without a stride its windows adjoin.
fn read_window(reader: &mut Reader<'_>) -> Option<[usize; 3]> {
    let kernel = reader.field::<Small<1>>("kernel", None);
    let stride = reader.field("stride", kernel.or(Small::new(1)));
    let padding = reader.field("padding", Small::<0>::new(0));
    Some([kernel?.get(), stride?.get(), padding?.get()])
}

/// The layer as [`read`] takes it, every key written out.
pub(super) fn write(layer: &LayerSpec) -> Table {
    let number = |value: usize| (value as u64).to_value();
    let mut table = Table::new();
    let mut put = |keys: &[(&str, Value)]| {
        table.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    };
    put(&[("name", layer.name.clone().into()), ("kind", layer.op.kind().to_value())]);
    match layer.op {
        LayerOp::Conv2d { out_channels, kernel, stride, padding, groups, bias, in_channels: _ } => put(&[
            ("out", number(out_channels)),
            ("kernel", number(kernel)),
            ("stride", number(stride)),
            ("padding", number(padding)),
            ("groups", number(groups)),
            ("bias", bias.into()),
        ]),
        LayerOp::GroupNorm { groups, channels: _ } => put(&[("groups", number(groups))]),
        LayerOp::LocalResponseNorm { size, alpha, beta, k } => put(&[
            ("size", number(size)),
            ("alpha", decimal(alpha)),
            ("beta", decimal(beta)),
            ("k", decimal(k)),
        ]),
        LayerOp::Linear { outputs, bias, inputs: _ } => {
            put(&[("out", number(outputs)), ("bias", bias.into())]);
        }
        LayerOp::MaxPool2d { kernel, stride, padding } | LayerOp::AvgPool2d { kernel, stride, padding } => {
            put(&[("kernel", number(kernel)), ("stride", number(stride)), ("padding", number(padding))]);
        }
        LayerOp::Dropout { p } => put(&[("p", decimal(p))]),
        LayerOp::Residual { out_channels, stride, in_channels: _ } => {
            put(&[("out", number(out_channels)), ("stride", number(stride))]);
        }
        LayerOp::InvertedResidual { out_channels, stride, expansion, in_channels: _ } => put(&[
            ("out", number(out_channels)),
            ("stride", number(stride)),
            ("expansion", number(expansion)),
        ]),
        LayerOp::BatchNorm2d { .. }
        | LayerOp::Relu
        | LayerOp::Relu6
        | LayerOp::Gelu
        | LayerOp::GlobalAvgPool
        | LayerOp::Flatten => {}
    }
    table
}

/// The shortest number that reads back as this one: 0.3, not 0.30000001192092896.
fn decimal(value: f32) -> Value {
    value.to_string().parse().unwrap_or(f64::from(value)).into()
}
