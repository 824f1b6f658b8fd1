//! What a device calibrates itself on before it knows its model: models with every layer kind.

use super::builtin::builtin;
use super::spec::ModelSpec;

/// The kinds that LeNet-5 and VGG-5 lack, at two sizes each.
const OTHER_KINDS: &str = r#"
    input = [3, 32, 32]
    classes = 10
    layer = [
        { kind = "conv2d", out = 16, kernel = 3, padding = 1 },
        { kind = "batch-norm2d" },
        { kind = "relu6" },
        { kind = "group-norm", groups = 4 },
        { kind = "gelu" },
        { kind = "local-response-norm" },
        { kind = "dropout" },
        { kind = "avg-pool2d", kernel = 2 },
        { kind = "residual", out = 16 },
        { kind = "inverted-residual", out = 24, expansion = 4 },
        { kind = "batch-norm2d" },
        { kind = "relu6" },
        { kind = "group-norm", groups = 4 },
        { kind = "gelu" },
        { kind = "local-response-norm" },
        { kind = "dropout" },
        { kind = "residual", out = 32, stride = 2 },
        { kind = "inverted-residual", out = 32 },
        { kind = "avg-pool2d", kernel = 2 },
        { kind = "global-avg-pool" },
        { kind = "flatten" },
        { kind = "linear", out = "classes" },
    ]
"#;

/// Each model with the batch sizes to time it at: together they have every layer kind.
///
/// # Panics
/// Never: the models fit together.
pub fn models() -> [(ModelSpec, [usize; 2]); 3] {
    let known = "a model of this program's own fits together";
    [
        (builtin("lenet5", [1, 28, 28], 10).expect(known), [16, 64]),
        (builtin("vgg5", [3, 32, 32], 10).expect(known), [4, 16]),
        (ModelSpec::from_toml(OTHER_KINDS, "calibration", None).expect(known), [4, 16]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::LayerKind;

    #[test]
    fn every_kind_is_timed() {
        let models = models();
        let timed: BTreeSet<LayerKind> =
            models.iter().flat_map(|(spec, _)| spec.layers.iter().map(|layer| layer.op.kind())).collect();
        assert_eq!(timed, BTreeSet::from(LayerKind::ALL));
    }
}
