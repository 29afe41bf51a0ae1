//! Whether a series of figures goes up.

/// How much y grows per x, by the straight line that fits best; `None` where there is none.
pub(super) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 points")]
    let count = points.len() as f64;
    let (sum_x, sum_y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let both = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y));
    let alone = points.iter().map(|(x, _)| (x - mean_x).powi(2));
    let (both, alone): (f64, f64) = (both.sum(), alone.sum());
    (alone > 0.0).then(|| both / alone)
}

/// The mean of some figures; 0 where there are none.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_that_fits_best() {
        let line: Vec<(f64, f64)> = (0..10)
            .map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x)))
            .collect();
        assert!((slope(&line).unwrap() - 2.0).abs() < 1e-9);
        // By hand: mean 1, 2; (−1·−1 + 0·2 + 1·−1) / 2 = 0.
        assert!(slope(&[(0.0, 1.0), (1.0, 4.0), (2.0, 1.0)]).unwrap().abs() < 1e-9);
        assert!((slope(&[(0.0, 5.0), (2.0, 4.0), (4.0, 0.0)]).unwrap() + 1.25).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 1.0)]), None);
        assert_eq!(slope(&[]), None);
    }
}
