//! Several metrics, each of which may roll back: the chance that any of them does so wrongly stays at α.
//!
//! S. Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979. An e-process
//! enters with 1 ÷ the greatest e it ever had, which is a p-value at every look (V. Vovk, R. Wang: E-values: calibration,
//! combination and applications, Annals of Statistics 49, 2021).

/// Adjusted p-values, in the order of `p`: each may be compared with α itself.
#[must_use]
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<_> = (0..p.len()).collect();
    order.sort_by(|&one, &other| p[one].total_cmp(&p[other]));
    let mut adjusted = vec![1.0; p.len()];
    let mut most = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        most = most.max(p[index] * (p.len() - rank) as f64).min(1.0);
        adjusted[index] = most;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn figures_of_the_table_in_a_textbook() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
        let found = adjusted(&[0.01, 0.04, 0.03, 0.005]);
        for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(adjusted(&[0.2]), [0.2]);
    }

    proptest! {
        #[test]
        fn no_p_value_becomes_less_and_their_order_stays(p in prop::collection::vec(0.0..=1.0_f64, 1..8)) {
            let adjusted = adjusted(&p);
            for (index, &own) in p.iter().enumerate() {
                prop_assert!(adjusted[index] >= own && adjusted[index] <= 1.0);
                for (other, &another) in p.iter().enumerate() {
                    prop_assert!(own > another || adjusted[index] <= adjusted[other]);
                }
            }
        }
    }
}
