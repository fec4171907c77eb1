//! Distribution functions and their inverses, as the judges need them; the functions themselves are `statrs`'.

use statrs::{
    distribution::{Continuous as _, ContinuousCDF as _, StudentsT},
    function::{erf, gamma},
};

/// P(Z > z) of a standard normal.
#[must_use]
pub fn normal_tail(z: f64) -> f64 {
    0.5 * erf::erfc(z / std::f64::consts::SQRT_2)
}

/// The `z` with P(Z > z) = `tail`, `0 < tail < 1`.
#[must_use]
pub fn normal_upper(tail: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf::erfc_inv(2.0 * tail)
}

/// P(|T| > |t|) of Student's t with `df` degrees of freedom.
#[must_use]
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    let ratio = df / t.mul_add(t, df);
    statrs::function::beta::beta_reg(df / 2.0, 0.5, ratio.clamp(0.0, 1.0))
}

/// The `t` with P(T > t) = `tail`, `0 < tail < 0.5`, of Student's t with `df` degrees of freedom, above 0.
#[must_use]
pub fn student_upper(tail: f64, df: f64) -> f64 {
    let Ok(law) = StudentsT::new(0.0, 1.0, df) else { return f64::NAN };
    // The library's inverse is a search with a coarse end: three steps of Newton's make it exact.
    (0..3).fold(law.inverse_cdf(1.0 - tail), |t, _| {
        t + (student_two_sided(t, df) / 2.0 - tail) / law.pdf(t).max(f64::MIN_POSITIVE)
    })
}

/// P(X > x) of a χ² with `df` degrees of freedom.
#[must_use]
pub fn chi_square_tail(x: f64, df: f64) -> f64 {
    if x <= 0.0 { 1.0 } else { gamma::gamma_ur(df / 2.0, x / 2.0) }
}

/// ln of the binomial coefficient.
#[must_use]
pub fn ln_choose(of: u64, chosen: u64) -> f64 {
    statrs::function::factorial::ln_binomial(of, chosen)
}

/// ln (Σ eˣ ÷ number of `x`), without overflow.
#[must_use]
pub fn log_mean_exp(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let (most, count) = logs.clone().fold((f64::NEG_INFINITY, 0_u32), |(most, count), log| (most.max(log), count + 1));
    if most.is_infinite() {
        return most;
    }
    most + (logs.map(|log| (log - most).exp()).sum::<f64>() / f64::from(count)).ln()
}

/// Where a function that rises over `low..high` meets `goal`; the nearer end where it does not.
#[must_use]
pub fn solve_rising(goal: f64, (mut low, mut high): (f64, f64), function: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if function(middle) < goal { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{found}, not {expected}");
    }

    #[test]
    fn known_points_of_the_tables() {
        // NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7, and scipy's digits of them.
        near(normal_upper(0.025), 1.959_963_984_540_054);
        near(normal_tail(1.959_963_984_540_054), 0.025);
        near(student_upper(0.025, 10.0), 2.228_138_851_964_938_5);
        near(student_upper(0.025, 70.0), 1.994_437_111_771_185_4);
        near(student_two_sided(2.228_138_851_964_938_5, 10.0), 0.05);
        near(chi_square_tail(3.841_458_820_694_124, 1.0), 0.05);
        near(ln_choose(5, 2), 10_f64.ln());
    }

    #[test]
    fn the_mean_of_exponentials_neither_overflows_nor_vanishes() {
        near(log_mean_exp([1_000.0, 1_000.0].into_iter()), 1_000.0);
        near(log_mean_exp([-2_000.0, -2_000.0 + 3_f64.ln()].into_iter()), -2_000.0 + 2_f64.ln());
        assert!(log_mean_exp([f64::NEG_INFINITY].into_iter()).is_infinite());
    }
}
