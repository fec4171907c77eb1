//! The files about the judges.

use std::collections::BTreeMap;

use grayxdp::analysis::statistics::{
    Sample,
    count_e_process::CountEProcess,
    hodges_lehmann::hodges_lehmann,
    kolmogorov_smirnov::kolmogorov_smirnov,
    mann_whitney::mann_whitney,
    proportion::{Part, fisher, newcombe, z_test},
    quality::Confusion,
    sample_size::per_version,
    srm::chi_square,
    t_test::{cohens_d, student, welch},
};
use serde::Deserialize;

use crate::{EXACT, ITERATIVE, cases, near, near_or_none};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    candidate_flow_share: Vec<f64>,
    candidate_events: Vec<f64>,
    stable_events: Vec<f64>,
    rho0: f64,
    rho: Vec<f64>,
    e: Vec<f64>,
}

#[test]
fn vectors_of_the_count_e_process() {
    for (number, case) in cases::<Counts>("count_eprocess.json").into_iter().enumerate() {
        let looks = case.e.len();
        let lengths = [case.candidate_flow_share.len(), case.candidate_events.len(), case.stable_events.len()];
        assert_eq!(lengths, [looks; 3], "case {number}");
        let mut process = CountEProcess::new(case.rho0, &case.rho);
        for look in 0..looks {
            process.take(case.candidate_flow_share[look], case.candidate_events[look], case.stable_events[look]);
            near(process.e(), case.e[look], EXACT, &format!("case {number}, look {look}"));
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proportions {
    stable: [u64; 2],
    candidate: [u64; 2],
    z_pooled_stable_minus_candidate: Option<f64>,
    p_two_sided: Option<f64>,
    newcombe95_candidate_minus_stable: [f64; 2],
    fisher_p_two_sided: f64,
}

#[test]
fn vectors_of_proportions() {
    for (number, case) in cases::<Proportions>("proportions.json").into_iter().enumerate() {
        let [stable, candidate] = [case.stable, case.candidate].map(|[of, all]| Part { of, all });
        let (z, p) = z_test(stable, candidate).unzip();
        near_or_none(z, case.z_pooled_stable_minus_candidate, &format!("z of case {number}"));
        near_or_none(p, case.p_two_sided, &format!("p of case {number}"));
        let (low, high) = newcombe(stable, candidate, 0.05).expect("both have flows");
        near(low, case.newcombe95_candidate_minus_stable[0], EXACT, &format!("lower end of case {number}"));
        near(high, case.newcombe95_candidate_minus_stable[1], EXACT, &format!("upper end of case {number}"));
        near(fisher(stable, candidate), case.fisher_p_two_sided, ITERATIVE, &format!("Fisher's p of case {number}"));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quality {
    tp: u64,
    fp: u64,
    r#fn: u64,
    precision: Option<f64>,
    recall: Option<f64>,
    f1: Option<f64>,
}

#[test]
fn vectors_of_quality() {
    for (number, Quality { tp, fp, r#fn, precision, recall, f1 }) in
        cases::<Quality>("quality.json").into_iter().enumerate()
    {
        let found = Confusion { tp, fp, r#fn };
        near_or_none(found.precision(), precision, &format!("precision of case {number}"));
        near_or_none(found.recall(), recall, &format!("recall of case {number}"));
        near_or_none(found.f1(), f1, &format!("F1 of case {number}"));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    p1: f64,
    p2: f64,
    alpha: f64,
    power: f64,
    n_per_arm_normal: u64,
}

#[test]
fn vectors_of_sample_sizes() {
    for (number, case) in cases::<Size>("sample_size.json").into_iter().enumerate() {
        let found = per_version(case.p1, case.p2, case.alpha, case.power);
        assert_eq!(found, Some(case.n_per_arm_normal), "case {number}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mismatch {
    observed: Vec<u64>,
    weights: Vec<f64>,
    chi2: f64,
    p: f64,
}

#[test]
fn vectors_of_the_sample_ratio_mismatch() {
    for (number, case) in cases::<Mismatch>("srm.json").into_iter().enumerate() {
        let (square, p) = chi_square(&case.observed, &case.weights);
        near(square, case.chi2, EXACT, &format!("χ² of case {number}"));
        near(p, case.p, EXACT, &format!("p of case {number}"));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TwoSample {
    name: String,
    a: Vec<f64>,
    b: Vec<f64>,
    welch: Welch,
    student: Student,
    mann_whitney: MannWhitney,
    cohens_d_pooled_b_minus_a: f64,
    hodges_lehmann_b_minus_a: f64,
    ks: Ks,
    quantiles_a_linear: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Welch {
    t: f64,
    df: f64,
    p: f64,
    ci95_mean_a_minus_b: [f64; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Student {
    t: f64,
    p: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MannWhitney {
    u_a: f64,
    p: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ks {
    d: f64,
    p: f64,
}

#[test]
fn vectors_of_two_samples() {
    for case in cases::<TwoSample>("two_sample.json") {
        let (a, b) = (Sample::of(case.a.iter().copied()), Sample::of(case.b.iter().copied()));
        let what = |figure: &str| format!("{figure} of case {}", case.name);

        let found = welch(&a, &b).expect("values differ");
        near(found.t, case.welch.t, EXACT, &what("Welch's t"));
        near(found.df, case.welch.df, EXACT, &what("Welch's degrees of freedom"));
        near(found.p, case.welch.p, EXACT, &what("Welch's p"));
        let (low, high) = found.interval(0.05);
        near(low, case.welch.ci95_mean_a_minus_b[0], EXACT, &what("lower end"));
        near(high, case.welch.ci95_mean_a_minus_b[1], EXACT, &what("upper end"));

        let found = student(&a, &b).expect("values differ");
        near(found.t, case.student.t, EXACT, &what("Student's t"));
        near(found.p, case.student.p, EXACT, &what("Student's p"));

        let found = mann_whitney(&a, &b).expect("values differ");
        near(found.u_first, case.mann_whitney.u_a, EXACT, &what("U"));
        near(found.p, case.mann_whitney.p, EXACT, &what("Mann's and Whitney's p"));

        let d = cohens_d(&a, &b).expect("values differ");
        near(d, case.cohens_d_pooled_b_minus_a, EXACT, &what("Cohen's d"));
        let shift = hodges_lehmann(&a, &b).expect("values");
        near(shift, case.hodges_lehmann_b_minus_a, EXACT, &what("Hodges–Lehmann"));

        let found = kolmogorov_smirnov(&a, &b).expect("values");
        near(found.d, case.ks.d, EXACT, &what("the distance"));
        near(found.p, case.ks.p, ITERATIVE, &what("its p"));

        for (quantile, expected) in &case.quantiles_a_linear {
            let found = a.quantile(quantile.parse().expect("a quantile is a number")).expect("values");
            near(found, *expected, EXACT, &what(&format!("quantile {quantile}")));
        }
    }
}
