//! The greatest distance of two distribution functions, and how often it is as great by chance. Shown, never judged.
//!
//! N. Smirnov: Table for estimating the goodness of fit of empirical distributions, Annals of Mathematical Statistics 19, 1948. The chance is that of
//! one sample of `nm ÷ (n + m)` values (as scipy's `asymp`): exact by the matrix of G. Marsaglia, W. W. Tsang, J. Wang (Evaluating Kolmogorov's
//! distribution, J. Statistical Software 8, 2003); far out by twice the one-sided tail of Z. W. Birnbaum, F. H. Tingey (Annals of Mathematical Statistics 22,
//! 1951), as R. Simard, P. L'Ecuyer recommend (J. Statistical Software 39, 2011); for many values the series of W. Pelz, I. J. Good (JRSS B 38, 1976).

use super::{sample::Sample, special::ln_choose};

/// Values above which the series takes over.
const MANY: u64 = 2_000;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Greatest distance, `0.0..=1.0`.
    pub d: f64,
    /// P of at least that without a difference.
    pub p: f64,
}

/// The distance of two samples; none where one has no values.
#[must_use]
pub fn kolmogorov_smirnov(first: &Sample, second: &Sample) -> Option<Distance> {
    let (n, m) = (first.count(), second.count());
    if n == 0 || m == 0 {
        return None;
    }
    let mut steps: Vec<_> = first.values().iter().map(|(value, count)| (*value, *count as f64 / n as f64)).collect();
    steps.extend(second.values().iter().map(|(value, count)| (*value, -(*count as f64) / m as f64)));
    steps.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut apart, mut d) = (0.0_f64, 0.0_f64);
    for same in steps.chunk_by(|(one, _), (other, _)| one == other) {
        apart += same.iter().map(|(_, step)| step).sum::<f64>();
        d = d.max(apart.abs());
    }
    let d = d.min(1.0);
    let effective = (n as f64 * m as f64 / (n as f64 + m as f64)).round_ties_even().max(1.0);
    Some(Distance { d, p: tail(effective as u64, d) })
}

/// P(D ≥ d) of one sample of `n` values.
#[must_use]
pub fn tail(n: u64, d: f64) -> f64 {
    let size = n as f64;
    if d <= 0.5 / size {
        1.0
    } else if d >= 1.0 {
        0.0
    } else if size * d * d >= 4.0 || d >= 0.5 {
        (2.0 * one_sided(n, d)).min(1.0)
    } else if n <= MANY {
        1.0 - by_matrix(n, d)
    } else {
        1.0 - by_series(size, d)
    }
}

/// P(D⁺ ≥ d).
fn one_sided(n: u64, d: f64) -> f64 {
    let size = n as f64;
    let term = |j: u64| {
        let part = j as f64 / size;
        let rest = 1.0 - d - part;
        let log = ln_choose(n, j) + (j as f64 - 1.0) * (d + part).ln();
        if rest > 0.0 { ((size - j as f64).mul_add(rest.ln(), log)).exp() } else { f64::from(j == n) * log.exp() }
    };
    d * (0..=(size * (1.0 - d)).floor() as u64).map(term).sum::<f64>()
}

/// P(D < d), by a power of a matrix.
fn by_matrix(n: u64, d: f64) -> f64 {
    let size = n as f64;
    let k = (size * d).floor() as usize + 1;
    let (m, h) = (2 * k - 1, k as f64 - size * d);
    let mut matrix = vec![vec![0.0; m]; m];
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            *cell = f64::from(i + 1 >= j);
        }
    }
    for (i, row) in matrix.iter_mut().enumerate() {
        row[0] -= h.powi(i as i32 + 1);
    }
    for (i, cell) in matrix[m - 1].iter_mut().enumerate() {
        *cell -= h.powi((m - i) as i32);
    }
    matrix[m - 1][0] += if 2.0 * h > 1.0 { (2.0 * h - 1.0).powi(m as i32) } else { 0.0 };
    for (i, row) in matrix.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate().take(i + 2) {
            *cell /= (1..=(i + 1 - j)).map(|factor| factor as f64).product::<f64>();
        }
    }
    let (power, exponent) = powered(&matrix, n);
    let mut log = power[k - 1][k - 1].ln() + exponent * std::f64::consts::LN_10;
    log += (1..=n).map(|i| (i as f64 / size).ln()).sum::<f64>();
    log.exp().clamp(0.0, 1.0)
}

/// A matrix to a power, and the power of ten that was taken out of it.
fn powered(matrix: &[Vec<f64>], to: u64) -> (Vec<Vec<f64>>, f64) {
    let size = matrix.len();
    let times = |a: &[Vec<f64>], b: &[Vec<f64>]| {
        let mut product = vec![vec![0.0; size]; size];
        for (row, result) in a.iter().zip(&mut product) {
            for (factor, other) in row.iter().zip(b).filter(|(factor, _)| **factor != 0.0) {
                result.iter_mut().zip(other).for_each(|(sum, cell)| *sum += factor * cell);
            }
        }
        product
    };
    let scaled = |(mut matrix, mut exponent): (Vec<Vec<f64>>, f64)| {
        if matrix[size / 2][size / 2] > 1e140 {
            matrix.iter_mut().flatten().for_each(|cell| *cell *= 1e-140);
            exponent += 140.0;
        }
        (matrix, exponent)
    };
    if to == 1 {
        return (matrix.to_vec(), 0.0);
    }
    let (half, exponent) = powered(matrix, to / 2);
    let square = scaled((times(&half, &half), 2.0 * exponent));
    if to.is_multiple_of(2) { square } else { scaled((times(matrix, &square.0), square.1)) }
}

/// P(D < d) for many values: the first two terms of the series.
fn by_series(size: f64, d: f64) -> f64 {
    let z = size.sqrt() * d;
    let pi = std::f64::consts::PI;
    let odd = |k: i32| pi * (f64::from(k) + 0.5);
    let decay = |k: i32| (-odd(k).powi(2) / (2.0 * z * z)).exp();
    let root = (2.0 * pi).sqrt();
    let first: f64 = root / z * (0..20).map(decay).sum::<f64>();
    let second: f64 = (0..20).map(|k| (odd(k).powi(2) - z * z) * decay(k)).sum::<f64>() * root / (6.0 * z.powi(4));
    (first + second / size.sqrt()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marsaglias_own_examples() {
        // G. Marsaglia, W. W. Tsang, J. Wang, 2003, §2: K(10, 0.274) = 0.6284796154565…
        assert!((by_matrix(10, 0.274) - 0.628_479_615_456_504_3).abs() < 1e-12);
        assert!((by_matrix(2_000, 0.04) - 0.996_769_4).abs() < 1e-6, "{}", by_matrix(2_000, 0.04));
    }

    #[test]
    fn the_three_ways_agree_where_they_meet() {
        for n in [20, 100, 500] {
            let d = (4.0 / n as f64).sqrt();
            assert!((1.0 - by_matrix(n, d) - 2.0 * one_sided(n, d)).abs() < 1e-6, "{n}");
        }
        for z in [0.5, 0.8, 1.2, 1.6] {
            let d = z / 2_000_f64.sqrt();
            assert!((by_matrix(2_000, d) - by_series(2_000.0, d)).abs() < 2e-4, "{z}");
        }
        assert_eq!((tail(10, 0.01), tail(10, 1.0)), (1.0, 0.0));
    }
}
