use super::*;

fn shape_after(op: &LayerOp, input: &[usize]) -> Result<Vec<usize>, String> {
    after(op, input).map_err(|problem| problem.words(input))
}

#[test]
fn padded_pools_keep_the_windows_that_start_in_the_padding() {
    let max = |kernel, stride, padding| LayerOp::MaxPool2d { kernel, stride, padding };
    let average = |kernel, stride, padding| LayerOp::AvgPool2d { kernel, stride, padding };
    // The stem of ResNet at 224 pixels.
    assert_eq!(shape_after(&max(3, 2, 1), &[64, 112, 112]), Ok(vec![64, 56, 56]));
    assert_eq!(shape_after(&max(3, 2, 0), &[64, 112, 112]), Ok(vec![64, 55, 55]));
    assert_eq!(shape_after(&average(3, 1, 1), &[2, 5, 6]), Ok(vec![2, 5, 6]));
    assert_eq!(
        shape_after(&max(3, 2, 2), &[1, 9, 9]),
        Err("padding = 2 must be at most half of kernel = 3".into())
    );
    assert_eq!(
        shape_after(&max(5, 1, 1), &[1, 2, 9]),
        Err("it expects [1, height, width] of at least 5 with padding 1, but its input is [1, 2, 9]".into())
    );
}

#[test]
fn norms_and_activations_keep_the_shape() {
    let norm = |groups| LayerOp::GroupNorm { channels: 6, groups };
    assert_eq!(shape_after(&norm(3), &[6, 2, 2]), Ok(vec![6, 2, 2]));
    assert_eq!(shape_after(&norm(4), &[6, 2, 2]), Err("groups = 4 must divide channels = 6".into()));
    assert_eq!(shape_after(&norm(0), &[6, 2, 2]), Err("groups must be at least 1".into()));
    assert!(shape_after(&norm(3), &[5, 2, 2]).is_err() && shape_after(&norm(3), &[6]).is_err());
    for op in [LayerOp::Relu6, LayerOp::Gelu] {
        assert_eq!(shape_after(&op, &[3, 4, 5]), Ok(vec![3, 4, 5]));
        assert_eq!(shape_after(&op, &[7]), Ok(vec![7]));
    }
}

#[test]
fn local_response_norm_takes_sound_numbers_only() {
    let norm = |size, alpha, beta, k| LayerOp::LocalResponseNorm { size, alpha, beta, k };
    assert_eq!(shape_after(&norm(5, 1e-4, 0.75, 1.0), &[3, 4, 5]), Ok(vec![3, 4, 5]));
    assert!(shape_after(&norm(1, 0.0, 0.0, 1.0), &[3, 4, 5]).is_ok());
    assert!(shape_after(&norm(5, 1e-4, 0.75, 1.0), &[3]).is_err());
    for (size, alpha, beta, k) in [
        (4, 1e-4, 0.75, 1.0),
        (0, 1e-4, 0.75, 1.0),
        (5, -1.0, 0.75, 1.0),
        (5, 1e-4, f32::NAN, 1.0),
        (5, 1e-4, 0.75, 0.0),
        (5, f32::INFINITY, 0.75, 1.0),
    ] {
        let problem = shape_after(&norm(size, alpha, beta, k), &[3, 4, 5]).expect_err("not sound");
        assert!(problem.starts_with(&format!("size = {size} must be odd")), "{problem}");
    }
}

#[test]
fn inverted_residual_blocks_halve_by_their_stride() {
    let block =
        |stride, expansion| LayerOp::InvertedResidual { in_channels: 8, out_channels: 12, stride, expansion };
    assert_eq!(shape_after(&block(1, 6), &[8, 7, 9]), Ok(vec![12, 7, 9]));
    assert_eq!(shape_after(&block(2, 1), &[8, 7, 9]), Ok(vec![12, 4, 5]));
    assert_eq!(shape_after(&block(1, 0), &[8, 7, 9]), Err("expansion must be at least 1".into()));
    let absurd = shape_after(&block(1, usize::MAX), &[8, 7, 9]).expect_err("it overflows");
    assert!(absurd.contains("elements inside"), "{absurd}");
}
