//! Confusion matrices that somebody posts.

use std::collections::BTreeMap;

use crate::{
    analysis::{Answer, Measurement, statistics::quality::Confusion},
    daemon::{names::not_found, owner::Owner},
    model::{
        Name,
        api::{ApiError, Done, Matrix, PostedQuality},
        plan::Provider,
    },
    rollout::{Notice, State},
};

impl Owner {
    /// Takes the quality of a running rollout's models; the next look judges it.
    pub(super) fn post_quality(
        &mut self,
        rollout: &Name,
        posted: &PostedQuality,
        actor: &str,
    ) -> Result<Done, ApiError> {
        let Some(engine) = self.engine_named(rollout) else { return Err(self.no_rollout(rollout)) };
        let state = &engine.state;
        if state.phase.is_final() {
            let phase = state.phase.label();
            return Err(ApiError::conflict(format!("rollout {rollout} is {phase}: nothing is judged any more")));
        }
        let metric = posted_metric(state, posted.metric.as_ref())?;
        check(state, &posted.matrices)?;
        let message = format!("{metric}: {}", said(&posted.matrices));
        if posted.options.dry_run {
            return Ok(Done { changes: vec![message], dry_run: true });
        }
        let document = serde_json::to_value(&posted.matrices).expect("counts are plain JSON");
        let (service, state) = (state.service().clone(), state.clone());
        let measurement = Measurement { at: self.clock.now().monotonic, answer: Answer::Document(document) };
        if let Some(engine) = self.engines.get_mut(&service) {
            engine.history.note_outside(metric, measurement);
        }
        let (actor, reason) = (actor.to_owned(), posted.options.reason.clone());
        self.rollout_event(&state, Notice { kind: "qualityPosted", message: message.clone(), actor, reason });
        Ok(Done { changes: vec![message], dry_run: false })
    }
}

/// The metric that is meant.
fn posted_metric(state: &State, named: Option<&Name>) -> Result<Name, ApiError> {
    let (rollout, all) = (state.name(), &state.plan.spec.analysis.metrics);
    let posted = all.iter().filter(|metric| matches!(metric.provider, Provider::Posted(_))).map(|metric| &metric.name);
    let posted: Vec<&Name> = posted.collect();
    match (named, &posted[..]) {
        (_, []) => Err(ApiError::conflict(format!(
            "rollout {rollout} has no metric whose values are posted; give one `provider: {{posted: {{}}}}` and `quality`"
        ))),
        (Some(named), _) if posted.contains(&named) => Ok(named.clone()),
        (Some(named), _) => Err(not_found(&format!("metric of {rollout} whose values are posted"), named, posted)),
        (None, [only]) => Ok((*only).clone()),
        (None, [_, _, ..]) => {
            let names: Vec<_> = posted.iter().map(|name| name.as_str()).collect();
            Err(ApiError::input(format!("rollout {rollout} has {}; say which with `--metric`", names.join(", "))))
        }
    }
}

fn check(state: &State, matrices: &BTreeMap<Name, Matrix>) -> Result<(), ApiError> {
    let (candidate, stable) = (state.candidate(), &state.stable);
    if let Some(other) = matrices.keys().find(|version| *version != candidate && *version != stable) {
        return Err(not_found(&format!("version of rollout {}", state.name()), other, [candidate, stable]));
    }
    if !matrices.contains_key(candidate) {
        return Err(ApiError::input(format!("the counts of {candidate} are missing, which is judged")));
    }
    let is_too_great =
        |matrix: &Matrix| [matrix.tp, matrix.fp, matrix.r#fn].iter().any(|count| *count >= Matrix::COUNTS);
    match matrices.iter().find(|(_, matrix)| is_too_great(matrix)) {
        Some((version, _)) => Err(ApiError::input(format!("{version} has a count of 2^53 or more"))),
        None => Ok(()),
    }
}

/// `v1 has F1 0.821, v2 has F1 0.872`.
fn said(matrices: &BTreeMap<Name, Matrix>) -> String {
    let one = |(version, Matrix { tp, fp, r#fn }): (&Name, &Matrix)| {
        let f1 = Confusion { tp: *tp, fp: *fp, r#fn: *r#fn }.f1();
        let f1 = f1.map_or_else(|| "an undefined F1".to_owned(), |f1| format!("F1 {f1:.3}"));
        format!("{version} has {f1} ({tp}/{fp}/{fn})")
    };
    matrices.iter().map(one).collect::<Vec<_>>().join(", ")
}
