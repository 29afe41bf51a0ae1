//! Splitting whole points (or minor units) by weight: largest remainder, ties to the first named.

use crate::money::OutOfRange;

/// Splits `total` in proportion to `weights`, one share per weight, in order; the shares sum to
/// `total`.
///
/// Each share is first rounded down; what is left goes, one each, to the largest remainders, ties
/// to the first named. Source: domain, "Earn", 3. A negative total or a zero sum of weights is out
/// of range.
pub fn largest_remainder(total: i64, weights: &[u64]) -> Result<Vec<i64>, OutOfRange> {
    let whole = u128::try_from(total).map_err(|_| OutOfRange)?;
    let sum: u128 = weights.iter().map(|&w| u128::from(w)).sum();
    if sum == 0 {
        return Err(OutOfRange);
    }
    let mut shares = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    let mut left = whole;
    for (place, &weight) in weights.iter().enumerate() {
        let product = whole.checked_mul(u128::from(weight)).ok_or(OutOfRange)?;
        let share = product.checked_div(sum).ok_or(OutOfRange)?;
        let remainder = product.checked_rem(sum).ok_or(OutOfRange)?;
        left = left.checked_sub(share).ok_or(OutOfRange)?;
        shares.push(i64::try_from(share).map_err(|_| OutOfRange)?);
        remainders.push((remainder, place));
    }
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for &(_, place) in remainders
        .iter()
        .take(usize::try_from(left).map_err(|_| OutOfRange)?)
    {
        if let Some(share) = shares.get_mut(place) {
            *share = share.checked_add(1).ok_or(OutOfRange)?;
        }
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_published_examples_come_out() {
        assert_eq!(largest_remainder(99, &[1; 5]), Ok(vec![20, 20, 20, 20, 19]));
        assert_eq!(largest_remainder(1_680, &[60, 40]), Ok(vec![1_008, 672]));
        assert_eq!(largest_remainder(1, &[50, 50]), Ok(vec![1, 0]));
        assert_eq!(largest_remainder(7, &[1; 3]), Ok(vec![3, 2, 2]));
        assert_eq!(largest_remainder(7, &[]), Err(OutOfRange));
        assert_eq!(largest_remainder(-1, &[1]), Err(OutOfRange));
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_total_and_lie_within_one_of_the_exact_quota(
            total in 0..=i64::MAX,
            weights in prop::collection::vec(1..=1_000_000_u64, 1..16),
        ) {
            let shares = largest_remainder(total, &weights).expect("in range");
            prop_assert_eq!(shares.iter().map(|&s| i128::from(s)).sum::<i128>(), i128::from(total));
            let sum: i128 = weights.iter().map(|&w| i128::from(w)).sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let exact = i128::from(total) * i128::from(*weight);
                prop_assert!((i128::from(*share) * sum - exact).abs() < sum);
            }
        }
    }
}
